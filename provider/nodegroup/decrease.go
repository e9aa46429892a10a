package nodegroup

// DecreaseTargetSize is the target after Cluster Autoscaler has cancelled -delta orders. It never goes
// below the number of machines that have registered and still exist: since 1.36 a scale-up that timed out asks for its
// whole delta back even if a part of it has arrived. The error is a *Refusal.
func (g *Group) DecreaseTargetSize(delta int32) (target int32, err error) {
	if delta >= 0 {
		return 0, refuse(Malformed, "delta is %d; DecreaseTargetSize of %s takes a number below 0", delta, g.Name)
	}
	if g.Paused {
		return 0, g.paused()
	}
	var registered int32
	for _, m := range g.live() {
		if m.arrived() && !m.lost() {
			registered++
		}
	}
	return max(int64Clamp(int64(g.Target)+int64(delta)), min(registered, g.Target)), nil
}

func int64Clamp(n int64) int32 { return int32(max(0, n)) } //nolint:gosec // Below an int32 by construction.
