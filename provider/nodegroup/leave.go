package nodegroup

import "time"

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
