package simulation

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// world is a cluster, the programs in it and the cloud below it.
type world struct {
	clock
	settings
	rand *rand.Rand

	members  table[memberObject, *memberObject]
	clusters table[clusterObject, *clusterObject]
	pools    table[poolObject, *poolObject]
	machines table[machineObject, *machineObject]
	nodes    table[nodeObject, *nodeObject]
	pods     table[podObject, *podObject]

	// version is that of the last write, changed is set when there was one since the last check.
	version int64
	changed bool

	processes  [watchers]*process
	controller *controller
	provider   *provider
	loop       *machineLoop
	autoscaler *autoscaler
	cloud      *cloud
	jobs       *jobs
	scheduler  *scheduler
	ensemble   *ensemble
	ledger     *ledger

	// arrivals and tenants count those that have come, so that each has a name of its own.
	arrivals, tenants int
	// contestants are members that asked together for what the cloud has not for all of them.
	contestants []string
	// calmUntil is when things begin to go wrong.
	calmUntil time.Time
	// slow is until when caches are late with everything.
	slow time.Time
	// quiet is set when nothing happens any more that nobody asked for.
	quiet bool

	story  []string
	broken []string
	// watch looks at the world after every event, nil for nobody. It changes nothing.
	watch func()
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

func newWorld(s settings) *world {
	w := &world{clock: clock{now: noon}, settings: s, rand: newRand(s.seed)}
	w.members.world, w.clusters.world, w.pools.world = w, w, w
	w.machines.world, w.nodes.world, w.pods.world = w, w, w
	both := [watchers]bool{controllerCache: true, providerCache: true}
	w.members.watchedBy, w.pools.watchedBy, w.nodes.watchedBy, w.pods.watchedBy = both, both, both, both
	w.machines.watchedBy = both
	w.clusters.watchedBy[controllerCache] = true

	w.ledger = newLedger(w)
	w.cloud, w.loop = newCloud(w), newMachineLoop(w)
	w.jobs, w.scheduler = newJobs(w), newScheduler(w)
	w.controller, w.provider, w.autoscaler = newController(w), newProvider(w), newAutoscaler(w)
	w.ensemble = newEnsemble(w)
	for i := range s.pools {
		p := &s.pools[i]
		w.pools.create(&poolObject{meta: meta{name: p.name}, minSize: p.minSize, maxSize: p.maxSize, provisionTimeout: p.provisionTimeout,
			labels: p.labels(), cpu: nodeCPU, devices: p.deviceCount(), daemons: p.planDaemons()})
	}
	if !s.patchFirst {
		w.controller.start()
	}
	w.provider.start()
	w.autoscaler.start()
	return w
}

// run lets everything happen that is due until a time after the beginning. It ends early when a promise is broken.
func (w *world) run(until time.Duration) {
	end := noon.Add(until)
	before, still := w.now, 0
	for w.step(end) {
		if still++; !w.now.Equal(before) {
			before, still = w.now, 0
		}
		w.promise(still < 10000, "something happens again and again, and no time passes")
		w.check()
		if w.watch != nil {
			w.watch()
		}
		if len(w.broken) > 0 {
			return
		}
	}
}

// draw is a time within a span.
func (w *world) draw(s span) time.Duration {
	if s.most <= s.least {
		return s.least
	}
	return s.least + time.Duration(w.rand.Int64N(int64(s.most-s.least)))
}

// chance is true in so many of a hundred cases.
func (w *world) chance(percent int) bool { return percent > 0 && w.rand.IntN(100) < percent }

// watchDelay is how long a change takes to the cache of a watcher. Most come fast; the slow ones are what matters.
func (w *world) watchDelay(watcher) time.Duration {
	if w.quiet || (!w.chance(15) && w.now.After(w.slow)) {
		return w.draw(span{w.lag.least, min(w.lag.most, 10*w.lag.least)})
	}
	return w.draw(w.lag)
}

// tell adds a line to the story.
func (w *world) tell(who, format string, arguments ...any) {
	if w.telling {
		w.story = append(w.story, line(w.now, who, fmt.Sprintf(format, arguments...)))
	}
}

// line is one line of a story: when, who, what.
func line(at time.Time, who, what string) string {
	return fmt.Sprintf("%s  %-10s  %s", relative(at), who, strings.TrimSpace(timestamps.ReplaceAllStringFunc(what, inStory)))
}

// promise tells that a promise is broken, unless it is held.
func (w *world) promise(held bool, format string, arguments ...any) {
	if held {
		return
	}
	w.broken = append(w.broken, fmt.Sprintf(format, arguments...))
	w.tell("BROKEN", format, arguments...)
}
