package plan

import (
	"cmp"
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
		p.members = append(p.members, newCandidate(&observed.Members[i], p.capacity))
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
		for _, node := range m.recorded {
			if node != nil && node.recorded == nil {
				node.recorded = m
			}
		}
	}
	for _, m := range p.members {
		for i, node := range m.places {
			switch {
			case node == nil && !p.capacity.outside[m.Pods[i].Node]:
				// The node is lost, and with it the pod; its Job makes another.
			case node == nil || !m.mayHold(node.Pool):
				m.elsewhere++
			case node.holder == nil && (node.recorded == nil || node.recorded == m):
				p.capacity.hold(node, m)
			case node.holder == nil && node.occupantOf(node.recorded).pods == 0:
				node.freed, node.changesHands = true, true
			}
		}
	}
	for _, m := range p.members {
		for _, node := range m.recorded {
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

// updateGrowth brings the record of the member's gang up to date with the wish and the time.
func (p *pass) updateGrowth(m *candidate) {
	gang := m.gang()
	granted := m.settled >= m.nodesFor(gang)
	switch {
	case m.Lifecycle != Running, m.Wants < m.Size:
		m.growth = nil
	case granted && m.Size == gang && (m.resized() || m.ready() >= m.nodesFor(gang)):
		m.growth = nil
	case m.growth == nil && granted && m.Size == gang:
		// A node of a member that was complete is lost. The floor still counts it, so it is replaced
		// without a gang and without a deadline.
	case m.growth == nil:
		m.growth = &v1alpha1.Growth{From: m.growsFrom(), Size: gang, Since: microTime(p.now)}
	case gang > m.growth.Size:
		m.enlarge(gang, microTime(p.now))
	case gang < m.growth.Size:
		// A smaller wish keeps its place in the queue and its deadline, but not the failures of the larger one.
		m.growth.Size, m.growth.Attempts = gang, 0
		m.askAnew()
	}
	if m.growth == nil {
		return
	}
	if failures := p.failures(m); len(failures) > 0 {
		p.fail(m, failures)
	}
	if retry := m.growth.RetryAfter; retry != nil && !p.now.Before(retry.Time) {
		// It asks anew, behind those that did not fail.
		m.askAnew()
		m.growth.Since = microTime(p.now)
	}
}

// failures are those of the pools that have nodes missing: they have had their time, or there are no machines.
func (p *pass) failures(m *candidate) []v1alpha1.PoolFailure {
	if m.growth.Deadline == nil || m.ready() >= m.settled {
		return nil
	}
	late := !p.now.Before(m.growth.Deadline.Time)
	var out []v1alpha1.PoolFailure
	for i := range m.Reservations {
		r := &m.Reservations[i]
		usable := m.usableIn(r.NodePool)
		if usable >= r.Nodes {
			continue
		}
		failure := v1alpha1.PoolFailure{NodePool: r.NodePool, At: microTime(p.now)}
		pool := p.capacity.pools[r.NodePool]
		switch {
		case pool != nil && m.growth.GrantedAt != nil && pool.OutOfStock.At.After(m.growth.GrantedAt.Time):
			failure.Reason = v1alpha1.ReasonOutOfStock
			failure.Message = fmt.Sprintf("%d of %d nodes were Ready in %s, which is out of stock: %s", usable, r.Nodes, r.NodePool, shortened(pool.OutOfStock.Message))
		case late:
			failure.Reason = v1alpha1.ReasonProvisionTimeout
			failure.Message = fmt.Sprintf("%d of %d nodes were Ready in %s within its provisionTimeout", usable, r.Nodes, r.NodePool)
		default:
			continue
		}
		out = append(out, failure)
	}
	return out
}

// fail records which pools have failed. What is missing is asked of the others, or the attempt is over.
func (p *pass) fail(m *candidate, failures []v1alpha1.PoolFailure) {
	m.growth.Failures = append(m.growth.Failures, failures...)
	m.growth.Deadline, m.growth.GrantedAt, m.growth.NodePool = nil, nil, ""
	asks := m.asks()
	if len(asks) == 0 {
		p.exhaust(m, "")
		return
	}
	m.fellBack, m.current, m.kept = true, asks[0], map[string]int32{}
	if m.Placement == v1alpha1.PlacementSingle {
		// The whole gang moves. What pods are on stays.
		for i := range m.Reservations {
			m.kept[m.Reservations[i].NodePool] = m.stayingIn(m.Reservations[i].NodePool)
		}
		return
	}
	for i := range failures {
		m.kept[failures[i].NodePool] = m.usableIn(failures[i].NodePool)
	}
}

// exhaust ends an attempt for which no pool is left. All nodes that no pod uses are given back, unless the member takes
// what there is; what is missing is asked for again after a while. refused says why no other pool was of use.
func (p *pass) exhaust(m *candidate, refused string) {
	m.growth.Attempts++
	retry := microTime(p.now.Add(backoff(m.growth.Attempts)))
	m.growth.Deadline, m.growth.GrantedAt, m.growth.NodePool, m.growth.RetryAfter = nil, nil, "", &retry
	m.fellBack, m.kept = false, nil
	if len(m.NodePools) > 0 {
		m.current = m.NodePools[0]
	}
	fate := "the nodes that no pod uses are given back"
	if m.GrowthPolicy == v1alpha1.GrowthBestEffort {
		m.growth.Partial = true
		m.kept = map[string]int32{}
		for i := range m.Reservations {
			m.kept[m.Reservations[i].NodePool] = m.usableIn(m.Reservations[i].NodePool)
		}
		fate = "the member takes those that are there"
	}
	why := told(m.growth.Failures)
	if refused != "" {
		why += ", and " + refused
	}
	last := &m.growth.Failures[len(m.growth.Failures)-1]
	m.warn(last.Reason, fmt.Sprintf("%s; %s; attempt %d is at %s", why, fate, m.growth.Attempts+1, clock(retry.Time)))
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
		if m.verdict != nil && (m.fellBack || m.missesFailed()) {
			// Nodes of a part of a gang are not held while it waits for room elsewhere: two that did so might wait for
			// each other.
			p.exhaust(m, m.verdict.message)
		}
		if m.verdict != nil {
			// What is granted already, or in use, stays; a part of the gang is not added to it.
			size := m.sizeOf(max(m.settled, m.inUse()))
			if m.waitsOut() {
				size = p.target(m)
			}
			m.claims, _ = p.place(m, size)
		}
		for name, nodes := range m.claims {
			if pool := p.capacity.pools[name]; pool != nil {
				pool.granted += max(0, nodes-m.claimedBefore(name))
			}
		}
		if m.verdict != nil && !m.verdict.hopeless && !m.waitsOut() {
			for _, pool := range m.asked {
				pool.blockedBy = cmp.Or(pool.blockedBy, m.Key.String())
			}
		}
	}
	for _, m := range p.members {
		if m.waitsOut() {
			m.verdict = &verdict{v1alpha1.ReasonBackingOff, fmt.Sprintf("attempt %d for size %d failed in %s; the next is at %s",
				m.growth.Attempts, m.growth.Size, failedPools(m), clock(m.growth.RetryAfter.Time)), true}
		}
	}
}

// target is the size whose nodes the member may claim if there is room.
func (p *pass) target(m *candidate) int32 {
	switch {
	case !m.waitsOut():
		return m.gang()
	case m.partial() && m.growth.From > 0:
		return max(m.Size, m.sizeOf(min(m.ready(), m.settled)))
	case m.growth.Size > m.Size:
		return m.Size
	default:
		// Not even the nodes of the present size could be had. Those that are in use stay claimed.
		return m.sizeOf(m.inUse())
	}
}

// place divides the nodes of a size among the pools as far as they may be claimed without asking: nodes
// that the member's pods are on, where their pools have room, and as many nodes of the current pool as were
// claimed before. It also returns how many more it wants of the current pool.
func (p *pass) place(m *candidate, size int32) (claims map[string]int32, more int32) {
	claims = m.spread(size)
	for name, nodes := range claims {
		pool := p.capacity.pools[name]
		if name == m.current || pool == nil {
			continue
		}
		may := m.claimedBefore(name) + max(0, pool.MaxSize-pool.granted)
		if nodes > may {
			claims[name] = may
			claims[m.current] += nodes - may
		}
	}
	may := m.claimedBefore(m.current)
	if pool := p.capacity.pools[m.current]; pool != nil {
		// Its pods are there, whoever asked first for the room: a node that is used and not claimed would be missing to
		// those whose claims the floor counts.
		may += min(max(0, m.stayingIn(m.current)-may), max(0, pool.MaxSize-pool.granted))
	}
	more = max(0, claims[m.current]-may)
	claims[m.current] -= more
	return claims, more
}

// grantGang lets a member claim the nodes that it wants, all or none, or says why not: of the first pool of its list that
// has room for all of them, or else, where its nodes may span pools, of several.
func (p *pass) grantGang(m *candidate) *verdict {
	if claims, more := p.place(m, p.target(m)); more == 0 {
		m.claims = claims
		return nil
	}
	before, asks := m.current, m.asks()
	var verdicts []*verdict
	for _, name := range asks {
		m.current = name
		v := p.grantFrom(m)
		if v == nil {
			return nil
		}
		verdicts = append(verdicts, v)
		if pool := p.capacity.pools[name]; pool != nil && !v.hopeless {
			m.asked = append(m.asked, pool)
		}
	}
	if len(asks) > 1 && m.Placement != v1alpha1.PlacementSingle {
		v := p.grantAcross(m, asks)
		if v == nil {
			return nil
		}
		verdicts = append(verdicts, v)
	}
	m.current = before
	if len(verdicts) == 0 {
		return &verdict{v1alpha1.ReasonPoolNotFound, "no NodePool is left to be asked", true}
	}
	return combined(verdicts)
}

// combined is one verdict of those of several pools. There is hope when there is for one of them.
func combined(verdicts []*verdict) *verdict {
	out := *verdicts[0]
	var messages []string
	for _, v := range verdicts {
		if out.hopeless && !v.hopeless {
			out.reason, out.hopeless = v.reason, false
		}
		if v.message != "" {
			messages = append(messages, v.message)
		}
	}
	out.message = strings.Join(messages, "; ")
	return &out
}

// refuses says why a pool grants nothing to a member, whatever its room, nil when it may.
func (p *pass) refuses(m *candidate, name string) *verdict {
	pool := p.capacity.pools[name]
	switch {
	case pool == nil:
		return &verdict{v1alpha1.ReasonPoolNotFound, fmt.Sprintf("NodePool %q does not exist", name), true}
	case pool.Deleting:
		return &verdict{v1alpha1.ReasonPoolDeleting, fmt.Sprintf("NodePool %q is being deleted", name), true}
	case pool.Paused:
		return &verdict{v1alpha1.ReasonPoolPaused, fmt.Sprintf("NodePool %q is paused", name), true}
	}
	if why := TooLarge(m.Member, pool.Pool); why != "" {
		return &verdict{v1alpha1.ReasonPodTooLarge, why, true}
	}
	return nil
}

// grantFrom lets a member claim all nodes that are missing of its current pool, or says why not.
func (p *pass) grantFrom(m *candidate) *verdict {
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
	want := claims[name] + more
	if want > pool.MaxSize {
		return &verdict{v1alpha1.ReasonPoolTooSmall, fmt.Sprintf(
			"%s needed and %s has maxSize %d", counted(want, "node is", "nodes are"), name, pool.MaxSize), true}
	}
	if pool.blockedBy != "" {
		return &verdict{v1alpha1.ReasonQueued, fmt.Sprintf("%s needed; %s asked first and waits for room in %s",
			counted(more, "more node is", "more nodes are"), pool.blockedBy, name), false}
	}
	occupied := p.capacity.occupiedFor(pool, m)
	placed := max(0, claims[name]-m.claimedBefore(name))
	if room := pool.MaxSize - pool.granted - placed - occupied; more > room {
		return &verdict{v1alpha1.ReasonPoolFull, fmt.Sprintf(
			"%s needed and %s has room for %d: maxSize %d, %d reserved, %d occupied by other workloads",
			counted(more, "more node is", "more nodes are"), name, max(room, 0), pool.MaxSize, pool.granted, occupied), false}
	}
	claims[name] = want
	p.granted(m, claims, pool.ProvisionTimeout, fmt.Sprintf("%s in %s", counted(more, "more node", "more nodes"), name))
	return nil
}

// grantAcross lets a member claim the nodes that are missing of several pools together. The verdict has no words of its own:
// those of the pools tell.
func (p *pass) grantAcross(m *candidate, asks []string) *verdict {
	m.current = asks[0]
	claims, more := p.place(m, p.target(m))
	missing := more
	for _, nodes := range claims {
		missing += nodes
	}
	last, timeout := "", time.Duration(0)
	var parts []string
	var could []*poolCapacity
	for _, name := range asks {
		if p.refuses(m, name) != nil {
			missing -= claims[name]
			continue
		}
		pool := p.capacity.pools[name]
		could = append(could, pool)
		missing -= pool.MaxSize
		if pool.blockedBy != "" {
			continue
		}
		placed := max(0, claims[name]-m.claimedBefore(name))
		take := min(more, pool.MaxSize-pool.granted-placed-p.capacity.occupiedFor(pool, m))
		if take <= 0 {
			continue
		}
		claims[name] += take
		more -= take
		last, timeout = name, max(timeout, pool.ProvisionTimeout)
		parts = append(parts, fmt.Sprintf("%s in %s", counted(take, "more node", "more nodes"), name))
	}
	if more == 0 {
		m.current = last
		p.granted(m, claims, timeout, strings.Join(parts, " and "))
		return nil
	}
	for name, nodes := range claims {
		if !slices.Contains(asks, name) {
			missing -= nodes
		}
	}
	if missing > 0 {
		return &verdict{v1alpha1.ReasonPoolTooSmall, "", true}
	}
	// Whoever comes later must not take what this one waits for, though no pool alone were large enough.
	m.asked = could
	return &verdict{v1alpha1.ReasonPoolFull, "", false}
}

// granted records that the missing nodes were granted.
func (p *pass) granted(m *candidate, claims map[string]int32, timeout time.Duration, what string) {
	m.claims = claims
	now, deadline := microTime(p.now), microTime(p.now.Add(timeout))
	said := fmt.Sprintf("reserved %s for size %d; they have until %s to be Ready", what, p.target(m), clock(deadline.Time))
	if m.growth != nil {
		m.growth.Deadline, m.growth.GrantedAt, m.growth.NodePool = &deadline, &now, ""
		if m.current != m.NodePools[0] {
			m.growth.NodePool = m.current
		}
	}
	if m.fellBack {
		m.warn(v1alpha1.ReasonFellBack, fmt.Sprintf("%s; %s", told(m.growth.Failures), said))
		return
	}
	m.note(v1alpha1.ReasonReserved, said)
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
		if over[node.Pool] <= 0 || node.pods > 0 {
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
		p.bound(m)
		d := Decision{
			Key:          m.Key,
			Reservations: m.reservations(p.capacity),
			Growth:       m.growth,
			Nodes:        m.ready(),
			Idle:         m.idle(),
			Resize:       p.resize(m),
		}
		if d.Resize == 0 {
			d.GiveUp = p.giveUp(m)
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

// bound gives a growth a deadline that needs nothing more than what was reserved before it was asked for.
func (p *pass) bound(m *candidate) {
	if m.Lifecycle != Running || m.growth == nil || m.growth.Deadline != nil || m.waitsOut() || m.verdict != nil || m.ready() >= m.claimed() {
		return
	}
	timeout := time.Duration(0)
	for name := range m.claims {
		if pool := p.capacity.pools[name]; pool != nil {
			timeout = max(timeout, pool.ProvisionTimeout)
		}
	}
	now, deadline := microTime(p.now), microTime(p.now.Add(timeout))
	m.growth.Deadline, m.growth.GrantedAt = &deadline, &now
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
	size := min(m.sizeOf(claimed), m.Wants)
	if ready := m.ready(); ready < claimed {
		if !m.partial() {
			return 0
		}
		size, claimed = min(m.readySize(), size), ready
	}
	if size < m.Wants && m.verdict == nil && !m.partial() {
		// Nodes have turned out to have less room than an empty one. The next pass asks for more.
		return 0
	}
	if size <= m.Size {
		return 0
	}
	// Of nodes that are Ready as soon as they are reserved one sentence tells.
	m.notes = slices.DeleteFunc(m.notes, func(n Note) bool { return n.Reason == v1alpha1.ReasonReserved })
	m.note(v1alpha1.ReasonResizing, fmt.Sprintf("resizing the MiniCluster from %d to %d; %s Ready", m.Size, size, counted(claimed, "node is", "nodes are")))
	return size
}

// giveUp sets the wish of a member back to its size when its growth has failed as often as it may.
func (p *pass) giveUp(m *candidate) *GiveUp {
	size := max(m.Size, m.MinSize)
	if m.Lifecycle != Running || !m.waitsOut() || m.GiveUpAfter == 0 || m.growth.Attempts < m.GiveUpAfter || m.Wants <= size {
		return nil
	}
	why := fmt.Sprintf("the growth to size %d has failed %s: %s", m.Wants, counted(m.growth.Attempts, "time", "times"), told(m.growth.Failures))
	m.warn(v1alpha1.ReasonGaveUp, fmt.Sprintf("%s; giveUpAfter is %d, so the wish is %d again", why, m.GiveUpAfter, size))
	return &GiveUp{Size: size, Why: why}
}

// noteGivenBack tells which nodes the member's status has listed so far and does no longer.
func (p *pass) noteGivenBack(m *candidate) {
	var gone, lost []string
	place := 0
	for i := range m.Reservations {
		for _, name := range m.Reservations[i].Held {
			node := m.recorded[place]
			place++
			switch {
			case node == nil && !p.capacity.outside[name]:
				lost = append(lost, name)
			case node == nil || node.holder != m:
				gone = append(gone, name)
			}
		}
	}
	if len(lost) > 0 {
		m.warn(v1alpha1.ReasonNodesLost, fmt.Sprintf("lost %s: %s", counted(int32(len(lost)), "node that does not exist any more", "nodes that do not exist any more"), listed(lost))) //nolint:gosec // Bounded by the size of the MiniCluster.
	}
	if len(gone) > 0 {
		m.note(v1alpha1.ReasonNodesGivenBack, fmt.Sprintf("gave back %s: %s", counted(int32(len(gone)), "node", "nodes"), listed(gone))) //nolint:gosec // Bounded by the size of the MiniCluster.
	}
}

// wakeFor makes sure that a pass comes when time alone changes what becomes of the member.
func (p *pass) wakeFor(m *candidate) {
	for name, nodes := range m.claims {
		// A node that never becomes Ready is one more that is occupied from then on.
		if pool := p.capacity.pools[name]; pool != nil && m.heldReady(name) < nodes {
			if late := p.capacity.late(pool); !late.IsZero() {
				p.wake(late)
			}
		}
	}
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
