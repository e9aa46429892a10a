package nodegroup

import "time"

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
