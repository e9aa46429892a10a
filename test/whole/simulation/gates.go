package simulation

import (
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// refusedFor is how long the scheduler may keep a pod off the node that it was released for, before the pod is recreated.
const refusedFor = 30 * time.Second

// placed is the node that a pod is on or that it was released for, empty for neither.
func (p *podObject) placed() string {
	if p.node != "" {
		return p.node
	}
	return p.releasedFor
}

// placedAt is since when.
func (p *podObject) placedAt() time.Time {
	if p.node != "" && p.releasedFor == "" {
		return p.boundAt
	}
	return p.releasedAt
}

// waits reports whether a pod is behind the gate, or on its way to the node that it was released for.
func (p *podObject) waits() bool { return p.node == "" && (p.gated || p.releasedFor != "") }

// waiting is the pod of a rank that waits, as the controller's cache knows it; nil for none.
func (c *controller) waiting(member string, rank int32) *podObject {
	for _, p := range c.world.pods.caches[controllerCache].items {
		if p.member == member && p.index == rank && p.waits() {
			return p
		}
	}
	return nil
}

// ungate takes the gate of a pod away, with the node that it may go to.
func (a *application) ungate(c *chore, read *podObject, node string) bool {
	w := a.world
	if p := w.pods.get(read.name); p == nil || !p.gated {
		return false
	}
	a.tellNotes(c)
	w.checkLetGo(c, read, node, a.planned)
	written := w.pods.update(read.name, func(p *podObject) { p.gated, p.releasedFor, p.releasedAt = false, node, w.now })
	a.pods[written.name] = written.version
	w.tell("controller", "pod %s is released for %s", written.name, node)
	w.scheduler.wake()
	if a.released != nil {
		a.released(written)
	}
	return true
}

// recreate deletes a pod that cannot get to its node, so that its Job recreates it. One that was bound in the meantime stays.
func (a *application) recreate(c *chore, read *podObject, why string) bool {
	w := a.world
	p := w.pods.get(read.name)
	if p == nil {
		return true
	}
	if p.version != read.version {
		return false
	}
	a.tellNotes(c)
	w.ledger.counts["pods recreated"]++
	w.tell("controller", "pod %s is recreated: %s", p.name, why)
	w.jobs.remove(p.name)
	return true
}

// releases are the writes by which pods get to their nodes, the lead broker first, and are recreated that cannot.
func (a *application) releases(c *chore) []func() bool {
	var out []func() bool
	for _, r := range c.decision.Release {
		read := a.waiting(c.member.name, r.Index)
		out = append(out, func() bool { return a.ungate(c, read, r.Node) })
	}
	for _, s := range c.decision.Recreate {
		if read := a.waiting(c.member.name, s.Index); read != nil {
			out = append(out, func() bool { return a.recreate(c, read, s.Why) })
		}
	}
	return out
}

// seeWaiting adds to what the planner sees of its members the pods that wait.
func seeWaiting(p *podObject, s *podsSeen) {
	if p.gated {
		s.gated = append(s.gated, p.index)
		return
	}
	s.pods = append(s.pods, plan.Pod{
		Index: p.index, Node: p.releasedFor, Released: true, RefusedSince: p.refusedSince, Refusal: p.refusal,
	})
}

// admitted is the node that a pod was released for, if it can go there, and refuses it if not.
func (s *scheduler) admitted(p *podObject, cpu map[string]int64) string {
	w := s.world
	n := w.nodes.get(p.releasedFor)
	refusal := s.refuses(p, n, cpu)
	if refusal == "" {
		return n.name
	}
	if p.refusedSince.IsZero() {
		w.ledger.counts["pods refused"]++
		w.tell("scheduler", "pod %s cannot go to %s", p.name, p.releasedFor)
		w.pods.update(p.name, func(p *podObject) { p.refusedSince, p.refusal = w.now, refusal })
	}
	return ""
}

// takesAll reports whether the member takes all or nothing.
func (m *memberObject) takesAll() bool {
	return m.policy == "" || m.policy == v1alpha1.GrowthAllOrNothing
}

// checkLetGo is the first promise for a pod that exists before its node does. When it is released, its node must be recorded as
// held for its member and have room for it, and the first one beyond the ranks that have had their nodes is released when
// there are usable nodes for all. As with a resize, what the controller could not know does not count.
func (w *world) checkLetGo(c *chore, p *podObject, node string, planned time.Time) {
	w.ledger.counts["pods released"]++
	m, size, since := w.members.get(p.member), c.cluster.size, w.since(planned)
	if m == nil {
		return
	}
	w.promise(holds(m, node), "pod %s is released for %s, which is not held for %s", p.name, node, m.name)
	own := int32(0)
	for _, other := range w.pods.live.items {
		if other.member == m.name && other.placed() == node && other.index < size {
			own++
		}
	}
	w.promise(w.slots(m, node, size, since) > own, "pod %s is released for %s, which is of no use or has no room beside %d others of %s",
		p.name, node, own, m.name)
	if p.index >= w.ledger.complete[m.name] && m.takesAll() {
		had := p.index < w.ledger.factsOf(m.name).had
		w.promise(had || w.allSlots(m, size, since) >= size, "pod %s is released with nodes for %d of %d pods, and %s takes all or "+
			"nothing", p.name,
			w.allSlots(m, size, since), size, m.name)
		w.ledger.complete[m.name] = size
		w.ledger.counts["growths released"]++
	}
}

// allSlots is how many pods of a member there are nodes for, as far as could be known since a time.
func (w *world) allSlots(m *memberObject, size int32, since time.Time) int32 {
	var slots int32
	for i := range m.reservations {
		for _, node := range m.reservations[i].Held {
			slots += w.slots(m, node, size, since)
		}
	}
	return slots + w.elsewhere(m, size) + w.needless(m, size)
}

// elsewhere counts the pods of a member on nodes that are not held for it and that no record vouches for, or did until lately: they
// count as nodes of no pool, and a pod that is there needs no other.
func (w *world) elsewhere(m *memberObject, size int32) int32 {
	count := int32(0)
	for _, p := range w.pods.live.items {
		if n := w.nodes.get(p.node); n != nil && p.member == m.name && p.index < size && n.pool != "" && !holds(m, n.name) && w.stray(n) {
			count++
		}
	}
	return count
}

// needless counts the ranks of a member that need no node: those that have succeeded, and those that have no pod and whose nodes were
// given back for that reason.
func (w *world) needless(m *memberObject, size int32) int32 {
	succeeded, exist := int32(0), map[int32]bool{}
	for _, p := range w.pods.live.items {
		if p.member == m.name && p.index < size {
			exist[p.index] = true
			if p.succeeded {
				succeeded++
			}
		}
	}
	if m.podsLacking == nil {
		return succeeded
	}
	return succeeded + min(m.podsLacking.GivenBack, size-int32(len(exist)))
}

// stray reports whether the record of a node's machine was lost, is one that was made of what was found, or does not tell of the node
// yet, as while the provider does not run.
func (w *world) stray(n *nodeObject) bool {
	m := w.machines.get(w.machineOf(n))
	return m == nil || m.adopted != "" || m.nodeName != n.name
}

// checkServed: what the controller has recorded as a size without a growth has had its nodes. From then on each of its pods is
// on its own. The size that is recorded is the one that the controller has read.
func (w *world) checkServed(m *memberObject, planned time.Time) {
	l := w.ledger
	c := w.clusters.get(m.name)
	l.complete[m.name] = min(l.complete[m.name], m.size)
	if c == nil || c.finished || c.deleting || !m.gated || !m.takesAll() || rests(m) {
		return
	}
	if g := m.growth; g != nil && g.Served > l.complete[m.name] && g.Served <= m.size {
		// All of it had its nodes, whatever becomes of them.
		if w.allSlots(m, m.size, w.since(planned)) >= g.Served {
			l.factsOf(m.name).had = g.Served
		}
	}
	if m.growth != nil || m.wants < m.size || l.complete[m.name] == m.size {
		return
	}
	slots := w.allSlots(m, m.size, w.since(planned))
	w.promise(slots >= m.size, "%s waits for nothing at size %d, of which %d have had their nodes, with nodes for %d pods", m.name, m.size,
		l.complete[m.name], slots)
	l.complete[m.name] = m.size
}

// rests reports whether the controller has recorded that it does nothing for a member.
func rests(m *memberObject) bool {
	reason, _ := reservedCondition(m)
	return reason == v1alpha1.ReasonSuspended || reason == v1alpha1.ReasonInvalid
}

// checkRefused: a pod that the scheduler has refused for long is recreated.
func (w *world) checkRefused() {
	for _, p := range w.pods.live.items {
		m, c := w.members.get(p.member), w.clusters.get(p.member)
		if p.node != "" || p.refusedSince.IsZero() || m == nil || c == nil || c.finished || c.deleting {
			continue
		}
		w.promise(w.now.Sub(p.refusedSince) < refusedFor+overdue, "pod %s cannot go to %s since %s, and is not recreated", p.name,
			p.releasedFor, relative(p.refusedSince))
	}
}

// restlessGates says which pod waits that should not: one of a member that has all it wants, or that is gone.
func (w *world) restlessGates() string {
	for _, p := range w.pods.live.items {
		if !p.waits() {
			continue
		}
		m := w.members.get(p.member)
		switch {
		case m == nil:
			return "pod " + p.name + " waits, and its member is gone"
		case m.size == m.wants && m.growth == nil && allTrue(m.conditions):
			return "pod " + p.name + " waits, and its member has all it wants"
		}
	}
	return ""
}
