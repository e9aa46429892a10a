package plan_test

import (
	"maps"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// announce is a spot notice: the cloud will take a machine away. The provider orders another in its place.
func (w *world) announce(n *worldNode) {
	if n == nil || n.Departure != nil || n.readyAt.After(w.now) {
		return
	}
	n.Leaving, n.Departure = true, &plan.Departure{At: w.now.Add(2 * time.Minute)}
	w.tell("%s leaves at %s", n.Name, n.Departure.At.Format(time.TimeOnly))
}

// takeAway takes away the machines whose time has come.
func (w *world) takeAway() {
	for _, name := range slices.Sorted(maps.Keys(w.pools)) {
		for _, n := range slices.Sorted(maps.Keys(w.pools[name].nodes)) {
			if d := w.pools[name].nodes[n].Departure; d != nil && !w.now.Before(d.At) {
				delete(w.pools[name].nodes, n)
				w.tell("%s is taken away", n)
			}
		}
	}
}

// lasting counts the machines of a pool that the cloud has not said to take away.
func (p *worldPool) lasting() int {
	count := 0
	for _, n := range p.nodes {
		if !n.Leaving {
			count++
		}
	}
	return count
}

// hear is a member that is told of departures, of each once.
func (w *world) hear(m *worldMember, d plan.Decision) {
	for _, name := range d.Departing {
		n := w.node(name)
		w.promise(n != nil && n.Departure != nil && !n.Departure.Told, "%s is told again, or wrongly, that %s leaves", m.Key.Name, name)
		if n != nil && n.Departure != nil {
			// What was observed is not changed.
			told := *n.Departure
			told.Told = true
			n.Departure = &told
		}
	}
}
