package simulation

import (
	"slices"
	"strings"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// autoscaler is Cluster Autoscaler as far as it matters here: a loop that deletes failed machines, gives up on late ones,
// orders nodes for pods that have none, removes nodes that nobody needs, and raises groups to their minimum size. What it
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
	// unregistered is since when instances are known that have no node, wrong since when a group counts less than its target.
	unregistered, wrong map[string]time.Time
	lastAdd             time.Time
	// least, most and targets have the sizes that the provider told in this loop.
	least, most, targets map[string]int32
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
	a.unregistered, a.wrong, a.lastAdd = map[string]time.Time{}, map[string]time.Time{}, time.Time{}
	a.least, a.most, a.targets = map[string]int32{}, map[string]int32{}, map[string]int32{}
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
	a.askSizes()
	for _, pool := range a.world.pools.caches[providerCache].items {
		a.noteFailures(pool.name)
		a.reviewScaleUp(pool.name)
		a.removeLate(pool.name)
	}
	for _, pool := range a.world.pools.caches[providerCache].items {
		a.askTarget(pool.name)
	}
	if !a.sizesRight() {
		return
	}
	if !a.scaleUpForPods() {
		a.scaleDown()
	}
	a.finishDeletions()
	if a.world.settings.autoscaler.enforceMinSize {
		a.enforceMinSizes()
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

// askSizes asks the provider, which notes what it has told a little later.
func (a *autoscaler) askSizes() {
	w := a.world
	for _, pool := range w.pools.caches[providerCache].items {
		group := groupOf(w.provider.recent(pool.name))
		least := group.MinSizeToTell()
		a.least[pool.name], a.most[pool.name], w.provider.told[pool.name] = least, group.MaxSizeToTell(), least
		a.askTarget(pool.name)
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

// askTarget asks for the target size of a group. The provider notes what it has told.
func (a *autoscaler) askTarget(pool string) {
	a.targets[pool] = a.world.provider.recent(pool).target
	a.world.provider.believed[pool] = a.targets[pool]
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
		w.provider.answers[pool] = w.pools.write(&changed)
	}
	return nil
}

// increase orders machines.
func (a *autoscaler) increase(pool string, delta int32, why string) {
	w := a.world
	believed, is := w.provider.believed[pool]
	if !is {
		believed = -1
	}
	err := a.change(pool, false, func(g *nodegroup.Group, p *poolObject) (err error) {
		before := p.target
		if least, told := w.provider.told[pool]; told {
			g.AnnouncedFloor = least
		}
		target, forMembers, err := g.IncreaseSize(delta, believed)
		if err != nil || target == before {
			return err
		}
		p.target, p.forMembers = target, forMembers
		w.tell("CA", "IncreaseSize of %s by %d: target %d -> %d, %s", pool, delta, before, p.target, why)
		w.promise(target <= max(before, a.targets[pool]+delta), "Cluster Autoscaler believed that %s has %d, asked for %d more, and %d became %d",
			pool, a.targets[pool], delta, before, target)
		return nil
	})
	if err != nil {
		a.backOff(pool)
		return
	}
	a.targets[pool] += delta
	w.provider.believed[pool] += delta
	s := a.scaleUps[pool]
	if s == nil {
		s = &scaleUp{}
		a.scaleUps[pool] = s
	}
	s.increase += delta
	s.expected = w.now.Add(w.settings.autoscaler.provisionTime)
	a.lastAdd = w.now
	if w.replicas && w.chance(50) {
		a.askTarget(pool)
	}
}

// deleteNodes deletes machines by the ids that it was told, and reports whether the provider did not refuse.
func (a *autoscaler) deleteNodes(pool, why string, ids ...string) bool {
	w := a.world
	return a.change(pool, true, func(g *nodegroup.Group, p *poolObject) error {
		victims, target, err := g.DeleteNodes(w.provider.asked(g, ids))
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
