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
// floor calls for. The error is a *Refusal.
func (g *Group) IncreaseSize(delta int32) (target, forMembers int32, err error) {
	if g.Deleting {
		return 0, 0, refuse(Forbidden, "%s is being deleted", g.Name)
	}
	if delta <= 0 {
		return 0, 0, refuse(Malformed, "delta is %d; IncreaseSize of %s takes a number above 0", delta, g.Name)
	}
	if g.Paused {
		return 0, 0, g.paused()
	}
	if int64(g.Target)+int64(delta) > int64(g.MaxSize) {
		return 0, 0, refuse(OutOfRange, "the target size %d of %s plus %d is %d, above its maxSize %d",
			g.Target, g.Name, delta, int64(g.Target)+int64(delta), g.MaxSize)
	}
	target, floor := g.Target+delta, g.Floor
	if target == g.AnnouncedFloor {
		// It asks for the least size that it was told at the start of its loop. Members may have given up a part of that since,
		// and then these orders are to be given up too: nobody else has asked for them.
		floor = max(floor, g.AnnouncedFloor)
	}
	return target, g.raisedForMembers(target, floor), nil
}

// raisedForMembers is the part of a target that a floor calls for, when the target is raised to it. What
// was raised for members before and does not exist yet stays a part of it.
func (g *Group) raisedForMembers(target, floor int32) int32 {
	forMembers := min(floor, target)
	if int(g.Target) > len(g.live()) {
		forMembers = max(forMembers, min(g.ForMembers, g.Target))
	}
	return forMembers
}

// DecreaseTargetSize is the target after Cluster Autoscaler has cancelled -delta orders. It never goes
// below the number of machines that have registered: since 1.36 a scale-up that timed out asks for its
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
		if m.Registered || m.Node != nil {
			registered++
		}
	}
	return max(int64Clamp(int64(g.Target)+int64(delta)), min(registered, g.Target)), nil
}

func int64Clamp(n int64) int32 { return int32(max(0, n)) } //nolint:gosec // Below an int32 by construction.

// DeleteNodes are the machines that are newly to go when Cluster Autoscaler deletes the named ones, and
// the target after that. One that is on order and not known yet counts: its name is kept from being ordered, or is
// deleted when it turns up. Machines that are already going, or gone, are none of them, so that the request
// can be repeated. names are machine names. Of those that have no node only as many go as there is room for in the list:
// Cluster Autoscaler asks once a loop for all that have failed. The error is a *Refusal.
func (g *Group) DeleteNodes(names []string) (victims []string, target int32, err error) {
	if g.Paused {
		return nil, 0, g.paused()
	}
	holders, named := g.holders(), setOf(names)
	var orders []string
	for _, m := range g.live() {
		if !named[m.Name] {
			continue
		}
		if holder := holders[m.Name]; holder != "" {
			return nil, 0, refuse(Forbidden, "node %s of %s is held for the ensemble member %s", m.Name, g.Name, holder)
		}
		if m.Registered {
			victims = append(victims, m.Name)
		} else {
			orders = append(orders, m.Name)
		}
	}
	for _, n := range g.Pending() {
		if name := MachineName(g.Name, n); named[name] {
			orders = append(orders, name)
		}
	}
	room := g.roomToDelete() - len(victims)
	if room < 0 {
		return nil, 0, refuse(Forbidden, "%d nodes of %s cannot be deleted now: %d machines are on their way out, of at most %d at a time",
			len(victims), g.Name, len(g.ToDelete), mostToDelete)
	}
	victims = append(victims, orders[:min(len(orders), room)]...)
	slices.Sort(victims)
	return victims, int64Clamp(int64(g.Target) - int64(len(victims))), nil
}
