package simulation

import (
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// mishap lets something happen to a machine that its pool has a role for.
func (w *world) mishap() {
	pool := &w.settings.pools[w.rand.IntN(len(w.settings.pools))]
	var nodes []*nodeObject
	for _, n := range w.nodes.live.items {
		if n.pool == pool.name {
			nodes = append(nodes, n)
		}
	}
	if len(nodes) == 0 {
		return
	}
	n := nodes[w.rand.IntN(len(nodes))]
	switch {
	case pool.crashes && w.chance(70):
		w.cloud.crash(n)
	case pool.spot && w.chance(70):
		w.cloud.notice(n, w.draw(span{10 * time.Second, 2 * time.Minute}).Truncate(time.Second))
	case pool.meddled:
		w.meddle(pool.name, n)
	case pool.orphans:
		w.orphan(pool.name, n)
	}
}

// meddle is a person who deletes a node, or a record, or pauses a pool for a while.
func (w *world) meddle(pool string, n *nodeObject) {
	switch w.rand.IntN(4) {
	case 0:
		w.deleteNode(n)
	case 1, 2:
		for _, m := range w.machines.live.items {
			if m.pool == pool && m.going.IsZero() && w.chance(50) {
				w.tell("user", "the record of machine %s is deleted", m.name)
				w.ledger.counts["records deleted"]++
				w.ledger.taken[m.name] = true
				w.deleteRecord(m.name)
				return
			}
		}
	case 3:
		w.pause(pool, true)
		w.after(w.draw(span{10 * time.Second, 20 * time.Minute}), func() { w.pause(pool, false) })
	}
}

// deleteNode is somebody who deletes a Node.
func (w *world) deleteNode(n *nodeObject) {
	w.tell("user", "node %s is deleted", n.name)
	w.ledger.counts["nodes deleted"]++
	w.ledger.taken[w.machineOf(n)] = true
	w.removeNode(n.name)
	if i := w.cloud.of("", n.providerID); i != nil && w.cloud.settings(i.pool).follows {
		w.after(w.draw(span{time.Second, 5 * time.Second}), func() { w.cloud.remove(i.name) })
	}
}

// pause changes whether a pool is paused.
func (w *world) pause(pool string, paused bool) {
	if p := w.pools.get(pool); p.paused != paused {
		w.tell("user", "NodePool %s: paused is %t", pool, paused)
		w.ledger.counts["pools paused"]++
		w.pools.update(pool, func(p *poolObject) { p.paused = paused })
	}
}

// orphan loses the record of a node, as somebody does who takes a finalizer off, or makes an instance that nobody has ordered.
func (w *world) orphan(pool string, n *nodeObject) {
	if w.chance(50) {
		w.tell("cloud", "%s: makes an instance that nobody has ordered", pool)
		w.cloud.make(pool, "", "", true)
		return
	}
	name := w.machineOf(n)
	if w.machines.get(name) == nil || nodegroup.Number(pool, name) < 0 {
		return
	}
	w.tell("user", "the record of machine %s is gone by force", name)
	w.ledger.counts["records lost"]++
	w.ledger.taken[name] = true
	w.machines.remove(name)
}
