package ensemblefile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// base is the path of the field that holds the text in an Ensemble.
var base = field.NewPath("spec", "members").Index(0).Child("ensemble")

// parse returns the file and its faults as a user reads them, without the path of the base.
func parse(text string) (*ensemblefile.File, []string) {
	file, faults := ensemblefile.Parse(text, base)
	var said []string
	for _, fault := range faults {
		said = append(said, strings.TrimPrefix(fault.Error(), base.String()))
	}
	return file, said
}

func read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func accepted(t *testing.T, text string) *ensemblefile.File {
	t.Helper()
	file, faults := parse(text)
	if faults != nil || file == nil {
		t.Fatalf("the file has faults:\n%s", strings.Join(faults, "\n"))
	}
	return file
}

func TestExamplesAreAccepted(t *testing.T) {
	t.Parallel()
	submit := accepted(t, read(t, "submit.yaml"))
	grow := accepted(t, read(t, "grow.yaml"))

	want := []ensemblefile.Rule{
		{Trigger: "start", Action: ensemblefile.Action{Name: "submit", Label: "wait", Repetitions: 1}},
		{
			Trigger: "metric", Name: "count.wait.success",
			When:   &ensemblefile.When{Comparison: ensemblefile.Equal, Number: 1},
			Action: ensemblefile.Action{Name: "submit", Label: "greet", Repetitions: 1},
		},
		{Trigger: "job-finish", Name: "greet", Action: ensemblefile.Action{Name: "submit", Label: "wait-long", Repetitions: 4}},
		{
			Trigger: "metric", Name: "mean.wait-long-pending",
			When:   &ensemblefile.When{Comparison: ensemblefile.Greater, Number: 5},
			Action: ensemblefile.Action{Name: "grow", Value: 1, Repetitions: 5, Backoff: 2},
		},
		{
			Trigger: "metric", Name: "count.wait-long.success",
			When:   &ensemblefile.When{Comparison: ensemblefile.Equal, Number: 8},
			Action: ensemblefile.Action{Name: "terminate", Repetitions: 1},
		},
	}
	if diff := cmp.Diff(want, grow.Rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if grow.Logging.Heartbeat != 3 || submit.Logging.Heartbeat != 0 {
		t.Errorf("heartbeats are %v and %v, want 3 and 0", grow.Logging.Heartbeat, submit.Logging.Heartbeat)
	}
	for action, want := range map[string]bool{"grow": true, "submit": true, "terminate": true, "shrink": false, "custom": false} {
		if got := grow.Acts(action); got != want {
			t.Errorf("Acts(%q) is %v, want %v", action, got, want)
		}
	}
	if submit.Acts(ensemblefile.ActionGrow) {
		t.Error("the file that only submits is said to grow")
	}
}

func TestEveryFormIsAccepted(t *testing.T) {
	t.Parallel()
	submit := ensemblefile.Action{Name: "submit", Label: "simulate", Repetitions: 1}
	want := &ensemblefile.File{
		Logging: ensemblefile.Logging{Debug: true, Heartbeat: 0.5},
		Jobs: []ensemblefile.Job{
			{
				Name: "simulate", Command: `lmp -in "in file" 'it\' \"quoted\"`, Workdir: "/opt/case",
				Count: 16, Nodes: 10, Tasks: 40, Duration: 90.5,
			},
			{
				Name: "simulate", Command: `lmp -in "in file" 'it\' \"quoted\"`, Workdir: "/opt/case",
				Count: 16, Nodes: 4, Tasks: 40, Duration: 90.5,
			},
			{Name: "yes", Command: "echo one\ntwo\n", Count: 1, Nodes: 1},
			{Name: "dotted.name", Command: "true", Count: 1, Nodes: 1},
		},
		Rules: []ensemblefile.Rule{
			{Trigger: "start", Name: "a word for the log", Action: submit},
			{Trigger: "job-depend", Action: submit},
			{Trigger: "job-finish", Name: "yes", Action: submit},
			{Trigger: "metric", Name: "count.yes.failed", Action: ensemblefile.Action{Name: "custom", Label: "decide", Repetitions: 1}},
			{
				Trigger: "metric", Name: "count.simulate.finished",
				When:   &ensemblefile.When{Comparison: ensemblefile.Less, Number: 3},
				Action: ensemblefile.Action{Name: "shrink", Value: 2},
			},
			{
				Trigger: "metric", Name: "iqr.simulate-duration",
				When:   &ensemblefile.When{Comparison: ensemblefile.Equal, Number: 2.5},
				Action: ensemblefile.Action{Name: "shrink", Value: 3, Repetitions: 1},
			},
			{
				Trigger: "metric", Name: "max.yes-pending",
				When:   &ensemblefile.When{Comparison: ensemblefile.GreaterOrEqual, Number: 30},
				Action: ensemblefile.Action{Name: "grow", Label: "more", Value: 4, Repetitions: 1},
			},
			{
				Trigger: "metric", Name: "mad.yes-pending",
				When:   &ensemblefile.When{Comparison: ensemblefile.LessOrEqual, Number: 1},
				Action: ensemblefile.Action{Name: "terminate", Repetitions: 1},
			},
		},
		Custom: "def decide(**kwargs):\n    return Action({\"name\": \"terminate\"})\n",
	}
	if diff := cmp.Diff(want, accepted(t, read(t, "everything.yaml"))); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
	for _, trigger := range []string{"start", "job-finish"} {
		if file := accepted(
			t, rule("trigger: "+trigger+", action: {name: grow}"),
		); file.Logging.Heartbeat != 0 || !file.Acts(ensemblefile.ActionGrow) {
			t.Errorf("a file that grows on %q, without a heartbeat, is %+v", trigger, file)
		}
	}
	empty := accepted(t, "jobs: []\nrules: []\n")
	if diff := cmp.Diff(&ensemblefile.File{Jobs: []ensemblefile.Job{}, Rules: []ensemblefile.Rule{}}, empty); diff != "" {
		t.Errorf("file without jobs and rules (-want +got):\n%s", diff)
	}
}

// What the rows of TestFaults need besides what they are about.
const (
	jobs     = "jobs: [{name: a, command: run}, {name: b, command: run}]\n"
	noRules  = "rules: []\n"
	beats    = "logging: {heartbeat: 3}\n"
	terminal = "action: {name: terminate}"
	onMetric = "trigger: metric, name: count.a.success, when: 1, "
)

// rule is a file with one rule, and rules with several.
func rule(text string) string { return jobs + "rules:\n- {" + text + "}\n" }

// job is a file with one job.
func job(text string) string { return "jobs:\n- {" + text + "}\n" + noRules }

// acting is a file with a rule that has the action.
func acting(text string) string { return beats + rule("trigger: start, action: {"+text+"}") }

// metric is a file with a rule on a metric.
func metric(name string) string { return rule("trigger: metric, name: " + name + ", " + terminal) }

// when is a file with a rule that has the condition.
func when(text string) string {
	return rule("trigger: metric, name: mean.a-pending, when: " + text + ", " + terminal)
}

// faulty is a text and the faults that it has.
type faulty struct {
	text string
	want []string
}

// faultyTexts has a row for each fault that a text can have, by what it shows.
func faultyTexts() map[string]faulty {
	const (
		forms = `must be "count.<job>.<finished|success|failed>" or "<variance|mean|iqr|max|min|mad>.<job>-<pending|duration>"`
		cond  = `must be a number, or a comparison with one: "> 5", ">= 5", "< 5", "<= 5"`
		whole = "must be a whole number from 1 to 2147483647"
	)
	return map[string]faulty{
		// The text and its YAML.
		"nothing":   {"", []string{`: Required value: must be a mapping with jobs and rules`}},
		"a comment": {"# later\n", []string{`: Required value: must be a mapping with jobs and rules`}},
		"too long":  {strings.Repeat("#", ensemblefile.MaxBytes+1), []string{`: Too long: may not be more than 524288 bytes`}},
		"a word":    {"hello\n", []string{`: Invalid value: "hello": must be a mapping, not a string`}},
		"a list":    {"- jobs\n", []string{`: Invalid value: must be a mapping, not a list`}},
		"a syntax error": {
			jobs + "rules:\n- trigger: start\n  action: {name: terminate\n",
			[]string{`: Invalid value: must be YAML: line 4: did not find expected ',' or '}'`},
		},
		"a wrong indent": {
			"jobs:\n- name: a\n command: run\n", []string{`: Invalid value: must be YAML: line 3: did not find expected key`},
		},
		"a tab": {
			"jobs:\n\t- name: a\n", []string{`: Invalid value: must be YAML: line 2: found character that cannot start any token`},
		},
		"not UTF-8":           {"jobs: \xff\n", []string{`: Invalid value: must be YAML: invalid leading UTF-8 octet`}},
		"a control character": {"jobs: \x01\n", []string{`: Invalid value: must be YAML: control characters are not allowed`}},
		"an alias of nothing": {"jobs: *a\n", []string{`: Invalid value: must be YAML: unknown anchor 'a' referenced`}},
		"an alias of itself":  {"jobs: &a [*a]\n", []string{`: Invalid value: must be YAML: anchor 'a' value contains itself`}},
		"a merge of itself":   {"jobs: [&a {<<: *a}]\n", []string{`: Invalid value: must be YAML: anchor 'a' value contains itself`}},
		"a merge of a word": {
			"jobs: [{<<: a}]\n", []string{`: Invalid value: must be YAML: map merge requires map or sequence of maps as the value`},
		},
		"a mapping as a key": {"{a: b}: c\n", []string{`: Invalid value: must be YAML: invalid map key: map[string]interface {}{"a":"b"}`}},
		"two documents":      {jobs + noRules + "---\n" + jobs, []string{`: Invalid value: must be one YAML document; there are more`}},
		"a second that is none": {
			jobs + noRules + "---\n{\n", []string{`: Invalid value: must be YAML: line 5: did not find expected node content`},
		},
		"a key twice": {
			jobs + noRules + "rules: []\n", []string{`: Invalid value: must be YAML: line 3: mapping key "rules" already defined at line 2`},
		},
		"keys twice, far below": {job("name: a, name: b, command: run, command: walk"), []string{
			`: Invalid value: must be YAML: line 2: mapping key "name" already defined at line 2`,
			`: Invalid value: must be YAML: line 2: mapping key "command" already defined at line 2`,
		}},
		"a foreign tag": {job("name: !mine a, command: !!binary aGk="), []string{
			`.jobs[0].name: Invalid value: "a": must be a string, not !mine`,
			`.jobs[0].command: Invalid value: "aGk=": must be a string, not !!binary`,
		}},

		// The whole.
		"no jobs and no rules": {"logging: {}\n", []string{
			`.jobs: Required value: must be a list of jobs, which may be empty`,
			`.rules: Required value: must be a list of rules, which may be empty`,
		}},
		"lists that are none": {"jobs: {}\nrules:\ncustom: [a]\nlogging: 3\n", []string{
			`.custom: Invalid value: must be a string, not a list`,
			`.jobs: Invalid value: must be a list, not a mapping`,
			`.rules: Invalid value: null: must be a list, not null`,
			`.logging: Invalid value: 3: must be a mapping, not a number`,
		}},
		"unknown keys": {jobs + noRules + "loging: {}\n~: 1\n\"a b\": 1\n5: 1\n", []string{
			`[null]: Forbidden: unknown key: the keys here are logging, jobs, rules, custom`,
			`["5"]: Forbidden: unknown key: the keys here are logging, jobs, rules, custom`,
			`["a b"]: Forbidden: unknown key: the keys here are logging, jobs, rules, custom`,
			`.loging: Forbidden: unknown key: the keys here are logging, jobs, rules, custom`,
		}},

		// Jobs.
		"a job that is a word": {"jobs: [a]\n" + noRules, []string{`.jobs[0]: Invalid value: "a": must be a mapping, not a string`}},
		"a job without all": {job(""), []string{
			`.jobs[0].name: Required value: must be the name by which rules refer to the job`,
			`.jobs[0].command: Required value: must be the command that the job runs`,
		}},
		"an empty job": {job(`name: "", command: ""`), []string{
			`.jobs[0].name: Required value: must be the name by which rules refer to the job`,
			`.jobs[0].command: Required value: must be the command that the job runs`,
		}},
		"a job of other types": {job(
			"name: 7, command: yes, workdir: 2026-01-02, count: many, nodes: [1], tasks: null, duration: long",
		), []string{
			`.jobs[0].name: Invalid value: 7: must be a string, not a number; put it in quotes`,
			`.jobs[0].command: Invalid value: true: must be a string, not a boolean; put it in quotes`,
			`.jobs[0].workdir: Invalid value: "2026-01-02": must be a string, not a date; put it in quotes`,
			`.jobs[0].count: Invalid value: "many": must be a whole number, not a string`,
			`.jobs[0].nodes: Invalid value: must be a whole number, not a list`,
			`.jobs[0].tasks: Invalid value: null: must be a whole number, not null`,
			`.jobs[0].duration: Invalid value: "long": must be a number of seconds, not a string`,
		}},
		"a job of too small numbers": {job("name: a, command: run, count: 0, nodes: -1, tasks: 0, duration: -0.5"), []string{
			`.jobs[0].count: Invalid value: 0: ` + whole,
			`.jobs[0].nodes: Invalid value: -1: ` + whole,
			`.jobs[0].tasks: Invalid value: 0: ` + whole,
			`.jobs[0].duration: Invalid value: -0.5: must be a number of seconds, at least 0`,
		}},
		"a job of strange numbers": {job("name: a, command: run, count: 2147483648, nodes: 1.0, tasks: 1:30, duration: .inf"), []string{
			`.jobs[0].count: Invalid value: 2147483648: ` + whole,
			`.jobs[0].nodes: Invalid value: 1.0: ` + whole + `, without a point`,
			`.jobs[0].tasks: Invalid value: 1:30: ` + whole,
			`.jobs[0].duration: Invalid value: .inf: must be a finite number in decimal digits`,
		}},
		"a number that PyYAML takes for a string": {job("name: a, command: run, duration: 1e3"), []string{
			`.jobs[0].duration: Invalid value: "1e3": must be a number of seconds, not a string`,
		}},
		"a command of blanks": {
			job(`name: a, command: " "`), []string{`.jobs[0].command: Invalid value: " ": must have at least one word`},
		},
		"a command with an open quote": {
			job(`name: a, command: it's`), []string{`.jobs[0].command: Invalid value: "it's": must close the quote that it opens with '`},
		},
		"a command with an open quote2": {
			job(`name: a, command: 'say "\"'`),
			[]string{`.jobs[0].command: Invalid value: "say \"\\\"": must close the quote that it opens with "`},
		},
		"a command that ends in \\": {
			job(`name: a, command: 'run \'`), []string{`.jobs[0].command: Invalid value: "run \\": must not end with a single \`},
		},
		"a job with a count of counts": {job("name: a, command: run, counts: 3"), []string{
			`.jobs[0].counts: Forbidden: unknown key: the keys here are name, command, workdir, count, nodes, tasks, duration`,
		}},

		// Rules and their triggers.
		"a rule that is a word": {jobs + "rules: [start]\n", []string{`.rules[0]: Invalid value: "start": must be a mapping, not a string`}},
		"a rule without all": {rule(""), []string{
			`.rules[0].trigger: Required value: must be one of job-depend, job-finish, metric, start`,
			`.rules[0].action: Required value: must be a mapping with the name of an action`,
		}},
		"a rule of other types": {rule("trigger: 1, name: 2, when: true, action: 4, then: 5"), []string{
			`.rules[0].then: Forbidden: unknown key: the keys here are trigger, name, when, action`,
			`.rules[0].trigger: Invalid value: 1: must be a string, not a number; put it in quotes`,
			`.rules[0].name: Invalid value: 2: must be a string, not a number; put it in quotes`,
			`.rules[0].when: Invalid value: true: must be a number or a comparison, not a boolean`,
			`.rules[0].action: Invalid value: 4: must be a mapping, not a number`,
		}},
		"an unknown trigger": {rule("trigger: stop, " + terminal), []string{
			`.rules[0].trigger: Unsupported value: "stop": supported values: "job-depend", "job-finish", "metric", "start"`,
		}},
		"a trigger of the schema that the executor refuses": {rule("trigger: job-success, " + terminal), []string{
			`.rules[0].trigger: Unsupported value: "job-success": supported values: "job-depend", "job-finish", "metric", "start"`,
		}},
		"an event of Flux that the schema refuses": {rule("trigger: job-start, " + terminal), []string{
			`.rules[0].trigger: Unsupported value: "job-start": supported values: "job-depend", "job-finish", "metric", "start"`,
		}},
		"a job event of no job": {rule("trigger: job-finish, name: c, " + terminal), []string{
			`.rules[0].name: Invalid value: "c": must name a job of this file, or be left out; its jobs are "a", "b"`,
		}},
		"a condition without a metric": {rule("trigger: job-finish, when: 3, " + terminal), []string{
			`.rules[0].when: Forbidden: only a rule on a metric has a condition; this one is on "job-finish"`,
		}},

		// Metrics.
		"a metric without a name": {rule("trigger: metric, " + terminal), []string{
			`.rules[0].name: Required value: must be the name of a metric such as "count.<job>.success" or "mean.<job>-pending"`,
		}},
		"a metric of no kind":      {metric("median.a-pending"), []string{`.rules[0].name: Invalid value: "median.a-pending": ` + forms}},
		"a kind alone":             {metric("mean"), []string{`.rules[0].name: Invalid value: "mean": ` + forms}},
		"a count of nothing":       {metric("count.a"), []string{`.rules[0].name: Invalid value: "count.a": ` + forms}},
		"a count of no job":        {metric("count.success"), []string{`.rules[0].name: Invalid value: "count.success": ` + forms}},
		"a count of another thing": {metric("count.a.pending"), []string{`.rules[0].name: Invalid value: "count.a.pending": ` + forms}},
		"a mean of another thing":  {metric("mean.a-success"), []string{`.rules[0].name: Invalid value: "mean.a-success": ` + forms}},
		"a mean of no job":         {metric("mean.-pending"), []string{`.rules[0].name: Invalid value: "mean.-pending": ` + forms}},
		"a mean with a point":      {metric("mean.a.pending"), []string{`.rules[0].name: Invalid value: "mean.a.pending": ` + forms}},
		"a metric that goes on":    {metric("mean.a-pending.now"), []string{`.rules[0].name: Invalid value: "mean.a-pending.now": ` + forms}},
		"a metric of a job unknown": {
			metric("count.c.success"),
			[]string{`.rules[0].name: Invalid value: "count.c.success": must name a job of this file, and "c" is none; its jobs are "a", "b"`},
		},
		"a metric of a dotted job": {"jobs: [{name: a.b, command: run}]\nrules: [{trigger: metric, name: count.a.b.success, " + terminal + "}]\n",
			[]string{
				`.rules[0].name: Invalid value: "count.a.b.success": must name a job without a point, and "a.b" has one: ensemble-python finds no ` +
					`metric of such a job`,
			}},

		// Conditions.
		"a word as a condition":   {when("many"), []string{`.rules[0].when: Invalid value: "many": ` + cond}},
		"a number in quotes":      {when(`"5"`), []string{`.rules[0].when: Invalid value: "5": ` + cond}},
		"an equality":             {when(`"== 5"`), []string{`.rules[0].when: Invalid value: "== 5": ` + cond}},
		"an arrow":                {when(`"=> 5"`), []string{`.rules[0].when: Invalid value: "=> 5": ` + cond}},
		"two comparisons":         {when(`"> 5 < 9"`), []string{`.rules[0].when: Invalid value: "> 5 < 9": ` + cond}},
		"a unit":                  {when(`"> 5s"`), []string{`.rules[0].when: Invalid value: "> 5s": ` + cond}},
		"a negative comparison":   {when(`"> -5"`), []string{`.rules[0].when: Invalid value: "> -5": ` + cond}},
		"a comparison with words": {when(`"mean > 5"`), []string{`.rules[0].when: Invalid value: "mean > 5": ` + cond}},
		"a comparison in part": {
			when(`"> 0.5"`),
			[]string{`.rules[0].when: Invalid value: "> 0.5": must compare with a whole number: ensemble-python reads it up to the point`},
		},
		"a comparison with much": {
			when(`"> 1` + strings.Repeat("0", 400) + `"`),
			[]string{`.rules[0].when: Invalid value: "> 1` + strings.Repeat("0", 57) + `...": must compare with a smaller number`},
		},
		"a negative number":        {when("-1"), []string{`.rules[0].when: Invalid value: -1: must be at least 0: no metric is less`}},
		"no number":                {when(".nan"), []string{`.rules[0].when: Invalid value: .nan: must be a finite number in decimal digits`}},
		"a condition that is null": {when("null"), []string{`.rules[0].when: Invalid value: null: must be a number or a comparison, not null`}},

		// Actions.
		"an action without a name": {
			acting(""), []string{`.rules[0].action.name: Required value: must be one of custom, grow, shrink, submit, terminate`},
		},
		"an unknown action": {acting("name: growe"), []string{
			`.rules[0].action.name: Unsupported value: "growe": supported values: "custom", "grow", "shrink", "submit", "terminate"`,
		}},
		"an unknown key of an action": {acting("name: terminate, replications: 3"), []string{
			`.rules[0].action.replications: Forbidden: unknown key: the keys here are name, label, value, repetitions, backoff`,
		}},
		"a submit without a label": {acting("name: submit"), []string{`.rules[0].action.label: Required value: must name the job to submit`}},
		"a submit of null": {
			acting("name: submit, label: null"), []string{`.rules[0].action.label: Required value: must name the job to submit`},
		},
		"a submit of a number": {
			acting("name: submit, label: 5"),
			[]string{`.rules[0].action.label: Invalid value: 5: must be a string, not a number; put it in quotes`},
		},
		"a submit of a job unknown": {
			acting("name: submit, label: c"),
			[]string{`.rules[0].action.label: Invalid value: "c": must name a job of this file; its jobs are "a", "b"`},
		},
		"a submit without jobs": {"jobs: []\nrules: [{trigger: start, action: {name: submit, label: c}}]\n", []string{
			`.rules[0].action.label: Invalid value: "c": must name a job of this file; it has no jobs`,
		}},
		"numbers of an action": {acting("name: terminate, repetitions: -1, backoff: 1.5, value: true, label: [a]"), []string{
			`.rules[0].action.repetitions: Invalid value: -1: must be a whole number from 0 to 2147483647`,
			`.rules[0].action.backoff: Invalid value: 1.5: must be a whole number from 0 to 2147483647, without a point`,
			`.rules[0].action.label: Invalid value: must be a string, not a list`,
			`.rules[0].action.value: Invalid value: true: must be a number or a string, not a boolean`,
		}},
		"repetitions in quotes": {acting(`name: terminate, repetitions: "3"`), []string{
			`.rules[0].action.repetitions: Invalid value: "3": must be a whole number, not a string`,
		}},
		"a growth of nothing": {acting("name: grow, value: 0"), []string{`.rules[0].action.value: Invalid value: 0: ` + whole}},
		"a negative growth":   {acting("name: grow, value: -2"), []string{`.rules[0].action.value: Invalid value: -2: ` + whole}},
		"a growth in part":    {acting("name: grow, value: 1.5"), []string{`.rules[0].action.value: Invalid value: 1.5: ` + whole}},
		"a growth in words":   {acting("name: grow, value: many"), []string{`.rules[0].action.value: Invalid value: "many": ` + whole}},
		"a growth of a list": {
			acting("name: grow, value: [1]"), []string{`.rules[0].action.value: Invalid value: must be a whole number, not a list`},
		},
		"too much growth": {
			acting("name: grow, value: 2147483648"), []string{`.rules[0].action.value: Invalid value: 2147483648: ` + whole},
		},
		"the least shrink": {
			acting("name: shrink, value: -9223372036854775808"),
			[]string{`.rules[0].action.value: Invalid value: -9223372036854775808: ` + whole},
		},
		"a shrink of nothing":   {acting(`name: shrink, value: "0"`), []string{`.rules[0].action.value: Invalid value: "0": ` + whole}},
		"a function of no name": {acting("name: custom"), []string{`.rules[0].action.label: Required value: must name the function to call`}},
		"a function of no text": {
			acting("name: custom, label: f"),
			[]string{`.rules[0].action.label: Invalid value: "f": must name a function that custom defines, and this file has no custom`},
		},
		"a function not in the text": {"custom: 'def decides(**kw): return None'\n" + acting("name: custom, label: decide"), []string{
			`.rules[0].action.label: Invalid value: "decide": must name a function that custom defines, and custom does not have this one`,
		}},
		"a function that cannot be": {"custom: 'def decide(**kw): return None'\n" + acting("name: custom, label: decide()"), []string{
			`.rules[0].action.label: Invalid value: "decide()": must be the name of a Python function`,
		}},

		// The heartbeat.
		"growth without a heartbeat": {rule(onMetric + "action: {name: grow}"), []string{
			`.logging.heartbeat: Required value: must be the seconds between heartbeats, on which rules[0] can grow: give it a number greater than 0`,
		}},
		"a shrink with logging, but without a heartbeat": {"logging: {debug: true}\n" + rule(onMetric+"action: {name: shrink}"), []string{
			`.logging.heartbeat: Required value: must be the seconds between heartbeats, on which rules[0] can shrink: give it a number greater than 0`,
		}},
		"growth with a heartbeat of 0": {"logging: {heartbeat: 0}\n" + rule(onMetric+"action: {name: grow}"), []string{
			`.logging.heartbeat: Invalid value: 0: must be the seconds between heartbeats, on which rules[0] can grow: give it a number greater than 0`,
		}},
		"a heartbeat that is none": {"logging: {heartbeat: fast, debug: \"no\", level: 3}\n" + rule(onMetric+"action: {name: grow}"), []string{
			`.logging.level: Forbidden: unknown key: the keys here are debug, heartbeat`,
			`.logging.debug: Invalid value: "no": must be true or false, not a string`,
			`.logging.heartbeat: Invalid value: "fast": must be a number of seconds, not a string`,
		}},
		"a negative heartbeat": {"logging: {heartbeat: -3}\n" + jobs + noRules, []string{
			`.logging.heartbeat: Invalid value: -3: must be a number of seconds, at least 0`,
		}},

		// Faults that follow from others are not listed.
		"a name that could be that of a broken job": {"jobs: [{name: 7, command: run}]\nrules: [{trigger: start, action: {name: submit, label: x}}]\n", []string{
			`.jobs[0].name: Invalid value: 7: must be a string, not a number; put it in quotes`,
		}},
		"a function of a broken text": {"custom: 7\n" + acting("name: custom, label: f"), []string{
			`.custom: Invalid value: 7: must be a string, not a number; put it in quotes`,
		}},
		// All others are, in the order of what they need.
		"faults everywhere": {"logging: {debug: 1}\njobs: [{name: a}, {name: b, command: run, count: 0}]\nrules: [{trigger: never, action: " +
			"{name: submit}}, {trigger: metric, name: count.c.success, when: few, action: {name: growe}}]\n", []string{
			`.jobs[0].command: Required value: must be the command that the job runs`,
			`.jobs[1].count: Invalid value: 0: ` + whole,
			`.rules[0].trigger: Unsupported value: "never": supported values: "job-depend", "job-finish", "metric", "start"`,
			`.rules[0].action.label: Required value: must name the job to submit`,
			`.rules[1].when: Invalid value: "few": ` + cond,
			`.rules[1].name: Invalid value: "count.c.success": must name a job of this file, and "c" is none; its jobs are "a", "b"`,
			`.rules[1].action.name: Unsupported value: "growe": supported values: "custom", "grow", "shrink", "submit", "terminate"`,
			`.logging.debug: Invalid value: 1: must be true or false, not a number`,
		}},
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for name, row := range faultyTexts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, got := parse(row.text)
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if file != nil {
				t.Error("a file with faults is returned")
			}
		})
	}
}
