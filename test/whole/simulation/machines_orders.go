package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// adoptedOrder is the id of the order of a machine that was found.
const adoptedOrder = "adopted"

// orderKey tells orders apart.
func (m *machineObject) orderKey() string {
	return fmt.Sprintf("%s/%s/%d", m.pool, m.order.ID, m.order.First)
}

// asked reports whether the cloud may have been asked for the machine.
func (m *machineObject) asked() bool {
	return m.launching || m.launched || m.providerID != "" || m.failure != nil
}

// lookAtOrders asks for the machines of each order that has not all its answers.
func (l *machineLoop) lookAtOrders() {
	var keys []string
	orders := map[string][]*machineObject{}
	for _, m := range l.world.machines.caches[providerCache].items {
		if m.order.ID == adoptedOrder {
			continue
		}
		key := m.orderKey()
		if orders[key] == nil {
			keys = append(keys, key)
		}
		orders[key] = append(orders[key], m)
	}
	for _, key := range keys {
		l.lookAtOrder(key, orders[key])
	}
}

// open are the machines of an order that have no outcome; whole is set unless records are missing and nobody was asked for any.
func (l *machineLoop) open(records []*machineObject) (open []*machineObject, whole bool) {
	asked, going := false, 0
	if slices.ContainsFunc(records, func(m *machineObject) bool { return m.version < l.written[m.name] }) {
		// What was written is seen first: an order for all or none is asked for as a whole.
		return nil, false
	}
	for _, m := range records {
		known, answered := l.outcomes[m.name]
		final := answered && known.final()
		asked = asked || m.asked() || final
		switch {
		case m.failure != nil, m.providerID != "", m.launched, final:
		case !m.going.IsZero() && !m.launching:
			going++
		default:
			open = append(open, m)
		}
	}
	slices.SortFunc(open, func(a, b *machineObject) int {
		return int(nodegroup.Number(a.pool, a.name) - nodegroup.Number(b.pool, b.name))
	})
	return open, asked || (going == 0 && len(records) >= int(records[0].order.Size))
}

func (l *machineLoop) lookAtOrder(key string, records []*machineObject) {
	w := l.world
	open, whole := l.open(records)
	if len(open) == 0 || !whole || l.calls["launch/"+key] {
		return
	}
	first := open[0]
	if pool := w.pools.caches[providerCache].get(first.pool); pool == nil || pool.paused {
		return
	}
	until := l.throttled[first.pool]
	if r := l.refused[key]; r != nil && r.until.After(until) {
		until = r.until
	}
	if w.now.Before(until) {
		l.alarm.in(until.Sub(w.now))
		return
	}
	if w.cloud.settings(first.pool).byToken && !l.recordLaunching(open) {
		return
	}
	l.launch(key, open)
}

// recordLaunching writes down that machines are being asked for, and reports whether the cache has all of it.
func (l *machineLoop) recordLaunching(open []*machineObject) bool {
	done := true
	for _, m := range open {
		if m.launching {
			continue
		}
		done = false
		if l.busy[m.name] {
			continue
		}
		next := *m
		next.launching = true
		l.write(m, next)
	}
	return done
}

// launch asks the cloud. The answer may be lost on its way, as may the question.
func (l *machineLoop) launch(key string, open []*machineObject) {
	w, first := l.world, open[0]
	s := w.cloud.settings(first.pool)
	l.calls["launch/"+key] = true
	o := &order{
		pool: first.pool, token: key + "/" + first.orderedAt.UTC().Format(time.RFC3339Nano), domain: first.order.Domain,
		atomic: first.order.Atomic, size: int(first.order.Size),
	}
	for _, m := range open {
		o.machines = append(o.machines, m.name)
	}
	var outcomes []outcome
	lostThere, lostBack := !w.cloud.perfect && w.chance(s.lostPercent/3), !w.cloud.perfect && w.chance(s.lostPercent)
	way := span{10 * time.Millisecond, 60 * time.Millisecond}
	if s.byToken {
		way.most = 2 * time.Second
	}
	there := w.draw(way)
	// What was asked for is made, whether or not who asked lives.
	w.after(there, func() {
		if !lostThere {
			outcomes = w.cloud.launch(o)
		}
	})
	l.later(there+w.draw(way), func() {
		delete(l.calls, "launch/"+key)
		if lostThere || lostBack {
			w.ledger.counts["replies lost"]++
			l.refuse(key)
			return
		}
		delete(l.refused, key)
		for i, m := range open {
			l.outcomes[m.name] = outcomes[i]
			if after := outcomes[i].throttled; after > 0 {
				l.throttled[m.pool] = w.now.Add(after)
			}
		}
		l.alarm.in(0)
	})
}

// refuse notes that an order had no answer. It is repeated, ever later.
func (l *machineLoop) refuse(key string) {
	r := l.refused[key]
	if r == nil {
		r = &refusal{}
		l.refused[key] = r
	}
	wait := min(time.Second<<min(r.times, 10), time.Minute)
	r.times++
	r.until = l.world.now.Add(wait)
	l.alarm.in(wait)
}
