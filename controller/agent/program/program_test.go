package program_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/program"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script writes a program for the shell.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "decide.sh")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "sh " + path
}

func TestPrograms(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		text string
		// want is the output, fault in the error.
		want, fault string
		errors      string
	}{
		"reads and writes": {text: `read -r line; echo "$1: $line"`, want: "--more less: {\"a\":1}\n"},
		"reads nothing":    {text: `echo done`, want: "done\n"},
		"complains":        {text: `echo careful >&2`, errors: "careful\n"},
		"fails":            {text: `exit 3`, fault: "exit status 3"},
		"hangs":            {text: `sleep 1000`, fault: "it was ended after 500ms"},
		"leaves a child":   {text: `sleep 1000 & echo started`, fault: "WaitDelay"},
		"writes for ever":  {text: `while :; do echo 0123456789012345678901234567890123456789; done`, fault: "it was ended after 500ms"},
		"writes too much": {
			text: `i=0; while [ $i -lt 2000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done`, fault: "more than 65536 bytes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var errors bytes.Buffer
			r := &program.Runner{Deadline: 500 * time.Millisecond, Errors: &errors}
			if row.fault == "" || strings.HasPrefix(row.fault, "more") || strings.HasPrefix(row.fault, "exit") || row.fault == "WaitDelay" {
				r.Deadline = time.Minute
			}
			got, err := r.Run(t.Context(), script(t, row.text)+` "--more less"`, []byte(`{"a":1}`))
			if (err != nil) != (row.fault != "") || err != nil && !strings.Contains(err.Error(), row.fault) {
				t.Errorf("the error is %v, want %q", err, row.fault)
			}
			if string(got) != row.want || errors.String() != row.errors {
				t.Errorf("it wrote %q and %q, want %q and %q", got, errors.String(), row.want, row.errors)
			}
		})
	}
	if _, err := (&program.Runner{}).Run(t.Context(), "/nowhere/decide", nil); err == nil {
		t.Error("a program that is not there was run")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&program.Runner{}).Run(ended, "sh", nil); err == nil {
		t.Error("a program was run after the end")
	}
}

// TestPython runs functions as ensemble-python's custom text has them.
func TestPython(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("there is no python3")
	}
	const text = `
def again(**kwargs):
    print("on the standard output of the function")
    if kwargs["metrics"].models["count"]["echo"]["success"].get() < 3:
        return Action({"name": "submit", "label": "echo", "repetitions": 5})

def by_hand(metrics, rule, action, event, handle):
    assert event is None and action.label == "by_hand" and rule.action.name == "custom"
    assert metrics.models["mean"]["echo-duration"].get() == 1.5
    return Action({"name": "grow", "value": 2})

def wrong(**kwargs):
    raise ValueError("no")
`
	for function, want := range map[string]string{
		"again": `{"name": "submit", "label": "echo"}`, "by_hand": `{"name": "grow", "value": 2}`, "wrong": "ValueError: no",
	} {
		var errors bytes.Buffer
		r := &program.Runner{Python: text, Errors: &errors}
		got, err := r.Run(t.Context(), function, []byte(
			`{"rule": "rules[0]", "metrics": {"count": {"echo": {"success": 2}}, "mean": {"echo-duration": 1.5}}}`,
		))
		if err != nil {
			got = errors.Bytes()
		}
		if !strings.Contains(string(got), want) {
			t.Errorf("%s returns %s, %v; want %s", function, got, err, want)
		}
	}
}
