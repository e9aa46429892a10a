package plan

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// capacity is what a pass knows of the nodes: who holds which, and which are free.
type capacity struct {
	now   time.Time
	pools map[string]*poolCapacity
	nodes map[string]*nodeCapacity
	// outside are the nodes that belong to no pool that exists.
	outside map[string]bool
}

// poolCapacity is one pool in a pass.
type poolCapacity struct {
	Pool
	// daemons is what the pods of DaemonSets take on each new node.
	daemons Resources
	// nodes are those of the pool. Before inOrder they are in the order in which they were observed.
	nodes []*nodeCapacity
	// ordered is set when they are in order.
	ordered bool
	// granted is the sum of the reservations that the last pass left and of what this one has added.
	granted int32
	// unclaimed is how many nodes members use without a claim, as far as this pass has not granted them one.
	unclaimed int32
	// kept is the room that is kept for a growth which waits.
	kept kept

	// cursors remember, by shape, up to where nodes were found to be held or of no use.
	cursors map[string]int
	// occupied remembers, by shape, the count that occupiedFor made, late the time that late found.
	occupied map[string]int32
	late     *time.Time
	// shown remembers, by shape, what nodes show about the pool; nil while nobody has asked.
	shown map[string]*shown
	// free remembers, by shape, how many free nodes each domain has for members that have not chosen one;
	// nil while nobody has asked.
	free map[string]*freeNodes
	// indexes are those of the nodes, by what members select and by their domain; nil while nobody has asked. moves counts how often a node
	// was held or given back.
	indexes map[string]*index
	moves   int
}

// nodeCapacity is one node in a pass.
type nodeCapacity struct {
	*Node
	pool *poolCapacity
	// holder is the member that holds the node, nil for none.
	holder *candidate
	// occupant counts the pods on the node of the first member that has any, others those of further members.
	occupant occupant
	others   []occupant
	// pods is how many pods of the holder are on the node, stays how many of them are within its size.
	pods, stays int32
	// claimedBy is the member whose status lists the node as held, nil for none.
	claimedBy *candidate
	// young is set while the node is within the time that its pool gives it to become of use.
	young bool
	// toCome is what DaemonSets request for pods that have not come to a young node yet; nil when all have.
	toCome Resources
	// freed is set when this pass takes the node from its holder. Nobody else gets it in the same pass: a
	// node must be off one list before it is put on another, lest a kill between two writes leave it on both.
	freed bool
	// changesHands is set when a pod of another member is on the freed node, which will be that member's.
	changesHands bool
}

// occupant counts the pods that a member has on a node, and those of them that are within its size.
type occupant struct {
	member      *candidate
	pods, stays int32
}

// addPod counts one more pod of a member.
func (n *nodeCapacity) addPod(m *candidate, stays bool) {
	of := &n.occupant
	switch at := slices.IndexFunc(n.others, func(o occupant) bool { return o.member == m }); {
	case of.member == nil:
		of.member = m
	case of.member == m:
	case at >= 0:
		of = &n.others[at]
	default:
		n.others = append(n.others, occupant{member: m})
		of = &n.others[len(n.others)-1]
	}
	of.pods++
	if stays {
		of.stays++
	}
}

// occupantOf is what a member has on the node.
func (n *nodeCapacity) occupantOf(m *candidate) occupant {
	if n.occupant.member == m {
		return n.occupant
	}
	for _, o := range n.others {
		if o.member == m {
			return o
		}
	}
	return occupant{}
}

func newCapacity(observed *Observed, now time.Time) *capacity {
	c := &capacity{
		now:   now,
		pools: make(map[string]*poolCapacity, len(observed.Pools)),
		nodes: make(map[string]*nodeCapacity, len(observed.Nodes)),

		outside: map[string]bool{},
	}
	for _, pool := range observed.Pools {
		c.pools[pool.Name] = &poolCapacity{Pool: pool, daemons: requestsOf(pool.Daemons), cursors: map[string]int{}, occupied: map[string]int32{}}
	}
	backing := make([]nodeCapacity, len(observed.Nodes))
	counts := make(map[*poolCapacity]int, len(observed.Pools))
	for i := range observed.Nodes {
		node := &observed.Nodes[i]
		pool := c.pools[node.Pool]
		if pool == nil {
			c.outside[node.Name] = true
			continue
		}
		backing[i] = nodeCapacity{Node: node, pool: pool, young: now.Sub(node.CreatedAt) < pool.ProvisionTimeout}
		backing[i].expect(pool.daemons)
		c.nodes[node.Name] = &backing[i]
		counts[pool]++
	}
	for i := range backing {
		if pool := backing[i].pool; pool != nil {
			if pool.nodes == nil {
				pool.nodes = make([]*nodeCapacity, 0, counts[pool])
			}
			pool.nodes = append(pool.nodes, &backing[i])
		}
	}
	return c
}

// inOrder are the nodes of a pool in the order in which they are handed out: those marked as reserved first, because others are Cluster
// Autoscaler's to remove, then those with the least cpu in use, then by name. Most pools hand out none in a pass, so they are put in
// order when that is asked for first.
func (p *poolCapacity) inOrder() []*nodeCapacity {
	if !p.ordered {
		p.ordered = true
		slices.SortFunc(p.nodes, func(a, b *nodeCapacity) int {
			if a.Reserved != b.Reserved {
				return reservedFirst(a)
			}
			if a, b := a.Requested[corev1.ResourceCPU], b.Requested[corev1.ResourceCPU]; a != b {
				return cmp.Compare(a, b)
			}
			return strings.Compare(a.Name, b.Name)
		})
	}
	return p.nodes
}

func reservedFirst(a *nodeCapacity) int {
	if a.Reserved {
		return -1
	}
	return 1
}

// expect notes what DaemonSets will take of a young node for pods that are not there yet. What has not come to an older one does
// not come.
func (n *nodeCapacity) expect(daemons Resources) {
	if !n.young {
		return
	}
	for name, amount := range daemons {
		if more := amount - n.Daemons[name]; more > 0 {
			if n.toCome == nil {
				n.toCome = make(Resources, len(daemons))
			}
			n.toCome[name] = more
		}
	}
}

// usable reports whether a node could take a pod of the member now: in its domain, fit for its pods, and none that the
// scheduler has kept them off.
func (n *nodeCapacity) usable(c *candidate) bool {
	return (c.TopologyKey == "" || n.inDomain(c)) && c.avoided[n.Name].IsZero() && n.takes(c.Member)
}

// takes reports whether a node could take a pod of the member, wherever it is: Ready, schedulable, not leaving, free
// of taints that neither its pool's template has nor the pod tolerates, selected by the pod, and with room for the requests.
func (n *nodeCapacity) takes(m *Member) bool {
	return n.Ready && !n.Leaving && !n.Cordoned && n.tolerated(m) && fits(m.PodRequests, n.Allocatable, n.Requested, n.toCome) && n.selected(m)
}

// selected reports whether pods of the member can go to the node by their node selectors and required affinity.
func (n *nodeCapacity) selected(m *Member) bool {
	return m.Selects == nil || m.Selects.Matches(n.Name, n.Labels)
}

func (n *nodeCapacity) tolerated(m *Member) bool {
	for i := range n.Taints {
		if !n.accepts(m, &n.Taints[i]) {
			return false
		}
	}
	return true
}

// accepts reports whether a taint does not keep pods of the member off.
func (n *nodeCapacity) accepts(m *Member, taint *corev1.Taint) bool {
	ofTemplate := slices.ContainsFunc(n.pool.Taints, func(t corev1.Taint) bool { return t.MatchTaint(taint) })
	return ofTemplate || v1alpha1.Tolerates(m.Tolerations, taint)
}

// coming reports whether a node is of no use to a member yet and still within its time to become so: it is not Ready, or has a
// taint, misses a device or a label that is added or taken away when it has started. It is then one of the nodes that were
// ordered, and neither one that is lost nor one that shows anything about its pool.
func (n *nodeCapacity) coming(m *Member) bool {
	return n.booting() || n.young && (!n.tolerated(m) || n.lacksDevice(m) || n.lacksLabel(m))
}

// booting reports whether a node is not Ready and still within its time to become so.
func (n *nodeCapacity) booting() bool { return n.young && !n.Ready }

// lacksDevice reports whether a node has nothing at all of a resource that the member's pods request and the template has: what
// tells the kubelet of its devices has not started.
func (n *nodeCapacity) lacksDevice(m *Member) bool {
	for name, amount := range m.PodRequests {
		if amount > 0 && n.Allocatable[name] == 0 && n.pool.Allocatable[name] > 0 {
			return true
		}
	}
	return false
}

// lacksLabel reports whether labels decide that a node is of no use to the member, and the node does not have all of those that
// it is to have.
func (n *nodeCapacity) lacksLabel(m *Member) bool {
	if m.TopologyKey != "" && n.Labels[m.TopologyKey] == "" {
		return true
	}
	if n.selected(m) {
		return false
	}
	for name := range n.pool.Labels {
		if _, there := n.Labels[name]; !there {
			return true
		}
	}
	return false
}

// late is when the next young node of a pool that nobody holds has had its time, zero when there is none: from then on it counts
// as one that others occupy.
func (c *capacity) late(pool *poolCapacity) time.Time {
	if pool.late == nil {
		pool.late = &time.Time{}
		for _, node := range pool.nodes {
			due := node.CreatedAt.Add(pool.ProvisionTimeout)
			if node.young && (!node.Ready || node.holder == nil) && (pool.late.IsZero() || due.Before(*pool.late)) {
				*pool.late = due
			}
		}
	}
	return *pool.late
}

// occupiedFor counts the nodes of a pool that exist, are held by nobody and do not help the member: filled by other workloads, cordoned,
// tainted, lost, in another domain, or of no use for what they are. Nodes that are coming or leaving do not count: the former will help,
// and the target does not count the latter. Nor do nodes that change hands between members in this pass: the next one finds them held.
func (c *capacity) occupiedFor(pool *poolCapacity, m *candidate) int32 {
	if count, known := pool.occupied[m.shapeKey]; known {
		return count
	}
	var count int32
	if index := pool.indexFor(m); index != nil {
		count = index.wasted(m)
	} else {
		for _, node := range pool.nodes {
			if node.wasted(m) {
				count++
			}
		}
	}
	if m.open() {
		count += pool.freeFor(m).scattered()
	}
	pool.occupied[m.shapeKey] = count
	return count
}

// recount forgets what was counted before nodes were held.
func (p *poolCapacity) recount() {
	clear(p.occupied)
	for _, s := range p.shown {
		s.wasted, s.unfinished = nil, nil
	}
}

// wasted reports whether a node that nobody holds is there and of no use to the member.
func (n *nodeCapacity) wasted(m *candidate) bool {
	return n.open() && !n.Leaving && !n.usable(m) && !n.coming(m.Member)
}

// take holds up to want more usable nodes of a pool for the member.
func (c *capacity) take(pool *poolCapacity, m *candidate, want int32) {
	var taken int32
	i, known := pool.cursors[m.shapeKey]
	if !known {
		if index := pool.indexFor(m); index != nil && index.usable(m, (*nodeCapacity).takeable) == 0 {
			i = len(pool.nodes)
		}
	}
	for nodes := pool.inOrder(); i < len(nodes) && taken < want; i++ {
		if node := nodes[i]; node.takeable() && node.usable(m) {
			pool.taken(node)
			c.hold(node, m)
			taken++
		}
	}
	pool.cursors[m.shapeKey] = i
}

func (c *capacity) hold(node *nodeCapacity, m *candidate) {
	node.pool.moves++
	node.holder = m
	of := node.occupantOf(m)
	node.pods, node.stays = of.pods, of.stays
	m.held = append(m.held, node)
}

// free takes a node from its holder.
func (n *nodeCapacity) free() {
	n.pool.moves++
	n.freed, n.holder = true, nil
}
