package nodegroup

import (
	"cmp"
	"slices"
	"time"
)

// splitSurplus finds the marked machines that nobody holds and no pod uses. As many of them as claims are unmet
// are kept, to be held next, of several that are as far along those first that were ordered for one of these claims; the others are
// surplus, the least useful first. What goes anyway, and the target does not count, is
// neither: one that was cancelled and is not gone yet.
func (g *Group) splitSurplus(holders map[string]string, now time.Time) (surplus []*Machine, kept map[string]*Machine) {
	live := g.live()
	uncounted := len(live) > int(g.Target)
	free := slices.DeleteFunc(live, func(m *Machine) bool {
		return !m.marked() || (uncounted && !m.Going.IsZero()) || holders[m.nodeName()] != "" || (m.Node != nil && m.Node.Pods > 0)
	})
	rank := func(m *Machine) int {
		switch {
		case !m.usable(now, g.ProvisionTimeout):
			return 0
		case m.Node == nil:
			return 1
		case !m.Node.Ready:
			return 2
		case m.Node.Releasing:
			return 3
		default:
			return 4
		}
	}
	claims := map[string]bool{}
	for i := range g.Reservations {
		claims[g.Reservations[i].Claim] = g.Reservations[i].Claim != ""
	}
	slices.SortStableFunc(free, func(a, b *Machine) int {
		if by := cmp.Compare(rank(a), rank(b)); by != 0 || claims[a.Order.ID] == claims[b.Order.ID] {
			return by
		}
		if claims[a.Order.ID] {
			return 1
		}
		return -1
	})
	kept = map[string]*Machine{}
	for unmet := g.unmet(); len(kept) < unmet && len(free) > 0; {
		last := free[len(free)-1]
		if rank(last) == 0 {
			break
		}
		kept[last.Name] = last
		free = free[:len(free)-1]
	}
	return free, kept
}

// keepWarm divides the surplus into what is released and what stays for the next growth, by name, each with the time until
// which it does. next is when the first of them is due.
func (g *Group) keepWarm(surplus []*Machine, now time.Time) (released []*Machine, warm map[string]time.Time, next time.Time) {
	if g.ScaleDownDelay <= 0 || g.Deleting {
		return surplus, nil, next
	}
	warm = map[string]time.Time{}
	for _, m := range surplus {
		until := now
		switch {
		case m.Node == nil || !m.Node.Ready || m.Node.Releasing || !m.usable(now, g.ProvisionTimeout):
		case m.Node.HeldBy != "":
			// It is given up in this pass.
			until = now.Add(g.ScaleDownDelay)
		case !m.Node.GivenUpAt.IsZero():
			until = m.Node.GivenUpAt.Add(g.ScaleDownDelay)
		}
		if !now.Before(until) {
			released = append(released, m)
			continue
		}
		warm[m.Name] = until
		next = earlier(next, until)
	}
	return released, warm, next
}

// givenUpNow reports whether a node is given up in this pass that is to stay for the next growth. Not all of those are surplus:
// a claim may be about to take one and then take another, and the pods that were on one may be gone before the next pass.
func (g *Group) givenUpNow(node *Node, holder string) bool {
	return g.ScaleDownDelay > 0 && !g.Deleting && node.HeldBy != "" && holder == "" && node.Ready && !node.Leaving && !node.Releasing
}

// release finds the machines whose release can be recorded now: those that have not registered, and nodes
// that were tainted in an earlier pass, so that no pod has come since; and how many of the unwanted orders can
// be given up. next is when they can be that cannot now.
func (g *Group) release(
	d *Decisions, surplus []*Machine, chosen map[string]string, unwanted int, timeout time.Duration, now time.Time,
) (next time.Time) {
	var names []string
	for _, m := range surplus {
		if chosen[m.Name] != "" && m.free() {
			names = append(names, m.Name)
		}
	}
	less := len(names) + unwanted
	if less == 0 || d.Floor != g.Floor {
		// A lower floor is recorded first; the pass that follows releases.
		return next
	}
	told := g.FollowsFloor || int(g.Target)-less >= int(g.AnnouncedFloor)
	if until := g.FloorChangedAt.Add(timeout); !told && now.Before(until) {
		return until
	}
	d.Release, d.GiveUp = names, int32(unwanted) //nolint:gosec // At most MaxSize.
	return next
}

// limitDeletions leaves machines that are to go to the next passes where there are too many of them for one, or for the list of those
// that go.
func (g *Group) limitDeletions(d *Decisions, now time.Time) {
	room := min(maxAtOnce, g.roomToDelete())
	if len(d.Release)+len(d.Retire) <= room {
		return
	}
	d.Release = d.Release[:min(len(d.Release), room)]
	d.Retire = d.Retire[:min(len(d.Retire), room-len(d.Release))]
	if room > 0 {
		// Where there is no room, the write that makes some brings the next pass.
		d.Next = earlier(d.Next, now.Add(nextPart))
	}
}

// roomToDelete is how many names may be added to those of the machines that are to go.
func (g *Group) roomToDelete() int { return max(0, maxToDelete-len(g.ToDelete)) }
