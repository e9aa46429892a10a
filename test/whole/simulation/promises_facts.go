package simulation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// facts are what the promises about what really happens need to know of a member.
type facts struct {
	// read is since when its MiniCluster can be read.
	read time.Time
	// had is the size that has had all of its nodes while nothing else was recorded of it.
	had int32
	// wentBack is when its size last went back to the ranks that have pods.
	wentBack time.Time
	// notRunning is since when fewer of its pods run or have succeeded than its size says, zero while as many do.
	notRunning time.Time
	// waste is since when there are nodes for ranks that have no pod, and nothing else is to come, zero while there are none.
	waste time.Time
	// suspended is since when its Job is suspended and it claims or holds what no pod of it is on.
	suspended time.Time
	// strangers is the number of nodes, by pool, that were of no use to it when the pool granted its claim, claimed the claim.
	strangers, claimed map[string]int32
	// replaced is the number of nodes that were replaced, by pool, and the basis of it.
	replaced map[string]int32
	basis    map[string]string
	// before is the number of nodes that were replaced for the present claim when the basis was another one, by pool.
	before map[string]int32
}

func (l *ledger) factsOf(member string) *facts {
	f := l.facts[member]
	if f == nil {
		f = &facts{strangers: map[string]int32{}, claimed: map[string]int32{}, replaced: map[string]int32{}, basis: map[string]string{},
			before: map[string]int32{}}
		l.facts[member] = f
	}
	return f
}

// begun keeps or begins the time since when something is so.
func begun(since *time.Time, is bool, now time.Time) {
	switch {
	case !is:
		*since = time.Time{}
	case since.IsZero():
		*since = now
	}
}

// noteFacts brings up to date since when facts are so. Pods, nodes and sizes have changed only in writes.
func (w *world) noteFacts() {
	version := max(w.pods.version, w.nodes.version, w.clusters.version, w.members.version)
	if version == w.ledger.noted {
		return
	}
	w.ledger.noted = version
	type count struct {
		served, exist, unplaced int32
		on                      map[string]bool
	}
	counts := map[string]*count{}
	for _, m := range w.members.live.items {
		counts[m.name] = &count{on: map[string]bool{}}
	}
	type rank struct {
		member string
		index  int32
	}
	seen := map[rank]bool{}
	for _, p := range w.pods.live.items {
		c, cluster := counts[p.member], w.clusters.get(p.member)
		if c == nil || cluster == nil {
			continue
		}
		if p.placed() != "" {
			c.on[p.placed()] = true
		}
		if p.index >= cluster.size {
			continue
		}
		if key := (rank{p.member, p.index}); !seen[key] {
			seen[key] = true
			c.exist++
		}
		if p.placed() == "" && !p.succeeded {
			c.unplaced++
		}
		if (p.running && !p.deleting) || p.succeeded {
			c.served++
		}
	}
	for _, m := range w.members.live.items {
		c, f, n := w.clusters.get(m.name), w.ledger.factsOf(m.name), counts[m.name]
		lives := c != nil && !c.finished && !c.deleting && !c.suspended
		begun(&f.read, c != nil && c.invalid == "", w.now)
		begun(&f.suspended, c != nil && c.suspended && c.invalid == "" && !c.finished && !c.deleting && w.holdsInVain(m), w.now)
		begun(&f.notRunning, lives && n.served < c.size, w.now)
		if !lives || n.exist >= c.size || c.invalid != "" {
			f.waste = time.Time{}
			continue
		}
		idle, whole := int32(0), true
		for i := range m.reservations {
			r := &m.reservations[i]
			whole = whole && len(r.Held) >= int(r.Nodes)
			for _, name := range r.Held {
				node := w.nodes.get(name)
				whole = whole && node != nil && node.usable()
				if !n.on[name] {
					idle++
				}
			}
		}
		begun(&f.waste, whole && idle > n.unplaced, w.now)
	}
}

// checkFacts: a member that says Ready runs, nodes of pods that do not come are given back, and one that is suspended holds what its
// pods are on.
func (w *world) checkFacts() {
	// Two caches may be late one after the other: that of what was written, and that of what came of it.
	within := overdue + 2*w.lag.most
	for _, m := range w.members.live.items {
		c, f := w.clusters.get(m.name), w.ledger.factsOf(m.name)
		if c == nil || c.finished || c.deleting {
			continue
		}
		since := func(t time.Time) time.Duration {
			if t.IsZero() {
				return 0
			}
			if t.Before(w.controller.since) {
				t = w.controller.since
			}
			return w.now.Sub(t)
		}
		w.promise(!allTrue(m.conditions) || since(f.notRunning) < within, "%s says that it is Ready, and since %s fewer than %d pods run", m.name,
			relative(f.notRunning), c.size)
		if c.invalid == "" {
			w.promise(since(f.waste) < w.longestTimeout(m)+within, "%s keeps nodes since %s for ranks that have no pods: %s", m.name,
				relative(f.waste), inWords(m.reservations))
		}
		w.promise(since(f.suspended) < within, "%s is suspended, and since %s claims what no pod of it is on: %s", m.name, relative(f.suspended),
			inWords(m.reservations))
	}
}

// holdsInVain reports whether a member claims more nodes than it holds, or holds one that no pod of it is on.
func (w *world) holdsInVain(m *memberObject) bool {
	return slices.ContainsFunc(m.reservations, func(r reservation) bool {
		return int(r.Nodes) > len(r.Held) || slices.ContainsFunc(r.Held, func(node string) bool {
			return !slices.ContainsFunc(w.pods.live.items, func(p *podObject) bool { return p.member == m.name && p.placed() == node })
		})
	})
}

// longestTimeout is the longest time that nodes of a member may take.
func (w *world) longestTimeout(m *memberObject) time.Duration {
	longest := time.Duration(0)
	for i := range m.reservations {
		longest = max(longest, w.pools.get(m.reservations[i].NodePool).provisionTimeout)
	}
	for _, name := range m.pools {
		longest = max(longest, w.pools.get(name).provisionTimeout)
	}
	return longest
}

// checkStatus is what is promised of each status that is written, with what it was planned from.
func (w *world) checkStatus(c *chore, written *memberObject, a *application) {
	f := w.ledger.factsOf(written.name)
	live := w.clusters.get(written.name)
	runs := c.cluster != nil && !c.cluster.finished && !c.cluster.deleting
	if runs && live != nil && !live.finished && !live.deleting && allTrue(written.conditions) {
		w.promise(f.notRunning.IsZero() || !f.notRunning.Before(w.since(a.planned)), "%s is told to be Ready at size %d, and since %s fewer "+
			"pods run",
			written.name, live.size, relative(f.notRunning))
	}
	if runs && c.cluster.suspended {
		w.ledger.complete[written.name] = 0
		f.had = 0
		clear(f.basis)
	}
	if runs && c.cluster.invalid != "" && !c.cluster.suspended {
		for i := range written.reservations {
			r := &written.reservations[i]
			w.promise(r.Nodes == nodesIn(c.member.reservations, r.NodePool), "%s cannot be read, and its claim on %s becomes %d", written.name,
				r.NodePool, r.Nodes)
		}
	}
	if runs && !c.cluster.suspended {
		w.checkBought(c.member, written, f, a)
	}
}

// checkBought is the promise about what is ordered: what a claim calls for beside itself is what was of no use when it was granted, and
// at most as many replacements as are stated, over all attempts.
func (w *world) checkBought(read, written *memberObject, f *facts, a *application) {
	observed := memberOf(&a.observed, written.name)
	if observed == nil {
		return
	}
	for i := range written.reservations {
		r := &written.reservations[i]
		before := nodesIn(read.reservations, r.NodePool)
		grew := r.Nodes > before
		if grew || before == 0 || met(read, r.NodePool) {
			f.strangers[r.NodePool] = max(a.strangers(observed, r.NodePool), 0)
			f.claimed[r.NodePool], f.before[r.NodePool] = max(r.Nodes, f.claimed[r.NodePool]), 0
		}
		w.noteBasis(f, observed, a, r.NodePool)
		most := f.beside(r.NodePool, r.Nodes)
		w.promise(r.Occupied <= most, "%s claims %d nodes of %s, and %d beside them as occupied: %d were when that was granted", written.name,
			r.Nodes, r.NodePool, r.Occupied, f.strangers[r.NodePool])
		stands := unusable(read, r.NodePool) != "" && unusable(written, r.NodePool) != ""
		w.promise(!stands || !grew || r.Nodes <= podsIn(
			observed, &a.observed, r.NodePool,
		), "%s is granted %d nodes of %s, of which it was found: %s",
			written.name, r.Nodes, r.NodePool, unusable(written, r.NodePool))
	}
	for i := range a.observed.Pools {
		w.checkReplaced(written, f, a, observed, &a.observed.Pools[i])
	}
}

// met reports whether all nodes of a claim were held: what is lost after that is another need.
func met(m *memberObject, pool string) bool {
	return slices.ContainsFunc(m.reservations, func(r reservation) bool {
		return r.NodePool == pool && r.Nodes > 0 && r.Occupied == 0 && len(r.Held) >= int(r.Nodes)
	})
}

// checkReplaced: what was replaced stays counted for as long as its basis does.
func (w *world) checkReplaced(written *memberObject, f *facts, a *application, observed *plan.Member, pool *plan.Pool) {
	basis := basisOf(pool, observed)
	found := finding(written, pool.Name)
	replaced := int32(0)
	if found != nil {
		replaced = found.Replaced
	}
	claimed := nodesIn(written.reservations, pool.Name)
	if f.basis[pool.Name] == basis && (claimed == 0 || podsIn(observed, &a.observed, pool.Name) < claimed) {
		// Where pods are on all nodes of the claim, what it needs from now on is another need.
		w.promise(replaced >= f.replaced[pool.Name], "%s: %d nodes of %s have been replaced, and %d are counted now", written.name,
			f.replaced[pool.Name], pool.Name, replaced)
	}
	f.basis[pool.Name], f.replaced[pool.Name] = basis, replaced
	if len(observed.Lacking)+len(observed.Succeeded) >= int(observed.Size) {
		// What pods request that there are not is not known.
		f.basis[pool.Name] = ""
	}
	most := max(1, max(f.claimed[pool.Name], nodesIn(written.reservations, pool.Name))/10)
	w.promise(replaced <= most, "%s: %d nodes of %s have been replaced, more than %d", written.name, replaced, pool.Name, most)
	if replaced > 0 {
		w.ledger.counts["nodes replaced"]++
	}
	if found != nil && found.Unusable != "" {
		w.ledger.counts["pools found unusable"]++
	}
}

// noteBasis notes what was replaced on another basis than the present one.
func (w *world) noteBasis(f *facts, observed *plan.Member, a *application, name string) {
	for i := range a.observed.Pools {
		if p := &a.observed.Pools[i]; p.Name == name && f.basis[name] != basisOf(p, observed) {
			f.before[name] += f.replaced[name]
		}
	}
}

// basisOf is what is found about a pool rests on.
func basisOf(pool *plan.Pool, m *plan.Member) string { return pool.Basis + "; " + requestsOf(m) }

func requestsOf(m *plan.Member) string {
	var parts []string
	parts = append(parts, fmt.Sprint(m.PodRequests[corev1.ResourceCPU], m.PodRequests[device]))
	if m.Selects != nil {
		parts = append(parts, m.Selects.String())
	}
	return strings.Join(parts, " ")
}

func finding(m *memberObject, pool string) *v1alpha1.PoolFinding {
	for i := range m.findings {
		if m.findings[i].NodePool == pool {
			return &m.findings[i]
		}
	}
	return nil
}

// unusable is why nodes of a pool are of no use to a member, as far as it has found.
func unusable(m *memberObject, pool string) string {
	if f := finding(m, pool); f != nil {
		return f.Unusable
	}
	return ""
}

func memberOf(observed *plan.Observed, name string) *plan.Member {
	for i := range observed.Members {
		if observed.Members[i].Key.Name == name {
			return &observed.Members[i]
		}
	}
	return nil
}

// podsIn is the number of nodes of a pool that pods of a member are on.
func podsIn(m *plan.Member, observed *plan.Observed, pool string) int32 {
	nodes := map[string]bool{}
	for i := range m.Pods {
		nodes[m.Pods[i].Node] = true
	}
	count := int32(0)
	for i := range observed.Nodes {
		if n := &observed.Nodes[i]; n.Pool == pool && nodes[n.Name] {
			count++
		}
	}
	return count
}

// strangers counts the nodes of a pool that nobody holds and that could not take a pod of a member, but for those of which nothing is
// known yet. It is greater than what the planner may count: nodes that are evidence are among them.
func (a *application) strangers(m *plan.Member, pool string) int32 {
	held := map[string]bool{}
	for i := range a.decided {
		for j := range a.decided[i].Reservations {
			for _, node := range a.decided[i].Reservations[j].Held {
				held[node] = true
			}
		}
	}
	count := int32(0)
	for i := range a.observed.Nodes {
		n := &a.observed.Nodes[i]
		if n.Pool != pool || n.Leaving || held[n.Name] {
			continue
		}
		young := a.planned.Sub(n.CreatedAt) < a.world.pools.get(pool).provisionTimeout
		room := plan.Resources{}
		room.Add(n.Allocatable)
		fits := true
		for name, amount := range m.PodRequests {
			fits = fits && amount <= room[name]-n.Requested[name]
		}
		switch {
		case !n.Ready || len(n.Taints) > 0:
			if !young {
				count++
			}
		case n.Cordoned, !fits, m.Selects != nil && !m.Selects.Matches(n.Name, n.Labels), avoids(m, n.Name):
			count++
		case m.TopologyKey != "":
			// It may be in another domain.
			count++
		}
	}
	return count
}

func avoids(m *plan.Member, node string) bool {
	return slices.ContainsFunc(m.Avoided, func(a v1alpha1.AvoidedNode) bool { return a.Node == node })
}

// checkOrdered is the promise about what is ordered, where machines are: for one claim there are never more at a time than it calls
// for, and in a pool never more for members than all claims, what was of no use to one, and its replacements.
func (w *world) checkOrdered(m *machineObject) {
	if !w.troubled {
		return
	}
	live, ofClaim, pool := int32(0), int32(0), w.pools.get(m.pool)
	for _, other := range w.machines.live.items {
		if other.pool != m.pool || other.leaves() || slices.Contains(pool.toDelete, other.name) || w.heldByOther(other, m.order.ID) {
			continue
		}
		if other.purpose == v1alpha1.PurposeReservation || w.ledger.forPods[m.pool] == 0 {
			live++
		}
		// One that took too long is noted by its pool, and another may come in its place before Cluster Autoscaler has deleted it.
		if other.order.ID == m.order.ID && strings.Contains(m.order.ID, "-") && !slices.Contains(pool.failed, other.name) {
			ofClaim++
		}
	}
	if m.purpose != v1alpha1.PurposeReservation {
		return
	}
	// One that Cluster Autoscaler has ordered for others may be taken for one that a claim lacks: it is ordered all the same.
	most := w.maxIn(m.pool) + w.ledger.forPods[m.pool]
	w.promise(
		live <= most, "%s is one of %d machines of %s, and the claims call for %d, with all that may be replaced", m.name, live, m.pool, most,
	)
	member, _, isClaim := strings.Cut(m.order.ID, "-")
	of := w.members.get(member)
	if !isClaim || of == nil {
		return
	}
	w.promise(ofClaim <= w.ledger.claimed[m.order.ID+" "+m.pool], "%d machines of %s are there for the claim %s, which is for %d", ofClaim,
		m.pool,
		m.order.ID, w.ledger.claimed[m.order.ID+" "+m.pool])
	// What cannot be read keeps its claims. What runs where others cannot is replaced before the cloud takes its node away.
	if found := finding(of, m.pool); found != nil && found.Unusable != "" && w.readable(member) && !w.takenFrom(of, m.pool) {
		w.promise(w.now.Sub(found.At.Time) < time.Minute+w.lag.most, "%s is ordered for %s, which has found since %s: %s", m.name, member,
			relative(found.At.Time), found.Unusable)
	}
}

// beside is how many nodes of a pool there may be for a member beside its claim.
func (f *facts) beside(pool string, claim int32) int32 {
	return f.strangers[pool] + f.before[pool] + max(1, claim/10)
}

// takenFrom reports whether the cloud takes away a node of a pool that a member holds.
func (w *world) takenFrom(member *memberObject, pool string) bool {
	return slices.ContainsFunc(w.machines.live.items, func(m *machineObject) bool {
		return m.pool == pool && !m.leavingAt.IsZero() && m.nodeName != "" && holds(member, m.nodeName)
	})
}

// heldByOther reports whether the node of a machine that was ordered for a claim is held by another member: its pods went there.
func (w *world) heldByOther(m *machineObject, claim string) bool {
	member, _, isClaim := strings.Cut(claim, "-")
	return isClaim && m.order.ID == claim && slices.ContainsFunc(w.members.live.items, func(o *memberObject) bool {
		return o.name != member && m.nodeName != "" && holds(o, m.nodeName)
	})
}

// readable reports whether a MiniCluster can be read, and could be for a while.
func (w *world) readable(name string) bool {
	c, read := w.clusters.get(name), w.ledger.factsOf(name).read
	return c != nil && !read.IsZero() && w.now.Sub(read) > time.Minute
}

// bought is what a pool may have had for members at a time.
type bought struct {
	at   time.Time
	most int32
}

// noteClaims notes, after a status was written, how many machines a pool may have for members.
func (w *world) noteClaims(written *memberObject) {
	for i := range written.reservations {
		r := &written.reservations[i]
		if id := written.claim(); id != "" {
			key := id + " " + r.NodePool
			w.ledger.claimed[key] = max(w.ledger.claimed[key], r.Nodes)
		}
	}
	for _, p := range w.pools.live.items {
		sum, beside, held := int32(0), int32(0), int32(0)
		for _, m := range w.members.live.items {
			nodes := nodesIn(m.reservations, p.name)
			sum += nodes
			if nodes > 0 {
				beside = max(beside, w.ledger.factsOf(m.name).beside(p.name, nodes))
			}
			for i := range m.reservations {
				if r := &m.reservations[i]; r.NodePool == p.name {
					held += max(0, int32(len(r.Held))-r.Nodes)
				}
			}
		}
		w.ledger.bought[p.name] = append(w.ledger.bought[p.name], bought{w.now, sum + beside + held})
	}
}

// maxIn is the greatest number of machines that a pool may have had for members within the last minute.
func (w *world) maxIn(pool string) int32 {
	history := w.ledger.bought[pool]
	most := w.pools.get(pool).minSize
	for _, b := range slices.Backward(history) {
		most = max(most, b.most)
		if w.now.Sub(b.at) > time.Minute+w.lag.most {
			break
		}
	}
	return most
}

// checkAllowed: nothing more is granted by a pool that does not select the namespace of the member.
func (w *world) checkAllowed(observed *plan.Observed, d *plan.Decision) {
	o := observedMember(observed, d)
	for i := range observed.Pools {
		p := &observed.Pools[i]
		if o == nil || p.AllowedNamespaces == nil || p.AllowedNamespaces.Matches("", o.NamespaceLabels) {
			continue
		}
		before, after := nodesIn(o.Reservations, p.Name), nodesIn(d.Reservations, p.Name)
		w.promise(after <= max(before, podsIn(o, observed, p.Name)), "%s is granted %d nodes of %s, which its namespace may not have", d.Key.Name,
			after-before, p.Name)
	}
}

func falseReasons(conditions []metav1.Condition) []string {
	var out []string
	for i := range conditions {
		if conditions[i].Status != metav1.ConditionTrue {
			out = append(out, conditions[i].Reason)
		}
	}
	return out
}

// lacked reports whether a shrink is one to the ranks that have pods: of those that leave some have none, and none was on a node when
// that was planned.
func (w *world) lacked(c *chore, before int32, planned time.Time) bool {
	size := c.decision.Resize
	exist := map[int32]bool{}
	for _, p := range w.pods.live.items {
		if p.member == c.member.name && p.index >= size && p.index < before {
			if p.node != "" && !p.boundAt.After(w.since(planned)) {
				return false
			}
			exist[p.index] = true
		}
	}
	return c.decision.PodsLacking != nil && size >= max(1, c.member.minSize) && len(exist) < int(before-size)
}

// checkBackOff: a size whose pods did not come is tried again after a while, unless something else is wanted since.
func (w *world) checkBackOff(name string, size int32) {
	back, history := w.ledger.factsOf(name).wentBack, w.ledger.history[name]
	c := w.clusters.get(name)
	if back.IsZero() || !c.limited || c.quota >= size || (len(history) > 0 && history[len(history)-1].at.After(back)) {
		return
	}
	w.promise(
		w.now.Sub(back) >= time.Minute-time.Second, "%s grows to %d, and went back at %s because its pods did not come", name, size,
		relative(back),
	)
}

// askedBeside reports whether a number of nodes is what some size needs that a member has asked for, beside the ranks that need none
// now, or did not need one when that was recorded.
func (w *world) askedBeside(m *memberObject, c *clusterObject, nodes int32) bool {
	// What was recorded before somebody set another size is corrected by the next write of the status.
	for _, size := range []int32{c.size, w.ledger.former[m.name]} {
		for free := range w.elsewhere(m, size) + w.needless(m, size) + 1 {
			if w.ledger.sizes[m.name][nodes+free] {
				return true
			}
		}
	}
	return false
}
