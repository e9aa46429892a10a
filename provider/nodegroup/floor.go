package nodegroup

// Reserved is the number of nodes that members claim.
func (g *Group) Reserved() int32 {
	var sum int32
	for i := range g.Reservations {
		sum += g.Reservations[i].Nodes
	}
	return sum
}

// WantedFloor is the number of machines that the claims call for. It is a count and cannot say which
// machines stay, so nodes that are of no use to a member are added while its claim is unmet.
func (g *Group) WantedFloor() int32 {
	var occupied int32
	for i := range g.Reservations {
		occupied = max(occupied, g.Reservations[i].Occupied)
	}
	return min(g.Reserved()+occupied, g.MaxSize)
}

// minTarget is the number of machines that minSize and a floor call for.
func (g *Group) minTarget(floor int32) int32 {
	return min(max(g.MinSize, floor), g.MaxSize)
}

// MinSizeToTell is the minimum size that Cluster Autoscaler is told. A paused group has no room in either direction.
func (g *Group) MinSizeToTell() int32 {
	if g.Paused {
		return g.Target
	}
	return g.minTarget(g.Floor)
}

// MaxSizeToTell is the maximum size that Cluster Autoscaler is told.
func (g *Group) MaxSizeToTell() int32 {
	if g.Paused {
		return g.Target
	}
	return g.MaxSize
}

// raisedForMembers is the part of a target that a floor calls for, when the target is raised to it. What
// was raised for members before and does not exist yet stays a part of it.
func (g *Group) raisedForMembers(target, floor int32) int32 {
	forMembers := min(floor, target)
	if int(g.Target) > g.countLive() {
		forMembers = max(forMembers, min(g.ForMembers, g.Target))
	}
	return forMembers
}

// standing has the names of the nodes that stay: those of machines that are well and are not on their way out.
func (g *Group) standing() map[string]bool {
	goes, standing := setOf(g.ToDelete), map[string]bool{}
	for i := range g.Machines {
		m := &g.Machines[i]
		if name := m.nodeName(); name != "" && !goes[m.Name] && !m.lost() && !m.leaving() {
			standing[name] = true
		}
	}
	return standing
}

// lacks is the number of nodes that a claim calls for and that are not held yet. A node that is held and is about to go has to be
// replaced.
func (r *Reservation) lacks(standing map[string]bool) int {
	lacks := int(r.Nodes)
	for _, node := range r.Held {
		if standing[node] {
			lacks--
		}
	}
	return max(0, lacks)
}

// unmet is the number of nodes that all claims lack.
func (g *Group) unmet() int {
	standing, sum := g.standing(), 0
	for i := range g.Reservations {
		sum += g.Reservations[i].lacks(standing)
	}
	return sum
}
