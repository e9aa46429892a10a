"""Calls a function of an ensemble.yaml's custom text as ensemble-python would, and writes the action that it returns.

What it gives the function: metrics, with models as ensemble-python names them, each with get(); rule and action, with name, trigger and
label as far as they are known; handle, a connection of its own to Flux, or None where the bindings are missing. What it does not give:
event, which is None; whatever the function leaves in variables of its module, because each call is a process of its own.
"""

import json
import sys


class Action:
    def __init__(self, action, module=None):
        self._action = dict(action)

    @property
    def name(self):
        return self._action.get("name")

    @property
    def label(self):
        return self._action.get("label")

    def value(self, default=1):
        return self._action.get("value", default)


class Rule:
    def __init__(self, rule, module=None):
        self._rule = dict(rule)
        self.action = Action(self._rule.get("action") or {})

    @property
    def name(self):
        return self._rule.get("name")

    @property
    def trigger(self):
        return self._rule.get("trigger")


class Model:
    def __init__(self, value):
        self.value = value

    def get(self):
        return self.value

    def __repr__(self):
        return repr(self.value)


class Metrics:
    def __init__(self, models):
        self.models = {kind: {key: wrap(value) for key, value in of.items()} for kind, of in models.items()}


def wrap(value):
    if isinstance(value, dict):
        return {key: wrap(inner) for key, inner in value.items()}
    return Model(value)


def connect():
    try:
        import flux

        return flux.Flux()
    except Exception:
        return None


def main():
    given = json.load(sys.stdin)
    output, sys.stdout = sys.stdout, sys.stderr
    scope = {"__name__": "custom", "Action": Action, "Rule": Rule}
    exec(compile(given["python"], "custom", "exec"), scope)
    told = given["told"]
    rule = Rule({"name": told.get("rule"), "action": {"name": "custom", "label": given["function"]}})
    result = scope[given["function"]](
        event=None, action=rule.action, rule=rule, handle=connect(), metrics=Metrics(told.get("metrics") or {})
    )
    if result is None:
        return
    if isinstance(result, Rule):
        result = result.action
    known = {key: value for key, value in result._action.items() if key in ("name", "label", "value")}
    json.dump(known, output)


main()
