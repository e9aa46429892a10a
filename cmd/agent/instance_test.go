package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/broker"
)

// TestRunAndStatus runs the program on a Flux instance, its child included, and shows what is left.
func TestRunAndStatus(t *testing.T) {
	t.Parallel()
	instance, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Size: 4, Online: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := instance.Close(); err != nil {
			t.Error(err)
		}
	})
	uri := "--flux-uri=" + instance.URI()
	path := file(t, `
jobs: [{name: wait, command: sleep 0.1, count: 3}, {name: long, command: sleep 3600, count: 3, tasks: 4}]
rules:
- {trigger: start, action: {name: submit, label: wait}}
- {trigger: start, action: {name: grow}}
- {trigger: metric, name: count.wait.success, when: 3, action: {name: submit, label: long}}
- {trigger: job-run, name: long, action: {name: terminate}}
`)
	if out, err := execute(t, "run", path, uri, "--", "sh", "-c", "while :; do sleep 0.05; done"); err != nil {
		t.Fatalf("it ended with %v: %s", err, out)
	}
	for _, want := range []string{
		"broker   rank 0 of 4, flux-core", "nodes    2 up, ", "inactive 3\n",
	} {
		out, err := execute(t, "status", uri)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out, want) {
			t.Errorf("the status has no %q:\n%s", want, out)
		}
	}
}

// instanceOf starts an instance.
func instanceOf(t *testing.T) broker.Instance {
	t.Helper()
	instance, err := broker.Start(t.Context(), broker.Options{Dir: t.TempDir(), Size: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := instance.Close(); err != nil {
			t.Error(err)
		}
	})
	return instance
}

// child starts this program with arguments, and returns it with the lines that it logs.
func child(t *testing.T, args ...string) (*exec.Cmd, <-chan string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(said); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	return cmd, lines
}

// patience bounds what should not take long.
const patience = time.Minute

// await waits until a program says something. "" is that it and all that it has started have ended.
func await(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	over := time.After(patience)
	for {
		select {
		case line, more := <-lines:
			switch {
			case !more && want == "":
				return
			case !more:
				t.Fatalf("it ended, and never said %q", want)
			case want != "" && strings.Contains(line, want):
				return
			}
		case <-over:
			t.Fatalf("after %s it has not said %q", patience, want)
		}
	}
}

const waits = `
jobs: [{name: long, command: sleep 3600}]
rules:
- {trigger: start, action: {name: submit, label: long}}
`

// TestTwoAgents: the second one on the same rules waits for the first.
func TestTwoAgents(t *testing.T) {
	t.Parallel()
	uri, path := "--flux-uri="+instanceOf(t).URI(), file(t, waits)
	progress := "--progress-file=" + filepath.Join(t.TempDir(), "progress.json")
	first, firstSays := child(t, "rules", path, uri, progress)
	await(t, firstSays, `"Running"`)
	second, secondSays := child(t, "rules", path, uri, progress)
	await(t, secondSays, "Another agent runs these rules")
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, firstSays, "")
	await(t, secondSays, `"Running"`)
	if err := second.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, secondSays, "")
	for _, cmd := range []*exec.Cmd{first, second} {
		if err := cmd.Wait(); err == nil {
			t.Error("an agent has ended well")
		}
	}
}

// TestTheSupervisorIsKilled: the rules end with it.
func TestTheSupervisorIsKilled(t *testing.T) {
	t.Parallel()
	supervisor, says := child(t, "run", file(t, waits), "--flux-uri="+instanceOf(t).URI())
	await(t, says, `"Running"`)
	if err := supervisor.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Its child has the same standard error.
	await(t, says, "")
	if err := supervisor.Wait(); err == nil {
		t.Error("it has ended well")
	}
}
