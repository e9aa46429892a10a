package ensemblefile_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// TestRunners: what one of the programs does not do is a fault for it alone.
func TestRunners(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		text string
		// python and agent are in the fault of each, empty for none.
		python, agent string
	}{
		"no heartbeat": {
			text:   jobs + "rules: [{trigger: metric, name: mean.a-pending, action: {name: grow}}]\n",
			python: ".logging.heartbeat: Required value",
		},
		"a trigger of the schema": {text: rule("trigger: job-success, " + terminal), python: `.trigger: Unsupported value: "job-success"`},
		"a trigger of neither": {
			text: rule("trigger: job-exception, " + terminal), python: `.trigger: Unsupported value: "job-exception"`,
			agent: `supported values: "job-cancel", "job-cleanup", "job-depend"`,
		},
		"a fraction": {
			text: rule(`trigger: metric, name: mean.a-duration, when: "> 2.5", ` + terminal), python: "must compare with a whole number",
		},
		"a point in a name": {
			text:   "jobs: [{name: a.b, command: run}]\nrules: [{trigger: metric, name: count.a.b.failed, " + terminal + "}]\n",
			python: "must name a job without a point",
		},
		"a program": {
			text: rule(`trigger: start, action: {name: custom, label: "./decide --more"}`), python: "must be the name of a Python function",
		},
		"a program with half a quote": {
			text:   rule(`trigger: start, action: {name: custom, label: "decide 'more"}`),
			python: "must be the name of a Python function", agent: "must close the quote",
		},
		"no program": {
			text:   rule(`trigger: start, action: {name: custom}`),
			python: "must name the function to call", agent: "or without custom be the program to run",
		},
		"a function that is not there": {
			text:   rule(`trigger: start, action: {name: custom, label: g}`) + "custom: |\n  def f(**k): pass\n",
			python: "must name a function that custom defines", agent: "must name a function that custom defines",
		},
	} {
		for runner, want := range map[ensemblefile.Runner]string{ensemblefile.EnsemblePython: row.python, ensemblefile.Agent: row.agent} {
			file, faults := ensemblefile.ParseFor(runner, row.text, base)
			switch {
			case want == "" && (file == nil || len(faults) > 0):
				t.Errorf("%s: runner %d has the faults %v", name, runner, faults)
			case want != "" && (len(faults) != 1 || !strings.Contains(faults[0].Error(), want)):
				t.Errorf("%s: runner %d has the faults %v, want %q", name, runner, faults, want)
			}
		}
	}
}

func TestComparisonWithAFraction(t *testing.T) {
	t.Parallel()
	file, faults := ensemblefile.ParseFor(
		ensemblefile.Agent, rule(`trigger: metric, name: iqr.a-duration, when: "<= 0.25", `+terminal), base,
	)
	if len(faults) > 0 {
		t.Fatal(faults.ToAggregate())
	}
	want := &ensemblefile.When{Comparison: ensemblefile.LessOrEqual, Number: 0.25}
	if diff := cmp.Diff(want, file.Rules[0].When); diff != "" {
		t.Errorf("condition (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(ensemblefile.Metric{Statistic: "iqr", Job: "a", Of: "duration"}, file.Rules[0].Metric()); diff != "" {
		t.Errorf("metric (-want +got):\n%s", diff)
	}
}

// TestWords are what Python's shlex.split says of them.
func TestWords(t *testing.T) {
	t.Parallel()
	for command, want := range map[string][]string{
		"echo hello world":        {"echo", "hello", "world"},
		" a\tb\r\n c ":            {"a", "b", "c"},
		`sh -c 'echo "x  y"'`:     {"sh", "-c", `echo "x  y"`},
		`a "b \" \\ \n 'c'" ''`:   {"a", `b " \ \n 'c'`, ""},
		`a\ b c\\d 'e\f' g"h"'i'`: {"a b", `c\d`, `e\f`, "ghi"},
		"naïve 'ü ü'":             {"naïve", "ü ü"},
		"$HOME *":                 {"$HOME", "*"},
	} {
		if diff := cmp.Diff(want, ensemblefile.Words(command)); diff != "" {
			t.Errorf("the words of %s (-want +got):\n%s", command, diff)
		}
	}
}
