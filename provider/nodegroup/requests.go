package nodegroup

import (
	"fmt"
	"slices"
)

// Refusal is a request of Cluster Autoscaler that cannot be carried out. It changes nothing.
type Refusal struct {
	Kind RefusalKind
	// Message names the value that is wrong and what would be right.
	Message string
}

// RefusalKind says what kind of fault a request has.
type RefusalKind int

const (
	// Malformed is a request that could never be carried out.
	Malformed RefusalKind = iota
	// OutOfRange is a request for a size outside the bounds of the group.
	OutOfRange
	// Forbidden is a request that the state of the group does not allow now.
	Forbidden
)

func (r *Refusal) Error() string { return r.Message }

func refuse(kind RefusalKind, format string, args ...any) *Refusal {
	return &Refusal{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

func (g *Group) paused() *Refusal {
	return refuse(Forbidden, "%s is paused: its spec.paused is true", g.Name)
}

// IncreaseSize is the target after Cluster Autoscaler has ordered delta machines, and the part of it that the
// floor calls for. told is the target that it was last told, and from which it has computed delta; -1 where that is not known. What
// the target has grown by since is not added once more: where nothing is lacking, the target stays. The error is a *Refusal.
func (g *Group) IncreaseSize(delta, told int32) (target, forMembers int32, err error) {
	if g.Deleting {
		return 0, 0, refuse(Forbidden, "%s is being deleted", g.Name)
	}
	if delta <= 0 {
		return 0, 0, refuse(Malformed, "delta is %d; IncreaseSize of %s takes a number above 0", delta, g.Name)
	}
	if g.Paused {
		return 0, 0, g.paused()
	}
	lacking := int64(delta)
	if told >= 0 {
		lacking = max(0, lacking-max(0, int64(g.Target)-int64(told)))
	}
	if lacking == 0 {
		return g.Target, g.ForMembers, nil
	}
	if int64(g.Target)+lacking > int64(g.MaxSize) {
		return 0, 0, refuse(OutOfRange, "the target size %d of %s plus %d is %d, above its maxSize %d",
			g.Target, g.Name, lacking, int64(g.Target)+lacking, g.MaxSize)
	}
	target, floor := g.Target+int32(lacking), g.Floor //nolint:gosec // At most MaxSize.
	if target == g.AnnouncedFloor {
		// It asks for the least size that it was told at the start of its loop. Members may have given up a part of that since,
		// and then these orders are to be given up too: nobody else has asked for them.
		floor = max(floor, g.AnnouncedFloor)
	}
	return target, g.raisedForMembers(target, floor), nil
}

// DecreaseTargetSize is the target after Cluster Autoscaler has cancelled -delta orders. It never goes
// below the number of machines that have registered and still exist: since 1.36 a scale-up that timed out asks for its
// whole delta back even if a part of it has arrived. The error is a *Refusal.
func (g *Group) DecreaseTargetSize(delta int32) (target int32, err error) {
	if delta >= 0 {
		return 0, refuse(Malformed, "delta is %d; DecreaseTargetSize of %s takes a number below 0", delta, g.Name)
	}
	if g.Paused {
		return 0, g.paused()
	}
	var registered int32
	for _, m := range g.live() {
		if m.arrived() && !m.lost() {
			registered++
		}
	}
	return max(int64Clamp(int64(g.Target)+int64(delta)), min(registered, g.Target)), nil
}

func int64Clamp(n int64) int32 { return int32(max(0, n)) } //nolint:gosec // Below an int32 by construction.

// Asked is a machine that Cluster Autoscaler wants deleted.
type Asked struct {
	// Machine is the machine's name.
	Machine string
	// ByPlaceholder is set when it was named by its Placeholder. Who does that believes that it never came.
	ByPlaceholder bool
}

// DeleteNodes are the machines that are newly to go when Cluster Autoscaler deletes those that it asks for, and
// the target after that. One that is on order and not known yet counts: its name is kept from being ordered, or is
// deleted when it turns up. Machines that are already going, or gone, are none of them, so that the request
// can be repeated; nor are those that were named by their placeholder and have come since. Of those that have no node only as many go
// as there is room for in the list: Cluster Autoscaler asks once a loop for all that have failed. The error is a *Refusal.
func (g *Group) DeleteNodes(asked []Asked) (victims []string, target int32, err error) {
	if g.Paused {
		return nil, 0, g.paused()
	}
	// By the name of the machine: whether it was named by the id of its node.
	named := make(map[string]bool, len(asked))
	for _, a := range asked {
		named[a.Machine] = named[a.Machine] || !a.ByPlaceholder
	}
	holders := g.holders()
	var orders []string
	for _, m := range g.live() {
		byNode, is := named[m.Name]
		if !is || (m.arrived() && !byNode) {
			continue
		}
		if holder := holders[m.nodeName()]; holder != "" && !m.lost() {
			return nil, 0, refuse(Forbidden, "node %s of %s is held for the ensemble member %s", m.nodeName(), g.Name, holder)
		}
		if m.arrived() {
			victims = append(victims, m.Name)
		} else {
			orders = append(orders, m.Name)
		}
	}
	for _, n := range g.Pending() {
		name := MachineName(g.Name, n)
		if _, is := named[name]; is {
			orders = append(orders, name)
		}
	}
	room := g.roomToDelete() - len(victims)
	if room < 0 {
		return nil, 0, refuse(Forbidden, "%s of %s cannot be deleted now: %s, of at most %d at a time", Pluralize(
			len(victims), "%d node", "%d nodes",
		),
			g.Name, Pluralize(len(g.ToDelete), "%d machine is on its way out", "%d machines are on their way out"), maxToDelete)
	}
	victims = append(victims, orders[:min(len(orders), room)]...)
	slices.Sort(victims)
	return victims, int64Clamp(int64(g.Target) - int64(len(victims))), nil
}
