package simulation

import (
	"slices"
	"strings"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// release is a pass over one pool on its way through its writes, in the order of package pool. A write that is refused
// ends the pass.
type release struct {
	*provider
	// of is the life of the process that the pass belongs to.
	of        int
	pool      *poolObject
	group     *nodegroup.Group
	decisions *nodegroup.Decisions
	planned   time.Time
	steps     []func() bool
	// may has what the API server itself, and not the cache, says may go.
	may, retire []string
}

// proceed makes the next step that has something to do; each takes the time of a write.
func (a *release) proceed() {
	if len(a.steps) == 0 {
		a.finished(a.pool.name, true, a.decisions.Next)
		return
	}
	delay := time.Duration(0)
	if !a.idle() {
		delay = a.world.draw(a.world.write)
	}
	step := a.steps[0]
	a.steps = a.steps[1:]
	if delay == 0 {
		a.take(step)
		return
	}
	a.world.after(delay, func() {
		if a.life == a.of {
			a.take(step)
		}
	})
}

func (a *release) take(step func() bool) {
	if !step() {
		a.finished(a.pool.name, false, time.Time{})
		return
	}
	a.proceed()
}

// idle reports whether the pass has nothing left to write.
func (a *release) idle() bool {
	d := a.decisions
	return a.statusStays() && len(d.Marks)+len(d.Release)+len(d.Retire)+len(d.Gone)+len(d.Delete)+len(d.Cancel)+len(d.Order) == 0 && d.GiveUp == 0
}

func (a *release) statusStays() bool {
	d := a.decisions
	return a.pool.floor == d.Floor && a.pool.orderedFrom == d.OrderedFrom && slices.Equal(a.pool.failed, d.Failed) && d.LastFailure == nil
}

// write changes the NodePool if it is still the version that was planned with.
func (a *release) write(edit func(*poolObject)) bool {
	written := a.world.pools.updateFrom(a.pool, edit)
	if written == nil {
		return false
	}
	a.pool, a.written[written.name] = written, written.version
	return true
}

func (a *release) recordStatus() bool {
	if a.statusStays() {
		return true
	}
	d, w := a.decisions, a.world
	before := a.pool.floor
	if !a.write(func(p *poolObject) {
		if p.floor != d.Floor {
			p.floor, p.floorChangedAt = d.Floor, w.now
		}
		p.orderedFrom, p.failed = d.OrderedFrom, d.Failed
		if d.LastFailure != nil {
			p.lastFailure = d.LastFailure
		}
	}) {
		return false
	}
	if before != d.Floor {
		w.tell("provider", "%s: floor %d -> %d", a.pool.name, before, d.Floor)
	}
	if len(d.NewlyFailed) > 0 {
		w.tell("provider", "%s: noted that %s failed (%s)", a.pool.name, strings.Join(d.NewlyFailed, ", "), d.LastFailure.Code)
	}
	return true
}

func (a *release) mark() bool {
	whole := true
	for i := range a.decisions.Marks {
		m := &a.decisions.Marks[i]
		seen := a.world.nodes.caches[providerCache].get(m.Node)
		if seen == nil || a.world.nodes.get(m.Node) == nil {
			continue
		}
		tainted := m.Releasing && !seen.ours
		if a.world.nodes.get(m.Node).version != seen.version {
			whole = false
			continue
		}
		a.world.editNode(m.Node, func(n *nodeObject) { markNode(n, m) })
		a.world.tell("provider", "%s: %s", m.Node, m.Why)
		if tainted {
			a.world.checkTaint(m.Node, a.planned)
		}
	}
	return whole
}

func markNode(n *nodeObject, m *nodegroup.Mark) {
	if (n.heldBy != "") != (m.HeldBy != "") {
		n.scaleDownDisabled = m.HeldBy != ""
	}
	n.heldBy, n.reserved = m.HeldBy, n.reserved || m.Reserved
	n.releasing = m.Releasing
	if n.ours != m.Releasing {
		n.tainted, n.ours = m.Releasing, m.Releasing
	}
}

// look asks the API server which of the nodes to release may go.
func (a *release) look() bool {
	may := func(name string) bool { return a.mayGo(name) }
	a.may = filter(a.decisions.Release, may)
	a.retire = filter(a.decisions.Retire, may)
	return true
}

func (a *release) mayGo(name string) bool {
	w := a.world
	for _, m := range w.members.live.items {
		if holds(m, name) {
			return false
		}
	}
	n := w.nodes.get(name)
	if n == nil {
		return true
	}
	registered := slices.ContainsFunc(a.group.Machines, func(m nodegroup.Machine) bool { return m.Name == name && m.Node != nil })
	return registered && n.ours && w.podsOn(name) == 0
}

func (a *release) setTarget() bool {
	d := a.decisions
	if len(a.may)+len(a.retire)+len(d.Gone) == 0 && d.Raise == 0 && d.GiveUp == 0 {
		return true
	}
	if (d.GiveUp > 0 || d.LookForGone) && !a.seesAll() {
		return false
	}
	before := a.pool.target
	if !a.write(func(p *poolObject) {
		p.toDelete = filter(p.toDelete, func(name string) bool { return !slices.Contains(d.Gone, name) })
		p.toDelete = slices.Concat(p.toDelete, a.may, a.retire)
		if d.Raise > p.target {
			p.target, p.forMembers = d.Raise, d.RaisedForMembers
		}
		p.target -= int32(len(a.may)) + d.GiveUp
		p.forMembers = min(p.forMembers, p.target)
	}) {
		return false
	}
	if len(a.may) > 0 {
		a.world.tell("provider", "%s: target %d -> %d, released %s", a.pool.name, before, a.pool.target, strings.Join(a.may, ", "))
	} else if before != a.pool.target {
		a.world.tell("provider", "%s: target %d -> %d, orders that nobody wants any more", a.pool.name, before, a.pool.target)
	}
	a.world.ledger.released(a.may)
	a.world.checkRelease(a.may)
	return true
}

func (a *release) deleteMachines() bool {
	w := a.world
	for _, name := range a.decisions.Delete {
		seen := w.machines.caches[providerCache].get(name)
		if m := w.machines.get(name); m != nil && m.failure != nil && (seen == nil || (seen.failure == nil && !seen.registered)) {
			// It has failed since, which has to be recorded before it goes.
			return false
		}
	}
	whole := true
	for _, name := range a.decisions.Delete {
		if !a.asSeen(name) {
			// It is looked at again.
			whole = false
			continue
		}
		w.cloud.remove(name)
	}
	return whole
}

// asSeen reports whether a machine has not registered since the pass was planned, and no pod is on its node that Cluster
// Autoscaler has not dealt with.
func (a *release) asSeen(name string) bool {
	at := slices.IndexFunc(a.group.Machines, func(m nodegroup.Machine) bool { return m.Name == name })
	seen, now := &a.group.Machines[at], a.world.machines.get(name)
	if seen.Node == nil && !seen.Registered {
		return now == nil || !now.registered
	}
	return seen.Node == nil || seen.Node.Leaving || a.world.podsOn(name) == 0
}

func (a *release) cancelMachines() bool {
	for _, name := range a.decisions.Cancel {
		if m := a.world.machines.get(name); m != nil && !m.registered {
			a.world.tell("provider", "%s: cancelled, the target is %d", name, a.pool.target)
			a.world.machines.remove(name)
		}
	}
	return true
}

// claim records names before machines of those names are ordered.
func (a *release) claim() bool {
	d := a.decisions
	if len(d.Order) == 0 {
		return true
	}
	if !a.seesAll() {
		return false
	}
	numbers := a.group.NextNumbers(len(d.Order))
	if !a.write(func(p *poolObject) { p.orderedFrom, p.ordered = numbers[0], numbers[len(numbers)-1]+1 }) {
		return false
	}
	for i, purpose := range d.Order {
		a.steps = append(a.steps, func() bool {
			a.world.cloud.order(a.pool.name, nodegroup.MachineName(a.pool.name, numbers[i]), purpose)
			return true
		})
	}
	return true
}

// seesAll reports whether every machine that there is was planned with.
func (a *release) seesAll() bool {
	for _, m := range a.world.machines.live.items {
		if m.pool == a.pool.name && !slices.ContainsFunc(a.group.Machines, func(g nodegroup.Machine) bool { return g.Name == m.name }) {
			return false
		}
	}
	return true
}

func holds(m *memberObject, node string) bool {
	return slices.ContainsFunc(m.reservations, func(r v1alpha1.Reservation) bool { return slices.Contains(r.Held, node) })
}

func filter(names []string, keep func(string) bool) []string {
	var out []string
	for _, name := range names {
		if keep(name) {
			out = append(out, name)
		}
	}
	return out
}
