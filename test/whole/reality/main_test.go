package reality

import (
	"context"
	_ "embed"
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system/systemtest"
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
	systemtest.Run(m, &systemtest.Suite{
		Name: "reality", AtOnce: 16, Within: 30 * time.Minute,
		Options: func(string) (system.Options, error) {
			// Many nodes here are of no use, for good reasons: Cluster Autoscaler is not to stop for the whole cluster because of them.
			return system.Options{AutoscalerFlags: systemtest.RestlessAutoscaler()}, nil
		},
		Begin: func(ctx context.Context, s *system.System) error {
			shared.System, shared.ledger = s, newLedger()
			return installPolicies(ctx)
		},
		Recorder: func(r *history.Recorder) { shared.recorder = r },
		Enter:    func(e history.Event) { shared.ledger.enter(e) },
		Broken: func(events []history.Event) []string {
			return slices.Concat(shared.ledger.broken(), readyTooEarly(events))
		},
	})
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
