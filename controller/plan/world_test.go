package plan_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// world is a cluster in a few lines: pools whose target Cluster Autoscaler keeps at the floor, machines
// that boot, a scheduler, a Job controller, other tenants, and the release of nodes by the provider.
// Everything that it does is drawn from one seed; what happened is kept as a story.
type world struct {
	rand  *rand.Rand
	now   time.Time
	pools map[string]*worldPool
	// members by name.
	members map[string]*worldMember
	// outside are nodes of no pool.
	outside map[string]bool
	// sizes are all sizes that a member has ever wanted or had, which are those that a gang may have.
	sizes map[string]map[int32]bool
	// quiet is set when nothing happens any more that nobody asked for.
	quiet bool
	// launches is set where machines are asked of the cloud a while after they were ordered, and come or fail then.
	launches bool
	// useless is what is wrong with the nodes of a world of which many are of no use; nil in others.
	useless *useless
	story   []string
	broken  []string
}

type worldPool struct {
	plan.Pool
	target  int
	ordered int
	// stock is how many machines the cloud has.
	stock int
	// daemons is the CPU that DaemonSets take of each node.
	daemons int64
	nodes   map[string]*worldNode
}

type worldNode struct {
	plan.Node
	// readyAt is when a machine that was ordered becomes a Ready node; registeredAt comes a little before.
	registeredAt, readyAt time.Time
	foreign               int
	// launchAt is when the cloud is asked for the machine, launched is set when it has it.
	launchAt time.Time
	launched bool
	flaws    flaws
}

type worldMember struct {
	plan.Member
	// pods by index; an empty name is a pod without a node.
	pods map[int32]string
	// leaving counts the pods that are being deleted by their nodes.
	leaving map[string]int
	gates   gates
	podsOf  podsOf
	group   groupOf
	gone    bool
	// came is set for a member that ran outside the pools before it was managed. Its sizes are others than those asked for while
	// ranks of it move into the pools.
	came bool
	// formerSize is the size before the last resize, up to which nodes may be reserved until the next pass.
	formerSize int32
}

func newWorld(seed uint64) *world {
	w := &world{
		rand: rand.New(rand.NewPCG(seed, seed)), now: noon,
		pools: map[string]*worldPool{}, members: map[string]*worldMember{}, sizes: map[string]map[int32]bool{},
		outside: map[string]bool{"x-0": true, "x-1": true, "x-2": true},
	}
	for _, name := range []string{"a", "b", "c"} {
		p := pool(name, int32(6+w.rand.IntN(10)))
		p.ProvisionTimeout = 3 * time.Minute
		// Two pools of one zone, pools of different zones, and pools that span zones.
		if zone := []string{"x", "x", "y", ""}[w.rand.IntN(4)]; zone != "" {
			p.Labels = map[string]string{zoneKey: zone}
		}
		w.pools[name] = &worldPool{Pool: p, nodes: map[string]*worldNode{}, daemons: int64(200 * w.rand.IntN(2)), stock: w.drawStock()}
	}
	return w
}

func (w *world) tell(format string, args ...any) {
	w.story = append(w.story, w.now.Format("15:04:05 ")+fmt.Sprintf(format, args...))
}

func (w *world) promise(held bool, format string, args ...any) {
	if !held {
		w.broken = append(w.broken, fmt.Sprintf(format, args...))
		w.tell("BROKEN: "+format, args...)
	}
}

// observe copies the world into plain values, as the controller's caches do.
func (w *world) observe() plan.Observed {
	var o plan.Observed
	for _, name := range slices.Sorted(maps.Keys(w.pools)) {
		p := w.pools[name]
		p.Coming = w.coming(p)
		o.Pools = append(o.Pools, p.Pool)
		for _, n := range slices.Sorted(maps.Keys(p.nodes)) {
			node := p.nodes[n]
			if node.registeredAt.After(w.now) {
				continue
			}
			seen := node.Node
			seen.Ready = seen.Ready && !node.readyAt.After(w.now)
			seen.CreatedAt = node.registeredAt
			seen.Requested = plan.Resources{
				corev1.ResourceCPU: int64(4000*min(node.foreign, 1)) + p.daemons, corev1.ResourcePods: int64(1 + node.foreign),
			}
			seen.Daemons = plan.Resources{corev1.ResourceCPU: p.daemons, corev1.ResourcePods: 1}
			for _, m := range w.members {
				seen.Requested[corev1.ResourcePods] += int64(m.on(n))
				seen.Requested[corev1.ResourceCPU] += m.PodRequests[corev1.ResourceCPU] * int64(m.on(n))
			}
			w.show(node, &seen)
			o.Nodes = append(o.Nodes, seen)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.outside)) {
		o.Nodes = append(o.Nodes, plan.Node{Name: name, Ready: true})
	}
	for _, name := range slices.Sorted(maps.Keys(w.members)) {
		m := w.members[name]
		if m.gone {
			continue
		}
		seen := m.Member
		seen.Pods = nil
		for _, index := range slices.Sorted(maps.Keys(m.pods)) {
			if node := m.pods[index]; node != "" {
				seen.Pods = append(seen.Pods, plan.Pod{
					Index: index, Node: node, Leaving: !m.ranked() && !m.stays(index), Running: w.runs(m, index),
				})
			}
		}
		for _, node := range slices.Sorted(maps.Keys(m.leaving)) {
			for range m.leaving[node] {
				seen.Pods = append(seen.Pods, plan.Pod{Index: 1000, Node: node, Leaving: true})
			}
		}
		m.seeGates(&seen)
		w.seePods(m, &seen)
		seen.Claim, seen.Lead = m.claim(), m.lead()
		w.identify(&seen)
		o.Members = append(o.Members, seen)
	}
	return o
}

// on counts the member's pods on a node, those that are being deleted and those on their way to it too.
func (m *worldMember) on(node string) int {
	count := m.bound(node)
	for _, n := range m.gates.released {
		if n == node {
			count++
		}
	}
	return count
}

// perNode is how many pods of the member share a node of a pool at most: all nodes have four cores.
func (w *world) perNode(m *worldMember, pool string) int {
	fit := int((4000 - w.pools[pool].daemons) / m.PodRequests[corev1.ResourceCPU])
	if m.PodsPerNode == plan.Auto {
		return fit
	}
	return min(max(1, int(m.PodsPerNode)), fit)
}

// sharing reports whether pods of the member are to share nodes.
func (m *worldMember) sharing() bool { return m.PodsPerNode != 0 }

// reconcile is one pass of the controller. It is killed after so many writes; a negative number lets it end.
func (w *world) reconcile(writes int) plan.Decisions {
	decisions := plan.Plan(w.observe(), w.now)
	write := func() bool { writes--; return writes != -1 }
	workloads := byWorkload(decisions.Members)
	for _, d := range decisions.Members {
		for _, n := range d.Notes {
			w.tell("%s: %s: %s", nameOf(d.Key.Name, d.Group), n.Reason, n.Message)
		}
		m := w.memberOf(d)
		w.checkReady(m, d)
		w.checkUnits(m, d)
		w.checkLeave(m, d)
		w.checkGivenBack(m, d)
	}
	for _, groups := range workloads {
		w.checkGang(groups)
	}
	// Resizes come first here, on what was recorded before this pass: the order in which the real
	// controller must never rely on an unrecorded reservation.
	for _, groups := range workloads {
		if !w.resize(groups, write) {
			return decisions
		}
	}
	for _, groups := range workloads {
		if !write() {
			return decisions
		}
		for _, d := range groups {
			w.record(w.memberOf(d), d)
		}
		for _, d := range groups {
			if !w.letGo(w.memberOf(d), d, write) {
				return decisions
			}
		}
		if slices.ContainsFunc(groups, func(d plan.Decision) bool { return d.GiveUp != nil }) && !write() {
			return decisions
		}
		for _, d := range groups {
			if d.GiveUp != nil {
				w.desire(w.memberOf(d), d.GiveUp.Size, "give up")
			}
		}
	}
	return decisions
}

// memberOf is the member that a decision is about.
func (w *world) memberOf(d plan.Decision) *worldMember { return w.members[nameOf(d.Key.Name, d.Group)] }

// resize gives the groups of a workload their sizes, in one write or one after the other, until there are no writes left.
func (w *world) resize(groups []plan.Decision, write func() bool) bool {
	groups = slices.DeleteFunc(slices.Clone(groups), func(d plan.Decision) bool { return d.Resize == 0 })
	for i, d := range groups {
		m := w.memberOf(d)
		if (i == 0 || m.group.torn) && !write() {
			return false
		}
		if d.Resize > m.Size {
			w.checkNodesFirst(m, d)
			w.promise(m.GrowthPolicy != v1alpha1.GrowthAllOrNothing || w.sizes[m.name()][d.Resize] || (m.sharing() && d.Resize <= m.Wants) ||
				m.gates.bypassed || m.came || m.countSucceeded(m.Size) > 0,
				"%s takes all or nothing and is resized to %d, which it did not ask for", m.name(), d.Resize)
		}
		// One that takes what there is may have had any size on its way.
		w.sizes[m.name()][d.Resize] = true
		m.formerSize, m.Size = m.Size, d.Resize
		m.gates.complete, m.SizeGiven = d.Resize, false
		for _, pod := range d.Leave {
			m.group.leaves[pod] = true
		}
	}
	return true
}

// record writes what was decided into a member's status.
func (w *world) record(m *worldMember, d plan.Decision) {
	w.noteGrants(m, d)
	m.Reservations, m.Growth, m.TopologyDomain, m.Findings = d.Reservations, d.Growth, d.TopologyDomain, d.Findings
	m.FormerSize, m.Avoided, m.PodsLacking = m.Size, d.Avoided, d.PodsLacking
	w.hear(m, d)
	if (d.Growth == nil || d.Growth.Served >= m.Size) && w.slots(m, d.Reservations)+w.needless(m) >= int(m.Size) {
		// What is lost from now on is lost to pods that had their nodes.
		m.gates.complete = m.Size
	}
	if m.Lifecycle == plan.Suspended {
		m.gates.complete = 0
	}
}

// checkNodesFirst is the first promise: Ready nodes are held for as many pods as the member will have, and no room is
// counted that a pod of its former size has yet to leave.
func (w *world) checkNodesFirst(m *worldMember, d plan.Decision) {
	slots := w.slots(m, d.Reservations) + w.countOutside(m) + m.countSucceeded(m.Size)
	w.promise(slots >= int(d.Resize), "%s is resized to %d with Ready nodes for %d", m.name(), d.Resize, slots)
}

// countOutside counts the pods of a member that stay on nodes outside the pools.
func (w *world) countOutside(m *worldMember) int {
	count := 0
	for index, node := range m.pods {
		if w.outside[node] && m.stays(index) {
			count++
		}
	}
	return count
}

// slots is the number of pods of a member that the Ready nodes held for it have room for, those that stay included.
func (w *world) slots(m *worldMember, reservations []v1alpha1.Reservation) int {
	slots := 0
	for _, r := range reservations {
		for _, name := range r.Held {
			n := w.node(name)
			if n == nil || n.readyAt.After(w.now) || !n.Ready || n.Leaving {
				continue
			}
			stay := m.staying(name)
			room := int((4000-w.pools[n.Pool].daemons)/m.PodRequests[corev1.ResourceCPU]) - m.on(name)
			slots += min(w.perNode(m, n.Pool), stay+room)
		}
	}
	return slots
}

func (w *world) node(name string) *worldNode {
	for _, p := range w.pools {
		if n := p.nodes[name]; n != nil {
			return n
		}
	}
	return nil
}
