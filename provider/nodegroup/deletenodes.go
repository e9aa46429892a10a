package nodegroup

import "slices"

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
