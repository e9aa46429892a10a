package plan_test

import (
	"maps"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// noQuota as podsOf.quota stands for as many pods as the size says.
const noQuota = -1

// podsOf is what becomes of the pods of a member beside their nodes.
type podsOf struct {
	// quota is how many pods can be made.
	quota int
	// stuck are the ranks whose pods do not start though they are bound, succeeded those whose pods have.
	stuck, succeeded map[int32]bool
	// lacksSince is since when nodes are held for pods that do not exist; zero while none are.
	lacksSince time.Time
	// claimed are the nodes claimed when the MiniCluster was read last, and size its size.
	claimed, size int32
}

func newPods() podsOf {
	return podsOf{quota: noQuota, stuck: map[int32]bool{}, succeeded: map[int32]bool{}}
}

// mayMake reports whether one more pod of a member can be made.
func (m *worldMember) mayMake() bool {
	return m.podsOf.quota == noQuota || len(m.pods) < m.podsOf.quota
}

// seePods adds to what the planner sees of a member.
func (w *world) seePods(m *worldMember, seen *plan.Member) {
	seen.Running = w.running(m)
	if !m.ranked() {
		seen.Succeeded = slices.DeleteFunc(slices.Sorted(maps.Keys(m.podsOf.succeeded)), func(pod int32) bool { return !m.stays(pod) })
		for _, pod := range m.there() {
			if node, exists := m.pods[pod]; exists && node == "" && !m.gates.waits[pod] && m.gates.released[pod] == "" {
				seen.Pending = append(seen.Pending, pod)
			}
		}
	}
	for rank := range m.Size {
		_, exists := m.pods[rank]
		switch {
		case !m.ranked():
		case m.podsOf.succeeded[rank]:
			seen.Succeeded = append(seen.Succeeded, rank)
		case !exists && m.Lifecycle == plan.Running:
			seen.Lacking = append(seen.Lacking, rank)
		}
	}
	if !m.mayMake() {
		seen.NotMade = "exceeded quota"
	}
	if len(m.podsOf.stuck) > 0 {
		seen.NotStarted = "pods do not start: no image"
	}
}

// running counts the ranks of the member's size whose pods run.
func (w *world) running(m *worldMember) int32 {
	var count int32
	for rank := range m.pods {
		if m.stays(rank) && w.runs(m, rank) {
			count++
		}
	}
	// Of more pods than the size some are about to leave.
	return min(count, m.Size)
}

// runs reports whether a pod runs.
func (w *world) runs(m *worldMember, rank int32) bool {
	node := m.pods[rank]
	n := w.node(node)
	return !m.podsOf.stuck[rank] && (w.outside[node] || (n != nil && n.Ready && !n.readyAt.After(w.now)))
}

// countSucceeded counts the ranks of a size that have succeeded.
func (m *worldMember) countSucceeded(size int32) int {
	count := 0
	for rank := range m.podsOf.succeeded {
		if m.ranked() && rank < size || !m.ranked() && m.stays(rank) {
			count++
		}
	}
	if !m.ranked() {
		// They are the first to leave.
		count = max(0, min(count, int(size)-len(m.there())+count))
	}
	return count
}

// needless counts the ranks of a member that need no node of the pools: outside, succeeded, or with nodes given back.
func (w *world) needless(m *worldMember) int {
	count := w.countOutside(m) + m.countSucceeded(m.Size)
	if m.PodsLacking != nil {
		count += int(m.PodsLacking.GivenBack)
	}
	return count
}

// followPods forgets what pods have done that are beyond a size, or are gone.
func (m *worldMember) followPods(size int32) {
	for rank := range m.podsOf.succeeded {
		if m.ranked() && rank >= size && m.Lifecycle == plan.Running {
			delete(m.podsOf.succeeded, rank)
		}
	}
	for rank := range m.podsOf.stuck {
		if m.pods[rank] == "" {
			delete(m.podsOf.stuck, rank)
		}
	}
}

// happenToPods lets one thing happen to the pods of a member.
func (w *world) happenToPods(m *worldMember) {
	switch w.rand.IntN(8) {
	case 0, 1:
		m.podsOf.quota = w.rand.IntN(int(m.Size) + 2)
		w.tell("%s has a quota of %d pods", m.name(), m.podsOf.quota)
	case 2:
		w.lift(m)
	case 3:
		if rank := w.anyPod(m); m.pods[rank] != "" {
			m.podsOf.stuck[rank] = true
			w.tell("rank %d of %s does not start", rank, m.name())
		}
	case 4:
		if rank := w.anyPod(m); m.pods[rank] != "" && !m.podsOf.stuck[rank] {
			delete(m.pods, rank)
			m.podsOf.succeeded[rank] = true
			w.tell("rank %d of %s succeeds", rank, m.name())
		}
	case 5:
		if rank := w.anyPod(m); m.pods[rank] != "" {
			delete(m.pods, rank)
			w.tell("the pod of rank %d of %s is deleted", rank, m.name())
		}
	case 6:
		if m.Lifecycle == plan.Running {
			w.live(m, plan.Suspended)
			w.tell("%s is suspended", m.Key.Name)
		}
	case 7:
		why := "spec: cannot be read"
		if w.rand.IntN(2) == 0 {
			why = ""
		}
		for _, m := range m.groups() {
			m.Invalid, m.podsOf.claimed, m.podsOf.size = why, int32(claimsOf(m.Reservations)), m.Size
		}
		w.tell("%s is invalid: %q", m.Key.Name, m.Invalid)
	}
}

// anyPod is a rank of a member, or one of its pods where they have none.
func (w *world) anyPod(m *worldMember) int32 {
	if m.ranked() {
		return int32(w.rand.IntN(int(m.Size)))
	}
	if there := m.there(); len(there) > 0 {
		return there[w.rand.IntN(len(there))]
	}
	return -1
}

// lift takes away what keeps pods of a member from running.
func (w *world) lift(m *worldMember) {
	m.podsOf.quota = noQuota
	clear(m.podsOf.stuck)
	for _, m := range m.groups() {
		m.Invalid = ""
	}
	if m.Lifecycle == plan.Suspended {
		w.resume(m)
	}
	w.tell("nothing keeps the pods of %s from running", m.name())
}

// resume makes the pods of a suspended member again: they are a new gang, if a pass has seen that it was suspended.
func (w *world) resume(m *worldMember) {
	w.live(m, plan.Running)
	w.tell("%s is resumed", m.Key.Name)
}

// checkReady is the promise that Ready means that it runs.
func (w *world) checkReady(m *worldMember, d plan.Decision) {
	all := w.running(m) + int32(m.countSucceeded(m.Size))
	w.promise(d.FirstUnmet() != v1alpha1.ConditionReady || m.Lifecycle == plan.Finished || m.Lifecycle == plan.Deleting || all == m.Size,
		"%s is ready, and %d of its %d pods run or have succeeded", m.name(), all, m.Size)
	w.promise(d.Running == all, "%s tells %d running pods, and it is %d", m.name(), d.Running, all)
	w.promise(m.Lifecycle != plan.Suspended || d.Reserved() == 0, "%s is suspended and claims %d nodes", m.name(), d.Reserved())
	if m.Lifecycle == plan.Running && m.Invalid != "" {
		w.promise(d.Resize == 0 && d.Reserved() == m.podsOf.claimed && m.Size == m.podsOf.size,
			"%s cannot be read; it had %d nodes at size %d and claims %d at %d, resized to %d",
			m.name(), m.podsOf.claimed, m.podsOf.size, d.Reserved(), m.Size, d.Resize)
	}
}

// checkLacking is the promise that nodes of pods that do not come are given back.
func (w *world) checkLacking(m *worldMember) {
	if m.Lifecycle != plan.Running || m.Invalid != "" || m.sharing() || m.Growth != nil || m.Wants < m.Size || m.Size != m.FormerSize {
		m.podsOf.lacksSince = time.Time{}
		return
	}
	lacking, claimed, timeout := m.lacks(), 0, time.Duration(0)
	for _, r := range m.Reservations {
		claimed += int(r.Nodes)
		timeout = max(timeout, w.pools[r.NodePool].ProvisionTimeout)
	}
	over := claimed - (int(m.Size) - lacking - w.countOutside(m) - m.countSucceeded(m.Size))
	all := w.slots(m, m.Reservations)+w.needless(m) >= int(m.Size)
	switch {
	case lacking == 0 || over <= 0 || !all:
		m.podsOf.lacksSince = time.Time{}
	case m.podsOf.lacksSince.IsZero():
		m.podsOf.lacksSince = w.now
	default:
		// A pass may be killed, several times, before it has written that they lack, or that they are given back.
		w.promise(w.now.Sub(m.podsOf.lacksSince) <= timeout+2*time.Minute,
			"%s claims %d nodes at size %d, where %d pods are lacking since %s: %+v",
			m.name(), claimed, m.Size, lacking, m.podsOf.lacksSince.Format(time.TimeOnly), m.PodsLacking)
	}
}

// restless reports whether something keeps the pods of a member from running for ever, so that it never comes to rest.
func (m *worldMember) restless() bool { return m.podsOf.quota != noQuota || len(m.podsOf.stuck) > 0 }

// deleteNamespace ends all members.
func (w *world) deleteNamespace() {
	for _, m := range w.members {
		if !m.gone {
			m.Lifecycle = plan.Deleting
		}
	}
	w.tell("the namespace is deleted")
}

// dropPod is a Job that notices that a pod is gone with its node.
func (m *worldMember) dropPod(rank int32) {
	delete(m.pods, rank)
	m.gates.forget(rank)
}

// ranksOf are the ranks of the pods of a member, in order.
func (m *worldMember) ranksOf() []int32 {
	var ranks []int32
	for rank := range m.pods {
		ranks = append(ranks, rank)
	}
	slices.Sort(ranks)
	return ranks
}
