package plan_test

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// gates are the pods of a member that are created behind the scheduling gate.
type gates struct {
	// on is set for a member whose pods are gated.
	on bool
	// waits has the ranks that are behind the gate, released the nodes of those that are on their way, refused since when the
	// scheduler keeps them off these.
	waits    map[int32]bool
	released map[int32]string
	refused  map[int32]time.Time
	// bypassed is set when pods without a gate were added by an edit: those that find a node have it, whatever the others do.
	bypassed bool
	// complete is the size up to which each pod has had a node, or had one when it was resized to that.
	complete int32
}

func newGates(on bool) gates {
	return gates{on: on, waits: map[int32]bool{}, released: map[int32]string{}, refused: map[int32]time.Time{}}
}

// forget takes a pod away that is not bound.
func (g *gates) forget(index int32) {
	delete(g.waits, index)
	delete(g.released, index)
	delete(g.refused, index)
}

// admit is what becomes of a pod without a node: it gets the gate, or goes to the node that it was released for.
func (w *world) admit(m *worldMember, index int32) {
	node := m.gates.released[index]
	if node == "" {
		m.gates.waits[index] = true
		return
	}
	n := w.node(node)
	if n == nil || !n.Ready || n.readyAt.After(w.now) || n.Cordoned || n.foreign > 0 || w.keepsOff(n) ||
		w.free(n) < m.PodRequests[corev1.ResourceCPU] {
		if m.gates.refused[index].IsZero() {
			m.gates.refused[index] = w.now
		}
		return
	}
	m.gates.forget(index)
	m.pods[index] = node
}

// free is the CPU of a node that no pod which is bound to it requests.
func (w *world) free(n *worldNode) int64 {
	left := int64(4000) - w.pools[n.Pool].daemons
	for _, m := range w.members {
		left -= m.PodRequests[corev1.ResourceCPU] * int64(m.bound(n.Name))
	}
	return left
}

// bound counts the member's pods that are on a node, those that are being deleted too.
func (m *worldMember) bound(node string) int {
	count := m.leaving[node]
	for _, n := range m.pods {
		if n == node {
			count++
		}
	}
	return count
}

// staying counts the member's pods on a node, or on their way to it, that are within its size.
func (m *worldMember) staying(node string) int {
	count := 0
	for _, on := range []map[int32]string{m.pods, m.gates.released} {
		for index, n := range on {
			if n == node && m.stays(index) {
				count++
			}
		}
	}
	return count
}

// seeGates adds to what the planner sees of a member.
func (m *worldMember) seeGates(seen *plan.Member) {
	seen.Gated = slices.DeleteFunc(slices.Collect(maps.Keys(m.gates.waits)), func(pod int32) bool { return !m.ranked() && !m.stays(pod) })
	for _, index := range slices.Sorted(maps.Keys(m.gates.released)) {
		seen.Pods = append(seen.Pods, plan.Pod{
			Index: index, Node: m.gates.released[index], Released: true, RefusedSince: m.gates.refused[index],
			Leaving: !m.ranked() && !m.stays(index),
		})
	}
}

// letGo carries out what was decided about the gates of a member, until there are no writes left.
func (w *world) letGo(m *worldMember, d plan.Decision, write func() bool) bool {
	if len(d.Release) > 0 {
		w.checkUnitsReleased(m, d)
		w.checkRelease(m, d)
	}
	for _, a := range d.Release {
		if !write() {
			return false
		}
		w.promise(m.gates.waits[a.Index], "rank %d of %s is released and does not wait", a.Index, m.name())
		delete(m.gates.waits, a.Index)
		m.gates.released[a.Index] = a.Node
		w.tell("rank %d of %s may go to %s", a.Index, m.name(), a.Node)
	}
	for _, s := range d.Recreate {
		if !write() {
			return false
		}
		w.tell("rank %d of %s is recreated: %s", s.Index, m.name(), s.Why)
		m.gates.forget(s.Index)
	}
	return true
}

// checkRelease is the first promise for pods that exist: each that may go has room on a Ready node that is held for its
// member, and the pods of a gang go when there is room for all of them.
func (w *world) checkRelease(m *worldMember, d plan.Decision) {
	more := map[string]int{}
	for _, a := range d.Release {
		held := slices.ContainsFunc(m.Reservations, func(r v1alpha1.Reservation) bool { return slices.Contains(r.Held, a.Node) })
		n := w.node(a.Node)
		w.promise(
			held && n != nil && n.Ready && !n.Leaving && !n.readyAt.After(w.now),
			"rank %d of %s is released for %s, which is not held, not Ready or leaving", a.Index, m.name(), a.Node,
		)
		more[a.Node]++
		if n == nil {
			continue
		}
		all := (m.on(a.Node) + more[a.Node]) * int(m.PodRequests[corev1.ResourceCPU])
		w.promise(all <= int(4000-w.pools[n.Pool].daemons) && m.staying(a.Node)+more[a.Node] <= w.perNode(m, n.Pool),
			"%d pods of %s are to be on %s", m.on(a.Node)+more[a.Node], m.name(), a.Node)
	}
	last := d.Release[len(d.Release)-1].Index
	beyond := last >= m.gates.complete
	if !m.ranked() {
		beyond = m.placed()+len(d.Release) > int(m.gates.complete)
	}
	if beyond && m.GrowthPolicy == v1alpha1.GrowthAllOrNothing {
		for _, other := range m.groups() {
			w.promise(
				w.slots(other, other.Reservations)+w.needless(other) >= int(other.Size),
				"rank %d of %s is released with Ready nodes for %d of %d of %s", last, m.name(), w.slots(other, other.Reservations), other.Size,
				other.name(),
			)
		}
		m.gates.complete = m.Size
	}
}

// checkNothingIdle is the promise of all or nothing: a gang that waits out its failure claims no node that none of its pods is
// on, or could use. Those of the part that had its nodes could.
func (w *world) checkNothingIdle(m *worldMember) {
	if m.Growth == nil || m.Growth.RetryAfter == nil || m.GrowthPolicy != v1alpha1.GrowthAllOrNothing || !m.gates.on || m.sharing() ||
		m.Lifecycle != plan.Running || m.Size != m.FormerSize {
		return
	}
	claimed, needed := int32(0), int32(0)
	for _, r := range m.Reservations {
		claimed += r.Nodes
	}
	for rank := range m.Size {
		if m.ranked() && (w.node(m.pods[rank]) != nil || w.node(m.gates.released[rank]) != nil || rank < m.gates.complete) {
			needed++
		}
	}
	if !m.ranked() {
		needed = max(m.gates.complete, int32(m.placed()))
	}
	w.promise(
		claimed <= needed, "%s waits out a failure (%+v) and claims %d nodes; its pods could use %d", m.name(), m.Growth, claimed, needed,
	)
}

// edit writes a size into the MiniCluster, whose pods exist at once.
func (w *world) edit(m *worldMember, size int32) {
	w.desire(m, size, "edit the size")
	m.formerSize, m.Size, m.SizeGiven = m.Size, size, true
	m.gates.bypassed = !m.gates.on
	// A smaller size that no pass has seen is not known to have been there.
	m.gates.complete = min(max(m.gates.complete, m.FormerSize), size)
}

// mapOf has the keys of a map.
func mapOf(m map[int32]string) map[int32]bool {
	out := map[int32]bool{}
	for key := range m {
		out[key] = true
	}
	return out
}
