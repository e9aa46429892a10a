package simulation

import (
	"slices"
	"time"
)

// newPodTime is how old a pod has to be before a node is ordered for it.
const newPodTime = 2 * time.Second

// scaleUpForPods orders nodes of one group for pods that have none, and reports whether it did.
func (a *autoscaler) scaleUpForPods() bool {
	w := a.world
	wanting := map[string]int64{}
	for _, p := range w.pods.live.items {
		if p.node != "" || p.deleting || p.succeeded || w.now.Sub(p.createdAt) < newPodTime || (p.member != "" && w.ignoresMembers) || p.waits() {
			// No new node would have the name that a released pod is bound to.
			continue
		}
		if pool := a.choose(p); pool != "" {
			wanting[pool] += nodesWorth(p.cpu)
		}
	}
	for _, pool := range w.pools.live.items {
		// Amounts are in nodes over sixty, which each share of a node divides.
		nodes := int32((wanting[pool.name] + 59) / 60)
		if a.scaleUps[pool.name] != nil {
			nodes -= a.upcoming(pool.name)
		}
		if nodes = min(nodes, a.most[pool.name]-a.targets[pool.name]); nodes > 0 {
			w.ledger.forPods[pool.name] += nodes
			a.increase(pool.name, nodes, "for pods without a node")
			return true
		}
	}
	return false
}

// nodesWorth is the part of a node that a pod takes, in sixtieths.
func nodesWorth(cpu int64) int64 { return 60 / max(1, nodeCPU/cpu) }

// choose is the first group of a pod's list that could have a node for it.
func (a *autoscaler) choose(p *podObject) string {
	for _, name := range p.pools {
		pool := a.world.pools.get(name)
		if pool != nil && a.world.fitsNew(p, pool) && !a.backedOff(name) && (a.targets[name] < a.most[name] || a.upcoming(name) > 0) {
			return name
		}
	}
	return ""
}

// scaleDown finds the nodes that nobody needs, and taints those of which that has been so for long enough.
func (a *autoscaler) scaleDown() {
	w, s := a.world, &a.world.settings.autoscaler
	used := map[string]bool{}
	for _, p := range w.pods.live.items {
		used[p.node] = used[p.node] || p.daemon == ""
	}
	unneeded := map[string]time.Time{}
	for _, n := range w.nodes.live.items {
		if n.pool == "" || n.tainted || n.scaleDownDisabled || used[n.name] || (!n.ready && w.now.Sub(n.createdAt) < s.provisionTime) {
			continue
		}
		since, known := a.unneeded[n.name]
		if !known {
			since = w.now
		}
		unneeded[n.name] = since
	}
	a.unneeded = unneeded
	if w.now.Sub(a.lastAdd) < s.delayAfterAdd && !a.lastAdd.IsZero() {
		return
	}
	for _, n := range w.nodes.live.items {
		since, is := unneeded[n.name]
		if !is || w.now.Sub(since) < s.unneededTime {
			continue
		}
		if a.targets[n.pool]-a.going(n.pool) <= a.least[n.pool] || !a.knows(n) {
			continue
		}
		w.tell("CA", "%s is not needed since %s; it is tainted", n.name, relative(since))
		a.setTaint(n.name, true)
		a.deletions[n.name] = w.now.Add(s.deleteDelayAfterTaint)
	}
}

// knows reports whether the provider says that a node is of a group.
func (a *autoscaler) knows(n *nodeObject) bool {
	return slices.ContainsFunc(a.world.machines.caches[providerCache].items,
		func(m *machineObject) bool { return m.providerID == n.providerID })
}

// going is the number of nodes of a group that it is about to delete.
func (a *autoscaler) going(pool string) int32 {
	count := int32(0)
	for name := range a.deletions {
		if n := a.world.nodes.get(name); n != nil && n.pool == pool {
			count++
		}
	}
	return count
}

// finishDeletions deletes the nodes that were tainted a while ago and are still empty; others lose the taint.
func (a *autoscaler) finishDeletions() {
	w := a.world
	for _, n := range slices.Clone(w.nodes.live.items) {
		due, is := a.deletions[n.name]
		if !is || w.now.Before(due) {
			continue
		}
		delete(a.deletions, n.name)
		if w.podsOn(n.name) > 0 || !a.deleteNodes(n.pool, "which nobody needs", n.providerID) {
			a.setTaint(n.name, false)
		}
	}
	for name := range a.deletions {
		if w.nodes.get(name) == nil {
			delete(a.deletions, name)
		}
	}
}
