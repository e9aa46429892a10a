package plan_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// flaws are what may be wrong with a node that comes, whatever its template says.
type flaws struct {
	// small: its allocatable is below the template's. labels: they are not the template's. never: it never gets Ready. refuses: the
	// scheduler keeps all pods off it.
	small, labels, never, refuses bool
	// agentAt is when a pod of a DaemonSet comes that takes most of it, taintUntil until when it has a taint; zero for neither.
	agentAt, taintUntil time.Time
}

// useless is what is wrong with the nodes of each pool of a world, and what was ordered there for its only member.
type useless struct {
	// kind is the flaw of each pool, always whether all of its nodes have it.
	kind   map[string]string
	always map[string]bool
	claims map[string]*ordered
	ids    bool
}

// ordered is what was ordered for the claim of a member in one pool.
type ordered struct {
	// claim is the greatest claim, total all orders, extra the nodes beyond the claim and the strangers in earlier attempts.
	claim, total, extra int
	// nodes is the claim of this attempt, strangers the nodes that others had when it was granted, most the nodes that there were at
	// once, all of them since then.
	nodes, strangers, most int
	// at is how many nodes others had at the first grant.
	at int
}

const kindKey = "kind"

var kinds = []string{"", "small", "daemon", "labels", "never", "taint goes", "taint stays", "refuses", "strangers"}

func newUselessWorld(seed uint64) *world {
	w := newWorld(seed)
	w.useless = &useless{kind: map[string]string{}, always: map[string]bool{}, claims: map[string]*ordered{}, ids: seed%2 == 0}
	for _, name := range slices.Sorted(maps.Keys(w.pools)) {
		p := w.pools[name]
		p.MaxSize = 40
		p.Labels = maps.Clone(p.Labels)
		if p.Labels == nil {
			p.Labels = map[string]string{zoneKey: "x"}
		}
		p.Labels[kindKey] = "good"
		w.useless.kind[name] = kinds[w.rand.IntN(len(kinds))]
		w.useless.always[name] = w.rand.IntN(2) == 0
		w.tell("nodes of %s: %q, all: %v", name, w.useless.kind[name], w.useless.always[name])
		w.useless.claims[name] = &ordered{}
		for i := range w.rand.IntN(4) {
			// Others have been here before.
			node := nodes(name, 900+i, 901+i)[0]
			node.Labels = p.Labels
			p.nodes[node.Name] = &worldNode{Node: node, registeredAt: noon.Add(-time.Hour), readyAt: noon.Add(-time.Hour), foreign: 1}
			p.target++
		}
	}
	return w
}

// arriveUseless lets the only member arrive. Its pods are gated.
func (w *world) arriveUseless() {
	w.arrive()
	for _, m := range w.members {
		m.gates.on, m.came, m.SizeGiven, m.TopologyKey = true, false, true, ""
		m.pods, m.Selects = map[int32]string{}, labelled(kindKey+"=good")
		m.Size = int32(1 + w.rand.IntN(12))
		m.Wants, m.PodsPerNode, m.PodRequests, m.GiveUpAfter = m.Size, 0, threeCore, 0
		w.tell("%s has size %d", m.Key.Name, m.Size)
	}
}

// dress makes a node that is ordered one of its pool.
func (w *world) dress(p *worldPool, n *worldNode) {
	if w.useless == nil {
		return
	}
	if soon := w.now.Add(time.Minute); n.registeredAt.After(soon) {
		n.registeredAt = soon
	}
	n.readyAt = n.registeredAt.Add(time.Second)
	n.Labels = p.Labels
	if !w.useless.ids {
		n.Order = ""
	}
	if !w.useless.always[p.Name] && w.rand.IntN(2) == 0 {
		return
	}
	switch w.useless.kind[p.Name] {
	case "small":
		n.flaws.small = true
	case "daemon":
		n.flaws.agentAt = n.readyAt.Add(time.Duration(w.rand.IntN(40)) * time.Second)
	case "labels":
		n.flaws.labels = true
		n.Labels = maps.Clone(p.Labels)
		n.Labels[kindKey] = "bad"
	case "never":
		n.flaws.never = true
	case "taint goes":
		n.flaws.taintUntil = n.readyAt.Add(time.Duration(w.rand.IntN(400)) * time.Second)
	case "taint stays":
		n.flaws.taintUntil = n.readyAt.Add(100 * time.Hour)
	case "refuses":
		n.flaws.refuses = true
	case "strangers":
		n.foreign = 1
	}
}

// show is what the caches say of a node with flaws.
func (w *world) show(n *worldNode, seen *plan.Node) {
	if w.useless == nil {
		return
	}
	if !n.flaws.agentAt.IsZero() && !w.now.Before(n.flaws.agentAt) {
		seen.Daemons[corev1.ResourceCPU] += 3500
		seen.Requested[corev1.ResourceCPU] += 3500
	}
	if n.flaws.small {
		seen.Allocatable = plan.Resources{corev1.ResourceCPU: 1000, corev1.ResourcePods: 110}
	}
	if w.now.Before(n.flaws.taintUntil) {
		seen.Taints = []corev1.Taint{{Key: "agent", Effect: corev1.TaintEffectNoSchedule}}
	}
	seen.Ready = seen.Ready && !n.flaws.never
}

// keepsOff reports whether the scheduler keeps pods off a node for its flaws.
func (w *world) keepsOff(n *worldNode) bool {
	f := &n.flaws
	return f.small || f.labels || f.never || f.refuses || w.now.Before(f.taintUntil) || (!f.agentAt.IsZero() && !w.now.Before(f.agentAt))
}

// identify takes the id of its claim from a member in worlds without such ids.
func (w *world) identify(seen *plan.Member) {
	if w.useless != nil && !w.useless.ids {
		seen.Claim = ""
	}
}

// strangersIn counts the nodes of a pool that the member does not hold and that others have, or that have had their time.
func (w *world) strangersIn(m *worldMember, pool string) int {
	count := 0
	for _, name := range slices.Sorted(maps.Keys(w.pools[pool].nodes)) {
		n := w.pools[pool].nodes[name]
		held := slices.ContainsFunc(m.Reservations, func(r v1alpha1.Reservation) bool { return slices.Contains(r.Held, name) })
		if !held && (n.foreign > 0 || n.Cordoned || w.now.Sub(n.registeredAt) >= w.pools[pool].ProvisionTimeout) {
			count++
		}
	}
	return count
}

// claimIn is the number of nodes of a pool that a member claims.
func claimIn(d plan.Decision, pool string) int {
	for _, r := range d.Reservations {
		if r.NodePool == pool {
			return int(r.Nodes)
		}
	}
	return 0
}

// noteGrants begins an attempt for each pool that grants more, and another need once all nodes of a claim are in use.
func (w *world) noteGrants(m *worldMember, d plan.Decision) {
	if w.useless == nil {
		return
	}
	for name, o := range w.useless.claims {
		if claim := claimIn(d, name); claim < o.nodes {
			if claim == 0 {
				// An attempt is over: what was ordered too much in it goes.
				o.extra += max(0, o.most-o.nodes-o.strangers)
			}
			o.nodes, o.most = claim, 0
		}
	}
	for _, r := range d.Reservations {
		o, before, met := w.useless.claims[r.NodePool], 0, true
		for _, old := range m.Reservations {
			if old.NodePool == r.NodePool {
				before, met = int(old.Nodes), len(old.Held) >= int(old.Nodes)
			}
		}
		if int(r.Nodes) > before {
			if o.claim == 0 {
				o.at = w.strangersIn(m, r.NodePool)
			}
			if met {
				o.extra += max(0, o.most-o.nodes-o.strangers)
				o.most, o.strangers = 0, w.strangersIn(m, r.NodePool)
			}
			o.nodes, o.claim = int(r.Nodes), max(o.claim, int(r.Nodes))
		}
		used := map[string]bool{}
		for _, node := range m.pods {
			if n := w.node(node); n != nil && n.Pool == r.NodePool {
				used[node] = true
			}
		}
		if len(used) >= int(r.Nodes) && len(used) > 0 {
			o.extra, o.most, o.strangers = 0, 0, w.strangersIn(m, r.NodePool)
			o.claim, o.total, o.at = int(r.Nodes), len(used), o.strangers
		}
	}
}

// noteOrder is the eighth promise: what is ordered for a claim does not exceed it, what others had filled before, and a tenth of it
// or one. Where no node of a pool is of use that is so of all orders together, and where that is known nothing is ordered.
func (w *world) noteOrder(p *worldPool) {
	if w.useless == nil {
		return
	}
	o := w.useless.claims[p.Name]
	o.total++
	o.most = max(o.most, p.lasting())
	few := max(1, o.claim/10)
	extra := o.extra + max(0, o.most-o.nodes-o.strangers)
	w.promise(
		extra <= few, "in %s %d nodes of a claim of %d were ordered in the place of others; there are %d, %d had been there", p.Name, extra,
		o.nodes, o.most, o.strangers,
	)
	if kind := w.useless.kind[p.Name]; w.useless.always[p.Name] &&
		(kind == "small" || kind == "daemon" || kind == "labels" || kind == "refuses") {
		w.promise(
			o.total <= o.claim+o.at+few, "in %s, where no node is of use, %d were ordered for a claim of %d beside %d", p.Name, o.total, o.claim,
			o.at,
		)
	}
	for _, m := range w.members {
		for _, f := range m.Findings {
			w.promise(f.NodePool != p.Name || f.Unusable == "", "a node of %s is ordered though %s", p.Name, f.Unusable)
		}
	}
}

// TestUselessNodes lets a member want nodes of pools whose nodes are of no use to it in one way or another, with strangers, kills of
// the controller and the growth of what it wants.
func TestUselessNodes(t *testing.T) {
	t.Parallel()
	seed, last := *first, *first+uint64(*seeds)-1
	if *onlySeed != 0 {
		seed, last = *onlySeed, *onlySeed
	}
	told := map[string]int{}
	for ; seed <= last; seed++ {
		w := simulateUseless(seed)
		for _, m := range w.members {
			for _, f := range m.Findings {
				if f.Unusable != "" {
					told[w.useless.kind[f.NodePool]]++
				}
			}
		}
		if *onlySeed != 0 {
			t.Logf("the story of seed %d:\n%s", seed, strings.Join(w.story, "\n"))
		}
		if len(w.broken) > 0 {
			t.Fatalf("seed %d broke promises:\n%s\n\nthe end of its story (all of it with -plan.seed=%d -v):\n%s",
				seed, strings.Join(w.broken, "\n"), seed, strings.Join(w.story[max(0, len(w.story)-60):], "\n"))
		}
	}
	t.Logf("found: %v", told)
	for _, kind := range []string{"small", "daemon", "labels", "refuses"} {
		if *onlySeed == 0 && told[kind] < *seeds/60 {
			t.Errorf("in %d worlds %d findings tell of %q: the simulation does not exercise the planner", *seeds, told[kind], kind)
		}
	}
	for _, kind := range []string{"", "never", "taint stays", "taint goes", "strangers"} {
		if told[kind] > 0 {
			t.Errorf("%d findings stand against pools of %q", told[kind], kind)
		}
	}
}

func simulateUseless(seed uint64) *world {
	w := newUselessWorld(seed)
	w.arriveUseless()
	for range 180 {
		w.now = w.now.Add(time.Duration(w.rand.IntN(20)) * time.Second)
		w.happenToUseless()
		writes := -1
		if w.rand.IntN(4) == 0 {
			writes = w.rand.IntN(4)
		}
		w.reconcile(writes)
		w.check()
		for _, part := range w.rand.Perm(3) {
			[]func(){w.clusterAutoscaler, w.release, w.jobs}[part]()
			w.check()
		}
		if len(w.broken) > 0 {
			break
		}
	}
	return w
}

// happenToUseless lets one thing happen now and then.
func (w *world) happenToUseless() {
	switch w.rand.IntN(16) {
	case 0:
		for _, m := range w.members {
			if m.Wants < 30 {
				w.desire(m, m.Wants+int32(w.rand.IntN(4))+1, "grow")
			}
		}
	case 1, 2:
		if n := w.anyNode(); n != nil && !w.used(n.Name) && !n.readyAt.After(w.now) && n.Ready && !w.keepsOff(n) {
			n.foreign = 1 - n.foreign
			w.tell("%d foreign pods on %s", n.foreign, n.Name)
		}
	case 3:
		if n := w.anyNode(); n != nil && w.rand.IntN(3) == 0 {
			n.Cordoned = !n.Cordoned
			// Of what somebody keeps all pods off nothing is learnt.
			w.useless.always[n.Pool] = false
			w.tell("%s cordoned: %v", n.Name, n.Cordoned)
		}
	}
}
