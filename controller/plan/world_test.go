package plan_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
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
				seen.Pods = append(seen.Pods, plan.Pod{Index: index, Node: node})
			}
		}
		for _, node := range slices.Sorted(maps.Keys(m.leaving)) {
			for range m.leaving[node] {
				seen.Pods = append(seen.Pods, plan.Pod{Index: 1000, Node: node})
			}
		}
		m.seeGates(&seen)
		w.seePods(m, &seen)
		seen.Claim = m.claim()
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
	byName := func(d plan.Decision) *worldMember { return w.members[d.Key.Name] }

	for _, d := range decisions.Members {
		for _, n := range d.Notes {
			w.tell("%s: %s: %s", d.Key.Name, n.Reason, n.Message)
		}
		w.checkReady(byName(d), d)
	}
	// Resizes come first here, on what was recorded before this pass: the order in which the real
	// controller must never rely on an unrecorded reservation.
	for _, d := range decisions.Members {
		if m := byName(d); d.Resize != 0 {
			if !write() {
				return decisions
			}
			if d.Resize > m.Size {
				w.checkNodesFirst(m, d)
				w.promise(m.GrowthPolicy != v1alpha1.GrowthAllOrNothing || w.sizes[d.Key.Name][d.Resize] || (m.sharing() && d.Resize <= m.Wants) ||
					m.gates.bypassed || m.came || m.countSucceeded(m.Size) > 0,
					"%s takes all or nothing and is resized to %d, which it did not ask for", d.Key.Name, d.Resize)
			}
			// One that takes what there is may have had any size on its way.
			w.sizes[d.Key.Name][d.Resize] = true
			m.formerSize, m.Size = m.Size, d.Resize
			m.gates.complete, m.SizeGiven = d.Resize, false
		}
	}
	for _, d := range decisions.Members {
		if !write() {
			return decisions
		}
		m := byName(d)
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
		if !w.letGo(m, d, write) {
			return decisions
		}
		if d.GiveUp != nil {
			if !write() {
				return decisions
			}
			w.desire(m, d.GiveUp.Size, "give up")
		}
	}
	return decisions
}

// checkNodesFirst is the first promise: Ready nodes are held for as many pods as the member will have, and no room is
// counted that a pod of its former size has yet to leave.
func (w *world) checkNodesFirst(m *worldMember, d plan.Decision) {
	slots := w.slots(m, d.Reservations) + w.countOutside(m) + m.countSucceeded(m.Size)
	w.promise(slots >= int(d.Resize), "%s is resized to %d with Ready nodes for %d", m.Key.Name, d.Resize, slots)
}

// countOutside counts the pods of a member that stay on nodes outside the pools.
func (w *world) countOutside(m *worldMember) int {
	count := 0
	for index, node := range m.pods {
		if w.outside[node] && index < m.Size {
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

// clusterAutoscaler raises every target to the floor that the reservations call for.
func (w *world) clusterAutoscaler() {
	for _, name := range slices.Sorted(maps.Keys(w.pools)) {
		p := w.pools[name]
		p.target = max(p.target, w.floor(name))
		for p.lasting() < p.target {
			if w.useless == nil && ((!w.launches && p.lasting() >= p.stock) || (!w.quiet && w.rand.IntN(30) == 0)) {
				p.OutOfStock = plan.Stockout{At: w.now, Message: "no machine is left"}
				p.target = p.lasting()
				w.tell("%s is out of stock", name)
				break
			}
			node := nodes(name, p.ordered, p.ordered+1)[0]
			node.Order = w.nextOrder(p)
			if node.Labels = p.Labels; node.Labels == nil && w.rand.IntN(12) > 0 {
				node.Labels = map[string]string{zoneKey: []string{"x", "x", "y"}[w.rand.IntN(3)]}
			}
			boot := time.Duration(w.rand.IntN(60)) * time.Second
			if !w.quiet && w.rand.IntN(20) == 0 {
				boot = time.Hour // It never comes in time.
			}
			n := &worldNode{Node: node, registeredAt: w.now.Add(boot), readyAt: w.now.Add(boot + time.Second)}
			if w.launches {
				n.launchAt = w.now.Add(time.Duration(w.rand.Int64N(int64(launching))))
				n.readyAt = n.launchAt.Add(stockBoot/2 + time.Duration(w.rand.Int64N(int64(stockBoot/2))))
				n.registeredAt = n.readyAt.Add(-time.Second)
			}
			p.nodes[node.Name] = n
			p.ordered++
			w.tell("CA orders %s", node.Name)
			w.dress(p, p.nodes[node.Name])
			w.noteOrder(p)
		}
	}
}

// floor is the least size of a pool that the reservations call for.
func (w *world) floor(pool string) int {
	reserved, occupied := int32(0), int32(0)
	for _, m := range w.members {
		for _, r := range m.Reservations {
			if r.NodePool == pool && !m.gone {
				reserved += r.Nodes
				occupied = max(occupied, r.Occupied)
			}
		}
	}
	return int(min(reserved+occupied, w.pools[pool].MaxSize))
}

// release deletes the nodes that nobody holds and that no unmet reservation is waiting for.
func (w *world) release() {
	for _, name := range slices.Sorted(maps.Keys(w.pools)) {
		p := w.pools[name]
		held, unmet := map[string]bool{}, 0
		for _, m := range w.members {
			for _, r := range m.Reservations {
				if r.NodePool == name && !m.gone {
					unmet += max(0, int(r.Nodes)-len(r.Held))
					for _, h := range r.Held {
						held[h] = true
					}
				}
			}
		}
		spare := slices.DeleteFunc(slices.Sorted(maps.Keys(p.nodes)), func(n string) bool {
			return held[n] || p.nodes[n].foreign > 0 || w.used(n) || p.nodes[n].Leaving
		})
		for _, n := range spare {
			if unmet > 0 && !p.nodes[n].Cordoned {
				unmet--
				continue
			}
			if p.target > w.floor(name) {
				delete(p.nodes, n)
				p.target--
				w.tell("provider releases %s", n)
			}
		}
	}
}

func (w *world) used(node string) bool {
	for _, m := range w.members {
		if m.bound(node) > 0 {
			return true
		}
	}
	return false
}

// jobs makes the pods of each member follow its size and binds those that find a node.
func (w *world) jobs() {
	for _, name := range slices.Sorted(maps.Keys(w.members)) {
		m := w.members[name]
		size := m.Size
		if m.gone || m.Lifecycle != plan.Running {
			size = 0
		}
		m.followPods(size)
		for _, index := range m.ranksOf() {
			if node := m.pods[index]; index >= size {
				delete(m.pods, index)
				if node != "" {
					m.leaving[node]++
				}
			} else if node != "" && w.node(node) == nil && !w.outside[node] {
				m.dropPod(index) // Its node is lost; the Job makes a new pod.
			}
		}
		for _, node := range slices.Sorted(maps.Keys(m.leaving)) {
			if (w.node(node) == nil && !w.outside[node]) || w.rand.IntN(3) == 0 {
				delete(m.leaving, node)
			}
		}
		for _, list := range []map[int32]bool{m.gates.waits, mapOf(m.gates.released)} {
			for index := range list {
				if index >= size {
					m.gates.forget(index)
				}
			}
		}
		for index := range size {
			_, exists := m.pods[index]
			switch {
			case m.pods[index] != "" || m.podsOf.succeeded[index] || (!exists && !m.mayMake()):
			case m.gates.on:
				m.pods[index] = ""
				w.admit(m, index)
			default:
				m.pods[index] = w.bind(m)
			}
		}
	}
}

func (w *world) bind(m *worldMember) string {
	for _, name := range m.NodePools {
		p := w.pools[name]
		for _, n := range slices.Sorted(maps.Keys(p.nodes)) {
			node := p.nodes[n]
			if !node.Ready || node.readyAt.After(w.now) || node.Cordoned || node.foreign > 0 {
				continue
			}
			// The pods of one member may share a node. Now and then one of them is on its own though there were room.
			if own := m.on(n); !w.used(n) || (own > 0 && own < w.perNode(m, name) && w.rand.IntN(8) > 0) {
				return n
			}
		}
	}
	return ""
}

// happen lets one thing happen that none of our parts decides.
func (w *world) happen() {
	live := slices.DeleteFunc(slices.Sorted(maps.Keys(w.members)), func(n string) bool { return w.members[n].gone })
	some := func() *worldMember {
		if len(live) == 0 {
			return nil
		}
		return w.members[live[w.rand.IntN(len(live))]]
	}
	switch m := some(); w.rand.IntN(20) {
	case 0:
		if len(live) < 4 {
			w.arrive()
		}
	case 1, 2, 3:
		if m != nil && m.Lifecycle == plan.Running {
			w.desire(m, m.Wants+int32(w.rand.IntN(6))+1, "grow")
		}
	case 4, 5:
		if m != nil && m.Lifecycle == plan.Running {
			w.desire(m, max(1, m.Wants-int32(w.rand.IntN(6))-1), "shrink")
		}
	case 6:
		if m != nil && w.rand.IntN(4) == 0 {
			m.Lifecycle = plan.Finished + plan.Lifecycle(w.rand.IntN(2))
			w.tell("%s ends", m.Key.Name)
		}
	case 7:
		if m != nil && (m.Lifecycle == plan.Finished || m.Lifecycle == plan.Deleting) {
			m.gone = true
			w.tell("%s is gone", m.Key.Name)
		}
	case 8, 9:
		if n := w.anyNode(); n != nil && !w.used(n.Name) && !n.readyAt.After(w.now) && n.Ready {
			n.foreign = 1 - n.foreign
			w.tell("%d foreign pods on %s", n.foreign, n.Name)
		}
	case 10:
		if n := w.anyNode(); n != nil && w.rand.IntN(3) == 0 {
			p := w.pools[n.Pool]
			delete(p.nodes, n.Name)
			w.tell("%s is lost", n.Name)
		}
	case 11:
		if n := w.anyNode(); n != nil {
			n.Cordoned = !n.Cordoned
			w.tell("%s cordoned: %v", n.Name, n.Cordoned)
		}
	case 12:
		if m != nil && m.Lifecycle == plan.Running && m.Invalid == "" && w.rand.IntN(2) == 0 {
			w.edit(m, int32(w.rand.IntN(8))+1)
		}
	case 13:
		if m != nil && m.Lifecycle == plan.Running {
			w.evict(m)
		}
	case 14:
		w.announce(w.anyNode())
	case 15, 16, 17:
		if m != nil && (m.Lifecycle == plan.Running || m.Lifecycle == plan.Suspended) {
			w.happenToPods(m)
		}
	case 18:
		w.restock()
	case 19:
		if w.rand.IntN(20) == 0 {
			w.deleteNamespace()
		}
	}
}

// evict takes a pod off a node outside the pools. Its Job makes another.
func (w *world) evict(m *worldMember) {
	for index := range m.Size {
		if node := m.pods[index]; w.outside[node] {
			m.pods[index] = ""
			m.leaving[node]++
			w.tell("rank %d of %s has to leave %s", index, m.Key.Name, node)
			return
		}
	}
}

// holder is the member that holds a node, nil for none.
func (w *world) holder(node string) *worldMember {
	for _, m := range w.members {
		for _, r := range m.Reservations {
			if !m.gone && slices.Contains(r.Held, node) {
				return m
			}
		}
	}
	return nil
}

func (w *world) anyNode() *worldNode {
	var all []*worldNode
	for _, name := range slices.Sorted(maps.Keys(w.pools)) {
		for _, n := range slices.Sorted(maps.Keys(w.pools[name].nodes)) {
			all = append(all, w.pools[name].nodes[n])
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[w.rand.IntN(len(all))]
}

func (w *world) arrive() {
	name := fmt.Sprintf("m%d", len(w.members))
	size := int32(w.rand.IntN(3)) + 1
	lists := [][]string{{"a"}, {"b"}, {"a", "b"}, {"b", "a"}, {"c"}, {"a", "b", "c"}, {"c", "a"}}
	b := member(name, size, size, lists[w.rand.IntN(len(lists))]...)
	policies := []v1alpha1.GrowthPolicy{
		v1alpha1.GrowthAllOrNothing, v1alpha1.GrowthAllOrNothing, v1alpha1.GrowthBestEffort, v1alpha1.GrowthGreedy,
	}
	b.GrowthPolicy = policies[w.rand.IntN(len(policies))]
	b.Placement = []v1alpha1.Placement{v1alpha1.PlacementSpan, v1alpha1.PlacementSingle}[w.rand.IntN(2)]
	if w.rand.IntN(3) == 0 {
		b.PodsPerNode = []int32{2, 3, plan.Auto}[w.rand.IntN(3)]
		b.PodRequests = plan.Resources{corev1.ResourceCPU: 1300, corev1.ResourcePods: 1}
	}
	b.GiveUpAfter = []int32{0, 0, 2}[w.rand.IntN(3)]
	if w.rand.IntN(2) == 0 {
		b.TopologyKey = zoneKey
	}
	// The pods of members that have to be in one zone are gated and so go to the nodes held for them alone.
	gated := b.TopologyKey != "" || w.rand.IntN(2) == 0
	b.SizeGiven = true
	w.members[name] = &worldMember{
		Member: b.Member, pods: map[int32]string{}, leaving: map[string]int{}, gates: newGates(gated), podsOf: newPods(),
	}
	if m := w.members[name]; !gated && w.rand.IntN(3) == 0 {
		m.came, m.SizeGiven = true, false
		for index := range size {
			m.pods[index] = fmt.Sprintf("x-%d", index)
		}
		w.tell("%s runs outside the pools", name)
	}
	w.sizes[name] = map[int32]bool{size: true}
	w.tell(
		"%s arrives with size %d, pools %s, %s, %s, pods per node %d, gated: %v", name, size, strings.Join(b.NodePools, ","), b.GrowthPolicy,
		b.Placement, b.PodsPerNode, gated,
	)
	if b.TopologyKey != "" {
		w.tell("%s has to be in one zone", name)
	}
}

func (w *world) desire(m *worldMember, size int32, verb string) {
	m.Wants = size
	w.sizes[m.Key.Name][size] = true
	w.tell("%s asks to %s to %d (has %d)", m.Key.Name, verb, size, m.Size)
}

// check asserts what must hold after every step.
func (w *world) check() {
	holder := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(w.members)) {
		m := w.members[name]
		if m.gone {
			continue
		}
		var total int32
		for _, r := range m.Reservations {
			total += r.Nodes
			for _, n := range r.Held {
				w.promise(holder[n] == "", "%s is held for %s and for %s", n, holder[n], name)
				holder[n] = name
			}
		}
		w.checkDomain(m)
		w.checkNothingIdle(m)
		w.checkLacking(m)
		w.promise(total <= max(m.Size, m.formerSize) || m.came || w.needless(m) > 0 || m.PodsLacking != nil || m.Invalid != "" ||
			w.sizes[name][total] || m.GrowthPolicy != v1alpha1.GrowthAllOrNothing || m.sharing(),
			"%s has reserved %d (%+v, size %d, wants %d, %+v), which is no size that it asked for", name, total, m.Reservations, m.Size, m.Wants,
			m.Growth)
	}
	for name, p := range w.pools {
		var sum int32
		for _, m := range w.members {
			for _, r := range m.Reservations {
				if r.NodePool == name && !m.gone {
					sum += r.Nodes
				}
			}
		}
		w.promise(sum <= p.MaxSize, "%d nodes are reserved in %s, whose maxSize is %d", sum, name, p.MaxSize)
	}
}

// conditionOf is a condition of a decision.
func conditionOf(d plan.Decision, kind string) (reason string, isTrue bool) {
	for _, c := range d.Conditions {
		if c.Type == kind {
			return c.Reason, c.Status == "True"
		}
	}
	return "", false
}

// checkRest asserts what must hold when nothing happens any more.
func (w *world) checkRest() {
	decisions := w.reconcile(-1)
	// An attempt may have failed just now.
	w.release()
	for _, d := range decisions.Members {
		m := w.members[d.Key.Name]
		if w.unlucky(m) || m.restless() {
			continue
		}
		w.promise(len(d.Notes) == 0, "at rest a pass still does something for %s: %v", d.Key.Name, d.Notes)
		w.promise(d.Resize == 0, "at rest %s is resized", d.Key.Name)
		reason, reserved := conditionOf(d, v1alpha1.ConditionCapacityReserved)
		if m.Lifecycle == plan.Running && reserved {
			w.promise(
				m.Size == m.Wants, "at rest %s has size %d and wants %d, and no reason is given: %+v %+v of %+v", d.Key.Name, m.Size, m.Wants,
				d.Conditions, d.Growth, d.Reservations,
			)
		}
		if !reserved {
			w.promise(reason == v1alpha1.ReasonPoolFull || reason == v1alpha1.ReasonPoolTooSmall ||
				reason == v1alpha1.ReasonQueued || reason == v1alpha1.ReasonBackingOff ||
				(m.Lifecycle == plan.Suspended && reason == v1alpha1.ReasonSuspended), "at rest %s waits for %s", d.Key.Name, reason)
		}
		if m.Lifecycle == plan.Running && reserved && m.Size == m.Wants {
			// Pods that share nodes may be spread over more of them than they need.
			used, waiting := map[string]bool{}, 0
			for _, node := range m.pods {
				if w.outside[node] {
					continue
				}
				own := w.holder(node) == nil || w.holder(node) == m
				used[node] = used[node] || own
				if node == "" || !own {
					// Its node is reserved: it has been booting for longer than this world lasts, or the pod, which is small,
					// is on a node that another member holds.
					waiting++
				}
			}
			share := min(w.perNode(m, m.NodePools[0]), w.perNode(m, m.NodePools[len(m.NodePools)-1]))
			maps.DeleteFunc(used, func(node string, is bool) bool { return node == "" || !is })
			least := (int(m.Size) - w.countOutside(m) - m.countSucceeded(m.Size) + share - 1) / share
			w.promise(int(d.Reserved()) <= max(least, len(used)+waiting) && int(d.Reserved()) >= len(used),
				"at rest %s of size %d has reserved %d nodes; its pods are on %d", d.Key.Name, m.Size, d.Reserved(), len(used))
		}
		if d.FirstUnmet() == v1alpha1.ConditionReady && m.Lifecycle == plan.Running {
			w.promise(len(m.gates.waits) == 0 && len(m.gates.released) == 0, "at rest %s has all it wants, and pods behind the gate %v, or on "+
				"their way %v",
				d.Key.Name, m.gates.waits, m.gates.released)
		}
		if m.Lifecycle != plan.Running {
			w.promise(len(d.Reservations) == 0, "at rest %s has ended and still holds %+v", d.Key.Name, d.Reservations)
		}
	}
	for name, p := range w.pools {
		held, kept := map[string]bool{}, 0
		for _, m := range w.members {
			for _, r := range m.Reservations {
				for _, n := range r.Held {
					held[n] = held[n] || !m.gone
				}
				if r.NodePool == name && !m.gone {
					// The provider keeps as many nodes as claims lack, and does not know that one is of no use to its member.
					kept += max(0, int(r.Nodes)-len(r.Held))
				}
			}
		}
		for _, n := range slices.Sorted(maps.Keys(p.nodes)) {
			if node := p.nodes[n]; kept > 0 && !held[n] && node.foreign == 0 && !w.used(n) && !node.Cordoned && !node.readyAt.After(w.now) {
				kept--
				held[n] = true
			}
		}
		for n, node := range p.nodes {
			w.promise(held[n] || node.foreign > 0 || w.used(n) || node.Cordoned || node.readyAt.After(w.now) || p.target <= len(held) ||
				p.target <= w.floor(name),
				"at rest %s of %s is held by nobody and not released", n, name)
		}
	}
}
