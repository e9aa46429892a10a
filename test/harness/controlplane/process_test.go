package controlplane

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// planeWithoutComponents is enough to run processes: a guard and a directory for logs.
func planeWithoutComponents(t *testing.T) *ControlPlane {
	t.Helper()
	binaries, err := Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	c := &ControlPlane{
		binaries: binaries, thread: newThread(), logs: t.TempDir(),
		components: map[string]component{}, processes: map[string]*Process{},
	}
	if c.guard, err = startGuard(binaries.path(guardBinary)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return c
}

// shell is a process that runs the script.
func shell(t *testing.T, c *ControlPlane, script string) *Process {
	t.Helper()
	process, err := c.Run("shell", exec.Command("sh", "-c", script))
	if err != nil {
		t.Fatal(err)
	}
	return process
}

func TestProcessEndsAndIsStartedAgain(t *testing.T) {
	c := planeWithoutComponents(t)
	process := shell(t, c, "echo out; echo err >&2; exit 3")
	var exit *exec.ExitError
	if err := process.Wait(t.Context()); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("Wait: %v, want exit status 3", err)
	}
	if process.Running() {
		t.Error("the process runs after Wait")
	}
	first := process.Pid()
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(t.Context()); !errors.As(err, &exit) {
		t.Errorf("Wait after the second start: %v, want exit status 3", err)
	}
	if process.Pid() == first {
		t.Errorf("the second start has the process number %d of the first", first)
	}
	log, err := os.ReadFile(filepath.Join(c.LogDir(), "shell.log"))
	if err != nil || string(log) != "out\nerr\nout\nerr\n" {
		t.Errorf("the log holds %q (%v), want the output and the errors of both starts", log, err)
	}
}

func TestProcessIsKilledWithItsChildren(t *testing.T) {
	c := planeWithoutComponents(t)
	process := shell(t, c, "sleep 1000 & wait")
	group := process.Pid()
	if err := process.Start(); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("Start of a running process: %v, want a refusal", err)
	}
	if _, err := c.Run("shell", exec.Command("true")); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("Run under the name of a running process: %v, want a refusal", err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Wait after Kill: %v, want that it was killed", err)
	}
	waitForGroup(t, group)
	if err := process.Kill(); err != nil {
		t.Errorf("Kill of a process that has ended: %v", err)
	}

	other, err := c.Run("shell", exec.Command("true"))
	if err != nil {
		t.Fatalf("Run under the name of a process that has ended: %v", err)
	}
	if err := other.Wait(t.Context()); err != nil {
		t.Errorf("Wait for a process that ends well: %v", err)
	}
	if err := process.Start(); err == nil {
		t.Error("the process whose name was given away was started again")
	}
}

// waitForGroup waits until the process group has no member left: init takes its time to bury the orphans.
func waitForGroup(t *testing.T, group int) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	bound := time.After(time.Minute)
	for syscall.Kill(-group, 0) == nil {
		select {
		case <-ticker.C:
		case <-bound:
			t.Fatalf("the process group %d still has members", group)
		}
	}
}

func TestProcessStopsByRequest(t *testing.T) {
	c := planeWithoutComponents(t)
	process := shell(t, c, `trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done`)
	waitForLog(t, process, "ready")
	if err := process.Stop(10 * time.Second); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if err := process.Wait(t.Context()); err != nil {
		t.Errorf("Wait: %v, want that it ended by itself", err)
	}
	waitForLog(t, process, "bye")
}

func TestProcessThatDoesNotStopIsKilledAndReported(t *testing.T) {
	c := planeWithoutComponents(t)
	process := shell(t, c, `trap '' TERM; echo ready; while :; do sleep 0.01; done`)
	waitForLog(t, process, "ready")
	err := process.Stop(50 * time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "did not end within 50ms of SIGTERM") {
		t.Errorf("Stop: %v, want that it had to be killed", err)
	}
	if process.Running() {
		t.Error("the process runs after Stop")
	}
}

func waitForLog(t *testing.T, process *Process, word string) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	bound := time.After(time.Minute)
	for {
		log, err := os.ReadFile(process.LogFile())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(log), word) {
			return
		}
		select {
		case <-ticker.C:
		case <-bound:
			t.Fatalf("the log does not say %q: %q", word, log)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	c := planeWithoutComponents(t)
	withOutput := exec.Command("true")
	withOutput.Stdout = os.Stderr
	for _, test := range []struct {
		name    string
		process string
		command *exec.Cmd
		want    string
	}{
		{"a program that does not exist", "lost", exec.Command("no-such-program"), "not found"},
		{"a command whose output goes elsewhere", "loud", withOutput, "leave Stdout and Stderr"},
		{"a name that leads out of the log directory", "../up", exec.Command("true"), "path separator"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := c.Run(test.process, test.command)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Run: %v, want an error with %q", err, test.want)
			}
		})
	}
}
