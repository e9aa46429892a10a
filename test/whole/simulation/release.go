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
	// numbers are those of the machines that are ordered.
	numbers []int64
}

// begin lines up the steps of package nodegroup. The live look that one begins with takes the time of a write too.
func (a *release) begin() {
	for _, step := range nodegroup.Steps() {
		switch step {
		case nodegroup.StepStatus:
			a.steps = append(a.steps, a.recordStatus)
		case nodegroup.StepMark:
			a.steps = append(a.steps, a.mark)
		case nodegroup.StepTarget:
			a.steps = append(a.steps, a.look, a.setTarget)
		case nodegroup.StepDelete:
			a.steps = append(a.steps, a.deleteMachines)
		case nodegroup.StepCancel:
			a.steps = append(a.steps, a.cancelMachines)
		case nodegroup.StepOrder:
			a.steps = append(a.steps, a.order)
		case nodegroup.StepFinish:
			// No story deletes a NodePool.
		}
	}
	a.proceed()
}

// proceed makes the next step that has something to do; each takes the time of a write.
func (a *release) proceed() {
	if a.life != a.of {
		return
	}
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
	return a.statusStays() && len(d.Marks)+len(d.Release)+len(d.Retire)+len(d.Lost)+len(d.Leave)+len(d.Gone)+len(d.Delete) == 0 &&
		len(d.Cancel)+len(d.Abandon)+len(d.Order) == 0 && d.GiveUp == 0
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

// recordStatus writes the status, and with it the claim of the names of machines that are about to be ordered.
func (a *release) recordStatus() bool {
	d, w := a.decisions, a.world
	if count := nodegroup.Count(d.Order); count > 0 {
		if !a.seesAll() {
			return false
		}
		a.numbers = a.group.NextNumbers(count)
	} else if a.statusStays() {
		return true
	}
	before := a.pool.floor
	if !a.write(func(p *poolObject) {
		if p.floor != d.Floor {
			p.floor, p.floorChangedAt = d.Floor, w.now
		}
		p.orderedFrom, p.failed = d.OrderedFrom, d.Failed
		if n := len(a.numbers); n > 0 {
			p.orderedFrom, p.ordered = a.numbers[0], a.numbers[n-1]+1
		}
		if d.LastFailure != nil {
			p.lastFailure, p.lastFailed = d.LastFailure, d.LastFailed
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

// mayGo is Observer.StillReleasable: what is unknown is not free.
func (a *release) mayGo(name string) bool {
	w, m := a.world, a.machine(name)
	switch {
	case m == nil, m.Node == nil && (m.Registered || m.NodeName != ""):
		return false
	case m.Node == nil:
		return w.loop.nodeOf(m.ProviderID, m.NodeName) == nil
	}
	for _, other := range w.members.live.items {
		if holds(other, m.Node.Name) {
			return false
		}
	}
	n := w.nodes.get(m.Node.Name)
	return n != nil && n.providerID == m.ProviderID && n.ours && w.podsOn(n.name) == 0
}

// machine is a machine as the pass was planned with.
func (a *release) machine(name string) *nodegroup.Machine {
	at := slices.IndexFunc(a.group.Machines, func(m nodegroup.Machine) bool { return m.Name == name })
	if at < 0 {
		return nil
	}
	return &a.group.Machines[at]
}

func (a *release) setTarget() bool {
	d := a.decisions
	if len(a.may)+len(a.retire)+len(d.Lost)+len(d.Leave)+len(d.Gone) == 0 && d.Raise == 0 && d.GiveUp == 0 {
		return true
	}
	if (d.GiveUp > 0 || d.LookForGone) && !a.seesAll() {
		return false
	}
	before := a.pool.target
	if !a.write(func(p *poolObject) {
		p.toDelete = filter(p.toDelete, func(name string) bool { return !slices.Contains(d.Gone, name) })
		p.toDelete = slices.Concat(p.toDelete, a.may, a.retire, d.Lost, d.Leave)
		if d.Raise > p.target {
			p.target, p.forMembers = d.Raise, d.RaisedForMembers
		}
		p.target -= int32(len(a.may)+len(d.Lost)) + d.GiveUp
		p.forMembers = min(p.forMembers, p.target)
	}) {
		return false
	}
	a.tellOfTarget(before)
	a.world.ledger.released(a.may)
	a.world.checkRelease(a.may)
	return true
}

// tellOfTarget tells why the target, or what it counts, is another one, in the words of package pool.
func (a *release) tellOfTarget(before int32) {
	d, w, name := a.decisions, a.world, a.pool.name
	if len(a.may) > 0 {
		w.tell("provider", "%s: target %d -> %d: released %s", name, before, a.pool.target, nodegroup.Listed(a.may))
	}
	if len(d.Lost) > 0 {
		w.ledger.counts["machines lost"] += len(d.Lost)
		w.tell("provider", "%s: target %d -> %d: %s are no more", name, before, a.pool.target, nodegroup.Listed(d.Lost))
	}
	if len(d.Leave) > 0 {
		w.ledger.counts["machines left"] += len(d.Leave)
		w.tell("provider", "%s: %s are on their way out; the target of %d does not count them", name, nodegroup.Listed(d.Leave), a.pool.target)
	}
	if d.GiveUp > 0 {
		w.tell("provider", "%s: target %d -> %d: %d machines were to be ordered that nobody wants any more, or that maxSize %d does not allow",
			name, before, a.pool.target, d.GiveUp, a.pool.maxSize)
	}
}

// deleteMachines deletes the records of what is to go. The machine loop looks at each node once more.
func (a *release) deleteMachines() bool {
	w := a.world
	for _, name := range a.decisions.Delete {
		seen := a.machine(name)
		if m := w.machines.get(name); m != nil && m.failure != nil && seen.Failure == nil && !seen.Registered {
			// It has failed since, which has to be recorded before it goes.
			return false
		}
	}
	for _, name := range a.decisions.Delete {
		w.deleteRecord(name)
	}
	return true
}

// deleteRecord deletes a record, which stays until its machine is gone.
func (w *world) deleteRecord(name string) {
	if m := w.machines.get(name); m != nil && m.going.IsZero() {
		w.machines.update(name, func(m *machineObject) { m.going = w.now })
	}
}

// cancelMachines deletes records of machines that have not registered, and of orders that have launched nothing, if they are as
// they were seen.
func (a *release) cancelMachines() bool {
	w, d := a.world, a.decisions
	if len(d.Abandon) > 0 && !a.seesAll() {
		return false
	}
	for i, name := range slices.Concat(d.Cancel, d.Abandon) {
		m, seen := w.machines.get(name), w.machines.caches[providerCache].get(name)
		if m == nil || seen == nil || m.version != seen.version {
			continue
		}
		if i < len(d.Cancel) {
			w.tell("provider", "%s: cancelled %s, which had not registered: the target is %d", a.pool.name, name, a.pool.target)
		} else {
			w.ledger.counts["machines abandoned"]++
			w.tell("provider", "%s: took back %s, whose order lacks records", a.pool.name, name)
			w.promise(!m.asked(), "%s is abandoned, and the cloud may have been asked for it", name)
		}
		w.deleteRecord(name)
	}
	return true
}

// order makes a record of each machine that is ordered, one write after the other.
func (a *release) order() bool {
	w, numbers := a.world, a.numbers
	at := w.now
	for i := range a.decisions.Order {
		order := &a.decisions.Order[i]
		of := numbers[:order.Count]
		numbers = numbers[order.Count:]
		if order.Atomic {
			w.ledger.counts["orders for all or none"]++
		}
		for _, n := range of {
			a.steps = append(a.steps, func() bool {
				a.record(&machineObject{
					meta: meta{name: nodegroup.MachineName(a.pool.name, n)}, pool: a.pool.name, purpose: order.Purpose,
					order: order.Record(of), orderedAt: at,
				})
				return true
			})
		}
	}
	return true
}

// record makes one record.
func (a *release) record(m *machineObject) {
	w := a.world
	w.promise(!w.ledger.recordedEver[m.name], "machine %s is ordered a second time", m.name)
	w.ledger.recordedEver[m.name] = true
	// Nobody but Cluster Autoscaler releases what is not for members, and it takes its time.
	// What is taken away while the target is above the floor is replaced as a machine of nobody's.
	pool := w.pools.get(m.pool)
	replaces := slices.ContainsFunc(pool.toDelete, func(name string) bool { return w.ledger.taken[name] })
	w.promise(m.purpose == v1alpha1.PurposeReservation || w.ledger.forPods[m.pool] > 0 || pool.minSize > 0 || replaces,
		"machine %s is ordered for pods of which Cluster Autoscaler has found none", m.name)
	w.machines.create(m)
	w.checkOrdered(m)
	w.tell("provider", "%s: ordered", m.name)
	if w.lossy && !w.quiet && !w.now.Before(w.calmUntil) && w.chance(3) {
		w.killProvider()
	}
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
