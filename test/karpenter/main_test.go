package karpenter_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/karpenter"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/system"
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
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		// They do little but wait.
		if err := flag.Set("test.parallel", "6"); err != nil {
			fmt.Fprintln(os.Stderr, "karpenter:", err)
			os.Exit(1)
		}
	}
	code, err := withSystem(m.Run)
	if err == nil && code == 0 {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "karpenter:", err)
		code = 1
	}
	os.Exit(code)
}

// withSystem runs the tests. Logs of a run that failed are kept and named.
func withSystem(run func() int) (code int, err error) {
	directory, err := os.MkdirTemp("", "karpenter-")
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
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Hour)
	defer cancel()
	shared.karpenter = &karpenter.Beside{Progress: os.Stderr}
	s, err := system.Start(ctx, system.Options{
		LogDir: filepath.Join(directory, "logs"), Progress: os.Stderr, WithoutKwok: true, Prepare: shared.karpenter.Prepare,
		AutoscalerFlags: []string{
			"--scan-interval=1s", "--initial-node-group-backoff-duration=2s", "--max-node-group-backoff-duration=4s",
			"--ok-total-unready-count=1000", "--max-total-unready-percentage=100",
		},
	})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	shared.System = s
	if shared.recorder, err = history.Start(ctx, s.Client, shared.ledger.enter); err != nil {
		return 1, err
	}
	code = run()
	if err := shared.recorder.Stop(); err != nil {
		return 1, err
	}
	events := shared.recorder.Events()
	if broken := slices.Concat(shared.ledger.broken(), history.Broken(events)); len(broken) > 0 {
		broken = append(broken[:min(len(broken), 20)], fmt.Sprintf("%d in all", len(broken)))
		return 1, fmt.Errorf("promises were broken:\n  %s", strings.Join(broken, "\n  "))
	}
	fmt.Fprintf(os.Stderr, "no promise was broken in %d versions of objects\n", len(events))
	return code, nil
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
