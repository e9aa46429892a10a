package nodegroup

// IncreaseSize is the target after Cluster Autoscaler has ordered delta machines, and the part of it that the
// floor calls for. told is the target that it was last told, and from which it has computed delta; -1 where that is not known. What
// the target has grown by since is not added once more: where nothing is lacking, the target stays. The error is a *Refusal.
func (g *Group) IncreaseSize(delta, told int32) (target, forMembers int32, err error) {
	if g.Deleting {
		return 0, 0, refuse(Forbidden, "%s is being deleted", g.Name)
	}
	if delta <= 0 {
		return 0, 0, refuse(Malformed, "delta is %d; IncreaseSize of %s takes a number above 0", delta, g.Name)
	}
	if g.Paused {
		return 0, 0, g.paused()
	}
	lacking := int64(delta)
	if told >= 0 {
		lacking = max(0, lacking-max(0, int64(g.Target)-int64(told)))
	}
	if lacking == 0 {
		return g.Target, g.ForMembers, nil
	}
	if int64(g.Target)+lacking > int64(g.MaxSize) {
		return 0, 0, refuse(OutOfRange, "the target size %d of %s plus %d is %d, above its maxSize %d",
			g.Target, g.Name, lacking, int64(g.Target)+lacking, g.MaxSize)
	}
	target, floor := g.Target+int32(lacking), g.Floor //nolint:gosec // At most MaxSize.
	if target == g.AnnouncedFloor {
		// It asks for the minimum size that it was told at the start of its loop. Members may have given up a part of that since,
		// and then these orders are to be given up too: nobody else has asked for them.
		floor = max(floor, g.AnnouncedFloor)
	}
	return target, g.raisedForMembers(target, floor), nil
}
