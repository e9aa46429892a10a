"""Asks the ensemble endpoint as a member of an ensemble does.

    protoc -I proto/ensemble --python_out=DIR --grpc_python_out=DIR \\
        --plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin ensemble.proto
    echo '{"do": "grow", "by": 6}' | PYTHONPATH=DIR /usr/bin/python3 member.py HOST:50051 MINICLUSTER

Each line of the standard input is a request, a JSON object:

    do       grow, shrink, status or update; anything else is sent as an action too
    by       for an action: the amount, sent as it is written here, as a number or a string; left out, none is sent
    payload  for an action: a text to send in place of the usual payload; for an update: the state of the queue
    member   the kind of the member, "miniclusters" unless it is given
    name     the name to ask for, that of the command line unless it is given

For each reply a JSON object is printed on a line: {"status": ..., "payload": ...} as the endpoint answered, or
{"code": ..., "details": ...} when the call failed.
"""

import json
import sys

import ensemble_pb2 as messages
import ensemble_pb2_grpc as service
import grpc


class Member:
    """A member knows where the endpoint is and the bare name of its MiniCluster. It sends no namespace and no
    credentials: the endpoint goes by the address that a request comes from."""

    def __init__(self, channel, name):
        self.endpoint = service.EnsembleOperatorStub(channel)
        self.name = name

    def ask(self, do, by=None, payload=None, member="miniclusters", name=None):
        """Sends one request and returns the reply."""
        name = self.name if name is None else name
        if do == "status":
            return self.endpoint.RequestStatus(request(messages.StatusRequest, member, name))
        if do == "update":
            return self.endpoint.RequestUpdate(request(messages.UpdateRequest, member, name, payload=json.dumps(payload)))
        if payload is None:
            payload = self.amount(do, by)
        return self.endpoint.RequestAction(request(messages.ActionRequest, member, name, action=do, payload=payload))

    @staticmethod
    def amount(action, by):
        """The usual payload of an action. The amount is passed on as it came from the rule that fired."""
        payload = {"version": "v1alpha2", "group": "flux-framework.org"}
        if by is not None:
            payload[action] = by
        return json.dumps(payload)


def request(message, member, name, **fields):
    """Fills in a request. Field 2 is called name in the current form of the contract, algorithm in the older one."""
    second = message.DESCRIPTOR.fields_by_number[2].name
    return message(member=member, **{second: name}, **fields)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: member.py HOST:PORT MINICLUSTER")
    address, name = sys.argv[1:]
    with grpc.insecure_channel(address) as channel:
        member = Member(channel, name)
        for line in sys.stdin:
            try:
                reply = member.ask(**json.loads(line))
                answer = {"status": messages.Response.ResultType.Name(reply.status), "payload": reply.payload}
            except grpc.RpcError as error:
                answer = {"code": error.code().name, "details": error.details()}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
