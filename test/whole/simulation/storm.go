package simulation

import (
	"fmt"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// storm is how long things go wrong in a random world.
const storm = 25 * time.Minute

// simulate runs a random world: a storm, then quiet until everything is in its place.
func simulate(seed uint64, telling bool) *world {
	w := brew(seed, telling)
	w.run(storm)
	if len(w.broken) == 0 {
		w.calmDown()
		w.settle()
	}
	return w
}

// brew makes a random world, in which nothing has happened yet.
func brew(seed uint64, telling bool) *world {
	s := stormy(seed)
	s.telling = telling
	w := newWorld(s)
	w.nodes.create(&nodeObject{meta: meta{name: "login-0"}, ready: true, createdAt: w.now, since: w.now})
	calmFor := 10 * time.Second
	if s.contest {
		w.contest()
		calmFor = 2*s.pools[0].boot.most + 70*time.Second
	} else {
		w.arriveSomehow()
	}
	w.after(calmFor-10*time.Second+w.draw(span{time.Minute, 3 * time.Minute}), w.arriveSomehow)
	var next func()
	next = func() {
		if w.quiet {
			return
		}
		w.happen()
		w.after(w.draw(span{time.Second, 50 * time.Second}), next)
	}
	w.calmUntil = w.now.Add(calmFor)
	w.after(calmFor, next)
	w.after(calmFor, w.beginTroubles)
	return w
}

// happen lets one thing happen that none of our parts decides.
func (w *world) happen() {
	switch w.rand.IntN(20) {
	case 0:
		w.arriveSomehow()
	case 1, 2, 3:
		if q := w.someQueue(); q != nil {
			m := w.members.get(q.member)
			q.submit(1+w.rand.Int32N(m.maxSize), w.draw(span{20 * time.Second, 5 * time.Minute}).Truncate(time.Second))
		}
	case 4:
		if q := w.someQueue(); q != nil {
			w.ensemble.ask(q.member, []action{grow, shrink}[w.rand.IntN(2)], 1+w.rand.Int32N(5))
		}
	case 5:
		w.memberEnds()
	case 6, 7:
		w.tenantArrives()
	case 8:
		if n := w.someNode(); n != nil && w.chance(50) {
			w.tell("cloud", "%s is taken away", n.name)
			w.ledger.counts["nodes lost"]++
			w.cloud.gone(n.name)
		}
	case 9:
		if n := w.someNode(); n != nil {
			name := n.name
			w.cordon(name, true)
			w.after(w.draw(span{10 * time.Second, 4 * time.Minute}), func() { w.cordon(name, false) })
		}
	case 10:
		if n := w.someNode(); n != nil && n.ready {
			name := n.name
			w.setReady(name, false)
			w.after(w.draw(span{time.Second, 2 * time.Minute}), func() { w.setReady(name, true) })
		}
	case 11, 12:
		w.killController()
	case 13:
		w.killProvider()
	case 14:
		w.killAutoscaler()
	case 15:
		// The API server's events are late for everybody.
		w.slow = w.now.Add(w.draw(span{5 * time.Second, 30 * time.Second}))
	case 16:
		if q := w.someQueue(); q != nil {
			if m := w.members.get(q.member); m.gated {
				w.ensemble.edit(m.name, m.minSize+w.rand.Int32N(m.maxSize-m.minSize+1))
			}
		}
	case 17, 18, 19:
		w.mishap()
	}
}

// memberEnds completes a Job, whose MiniCluster is deleted later, or deletes a MiniCluster.
func (w *world) memberEnds() {
	q := w.someQueue()
	switch {
	case q == nil || !w.chance(40):
	case w.chance(50):
		w.ensemble.finish(q.member)
		w.after(w.draw(span{10 * time.Second, 2 * time.Minute}), func() { w.ensemble.delete(q.member) })
	default:
		w.ensemble.delete(q.member)
	}
}

func (w *world) killController() {
	if !w.controller.up {
		return
	}
	w.tell("storm", "the controller is killed")
	w.ledger.counts["kills"]++
	w.controller.kill()
	w.after(w.draw(span{500 * time.Millisecond, 40 * time.Second}), w.startController)
}

func (w *world) startController() {
	if !w.controller.up {
		w.tell("storm", "the controller starts")
		w.controller.start()
	}
}

func (w *world) killProvider() {
	if !w.provider.up {
		return
	}
	w.tell("storm", "the provider is killed")
	w.ledger.counts["kills"]++
	w.provider.kill()
	w.after(w.draw(span{500 * time.Millisecond, 40 * time.Second}), w.startProvider)
}

func (w *world) startProvider() {
	if !w.provider.up {
		w.tell("storm", "the provider starts")
		w.provider.start()
	}
}

func (w *world) killAutoscaler() {
	if !w.autoscaler.up {
		return
	}
	w.tell("storm", "Cluster Autoscaler is killed")
	w.ledger.counts["kills"]++
	w.autoscaler.kill()
	w.after(w.draw(span{5 * time.Second, time.Minute}), w.startAutoscaler)
}

func (w *world) startAutoscaler() {
	if !w.autoscaler.up {
		w.tell("storm", "Cluster Autoscaler starts")
		w.autoscaler.start()
	}
}

// someQueue is that of some member whose MiniCluster runs.
func (w *world) someQueue() *queue {
	var live []*queue
	for _, m := range w.members.live.items {
		if q := w.ensemble.queues[m.name]; q != nil {
			live = append(live, q)
		}
	}
	if len(live) == 0 {
		return nil
	}
	return live[w.rand.IntN(len(live))]
}

// someNode is some node of a pool.
func (w *world) someNode() *nodeObject {
	if len(w.nodes.live.items) == 0 {
		return nil
	}
	n := w.nodes.live.items[w.rand.IntN(len(w.nodes.live.items))]
	if n.pool == "" {
		return nil
	}
	return n
}

// arriveSomehow makes a member whose settings are drawn.
func (w *world) arriveSomehow() {
	if len(w.ensemble.queues) >= 4 {
		return
	}
	w.arrivals++
	size := 1 + w.rand.Int32N(3)
	pools := [][]string{{"hpc-a"}, {"hpc-b"}, {"hpc-a", "hpc-b"}, {"hpc-b", "hpc-a"}}
	if len(w.settings.pools) > 2 {
		pools = append(pools, []string{"hpc-c"}, []string{"hpc-a", "hpc-b", "hpc-c"}, []string{"hpc-c", "hpc-a"}, []string{"hpc-b", "hpc-c",
			"hpc-a"})
	}
	m := &memberObject{
		meta: meta{name: fmt.Sprintf("m%d", w.arrivals)}, wants: size, minSize: 1, maxSize: size + w.rand.Int32N(8),
		pools:    pools[w.rand.IntN(len(pools))],
		coalesce: w.chance(30),
	}
	m.policy = []v1alpha1.GrowthPolicy{v1alpha1.GrowthAllOrNothing, v1alpha1.GrowthAllOrNothing, v1alpha1.GrowthBestEffort,
		v1alpha1.GrowthGreedy}[w.rand.IntN(4)]
	m.placement = []v1alpha1.Placement{v1alpha1.PlacementSpan, v1alpha1.PlacementSingle}[w.rand.IntN(2)]
	if w.chance(25) {
		m.podsPerNode = []int32{2, 3, plan.Auto}[w.rand.IntN(3)]
	}
	m.giveUpAfter = []int32{0, 0, 2}[w.rand.IntN(3)]
	if w.chance(40) && w.zoned(m.pools) {
		m.topologyKey = zoneKey
	}
	m.gated = m.topologyKey != "" || w.chance(50)
	w.troubleMember(m)
	w.ensemble.arrive(m)
	w.ensemble.open(m.name, w.draw(span{15 * time.Second, time.Minute}))
}

// tenantArrives brings pods of somebody else, who leaves later.
func (w *world) tenantArrives() {
	pool := w.settings.pools[w.rand.IntN(len(w.settings.pools))]
	pools := []string{pool.name}
	if pool.dedicated {
		pools = []string{""}
	}
	for range 1 + w.rand.IntN(3) {
		w.tenants++
		name := fmt.Sprintf("web-%d", w.tenants)
		w.pods.create(&podObject{meta: meta{name: name}, pools: pools, cpu: []int64{500, 2000, 4000}[w.rand.IntN(3)], createdAt: w.now})
		w.after(w.draw(span{10 * time.Second, 6 * time.Minute}), func() { w.jobs.end(name) })
	}
	w.scheduler.wake()
}

// calmDown ends what goes wrong: all processes run, and nothing new is asked for. In most worlds the cloud is good for every
// machine from now on, so that every desired size can be served that fits its pools.
func (w *world) calmDown() {
	w.quiet = true
	w.tell("storm", "nothing happens any more that nobody asked for")
	w.startController()
	w.startProvider()
	w.startAutoscaler()
	for _, p := range w.pools.live.items {
		w.pause(p.name, false)
	}
	for _, n := range w.nodes.live.items {
		if n.cordoned {
			w.cordon(n.name, false)
		}
	}
	perfect := w.rand.IntN(3) != 0
	if w.troubled {
		w.endTroubles(perfect)
	}
	if !perfect {
		return
	}
	w.cloud.perfect = true
	for i := range w.settings.pools {
		w.settings.pools[i].stock = -1
	}
}
