package nodegroup_test

import (
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// reconcile is a pass that is killed after so many writes, -1 for none.
func (w *world) reconcile(writes int) {
	g := w.look()
	d := nodegroup.Plan(g, announceTimeout, w.now)
	if s := stepsOf(&d); g.Paused {
		s.Floor, s.Next = 0, time.Time{}
		w.promise(s.none(), "something is done to a paused pool: %+v", s)
	}
	if !w.quiet && w.rand.IntN(4) == 0 {
		// Something happens between the look and the writes.
		w.neighboursSettle()
	}
	for _, write := range w.writes(g, &d) {
		if writes == 0 {
			w.tell("the provider is killed")
			return
		}
		writes--
		write()
	}
}

// none reports whether nothing is done.
func (s *steps) none() bool {
	return len(s.Say)+len(s.Release)+len(s.Retire)+len(s.Lost)+len(s.Leave)+len(s.Delete)+len(s.Gone)+
		len(s.Cancel)+len(s.Abandon)+len(s.Order) == 0 &&
		s.GiveUp == 0 && s.Raise == 0
}

// writes are those of a pass, in the order of its steps.
func (w *world) writes(g *nodegroup.Group, d *nodegroup.Decisions) []func() {
	var out []func()
	for _, step := range nodegroup.Steps() {
		switch step {
		case nodegroup.StepStatus:
			out = append(out, w.statusWrites(g, d)...)
		case nodegroup.StepMark:
			for i := range d.Marks {
				out = append(out, func() { w.mark(&d.Marks[i]) })
			}
		case nodegroup.StepTarget:
			if d.ChangesSpec() {
				out = append(out, func() { w.setTarget(d) })
			}
		case nodegroup.StepDelete:
			for _, name := range d.Delete {
				out = append(out, func() { w.deleteMachine(name) })
			}
		case nodegroup.StepCancel:
			for _, name := range d.Cancel {
				out = append(out, func() { w.cancel(name) })
			}
			for _, name := range d.Abandon {
				out = append(out, func() { w.abandon(name) })
			}
		case nodegroup.StepOrder:
			out = append(out, w.orders(g, d)...)
		case nodegroup.StepFinish:
		}
	}
	return out
}

// statusWrites are those of the status, which is one write in a cluster: here a kill may come between its parts as well.
func (w *world) statusWrites(g *nodegroup.Group, d *nodegroup.Decisions) (out []func()) {
	if d.Floor != g.Floor {
		out = append(out, func() {
			w.tell("floor %d -> %d", w.group.Floor, d.Floor)
			w.group.Floor, w.group.FloorChangedAt = d.Floor, w.now
		})
	}
	if len(d.NewlyFailed) > 0 {
		out = append(out, func() {
			w.tell("%v failed", d.NewlyFailed)
			w.group.LastFailure = d.LastFailure
			for _, name := range d.NewlyFailed {
				w.recorded[name] = true
			}
		})
	}
	return append(out, func() { w.group.KnownFailed, w.group.OrderedFrom = d.Failed, d.OrderedFrom })
}

// cancel deletes the record of a machine that has not registered.
func (w *world) cancel(name string) {
	m := w.machines[name]
	if m == nil || m.Registered {
		return
	}
	w.promise(m.Going.IsZero(), "%s is cancelled, and is being deleted already", name)
	w.done["cancelled"]++
	w.deleteRecord(name)
}

// abandon deletes the record of a machine of an incomplete order.
func (w *world) abandon(name string) {
	if m := w.machines[name]; m != nil {
		order, asked := w.orderOf(m)
		w.promise(!asked && len(order) < int(m.Order.Size),
			"%s is abandoned, of an order with %d of %d machines; that the cloud was asked is %t",
			name, len(order), m.Order.Size, asked)
		w.done["abandoned"]++
		w.deleteRecord(name)
	}
}

// orders are the claim of the names, and a write for each record.
func (w *world) orders(g *nodegroup.Group, d *nodegroup.Decisions) (out []func()) {
	if len(d.Order) == 0 {
		return nil
	}
	numbers := g.NextNumbers(nodegroup.Count(d.Order))
	first, last := numbers[0], numbers[len(numbers)-1]
	out = append(out, func() {
		w.checkOrders(g, d)
		w.group.OrderedFrom, w.group.Ordered = first, last+1
	})
	for i := range d.Order {
		order := &d.Order[i]
		of := numbers[:order.Count]
		numbers = numbers[order.Count:]
		record := order.Record(of)
		for _, n := range of {
			out = append(out, func() {
				name := nodegroup.MachineName("hpc", n)
				w.promise(!w.ever[name], "%s is ordered a second time", name)
				w.ever[name] = true
				live := len(w.machines) - w.going()
				w.promise(live < int(w.group.MaxSize), "%s is ordered above maxSize %d", name, w.group.MaxSize)
				w.promise(live < int(w.group.Target), "%s is ordered above the target %d", name, w.group.Target)
				w.machines[name] = &nodegroup.Machine{Name: name, Purpose: order.Purpose, Order: record, OrderedAt: w.now}
				w.tell("%s is ordered for %s, %d in all, atomic %t", name, order.ID, order.Count, order.Atomic)
			})
		}
	}
	return out
}

// checkOrders is what must be true of orders: for a claim never more is ordered than it lacks, and for all or none only all of it.
func (w *world) checkOrders(g *nodegroup.Group, d *nodegroup.Decisions) {
	holders := w.holders()
	seen := map[string]bool{}
	for i := range d.Order {
		order := &d.Order[i]
		w.promise(!seen[order.ID] && order.Count > 0, "there are two orders for %s, or one of %d machines", order.ID, order.Count)
		seen[order.ID] = true
		for member, c := range w.claims {
			if c.id != order.ID {
				continue
			}
			lacks, waiting := int(c.nodes), 0
			for _, node := range c.held {
				if m := w.byNode(node); m != nil && !doomed(m) && !slices.Contains(g.ToDelete, m.Name) {
					lacks--
				}
			}
			for name, m := range w.machines {
				switch {
				case slices.Contains(w.group.ToDelete, name) || holders[m.NodeName] != "" || m.Failure != nil:
				case m.Order.ID == c.id:
					lacks--
				default:
					waiting++
				}
			}
			w.done["ordered for a claim"] += order.Count
			w.promise(order.Count <= lacks, "%d machines are ordered for %s, which lacks %d", order.Count, member, lacks)
			if order.Atomic {
				w.promise(
					w.group.CanBeAtomic && c.allOrNothing && order.Count >= lacks-waiting, "%d machines are ordered for all or none, and %s lacks %d",
					order.Count, member, lacks,
				)
				w.done["ordered for all or none"] += order.Count
			}
		}
		w.promise(!order.Atomic || (order.ID != "floor" && order.ID != "autoscaler"), "an order for no claim is for all or none")
	}
}

// mark is the write of a node.
func (w *world) mark(mark *nodegroup.Mark) {
	m := w.byNode(mark.Node)
	if m == nil || m.Node == nil {
		return
	}
	if since, stays := w.stays[m.Name]; stays && mark.Releasing && !m.Node.Releasing && !w.group.Deleting &&
		!slices.Contains(w.group.ToDelete, m.Name) {
		w.promise(
			!w.now.Before(since.Add(w.group.ScaleDownDelay)), "%s is released, which a member gave up at %s", mark.Node,
			since.Format(time.TimeOnly),
		)
	}
	if (m.Node.HeldBy != "") != (mark.HeldBy != "") || !mark.Warm {
		m.Node.GivenUpAt = time.Time{}
		if mark.Warm {
			m.Node.GivenUpAt = w.now
		}
	}
	m.Node.HeldBy, m.Node.Releasing, m.Node.Untainted = mark.HeldBy, mark.Releasing, false
	m.Node.Reserved = m.Node.Reserved || mark.Reserved
	w.tell("%s: %s", mark.Node, mark.Why)
}

// deleteMachine deletes one that is to go.
func (w *world) deleteMachine(name string) {
	m := w.machines[name]
	if m == nil {
		return
	}
	w.promise(m.Going.IsZero(), "%s is deleted, and is being deleted already", name)
	w.promise(m.Failure == nil || w.recorded[name], "%s is deleted and its failure is not recorded", name)
	if !gone(m) {
		holder := w.holders()[m.NodeName]
		w.promise(m.Node == nil || (m.Node.Releasing && m.Node.Pods == 0), "%s is deleted, with pods or without a taint: %+v", name, m.Node)
		w.promise(holder == "" || doomed(m), "%s is deleted, which %s holds", name, holder)
	}
	w.deleteRecord(name)
}

// setTarget is the one write of spec, with the live look at what is released.
func (w *world) setTarget(d *nodegroup.Decisions) {
	held := w.holders()
	stays := func(name string) bool {
		m := w.machines[name]
		if m == nil {
			return false
		}
		w.promise(m.Node != nil || !m.Registered || m.Failure != nil, "%s is released, and what is on its node is not known", name)
		return held[m.NodeName] != "" || (m.Node != nil && (!m.Node.Releasing || m.Node.Pods > 0))
	}
	retire := slices.DeleteFunc(slices.Clone(d.Retire), stays)
	w.promise(len(retire) == 0 || w.group.FollowsFloor || w.group.Deleting, "%v are retired, and Cluster Autoscaler decides", retire)
	var release []string
	for _, name := range d.Release {
		m := w.machines[name]
		if stays(name) {
			continue
		}
		w.promise(m == nil || m.Node == nil || m.Node.Reserved || w.group.Deleting, "%s is released and has no mark", name)
		release = append(release, name)
	}
	for _, name := range d.Lost {
		w.promise(w.machines[name] == nil || gone(w.machines[name]), "%s is taken to be no more, and is well", name)
		w.promise(!w.group.FollowsFloor || w.group.Deleting, "%s is no more and not replaced, and no autoscaler decides", name)
	}
	for _, name := range d.Leave {
		w.promise(w.machines[name] == nil || doomed(w.machines[name]), "%s is taken to leave, and is well", name)
	}
	lower := int32(len(release)) + d.GiveUp
	target := max(w.group.Target, d.Raise) - lower - int32(len(d.Lost))
	w.tell(
		"target %d -> %d, released %v, retired %v, lost %v, left %v, gave up %d, gone %v", w.group.Target, target, release, retire, d.Lost,
		d.Leave, d.GiveUp, d.Gone,
	)
	w.promise(w.group.Deleting || lower == 0 || target >= max(
		w.group.MinSize, w.group.Floor,
	), "the target is lowered to %d, below minSize %d or floor %d",
		target, w.group.MinSize, w.group.Floor)
	w.promise(w.group.Deleting || lower == 0 || w.group.FollowsFloor || target >= w.group.AnnouncedFloor ||
		w.now.Sub(w.group.FloorChangedAt) >= announceTimeout,
		"the target is lowered to %d, and Cluster Autoscaler was told %d", target, w.group.AnnouncedFloor)
	if d.Raise > w.group.Target {
		w.group.ForMembers = d.RaisedForMembers
	}
	w.group.Target, w.group.ForMembers = target, min(w.group.ForMembers, target)
	w.group.ToDelete = slices.DeleteFunc(
		slices.Concat(w.group.ToDelete, release, retire, d.Lost, d.Leave), func(name string) bool { return slices.Contains(d.Gone, name) },
	)
	w.done["released"] += len(release)
	w.done["retired"] += len(retire)
	w.done["lost"] += len(d.Lost)
	w.done["left"] += len(d.Leave)
	w.done["given up"] += int(d.GiveUp)
}

// check is what must be true at every moment.
func (w *world) check() {
	g := w.look()
	w.promise(g.Target >= 0 && g.Target <= max(g.MaxSize, w.target), "the target is %d, of 0 to %d", g.Target, g.MaxSize)
	w.target = g.Target
	holders := w.holders()
	seen := map[string]bool{}
	for _, name := range g.ToDelete {
		w.promise(!seen[name], "%s is to be deleted twice", name)
		seen[name] = true
		m := w.machines[name]
		w.promise(m == nil || doomed(m) || holders[m.NodeName] == "", "%s is to be deleted, which a member holds", name)
	}
	w.checkCounted(g)
}

// checkRest is what must be true when nothing has happened for long.
func (w *world) checkRest() {
	g := w.look()
	d := nodegroup.Plan(g, announceTimeout, w.now)
	if s := stepsOf(&d); !s.none() || s.Floor != g.Floor {
		w.promise(false, "there is still something to do: %+v", s)
	}
	if g.Deleting {
		w.promise(
			d.Finish, "the NodePool is being deleted and does not go: its target is %d, it has %d machines, and %v are to go", g.Target,
			len(g.Machines), g.ToDelete,
		)
		return
	}
	w.promise(len(g.Machines) == int(g.Target), "there are %d machines and the target is %d", len(g.Machines), g.Target)
	w.promise(!g.FollowsFloor || g.Target <= g.MaxSize, "the target %d is above maxSize %d", g.Target, g.MaxSize)
	w.promise(g.Target >= max(g.MinSize, g.Floor), "the target %d is below minSize %d or floor %d", g.Target, g.MinSize, g.Floor)
	w.promise(g.Floor == min(g.Reserved(), g.MaxSize), "the floor is %d and %d nodes are reserved", g.Floor, g.Reserved())
	for member, c := range w.claims {
		w.promise(len(c.held) == int(c.nodes), "%s claims %d nodes and holds %d", member, c.nodes, len(c.held))
	}
	holders := w.holders()
	room := g.Target - max(g.MinSize, g.Floor)
	for i := range g.Machines {
		m := &g.Machines[i]
		w.promise(m.Node != nil && m.Failure == nil && !doomed(m), "%s has no node, has failed or is going", m.Name)
		if m.Node == nil {
			continue
		}
		w.promise(m.Node.HeldBy == holders[m.NodeName], "%s says that %q holds it, and %q does", m.NodeName, m.Node.HeldBy, holders[m.NodeName])
		w.promise(m.Node.GivenUpAt.IsZero(), "%s is still kept from Cluster Autoscaler, for a next growth", m.Name)
		w.promise(!m.Node.Releasing && !m.Node.Untainted, "%s is still being released, or says so", m.Name)
		w.promise(room <= 0 || !m.Node.Reserved || holders[m.NodeName] != "", "%s was a member's, is nobody's now, and is kept", m.Name)
	}
}
