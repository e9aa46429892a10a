package nodegroup

import "time"

// planEnd takes a pool apart that is being deleted. Every node is tainted, so that no pod comes to it any more, and
// goes when the last pod has left it. There may be more of them than the target counts. Nothing is replaced.
func (g *Group) planEnd(d *Decisions, now time.Time) {
	recorded := g.ToDelete
	g = g.lose(d, false, now)
	live := g.live()
	chosen := map[string]string{}
	for _, m := range live {
		chosen[m.Name] = "the NodePool is being deleted; no pod may come to the node any more"
		switch {
		case m.Node != nil && (!m.Node.Releasing || m.Node.Pods > 0):
		case !m.free():
		case len(d.Release) < int(g.Target):
			d.Release = append(d.Release, m.Name)
		default:
			d.Retire = append(d.Retire, m.Name)
		}
	}
	g.limitDeletions(d, now)
	d.Marks = g.marks(nil, chosen, nil, nil)
	d.GiveUp = max(0, g.Target-int32(len(live))) //nolint:gosec // At most MaxSize and those that were cancelled.
	g.deletions(d, recorded)
	d.Finish = len(g.Machines) == 0 && len(g.ToDelete) == 0 && g.Target == 0
}
