package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// python is Debian's. The one of PATH may be another, without the modules.
const python = "/usr/bin/python3"

// answerWithin bounds how long member.py, which sets no deadline, may take for an answer.
const answerWithin = 5 * time.Minute

// requirePython skips the test when what install-python.sh installs is not there, and fails it where CI runs, which is
// to notice.
func requirePython(t *testing.T) {
	t.Helper()
	missing, err := exec.CommandContext(t.Context(), "./install-python.sh", "--check").CombinedOutput()
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("%v: %s", err, missing)
	default:
		t.Skipf("%s", missing)
	}
}

// generate writes the Python code of the ensemble.proto in a directory, and returns the directory that it is in.
func generate(t *testing.T, protos string) string {
	t.Helper()
	directory := t.TempDir()
	output, err := exec.CommandContext(t.Context(), "/usr/bin/protoc", "--proto_path="+protos, "--python_out="+directory,
		"--grpc_python_out="+directory, "--plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin", "ensemble.proto").CombinedOutput()
	if err != nil {
		t.Fatalf("generate Python code from %s: %v: %s", filepath.Join(protos, "ensemble.proto"), err, output)
	}
	return directory
}

// program is a member.py that runs.
type program struct {
	command  *exec.Cmd
	requests io.WriteCloser
	answers  *bufio.Reader
	errors   strings.Builder
}

// startMember starts a member.py with generated code, which asks at an address in the name of a MiniCluster. It ends
// with the test, and has to end well.
func startMember(t *testing.T, generated, address, name string) *program {
	t.Helper()
	// The test's context ends before the cleanup, and the program is not to be killed but to end with its input.
	ctx := context.WithoutCancel(t.Context())
	p := &program{command: exec.CommandContext(ctx, python, "-s", "member.py", address, name)}
	// Nothing of the environment is wanted: a proxy, say, would be asked to connect.
	p.command.Env = []string{"PYTHONPATH=" + generated, "PYTHONDONTWRITEBYTECODE=1"}
	p.command.Stderr = &p.errors
	var err error
	if p.requests, err = p.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	output, err := p.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.answers = bufio.NewReader(output)
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.requests.Close(); err != nil {
			t.Errorf("end member.py: %v", err)
		}
		hanging := time.AfterFunc(answerWithin, func() { _ = p.command.Process.Kill() })
		defer hanging.Stop()
		if err := p.command.Wait(); err != nil {
			t.Errorf("member.py ended with %v: %s", err, p.errors.String())
		}
	})
	return p
}

// answer is what member.py prints for a reply.
type answer struct {
	// Status is the name of the reply's status, Payload its payload.
	Status, Payload string
	// Code is that of a call which failed.
	Code, Details string
	// Reason is that of the payload.
	Reason string `json:"-"`
}

// ask lets member.py send a request, a line of JSON as its documentation has it, and returns the answer.
func (p *program) ask(t *testing.T, request string) answer {
	t.Helper()
	if _, err := io.WriteString(p.requests, request+"\n"); err != nil {
		t.Fatalf("ask %s: %v", request, err)
	}
	// Without its process the pipe ends, and so does the read.
	hanging := time.AfterFunc(answerWithin, func() { _ = p.command.Process.Kill() })
	line, err := p.answers.ReadBytes('\n')
	if !hanging.Stop() {
		t.Fatalf("%s was not answered within %s", request, answerWithin)
	}
	if err != nil {
		t.Fatalf("%s was not answered: %v", request, err)
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		t.Fatalf("member.py printed %s: %v", line, err)
	}
	if a.Code != "" {
		t.Fatalf("%s failed with %s: %s", request, a.Code, a.Details)
	}
	var payload struct{ Reason string }
	if err := json.Unmarshal([]byte(a.Payload), &payload); err != nil {
		t.Fatalf("%s was answered %s with a payload that is not JSON: %s", request, a.Status, a.Payload)
	}
	a.Reason = payload.Reason
	return a
}
