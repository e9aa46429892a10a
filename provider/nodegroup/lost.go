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
	uncounted := staying + len(lost) - int(max(g.maxSize(), g.leastSize(d.Floor)))
	for i, m := range lost {
		if due := g.replaceableAt(m); i >= uncounted && now.Before(due) {
			d.Next = earlier(d.Next, due)
		} else {
			d.Leave = append(d.Leave, m.Name)
		}
	}
	return g.after(d.Leave, 0)
}

// leave finds the machines that are taken away, and is the group when they are in ToDelete: a replacement is ordered before they are
// gone. Those that were chosen to be released are not replaced. Their nodes are tainted (lateMarks), and they stay until their
// pods have left, as long as the cloud lets them (deletions). A record that is being deleted and that the cloud was not asked
// for is gone in a moment, and counts until then.
func (g *Group) leave(d *Decisions, chosen map[string]string, now time.Time) *Group {
	var leaving []*Machine
	for _, m := range g.live() {
		if m.leaving() && !m.lost() && chosen[m.Name] == "" && (m.Going.IsZero() || m.Asked || m.arrived()) {
			leaving = append(leaving, m)
		}
	}
	leaving = g.fitting(d, leaving, now)
	d.Leave = append(d.Leave, namesOf(leaving)...)
	return g.after(namesOf(leaving), 0)
}

// fitting are as many machines as ToDelete has room for.
func (g *Group) fitting(d *Decisions, machines []*Machine, now time.Time) []*Machine {
	if room := g.roomToDelete(); len(machines) > room {
		d.Next = earlier(d.Next, now.Add(nextPart))
		return machines[:room]
	}
	return machines
}

func namesOf(machines []*Machine) []string {
	var names []string
	for _, m := range machines {
		names = append(names, m.Name)
	}
	return names
}
