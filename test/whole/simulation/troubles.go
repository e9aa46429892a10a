package simulation

import (
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// troubles are what is wrong with the nodes of a pool: they are not what its template says, or others take of them.
type troubles struct {
	// Of a hundred nodes so many have so much less cpu than the template says.
	smallerPercent int
	smaller        int64
	// daemons are the DaemonSets that have a pod on each node.
	daemons []daemon
	// passing is what a pod requests that somebody puts on each new node, for a while.
	passing int64
	// Of a hundred nodes so many have a foreign taint, which goes after a while, or stays where that is zero.
	taintPercent int
	taintGoes    span
	// Of a hundred nodes so many lack the class of the template, or are in another zone.
	mislabelPercent int
	// devices is set when the template has a device. It registers some time after the node, or, of a hundred, so many times never.
	devices    bool
	deviceLate span
	deviceless int
	// Of a hundred pairs of members and nodes so many do not go together, for a reason that nobody sees.
	refusePercent int
}

// daemon is a DaemonSet.
type daemon struct {
	name string
	cpu  int64
	// late is how long after a node its pod comes. A DaemonSet that is unknown cannot be told by the template.
	late    span
	unknown bool
}

// planDaemons are those that the controller knows of.
func (t *troubles) planDaemons() []plan.Daemon {
	var out []plan.Daemon
	for _, d := range t.daemons {
		if !d.unknown {
			out = append(
				out, plan.Daemon{Name: "kube-system/" + d.name, Requests: plan.Resources{corev1.ResourceCPU: d.cpu, corev1.ResourcePods: 1}},
			)
		}
	}
	return out
}

// any reports whether the pool has a trouble.
func (t *troubles) any() bool {
	return t.smallerPercent+t.taintPercent+t.mislabelPercent+t.deviceless+t.refusePercent > 0 || len(t.daemons) > 0 || t.passing > 0 ||
		t.devices
}

// castTroubles gives pools and members troubles. Half of the worlds have none.
func castTroubles(s *settings, draw *rand.Rand) {
	if draw.IntN(2) == 0 {
		return
	}
	s.troubled = true
	if s.contest = draw.IntN(5) == 0; s.contest {
		p := poolOf(s.pools[0].name, 20, []time.Duration{5 * time.Second, 30 * time.Second, 90 * time.Second}[draw.IntN(3)])
		p.boot.most += time.Duration(draw.IntN(30)) * time.Second
		s.pools[0] = p
	}
	if draw.IntN(2) == 0 {
		s.starts = span{500 * time.Millisecond, []time.Duration{3 * time.Second, 20 * time.Second, 2 * time.Minute}[draw.IntN(3)]}
	}
	if s.starts.most > 0 && draw.IntN(2) == 0 {
		s.stuckPercent = 5
	}
	for i := range s.pools {
		s.pools[i].classed = true
		if i == 0 && s.contest {
			continue
		}
		for range draw.IntN(3) {
			s.pools[i].troubles.cast(draw)
		}
	}
}

// cast adds one trouble.
func (t *troubles) cast(draw *rand.Rand) {
	percent := []int{20, 50, 100}[draw.IntN(3)]
	switch draw.IntN(9) {
	case 0:
		t.smallerPercent, t.smaller = percent, []int64{300, 500, 1500, 3000}[draw.IntN(4)]
	case 1, 2:
		d := daemon{name: fmt.Sprintf("agent-%d", len(t.daemons)+1), cpu: []int64{100, 500, 1200}[draw.IntN(3)], unknown: draw.IntN(3) == 0}
		if draw.IntN(2) == 0 {
			d.late = span{time.Second, time.Duration(5+draw.IntN(60)) * time.Second}
		}
		t.daemons = append(t.daemons, d)
	case 3:
		t.passing = []int64{500, 2000}[draw.IntN(2)]
	case 4:
		t.taintPercent = percent
		if draw.IntN(2) == 0 {
			t.taintGoes = span{5 * time.Second, 2 * time.Minute}
		}
	case 5:
		t.mislabelPercent = percent
	case 6, 7:
		t.devices, t.deviceLate = true, span{time.Second, time.Duration(5+draw.IntN(90)) * time.Second}
		if draw.IntN(4) == 0 {
			t.deviceless = percent
		}
	case 8:
		t.refusePercent = percent
	}
}

// furnish makes a node of a pool what its machine is, which its template need not say.
func (c *cloud) furnish(n *nodeObject, s *poolSettings) {
	w := c.world
	n.cpu = nodeCPU
	if s.classed {
		n.labels = n.labels.and(labels{classKey: "hpc"})
	}
	if c.repaired {
		n.devices = s.deviceCount()
		return
	}
	if w.chance(s.smallerPercent) {
		n.cpu -= s.smaller
		w.ledger.counts["nodes too small"]++
	}
	if w.chance(s.mislabelPercent) {
		n.labels = n.labels.and(labels{classKey: "other"})
		if len(s.zones) == 1 {
			n.labels = n.labels.and(labels{zoneKey: "eu-1c"})
		}
		w.ledger.counts["nodes mislabelled"]++
	}
	if w.chance(s.taintPercent) {
		n.foreign = "example.com/foreign"
		w.ledger.counts["foreign taints"]++
	}
}

func (s *poolSettings) deviceCount() int64 {
	if s.devices {
		return 1
	}
	return 0
}

// furnished lets happen what comes to a node after it has registered.
func (c *cloud) furnished(n *nodeObject, s *poolSettings) {
	w, name, id := c.world, n.name, n.providerID
	later := func(delay time.Duration, happen func(n *nodeObject)) {
		w.after(delay, func() {
			if n := w.nodes.get(name); n != nil && n.providerID == id {
				happen(n)
			}
		})
	}
	if n.foreign != "" && s.taintGoes.most > 0 {
		later(w.draw(s.taintGoes), func(*nodeObject) { w.untaint(name) })
	}
	if s.devices && n.devices == 0 && !w.chance(s.deviceless) {
		later(w.draw(s.deviceLate), func(*nodeObject) {
			w.ledger.counts["devices registered late"]++
			w.editNode(name, func(n *nodeObject) { n.devices = 1 })
		})
	}
	for _, d := range s.daemons {
		if !d.unknown || !c.repaired {
			later(w.draw(d.late), func(n *nodeObject) { w.daemonComes(n, d) })
		}
	}
	if s.passing > 0 && !c.repaired {
		later(w.draw(span{time.Second, 10 * time.Second}), func(n *nodeObject) { w.passes(n, s.passing) })
	}
}

// untaint takes a foreign taint off a node.
func (w *world) untaint(node string) {
	if n := w.nodes.get(node); n != nil && n.foreign != "" {
		w.tell("node", "%s loses the taint %s", node, n.foreign)
		w.editNode(node, func(n *nodeObject) { n.foreign = "" })
	}
}

// daemonComes puts the pod of a DaemonSet on a node, if there is room.
func (w *world) daemonComes(n *nodeObject, d daemon) {
	if w.cpuOn(n.name)+d.cpu > n.cpu {
		return
	}
	w.ledger.counts["daemons"]++
	w.pods.create(&podObject{
		meta: meta{name: d.name + "-" + n.name}, daemon: d.name, cpu: d.cpu, node: n.name, createdAt: w.now, boundAt: w.now, running: true,
	})
}

// passes puts a pod on a new node that nobody here has asked for, and that leaves after a while.
func (w *world) passes(n *nodeObject, cpu int64) {
	if !n.usable() || w.quiet || w.cpuOn(n.name)+cpu > n.cpu {
		return
	}
	w.tenants++
	w.ledger.counts["passing pods"]++
	name := fmt.Sprintf("passing-%d", w.tenants)
	w.pods.create(
		&podObject{meta: meta{name: name}, pools: []string{""}, cpu: cpu, node: n.name, createdAt: w.now, boundAt: w.now, running: true},
	)
	w.tell("scheduler", "pod %s goes to %s", name, n.name)
	w.after(w.draw(span{20 * time.Second, 5 * time.Minute}), func() { w.jobs.end(name) })
}

// cpuOn is what the pods on a node request.
func (w *world) cpuOn(node string) int64 {
	sum := int64(0)
	for _, p := range w.pods.live.items {
		if p.placed() == node {
			sum += p.cpu
		}
	}
	return sum
}
