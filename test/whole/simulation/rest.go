package simulation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// restsWithin is how long a world may take to come to rest: Cluster Autoscaler leaves a group alone for up to half an hour, and a
// pool that is left alone may fail a growth, which then waits ten minutes.
const restsWithin = 4 * time.Hour

// settle runs a quiet world until everything is in its place, and a little longer: rest has to last.
func (w *world) settle() {
	begun := w.now.Sub(noon)
	why := "it has not run"
	for passed := time.Duration(0); passed < restsWithin; passed += 2 * time.Minute {
		w.run(begun + passed)
		if len(w.broken) > 0 {
			return
		}
		if why = w.restless(); why != "" {
			continue
		}
		passed += 3 * time.Minute
		w.run(begun + passed)
		if len(w.broken) > 0 {
			return
		}
		if why = w.restless(); why == "" {
			w.tell("storm", "everything is in its place")
			return
		}
	}
	w.promise(false, "%s after nothing has happened any more it is not at rest: %s", restsWithin, why)
}

// restless says what is not in its place, empty when everything is: sizes are what is asked for, or it is told why not;
// every pod runs; nothing is reserved that is not needed; floors are what is reserved, targets the floors; every machine is
// a Ready node, every node says who holds it; no node is tainted or being deleted.
func (w *world) restless() string {
	var reserved map[string]int32
	for _, p := range w.pods.live.items {
		if p.member == "" && p.daemon == "" {
			return p.name + " is still there"
		}
	}
	for _, c := range w.clusters.live.items {
		if c.finished || c.deleting {
			return c.name + " has ended and is still there"
		}
	}
	for _, check := range []func() string{
		w.restlessGates,
		func() (why string) { reserved, why = w.restlessMembers(); return why },
		func() string { return w.restlessPools(reserved) },
		w.restlessNodes,
		w.restlessCloud,
	} {
		if why := check(); why != "" {
			return why
		}
	}
	return ""
}

func (w *world) restlessMembers() (reserved map[string]int32, why string) {
	reserved = map[string]int32{}
	for _, m := range w.members.live.items {
		for i := range m.reservations {
			reserved[m.reservations[i].NodePool] += m.reservations[i].Nodes
		}
	}
	for _, m := range w.members.live.items {
		c := w.clusters.get(m.name)
		if c == nil || c.finished || c.deleting {
			if len(m.reservations) > 0 {
				return nil, fmt.Sprintf("%s has ended and still has %v", m.name, inWords(m.reservations))
			}
			continue
		}
		if why := w.restlessMember(m, c, reserved); why != "" {
			return nil, why
		}
	}
	return reserved, ""
}

func (w *world) restlessMember(m *memberObject, c *clusterObject, reserved map[string]int32) string {
	used := map[string]bool{}
	var running int32
	for _, p := range w.pods.live.items {
		if p.member != m.name {
			continue
		}
		if p.deleting {
			return fmt.Sprintf("pod %s is leaving", p.name)
		}
		if p.succeeded {
			running++
		}
		if p.node == "" {
			continue
		}
		running++
		// Where pods are small, that of one member may be on a node of another.
		if holds(m, p.node) {
			used[p.node] = true
		} else if node := w.nodes.get(p.node); !w.heldByAny(p.node) && (node == nil || w.controller.machineOf(node) != nil) {
			// A node that no record vouches for is a stranger's, and a pod there needs none of the pool.
			return fmt.Sprintf("pod %s is on %s, which nobody holds", p.name, p.node)
		}
	}
	if slices.ContainsFunc(m.pools, w.strewn) || exhausted(m) {
		return ""
	}
	if c.suspended || w.hindered(m, c) {
		return w.restlessTroubled(m, c)
	}
	if g := m.growth; g != nil && w.cloud.perfect && !w.allFull(m) && (g.Deadline != nil || g.RetryAfter != nil) {
		return fmt.Sprintf("%s has until %s, and asks again at %s", m.name, relativeTo(g.Deadline), relativeTo(g.RetryAfter))
	}
	reason, isReserved := reservedCondition(m)
	short := c.size != m.wants || running != c.size
	switch {
	case running < c.size && w.cloud.perfect && !w.ignoresMembers && !m.gated && !w.allFull(m):
		return fmt.Sprintf("%d of %d pods of %s run, and Cluster Autoscaler can order nodes for the others", running, c.size, m.name)
	case running < c.size && w.cloud.perfect && w.couldHave(m):
		return fmt.Sprintf("%s has reserved %d nodes for size %d, %d pods run, and nothing is ordered", m.name, m.reserved(), c.size, running)
	case short && isReserved && (!w.cloud.perfect || w.allFull(m) || (c.size == m.wants && !w.couldHave(m))):
		// It waits for nodes that the cloud has not, or that pods which nobody had room for have taken.
		return ""
	case w.misplaced(m), w.lingersOn(m):
		return ""
	case short && isReserved:
		return fmt.Sprintf("%s has size %d, %d pods on nodes, wants %d, and says it has what it needs: %s", m.name, c.size, running, m.wants,
			inWords(m.reservations))
	case short:
		return w.unserved(m, c, reason, reserved)
	case !isReserved && (w.allFull(m) || !w.cloud.perfect):
		// Its pods took nodes that others had reserved; there are no more, or the cloud has none.
		return ""
	case !isReserved:
		return fmt.Sprintf("%s has all that it wants and says %s", m.name, reason)
	case m.growth != nil:
		return fmt.Sprintf("%s has all that it wants and still grows to %d", m.name, m.growth.Size)
	}
	return w.restlessNumbers(m, c.size, int32(len(used)))
}

// restlessNumbers says what is wrong with the number of nodes of a member that has all that it wants.
func (w *world) restlessNumbers(m *memberObject, size, used int32) string {
	// Pods that share nodes may be spread over more of them than they need.
	size -= w.needless(m, size)
	least := (size + m.sharing() - 1) / m.sharing()
	if m.podsPerNode != 0 && w.daemonsOn(m.pools) {
		// More pods may share a node than fit beside what DaemonSets take of an empty one.
		return ""
	}
	if n := m.reserved(); n > max(least, used) || n < used {
		return fmt.Sprintf("%s of size %d has reserved %d nodes, and its pods are on %d", m.name, size, n, used)
	}
	for i := range m.reservations {
		if r := &m.reservations[i]; (len(r.Held) != int(r.Nodes) && !w.full(r.NodePool)) || r.Occupied != 0 {
			return fmt.Sprintf("%s has reserved %d nodes in %s, holds %v, and %d are occupied", m.name, r.Nodes, r.NodePool, r.Held, r.Occupied)
		}
	}
	return ""
}

// unserved says why it is wrong that a member has not what it wants, and was told the reason. A cloud without machines is a
// good one; a pool without room is one when it has none.
func (w *world) unserved(m *memberObject, c *clusterObject, reason string, reserved map[string]int32) string {
	state := fmt.Sprintf("%s has size %d, wants %d, and says %s", m.name, c.size, m.wants, reason)
	switch reason {
	case v1alpha1.ReasonBackingOff:
		if w.cloud.perfect && !w.allFull(m) {
			return state
		}
	case v1alpha1.ReasonPoolFull, v1alpha1.ReasonPoolTooSmall:
		free := int32(0)
		for _, pools := range w.together(m) {
			sum := int32(0)
			for _, name := range pools {
				room := w.pools.get(name).maxSize - reserved[name] - w.dead(name)
				if m.placement == v1alpha1.PlacementSingle && len(m.reservations) == 0 {
					sum = max(sum, room)
				} else if m.placement != v1alpha1.PlacementSingle {
					sum += room
				}
			}
			free = max(free, sum)
		}
		missing := (m.wants-w.needless(m, m.wants)+m.sharing()-1)/m.sharing() - m.reserved()
		if missing <= free && m.podsPerNode == 0 && !w.behindOther(m) {
			return fmt.Sprintf("%s, and its pools have room for %d", state, free)
		}
	case v1alpha1.ReasonQueued:
		for _, other := range w.members.live.items {
			if why, is := reservedCondition(other); !is && why == v1alpha1.ReasonPoolFull {
				return ""
			}
		}
		return state + ", and nobody waits for room"
	default:
		return state
	}
	return ""
}

// couldHave reports whether a node that is reserved for a member and not held could still be ordered. It could not where pods
// that nobody had room for have taken the last node: pods of a MiniCluster exist before their nodes do.
func (w *world) couldHave(m *memberObject) bool {
	return slices.ContainsFunc(m.reservations, func(r reservation) bool {
		return len(r.Held) < int(r.Nodes) && !w.full(r.NodePool)
	})
}

// misplaced reports whether pods of a member have taken nodes of a full pool that others have reserved. There they stay: nobody
// moves a pod.
func (w *world) misplaced(m *memberObject) bool {
	return slices.ContainsFunc(m.reservations, func(r reservation) bool {
		return len(r.Held) > int(r.Nodes) && (w.full(r.NodePool) || (!w.cloud.perfect && w.promised(r.NodePool)))
	})
}

// promised reports whether all nodes that a pool may have are reserved, whether the cloud has them or not.
func (w *world) promised(pool string) bool {
	sum := int32(0)
	for _, m := range w.members.live.items {
		sum += nodesIn(m.reservations, pool)
	}
	return sum >= w.pools.get(pool).maxSize
}

// allFull reports whether no pool of a member can have one more node.
func (w *world) allFull(m *memberObject) bool {
	return !slices.ContainsFunc(slices.Concat(w.together(m)...), func(name string) bool { return !w.full(name) })
}

// full reports whether a pool has all the machines that it may have, and none of them is still to come, or to go because
// nobody needs it.
func (w *world) full(pool string) bool {
	p := w.pools.get(pool)
	for _, m := range w.machines.live.items {
		n := w.nodeOf(m.name)
		if m.pool == pool && (n == nil || (!n.ready && w.now.Sub(n.createdAt) < p.provisionTimeout)) {
			return false
		}
	}
	return p.target >= p.maxSize && (p.target <= max(p.minSize, p.floor) || w.dead(pool) == 0)
}

func (w *world) heldByAny(node string) bool {
	return slices.ContainsFunc(w.members.live.items, func(m *memberObject) bool { return holds(m, node) })
}

// dead counts the nodes of a pool that are of no use and stay: Cluster Autoscaler removes none below the minimum size.
func (w *world) dead(pool string) int32 {
	count := int32(0)
	for _, n := range w.nodes.live.items {
		if n.pool == pool && (!n.ready || w.scattered(n)) {
			count++
		}
	}
	return count
}

// behindOther reports whether another member waits for room in a pool of this one, and asked first.
func (w *world) behindOther(m *memberObject) bool {
	return slices.ContainsFunc(w.members.live.items, func(o *memberObject) bool {
		_, is := reservedCondition(o)
		return !is && o.growth != nil && m.growth != nil && o.growth.Since.Before(&m.growth.Since) &&
			slices.ContainsFunc(o.pools, func(pool string) bool { return slices.Contains(m.pools, pool) })
	})
}

func reservedCondition(m *memberObject) (reason string, isTrue bool) {
	for i := range m.conditions {
		if c := &m.conditions[i]; c.Type == v1alpha1.ConditionCapacityReserved {
			return c.Reason, c.Status == metav1.ConditionTrue
		}
	}
	return "", false
}

func allTrue(conditions []metav1.Condition) bool {
	return len(conditions) > 0 && !slices.ContainsFunc(conditions, func(c metav1.Condition) bool { return c.Status != metav1.ConditionTrue })
}

func (w *world) restlessPools(reserved map[string]int32) string {
	trying, pending := false, false
	for _, p := range w.pods.live.items {
		pending = pending || (p.node == "" && !p.succeeded && !p.waits() && !w.ignoresMembers)
	}
	for _, m := range w.members.live.items {
		_, has := reservedCondition(m)
		c := w.clusters.get(m.name)
		trying = trying || !has || (c != nil && w.served(m.name) < c.size)
	}
	for _, p := range w.pools.live.items {
		machines := int32(0)
		for _, m := range w.machines.live.items {
			if m.pool == p.name {
				machines++
			}
		}
		least := max(p.minSize, p.floor)
		switch {
		case !w.cloud.perfect && (trying || w.inUseToDelete(p) > 0), w.strewn(p.name), w.forgotten(p.name), w.troubledFor(p.name),
			w.exhaustedIn(p.name):
			// Attempts that fail leave their traces for a while.
		case p.floor == p.maxSize && w.dead(p.name) > 0:
			// Nodes that never became Ready, or that are in another zone than was wanted, fill the pool up, and the floor, which counts them,
			// keeps them there.
		case p.floor != reserved[p.name]:
			return fmt.Sprintf("the floor of %s is %d and %d nodes are reserved", p.name, p.floor, reserved[p.name])
		case p.target > least && !pending:
			return fmt.Sprintf("the target of %s is %d, its minimum size %d", p.name, p.target, least)
		case p.target < least:
			return fmt.Sprintf("the target of %s is %d, its minimum size %d", p.name, p.target, least)
		case machines > p.target && w.ledger.beyond[p.name]:
		case machines != p.target+w.inUseToDelete(p):
			return fmt.Sprintf("%s has %d machines, and its target is %d", p.name, machines, p.target)
		case len(p.toDelete) > int(w.inUseToDelete(p)):
			return fmt.Sprintf("%s has still to delete %v", p.name, p.toDelete)
		}
	}
	return ""
}

func (w *world) restlessNodes() string {
	holder := map[string]string{}
	for _, m := range w.members.live.items {
		for i := range m.reservations {
			for _, node := range m.reservations[i].Held {
				if w.nodes.get(node) == nil {
					return fmt.Sprintf("%s holds %s, which does not exist", m.name, node)
				}
				holder[node] = "default/" + m.name
			}
		}
	}
	for _, n := range w.nodes.live.items {
		switch {
		case n.pool == "" && (n.reserved || n.tainted || n.heldBy != ""):
			return fmt.Sprintf("%s is of no pool and was touched", n.name)
		case n.pool == "" || w.forgotten(n.pool):
		case n.tainted && w.cloud.perfect && !w.lingers(w.machineOf(n)):
			return fmt.Sprintf("%s is tainted for deletion", n.name)
		case n.releasing && !n.ours:
			return fmt.Sprintf("%s says that it was tainted for release, and the taint is gone", n.name)
		case n.heldBy != holder[n.name]:
			return fmt.Sprintf("%s says that %q holds it, and %q does", n.name, n.heldBy, holder[n.name])
		case holder[n.name] != "" && !n.usable() && !w.lingers(w.machineOf(n)):
			return fmt.Sprintf("%s is held for %s and of no use", n.name, holder[n.name])
		}
	}
	return ""
}

// inWords are reservations in a few words.
func inWords(all reservations) string {
	if len(all) == 0 {
		return "nothing reserved"
	}
	parts := make([]string, len(all))
	for i := range all {
		parts[i] = fmt.Sprintf("%d reserved in %s, of which %d held", all[i].Nodes, all[i].NodePool, len(all[i].Held))
	}
	return strings.Join(parts, ", ")
}

// inUseToDelete counts the machines of a pool that were given up before they registered, and whose nodes have got a pod all the
// same: they stay for as long as it does.
func (w *world) inUseToDelete(p *poolObject) int32 {
	var count int32
	for _, name := range p.toDelete {
		if w.lingers(name) {
			count++
		}
	}
	return count
}

// lingers reports whether a machine is one of those.
func (w *world) lingers(machine string) bool {
	n := w.nodeOf(machine)
	return n != nil && (w.ledger.unregistered[machine] || w.ledger.taken[machine]) && w.podsOn(n.name) > 0
}
