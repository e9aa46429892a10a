package simulation

import (
	"fmt"
	"time"
)

// action is what a member asks for.
type action string

const (
	grow   action = "grow"
	shrink action = "shrink"
)

// ensemble is the members' side: the queues of jobs inside the MiniClusters, what members ask for, and the endpoint that
// they ask.
type ensemble struct {
	world  *world
	queues map[string]*queue
	// onBound is called when a pod of a member got a node.
	onBound func(member string)
	// arriving, asking and editing are called before a MiniCluster is created, a request is sent, and a size is written into a MiniCluster;
	// nil for nobody.
	arriving func(*memberObject)
	asking   func(member string, what action, amount int32)
	editing  func(member string, size int32)
}

func newEnsemble(w *world) *ensemble { return &ensemble{world: w, queues: map[string]*queue{}} }

// arrive makes a MiniCluster of a size and, where there is a controller, its member.
func (e *ensemble) arrive(m *memberObject) {
	w := e.world
	m.wants = max(m.wants, 1)
	m.gated = m.gated || m.topologyKey != ""
	m.adopted, m.arrivedAt = 1, w.now
	if e.arriving != nil {
		e.arriving(m)
	}
	w.clusters.create(&clusterObject{meta: meta{name: m.name}, size: m.wants, generation: 1, applied: m.wants})
	w.ledger.accepted(m.name, m.wants)
	w.members.create(m)
	w.tell("user", "MiniCluster %s of size %d, sizes %d to %d, nodes from %v%s", m.name, m.wants, m.minSize, m.maxSize, m.pools, extras(m))
	w.jobs.resized(m.name)
}

// extras tells what a member has that most have not.
func extras(m *memberObject) string {
	out := ""
	if m.policy != "" {
		out += ", " + string(m.policy)
	}
	if m.placement != "" {
		out += ", " + string(m.placement)
	}
	if m.podsPerNode != 0 {
		out += fmt.Sprintf(", %d pods per node", m.podsPerNode)
	}
	if m.topologyKey != "" {
		out += ", all of one " + m.topologyKey
	}
	if m.gated {
		out += ", pods behind the gate"
	}
	if m.giveUpAfter > 0 {
		out += fmt.Sprintf(", gives up after %d attempts", m.giveUpAfter)
	}
	return out
}

// finish ends the Job of a MiniCluster: its pods have ended too.
func (e *ensemble) finish(name string) {
	w := e.world
	if w.clusters.get(name) == nil {
		return
	}
	w.tell("member", "%s: the Job is complete", name)
	delete(e.queues, name)
	w.clusters.update(name, func(c *clusterObject) { c.finished = true })
	w.jobs.resized(name)
}

// delete removes a MiniCluster. The garbage collector removes its member, and its pods, in its own time.
func (e *ensemble) delete(name string) {
	w := e.world
	if c := w.clusters.get(name); c == nil || c.deleting {
		return
	}
	w.tell("user", "MiniCluster %s is deleted", name)
	delete(e.queues, name)
	w.clusters.update(name, func(c *clusterObject) { c.deleting = true })
	w.jobs.resized(name)
	w.after(w.draw(span{100 * time.Millisecond, 2 * time.Second}), func() { w.clusters.remove(name) })
	w.after(w.draw(span{2 * time.Second, 8 * time.Second}), func() {
		w.members.remove(name)
		w.jobs.resized(name)
	})
}

// ask sends a request. It may be lost, late or delivered twice; nobody tells the member.
func (e *ensemble) ask(member string, what action, amount int32) {
	w := e.world
	w.tell("member", "%s asks to %s by %d", member, what, amount)
	if e.asking != nil {
		e.asking(member, what, amount)
	}
	if w.quiet || w.settings.pools == nil {
		return
	}
	delay := w.draw(span{5 * time.Millisecond, 100 * time.Millisecond})
	deliver := func() { e.serve(member, what, amount) }
	luck := 100
	if w.lossy {
		luck = w.rand.IntN(100)
	}
	switch {
	case luck < 4:
		w.tell("network", "the request of %s is lost", member)
	case luck < 8:
		w.after(w.draw(span{time.Second, 40 * time.Second}), deliver)
	case luck < 12:
		w.after(delay, deliver)
		w.after(w.draw(span{time.Second, 10 * time.Second}), deliver)
	default:
		w.after(delay, deliver)
	}
}

// serve is the endpoint: it writes the desired size and answers. A request that no endpoint takes is refused by the network.
func (e *ensemble) serve(member string, what action, amount int32) {
	w := e.world
	m := w.members.get(member)
	if m == nil || w.clusters.get(member) == nil {
		w.ledger.answered("nobody of that name is managed")
		return
	}
	if w.patchFirst {
		size := e.bounded(m, what, amount)
		w.members.update(member, func(m *memberObject) { m.wants = size })
		w.clusters.update(member, func(c *clusterObject) { c.size = size })
		w.tell("endpoint", "MiniCluster %s: size is %d", member, size)
		w.jobs.resized(member)
		return
	}
	if !w.controller.up {
		w.tell("network", "the request of %s finds nobody", member)
		return
	}
	size := e.bounded(m, what, amount)
	underWay := m.size > 0 && ((what == grow && m.wants > m.size) || (what == shrink && m.wants < m.size))
	switch {
	case m.coalesce && underWay:
		w.answer(member, fmt.Sprintf("EXISTS: a %s to %d is under way", what, m.wants))
	case size == m.wants:
		w.answer(member, fmt.Sprintf("DENIED: the desired size is %d already, the bounds are %d and %d", m.wants, m.minSize, m.maxSize))
	default:
		w.members.update(member, func(m *memberObject) { m.wants = size })
		w.ledger.accepted(member, size)
		w.answer(member, fmt.Sprintf("SUCCESS: the desired size is %d", size))
	}
}

func (w *world) answer(member, reply string) {
	w.tell("endpoint", "%s: %s", member, reply)
	w.ledger.answered(reply)
}

// bounded is the size that a request leads to.
func (e *ensemble) bounded(m *memberObject, what action, amount int32) int32 {
	if what == shrink {
		amount = -amount
	}
	return min(max(m.wants+amount, m.minSize), m.maxSize)
}

// podBound is called when a pod of a member got a node.
func (e *ensemble) podBound(member string) {
	if member == "" {
		return
	}
	e.look(member)
	if e.onBound != nil {
		e.onBound(member)
	}
}

// running counts the pods of a member that run.
func (w *world) running(member string) int32 {
	var count int32
	for _, p := range w.pods.live.items {
		if p.member == member && p.running && !p.deleting {
			count++
		}
	}
	return count
}
