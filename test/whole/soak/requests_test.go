package soak

import (
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// requests is how many there are, of which the last ones lead to sizes that all can have at once.
	requests, lastRequests = 100, 25
	// maxInParallel is by how many nodes one request changes a size at most.
	maxInParallel = 12
	// maxBetween is the longest time between two requests.
	maxBetween = 800 * time.Millisecond
)

// requestAll makes random requests, of several members at a time, and returns their number when all are answered. At first
// members want more than there is, so that some have to wait for others.
func (w *world) requestAll() (count int) {
	random := w.random("requests")
	idle, done := slices.Clone(w.members), make(chan *member, len(w.members))
	answered := func(least int) {
		for len(idle) < least || len(done) > 0 {
			idle = append(idle, <-done)
		}
	}
	for ; count < requests || w.crowd() != nil; count++ {
		pause(w.Context(), random, 0, maxBetween)
		last := requests-count <= lastRequests
		if last {
			answered(len(w.members))
		} else {
			answered(1)
		}
		m, c := w.draw(random, idle, last)
		idle = slices.DeleteFunc(idle, func(other *member) bool { return other == m })
		go func() {
			if err := w.ask(m, c); err != nil {
				w.Error(err)
			}
			done <- m
		}()
		if last {
			answered(len(w.members))
		}
		if w.Failed() {
			break
		}
	}
	answered(len(w.members))
	return count
}

// draw draws a request. With last it leads nearer to sizes that all can have, or keeps such.
func (w *world) draw(random *rand.Rand, idle []*member, last bool) (*member, change) {
	slices.SortFunc(idle, func(a, b *member) int { return slices.Index(w.members, a) - slices.Index(w.members, b) })
	m := idle[random.IntN(len(idle))]
	c := change{"grow", 1 + random.Int32N(maxInParallel)}
	if m.wants == maxNodes || (m.wants > 1 && random.IntN(10) < 3) {
		c.action = "shrink"
	}
	if !last {
		return m, c
	}
	if crowd := w.crowd(); crowd != nil {
		return slices.MaxFunc(crowd, func(a, b *member) int { return int(a.wants - b.wants) }), change{"shrink", c.amount}
	}
	if room := w.room(m); c.action == "grow" && c.amount > room {
		if m.wants == 1 {
			return m, change{"grow", max(1, room)}
		}
		c.action = "shrink"
	}
	return m, c
}

// besides are the members that have the same pools as one, which is one of them.
func (w *world) besides(m *member) []*member {
	return slices.DeleteFunc(slices.Clone(w.members), func(other *member) bool { return !slices.Contains(other.pools, m.pools[0]) })
}

// room is the number of nodes that the pools of a member have beyond what is wanted of them.
func (w *world) room(m *member) int32 {
	left := int32(len(m.pools) * nodesOfPool)
	for _, other := range w.besides(m) {
		left -= other.wants
	}
	return left
}

// crowd are members with the same pools that want more than those can have, nil when there are none.
func (w *world) crowd() []*member {
	for _, m := range w.members {
		if w.room(m) < 0 {
			return w.besides(m)
		}
	}
	return nil
}
