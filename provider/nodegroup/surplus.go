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
