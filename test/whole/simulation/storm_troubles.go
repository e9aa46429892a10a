package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// beginTroubles lets what is written not be done, now and then, in a world that is troubled.
func (w *world) beginTroubles() {
	if !w.troubled {
		return
	}
	var next func()
	next = func() {
		if w.quiet {
			return
		}
		w.trouble()
		w.after(w.draw(span{5 * time.Second, 80 * time.Second}), next)
	}
	w.after(w.draw(span{20 * time.Second, time.Minute}), next)
}

// trouble lets one thing happen that keeps somebody from what was written.
func (w *world) trouble() {
	pool := &w.settings.pools[w.rand.IntN(len(w.settings.pools))]
	kind := w.rand.IntN(11)
	c := w.someCluster()
	switch {
	case kind == 0:
		w.restock(pool)
	case kind == 1:
		w.setAllowed(pool.name, labels{"team": []string{"red", "blue"}[w.rand.IntN(2)]})
		w.after(w.draw(span{30 * time.Second, 8 * time.Minute}), func() { w.setAllowed(pool.name, nil) })
	case kind == 2 && w.chance(40):
		w.editTemplate(pool.name)
	case c == nil:
	case kind <= 4:
		w.setQuota(c.name, w.rand.Int32N(c.size+1))
		w.after(w.draw(span{time.Minute, 12 * time.Minute}), func() { w.liftQuota(c.name) })
	case kind <= 6:
		w.suspend(c.name, true)
		w.after(w.draw(span{30 * time.Second, 6 * time.Minute}), func() { w.suspend(c.name, false) })
	case kind <= 8:
		w.someSucceeds(c.name)
	case kind == 9 && w.chance(30):
		w.ensemble.deleteNamespace(c.name)
	case kind == 10:
		w.setInvalid(c.name, "spec.containers[0].resources: cannot be read")
		w.after(w.draw(span{20 * time.Second, 5 * time.Minute}), func() { w.setInvalid(c.name, "") })
	}
}

// someCluster is some MiniCluster that has not ended.
func (w *world) someCluster() *clusterObject {
	if q := w.someQueue(); q != nil {
		return w.clusters.get(q.member)
	}
	return nil
}

// editCluster changes a MiniCluster that has not ended, and lets its Job follow.
func (w *world) editCluster(name string, edit func(*clusterObject)) {
	if c := w.clusters.get(name); c == nil || c.finished || c.deleting {
		return
	}
	w.clusters.update(name, edit)
	w.jobs.resized(name)
}

// suspend changes whether a Job is suspended. Its pods that have not succeeded end.
func (w *world) suspend(name string, suspended bool) {
	if c := w.clusters.get(name); c == nil || c.suspended == suspended || c.finished || c.deleting {
		return
	}
	w.tell("user", "the Job of %s: suspend is %t", name, suspended)
	w.ledger.counts["jobs suspended or resumed"]++
	w.editCluster(name, func(c *clusterObject) { c.suspended = suspended })
}

// setQuota allows only so many pods of a member.
func (w *world) setQuota(name string, pods int32) {
	w.tell("user", "a quota allows %d pods of %s", pods, name)
	w.editCluster(name, func(c *clusterObject) { c.limited, c.quota = true, pods })
}

func (w *world) liftQuota(name string) {
	if c := w.clusters.get(name); c == nil || !c.limited {
		return
	}
	w.tell("user", "the quota on the pods of %s is lifted", name)
	w.editCluster(name, func(c *clusterObject) { c.limited = false })
}

// setInvalid makes a MiniCluster one that cannot be read, or can be again.
func (w *world) setInvalid(name, why string) {
	if c := w.clusters.get(name); c == nil || c.invalid == why || c.finished || c.deleting {
		return
	}
	w.tell("user", "MiniCluster %s cannot be read: %t", name, why != "")
	w.ledger.counts["clusters unreadable"]++
	w.clusters.update(name, func(c *clusterObject) { c.invalid = why })
}

// someSucceeds lets some pod of a member succeed that runs.
func (w *world) someSucceeds(member string) {
	var running []string
	for _, p := range w.pods.live.items {
		if p.member == member && p.running && !p.deleting {
			running = append(running, p.name)
		}
	}
	if len(running) > 0 {
		w.jobs.succeed(running[w.rand.IntN(len(running))])
	}
}

// setAllowed says which namespaces may have nodes of a pool, nil for all.
func (w *world) setAllowed(pool string, allowed labels) {
	if p := w.pools.get(pool); p.allowed.String() == allowed.String() {
		return
	}
	w.tell("user", "NodePool %s: the namespaces allowed are %q", pool, allowed.String())
	w.ledger.counts["namespaces disallowed"]++
	w.pools.update(pool, func(p *poolObject) { p.allowed = allowed })
}

// editTemplate changes the template of a pool in a way that says nothing of its nodes.
func (w *world) editTemplate(pool string) {
	w.tell("user", "NodePool %s: the template is edited", pool)
	w.ledger.counts["templates edited"]++
	w.pools.update(pool, func(p *poolObject) { p.edited++ })
}

// restock lets the cloud of a pool run out of machines. They come back one at a time.
func (w *world) restock(pool *poolSettings) {
	if pool.stock >= 0 || w.cloud.perfect {
		return
	}
	used := (1 << 20) - w.cloud.stock(pool.name)
	for _, i := range w.cloud.instances.items {
		if i.pool == pool.name && i.failure == nil {
			used++
		}
	}
	pool.stock = used
	w.tell("cloud", "%s: there are %d machines and no more", pool.name, used)
	w.ledger.counts["stocks that came back"]++
	left := 2 + w.rand.IntN(6)
	var back func()
	back = func() {
		switch {
		case w.cloud.perfect || pool.stock < 0:
		case left == 0:
			pool.stock = -1
		default:
			left--
			pool.stock++
			w.after(w.draw(span{20 * time.Second, 2 * time.Minute}), back)
		}
	}
	w.after(w.draw(span{time.Minute, 4 * time.Minute}), back)
}

// deleteNamespace deletes the namespace of a member: its pods are deleted first, and its MiniCluster in the end.
func (e *ensemble) deleteNamespace(name string) {
	w := e.world
	if c := w.clusters.get(name); c == nil || c.deleting {
		return
	}
	w.tell("user", "the namespace of %s is deleted", name)
	w.ledger.counts["namespaces deleted"]++
	delete(e.queues, name)
	w.clusters.update(name, func(c *clusterObject) { c.deleting = true })
	w.after(w.draw(span{time.Second, 20 * time.Second}), func() { w.jobs.resized(name) })
	w.after(w.draw(span{30 * time.Second, 2 * time.Minute}), func() { w.clusters.remove(name) })
	w.after(w.draw(span{2 * time.Minute, 3 * time.Minute}), func() {
		w.members.remove(name)
		w.jobs.resized(name)
	})
}

// trouble gives a member what its MiniCluster does not say, and what nodes may lack.
func (w *world) troubleMember(m *memberObject) {
	if !w.troubled {
		return
	}
	m.namespaceLabels = labels{"team": []string{"red", "blue"}[w.rand.IntN(2)]}
	if w.chance(30) {
		m.selects = labels{classKey: "hpc"}
	}
	whole := m.podsPerNode == 0
	switch luck := w.rand.IntN(100); {
	case luck < 12:
		m.injected.cpu = 500
	case luck < 18 && whole:
		// A LimitRange asks for more than any node has.
		m.injected.cpu = 1500
	case luck < 24:
		m.injected.selects = labels{"example.com/lacking": "true"}
	}
	devices := whole && w.chance(60)
	for _, name := range m.pools {
		devices = devices && w.cloud.settings(name).devices
	}
	m.devices = devices
}

// endTroubles ends what keeps anybody from what was written. Without repairing, what is wrong with nodes, quotas and namespaces stays.
func (w *world) endTroubles(repaired bool) {
	for _, c := range w.clusters.live.items {
		w.setInvalid(c.name, "")
		if w.chance(60) {
			w.suspend(c.name, false)
		}
		if repaired {
			w.liftQuota(c.name)
		}
	}
	w.cloud.repaired = repaired
	if !repaired {
		return
	}
	for _, m := range w.members.live.items {
		if m.injected.cpu != 0 || m.injected.selects != nil {
			w.uninject(m.name)
		}
	}
	for _, p := range w.pools.live.items {
		w.setAllowed(p.name, nil)
		if w.cloud.settings(p.name).any() {
			w.editTemplate(p.name)
		}
	}
	for _, p := range w.pods.live.items {
		if p.stuck != "" {
			w.jobs.runs(p.name)
		}
	}
	for _, n := range w.nodes.live.items {
		w.repair(n)
	}
	w.scheduler.wake()
}

// uninject makes pods what their MiniCluster says, those that wait too: they are made again.
func (w *world) uninject(member string) {
	w.members.update(member, func(m *memberObject) { m.injected = injection{} })
	for _, p := range slices.Clone(w.pods.live.items) {
		if p.member == member && p.node == "" && !p.succeeded {
			w.jobs.remove(p.name)
		}
	}
}

// repair makes a node what its template says.
func (w *world) repair(n *nodeObject) {
	s := w.cloud.settings(n.pool)
	if s == nil {
		return
	}
	if n.cpu == nodeCPU && n.foreign == "" && n.devices == s.deviceCount() && n.labels[classKey] != "other" {
		return
	}
	w.editNode(n.name, func(n *nodeObject) {
		n.cpu, n.foreign, n.devices = nodeCPU, "", s.deviceCount()
		if n.labels[classKey] == "other" {
			n.labels = n.labels.and(s.labels())
		}
	})
}

// contest lets several growths ask for what the stock has not for all, but for each. One of them is served within two boots.
func (w *world) contest() {
	pool := &w.settings.pools[0]
	growths := 2 + w.rand.IntN(2)
	most, sum := int32(0), int32(0)
	for range growths {
		w.arrivals++
		size := 2 + w.rand.Int32N(5)
		most, sum = max(most, size), sum+size
		m := &memberObject{
			meta: meta{name: fmt.Sprintf("m%d", w.arrivals)}, wants: size, minSize: 1, maxSize: size, pools: []string{pool.name},
			policy: v1alpha1.GrowthAllOrNothing, gated: true,
		}
		w.after(w.draw(span{0, 3 * time.Second}), func() {
			w.ensemble.arrive(m)
			w.ensemble.open(m.name, 10*time.Minute)
			w.contestants = append(w.contestants, m.name)
		})
	}
	pool.stock = int(most + w.rand.Int32N(max(1, sum-most)))
	w.ledger.counts["contests"]++
	within := 2*pool.boot.most + time.Minute
	w.after(within, func() {
		served := false
		for _, name := range w.contestants {
			m := w.members.get(name)
			served = served || m != nil && w.allSlots(m, m.wants, w.now) >= m.wants
		}
		w.promise(served, "none of %v is served by %s, and each of them could be by the stock of %d", w.contestants, pool.name, pool.stock)
	})
}
