package karpenter_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system/systemtest"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/parts/karpenter"
)

// patience is how long anything may take on a busy machine.
var patience = flag.Duration("karpenter.patience", 5*time.Minute, "how long a test waits for what has to come")

// seeds is how many stories with kills are told.
var seeds = flag.Int("karpenter.seeds", 3, "how many stories are told in which the provider and Karpenter are killed")

// shared is what all tests use. TestMain sets it once, before any test runs.
var shared struct {
	*system.System
	karpenter *karpenter.Beside
	recorder  *history.Recorder
	ledger    ledger
}

func TestMain(m *testing.M) {
	shared.karpenter = &karpenter.Beside{Progress: os.Stderr}
	systemtest.Run(m, &systemtest.Suite{
		Name: "karpenter", AtOnce: 6, Within: 6 * time.Hour,
		Options: func(string) (system.Options, error) {
			return system.Options{
				WithoutKwok: true, Prepare: shared.karpenter.Prepare, AutoscalerFlags: systemtest.RestlessAutoscaler(),
			}, nil
		},
		Begin:    func(_ context.Context, s *system.System) error { shared.System = s; return nil },
		Recorder: func(r *history.Recorder) { shared.recorder = r },
		Enter:    shared.ledger.enter,
		Broken:   func([]history.Event) []string { return shared.ledger.broken() },
	})
}

// ledger has the nodes that Karpenter has registered for each machine: more than one is a machine that was bought twice.
type ledger struct {
	mu    sync.Mutex
	nodes map[string]map[string]bool
}

func (l *ledger) enter(event history.Event) {
	node, is := event.Object.(*corev1.Node)
	if !is || node.Labels["karpenter.sh/registered"] != "true" || node.Labels[v1alpha1.LabelMachine] == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	machine := node.Labels[v1alpha1.LabelMachine]
	if l.nodes == nil {
		l.nodes = map[string]map[string]bool{}
	}
	if l.nodes[machine] == nil {
		l.nodes[machine] = map[string]bool{}
	}
	l.nodes[machine][node.Name] = true
}

func (l *ledger) broken() (broken []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for machine, nodes := range l.nodes {
		if len(nodes) > 1 {
			broken = append(broken, fmt.Sprintf("machine %s was bought %d times", machine, len(nodes)))
		}
	}
	return broken
}
