package plan

import (
	"cmp"
	"slices"
)

// nobody stands in place of a pod that does not exist.
const nobody = -1

// ranked gives the pods of a group ranks where they have none of their own, so that a rank below the size stays as everywhere else: first
// the pods that are there and stay, those that would leave first last, then the ones that are lacking, and beyond the size those that are
// about to leave. It returns the group with these ranks, and by rank what the observer calls the pod.
func ranked(m *Member, capacity *capacity) (out *Member, ids []int32) {
	if m.Leaves == Highest {
		return m, nil
	}
	ids = m.standing(capacity)
	there := int32(len(ids)) //nolint:gosec // Bounded by the number of pods.
	ranks := make(map[int32]int32, len(ids))
	for rank, id := range ids {
		ranks[id] = int32(rank)
	}
	c := *m
	c.Lacking = nil
	for rank := there; rank < m.Size; rank++ {
		c.Lacking, ids = append(c.Lacking, rank), append(ids, nobody)
	}
	c.Pods = slices.Clone(m.Pods)
	for i := range c.Pods {
		if pod := &c.Pods[i]; pod.Leaving {
			ids = append(ids, pod.Index)
			pod.Index = int32(len(ids) - 1) //nolint:gosec // Bounded by the number of pods.
		} else {
			pod.Index = ranks[pod.Index]
		}
	}
	c.Gated, c.Succeeded = ranksOf(m.Gated, ranks), ranksOf(m.Succeeded, ranks)
	// Of more pods than the size some are about to leave, and nobody knows yet which.
	c.Running = min(m.Running, m.Size)
	return &c, ids
}

func ranksOf(ids []int32, ranks map[int32]int32) []int32 {
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = ranks[id]
	}
	return out
}

// id is what the observer calls the pod of a rank.
func (c *candidate) id(rank int32) int32 {
	if c.ids == nil {
		return rank
	}
	return c.ids[rank]
}

// standing are the pods that are there and do not leave already, those first that stay the longest. Where pods are Named the lead is the
// first. The others that are bound stay longer than those that are on their way to a node, these longer than those that have begun nothing,
// and those that have succeeded stay the shortest: they have nothing left to do.
func (m *Member) standing(capacity *capacity) []int32 {
	var bound []*Pod
	var out, going []int32
	for i := range m.Pods {
		switch pod := &m.Pods[i]; {
		case pod.Leaving:
		case pod.Released:
			going = append(going, pod.Index)
		default:
			bound = append(bound, pod)
		}
	}
	slices.SortStableFunc(bound, func(a, b *Pod) int { return cmp.Compare(a.Index, b.Index) })
	out = make([]int32, 0, len(m.Pods)+len(m.Pending)+len(m.Gated)+len(m.Succeeded))
	for _, pod := range bound {
		out = append(out, pod.Index)
	}
	slices.Sort(going)
	rest := going
	for _, pods := range [][]int32{m.Pending, m.Gated, m.Succeeded} {
		rest = append(rest, slices.Sorted(slices.Values(pods))...)
	}
	if m.Leaves == Named {
		if leave := len(out) + len(rest) - int(m.Wants); leave > len(rest) {
			out = m.leaveLast(bound, leave-len(rest), capacity)
		}
	}
	out = append(out, rest...)
	if m.Leaves == Named && m.Lead != nil {
		if at := slices.Index(out, *m.Lead); at > 0 {
			out = slices.Insert(slices.Delete(out, at, at+1), 0, *m.Lead)
		}
	}
	return out
}

// host is a node with the pods of a group that are bound to it.
type host struct {
	node *nodeCapacity
	pods []*Pod
	// preference is the place of its pool in the list of the group, -1 for a node of no pool.
	preference int
	// running counts those of its pods that run.
	running int
	// freed is set when nothing would be left on the node without them, lost when it is about to go, or gone, in any case.
	freed, lost bool
}

// leaveLast are pods that are bound to nodes, those of them at the end that leave first: so many that nodes are lost, or become empty,
// are taken as a whole, those with few pods first because that frees more of them, and of these those of the pools that are preferred
// least, and whose pods do not run. What is left to leave then is taken of one node as far as that goes. Of what is alike the last leaves.
func (m *Member) leaveLast(bound []*Pod, leave int, capacity *capacity) []int32 {
	bound = slices.Clone(bound)
	slices.Reverse(bound)
	hosts := m.hosts(bound, capacity)
	slices.SortStableFunc(hosts, func(a, b *host) int {
		return cmp.Or(
			before(a.lost, b.lost), before(a.freed, b.freed), cmp.Compare(len(a.pods), len(b.pods)), cmp.Compare(b.preference, a.preference),
			cmp.Compare(a.running, b.running),
		)
	})
	var out, rest []int32
	var broken []*host
	for _, h := range hosts {
		if len(h.pods) <= leave && (h.freed || h.lost) {
			leave -= len(h.pods)
			out = append(out, h.ids()...)
		} else {
			broken = append(broken, h)
		}
	}
	slices.SortStableFunc(broken, func(a, b *host) int {
		return cmp.Or(cmp.Compare(b.preference, a.preference), cmp.Compare(a.running, b.running), cmp.Compare(len(a.pods), len(b.pods)))
	})
	for _, h := range broken {
		rest = append(rest, h.ids()...)
	}
	out = append(out, rest...)
	slices.Reverse(out)
	return out
}

// hosts are the nodes of pods, in the order of their first pods.
func (m *Member) hosts(bound []*Pod, capacity *capacity) []*host {
	var out []*host
	byName := map[string]*host{}
	for _, pod := range bound {
		h := byName[pod.Node]
		if h == nil {
			node := capacity.nodes[pod.Node]
			h = &host{node: node, preference: -1, lost: node == nil && !capacity.outside[pod.Node]}
			if node != nil {
				h.preference, h.lost = slices.Index(m.NodePools, node.Pool), node.Leaving
			}
			byName[pod.Node] = h
			out = append(out, h)
		}
		h.pods = append(h.pods, pod)
		if pod.Running {
			h.running++
		}
	}
	for _, h := range out {
		led := m.Lead != nil && slices.ContainsFunc(h.pods, func(pod *Pod) bool { return pod.Index == *m.Lead })
		h.freed = h.node != nil && !led && h.node.empty(int64(len(h.pods)))
		h.lost = h.lost && !led
	}
	return out
}

// ids are the pods of a host, those first that do not run.
func (h *host) ids() []int32 {
	pods := slices.Clone(h.pods)
	slices.SortStableFunc(pods, func(a, b *Pod) int { return before(!a.Running, !b.Running) })
	out := make([]int32, len(pods))
	for i, pod := range pods {
		out[i] = pod.Index
	}
	return out
}

// before compares two of which the one comes first that is so.
func before(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}

// leave names the pods that leave with a smaller size, those that leave first in front. The lead does not.
func (c *candidate) leave(size int32) []int32 {
	if c.Leaves != Named || size == 0 || size >= c.Size {
		return nil
	}
	var out []int32
	for rank := c.lastThere(); rank >= size; rank-- {
		out = append(out, c.ids[rank])
	}
	return out
}

// lastThere is the rank of the last pod that is there and does not leave already, -1 for none.
func (c *candidate) lastThere() int32 {
	there := len(c.ids) - len(c.Lacking)
	for i := range c.Pods {
		if c.Pods[i].Leaving {
			there--
		}
	}
	return int32(there) - 1 //nolint:gosec // Bounded by the number of pods.
}
