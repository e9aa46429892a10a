package simulation

import (
	"cmp"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// vouchAfter is how old a node is before the lack of a machine that is this node means that it is a stranger, as in package resize.
const vouchAfter = 30 * time.Second

// place says what a node with the label of a pool counts as: a node of that pool where a record vouches for it, else one of no pool.
// Until the provider had the time to say so it counts as not there, and false is returned. One that a member holds is on its way out.
func (c *controller) place(n *nodeObject, node *plan.Node) bool {
	w := c.world
	if m := c.machineOf(n); m != nil {
		if m.leaves() {
			node.Leaving, node.Releasing = true, false
		}
		if node.Departure = departureOf(m); node.Departure != nil {
			node.Departure.Told = slices.ContainsFunc(w.members.caches[c.reads].items, func(o *memberObject) bool {
				return holds(o, n.name) && slices.Contains(o.departing, n.name)
			})
		}
		return true
	}
	if slices.ContainsFunc(w.members.caches[c.reads].items, func(o *memberObject) bool { return holds(o, n.name) }) {
		node.Leaving, node.Releasing = true, false
		return true
	}
	if due := n.createdAt.Add(vouchAfter); w.now.Before(due) {
		c.next = sooner(c.next, due)
		return false
	}
	w.ledger.counts["strangers"]++
	node.Pool = ""
	return true
}

// machineOf is the record that has a node's name and its provider id, one that stays before others; nil for none.
func (c *controller) machineOf(n *nodeObject) *machineObject {
	var found *machineObject
	for _, m := range c.world.machines.caches[c.reads].items {
		if m.nodeName == n.name && m.providerID == n.providerID && m.pool == n.pool && (found == nil || found.leaves()) {
			found = m
		}
	}
	return found
}

// leaves reports whether a machine goes or is gone.
func (m *machineObject) leaves() bool {
	return !m.going.IsZero() || !m.leavingAt.IsZero() || m.failure != nil
}

func departureOf(m *machineObject) *plan.Departure {
	switch {
	case m.failure != nil:
		return &plan.Departure{Failure: cmp.Or(m.failure.Message, "the cloud does not say how")}
	case !m.leavingAt.IsZero():
		return &plan.Departure{At: m.leavingAt}
	default:
		return nil
	}
}

// sooner is the earlier of two times, of which a zero one means never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
