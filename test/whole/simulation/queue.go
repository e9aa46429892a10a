package simulation

import (
	"time"
)

// queue is the Flux queue inside a MiniCluster, and the rules by which its member asks for nodes: it grows when jobs wait
// that do not fit, and shrinks when it is idle. It looks at every heartbeat, and asks again for as long as its rule holds.
type queue struct {
	world   *world
	member  string
	waiting []job
	running []*job
	// idle counts the heartbeats at which nothing ran or waited.
	idle int
}

// job needs some nodes for some time. It begins again when it has lost one.
type job struct {
	nodes int32
	lasts time.Duration
}

// open gives a member a queue.
func (e *ensemble) open(member string, heartbeat time.Duration) {
	q := &queue{world: e.world, member: member}
	e.queues[member] = q
	var beat func()
	beat = func() {
		if e.queues[member] == q && !e.world.quiet {
			q.beat()
			e.world.after(heartbeat, beat)
		}
	}
	e.world.after(heartbeat, beat)
}

// submit adds a job.
func (q *queue) submit(nodes int32, lasts time.Duration) {
	q.world.tell("queue", "%s: a job for %d nodes and %s", q.member, nodes, lasts)
	q.waiting = append(q.waiting, job{nodes: nodes, lasts: lasts})
	q.start()
}

// look is called when the pods of a member change.
func (e *ensemble) look(member string) {
	if q := e.queues[member]; q != nil {
		q.start()
	}
}

func (q *queue) busy() int32 {
	var sum int32
	for _, r := range q.running {
		sum += r.nodes
	}
	return sum
}

// start sends jobs back to the queue whose nodes are gone, and starts those that fit, in their order.
func (q *queue) start() {
	w := q.world
	has, busy := w.running(q.member), q.busy()
	for len(q.running) > 0 && busy > has {
		last := q.running[len(q.running)-1]
		q.running = q.running[:len(q.running)-1]
		busy -= last.nodes
		q.waiting = append([]job{*last}, q.waiting...)
	}
	for len(q.waiting) > 0 && busy+q.waiting[0].nodes <= has {
		next := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.running = append(q.running, &next)
		busy += next.nodes
		started := &next
		w.after(started.lasts, func() { q.end(started) })
	}
}

func (q *queue) end(done *job) {
	for i, r := range q.running {
		if r == done {
			q.running = append(q.running[:i], q.running[i+1:]...)
			q.start()
			return
		}
	}
}

// beat is what the member's rules say at a heartbeat.
func (q *queue) beat() {
	m := q.world.members.get(q.member)
	if c := q.world.clusters.get(q.member); m == nil || (c != nil && c.suspended) {
		return
	}
	var waits int32
	for i := range q.waiting {
		waits += q.waiting[i].nodes
	}
	free := q.world.running(q.member) - q.busy()
	switch {
	case waits > free:
		q.idle = 0
		q.world.ensemble.ask(q.member, grow, waits-free)
	case waits == 0 && free > 0:
		if q.idle++; q.idle >= 2 {
			q.world.ensemble.ask(q.member, shrink, free)
		}
	default:
		q.idle = 0
	}
}
