package nodegroup

// unwantedOrders is the number of machines that do not exist yet and that nobody is to have any more: a floor has called for
// them that is lower now, or the maximum size has become less than the target. They are not ordered any more.
func (g *Group) unwantedOrders(floor int32) int {
	live := g.countLive()
	unwanted := int(min(g.Target, g.ForMembers)) - max(live, int(g.MinSize), int(floor))
	above := int(g.Target - g.MaxSize)
	return max(0, min(max(unwanted, above), int(g.Target)-live))
}
