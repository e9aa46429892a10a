package simulation

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// overdue is how long after its time something may be done at the latest, by a controller that runs.
const overdue = 15 * time.Second

// check asserts what must be true of the objects at every moment. They have changed only in writes, and are looked at after
// each. What is promised of a single step is checked where that step is made: checkPlan, checkResize, checkTaint,
// checkRelease and checkDeletion.
//
// Nothing here depends on what a cache knows: reservations have one writer, so what holds for its own view holds for the
// objects, however late it sees them.
func (w *world) check() {
	if !w.changed || w.patchFirst {
		return
	}
	w.changed = false
	w.noteFacts()
	w.checkHeld()
	w.checkTimes()
	w.checkSizes()
	w.checkPools()
	w.checkCounted()
}

// checkHeld: no node is held for two members, and no pool is promised beyond its maximum size.
func (w *world) checkHeld() {
	if w.members.version == w.members.checked {
		return
	}
	w.members.checked = w.members.version
	holder := map[string]string{}
	reserved := map[string]int32{}
	for _, m := range w.members.live.items {
		for i := range m.reservations {
			r := &m.reservations[i]
			reserved[r.NodePool] += r.Nodes
			for _, node := range r.Held {
				w.promise(holder[node] == "", "%s is held for %s and for %s", node, holder[node], m.name)
				holder[node] = m.name
			}
		}
		w.checkClaim(m)
		w.checkDomain(m)
		w.promise(
			w.ledger.desired[m.name] == m.wants, "%s: the desired size for %d was accepted and is %d now", m.name, w.ledger.desired[m.name],
			m.wants,
		)
		w.promise(m.wants >= m.minSize && m.wants <= m.maxSize, "%s wants %d, out of its bounds %d and %d", m.name, m.wants, m.minSize, m.maxSize)
	}
	for _, p := range w.pools.live.items {
		w.promise(reserved[p.name] <= p.maxSize, "%d nodes are reserved in %s, whose maxSize is %d", reserved[p.name], p.name, p.maxSize)
	}
}

// checkClaim: a member that takes all or nothing has reserved as many nodes as some size needs that it asked for or has had.
// Where pods share nodes their number tells nothing of the size, and what cannot be read keeps what it had.
func (w *world) checkClaim(m *memberObject) {
	c := w.clusters.get(m.name)
	if c != nil && m.takesAll() && m.podsPerNode == 0 && w.readable(m.name) {
		total := m.reserved()
		asked := w.ledger.sizes[m.name]
		w.promise(total <= max(c.size, w.ledger.former[m.name]) || asked[total] || w.askedBeside(m, c, total),
			"%s has reserved %d nodes at size %d, which is no size that it asked for", m.name, total, c.size)
	}
}

// checkTimes: a growth that is over its time has been ended, and one that waits is tried again in time.
func (w *world) checkTimes() {
	if !w.controller.up || w.now.Sub(w.controller.since) < overdue {
		return
	}
	for _, m := range w.members.live.items {
		g, c := m.growth, w.clusters.get(m.name)
		if g == nil || c == nil || c.finished || c.deleting || c.invalid != "" {
			continue
		}
		read := w.ledger.factsOf(m.name).read
		for _, due := range []*metav1.MicroTime{g.Deadline, g.RetryAfter} {
			w.promise(due == nil || w.now.Sub(due.Time) < overdue || w.now.Sub(read) < overdue, "%s: the growth to %d had until %s and nothing "+
				"came of it", m.name, g.Size,
				relativeTo(due))
		}
	}
	w.checkRefused()
	w.checkOrders()
	w.checkFacts()
}

func relativeTo(t *metav1.MicroTime) string {
	if t == nil {
		return "never"
	}
	return relative(t.Time)
}

// checkSizes: a MiniCluster stays within its bounds.
func (w *world) checkSizes() {
	if w.clusters.version == w.clusters.checked {
		return
	}
	w.clusters.checked = w.clusters.version
	for _, c := range w.clusters.live.items {
		if m := w.members.get(c.name); m != nil {
			w.promise(c.size >= m.minSize && c.size <= m.maxSize, "%s has size %d, out of its bounds %d and %d", c.name, c.size, m.minSize,
				m.maxSize)
		}
	}
}

// checkPools: targets and floors stay within the bounds of the pool.
func (w *world) checkPools() {
	if w.pools.version == w.pools.checked {
		return
	}
	w.pools.checked = w.pools.version
	for _, p := range w.pools.live.items {
		w.promise(p.target >= 0 && p.target <= p.maxSize, "the target of %s is %d, of 0 to %d", p.name, p.target, p.maxSize)
		w.promise(p.floor >= 0 && p.floor <= p.maxSize, "the floor of %s is %d, of 0 to %d", p.name, p.floor, p.maxSize)
	}
}

// since is the moment before which all that happened had been seen by a pass that was planned at a time.
func (w *world) since(planned time.Time) time.Time { return planned.Add(-w.lag.most) }

// checkResize is the first promise, for a MiniCluster that has been made larger. When the size is written, nodes must be
// recorded as held for as many pods, and each of them must be usable. The controller cannot know what happened less than
// the delay of its caches before it planned, so a node counts as well that ceased to be usable since then, and a pod of
// somebody else that came to a node since then does not.
func (w *world) checkResize(c *chore, before int32, planned time.Time) {
	name, size := c.member.name, c.decision.Resize
	w.ledger.former[name] = before
	if complete := w.ledger.complete; size > before || size < complete[name] {
		complete[name] = size
	}
	m := w.members.get(name)
	if m == nil {
		return
	}
	least, greatest := w.ledger.desiredSince(name, w.since(planned))
	if size <= before {
		w.ledger.counts["shrinks"]++
		if size < least {
			// Where pods of what stays do not come either, their coming and not a time lets more be asked for.
			w.ledger.factsOf(name).wentBack = time.Time{}
			if d := c.decision.PodsLacking; d.GivenBack == 0 {
				w.ledger.factsOf(name).wentBack = w.now
			}
			w.ledger.counts["sizes gone back"]++
		}
		w.promise(size >= least || w.lacked(c, before, planned), "%s shrinks to %d, which it did not ask for", name, size)
		w.ledger.sizes[name][size] = true
		return
	}
	w.ledger.counts["growths"]++
	w.checkBackOff(name, size)
	slots := w.allSlots(m, before, w.since(planned))
	w.promise(slots >= size, "%s grows from %d to %d with nodes for %d pods", name, before, size, slots)
	w.promise(!m.takesAll() || m.podsPerNode != 0 || w.ledger.sizes[name][size],
		"%s takes all or nothing and grows to %d, which it did not ask for", name, size)
	w.promise(c.cluster.invalid == "" && !c.cluster.suspended, "%s cannot be read, or is suspended, and grows to %d", name, size)
	w.promise(size <= greatest, "%s grows to %d, more than it asked for", name, size)
	w.ledger.sizes[name][size] = true
}

// slots is how many pods of a member a node has or could take, as far as could be known since a time.
func (w *world) slots(m *memberObject, node string, size int32, since time.Time) int32 {
	share := m.sharing()
	n := w.nodes.get(node)
	if n == nil {
		if w.ledger.vanished[node].After(since) {
			return share
		}
		return 0
	}
	cpu, stay := int64(0), int32(0)
	for _, p := range w.pods.live.items {
		switch {
		case p.placed() != node || p.succeeded:
		case p.member == m.name && p.index < size:
			stay++
			cpu += p.cpu
		case p.member == m.name || !p.placedAt().After(since):
			cpu += p.cpu
		}
	}
	if !n.usable() && !n.since.After(since) {
		if n.ready {
			return min(share, stay)
		}
		return 0
	}
	needs := w.needs(m, since)
	if !n.takes(needs) {
		return min(share, stay)
	}
	return min(share, stay+int32(max(0, n.cpu-cpu)/needs.cpu))
}

// checkTaint: the provider taints no node for release that a pod had come to before it could know, but one whose machine it had
// given up before it registered, or that somebody else takes away: no other pod is to come there.
func (w *world) checkTaint(node string, planned time.Time) {
	w.ledger.counts["nodes tainted"]++
	machine := w.machineOf(w.nodes.get(node))
	for _, p := range w.pods.live.items {
		w.promise(p.node != node || p.daemon != "" || w.ledger.unregistered[machine] || w.ledger.taken[machine] ||
			p.boundAt.After(w.since(planned)),
			"%s is tainted for release and pod %s has been on it since %s", node, p.name, relative(p.boundAt))
	}
}

// checkRelease: what is released is empty and nobody's when that is written. The provider has looked at the objects
// themselves, one write earlier.
func (w *world) checkRelease(names []string) {
	looked := w.now.Add(-w.write.most)
	for _, machine := range names {
		w.ledger.counts["nodes released"]++
		n := w.nodeOf(machine)
		if n == nil {
			m := w.machines.get(machine)
			w.promise(m == nil || m.nodeName == "" || m.failure != nil || w.ledger.vanished[m.nodeName].After(looked),
				"%s is released, and what is on its node is not known", machine)
			continue
		}
		for _, p := range w.pods.live.items {
			w.promise(p.node != n.name || p.daemon != "" || p.boundAt.After(looked), "%s is released and pod %s is on it", n.name, p.name)
		}
		for _, m := range w.members.live.items {
			w.promise(!holds(m, n.name) || w.ledger.heldSince[n.name+" "+m.name].After(looked), "%s is released and %s holds it", n.name, m.name)
		}
		m := w.machines.get(machine)
		w.promise(n.reserved || (m != nil && m.purpose == v1alpha1.PurposeReservation), "%s is released, and no member has had it", n.name)
	}
}

// checkDeletion: no machine is deleted under a pod of a member, whoever asked for that, but one that the cloud or a person has taken.
func (w *world) checkDeletion(i *instance) {
	w.ledger.counts["machines deleted"]++
	n := w.nodes.get(i.node)
	if n == nil || w.ledger.taken[w.machineOf(n)] {
		return
	}
	for _, p := range w.pods.live.items {
		w.promise(p.node != n.name || p.member == "" || p.deleting, "%s is deleted under pod %s", n.name, p.name)
	}
}

// checkCounted is what Cluster Autoscaler's life depends on: of each group it counts as many machines as the target says, or the
// request with which it repairs that succeeds and changes something. Otherwise it does nothing any more, for no group.
func (w *world) checkCounted() {
	for _, p := range w.pools.live.items {
		g := w.provider.bare(p, true)
		instances := g.Instances(w.now)
		count := countInstances(w, instances)
		if count >= g.Target {
			continue
		}
		var failed []string
		for _, i := range instances {
			if i.Failure != nil && i.State == nodegroup.InstanceCreating {
				failed = append(failed, i.ProviderID)
			}
		}
		if len(failed) > 0 {
			_, target, err := g.DeleteNodes(w.provider.asked(g, failed))
			w.promise(err == nil && target < g.Target, "%d of %d machines of %s are counted, and DeleteNodes of %v makes the target %d: %v",
				count, g.Target, p.name, failed, target, err)
			continue
		}
		target, err := g.DecreaseTargetSize(count - g.Target)
		w.promise(err == nil && target < g.Target, "%d of %d machines of %s are counted, and DecreaseTargetSize makes the target %d: %v",
			count, g.Target, p.name, target, err)
	}
}

// checkPlan asserts of a plan what can be told from what it was made of: it says something of every member, conditions give
// a reason in words, and no growth overtakes another that asked first and waits for the same pool.
func (w *world) checkPlan(observed *plan.Observed, decisions *plan.Decisions) {
	w.ledger.counts["passes"]++
	w.promise(len(decisions.Members) == len(observed.Members), "there are %d members and %d decisions", len(observed.Members),
		len(decisions.Members))
	for i := range decisions.Members {
		d := &decisions.Members[i]
		for j := range d.Conditions {
			w.promise(d.Conditions[j].Reason != "" && d.Conditions[j].Message != "", "%s: %s is %s without a reason", d.Key.Name,
				d.Conditions[j].Type, d.Conditions[j].Status)
		}
		w.checkTurn(observed, decisions, d)
		w.checkAllowed(observed, d)
	}
}

// checkTurn: of the room that becomes free while a growth waits for it, none is granted to those that asked later, for as long as it is
// kept: they are granted at most what was free all along.
func (w *world) checkTurn(observed *plan.Observed, decisions *plan.Decisions, waits *plan.Decision) {
	m := observedMember(observed, waits)
	if waits.Growth == nil || m == nil || m.Growth == nil {
		return
	}
	for i := range waits.Growth.Waits {
		wait := &waits.Growth.Waits[i]
		at := slices.IndexFunc(m.Growth.Waits, func(before v1alpha1.RoomWait) bool {
			return before.NodePool == wait.NodePool && before.Since.Equal(&wait.Since)
		})
		if pool := w.pools.get(wait.NodePool); at < 0 || !w.now.Before(wait.Since.Add(2*pool.provisionTimeout)) {
			continue
		}
		granted := int32(0)
		for j := range decisions.Members {
			other := &decisions.Members[j]
			o := observedMember(observed, other)
			if other == waits || o == nil || other.Growth == nil || !waits.Growth.Since.Before(&other.Growth.Since) {
				continue
			}
			// More nodes without a need for them yet: pods that are there already are not turned out.
			more := nodesIn(other.Reservations, wait.NodePool) - nodesIn(o.Reservations, wait.NodePool)
			if more > 0 && (len(o.Pods) == 0 || o.PodsPerNode == 0) && nodesIn(other.Reservations, wait.NodePool) > podNodes(o) {
				// What its pods use already is no room.
				granted += min(more, nodesIn(other.Reservations, wait.NodePool)-podNodes(o))
			}
		}
		w.ledger.counts["turns kept"]++
		// Nodes that are of no use to it are no room of its own.
		most := m.Growth.Waits[at].Free + w.strangersBefore(observed, m, wait.NodePool)
		w.promise(granted <= most, "%d nodes of %s are granted past %s, which asked first, and %d were free all along or of no use to it",
			granted, wait.NodePool, waits.Key.Name, most)
	}
}

// strangersBefore counts the nodes of a pool that nobody held before a pass and that are of no use to a member.
func (w *world) strangersBefore(observed *plan.Observed, m *plan.Member, pool string) int32 {
	before := application{controller: w.controller, planned: w.now, observed: *observed}
	for i := range observed.Members {
		before.decided = append(before.decided, plan.Decision{Reservations: observed.Members[i].Reservations})
	}
	return before.strangers(m, pool)
}

func observedMember(observed *plan.Observed, d *plan.Decision) *plan.Member {
	for i := range observed.Members {
		if observed.Members[i].Key == d.Key {
			return &observed.Members[i]
		}
	}
	return nil
}

func nodesIn(all reservations, pool string) int32 {
	for i := range all {
		if all[i].NodePool == pool {
			return all[i].Nodes
		}
	}
	return 0
}

// podNodes is the number of nodes that pods of a member are on.
func podNodes(m *plan.Member) int32 {
	nodes := map[string]bool{}
	for _, p := range m.Pods {
		nodes[p.Node] = true
	}
	return int32(len(nodes))
}
