package nodegroup

import "time"

// keepWarm divides the surplus into what is released and what stays for the next growth, by name, each with the time until
// which it does. next is when the first of them is due.
func (g *Group) keepWarm(surplus []*Machine, now time.Time) (released []*Machine, warm map[string]time.Time, next time.Time) {
	if g.ScaleDownDelay <= 0 || g.Deleting {
		return surplus, nil, next
	}
	warm = map[string]time.Time{}
	for _, m := range surplus {
		until := now
		switch {
		case m.Node == nil || !m.Node.Ready || m.Node.Releasing || !m.usable(now, g.ProvisionTimeout):
		case m.Node.HeldBy != "":
			// It is given up in this pass.
			until = now.Add(g.ScaleDownDelay)
		case !m.Node.GivenUpAt.IsZero():
			until = m.Node.GivenUpAt.Add(g.ScaleDownDelay)
		}
		if !now.Before(until) {
			released = append(released, m)
			continue
		}
		warm[m.Name] = until
		next = earlier(next, until)
	}
	return released, warm, next
}

// givenUpNow reports whether a node is given up in this pass that is to stay for the next growth. Not all of those are surplus:
// a claim may be about to take one and then take another, and the pods that were on one may be gone before the next pass.
func (g *Group) givenUpNow(node *Node, holder string) bool {
	return g.ScaleDownDelay > 0 && !g.Deleting && node.HeldBy != "" && holder == "" && node.Ready && !node.Leaving && !node.Releasing
}
