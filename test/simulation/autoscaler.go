package simulation

import (
	"slices"
	"strings"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// autoscaler is Cluster Autoscaler as far as it matters here: a loop that deletes failed machines, gives up on late ones,
// orders nodes for pods that have none, removes nodes that nobody needs, and raises groups to their least size. What it
// remembers from loop to loop is lost when it is killed.
type autoscaler struct {
	world *world
	up    bool
	life  int

	started   bool
	scaleUps  map[string]*scaleUp
	backoffs  map[string]*backoff
	failed    map[string]bool
	unneeded  map[string]time.Time
	deletions map[string]time.Time
	lateSince map[string]time.Time
	lastAdd   time.Time
	// least has the least sizes that the provider told in this loop.
	least map[string]int32
}

// scaleUp is a request for machines that have not all come.
type scaleUp struct {
	increase int32
	expected time.Time
}

// backoff leaves a group alone for a while.
type backoff struct {
	until, failedAt time.Time
	lasts           time.Duration
}

func newAutoscaler(w *world) *autoscaler { return &autoscaler{world: w} }

func (a *autoscaler) start() {
	a.up, a.started = true, false
	a.life++
	a.scaleUps, a.backoffs = map[string]*scaleUp{}, map[string]*backoff{}
	a.failed, a.unneeded, a.deletions = map[string]bool{}, map[string]time.Time{}, map[string]time.Time{}
	a.lateSince, a.least, a.lastAdd = map[string]time.Time{}, map[string]int32{}, time.Time{}
	life := a.life
	var loop func()
	loop = func() {
		if a.life != life {
			return
		}
		if a.world.provider.up {
			a.loop()
		}
		a.world.after(a.world.settings.autoscaler.scanInterval, loop)
	}
	a.world.after(a.world.draw(span{0, a.world.settings.autoscaler.scanInterval}), loop)
}

func (a *autoscaler) kill() {
	a.up = false
	a.life++
}

// loop is one scan. Without the provider there is none.
func (a *autoscaler) loop() {
	if !a.started {
		a.started = true
		a.takeTaintsOff()
	}
	a.askLeastSizes()
	for _, pool := range a.world.pools.caches[providerCache].items {
		a.noteFailures(pool.name)
		a.reviewScaleUp(pool.name)
		a.removeLate(pool.name)
	}
	if !a.scaleUpForPods() {
		a.scaleDown()
	}
	a.finishDeletions()
	if a.world.settings.autoscaler.enforceMinSize {
		a.enforceLeastSizes()
	}
}

// takeTaintsOff is what a Cluster Autoscaler that starts does: it takes all taints for deletion for leftovers of its own.
func (a *autoscaler) takeTaintsOff() {
	for _, n := range a.world.nodes.live.items {
		if n.tainted && n.pool != "" {
			a.setTaint(n.name, false)
			a.world.ledger.exposed(n)
			a.world.tell("CA", "started; took the taint for deletion off %s", n.name)
		}
	}
}

func (a *autoscaler) setTaint(node string, tainted bool) {
	a.world.editNode(node, func(n *nodeObject) { n.tainted, n.ours = tainted, false })
}

// askLeastSizes asks the provider, which notes what it has told a little later.
func (a *autoscaler) askLeastSizes() {
	w := a.world
	for _, pool := range w.pools.caches[providerCache].items {
		least := groupOf(pool).MinSizeToTell()
		a.least[pool.name], w.provider.told[pool.name] = least, least
		if pool.announced == least {
			continue
		}
		name, life := pool.name, w.provider.life
		w.after(w.draw(w.write), func() {
			if w.provider.life == life {
				w.pools.update(name, func(p *poolObject) { p.announced = least })
			}
		})
	}
}

// change writes what a request leads to into the newest NodePool, as the provider does: it repeats a write that is refused.
func (a *autoscaler) change(pool string, live bool, edit func(*nodegroup.Group, *poolObject) error) error {
	w := a.world
	now := w.pools.get(pool)
	group := w.provider.bare(now, live)
	changed := *now
	if err := edit(group, &changed); err != nil {
		w.tell("provider", "refused: %v", err)
		return err
	}
	if changed.target != now.target || len(changed.toDelete) != len(now.toDelete) {
		w.pools.write(&changed)
	}
	return nil
}

// increase orders machines.
func (a *autoscaler) increase(pool string, delta int32, why string) {
	w := a.world
	err := a.change(pool, false, func(g *nodegroup.Group, p *poolObject) (err error) {
		before := p.target
		if least, told := w.provider.told[pool]; told {
			g.AnnouncedFloor = least
		}
		p.target, p.forMembers, err = g.IncreaseSize(delta)
		if err == nil {
			w.tell("CA", "IncreaseSize of %s by %d: target %d -> %d, %s", pool, delta, before, p.target, why)
		}
		return err
	})
	if err != nil {
		a.backOff(pool)
		return
	}
	s := a.scaleUps[pool]
	if s == nil {
		s = &scaleUp{}
		a.scaleUps[pool] = s
	}
	s.increase += delta
	s.expected = w.now.Add(w.settings.autoscaler.provisionTime)
	a.lastAdd = w.now
}

// deleteNodes deletes machines, and reports whether the provider did not refuse.
func (a *autoscaler) deleteNodes(pool, why string, names ...string) bool {
	w := a.world
	return a.change(pool, true, func(g *nodegroup.Group, p *poolObject) error {
		victims, target, err := g.DeleteNodes(names)
		if err != nil || len(victims) == 0 {
			return err
		}
		w.tell("CA", "DeleteNodes of %s: target %d -> %d, %s, %s", pool, p.target, target, strings.Join(victims, ", "), why)
		w.ledger.released(victims)
		p.target, p.forMembers = target, min(p.forMembers, target)
		p.toDelete = slices.Concat(p.toDelete, victims)
		return nil
	}) == nil
}

// backOff leaves a group alone, twice as long as after the failure before.
func (a *autoscaler) backOff(pool string) {
	w, s := a.world, &a.world.settings.autoscaler
	lasts := s.initialBackoff
	if b := a.backoffs[pool]; b != nil {
		switch {
		case b.until.After(w.now):
			lasts = b.lasts
		case b.failedAt.Add(s.backReset).After(w.now):
			lasts = min(2*b.lasts, s.longestBackoff)
		}
	}
	a.backoffs[pool] = &backoff{until: w.now.Add(lasts), failedAt: w.now, lasts: lasts}
	w.tell("CA", "leaves %s alone for %s", pool, lasts)
}

func (a *autoscaler) backedOff(pool string) bool {
	b := a.backoffs[pool]
	return b != nil && b.until.After(a.world.now)
}

// noteFailures backs a group off for machines that newly failed while it is scaled up, and deletes all that have.
func (a *autoscaler) noteFailures(pool string) {
	w := a.world
	group := w.provider.bare(w.pools.caches[providerCache].get(pool), false)
	var names []string
	news := int32(0)
	for _, i := range group.Instances(w.now, idOf(pool)) {
		if i.Failure == nil || i.State != nodegroup.InstanceCreating {
			continue
		}
		name := nameOf(i.ProviderID)
		names = append(names, name)
		if !a.failed[name] {
			a.failed[name] = true
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
	return max(0, a.world.pools.get(pool).target-ready-unready)
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

// removeLate deletes machines that have not registered in time, and not those that the least size calls for.
func (a *autoscaler) removeLate(pool string) {
	w := a.world
	var late []string
	for _, m := range w.machines.caches[providerCache].items {
		if m.pool == pool && !m.registered && m.failure == nil && !m.going && w.now.Sub(m.orderedAt) > w.settings.autoscaler.provisionTime {
			late = append(late, m.name)
		}
	}
	possible := int(w.pools.get(pool).target - a.least[pool])
	if late = late[:max(0, min(len(late), possible))]; len(late) > 0 {
		a.deleteNodes(pool, "which never registered", late...)
	}
}

// enforceLeastSizes raises each group to the least size that the provider told in this loop.
func (a *autoscaler) enforceLeastSizes() {
	for _, pool := range a.world.pools.live.items {
		if least := a.least[pool.name]; pool.target < least && !a.backedOff(pool.name) {
			a.increase(pool.name, least-pool.target, "to the floor")
		}
	}
}
