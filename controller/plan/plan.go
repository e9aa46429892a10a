package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Plan decides what becomes of every member, given what was observed and the time.
//
// It is idempotent: observing what an earlier plan wrote, at the same time, leads to a plan without notes
// and without a resize.
func Plan(observed Observed, now time.Time) Decisions {
	p := &pass{
		now:      now,
		capacity: newCapacity(&observed, now),
		members:  make([]*candidate, 0, len(observed.Members)),
	}
	for i := range observed.Members {
		p.members = append(p.members, newCandidate(&observed.Members[i]))
	}
	slices.SortFunc(p.members, byKey)

	p.keepNodes()
	for _, m := range p.members {
		p.updateGrowth(m)
	}
	p.grant()
	for _, m := range p.members {
		p.giveBack(m)
	}
	p.takeNodes()
	return p.decide()
}

// pass is one run of Plan.
type pass struct {
	now      time.Time
	capacity *capacity
	// members are in order of their keys.
	members []*candidate
	// next is when a pass is due though nothing has changed; zero when none is.
	next time.Time
}

// keepNodes gives every member the nodes that its pods are on, then those recorded as held for it that are
// still usable. A node that is recorded for another member is taken from that one first and free in this
// pass, whoever's pods are on it.
func (p *pass) keepNodes() {
	for _, m := range p.members {
		for i := range m.Reservations {
			for _, name := range m.Reservations[i].Held {
				if node := p.capacity.nodes[name]; node != nil && node.recorded == nil {
					node.recorded = m
				}
			}
		}
	}
	for _, m := range p.members {
		for i := range m.Pods {
			name := m.Pods[i].Node
			node := p.capacity.nodes[name]
			switch {
			case node == nil && !p.capacity.outside[name]:
				// The node is lost, and with it the pod; its Job makes another.
			case node == nil || !m.mayHold(node.Pool):
				m.elsewhere++
			case node.holder == nil && (node.recorded == nil || node.recorded == m):
				p.capacity.hold(node, m)
			case node.holder == nil && node.recorded.onNode[name] == 0:
				node.freed, node.changesHands = true, true
			}
		}
	}
	for _, m := range p.members {
		for i := range m.Reservations {
			for _, name := range m.Reservations[i].Held {
				node := p.capacity.nodes[name]
				switch {
				case node == nil || node.recorded != m || node.holder != nil || node.freed:
				case m.Lifecycle == Running && node.usable(m.Member):
					p.capacity.hold(node, m)
				default:
					node.freed = true
				}
			}
		}
	}
}

// updateGrowth brings the record of the member's gang up to date with the wish and the time.
func (p *pass) updateGrowth(m *candidate) {
	gang := m.gang()
	granted := m.settled >= gang-m.elsewhere
	switch {
	case m.Lifecycle != Running, m.Wants < m.Size:
		m.growth = nil
	case granted && m.Size == gang && (m.resized() || m.ready() >= gang-m.elsewhere):
		m.growth = nil
	case m.growth == nil && granted && m.Size == gang:
		// A node of a member that was complete is lost. The floor still counts it, so it is replaced
		// without a gang and without a deadline.
	case m.growth == nil:
		m.growth = &v1alpha1.Growth{From: m.growsFrom(), Size: gang, Since: microTime(p.now)}
	case gang > m.growth.Size:
		// What is reserved already keeps its deadline.
		m.growth = &v1alpha1.Growth{From: m.growsFrom(), Size: gang, Since: microTime(p.now), Deadline: m.growth.Deadline}
	case gang < m.growth.Size:
		// A smaller wish keeps its place in the queue and its deadline, but not the failures of the larger one.
		m.growth.Size, m.growth.Attempts, m.growth.RetryAfter = gang, 0, nil
	}
	if m.growth == nil {
		return
	}
	if deadline := m.growth.Deadline; deadline != nil && !p.now.Before(deadline.Time) && m.ready() < m.settled {
		p.fail(m)
	}
	if retry := m.growth.RetryAfter; retry != nil && !p.now.Before(retry.Time) {
		// It asks anew, behind those that did not fail.
		m.growth.RetryAfter, m.growth.Since = nil, microTime(p.now)
	}
}

// fail ends an attempt whose nodes were not all there in time.
func (p *pass) fail(m *candidate) {
	m.growth.Attempts++
	retry := microTime(p.now.Add(backoff(m.growth.Attempts)))
	m.growth.Deadline, m.growth.RetryAfter = nil, &retry
	m.warn(v1alpha1.ReasonProvisionTimeout, fmt.Sprintf(
		"%d of %d nodes were Ready in %s within its provisionTimeout; the nodes that no pod uses are given back; attempt %d is at %s",
		m.ready(), m.settled, m.pool(), m.growth.Attempts+1, clock(retry.Time)))
}

// backoff is how long a gang waits after its attempts-th failure.
func backoff(attempts int32) time.Duration {
	const most = 10 * time.Minute
	if attempts > 4 {
		return most
	}
	return min(time.Minute<<(attempts-1), most)
}

// grant decides how many nodes each member may claim, first those it has claimed before, then the gangs
// that want more, in the order in which they were asked for.
//
// Room that one member gives up in this pass is given to another in the next: the two are recorded in two
// writes, and a kill between them must not leave a pool promised twice.
func (p *pass) grant() {
	var asking []*candidate
	for _, m := range p.members {
		for i := range m.Reservations {
			if pool := p.capacity.pools[m.Reservations[i].NodePool]; pool != nil {
				pool.granted += m.Reservations[i].Nodes
			}
		}
		if m.Lifecycle != Running {
			continue
		}
		m.claims = m.spread(p.target(m))
		for name, nodes := range m.claims {
			if nodes > m.claimedBefore(name) {
				asking = append(asking, m)
				break
			}
		}
	}
	slices.SortFunc(asking, byRequest)
	for _, m := range asking {
		m.verdict = p.grantGang(m)
		if m.verdict != nil {
			// What is granted already, or in use, stays; a part of the gang is not added to it.
			m.claims, _ = p.place(m, max(m.settled, m.inUse())+m.elsewhere)
		}
		for name, nodes := range m.claims {
			if pool := p.capacity.pools[name]; pool != nil {
				pool.granted += max(0, nodes-m.claimedBefore(name))
			}
		}
		pool := p.capacity.pools[m.pool()]
		if m.verdict != nil && !m.verdict.hopeless && !m.waitsOut() && pool.blockedBy == "" {
			pool.blockedBy = m.Key.String()
		}
	}
	for _, m := range p.members {
		if m.waitsOut() {
			m.verdict = &verdict{v1alpha1.ReasonBackingOff, fmt.Sprintf("attempt %d for size %d failed in %s; the next is at %s",
				m.growth.Attempts, m.growth.Size, m.pool(), clock(m.growth.RetryAfter.Time)), true}
		}
	}
}

// target is the size whose nodes the member may claim if there is room.
func (p *pass) target(m *candidate) int32 {
	switch {
	case !m.waitsOut():
		return m.gang()
	case m.growth.Size > m.Size:
		return m.Size
	default:
		// Not even the nodes of the present size could be had. Those that are in use stay claimed.
		return m.elsewhere + m.inUse()
	}
}

// place divides the nodes of a size among the pools as far as they may be claimed without asking: nodes
// outside the first pool that the member's pods are on, where those pools have room, and as many nodes of
// the first pool as were claimed before. It also returns how many more it wants of the first pool.
func (p *pass) place(m *candidate, size int32) (claims map[string]int32, more int32) {
	claims = m.spread(size)
	first := m.pool()
	for name, nodes := range claims {
		pool := p.capacity.pools[name]
		if name == first || pool == nil {
			continue
		}
		may := m.claimedBefore(name) + max(0, pool.MaxSize-pool.granted)
		if nodes > may {
			claims[name] = may
			claims[first] += nodes - may
		}
	}
	more = max(0, claims[first]-m.claimedBefore(first))
	claims[first] -= more
	return claims, more
}

// grantGang lets a member claim the nodes that it wants of its first pool, all or none, or says why not.
func (p *pass) grantGang(m *candidate) *verdict {
	name := m.pool()
	pool := p.capacity.pools[name]
	claims, more := p.place(m, p.target(m))
	if more == 0 {
		m.claims = claims
		return nil
	}
	want := claims[name] + more
	if pool == nil {
		return &verdict{v1alpha1.ReasonPoolNotFound, fmt.Sprintf("NodePool %q does not exist", name), true}
	}
	if pool.Deleting {
		return &verdict{v1alpha1.ReasonPoolDeleting, fmt.Sprintf("NodePool %q is being deleted", name), true}
	}
	if pool.Paused {
		return &verdict{v1alpha1.ReasonPoolPaused, fmt.Sprintf("NodePool %q is paused", name), true}
	}
	if resource, asked, offered := Lacking(m.PodRequests, pool.Allocatable, nil); resource != "" {
		return &verdict{v1alpha1.ReasonPodTooLarge, fmt.Sprintf(
			"a pod requests %s of %s and an empty node of %s offers %s",
			amount(resource, asked), resource, name, amount(resource, offered)), true}
	}
	if want > pool.MaxSize {
		return &verdict{v1alpha1.ReasonPoolTooSmall, fmt.Sprintf(
			"%s needed and %s has maxSize %d", counted(want, "node is", "nodes are"), name, pool.MaxSize), true}
	}
	if pool.blockedBy != "" {
		return &verdict{v1alpha1.ReasonQueued, fmt.Sprintf("%s needed; %s asked first and waits for room in %s",
			counted(more, "more node is", "more nodes are"), pool.blockedBy, name), false}
	}
	occupied := p.capacity.occupiedFor(pool, m)
	if room := pool.MaxSize - pool.granted - occupied; more > room {
		return &verdict{v1alpha1.ReasonPoolFull, fmt.Sprintf(
			"%s needed and %s has room for %d: maxSize %d, %d reserved, %d occupied by other workloads",
			counted(more, "more node is", "more nodes are"), name, max(room, 0), pool.MaxSize, pool.granted, occupied), false}
	}

	claims[name] = want
	m.claims = claims
	deadline := microTime(p.now.Add(pool.ProvisionTimeout))
	if m.growth != nil {
		m.growth.Deadline = &deadline
	}
	m.note(v1alpha1.ReasonReserved, fmt.Sprintf("reserved %s in %s for size %d; they have until %s to be Ready",
		counted(more, "more node", "more nodes"), name, p.target(m), clock(deadline.Time)))
	return nil
}

// giveBack frees the nodes that a member holds beyond its claims and has no pod on.
func (p *pass) giveBack(m *candidate) {
	over := map[string]int32{}
	for _, node := range m.held {
		over[node.Pool]++
	}
	surplus := false
	for pool := range over {
		over[pool] -= m.claims[pool]
		surplus = surplus || over[pool] > 0
	}
	if !surplus {
		return
	}
	// Nodes that are of least use go first.
	slices.SortStableFunc(m.held, func(a, b *nodeCapacity) int {
		if aUsable, bUsable := a.usable(m.Member), b.usable(m.Member); aUsable != bUsable {
			if bUsable {
				return -1
			}
			return 1
		}
		return strings.Compare(b.Name, a.Name)
	})
	m.held = slices.DeleteFunc(m.held, func(node *nodeCapacity) bool {
		if over[node.Pool] <= 0 || m.onNode[node.Name] > 0 {
			return false
		}
		over[node.Pool]--
		node.freed = true
		node.holder = nil
		return true
	})
}

// takeNodes holds free nodes for the members that lack some, complete members first, then in the order of requests.
func (p *pass) takeNodes() {
	order := slices.Clone(p.members)
	slices.SortStableFunc(order, byRequest)
	for _, m := range order {
		for name, nodes := range m.claims {
			pool := p.capacity.pools[name]
			if pool == nil {
				continue
			}
			for _, node := range m.held {
				if node.pool == pool {
					nodes--
				}
			}
			if nodes > 0 {
				p.capacity.take(pool, m, nodes)
			}
		}
	}
	for _, pool := range p.capacity.pools {
		// Counts made before the nodes were held no longer hold.
		clear(pool.occupied)
	}
}

// decide turns what the pass knows of each member into its decision.
func (p *pass) decide() Decisions {
	out := Decisions{Members: make([]Decision, 0, len(p.members))}
	for _, m := range p.members {
		if m.growth != nil && m.growth.Deadline != nil && m.ready() >= m.claimed() {
			// Nothing is outstanding.
			m.growth.Deadline = nil
		}
		d := Decision{
			Key:          m.Key,
			Reservations: m.reservations(p.capacity),
			Growth:       m.growth,
			Nodes:        m.ready(),
			Resize:       p.resize(m),
		}
		p.noteGivenBack(m)
		d.Conditions, d.WhenReady = p.conditions(m)
		d.Notes = m.notes
		out.Members = append(out.Members, d)
		p.wakeFor(m)
	}
	out.Next = p.next
	return out
}

// resize is the size to give the MiniCluster now, or 0. A larger size needs every node of the reservation,
// held and usable; a smaller one needs nothing.
func (p *pass) resize(m *candidate) int32 {
	if m.Lifecycle != Running {
		return 0
	}
	if m.Wants < m.Size {
		m.note(v1alpha1.ReasonResizing, fmt.Sprintf("resizing the MiniCluster from %d to %d; the highest ranks leave", m.Size, m.Wants))
		return m.Wants
	}
	claimed := m.claimed()
	size := min(claimed+m.elsewhere, m.Wants)
	if size <= m.Size || m.ready() < claimed {
		return 0
	}
	// Of nodes that are Ready as soon as they are reserved one sentence tells.
	m.notes = slices.DeleteFunc(m.notes, func(n Note) bool { return n.Reason == v1alpha1.ReasonReserved })
	m.note(v1alpha1.ReasonResizing, fmt.Sprintf("resizing the MiniCluster from %d to %d; %s Ready", m.Size, size, counted(claimed, "node is", "nodes are")))
	return size
}

// noteGivenBack tells which nodes the member's status has listed so far and does no longer.
func (p *pass) noteGivenBack(m *candidate) {
	var gone []string
	for i := range m.Reservations {
		for _, name := range m.Reservations[i].Held {
			if node := p.capacity.nodes[name]; node == nil || node.holder != m {
				gone = append(gone, name)
			}
		}
	}
	if len(gone) > 0 {
		m.note(v1alpha1.ReasonNodesGivenBack, fmt.Sprintf("gave back %s: %s", counted(int32(len(gone)), "node", "nodes"), listed(gone))) //nolint:gosec // Bounded by the size of the MiniCluster.
	}
}

// wakeFor makes sure that a pass comes when time alone changes what becomes of the member.
func (p *pass) wakeFor(m *candidate) {
	if m.growth == nil {
		return
	}
	if m.growth.Deadline != nil && p.now.Before(m.growth.Deadline.Time) {
		p.wake(m.growth.Deadline.Time)
	}
	if m.growth.RetryAfter != nil {
		p.wake(m.growth.RetryAfter.Time)
	}
}

func (p *pass) wake(at time.Time) {
	if p.next.IsZero() || at.Before(p.next) {
		p.next = at
	}
}
