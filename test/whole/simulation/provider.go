package simulation

import (
	"cmp"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// announceTimeout is how long a release waits for Cluster Autoscaler to ask for the minimum size: the provider's default.
const announceTimeout = 15 * time.Second

// provider is the process that runs the real planner of pools, one pass of one pool at a time, and answers Cluster
// Autoscaler from its cache.
type provider struct {
	process
	world *world
	alarm alarm
	// since is when it was started.
	since time.Time
	// due are the pools that a pass is due for, busy is set during one.
	due  map[string]bool
	busy bool
	// timers wake a pool when time alone changes what becomes of it.
	timers map[string]*alarm
	// written has the versions of the NodePools that it has written and that its cache may not have.
	written map[string]int64
	// told are the minimum sizes that it has told Cluster Autoscaler, believed the target sizes.
	told, believed map[string]int32
	// answers are the NodePools that it has written for Cluster Autoscaler and that its cache may not have.
	answers map[string]*poolObject
}

func newProvider(w *world) *provider {
	p := &provider{world: w}
	p.alarm = alarm{clock: &w.clock, ring: p.work}
	p.noticed = func() {
		for i := range w.settings.pools {
			p.due[w.settings.pools[i].name] = true
		}
		p.alarm.in(30 * time.Millisecond)
		w.loop.alarm.in(20 * time.Millisecond)
	}
	w.processes[providerCache] = &p.process
	return p
}

func (p *provider) start() {
	p.up, p.since = true, p.world.now
	p.life++
	p.busy, p.due, p.timers = false, map[string]bool{}, map[string]*alarm{}
	p.written, p.told, p.believed = map[string]int64{}, map[string]int32{}, map[string]int32{}
	p.answers = map[string]*poolObject{}
	w := p.world
	w.members.fill(providerCache)
	w.pools.fill(providerCache)
	w.machines.fill(providerCache)
	w.nodes.fill(providerCache)
	w.pods.fill(providerCache)
	w.loop.start()
	p.noticed()
}

// kill ends the process.
func (p *provider) kill() {
	p.up = false
	p.life++
	p.alarm.stop()
	p.world.loop.kill()
	for _, t := range p.timers {
		t.stop()
	}
}

// wake makes a pass of one pool due.
func (p *provider) wake(pool string, delay time.Duration) {
	t := p.timers[pool]
	if t == nil {
		t = &alarm{clock: &p.world.clock}
		t.ring = func() {
			p.due[pool] = true
			p.alarm.in(0)
		}
		p.timers[pool] = t
	}
	t.in(delay)
}

// work takes the next pool that a pass is due for.
func (p *provider) work() {
	if p.busy {
		return
	}
	for i := range p.world.settings.pools {
		name := p.world.settings.pools[i].name
		if p.due[name] {
			delete(p.due, name)
			p.pass(name)
			return
		}
	}
}

func (p *provider) pass(name string) {
	w := p.world
	pool := w.pools.caches[providerCache].get(name)
	if pool.version < p.written[name] {
		p.wake(name, 100*time.Millisecond)
		p.alarm.in(0)
		return
	}
	group := p.group(pool)
	decisions := nodegroup.Plan(group, announceTimeout, w.now)
	p.busy = true
	a := &release{provider: p, of: p.life, pool: pool, group: group, decisions: &decisions, planned: w.now}
	a.begin()
}

// finished ends a pass. A pass that was cut short is made again.
func (p *provider) finished(name string, whole bool, next time.Time) {
	p.busy = false
	if !whole {
		p.wake(name, 100*time.Millisecond)
	} else if !next.IsZero() {
		p.wake(name, max(next.Sub(p.world.now), time.Millisecond))
	}
	p.alarm.in(0)
}

// group is what the provider's cache knows of a pool.
func (p *provider) group(pool *poolObject) *nodegroup.Group {
	w := p.world
	g := groupOf(pool)
	g.CanBeAtomic = w.cloud.settings(pool.name).atomic
	pods := map[string]int{}
	for _, pod := range w.pods.caches[providerCache].items {
		if pod.node != "" && pod.daemon == "" {
			pods[pod.node]++
		}
	}
	for _, m := range w.machines.caches[providerCache].items {
		if m.pool != pool.name {
			continue
		}
		machine := machineOf(m)
		if n := w.loop.nodeOf(machine.ProviderID, m.nodeName); n != nil {
			machine.Node = &nodegroup.Node{
				Name: n.name, CreatedAt: n.createdAt, Ready: n.ready, NotReadySince: n.notReadySince, Cordoned: n.cordoned,
				Leaving: n.tainted && !n.ours, Releasing: n.ours, Untainted: n.releasing && !n.ours, HeldBy: n.heldBy,
				Reserved: n.reserved || m.purpose == v1alpha1.PurposeReservation, Pods: pods[n.name],
			}
		}
		g.Machines = append(g.Machines, machine)
	}
	g.Reservations = claims(pool.name, w.members.caches[providerCache].items)
	p.lift(g)
	return g
}

// bare is a group without its nodes, with the machines that the cache knows or that there are.
func (p *provider) bare(pool *poolObject, live bool) *nodegroup.Group {
	g := groupOf(pool)
	items := p.world.machines.caches[providerCache].items
	if live {
		items = p.world.machines.live.items
	}
	for _, m := range items {
		if m.pool == pool.name {
			machine := machineOf(m)
			if live && !machine.Registered {
				machine.Registered = p.world.loop.nodeOf(machine.ProviderID, m.nodeName) != nil
			}
			g.Machines = append(g.Machines, machine)
		}
	}
	g.Reservations = claims(pool.name, p.world.members.caches[providerCache].items)
	p.lift(g)
	return g
}

// lift counts the names of the machines that are known as claimed: one beyond means that the claim is not known yet.
func (p *provider) lift(g *nodegroup.Group) {
	for i := range g.Machines {
		g.Ordered = max(g.Ordered, nodegroup.Number(g.Name, g.Machines[i].Name)+1)
	}
}

func groupOf(p *poolObject) *nodegroup.Group {
	return &nodegroup.Group{
		Name: p.name, MinSize: p.minSize, MaxSize: p.maxSize, Target: p.target, ForMembers: p.forMembers, ToDelete: p.toDelete,
		Paused:           p.paused,
		ProvisionTimeout: p.provisionTimeout, Floor: p.floor, FloorChangedAt: p.floorChangedAt, AnnouncedFloor: p.announced,
		Ordered: p.ordered, OrderedFrom: p.orderedFrom, KnownFailed: p.failed, LastFailure: p.lastFailure,
	}
}

const idPrefix = "sim://"

// machineOf is what a record says of its machine. One that was found and not ordered has a node from the beginning.
func machineOf(m *machineObject) nodegroup.Machine {
	return nodegroup.Machine{
		Name: m.name, NodeName: m.nodeName, ProviderID: cmp.Or(m.providerID, m.adopted), Purpose: m.purpose, Order: m.order,
		OrderedAt: m.orderedAt,
		Asked:     m.asked(), Throttled: m.throttled, Registered: m.nodeName != "" || m.adopted != "", Failure: m.failure, LeavingAt: m.leavingAt,
		Going: m.going,
	}
}

// recent is a NodePool as the provider answers: from its cache, or what it has written since. Another replica has not written it.
func (p *provider) recent(pool string) *poolObject {
	seen := p.world.pools.caches[providerCache].get(pool)
	if written := p.answers[pool]; written != nil && written.version > seen.version && !p.world.replicas {
		return written
	}
	return seen
}

// asked are the machines that Cluster Autoscaler means by provider ids and placeholders. What is gone is none.
func (p *provider) asked(group *nodegroup.Group, ids []string) []nodegroup.Asked {
	var out []nodegroup.Asked
	for _, id := range ids {
		if pool, name, is := nodegroup.ParsePlaceholder(id); is && pool == group.Name {
			out = append(out, nodegroup.Asked{Machine: name, ByPlaceholder: true})
			continue
		}
		for i := range group.Machines {
			if group.Machines[i].ProviderID == id {
				out = append(out, nodegroup.Asked{Machine: group.Machines[i].Name})
			}
		}
	}
	return out
}

// claims are the reservations of members in a pool.
func claims(pool string, members []*memberObject) []nodegroup.Reservation {
	var out []nodegroup.Reservation
	for _, m := range members {
		for i := range m.reservations {
			if r := &m.reservations[i]; r.NodePool == pool {
				claim := nodegroup.Reservation{
					Member: "default/" + m.name, Nodes: r.Nodes, Occupied: r.Occupied, Held: r.Held,
					AllOrNothing: m.takesAll(), Domain: m.domain, Since: m.arrivedAt,
				}
				if m.growth != nil {
					claim.Since, claim.Claim = m.growth.Since.Time, m.claim()
				}
				out = append(out, claim)
			}
		}
	}
	return out
}
