package plan

import (
	"math"
	"slices"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// PodsPerNode is the value of Member.PodsPerNode for that of the API, where nothing is 1.
func PodsPerNode(value *intstr.IntOrString) int32 {
	switch {
	case value == nil:
		return 1
	case value.Type == intstr.String:
		return Auto
	default:
		return value.IntVal
	}
}

// podsPerNode is how many pods of a member share a node. Where it is left to us it is the least of what fits an empty node
// of one of its pools: a growth is counted before it is known which pool it will be served by.
func podsPerNode(m *Member, capacity *capacity) int32 {
	if m.PodsPerNode != Auto {
		return max(1, m.PodsPerNode)
	}
	least := int64(math.MaxInt64)
	for _, name := range m.NodePools {
		if pool := capacity.pools[name]; pool != nil {
			if fit := room(m.PodRequests, pool.Allocatable, pool.daemons, nil); fit > 0 {
				least = min(least, fit)
			}
		}
	}
	if least == math.MaxInt64 {
		return 1
	}
	return int32(min(least, math.MaxInt32))
}

// room is how many times requests fits into what is left of allocatable beside what is requested and what is to come.
func room(requests, allocatable, requested, coming Resources) int64 {
	least := int64(math.MaxInt64)
	for name, amount := range requests {
		if amount > 0 {
			least = min(least, max(0, allocatable[name]-plus(requested[name], coming[name]))/amount)
		}
	}
	return least
}

// serves reports whether a held node is Ready and has, or can take, a pod of the member that stays. One that leaves does not: its
// pod is there until it goes, and needs another node then.
func (c *candidate) serves(node *nodeCapacity) bool {
	return node.Ready && !node.Leaving && (node.stays > 0 || node.usable(c))
}

// slots is how many pods of the member a node has that stay, or could have, at most as many as are to share a node.
func (c *candidate) slots(node *nodeCapacity) int32 {
	own := min(node.stays, c.perNode)
	if own == c.perNode || !node.usable(c) {
		return own
	}
	more := room(c.PodRequests, node.Allocatable, node.Requested, node.toCome)
	return own + int32(min(more, int64(c.perNode-own))) //nolint:gosec // Not more than perNode.
}

// ranksWithoutNeed are, in order, the ranks that need no node of the member's pools for as long as it has its size: those of pods
// outside its pools, and those that have succeeded. One that has a pod in a pool too is not among them: the pod outside is about to
// leave.
func (c *candidate) ranksWithoutNeed(outside []int32) []int32 {
	ranks := slices.Concat(outside, c.Succeeded)
	if len(ranks) == 0 {
		return nil
	}
	inside := map[int32]bool{}
	for i, node := range c.places {
		if node != nil && c.mayHold(node.Pool) {
			inside[c.Pods[i].Index] = true
		}
	}
	slices.Sort(ranks)
	return slices.DeleteFunc(slices.Compact(ranks), func(rank int32) bool { return rank >= c.Size || inside[rank] })
}

// withoutNeed counts the ranks of a size that need no node.
func (c *candidate) withoutNeed(size int32) int32 {
	below, _ := slices.BinarySearch(c.needless, size)
	return int32(below) //nolint:gosec // Bounded by the size of the MiniCluster.
}

// sizeWith is the maximum size of which each rank that needs a node gets one of a number of places.
func (c *candidate) sizeWith(places int64) int32 {
	for _, rank := range c.needless {
		if int64(rank) > places {
			break
		}
		places++
	}
	return int32(min(places, math.MaxInt32)) //nolint:gosec // Within the bounds of an int32.
}

// nodesFor is the number of nodes of its pools that the member needs for a size: those that pods are on which stay, held
// ones with what they have room for, and others that are taken to be empty.
func (c *candidate) nodesFor(size int32) int32 {
	left := max(0, size-c.withoutNeed(size))
	if c.perNode == 1 {
		return left
	}
	var nodes int32
	c.eachSlots(func(slots int32, inUse bool) bool {
		if left <= 0 && !inUse {
			return false
		}
		nodes++
		left -= slots
		return true
	})
	if left > 0 {
		nodes += (left-1)/c.perNode + 1
	}
	return nodes
}

// sizeOf is the size that a number of nodes is enough for: nodesFor the other way round.
func (c *candidate) sizeOf(nodes int32) int32 {
	if c.perNode == 1 {
		return c.sizeWith(int64(nodes))
	}
	var places int64
	c.eachSlots(func(slots int32, _ bool) bool {
		if nodes <= 0 {
			return false
		}
		nodes--
		places += int64(slots)
		return true
	})
	return c.sizeWith(places + int64(max(0, nodes))*int64(c.perNode))
}

// grantedSize is the size that the nodes are enough for which are granted or in use already. Without a growth that was granted some
// it is not more than the present one, nor is it where only ranks that have ended since have made room for more.
func (c *candidate) grantedSize() int32 {
	size := c.sizeOf(max(c.grantedBefore, c.inUse()))
	_, ended := c.runningPods()
	if c.growth == nil || (c.growth.Deadline == nil && c.growth.GrantedAt == nil) || size-ended <= c.Size {
		size = min(size, max(c.Size, c.sizeOf(c.inUse())))
	}
	return size
}

// readySize is the size that the held nodes which are Ready are enough for. Pods on one that is not do not make up for
// room that the others have not.
func (c *candidate) readySize() int32 {
	var places int64
	for _, node := range c.held {
		if c.serves(node) {
			places += int64(c.slots(node))
		}
	}
	return c.sizeWith(places)
}

// eachSlots tells the slots of the held nodes that have some, those in use first, until it is told to end. A node in use that is
// about to go has the slots of the one that takes its place, or of an empty one while there is none.
func (c *candidate) eachSlots(tell func(slots int32, inUse bool) bool) {
	departing := 0
	for _, node := range c.held {
		switch slots := c.slots(node); {
		case node.stays == 0:
		case node.Leaving:
			departing++
		case slots > 0 && !tell(slots, true):
			return
		}
	}
	for _, node := range c.held {
		slots := c.slots(node)
		if node.stays > 0 || slots == 0 {
			continue
		}
		if !tell(slots, departing > 0) {
			return
		}
		departing--
	}
	for ; departing > 0; departing-- {
		if !tell(c.perNode, true) {
			return
		}
	}
}
