package reality

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// ledger counts the machines that were ever ordered, by pool, and what they may be at most.
type ledger struct {
	mu      sync.Mutex
	ordered map[string]int
	bounds  map[string]bound
}

// bound is how many machines may ever be ordered for a pool.
type bound struct {
	most int
	why  string
}

func newLedger() *ledger { return &ledger{ordered: map[string]int{}, bounds: map[string]bound{}} }

// enter is called for each version of an object.
func (l *ledger) enter(event history.Event) {
	machine, is := event.Object.(*v1alpha1.PoolMachine)
	if !is || event.Before != nil || event.Deleted {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ordered[machine.Spec.NodePool]++
}

// of is how many machines were ever ordered for a pool.
func (l *ledger) of(pool string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ordered[pool]
}

// limit says how many machines may be ordered for a pool from its beginning to the end of all tests.
func (l *ledger) limit(pool string, most int, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bounds[pool] = bound{most, why}
}

// broken are the pools for which more was ordered.
func (l *ledger) broken() (broken []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, pool := range slices.Sorted(maps.Keys(l.bounds)) {
		if b := l.bounds[pool]; l.ordered[pool] > b.most {
			broken = append(broken, fmt.Sprintf("%d machines were ordered for %s, and at most %d may be: %s", l.ordered[pool], pool, b.most, b.why))
		}
	}
	return broken
}

// readyTooEarly replays events and returns the members that said Ready before each rank of their size had a pod that ran. One that
// has run may have ended since, which the controller hears of later.
func readyTooEarly(events []history.Event) (broken []string) {
	ran := map[types.NamespacedName]map[int64]bool{}
	for i := range events {
		event := &events[i]
		switch object := event.Object.(type) {
		case *corev1.Pod:
			if key := history.MiniClusterOf(object); key.Name != "" &&
				(object.Status.Phase == corev1.PodRunning || object.Status.Phase == corev1.PodSucceeded) {
				if ran[key] == nil {
					ran[key] = map[int64]bool{}
				}
				ran[key][history.IndexOf(object)] = true
			}
		case *v1alpha1.EnsembleMember:
			if before, is := event.Before.(*v1alpha1.EnsembleMember); is && saysReady(before) && before.Status.Size == object.Status.Size ||
				!saysReady(object) || ends(object) || event.Deleted {
				continue
			}
			key, missing := client.ObjectKeyFromObject(object), []int64(nil)
			for rank := range int64(object.Status.Size) {
				if !ran[key][rank] {
					missing = append(missing, rank)
				}
			}
			if len(missing) > 0 {
				broken = append(broken, fmt.Sprintf("%s (version %d): %s says that it is Ready at size %d, and no pod of the ranks %v has ever run",
					event.At.UTC().Format("15:04:05.000"), event.Version, key, object.Status.Size, missing))
			}
		}
	}
	return broken
}

// ends reports whether a member says that it has nothing more to do because its MiniCluster has ended, or goes.
func ends(member *v1alpha1.EnsembleMember) bool {
	for _, c := range member.Status.Conditions {
		if c.Reason == v1alpha1.ReasonDeleting || c.Reason == v1alpha1.ReasonFinished {
			return true
		}
	}
	return false
}

func saysReady(member *v1alpha1.EnsembleMember) bool {
	return condition(member, v1alpha1.ConditionReady).Status == metav1.ConditionTrue
}

// idle sums the time that Ready nodes of pools existed without a pod that ran on them and is no DaemonSet's, over the nodes, until now.
func idle(events []history.Event, now time.Time, ours func(pool string) bool) time.Duration {
	nodes := map[string]*corev1.Node{}
	pods := map[types.UID]*corev1.Pod{}
	var sum time.Duration
	var last time.Time
	count := func() (unused int) {
		used := map[string]bool{}
		for _, pod := range pods {
			used[pod.Spec.NodeName] = true
		}
		for name, node := range nodes {
			if history.Ready(node) && !used[name] {
				unused++
			}
		}
		return unused
	}
	for i := range events {
		event := &events[i]
		switch object := event.Object.(type) {
		case *corev1.Node:
			if !ours(object.Labels[v1alpha1.LabelNodePool]) {
				continue
			}
			sum, last = sum+time.Duration(count())*event.At.Sub(last), event.At
			nodes[object.Name] = object
			if event.Deleted {
				delete(nodes, object.Name)
			}
		case *corev1.Pod:
			if nodes[object.Spec.NodeName] == nil && pods[object.UID] == nil {
				continue
			}
			sum, last = sum+time.Duration(count())*event.At.Sub(last), event.At
			owner := metav1.GetControllerOf(object)
			delete(pods, object.UID)
			if !event.Deleted && object.Status.Phase == corev1.PodRunning && (owner == nil || owner.Kind != "DaemonSet") {
				pods[object.UID] = object
			}
		}
	}
	return sum + time.Duration(count())*now.Sub(last)
}
