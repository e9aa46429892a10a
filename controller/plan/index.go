package plan

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Which nodes of a pool are of use to a member is asked once for each shape, and each answer takes a look at every node. Where many members
// of different shapes ask, that would cost the product of both. The nodes are then put in order by what is free on them: those that have
// too little are counted without a look at one.
const (
	// indexFrom is how many looks at all nodes an index is worth, indexNodes how many nodes.
	indexFrom, indexNodes = 16, 64
	// maxKinds is how many kinds of nodes are told apart in a pool. Where there are more, all nodes are looked at.
	maxKinds = 32
)

// index has the nodes of a pool by kind, as members see them that select alike and are in one domain.
type index struct {
	// looks counts those that have asked before it was made.
	looks int
	made  bool
	kinds []*kind
}

// kind are nodes that differ for a member in what is on them and in how large they are, and in nothing else: any of them says for all
// whether it is well, selected, tolerated, or coming.
type kind struct {
	nodes []*nodeCapacity
	// free has the nodes by what is free of a resource, most first, left the least that DaemonSets leave on one of them.
	free map[corev1.ResourceName][]freeNode
	left map[corev1.ResourceName]int64
	// open counts those that nobody holds and that do not change hands, as of so many moves of the pool.
	open  int32
	moves int
}

// freeNode is a node and how much of a resource is free on it.
type freeNode struct {
	node *nodeCapacity
	free int64
}

// indexFor is the index for members such as this one; nil while looking at all nodes is as good.
func (p *poolCapacity) indexFor(m *candidate) *index {
	if len(p.nodes) < indexNodes {
		return nil
	}
	key := ""
	if m.Selects != nil {
		key = m.Selects.String()
	}
	if m.TopologyKey != "" {
		key += "\x00" + m.TopologyKey + "=" + m.domain
	}
	x := p.indexes[key]
	if x == nil {
		if p.indexes == nil {
			p.indexes = map[string]*index{}
		}
		x = &index{}
		p.indexes[key] = x
	}
	if x.looks++; x.looks <= indexFrom {
		return nil
	}
	if !x.made {
		x.made = true
		x.kinds = p.kindsFor(m)
	}
	if x.kinds == nil {
		return nil
	}
	return x
}

// kindsFor divides the nodes of a pool into kinds; nil when there are too many.
func (p *poolCapacity) kindsFor(m *candidate) []*kind {
	var kinds []*kind
	var traits []trait
	for _, node := range p.nodes {
		of := node.traitFor(m)
		at := slices.IndexFunc(traits, of.equal)
		if at < 0 {
			if len(kinds) == maxKinds {
				return nil
			}
			at = len(kinds)
			kinds = append(kinds, &kind{free: map[corev1.ResourceName][]freeNode{}, left: map[corev1.ResourceName]int64{}, moves: -1})
			traits = append(traits, of)
		}
		kinds[at].nodes = append(kinds[at].nodes, node)
	}
	return kinds
}

// trait is what nodes of a kind have alike.
type trait struct {
	ready, leaving, cordoned, young, selected, inDomain, lacksLabel, elsewhere bool
	// missing are the resources that the template of the pool has and the node does not.
	missing string
	taints  []corev1.Taint
}

func (n *nodeCapacity) traitFor(m *candidate) trait {
	t := trait{
		ready: n.Ready, leaving: n.Leaving, cordoned: n.Cordoned, young: n.young, selected: n.selected(m.Member),
		lacksLabel: n.lacksLabel(m.Member),
		inDomain:   m.TopologyKey == "" || n.inDomain(m), elsewhere: n.isElsewhere(m.Member), taints: n.Taints,
	}
	var missing []string
	for name, amount := range n.pool.Allocatable {
		if amount > 0 && n.Allocatable[name] == 0 {
			missing = append(missing, string(name))
		}
	}
	slices.Sort(missing)
	t.missing = strings.Join(missing, " ")
	return t
}

func (t trait) equal(other trait) bool {
	return t.ready == other.ready && t.leaving == other.leaving && t.cordoned == other.cordoned && t.young == other.young &&
		t.selected == other.selected && t.inDomain == other.inDomain && t.lacksLabel == other.lacksLabel && t.elsewhere == other.elsewhere &&
		t.missing == other.missing && slices.EqualFunc(t.taints, other.taints, func(a, b corev1.Taint) bool {
		return a.Key == b.Key && a.Value == b.Value && a.Effect == b.Effect
	})
}

// wasted is the number of nodes for which wasted says that they are.
func (x *index) wasted(m *candidate) int32 {
	var count int32
	for _, k := range x.kinds {
		if one := k.nodes[0]; one.Leaving || one.coming(m.Member) {
			continue
		}
		count += k.openNodes() - k.usable(m, (*nodeCapacity).open)
	}
	return count
}

// usable is the number of those nodes that a member could use of which a function says that they count: none of which somebody holds.
func (x *index) usable(m *candidate, counts func(*nodeCapacity) bool) int32 {
	var count int32
	for _, k := range x.kinds {
		count += k.usable(m, counts)
	}
	return count
}

func (k *kind) usable(m *candidate, counts func(*nodeCapacity) bool) int32 {
	one := k.nodes[0]
	if !one.Ready || one.Leaving || one.Cordoned || !one.tolerated(m.Member) || !one.selected(m.Member) ||
		(m.TopologyKey != "" && !one.inDomain(m)) {
		return 0
	}
	// The resource of which the fewest nodes have enough decides which of them are looked at.
	all, found := true, false
	var nodes []freeNode
	for name, amount := range m.PodRequests {
		if amount <= 0 {
			continue
		}
		enough := k.with(name, amount)
		all = all && len(enough) == len(k.nodes)
		if !found || len(enough) < len(nodes) {
			nodes, found = enough, true
		}
	}
	var count int32
	if !found || all {
		for _, node := range k.nodes {
			if counts(node) && m.avoided[node.Name].IsZero() {
				count++
			}
		}
		return count
	}
	for _, of := range nodes {
		if n := of.node; counts(n) && m.avoided[n.Name].IsZero() && fits(m.PodRequests, n.Allocatable, n.Requested, n.toCome) {
			count++
		}
	}
	return count
}

// with are the nodes that have so much of a resource free.
func (k *kind) with(name corev1.ResourceName, amount int64) []freeNode {
	list := k.free[name]
	if list == nil {
		list = make([]freeNode, len(k.nodes))
		for i, n := range k.nodes {
			list[i] = freeNode{n, n.Allocatable[name] - plus(n.Requested[name], n.toCome[name])}
		}
		slices.SortFunc(list, func(a, b freeNode) int { return cmp.Compare(b.free, a.free) })
		k.free[name] = list
	}
	at, _ := slices.BinarySearchFunc(list, amount, func(of freeNode, amount int64) int {
		if of.free >= amount {
			return -1
		}
		return 1
	})
	return list[:at]
}

// open reports whether nobody holds a node, nor is about to.
func (n *nodeCapacity) open() bool { return n.holder == nil && !n.changesHands }

// takeable reports whether a node could be held from now on.
func (n *nodeCapacity) takeable() bool { return n.holder == nil && !n.freed }

func (k *kind) openNodes() int32 {
	if moves := k.nodes[0].pool.moves; k.moves != moves {
		k.open, k.moves = 0, moves
		for _, node := range k.nodes {
			if node.open() {
				k.open++
			}
		}
	}
	return k.open
}

// flawless reports whether no node is evidence for a member: those that are well would take a pod if they were empty.
func (x *index) flawless(m *Member) bool {
	for _, k := range x.kinds {
		one := k.nodes[0]
		if one.Leaving || !one.Ready || one.Cordoned || one.coming(m) {
			continue
		}
		if !one.selected(m) || one.isElsewhere(m) {
			return false
		}
		for name, amount := range m.PodRequests {
			if amount > 0 && amount > k.leftOf(name) {
				return false
			}
		}
	}
	return true
}

// leftOf is the least of a resource that one of the nodes has beside what DaemonSets take.
func (k *kind) leftOf(name corev1.ResourceName) int64 {
	least, known := k.left[name]
	if !known {
		for i, n := range k.nodes {
			if left := n.Allocatable[name] - plus(n.Daemons[name], n.toCome[name]); i == 0 || left < least {
				least = left
			}
		}
		k.left[name] = least
	}
	return least
}
