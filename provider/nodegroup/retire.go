package nodegroup

import "time"

// defaultReplaceAfter is ReplaceAfter where that is not set.
const defaultReplaceAfter = time.Minute

// retire finds, where no autoscaler decides, the machines that are to go while the target stays, with the reason
// of each: those that will not come up and are replaced, and those that a lower target does not count any more.
// next is when another one is due.
func (g *Group) retire(
	holders, chosen map[string]string, surplus []*Machine, floor int32, now time.Time,
) (retired map[string]string, next time.Time) {
	if !g.FollowsFloor {
		return nil, next
	}
	retired = map[string]string{}
	spare := map[string]bool{}
	for _, m := range surplus {
		spare[m.Name] = true
	}
	live := g.live()
	over := len(live) - int(max(g.maxSize(), g.minTarget(floor))) - len(chosen)
	var idle []*Machine
	for _, m := range live {
		if chosen[m.Name] != "" || holders[m.nodeName()] != "" || m.lost() {
			// lose finds those that are lost.
			continue
		}
		switch due, why := g.replacement(m); {
		case why != "" && now.Before(due):
			next = earlier(next, due)
		case why != "":
			retired[m.Name] = why
			over--
			continue
		}
		switch {
		case !m.arrived():
			// cancelled has it.
			over--
		case m.Node != nil && m.Node.Pods == 0 && (spare[m.Name] || !m.marked()):
			idle = append(idle, m)
		}
	}
	for _, m := range idle[:min(len(idle), max(0, over))] {
		retired[m.Name] = "no pod uses the node and the target does not count it any more; it is released"
	}
	return retired, next
}

// replacement says when a machine that will not come up is to be replaced, and why; why is empty for any other.
func (g *Group) replacement(m *Machine) (due time.Time, why string) {
	switch {
	case m.Failure != nil:
		return g.replaceableAt(m), "the machine has failed and is replaced"
	case m.Node != nil && !m.Node.Ready && m.Node.Pods == 0 && !m.Node.Leaving:
		return m.Node.NotReadySince.Add(g.ProvisionTimeout), "the node has not been Ready for the provisionTimeout and is replaced"
	}
	return due, ""
}

// replaceableAt is when a machine that has failed is replaced at the earliest: a cloud that is out of machines is asked once in
// ReplaceAfter for all that are lacking, which is as often as its kind bears. The time does not double with each failure in a row:
// a failed machine is forgotten when it is replaced, so nothing that is recorded counts them, and one call in some minutes
// costs less than a cloud that has machines again and is not asked.
func (g *Group) replaceableAt(m *Machine) time.Time {
	if g.ReplaceAfter <= 0 {
		return m.OrderedAt.Add(defaultReplaceAfter)
	}
	return m.OrderedAt.Add(g.ReplaceAfter)
}
