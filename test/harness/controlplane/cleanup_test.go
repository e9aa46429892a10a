package controlplane_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane/controlplanetest"
)

// remaining says what is left of the control plane, or nil.
func (f traces) remaining() error {
	var left []string
	for name, pid := range f.Pids {
		if alive(pid) {
			left = append(left, fmt.Sprintf("process %d (%s)", pid, name))
		}
	}
	if _, err := os.Stat(f.Directory); !os.IsNotExist(err) {
		left = append(left, "directory "+f.Directory)
	}
	if left != nil {
		return fmt.Errorf("left over: %s", strings.Join(left, ", "))
	}
	return nil
}

// alive tells whether the process runs. A zombie does not: it waits for its parent, which is init when the
// parent was killed.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !bytes.Contains(stat, []byte(") Z "))
}

func TestStopLeavesNothing(t *testing.T) {
	plane := controlplanetest.Start(t, controlplane.Options{})
	found, err := runAndTrace(plane)
	if err != nil {
		t.Fatal(err)
	}
	if err := found.remaining(); err == nil {
		t.Fatal("nothing of a running control plane can be seen: this test is blind")
	}
	if err := plane.Stop(); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if err := found.remaining(); err != nil {
		t.Error(err)
	}
	if err := plane.Stop(); err != nil {
		t.Errorf("the second Stop: %v", err)
	}
	if _, err := plane.Run("late", exec.Command("true")); err == nil {
		t.Error("Run started a process after Stop")
	}
}

func TestNothingIsLeftWhenTheParentDies(t *testing.T) {
	for _, test := range []struct {
		name string
		end  syscall.Signal
	}{
		{"killed without a word", syscall.SIGKILL},
		{"interrupted by Ctrl-C", syscall.SIGINT},
	} {
		t.Run(test.name, func(t *testing.T) {
			executable, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			parent := exec.Command(executable)
			parent.Env = append(os.Environ(), parentVariable+"=1")
			parent.Stderr = os.Stderr
			output, err := parent.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := parent.Start(); err != nil {
				t.Fatal(err)
			}
			var found traces
			decodeErr := json.NewDecoder(output).Decode(&found)
			if err := parent.Process.Signal(test.end); err != nil {
				t.Fatal(err)
			}
			if err := parent.Wait(); err == nil {
				t.Error("the parent ended by itself, not by the signal")
			}
			if decodeErr != nil {
				t.Fatalf("the parent did not start its control plane: %v", decodeErr)
			}
			if len(found.Pids) != len(components())+2 || found.Directory == "" {
				t.Fatalf("the parent told of %+v, want all components and the program with its child", found)
			}
			eventually(t, func(context.Context) error { return found.remaining() })
		})
	}
}

func TestAComponentThatCannotStart(t *testing.T) {
	// The temporary directory of the control plane is the only thing that appears in here.
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)

	_, err := controlplane.Start(t.Context(), controlplane.Options{APIServerArguments: []string{"--no-such-flag"}})
	if err == nil {
		t.Fatal("Start succeeded with a flag that kube-apiserver does not know")
	}
	for _, part := range []string{"kube-apiserver ended before it could serve", "unknown flag: --no-such-flag"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(temporary, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over in the temporary directory: %v (%v)", left, err)
	}
}

func TestADataDirOfTheCaller(t *testing.T) {
	t.Run("stays after Stop", func(t *testing.T) {
		directory := filepath.Join(t.TempDir(), "data")
		plane := controlplanetest.Start(t, controlplane.Options{DataDir: directory})
		if err := plane.Stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(directory, "etcd", "member")); err != nil {
			t.Errorf("the data of etcd is gone: %v", err)
		}
	})
	t.Run("is refused when it holds something", func(t *testing.T) {
		directory := t.TempDir()
		if err := os.WriteFile(filepath.Join(directory, "mine"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := controlplane.Start(t.Context(), controlplane.Options{DataDir: directory})
		if err == nil || !strings.Contains(err.Error(), directory+" is not empty") {
			t.Errorf("Start in a directory with a file: %v, want a refusal that names the directory", err)
		}
	})
}
