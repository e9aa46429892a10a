package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// grant decides how many nodes each member may claim, first those it has claimed before, then the growths
// that want more, in the order in which they were asked for.
//
// Room that one member gives up in this pass is given to another in the next: the two are recorded in two
// writes, and a kill between them must not leave a pool promised twice.
func (p *pass) grant() {
	p.noteUnclaimed()
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
		if m.Invalid != "" {
			m.claims = m.recordedClaims()
			continue
		}
		m.claims = m.spread(p.target(m))
		for _, claim := range m.claims {
			if claim.nodes > m.mayKeep(claim.pool) {
				asking = append(asking, m)
				if m.growsAsOne() && m.growth != nil && !m.waitsOut() {
					m.gang.asking = append(m.gang.asking, m)
				}
				break
			}
		}
	}
	slices.SortFunc(asking, byRequest)
	waiting := map[*candidate]bool{}
	for _, m := range asking {
		groups := []*candidate{m}
		if m.growsAsOne() && slices.Contains(m.gang.asking, m) {
			if m != m.gang.asking[0] {
				continue
			}
			groups = m.gang.asking
			if p.grantGang(m.gang) {
				continue
			}
		} else {
			m.refusal = p.grantGrowth(m)
			if m.refusal != nil && (m.fellBack || m.missesFailed()) {
				// Nodes of a part of a growth are not held while it waits for room elsewhere: two that did so might wait for
				// each other.
				p.exhaust(m, m.refusal.message)
			}
		}
		for _, m := range groups {
			p.settleClaims(m)
		}
		for _, m := range groups {
			if m.refusal != nil && !m.refusal.permanent && !m.waitsOut() {
				p.keepRoom(m)
				waiting[m] = true
			}
		}
	}
	p.shareRoom()
	for _, m := range p.members {
		if m.growth != nil && m.growth.Waits != nil && !waiting[m] {
			m.growth.Waits = nil
		}
	}
	for _, m := range p.members {
		m.refusal = cmp.Or(m.waits(), m.refusal)
	}
	for _, g := range p.gangs {
		g.waitForPresent()
	}
}

// settleClaims divides what a member claims that was refused more, and takes what it claims from now on from what its pools have.
func (p *pass) settleClaims(m *candidate) {
	if m.refusal != nil {
		// What is granted already, or in use, stays; a part of the growth is not added to it.
		size := m.grantedSize()
		if m.waitsOut() {
			size = p.target(m)
		}
		m.claims, _ = p.place(m, size)
	}
	for _, claim := range m.claims {
		if pool := p.capacity.pools[claim.pool]; pool != nil {
			pool.noteClaimed(m, max(0, claim.nodes-m.claimedBefore(claim.pool)))
		}
	}
}

// target is the size whose nodes the member may claim if there is room.
func (p *pass) target(m *candidate) int32 {
	switch {
	case m.growth == nil && m.Wants < m.Size:
		// Its higher ranks are about to leave: what they lack is asked for no more.
		return min(m.growthSize(), m.sizeOf(max(m.grantedBefore, m.inUse())))
	case m.waitsForPods():
		return min(m.Size, m.growth.From)
	case !m.waitsOut():
		return m.growthSize()
	case m.partial():
		return max(m.keeps(), m.unitsIn(m.sizeOf(min(m.ready(), m.grantedBefore))))
	default:
		return m.keeps()
	}
}

// keeps is the size whose nodes stay claimed when a growth has failed: the present one, or where not even its nodes could be had,
// what has had its nodes before and those that are in use.
func (c *candidate) keeps() int32 {
	if c.served() >= c.Size {
		return c.Size
	}
	return max(c.complete(), c.sizeOf(c.inUse()))
}

// place divides the nodes of a size among the pools as far as they may be claimed without asking: nodes
// that the member's pods are on, where their pools have room, and as many nodes of the current pool as were
// claimed before. It also returns how many more it wants of the current pool.
func (p *pass) place(m *candidate, size int32) (claims nodesByPool, more int32) {
	claims = m.spread(size)
	for i := range claims {
		name, nodes := claims[i].pool, claims[i].nodes
		pool := p.capacity.pools[name]
		if name == m.current || pool == nil {
			continue
		}
		may := m.claimedBefore(name) + max(0, pool.MaxSize-pool.granted)
		if nodes > may {
			claims[i].nodes = may
			claims.add(m.current, nodes-may)
		}
	}
	may := m.mayKeep(m.current)
	if pool := p.capacity.pools[m.current]; pool != nil {
		// Its pods are there, whoever asked first for the room: a node that is used and not claimed would be missing to
		// those whose claims the floor counts.
		may += min(max(0, m.stayingIn(m.current)-may), max(0, pool.MaxSize-pool.granted))
	}
	more = max(0, claims.of(m.current)-may)
	claims.add(m.current, -more)
	return claims, more
}

// grantGrowth lets a member claim the nodes that it wants, all or none, or says why not: of the first pool of its list that
// has room for all of them, or else, where its nodes may span pools, of several.
func (p *pass) grantGrowth(m *candidate) *refusal {
	if claims, more := p.place(m, p.target(m)); more == 0 {
		m.claims = claims
		return nil
	}
	if m.TopologyKey != "" {
		return p.grantInOneDomain(m)
	}
	return p.grantOf(m, m.asks())
}

// grantOf lets a member claim the nodes that it wants of some pools, or says why not.
func (p *pass) grantOf(m *candidate, asks []string) *refusal {
	before := m.current
	var refusals []*refusal
	for _, name := range asks {
		m.current = name
		v := p.grantFrom(m)
		if v == nil {
			return nil
		}
		refusals = append(refusals, v)
		if pool := p.capacity.pools[name]; pool != nil && !v.permanent {
			m.asked = append(m.asked, pool)
		}
	}
	if len(asks) > 1 && m.Placement != v1alpha1.PlacementSingle {
		v := p.grantAcross(m, asks)
		if v == nil {
			return nil
		}
		refusals = append(refusals, v)
	}
	m.current = before
	if len(refusals) == 0 {
		return &refusal{v1alpha1.ReasonPoolNotFound, "no NodePool is left to be asked", true}
	}
	return combined(refusals)
}

// combined is one refusal of those of several pools. There is hope when there is for one of them.
func combined(refusals []*refusal) *refusal {
	out := *refusals[0]
	var messages []string
	for _, v := range refusals {
		switch {
		case out.permanent && !v.permanent:
			out.reason, out.permanent = v.reason, false
		case out.reason == v1alpha1.ReasonTopologyMismatch && v.permanent:
			// What the pools say that it could be served by tells more.
			out.reason = v.reason
		}
		if v.message != "" {
			messages = append(messages, v.message)
		}
	}
	out.message = strings.Join(messages, "; ")
	return &out
}

// refuses says why a pool grants nothing to a member, whatever its room, nil when it may.
func (p *pass) refuses(m *candidate, name string) *refusal {
	pool := p.capacity.pools[name]
	switch {
	case pool == nil:
		return &refusal{v1alpha1.ReasonPoolNotFound, fmt.Sprintf("NodePool %q does not exist", name), true}
	case pool.Deleting:
		return &refusal{v1alpha1.ReasonPoolDeleting, fmt.Sprintf("NodePool %q is being deleted", name), true}
	case pool.Paused:
		return &refusal{v1alpha1.ReasonPoolPaused, fmt.Sprintf("NodePool %q is paused", name), true}
	}
	if reason, why := refusalOf(m.Member, &pool.Pool, pool.selectedBy(m)); why != "" {
		return &refusal{reason, why, true}
	}
	if why := m.isElsewhere(pool.Name); why != "" {
		return &refusal{v1alpha1.ReasonTopologyMismatch, why, true}
	}
	why := m.unusable(name)
	if why == "" {
		// Nodes that came for others are not bought once more to see.
		why = p.capacity.shownAgainst(pool, m)
	}
	if why != "" {
		return &refusal{v1alpha1.ReasonNodesUnusable, why, true}
	}
	return nil
}

// grantFrom lets a member claim all nodes that are missing of its current pool, or says why not.
func (p *pass) grantFrom(m *candidate) *refusal {
	name := m.current
	if v := p.refuses(m, name); v != nil {
		return v
	}
	pool := p.capacity.pools[name]
	claims, more := p.place(m, p.target(m))
	if more == 0 {
		// Its pods are on nodes of this pool already.
		m.claims = claims
		return nil
	}
	want := claims.of(name) + more
	if want > pool.MaxSize {
		return &refusal{v1alpha1.ReasonPoolTooSmall, fmt.Sprintf(
			"%s needed and %s has maxSize %d", pluralize(want, "node is", "nodes are"), name, pool.MaxSize), true}
	}
	occupied := p.capacity.occupiedFor(pool, m) + m.leaving(name) + pool.unclaimedBeside(m)
	placed := max(0, claims.of(name)-m.claimedBefore(name))
	room := pool.MaxSize - pool.granted - placed - occupied
	if more <= room && more > room-pool.kept.nodes {
		needs := pluralize(more, "more node is", "more nodes are")
		return &refusal{v1alpha1.ReasonQueued, fmt.Sprintf("%s needed; %s", needs, pool.kept.words(name)), false}
	}
	if more > room {
		return &refusal{v1alpha1.ReasonPoolFull, fmt.Sprintf(
			"%s needed and %s has room for %d: maxSize %d, %d reserved, %d %s",
			pluralize(more, "more node is", "more nodes are"), name, max(room, 0), pool.MaxSize, pool.granted, occupied, m.occupiers()), false}
	}
	claims.set(name, want)
	p.granted(m, claims, pool.ProvisionTimeout, fmt.Sprintf("%s in %s", pluralize(more, "more node", "more nodes"), name))
	return nil
}

// grantAcross lets a member claim the nodes that are missing of several pools together. The refusal has no words of its own:
// those of the pools tell.
func (p *pass) grantAcross(m *candidate, asks []string) *refusal {
	m.current = asks[0]
	claims, more := p.place(m, p.target(m))
	missing := more
	for _, claim := range claims {
		missing += claim.nodes
	}
	last, timeout := "", time.Duration(0)
	var parts []string
	var could []*poolCapacity
	for _, name := range asks {
		if p.refuses(m, name) != nil {
			missing -= claims.of(name)
			continue
		}
		pool := p.capacity.pools[name]
		could = append(could, pool)
		missing -= pool.MaxSize
		placed := max(0, claims.of(name)-m.claimedBefore(name))
		occupied := p.capacity.occupiedFor(pool, m) + m.leaving(name) + pool.unclaimedBeside(m)
		take := min(more, pool.MaxSize-pool.granted-placed-occupied-pool.kept.nodes)
		if take <= 0 {
			continue
		}
		claims.add(name, take)
		more -= take
		last, timeout = name, max(timeout, pool.ProvisionTimeout)
		parts = append(parts, fmt.Sprintf("%s in %s", pluralize(take, "more node", "more nodes"), name))
	}
	if more == 0 {
		m.current = last
		p.granted(m, claims, timeout, strings.Join(parts, " and "))
		return nil
	}
	for _, claim := range claims {
		if !slices.Contains(asks, claim.pool) {
			missing -= claim.nodes
		}
	}
	if missing > 0 {
		return &refusal{v1alpha1.ReasonPoolTooSmall, "", true}
	}
	// Whoever comes later must not take what this one waits for, though no pool alone were large enough.
	m.asked = could
	return &refusal{v1alpha1.ReasonPoolFull, "", false}
}

// granted records that the missing nodes were granted.
func (p *pass) granted(m *candidate, claims nodesByPool, timeout time.Duration, what string) {
	p.granting(m, claims)
	m.claims = claims
	now, deadline := microTime(p.now), microTime(p.now.Add(timeout))
	said := fmt.Sprintf("reserved %s for size %d; they have until %s to be Ready", what+m.where(), p.target(m), formatTime(deadline.Time))
	if m.growth != nil {
		m.growth.Deadline, m.growth.GrantedAt, m.growth.NodePool = &deadline, &now, ""
		if m.current != m.NodePools[0] {
			m.growth.NodePool = m.current
		}
	}
	if m.fellBack {
		m.warn(v1alpha1.ReasonFellBack, fmt.Sprintf("%s; %s", joinMessages(m.growth.Failures), said))
		return
	}
	m.note(v1alpha1.ReasonReserved, said)
}
