package simulation

import (
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// instances are those that the provider lists of a group.
func (a *autoscaler) instances(pool string) []nodegroup.Instance {
	return a.world.provider.bare(a.world.provider.recent(pool), false).Instances(a.world.now)
}

// noteFailures backs a group off for machines that newly failed while it is scaled up, and deletes all that have.
func (a *autoscaler) noteFailures(pool string) {
	var names []string
	news := int32(0)
	for _, i := range a.instances(pool) {
		if i.Failure == nil || i.State != nodegroup.InstanceCreating {
			continue
		}
		names = append(names, i.ProviderID)
		if !a.failed[i.ProviderID] {
			a.failed[i.ProviderID] = true
			news++
		}
	}
	if len(names) == 0 {
		return
	}
	if s := a.scaleUps[pool]; s != nil && news > 0 {
		s.increase -= news
		if s.increase <= 0 {
			delete(a.scaleUps, pool)
		}
		a.backOff(pool)
	}
	a.deleteNodes(pool, "which failed", names...)
}

// readiness counts the nodes of a group: those that are Ready, and those that were and are not.
func (a *autoscaler) readiness(pool string) (ready, unready int32) {
	for _, n := range a.world.nodes.live.items {
		switch {
		case n.pool != pool || n.tainted:
		case n.ready:
			ready++
		case a.world.now.Sub(n.createdAt) > a.world.settings.autoscaler.provisionTime:
			unready++
		}
	}
	return ready, unready
}

// upcoming is how many nodes of a group are yet to become Ready.
func (a *autoscaler) upcoming(pool string) int32 {
	ready, unready := a.readiness(pool)
	return max(0, a.targets[pool]-ready-unready)
}

// reviewScaleUp ends a request whose machines have come, or asks all of it back when they take too long.
func (a *autoscaler) reviewScaleUp(pool string) {
	s := a.scaleUps[pool]
	switch {
	case s == nil:
	case a.upcoming(pool) == 0:
		delete(a.scaleUps, pool)
	case a.world.now.After(s.expected):
		a.world.tell("CA", "the scale-up of %s took too long", pool)
		a.backOff(pool)
		a.decrease(pool, s.increase)
		delete(a.scaleUps, pool)
	}
}

func (a *autoscaler) decrease(pool string, delta int32) {
	_ = a.change(pool, true, func(g *nodegroup.Group, p *poolObject) error {
		target, err := g.DecreaseTargetSize(-delta)
		if err != nil {
			return err
		}
		a.world.tell("CA", "DecreaseTargetSize of %s by %d: target %d -> %d", pool, delta, p.target, target)
		p.target, p.forMembers = target, min(p.forMembers, target)
		return nil
	})
}

// removeLate deletes machines that have not registered in time, and not those that the minimum size calls for.
func (a *autoscaler) removeLate(pool string) {
	w := a.world
	var late []string
	known := map[string]bool{}
	for _, i := range a.instances(pool) {
		if i.State != nodegroup.InstanceCreating || i.Failure != nil || w.nodeWithID(i.ProviderID) != nil {
			continue
		}
		known[i.ProviderID] = true
		if a.unregistered[i.ProviderID].IsZero() {
			a.unregistered[i.ProviderID] = w.now
		}
		if w.now.Sub(a.unregistered[i.ProviderID]) > w.settings.autoscaler.provisionTime {
			late = append(late, i.ProviderID)
		}
	}
	possible := int(a.targets[pool] - a.least[pool])
	if late = late[:max(0, min(len(late), possible))]; len(late) > 0 {
		a.deleteNodes(pool, "which never registered", late...)
	}
}

// countInstances is what it counts of a group: the nodes that have registered, and the instances that have not, have no error and are not
// being deleted.
func countInstances(w *world, instances []nodegroup.Instance) int32 {
	count := int32(0)
	for _, i := range instances {
		comes := i.State == nodegroup.InstanceCreating && i.Failure == nil
		if comes || i.State == nodegroup.InstanceRunning || w.nodeWithID(i.ProviderID) != nil {
			count++
		}
	}
	return count
}

// sizesRight asks the difference back of each group that has counted less than its target for long. What cannot be set right ends
// the loop, of all groups: that must not last.
func (a *autoscaler) sizesRight() bool {
	w := a.world
	for _, pool := range w.pools.caches[providerCache].items {
		delta := a.targets[pool.name] - countInstances(w, a.instances(pool.name))
		if delta <= 0 {
			delete(a.wrong, pool.name)
			continue
		}
		if a.wrong[pool.name].IsZero() {
			a.wrong[pool.name] = w.now
		}
		if w.now.Sub(a.wrong[pool.name]) < w.settings.autoscaler.provisionTime {
			continue
		}
		w.ledger.counts["sizes fixed"]++
		before := w.pools.get(pool.name).target
		a.decrease(pool.name, delta)
		w.promise(w.pools.get(pool.name).target < before || w.now.Sub(a.wrong[pool.name]) < w.settings.autoscaler.provisionTime+time.Minute,
			"Cluster Autoscaler asks %d of %s back, and does nothing else any more, for no group", delta, pool.name)
		return false
	}
	return true
}

// enforceMinSizes raises each group to the minimum size that the provider told in this loop.
func (a *autoscaler) enforceMinSizes() {
	for _, pool := range a.world.pools.live.items {
		if least := a.least[pool.name]; a.targets[pool.name] < least && !a.backedOff(pool.name) {
			a.increase(pool.name, least-a.targets[pool.name], "to the floor")
		}
	}
}
