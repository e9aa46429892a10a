package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

const (
	namespace = "soak"
	// pools is how many NodePools there are, nodesOfPool how many nodes each can have.
	pools, nodesOfPool = 4, 50
	members            = 20
	// maxNodes and maxAtFirst bound the size of a member, which is 1 at least.
	maxNodes, maxAtFirst = 20, 3
	// patience is how long anything may take. A watch that has failed several times is tried again after half a minute,
	// and on a slow machine there are then many nodes to catch up with.
	patience = 6 * time.Minute
)

// world is everything that is running.
type world struct {
	*testing.T
	*system.System
	story    *story
	recorder *history.Recorder
	seed     uint64
	members  []*member

	// keepers restart what has ended; stopKeepers ends them.
	keepers     sync.WaitGroup
	stopKeepers context.CancelFunc
}

// newWorld starts everything and waits until all members have their first nodes.
func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{T: t, story: &story{began: time.Now()}, seed: seed}
	// It is asked for before the cleanup that writes into it, so that it is removed after that, where it is removed.
	artifacts := t.ArtifactDir()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the story of seed %d:\n%s", seed, w.story)
		}
		if err := os.WriteFile(filepath.Join(artifacts, "story.txt"), []byte(w.story.String()+"\n"), 0o600); err != nil {
			t.Error(err)
		}
	})
	var err error
	w.System, err = system.Start(t.Context(), system.Options{
		LogDir: artifacts, Progress: os.Stderr,
		AutoscalerFlags: []string{
			"--scan-interval=1s", "--initial-node-group-backoff-duration=2s", "--max-node-group-backoff-duration=4s",
			// It is to remove what it has ordered itself while the test lasts, and gets the more chances to remove what it must not.
			"--scale-down-unneeded-time=5s", "--scale-down-delay-after-add=2s",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Stop(); err != nil {
			t.Error(err)
		}
	})
	if w.recorder, err = history.StartAtEtcd(t.Context(), w.Plane.EtcdURL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.recorder.Stop(); err != nil {
			t.Error(err)
		}
	})
	w.keepAllRunning()
	w.apply("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", namespace)
	for i := range pools {
		w.apply(poolText, poolName(i), nodesOfPool, seed)
	}
	first := w.random("sizes")
	for i := range members {
		m := &member{
			key: types.NamespacedName{Namespace: namespace, Name: fmt.Sprintf("m-%d", i)}, wants: 1 + first.Int32N(maxAtFirst),
		}
		m.pools = []string{poolName(i % pools)}
		if *listsFlag {
			m.pools = append(m.pools, poolName(i%pools^1))
		}
		w.apply(miniClusterText, m.key.Name, namespace, strings.Join(m.pools, ","), strings.Join(m.pools, `", "`), m.wants, maxNodes)
		w.members = append(w.members, m)
	}
	return w
}

// random are the draws for one purpose.
func (w *world) random(purpose string) *rand.Rand {
	sum := uint64(0)
	for _, letter := range purpose {
		sum = sum*31 + uint64(letter)
	}
	return rand.New(rand.NewPCG(w.seed, sum))
}

func poolName(i int) string { return fmt.Sprintf("pool-%d", i) }

const poolText = `
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: %s}
spec:
  maxSize: %d
  template:
    taints: [{key: example.com/dedicated, value: hpc, effect: NoSchedule}]
    capacity: {cpu: "4", memory: 16Gi, pods: "110"}
  machines: {kwok: {bootDelay: 300ms, bootJitter: 2s, seed: %d}}
`

const miniClusterText = `
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata:
  name: %[1]s
  namespace: %[2]s
  annotations: {autoscaling.flux-framework.org/node-pools: "%[3]s"}
spec:
  size: %[5]d
  minSize: 1
  maxSize: %[6]d
  interactive: true
  containers:
  - image: ubuntu:noble
    runFlux: true
    resources: {requests: {cpu: "3", memory: 1Gi}}
  pod:
    nodeAffinity: {autoscaling.flux-framework.org/node-pool: ["%[4]s"]}
    tolerations: [{key: example.com/dedicated, operator: Exists}]
`

// apply applies YAML.
func (w *world) apply(format string, arguments ...any) {
	w.Helper()
	objects, err := system.Objects(fmt.Appendf(nil, format, arguments...))
	if err != nil {
		w.Fatal(err)
	}
	if err := w.Apply(w.Context(), objects...); err != nil {
		w.Fatal(err)
	}
}

// until waits for a state. unmet says what is missing, and nothing when nothing is.
func (w *world) until(what string, unmet func(*history.State) string) {
	w.Helper()
	ctx, cancel := context.WithTimeoutCause(w.Context(), patience, fmt.Errorf("not within %s", patience))
	defer cancel()
	began := time.Now()
	if err := w.recorder.Until(ctx, unmet); err != nil {
		w.tellMembers()
		w.Fatalf("%s: %v", what, err)
	}
	w.story.tell("%s, after %s", what, time.Since(began).Round(100*time.Millisecond))
}

// tellMembers tells what members have reserved and hold, and where their pods are.
func (w *world) tellMembers() {
	err := w.look(func(s *history.State) {
		for _, m := range w.members {
			line := fmt.Sprintf("%s of %v wants %d", m.key.Name, m.pools, m.wants)
			if member := s.Members[m.key]; member != nil {
				for i := range member.Status.Reservations {
					r := &member.Status.Reservations[i]
					line += fmt.Sprintf("; %d reserved in %s, held %v", r.Nodes, r.NodePool, r.Held)
				}
			}
			for _, pod := range s.PodsOf(m.key) {
				line += fmt.Sprintf("; %s on %q", pod.Name, pod.Spec.NodeName)
			}
			w.story.tell("%s", line)
		}
	})
	if err != nil {
		w.story.tell("%v", err)
	}
}

// look reads something off the present state, which is there though the API server may not be.
func (w *world) look(at func(*history.State)) error {
	return w.recorder.Until(w.Context(), func(s *history.State) string { at(s); return "" })
}

// pause waits for a random time: things are to happen at random moments. It reports whether there is more to do.
func pause(ctx context.Context, random *rand.Rand, least, most time.Duration) bool {
	timer := time.NewTimer(least + time.Duration(random.Int64N(int64(most-least))))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
