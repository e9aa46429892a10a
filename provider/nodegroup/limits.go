package nodegroup

import "time"

const (
	// maxToDelete is how many names spec.machinesToDelete may have: the API server refuses a write with more.
	maxToDelete = 5000
	// maxAtOnce is how many names one pass puts there that have to be looked at: the API server is asked about each node first.
	maxAtOnce = 500
	// nextPart is how long after such a pass the next one is due at the latest.
	nextPart = time.Second
)

// limitDeletions leaves machines that are to go to the next passes where there are too many of them for one, or for the list of those
// that go.
func (g *Group) limitDeletions(d *Decisions, now time.Time) {
	room := min(maxAtOnce, g.roomToDelete())
	if len(d.Release)+len(d.Retire) <= room {
		return
	}
	d.Release = d.Release[:min(len(d.Release), room)]
	d.Retire = d.Retire[:min(len(d.Retire), room-len(d.Release))]
	if room > 0 {
		// Where there is no room, the write that makes some brings the next pass.
		d.Next = earlier(d.Next, now.Add(nextPart))
	}
}

// roomToDelete is how many names may be added to those of the machines that are to go.
func (g *Group) roomToDelete() int { return max(0, maxToDelete-len(g.ToDelete)) }

// fitting are as many machines as ToDelete has room for.
func (g *Group) fitting(d *Decisions, machines []*Machine, now time.Time) []*Machine {
	if room := g.roomToDelete(); len(machines) > room {
		d.Next = earlier(d.Next, now.Add(nextPart))
		return machines[:room]
	}
	return machines
}
