package reality

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/system"
)

// patience is how long anything may take. A growth that has failed is tried again after one minute, then two.
var patience = flag.Duration("reality.patience", 6*time.Minute, "how long a test waits for what has to come")

// shared is what all tests use. TestMain sets it once, before any test runs.
var shared struct {
	*system.System
	recorder *history.Recorder
	ledger   *ledger
}

//go:embed policies.yaml
var policies []byte

func TestMain(m *testing.M) {
	flag.Parse()
	if err := allAtOnce(); err != nil {
		fmt.Fprintln(os.Stderr, "reality:", err)
		os.Exit(1)
	}
	code, err := withSystem(m.Run)
	if err == nil && code == 0 {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "reality:", err)
		code = 1
	}
	os.Exit(code)
}

// allAtOnce lets the tests run side by side, unless the command line says how many: they do little but wait for time-outs.
func allAtOnce() error {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", "16")
}

// withSystem runs the tests. Logs of a run that failed are kept and named.
func withSystem(run func() int) (code int, err error) {
	directory, err := os.MkdirTemp("", "reality-")
	if err != nil {
		return 1, err
	}
	defer func() {
		if err != nil || code != 0 {
			fmt.Fprintf(os.Stderr, "the logs are in %s\n", directory)
		} else {
			err = os.RemoveAll(directory)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	s, err := system.Start(ctx, system.Options{
		LogDir:   filepath.Join(directory, "logs"),
		Progress: os.Stderr,
		// Many nodes here are of no use, for good reasons: Cluster Autoscaler is not to stop for the whole cluster because of them.
		AutoscalerFlags: []string{
			"--scan-interval=1s", "--initial-node-group-backoff-duration=2s", "--max-node-group-backoff-duration=4s",
			"--ok-total-unready-count=1000", "--max-total-unready-percentage=100",
		},
	})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	shared.System, shared.ledger = s, newLedger()
	if err := installPolicies(ctx); err != nil {
		return 1, err
	}
	if shared.recorder, err = history.Start(ctx, s.Client, shared.ledger.enter); err != nil {
		return 1, err
	}
	code = run()
	if err := shared.recorder.Stop(); err != nil {
		return 1, err
	}
	events := shared.recorder.Events()
	broken := slices.Concat(shared.ledger.broken(), readyTooEarly(events), history.Broken(events))
	if len(broken) > 0 {
		broken = append(broken[:min(len(broken), 20)], fmt.Sprintf("%d in all", len(broken)))
		return 1, fmt.Errorf("promises were broken:\n  %s", strings.Join(broken, "\n  "))
	}
	fmt.Fprintf(os.Stderr, "no promise was broken in %d versions of objects\n", len(events))
	return code, nil
}

// installPolicies applies what others do to nodes and pods, and waits until the API server does it.
func installPolicies(ctx context.Context) error {
	objects, err := system.Objects(policies)
	if err != nil {
		return err
	}
	trials, err := system.Objects([]byte(`
apiVersion: v1
kind: Namespace
metadata: {name: reality-trial, labels: {reality.example.com/inject: selector}}
---
apiVersion: v1
kind: Namespace
metadata: {name: reality-refusal, labels: {reality.example.com/refuse: pods}}
---
apiVersion: v1
kind: Node
metadata: {name: reality-trial, labels: {reality.example.com/cpu: 3500m}}
status: {allocatable: {cpu: "4"}}
---
apiVersion: v1
kind: Pod
metadata: {name: trial, namespace: reality-trial}
spec: {containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: trial, namespace: reality-refusal}
spec: {containers: [{name: c, image: i}]}
`))
	if err != nil {
		return err
	}
	if err := shared.Apply(ctx, append(objects, trials[:2]...)...); err != nil {
		return err
	}
	node, pod, refused := trials[2], trials[3], trials[4]
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		// A pod is refused for want of its ServiceAccount, too, a little after its namespace is there.
		arrives := tried(ctx, node, "3500m", "status", "allocatable", "cpu") && tried(ctx, pod, "r9", "spec", "nodeSelector", "example.com/rack")
		err := shared.Client.Create(ctx, refused.DeepCopy(), client.DryRunAll)
		return arrives && err != nil && strings.Contains(err.Error(), "auditors"), nil
	})
}

// tried reports whether an object would be stored with a value in a field.
func tried(ctx context.Context, object *unstructured.Unstructured, value string, field ...string) bool {
	object = object.DeepCopy()
	if shared.Client.Create(ctx, object, client.DryRunAll) != nil {
		return false
	}
	got, _, _ := unstructured.NestedString(object.Object, field...)
	return got == value
}
