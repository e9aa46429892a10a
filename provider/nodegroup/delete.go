package nodegroup

import "slices"

// deletions divides the machines that are recorded to go into those that exist, which are deleted, and those that are gone. One whose
// record is being deleted already is waited for. A name that was never claimed stays while there is something to order, so that it is
// passed over, as Cluster Autoscaler was told. A machine that was given up before it registered, and has a node all the same, goes
// when that is tainted and has no pod; one that has arrived and has failed goes whatever its node shows.
func (g *Group) deletions(d *Decisions, recorded []string) {
	if len(recorded) == 0 {
		return
	}
	exists, stays := g.names(), map[string]bool{}
	for i := range g.Machines {
		m := &g.Machines[i]
		stays[m.Name] = m.taken() || !m.Going.IsZero()
	}
	missing := int(g.Target) - g.countLive()
	for _, name := range recorded {
		switch {
		case stays[name]:
		case exists[name]:
			d.Delete = append(d.Delete, name)
		case missing <= 0 || Number(g.Name, name) < g.Ordered:
			d.Gone = append(d.Gone, name)
		}
	}
	d.LookForGone = slices.ContainsFunc(d.Gone, func(name string) bool { return Number(g.Name, name) >= g.OrderedFrom })
}
