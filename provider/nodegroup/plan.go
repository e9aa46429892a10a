package nodegroup

import (
	"maps"
	"time"
)

// Plan decides what is to be done for a pool. announceTimeout is how long a release waits for Cluster
// Autoscaler to ask for the minimum size, before it is taken not to be running.
func Plan(g *Group, announceTimeout time.Duration, now time.Time) Decisions {
	g = g.asOf(now)
	d := Decisions{StatusWrite: StatusWrite{Floor: g.WantedFloor(), Reserved: g.Reserved(), OrderedFrom: g.underWay()}}
	g.noteFailures(&d)
	switch {
	case g.Paused:
	case g.Deleting && d.Reserved == 0 && len(g.holders()) == 0:
		g.planEnd(&d, now)
	default:
		g.plan(&d, announceTimeout, now)
	}
	g.report(&d)
	return d
}

// plan decides for a pool that lives, step by step. What is lost or leaves needs no look at the nodes, so its write is certain to be
// the one that is decided: the steps after it see the group as that write leaves it, and replacements are ordered in the same pass.
func (g *Group) plan(d *Decisions, announceTimeout time.Duration, now time.Time) {
	recorded, holders := g.ToDelete, g.holders()

	// 1. What is no more leaves the target, or is replaced: sets Lost and Leave.
	g = g.lose(d, g.FollowsFloor, now)

	// 2. What nobody uses is kept for claims, kept warm, or chosen to be released.
	surplus, kept := g.splitSurplus(holders, now)
	surplus, warm, cold := g.keepWarm(surplus, now)
	unwanted := g.unwantedOrders(d.Floor)
	room := int(g.Target-max(g.MinSize, d.Floor)) - unwanted
	chosen := map[string]string{}
	for _, m := range surplus[:min(len(surplus), max(0, room))] {
		chosen[m.Name] = "no member holds the node and no pod uses it; it is released"
	}

	// 3. What is taken away and was not chosen is replaced at once, as far as there is no room: adds to Leave.
	g = g.leave(d, chosen, now)
	unwanted = min(g.unwantedOrders(d.Floor), unwanted+max(0, room-len(chosen)))

	// 4. What the target does not count, and what does not come up, goes where no autoscaler decides: sets Retire.
	retired, due := g.retire(holders, chosen, surplus, d.Floor, now)

	// 5. Nodes say what becomes of them: sets Marks. Those that have said so before can go: sets Release and GiveUp.
	tainted := maps.Clone(chosen)
	maps.Copy(tainted, retired)
	d.Marks = g.marks(holders, tainted, warm, kept)
	next := g.release(d, surplus, chosen, unwanted, announceTimeout, now)
	d.Next = earlier(earlier(d.Next, next), earlier(cold, earlier(due, g.nextDeadline(now))))
	for _, m := range g.live() {
		if retired[m.Name] != "" && m.free() {
			d.Retire = append(d.Retire, m.Name)
		}
	}
	g.limitDeletions(d, now)

	// 6. Machines are deleted, cancelled and ordered, up to the target: sets the rest.
	if wanted := g.minTarget(d.Floor); g.FollowsFloor && wanted > g.Target {
		d.Raise, d.RaisedForMembers = wanted, g.raisedForMembers(wanted, d.Floor)
	}
	g.deletions(d, recorded)
	abandoned, vanishing := g.abandoned()
	d.Abandon = abandoned
	if d.Raise == 0 {
		// A raised target may well call for what the present one does not.
		d.Cancel = g.cancelled(d.Abandon)
	}
	if !vanishing {
		d.Order = g.orders(kept, holders, unwanted, d.Floor)
	}
	d.warm = warm
}
