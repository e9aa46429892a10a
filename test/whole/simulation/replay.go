package simulation

import (
	"time"
)

// replayed is one replay of a trace.
type replayed struct {
	world *world
	// begins is when the trace begins: the machines that are there from the beginning have booted by then.
	begins time.Duration
	// paidBefore is what was paid by then.
	paidBefore, paid float64
	pendingBefore    time.Duration

	members  map[string]*replayedMember
	finished time.Duration
	waiting  time.Duration
	blocked  int
	unserved int
	pending  time.Duration
}

// replayedMember is a member of a trace.
type replayedMember struct {
	size int32
	// left are requests that have not been made, growths those that have and lack pods.
	left    []Request
	growths []*growing
	// working is the number of pieces of work that are left to be done.
	working int
}

// growing is a request to grow that has not all its pods.
type growing struct {
	from, to  int32
	asked     time.Duration
	halfSince time.Duration
	half      bool
	work      time.Duration
}

// replay replays a trace with one strategy until a time after its beginning, 0 for until everything is done.
func replay(requests []Request, cloud Cloud, strategy int, until time.Duration) *replayed {
	s := calm(cloud.Seed)
	pool := poolOf("hpc", cloud.Nodes, cloud.Boot)
	pool.boot.most = cloud.Boot + cloud.Jitter
	pool.provisionTimeout = 15 * time.Minute
	s.pools = []poolSettings{pool}
	strategies[strategy].set(&s)
	r := &replayed{world: newWorld(s), begins: 2*time.Minute + 2*pool.boot.most, members: map[string]*replayedMember{}}
	w := r.world
	w.ensemble.onBound = r.look
	last := time.Duration(0)
	for i := range requests {
		name := requests[i].Member
		m := r.members[name]
		if m == nil {
			m = &replayedMember{size: 1}
			r.members[name] = m
			w.ensemble.arrive(user(name, 1, cloud.Nodes, "hpc"))
		}
		m.left = append(m.left, requests[i])
		w.after(r.begins+requests[i].At, func() { r.ask(name) })
		last = max(last, requests[i].At)
	}
	w.run(r.begins)
	r.paidBefore, r.pendingBefore = w.cloud.nodeSeconds(), w.ledger.pending
	if until == 0 {
		for end := last + time.Minute; end <= last+longest && (end == last+time.Minute || !r.done()); end += time.Minute {
			w.run(r.begins + end)
		}
	} else {
		w.run(r.begins + until)
	}
	r.paid = w.cloud.nodeSeconds()
	r.account()
	return r
}

func (r *replayed) now() time.Duration { return r.world.now.Sub(noon) - r.begins }

// ask makes the requests of a member that are due, in their order.
func (r *replayed) ask(name string) {
	m := r.members[name]
	for len(m.left) > 0 && m.left[0].At <= r.now() {
		next := m.left[0]
		if !next.Grows && m.working > 0 {
			return
		}
		m.left = m.left[1:]
		if !next.Grows {
			m.size -= next.Amount
			r.world.ensemble.ask(name, shrink, next.Amount)
			continue
		}
		g := &growing{from: m.size, to: m.size + next.Amount, asked: r.now()}
		g.work = time.Duration(next.Work / float64(next.Amount) * float64(time.Second))
		if next.Work > 0 {
			m.working++
		}
		m.size = g.to
		m.growths = append(m.growths, g)
		r.world.ensemble.ask(name, grow, next.Amount)
	}
}

// look is called when a pod of a member got a node.
func (r *replayed) look(name string) {
	m := r.members[name]
	running := r.world.running(name)
	for len(m.growths) > 0 && running >= m.growths[0].to {
		g := m.growths[0]
		m.growths = m.growths[1:]
		r.served(name, g)
	}
	if len(m.growths) > 0 && running > m.growths[0].from && !m.growths[0].half {
		m.growths[0].half, m.growths[0].halfSince = true, r.now()
	}
}

// served notes that a growth has all its pods: its work begins.
func (r *replayed) served(name string, g *growing) {
	now := r.now()
	r.waiting += now - g.asked
	if g.half && now-g.halfSince > halfServed {
		r.blocked++
	}
	r.finished = max(r.finished, now)
	if g.work == 0 {
		return
	}
	r.world.after(g.work, func() {
		r.finished = max(r.finished, r.now())
		r.members[name].working--
		r.ask(name)
	})
}

// done reports whether every request has been made and served, and all work is done.
func (r *replayed) done() bool {
	for _, m := range r.members {
		if len(m.left)+len(m.growths)+m.working > 0 {
			return false
		}
	}
	return true
}

// account adds what is left over at the end.
func (r *replayed) account() {
	for _, m := range r.members {
		for _, g := range m.growths {
			r.unserved++
			r.waiting += r.now() - g.asked
			if g.half && r.now()-g.halfSince > halfServed {
				r.blocked++
			}
		}
		for i := range m.left {
			if m.left[i].Grows {
				r.unserved++
			}
		}
		if m.working > 0 || len(m.growths) > 0 || len(m.left) > 0 {
			r.finished = r.now()
		}
	}
	r.pending = r.world.ledger.pending - r.pendingBefore
	for _, p := range r.world.pods.live.items {
		if p.node == "" && !p.succeeded {
			r.pending += r.world.now.Sub(p.createdAt)
		}
	}
}

// outcome are the figures of a replay.
func (r *replayed) outcome(strategy string) Outcome {
	return Outcome{
		Strategy: strategy, Makespan: r.finished, NodeSeconds: r.paid - r.paidBefore, Waiting: r.waiting,
		PendingSeconds: r.pending.Seconds(), Blocked: r.blocked, Unserved: r.unserved,
	}
}
