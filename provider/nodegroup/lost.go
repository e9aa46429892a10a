package nodegroup

import "time"

// lose finds the machines that have arrived and are no more, and is the group when they are in ToDelete. They need neither a taint
// nor an empty node: the cloud says that they are gone. With replace they are replaced, each not before ReplaceAfter after its order,
// and the target stays. Without, it is lowered by those that it counts: Cluster Autoscaler is told that they are being deleted, and
// expects that the target counts them no more. What the target does not count is first of all what is no more.
func (g *Group) lose(d *Decisions, replace bool, now time.Time) *Group {
	var lost []*Machine
	staying := 0
	for _, m := range g.live() {
		switch {
		case m.lost():
			lost = append(lost, m)
		case m.Going.IsZero():
			staying++
		}
	}
	lost = g.fitting(d, lost, now)
	if !replace {
		counted := min(len(lost), max(0, int(g.Target)-staying))
		d.Lost, d.Leave = namesOf(lost[:counted]), namesOf(lost[counted:])
		return g.after(namesOf(lost), counted)
	}
	uncounted := staying + len(lost) - int(max(g.maxSize(), g.minTarget(d.Floor)))
	for i, m := range lost {
		if due := g.replaceableAt(m); i >= uncounted && now.Before(due) {
			d.Next = earlier(d.Next, due)
		} else {
			d.Leave = append(d.Leave, m.Name)
		}
	}
	return g.after(d.Leave, 0)
}
