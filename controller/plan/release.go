package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// refusedFor is how long the scheduler may refuse the node that a pod was released for. It may know of that node a little
// later than we do, or still count pods that have left it.
const refusedFor = 30 * time.Second

// strands says why a pod cannot get to the node that it was released for, which is nil when it is in no pool. It is empty
// for a pod that is there, or may yet get there.
func (c *capacity) strands(pod *Pod, node *nodeCapacity) string {
	switch {
	case !pod.Released:
		return ""
	case node == nil && c.outside[pod.Node]:
		return fmt.Sprintf("node %s, which it was to go to, belongs to no NodePool any more", pod.Node)
	case node == nil:
		return fmt.Sprintf("node %s, which it was to go to, does not exist any more", pod.Node)
	case node.Leaving:
		return fmt.Sprintf("node %s, which it was to go to, is being removed", pod.Node)
	case node.Cordoned:
		return fmt.Sprintf("node %s, which it was to go to, is cordoned", pod.Node)
	case !pod.RefusedSince.IsZero() && c.now.Sub(pod.RefusedSince) >= refusedFor:
		why := fmt.Sprintf("the scheduler has kept it off node %s, which it was to go to, since %s", pod.Node, formatTime(pod.RefusedSince))
		if pod.Refusal != "" {
			why += ": " + truncate(pod.Refusal)
		}
		return why
	}
	return ""
}

// avoidFor is how long a node is of no use to a member that the scheduler has kept a pod of it off. Whatever it is that the
// planner does not know of (an affinity of another pod, a port, a volume), it would be tried again and again.
const avoidFor = 10 * time.Minute

// remember reads which nodes the member avoids.
func (c *candidate) remember(now time.Time) {
	for _, a := range c.Avoided {
		if now.Before(a.Until.Time) {
			if c.avoided == nil {
				c.avoided = map[string]time.Time{}
			}
			c.avoided[a.Node] = a.Until.Time
		}
	}
}

// avoid makes the member avoid a node that was fit for its pod and did not get it.
func (c *candidate) avoid(pod *Pod, node *nodeCapacity, now time.Time) {
	if node == nil || !node.Ready || node.Leaving || node.Cordoned || pod.RefusedSince.IsZero() {
		return
	}
	if c.avoided == nil {
		c.avoided = map[string]time.Time{}
	}
	c.avoided[node.Name] = microTime(now.Add(avoidFor)).Time
}

// refuse notes that the scheduler has kept a pod of the member off a node that was fit for it.
func (c *candidate) refuse(pod *Pod, node *nodeCapacity) {
	if node != nil && node.Ready && !node.Leaving && !node.Cordoned && !pod.RefusedSince.IsZero() {
		c.refused = append(c.refused, refusedNode{node: node, words: pod.Refusal})
	}
}

// avoids are the avoided nodes as the member's status records them, those that were avoided last where there are too many.
func (c *candidate) avoids() []v1alpha1.AvoidedNode {
	if len(c.avoided) == 0 {
		return nil
	}
	var out []v1alpha1.AvoidedNode
	for _, name := range slices.Sorted(maps.Keys(c.avoided)) {
		out = append(out, v1alpha1.AvoidedNode{Node: name, Until: microTime(c.avoided[name])})
	}
	if len(out) > v1alpha1.MaxAvoided {
		slices.SortStableFunc(out, func(a, b v1alpha1.AvoidedNode) int { return b.Until.Compare(a.Until.Time) })
		out = out[:v1alpha1.MaxAvoided]
	}
	return out
}

// wakeForRefused makes sure that a pass comes when a pod has been refused for long enough.
func (p *pass) wakeForRefused(m *candidate) {
	for i := range m.Pods {
		if pod := &m.Pods[i]; pod.Released && !pod.RefusedSince.IsZero() && m.places[i] != nil {
			p.wake(pod.RefusedSince.Add(refusedFor))
		}
	}
}

// served is the part of the MiniCluster's size that has had its nodes. Without a growth that is all of what is reserved.
func (c *candidate) served() int32 {
	if c.growth != nil {
		return min(c.growth.Served, c.Size)
	}
	served := min(c.sizeOf(c.grantedBefore), c.Size)
	if c.FormerSize > 0 {
		// Nodes that pods share may have room for more.
		served = min(served, c.FormerSize)
	}
	return served
}

// complete is the part of the MiniCluster's size below which each pod is on its own: one that has died goes back to its place.
// From there on the pods are a growth, which waits for all of its nodes.
func (c *candidate) complete() int32 {
	if c.growth == nil || (c.partial() && c.growth.From > 0 && c.unit() == 1) {
		return c.Size
	}
	return c.served()
}

// release lets gated pods go to the nodes held for the member, each to one that has room for it: those of a growth when
// nodes for all of it are Ready, and with them those that can go without.
func (p *pass) release(m *candidate) []Assignment {
	if m.Lifecycle != Running || len(m.Gated) == 0 {
		return nil
	}
	may := m.complete()
	switch {
	case m.Invalid != "":
	case m.partial():
		may = max(may, m.partOf(m.Size))
	case m.presentMet():
		may = m.Size
	}
	// The ranks beyond a smaller desired size are about to leave.
	may = min(may, m.Wants)
	ranks := slices.DeleteFunc(slices.Clone(m.Gated), func(rank int32) bool { return rank >= may })
	slices.Sort(ranks)
	var out []Assignment
	m.eachFree(func(node string) bool {
		if len(out) < len(ranks) {
			out = append(out, Assignment{Index: m.id(ranks[len(out)]), Node: node})
		}
		return len(out) < len(ranks)
	})
	//nolint:gosec // Bounded by the size of the MiniCluster.
	if count := int32(len(out)); count > 0 && ranks[count-1] >= m.complete() {
		m.note(
			v1alpha1.ReasonPodsReleased,
			fmt.Sprintf(
				"released %s of size %d to %s", pluralize(count, "pod", "pods"), m.Size,
				pluralize(countNodes(out), "node, which is Ready", "nodes, which are Ready"),
			),
		)
	}
	return out
}

// partOf is the part of a size that a member which takes what there is lets go to its nodes: of pods that grow together all or none.
func (c *candidate) partOf(size int32) int32 {
	if c.unit() == 1 {
		return size
	}
	return min(size, c.unitsIn(c.readySize()))
}

// countNodes counts the nodes that pods may go to.
func countNodes(assignments []Assignment) int32 {
	nodes := map[string]bool{}
	for _, a := range assignments {
		nodes[a.Node] = true
	}
	return int32(len(nodes)) //nolint:gosec // Bounded by the size of the MiniCluster.
}

// eachFree tells, once for each pod of the member that it could take, the held nodes that are Ready and have room, until it
// is told to end.
func (c *candidate) eachFree(tell func(node string) bool) {
	for _, node := range c.held {
		if !c.serves(node) {
			continue
		}
		for range c.slots(node) - min(node.stays, c.perNode) {
			if !tell(node.Name) {
				return
			}
		}
	}
}
