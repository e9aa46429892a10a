package controlplane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/goleak"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
)

// parentVariable makes this test binary a program that starts a control plane and waits to be killed.
const parentVariable = "CONTROLPLANE_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentVariable) != "" {
		if err := beParent(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// traces are what a control plane leaves on the machine while it runs.
type traces struct {
	Directory string
	Pids      map[string]int
}

// beParent starts a control plane, tells its traces on standard output and waits for ever.
func beParent() error {
	plane, err := controlplane.Start(context.Background(), controlplane.Options{Parts: controlplane.All})
	if err != nil {
		return err
	}
	found, err := runAndTrace(plane)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		return err
	}
	select {}
}

// runAndTrace runs a program with a child of its own on the control plane and returns the traces of all.
func runAndTrace(plane *controlplane.ControlPlane) (traces, error) {
	program, err := plane.Run("program", exec.Command("sh", "-c", "sleep 1000 & echo $!; wait"))
	if err != nil {
		return traces{}, err
	}
	found := traces{Directory: plane.Directory(), Pids: map[string]int{"program": program.Pid()}}
	for _, name := range components() {
		if process := plane.Component(name); process != nil {
			found.Pids[name] = process.Pid()
		}
	}
	child := 0
	err = wait.PollUntilContextTimeout(context.Background(), pollInterval, patience, true, func(context.Context) (bool, error) {
		content, err := os.ReadFile(program.LogFile())
		if err != nil {
			return false, err
		}
		_, err = fmt.Sscan(string(content), &child)
		return err == nil, nil
	})
	found.Pids["child of program"] = child
	return found, err
}

func components() []string {
	return []string{
		controlplane.Etcd, controlplane.KubeAPIServer, controlplane.KubeScheduler,
		controlplane.KubeControllerManager, controlplane.KwokController,
	}
}

// patience is how long anything may take on a busy machine.
const patience = 5 * time.Minute

const pollInterval = 20 * time.Millisecond

// eventually waits until the check passes, and fails the test with its last error when it does not.
func eventually(t *testing.T, check func(context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), pollInterval, patience, true, func(ctx context.Context) (bool, error) {
		last = check(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("not within %s: %v", patience, last)
	}
}
