package simulation

import (
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// listing is what a cloud has of a pool, as it was last listed.
type listing struct {
	begun     time.Time
	instances map[string]*instance
	// absent is since when machines that were launched are in no listing.
	absent map[string]time.Time
}

// listSoon lists the instances of a pool in a moment.
func (l *machineLoop) listSoon(pool string) {
	if l.world.provider.up {
		l.listers[pool].in(50 * time.Millisecond)
	}
}

// list lists the instances of a pool. What it brings is as old as the listings of its cloud are behind.
func (l *machineLoop) list(pool string) {
	w, s := l.world, l.world.cloud.settings(pool)
	all := l.snapshot(pool)
	l.later(s.lag+w.draw(span{5 * time.Millisecond, 30 * time.Millisecond}), func() { l.put(pool, all) })
	poll := time.Minute
	if !s.plain() {
		poll = 5 * time.Second
	}
	l.listers[pool].in(poll)
}

// snapshot are the instances of a pool.
func (l *machineLoop) snapshot(pool string) []*instance {
	var all []*instance
	for _, i := range l.world.cloud.instances.items {
		if i.pool == pool {
			all = append(all, i)
		}
	}
	return all
}

// put keeps a listing.
func (l *machineLoop) put(pool string, all []*instance) {
	w, of := l.world, l.listings[pool]
	of.begun, of.instances = w.now, map[string]*instance{}
	for _, i := range all {
		name := i.machine
		for _, m := range w.machines.caches[providerCache].items {
			if m.providerID != "" && m.providerID == i.providerID {
				name = m.name
			}
		}
		if name != "" {
			of.instances[name] = i
		}
	}
	absent := map[string]time.Time{}
	for _, m := range w.machines.caches[providerCache].items {
		if m.pool != pool || !m.launched || m.failure != nil || of.instances[m.name] != nil {
			continue
		}
		absent[m.name] = of.absent[m.name]
		if absent[m.name].IsZero() {
			absent[m.name] = w.now
		}
	}
	of.absent = absent
	l.alarm.in(0)
}

// sweep looks for instances that no record tells of. The first sweep after a start only tells.
func (l *machineLoop) sweep() {
	w, tells := l.world, !l.swept
	l.swept = true
	for _, i := range slices.Clone(w.cloud.instances.items) {
		if i.going || w.now.Sub(i.createdAt) < consistency || l.known(i) {
			continue
		}
		w.tell("sweep", "the cloud has %s, which no record tells of", i.name)
		if tells {
			continue
		}
		if n := w.nodeWithID(i.providerID); n != nil {
			// One after the other: each has to see the record of the one before.
			l.takeIn(i, n)
			l.later(time.Second, l.sweep)
			return
		}
		w.ledger.counts["orphans ended"]++
		w.cloud.terminate(i.machine, i.providerID)
	}
	l.later(sweepEvery, l.sweep)
}

// known reports whether a record tells of an instance.
func (l *machineLoop) known(i *instance) bool {
	return slices.ContainsFunc(l.world.machines.live.items, func(m *machineObject) bool {
		return (i.providerID != "" && m.providerID == i.providerID) || (i.providerID != "" && m.adopted == i.providerID) ||
			(m.name == i.machine && (m.providerID == "" || i.providerID == "" || m.providerID == i.providerID))
	})
}

func (w *world) nodeWithID(id string) *nodeObject {
	for _, n := range w.nodes.live.items {
		if id != "" && n.providerID == id {
			return n
		}
	}
	return nil
}

// takeIn makes a record of an instance that has a node. Its number is claimed first.
func (l *machineLoop) takeIn(i *instance, n *nodeObject) {
	w := l.world
	number := w.pools.get(i.pool).ordered
	w.pools.update(i.pool, func(p *poolObject) {
		p.ordered = number + 1
		// What the target does not count nobody takes away, once Cluster Autoscaler has brought it down to the minimum size.
		if live := w.liveRecords(p); live+1 > p.target && p.target < p.maxSize {
			p.target++
			w.ledger.forPods[i.pool]++
		} else if live+1 > p.target {
			w.ledger.beyond[i.pool] = true
		}
	})
	l.later(w.draw(w.write), func() {
		name := nodegroup.MachineName(i.pool, number)
		w.promise(w.machines.get(name) == nil && !w.ledger.recordedEver[name], "machine %s is adopted by a name that another had", name)
		w.ledger.recordedEver[name], w.ledger.taken[name] = true, true
		w.ledger.counts["orphans adopted"]++
		m := &machineObject{
			meta: meta{name: name}, pool: i.pool, purpose: v1alpha1.PurposeAutoscaler, orderedAt: i.createdAt, adopted: i.providerID,
			order: v1alpha1.MachineOrder{ID: adoptedOrder, Size: 1, First: number, Last: number},
		}
		if n.reserved {
			m.purpose = v1alpha1.PurposeReservation
		}
		w.machines.create(m)
		w.tell("sweep", "%s is adopted as machine %s", n.name, name)
	})
}
