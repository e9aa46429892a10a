package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Plan decides what becomes of every member, given what was observed and the time.
//
// It is idempotent: observing what an earlier plan wrote, at the same time, leads to a plan without notes
// and without a resize.
//
// Its phases are in an order that each relies on: what a phase reads was set by those before it, and is not changed after it.
func Plan(observed Observed, now time.Time) Decisions {
	// 1. Read what was observed. Sets the pools and nodes of the capacity, and of each candidate its places, heldBefore, avoided, stranded
	// and grantedBefore, and a copy of its growth.
	p := &pass{
		now:      now,
		capacity: newCapacity(&observed, now),
		members:  make([]*candidate, 0, len(observed.Members)),
	}
	gangs := gangsOf(observed.Members)
	for i := range observed.Members {
		m := &observed.Members[i]
		var g *gang
		if m.Group != "" && gangs[m.Key].count > 1 {
			g = gangs[m.Key]
		}
		p.members = append(p.members, newCandidate(m, g, p.capacity))
	}
	slices.SortFunc(p.members, byKey)
	p.link(gangs)

	// 2. Who holds which node. Reads places and heldBefore; sets holder, claimedBy and freed of nodes, held and needless of candidates.
	p.keepNodes()
	// 3. What nodes show about their pools. Reads who holds what; sets findings.
	p.learn()
	for _, m := range p.members {
		// 4. Which pods do not come. Reads held; sets lacking, podsLacking, forgone and shrink, and may end the growth.
		p.lookForPods(m)
	}
	for _, m := range p.members {
		// 5. What is asked for. Reads held, lacking and grantedBefore; sets growth and ended.
		p.updateGrowth(m)
	}
	for _, g := range p.gangs {
		p.joinGrowths(g)
	}
	// 6. Which claims have failed. Reads held, growth and findings; sets failures and current of the growth, kept and stillComing.
	p.failClaims()
	// 7. Who may claim how many nodes of which pool. Reads all of that; sets claims, refusal, current and atGrant, and granted of pools.
	p.grant()
	// 8. Which nodes are held beyond the claims. Reads claims; frees nodes, which takes them out of held.
	for _, m := range p.members {
		p.giveBack(m)
	}
	// 9. Which free nodes are held from now on. Reads claims; adds to held.
	p.takeNodes()
	// 10. What is to be done and told. Reads all of it, and changes of it only what is told: notes, and the deadline of a growth.
	return p.decide()
}

// pass is one run of Plan.
type pass struct {
	now      time.Time
	capacity *capacity
	// members are in order of their keys, and so are gangs.
	members []*candidate
	gangs   []*gang
	// retries says when those try again that fail in this pass; nil while nobody has.
	retries *retries
	// next is when a pass is due though nothing has changed; zero when none is.
	next time.Time
}

// keepNodes gives every member the nodes that its pods are on, then those recorded as held for it that are
// still usable. A node that is recorded for another member is taken from that one first and free in this
// pass, whoever's pods are on it.
func (p *pass) keepNodes() {
	for _, m := range p.members {
		for _, node := range m.heldBefore {
			if node != nil && node.claimedBy == nil {
				node.claimedBy = m
			}
		}
	}
	for _, m := range p.members {
		var elsewhere []int32
		for i, node := range m.places {
			switch {
			case node == nil && (m.Pods[i].Released || !p.capacity.outside[m.Pods[i].Node]):
				// The node is lost, and with it the pod, or the pod cannot get there; its Job makes another.
			case node == nil || !m.mayHold(node.Pool):
				elsewhere = append(elsewhere, m.Pods[i].Index)
			case node.holder == nil && (node.claimedBy == nil || node.claimedBy == m):
				p.capacity.hold(node, m)
			case node.holder == nil && node.occupantOf(node.claimedBy).pods == 0:
				node.freed, node.changesHands = true, true
			}
		}
		m.needless = m.ranksWithoutNeed(elsewhere)
	}
	for _, m := range p.members {
		for _, node := range m.heldBefore {
			switch {
			case node == nil || node.claimedBy != m || node.holder != nil || node.freed:
			case m.Lifecycle == Running && (node.usable(m) || (m.Invalid != "" && !node.Leaving)):
				p.capacity.hold(node, m)
			default:
				node.freed = true
			}
		}
	}
}

// updateGrowth brings the record of the member's growth up to date with the desired size and the time. What cannot be read stays as it is,
// and what goes back is up to date.
func (p *pass) updateGrowth(m *candidate) {
	if m.Lifecycle == Running && (m.Invalid != "" || m.shrink > 0) {
		return
	}
	size := m.growthSize()
	granted := m.grantedBefore >= m.nodesFor(size)
	if g := m.growth; g != nil {
		// Ranks that have left since are new ones when they come again.
		g.Served = min(g.Served, m.Size)
		if m.SizeGiven && m.Size > g.From {
			// Somebody has written a size in the meantime, whose pods wait for their nodes: the growth is theirs too.
			g.From = 0
		}
	}
	switch {
	case m.Lifecycle != Running, m.Wants < m.Size && m.served() >= m.Wants:
		m.growth = nil
	case m.growth != nil && m.Wants < m.Size:
		// The pods of the smaller size have yet to get their nodes, and wait for all of them.
	case granted && m.Size == size && m.resized():
		m.growth = nil
	case granted && m.Size == size && m.ready() >= m.nodesFor(size):
		m.ended, m.growth = m.growth, nil
		if m.ended == nil && m.edited() {
			m.ended = p.begin(m, size)
		}
	case m.growth == nil && granted && m.Size == size && !m.edited():
		// A node of a member that was complete is lost. The floor still counts it, so it is replaced
		// without a growth and without a deadline.
	case m.growth == nil:
		m.growth = p.begin(m, size)
	case m.waitsForPods():
		// More pods do not come either, and fewer may: in their time.
		m.growth.Size = size
	case size > m.growth.Size:
		m.enlarge(size, microTime(p.now))
	case size < m.growth.Size:
		// A smaller desired size keeps its place in the queue and its deadline, but not the failures of the larger one.
		m.growth.Size, m.growth.Attempts = size, 0
		m.forgetFailed()
	}
	if m.growth == nil {
		return
	}
	if retry := m.growth.RetryAfter; retry != nil && !p.now.Before(retry.Time) {
		// It asks again, behind those that did not fail.
		m.forgetFailed()
		m.growth.Since = microTime(p.now)
	}
}

// begin is a growth that begins now. By the member's UID and Since the provider knows for which claim an order is. Since stays the
// same while the growth falls back to other pools and when its size is lowered. It is another one when the growth is enlarged, and for
// each attempt after one that has failed in all pools: those are new claims, and what the old one had ordered is given back. The
// node that a complete member lost is replaced without a growth, so there is no Since for it.
func (p *pass) begin(m *candidate, size int32) *v1alpha1.Growth {
	return &v1alpha1.Growth{From: m.growsFrom(), Size: size, Since: microTime(p.now), Served: m.served()}
}

// fail records which pools have failed. What is missing is asked of the others, or the attempt is over.
func (p *pass) fail(m *candidate, failures []v1alpha1.PoolFailure) {
	for _, f := range failures {
		// One that fails again, for what was on its nodes, tells its last failure: the list does not grow with attempts.
		again := func(before v1alpha1.PoolFailure) bool { return before.NodePool == f.NodePool }
		m.growth.Failures = append(slices.DeleteFunc(m.growth.Failures, again), f)
	}
	m.growth.Deadline, m.growth.GrantedAt, m.growth.NodePool = nil, nil, ""
	asks := m.asks()
	if len(asks) == 0 {
		p.exhaust(m, "")
		return
	}
	m.fellBack, m.current, m.kept = true, asks[0], nil
	if m.Placement == v1alpha1.PlacementSingle {
		// The whole growth moves. What pods are on stays.
		for i := range m.Reservations {
			m.kept.set(m.Reservations[i].NodePool, m.stayingIn(m.Reservations[i].NodePool))
		}
		return
	}
	for i := range failures {
		m.kept.set(failures[i].NodePool, m.usableIn(failures[i].NodePool)+m.stillComing.of(failures[i].NodePool))
	}
}

// exhaust ends an attempt for which no pool is left. All nodes that no pod uses are given back, unless the member takes
// what there is; what is missing is asked for again after a while. refused says why no other pool was of use.
func (p *pass) exhaust(m *candidate, refused string) {
	if p.retries == nil {
		p.retries = newRetries(p.members, 1)
	}
	again := func(g *v1alpha1.Growth) metav1.MicroTime { return microTime(p.retries.after(p.now, g)) }
	if m.growsAsOne() {
		p.exhaustGang(m, again)
	} else {
		m.growth.Attempts++
		m.waitUntil(again(m.growth))
	}
	fate := "the nodes that no pod uses are given back"
	if m.GrowthPolicy == v1alpha1.GrowthBestEffort {
		m.growth.Partial = true
		for i := range m.Reservations {
			m.kept.set(m.Reservations[i].NodePool, m.usableIn(m.Reservations[i].NodePool))
		}
		fate = "the member takes those that are there"
	}
	why := joinMessages(m.growth.Failures)
	if refused != "" {
		why += ", and " + refused
	}
	last := &m.growth.Failures[len(m.growth.Failures)-1]
	m.warn(last.Reason, fmt.Sprintf("%s; %s; attempt %d is at %s", why, fate, m.growth.Attempts+1, formatTime(m.growth.RetryAfter.Time)))
}

// waitUntil makes a growth that has failed wait until it is tried again.
func (c *candidate) waitUntil(retry metav1.MicroTime) {
	c.growth.Deadline, c.growth.GrantedAt, c.growth.NodePool, c.growth.RetryAfter = nil, nil, "", &retry
	c.fellBack, c.kept = false, nil
	c.current = c.first()
}

// backoff is how long a growth waits after its attempts-th failure.
func backoff(attempts int32) time.Duration {
	const most = 10 * time.Minute
	if attempts > 4 {
		return most
	}
	return min(time.Minute<<(attempts-1), most)
}

// giveBack frees the nodes that a member holds beyond its claims and has no pod on. Nodes that are about to go do not count: what
// takes their place is held beside them.
func (p *pass) giveBack(m *candidate) {
	m.leaveOtherDomains()
	var over nodesByPool
	for _, node := range m.held {
		if !node.Leaving {
			over.add(node.Pool, 1)
		}
	}
	surplus := false
	for i := range over {
		over[i].nodes -= m.claims.of(over[i].pool)
		surplus = surplus || over[i].nodes > 0
	}
	if !surplus {
		return
	}
	// Nodes that are of least use go first.
	slices.SortStableFunc(m.held, func(a, b *nodeCapacity) int {
		if aUsable, bUsable := a.usable(m), b.usable(m); aUsable != bUsable {
			if bUsable {
				return -1
			}
			return 1
		}
		return strings.Compare(b.Name, a.Name)
	})
	m.held = slices.DeleteFunc(m.held, func(node *nodeCapacity) bool {
		if over.of(node.Pool) <= 0 || node.pods > 0 {
			return false
		}
		over.add(node.Pool, -1)
		node.free()
		return true
	})
}

// takeNodes holds free nodes for the members that lack some, complete members first, then in the order of requests. A member
// lacks the nodes that are about to go from the moment on that this is known.
func (p *pass) takeNodes() {
	order := slices.Clone(p.members)
	slices.SortStableFunc(order, byRequest)
	for _, m := range order {
		p.chooseDomain(m)
		for _, claim := range m.claims {
			pool := p.capacity.pools[claim.pool]
			if pool == nil {
				continue
			}
			if more := claim.nodes - m.lasting(claim.pool); more > 0 {
				p.capacity.take(pool, m, more)
			}
		}
	}
	for _, pool := range p.capacity.pools {
		// Counts made before the nodes were held no longer hold.
		pool.recount()
	}
}
