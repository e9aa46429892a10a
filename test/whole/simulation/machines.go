package simulation

import (
	"fmt"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// The waits of package machine, shortened as its flags allow, so that a world has time for them.
const (
	registersWithin = 2 * time.Second
	consistency     = time.Minute
	endAgain        = 30 * time.Second
	sweepEvery      = 2 * time.Minute
)

// machineLoop is package machine: it brings to pass what records say. It is a part of the provider and dies with it; all that it
// has in memory is lost then, and what it has asked of a cloud happens all the same.
type machineLoop struct {
	world *world
	alarm alarm
	// busy has the records that are being written, calls what a cloud is being asked, by key.
	busy, calls map[string]bool
	// written has the versions of records that it has written and that its cache may not have.
	written  map[string]int64
	outcomes map[string]outcome
	endings  map[string]*ending
	// refused and throttled are until when an order and a pool wait.
	refused   map[string]*refusal
	throttled map[string]time.Time
	listings  map[string]*listing
	listers   map[string]*alarm
	swept     bool
}

type refusal struct {
	times int
	until time.Time
}

func newMachineLoop(w *world) *machineLoop {
	l := &machineLoop{world: w, listers: map[string]*alarm{}}
	l.alarm = alarm{clock: &w.clock, ring: l.look}
	for i := range w.settings.pools {
		name := w.settings.pools[i].name
		l.listers[name] = &alarm{clock: &w.clock, ring: func() { l.list(name) }}
	}
	return l
}

func (l *machineLoop) start() {
	l.busy, l.calls, l.written = map[string]bool{}, map[string]bool{}, map[string]int64{}
	l.outcomes, l.endings, l.refused = map[string]outcome{}, map[string]*ending{}, map[string]*refusal{}
	l.throttled, l.listings, l.swept = map[string]time.Time{}, map[string]*listing{}, false
	for i := range l.world.settings.pools {
		name := l.world.settings.pools[i].name
		l.listings[name] = &listing{absent: map[string]time.Time{}}
		l.listSoon(name)
	}
	l.alarm.in(30 * time.Millisecond)
	l.later(sweepEvery/2, l.sweep)
}

func (l *machineLoop) kill() {
	l.alarm.stop()
	for _, lister := range l.listers {
		lister.stop()
	}
}

// later lets something happen unless the process is killed before.
func (l *machineLoop) later(delay time.Duration, happen func()) {
	life := l.world.provider.life
	l.world.after(delay, func() {
		if l.world.provider.life == life {
			happen()
		}
	})
}

// look looks at every record, and at every order.
func (l *machineLoop) look() {
	for _, m := range l.world.machines.caches[providerCache].items {
		l.lookAt(m)
	}
	l.lookAtOrders()
}

// lookAt is a look at one machine, in the order of package machine.
func (l *machineLoop) lookAt(m *machineObject) {
	if l.busy[m.name] || m.version < l.written[m.name] {
		return
	}
	seen := l.observe(m)
	next, due := l.next(m, seen)
	if next != *m {
		only := next
		only.nodeName, only.providerID, only.launched = m.nodeName, m.providerID, m.launched
		if due.After(l.world.now) && only == *m && m.launched {
			l.alarm.in(due.Sub(l.world.now))
			l.adopt(m, seen)
			return
		}
		l.write(m, next)
		return
	}
	if o, is := l.outcomes[m.name]; is && o.final() && m.going.IsZero() {
		delete(l.outcomes, m.name)
	}
	if m.going.IsZero() && m.failure != nil && seen.instance != nil && seen.instance.failure != nil {
		l.forget(m, seen.instance)
	}
	if !m.going.IsZero() {
		l.end(m, seen)
		return
	}
	l.adopt(m, seen)
	if !due.IsZero() {
		l.alarm.in(max(due.Sub(l.world.now), 100*time.Millisecond))
	}
}

// write writes a status, if the record is still as it was read.
func (l *machineLoop) write(m *machineObject, next machineObject) {
	w := l.world
	l.busy[m.name] = true
	l.later(w.draw(w.write), func() {
		delete(l.busy, m.name)
		written := w.machines.updateFrom(m, func(m *machineObject) {
			version := m.version
			*m = next
			m.version = version
		})
		if written == nil {
			return
		}
		l.written[m.name] = written.version
		l.tellOf(m, written)
		l.alarm.in(0)
	})
}

// tellOf tells what nobody asked for.
func (l *machineLoop) tellOf(before, after *machineObject) {
	w := l.world
	switch {
	case after.failure != nil && before.failure == nil && before.nodeName != "":
		w.tell("machine", "%s is no more: %s: %s", after.name, after.failure.Code, after.failure.Message)
	case after.failure != nil && before.failure == nil:
		w.tell("machine", "%s failed: %s: %s", after.name, after.failure.Code, after.failure.Message)
	case !after.leavingAt.IsZero() && before.leavingAt.IsZero():
		w.tell("machine", "the cloud takes machine %s, node %s, away at %s; its replacement is ordered first",
			after.name, after.nodeName, after.leavingAt.UTC().Format(time.RFC3339))
	case after.nodeName != "" && before.nodeName == "" && after.nodeName != after.name:
		w.tell("machine", "%s registered its node %s", after.name, after.nodeName)
	}
}

// seen is what is known of a machine besides its record.
type seen struct {
	instance    *instance
	absentSince time.Time
	listed      time.Time
	outcome     *outcome
	node        *nodeObject
	nodeGone    bool
}

func (l *machineLoop) observe(m *machineObject) *seen {
	w := l.world
	listing := l.listings[m.pool]
	s := &seen{instance: listing.instances[m.name], absentSince: listing.absent[m.name], listed: listing.begun}
	if o, is := l.outcomes[m.name]; is {
		s.outcome = &o
	}
	if m.adopted != "" && m.providerID == "" {
		s.outcome = &outcome{providerID: m.adopted}
	}
	id := m.providerID
	if id == "" && s.outcome != nil {
		id = s.outcome.providerID
	}
	if id == "" && s.instance != nil {
		id = s.instance.providerID
	}
	if s.node = l.nodeOf(id, m.nodeName); s.node != nil {
		return s
	}
	if id == "" && s.instance != nil && s.instance.node != "" {
		s.node = w.nodes.caches[providerCache].get(s.instance.node)
	}
	if s.node == nil && m.nodeName != "" && m.failure == nil && m.going.IsZero() {
		n := w.nodes.get(m.nodeName)
		s.nodeGone = n == nil || n.providerID != m.providerID
	}
	return s
}

// nodeOf is the node of a machine, from the provider's cache: the provider id, and the name where it is recorded, agree.
func (l *machineLoop) nodeOf(id, name string) *nodeObject {
	if id == "" {
		return nil
	}
	for _, n := range l.world.nodes.caches[providerCache].items {
		if n.providerID == id && (name == "" || name == n.name) {
			return n
		}
	}
	return nil
}

// next is the status of a machine as of now; due is when to look again. A failure is final.
func (l *machineLoop) next(m *machineObject, s *seen) (next machineObject, due time.Time) {
	w := l.world
	next = *m
	if !m.going.IsZero() {
		return next, due
	}
	failed := func(class v1alpha1.FailureClass, code, format string, args ...any) {
		if next.failure == nil {
			next.failure = &nodegroup.Failure{At: w.now, Class: class, Code: code, Message: fmt.Sprintf(format, args...)}
		}
	}
	if o := s.outcome; o != nil && next.failure == nil {
		switch {
		case o.outOfStock != "":
			failed(v1alpha1.FailureOutOfResources, "OutOfStock", "%s", o.outOfStock)
		case o.throttled > 0:
			next.throttled = "RequestLimitExceeded"
		default:
			next.launched, next.throttled = true, ""
			if next.providerID == "" {
				next.providerID = o.providerID
			}
		}
	}
	if i := s.instance; i != nil && next.failure == nil {
		next.launched, next.throttled = true, ""
		if next.providerID == "" {
			next.providerID = i.providerID
		}
		next.leavingAt, next.failure = i.leavingAt, i.failure
	}
	if n := s.node; n != nil && next.failure == nil {
		if next.nodeName == "" && w.now.Sub(n.createdAt) < registersWithin && !n.ready {
			due = n.createdAt.Add(registersWithin)
		}
		next.providerID, next.nodeName, next.launched = n.providerID, n.name, true
	}
	ready := s.node != nil && s.node.ready
	if !s.absentSince.IsZero() && !ready && next.launched && next.failure == nil {
		if until := s.absentSince.Add(consistency + w.cloud.settings(m.pool).lag); s.listed.Before(until) {
			due = until
		} else {
			w.ledger.counts["machines vanished"]++
			failed(v1alpha1.FailureOther, "Vanished", "the cloud has not listed the machine for %s", w.now.Sub(s.absentSince).Round(time.Second))
		}
	}
	switch {
	case !s.nodeGone:
	case !next.leavingAt.IsZero():
		failed(v1alpha1.FailureOther, "TakenAway", "the cloud has taken the machine away, as it had announced")
	default:
		failed(v1alpha1.FailureOther, "NodeDeleted", "node %s was deleted, and not by the provider; the machine is ended", m.nodeName)
	}
	return next, due
}

// adopt takes the taint off a node that kept pods away until now, and makes it say that it is ours to release.
func (l *machineLoop) adopt(m *machineObject, s *seen) {
	n, w := s.node, l.world
	if n == nil || m.failure != nil || !m.going.IsZero() || (m.nodeName != "" && m.nodeName != n.name) {
		return
	}
	reserves := m.purpose == v1alpha1.PurposeReservation
	if key := "adopt/" + n.name; (n.starting || (reserves && !n.reserved)) && !l.busy[key] {
		l.busy[key] = true
		l.later(w.draw(w.write), func() {
			delete(l.busy, key)
			if now := w.nodes.get(n.name); now != nil && now.version == n.version {
				w.editNode(n.name, func(n *nodeObject) { n.starting, n.reserved = false, n.reserved || reserves })
			}
		})
	}
}
