package simulation

import (
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// staleRetry is how long a pass waits that found its cache behind its own writes, or lost against another writer.
const staleRetry = 200 * time.Millisecond

// controller is the process that runs the real planner. It sees the objects late, and its writes take time: it can be killed
// between any two of them.
type controller struct {
	process
	world *world
	// reads is whose caches it observes.
	reads watcher
	alarm alarm
	// since is when it was started.
	since time.Time

	// busy is set during a pass, again when something was noticed meanwhile.
	busy, again bool
	// members and clusters have the versions of its own writes that its cache may not have.
	members, clusters, pods map[string]int64
	// next is when a node that no machine vouches for is a stranger.
	next time.Time
	// recorded is called after each write of a status, nil for nobody.
	recorded func(*memberObject)
	// released is called after each release of a pod, nil for nobody.
	released func(*podObject)
	// decided is called after each plan, before any of it is written, nil for nobody. It changes nothing.
	decided func(*plan.Observed, []plan.Decision)
}

func newController(w *world) *controller {
	c := &controller{world: w}
	c.alarm = alarm{clock: &w.clock, ring: c.pass}
	c.noticed = func() {
		if c.busy {
			c.again = true
			return
		}
		c.alarm.in(20 * time.Millisecond)
	}
	w.processes[controllerCache] = &c.process
	return c
}

func (c *controller) start() {
	c.up, c.since = true, c.world.now
	c.life++
	c.busy, c.again = false, false
	c.members, c.clusters, c.pods = map[string]int64{}, map[string]int64{}, map[string]int64{}
	w := c.world
	w.list(controllerCache)
	c.alarm.in(staleRetry)
}

// list gives a watcher all that a controller reads.
func (w *world) list(who watcher) {
	w.members.fill(who)
	w.clusters.fill(who)
	w.pools.fill(who)
	w.nodes.fill(who)
	w.machines.fill(who)
	w.pods.fill(who)
}

// kill ends the process. What it has asked of the API server before has happened, nothing else does.
func (c *controller) kill() {
	c.up = false
	c.life++
	c.alarm.stop()
}

// behind reports whether the cache has an older version of something than this process has written.
func (c *controller) behind() bool {
	for name, version := range c.members {
		if seen := c.world.members.caches[controllerCache].get(name); seen != nil && seen.version < version {
			return true
		}
		delete(c.members, name)
	}
	for name, version := range c.clusters {
		if seen := c.world.clusters.caches[controllerCache].get(name); seen != nil && seen.version < version {
			return true
		}
		delete(c.clusters, name)
	}
	for name, version := range c.pods {
		if seen := c.world.pods.caches[controllerCache].get(name); seen != nil && seen.version < version {
			return true
		}
		delete(c.pods, name)
	}
	return false
}

// pass observes, plans and begins to apply.
func (c *controller) pass() {
	if c.behind() {
		c.alarm.in(staleRetry)
		return
	}
	w := c.world
	c.next = time.Time{}
	observed := c.observe()
	decisions := plan.Plan(observed, w.now)
	w.checkPlan(&observed, &decisions)
	if c.decided != nil {
		c.decided(&observed, decisions.Members)
	}
	a := &application{
		controller: c, of: c.life, planned: w.now, observed: observed, decided: decisions.Members, next: sooner(c.next, decisions.Next),
	}
	var givers, takers []*chore
	for i := range decisions.Members {
		d := &decisions.Members[i]
		read := w.members.caches[controllerCache].get(d.Key.Name)
		job := &chore{decision: d, member: read, cluster: w.clusters.caches[controllerCache].get(d.Key.Name)}
		a.prepare(job)
		switch {
		case len(job.writes) == 0:
		case job.syncs:
			a.chores = append(a.chores, job)
		case givesUp(read.reservations, d.Reservations):
			givers = append(givers, job)
		default:
			takers = append(takers, job)
		}
	}
	a.later = [][]*chore{givers, takers}
	c.busy = true
	a.proceed()
}

// finish ends a pass.
func (c *controller) finish(conflict bool, next time.Time) {
	c.busy = false
	switch {
	case conflict:
		c.alarm.in(staleRetry)
	case !next.IsZero():
		c.alarm.in(max(next.Sub(c.world.now), time.Millisecond))
	}
	if c.again {
		c.again = false
		c.alarm.in(20 * time.Millisecond)
	}
}

// givesUp reports whether a decision takes nodes or claims from the member.
func givesUp(before, after reservations) bool {
	return slices.ContainsFunc(before, func(b reservation) bool {
		i := slices.IndexFunc(after, func(a reservation) bool { return a.NodePool == b.NodePool })
		return i < 0 || after[i].Nodes < b.Nodes || slices.ContainsFunc(b.Held,
			func(node string) bool { return !slices.Contains(after[i].Held, node) })
	})
}
