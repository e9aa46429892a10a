package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"go.uber.org/goleak"
)

// TestMain is the program itself where that starts itself as a child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "rules" || os.Args[1] == "run") {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// file writes a text and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// execute runs the program and returns what it has written.
func execute(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := command(&out, &out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

const rulesText = `
jobs: [{name: a, command: run}]
rules:
- {trigger: start, action: {name: submit, label: a}}
- {trigger: job-success, name: a, action: {name: grow}}
`

func TestCheck(t *testing.T) {
	t.Parallel()
	path := file(t, rulesText)
	out, err := execute(t, "check", path)
	if err != nil {
		t.Fatal(err)
	}
	want := path + `: no faults; it has 1 entries of jobs and 2 rules
rules[1].action.name is "grow", and without an endpoint nobody can be asked for another size: the rule is not run
rules[1] is about jobs named "a" alone; ensemble-python would run it for all jobs
`
	if out != want {
		t.Errorf("it says %s, want %s", out, want)
	}
	path = file(t, "jobs: [{name: a, command: run, count: many}]\nrules: [{trigger: start, action: {name: submit, label: b}}]\n")
	want = path + `:
  jobs[0].count: Invalid value: "many": must be a whole number, not a string
  rules[0].action.label: Invalid value: "b": must name a job of this file; its jobs are "a"`
	if _, err := execute(t, "check", path); err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
}

func TestWrongArguments(t *testing.T) {
	t.Parallel()
	path := file(t, rulesText)
	socket := "--flux-uri=local:///nowhere"
	for want, args := range map[string][]string{
		"one file of rules is needed":                {"run"},
		"a command to run beside them goes after --": {"run", path, "sleep"},
		"read the rules: open /nowhere":              {"run", "/nowhere"},
		"--name is empty":                            {"run", path, "--endpoint=localhost:1"},
		"are of use with --endpoint only":            {"run", path, "--name=demo"},
		"it has to be local://":                      {"run", path, "--flux-uri=tcp://somewhere"},
		"it has to be HOST:PORT":                     {"rules", path, socket, "--endpoint=localhost", "--name=demo"},
	} {
		if _, err := execute(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("of %v the error is %v, want %q", args, err, want)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	out, err := execute(t, "run", "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"agent run FILE [-- COMMAND [ARGUMENT...]] [flags]", "Endpoint flags:", "TLS flags:", "Queue flags:", "General flags:",
	} {
		if !strings.Contains(out, part) {
			t.Errorf("the help has no %q:\n%s", part, out)
		}
	}
}

func TestSupervisor(t *testing.T) {
	t.Parallel()
	// counts adds a line to a file, and goes on as the number of lines says.
	counts := func(path, rest string) []string {
		return []string{"sh", "-c", `echo x >> ` + path + `; n=$(wc -l < ` + path + `); ` + rest}
	}
	forever := `trap 'exit 1' TERM; while :; do sleep 0.05; done`
	for name, row := range map[string]struct {
		rules, beside string
		// code is the exit code, starts how often the rules were started.
		code, starts int
	}{
		"the rules terminate":                {rules: `exit 0`, starts: 1},
		"the rules fail twice":               {rules: `[ $n -ge 3 ]`, starts: 3},
		"the rules are killed":               {rules: `[ $n -ge 2 ] || kill -9 $$`, starts: 2},
		"the command ends":                   {rules: forever, beside: `exit 7`, code: 7, starts: 1},
		"the command ends well":              {rules: forever, beside: `exit 0`, starts: 1},
		"the command is killed":              {rules: forever, beside: `kill -9 $$`, code: 137, starts: 1},
		"the rules terminate with a command": {rules: `exit 0`, beside: forever, starts: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "starts")
			s := &supervisor{rules: counts(path, row.rules), log: testr.New(t), pause: time.Millisecond}
			if row.beside != "" {
				// The command waits for the rules, so that these have started in any case.
				s.beside = []string{"sh", "-c", `until [ -s ` + path + ` ]; do sleep 0.01; done; ` + row.beside}
			}
			err := s.run(t.Context())
			code := 0
			if ended, is := errors.AsType[*exitError](err); is {
				code = ended.code
			} else if err != nil {
				t.Errorf("the error is %v", err)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if starts := strings.Count(string(text), "x"); code != row.code || starts != row.starts {
				t.Errorf("it ends with %d after %d starts, want %d after %d", code, starts, row.code, row.starts)
			}
		})
	}
}

func TestSupervisorIsToldToEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "told")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	waits := []string{"sh", "-c", `trap 'echo x >> ` + path + `; exit 0' TERM; while :; do sleep 0.05; done`}
	s := &supervisor{rules: waits, beside: waits, log: testr.New(t), pause: time.Millisecond}
	if err := s.run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || strings.Count(string(text), "x") != 2 {
		t.Errorf("the children were told %q, %v", text, err)
	}
}
