package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// refusalStands is how long a pool is not asked because the scheduler has kept pods off its empty nodes. What it minds, a volume or
// the affinity of other pods, may change without anything in the pool or the member having changed.
const refusalStands = time.Hour

// learn reads what nodes show about the pools that they are of, and what is left of what they have shown before.
func (p *pass) learn() {
	for _, m := range p.members {
		m.recall(p.capacity)
		if m.Lifecycle != Running || m.Invalid != "" {
			continue
		}
		for i := range m.Reservations {
			r := &m.Reservations[i]
			pool := p.capacity.pools[r.NodePool]
			if pool == nil || m.unusable(r.NodePool) != "" || m.usableIn(r.NodePool) >= r.Nodes {
				continue
			}
			if why := p.capacity.shownAgainst(pool, m); why != "" {
				p.find(m, pool, why)
			}
		}
		p.learnOfRefusals(m)
		for name, f := range m.findings {
			switch pool := p.capacity.pools[name]; {
			case f.Unusable == "":
			case f.Refused != "":
				if until := f.At.Add(refusalStands); p.now.Before(until) {
					p.wake(until)
				} else {
					f.Unusable, f.Refused = "", ""
				}
			case p.capacity.corrects(pool, m, f):
				f.Unusable = ""
			}
		}
	}
}

// recall takes over what was found before, as far as it rests on what is still so.
func (c *candidate) recall(capacity *capacity) {
	if c.Lifecycle == Finished || c.Lifecycle == Deleting {
		return
	}
	for i := range c.Findings {
		f := c.Findings[i]
		pool := capacity.pools[f.NodePool]
		if pool != nil && c.mayHold(f.NodePool) && c.restsOn(pool, f.Basis) {
			c.finding(pool, f)
		}
	}
}

// restsOn reports whether what a finding about a pool rests on is still so. While the member has no pods nobody knows what they will
// request, tolerate and select: what those before them did stands.
func (c *candidate) restsOn(pool *poolCapacity, basis string) bool {
	if basis == c.basis(pool) {
		return true
	}
	return len(c.Lacking) >= int(c.Size) && strings.HasPrefix(basis, pool.Basis+"-")
}

// basis tells what a finding about a pool rests on: the hash of the pool, and one of what the member's pods need.
func (c *candidate) basis(pool *poolCapacity) string {
	sum := sha256.Sum256([]byte(c.shape() + "\n" + c.TopologyKey))
	return pool.Basis + "-" + hex.EncodeToString(sum[:8])
}

// finding is the one about a pool, which is orElse where there is none yet.
func (c *candidate) finding(pool *poolCapacity, orElse v1alpha1.PoolFinding) *v1alpha1.PoolFinding {
	if c.findings == nil {
		c.findings = map[string]*v1alpha1.PoolFinding{}
	}
	if c.findings[pool.Name] == nil {
		c.findings[pool.Name] = &orElse
	}
	return c.findings[pool.Name]
}

func (p *pass) newFinding(m *candidate, pool *poolCapacity) *v1alpha1.PoolFinding {
	return m.finding(pool, v1alpha1.PoolFinding{NodePool: pool.Name, Basis: m.basis(pool), At: microTime(p.now)})
}

// unusable says why a pool is of no use to the member, empty while nothing is known against it.
func (c *candidate) unusable(pool string) string {
	if f := c.findings[pool]; f != nil {
		return f.Unusable
	}
	return ""
}

// find records that a pool is of no use to a member. Where that fails what its growth waits for, the failure tells it.
func (p *pass) find(m *candidate, pool *poolCapacity, why string) {
	f := p.newFinding(m, pool)
	f.Unusable, f.Refused, f.At = truncate(why), "", microTime(p.now)
	if m.growth == nil || m.growth.Deadline == nil {
		m.warn(v1alpha1.ReasonNodesUnusable, f.Unusable)
	}
}

// shownAgainst says what nodes show against a pool, empty while they show nothing.
func (c *capacity) shownAgainst(pool *poolCapacity, m *candidate) string {
	nodes := c.evidenceAgainst(pool, m)
	if len(nodes) == 0 {
		return ""
	}
	of := "new nodes"
	if !slices.Contains(pool.shownTo(m).cameFor(pool, m), nodes[0]) {
		of = "empty nodes"
	}
	return nodes[0].wordsOf(m, of)
}

// corrects reports whether nodes show that a pool is of use, against what was found: one that would take a pod is as young as those
// that were of no use, or younger.
func (c *capacity) corrects(pool *poolCapacity, m *candidate, f *v1alpha1.PoolFinding) bool {
	fits, last := pool.fitting(m)
	return fits && last.Add(pool.ProvisionTimeout).After(f.At.Time) && len(c.evidenceAgainst(pool, m)) == 0
}

// refusedNode is one that the scheduler has kept a pod of the member off, with what it says.
type refusedNode struct {
	node  *nodeCapacity
	words string
}

// learnOfRefusals records which empty nodes the scheduler has kept pods of the member off. The second one shows that the pool is of
// no use: there was nobody else on either.
func (p *pass) learnOfRefusals(m *candidate) {
	if len(m.refused) == 0 {
		return
	}
	own := map[string]int64{}
	for i := range m.Pods {
		own[m.Pods[i].Node]++
	}
	for _, r := range m.refused {
		pool := r.node.pool
		if !m.mayHold(pool.Name) || !r.node.empty(own[r.node.Name]) {
			continue
		}
		switch f := p.newFinding(m, pool); {
		case f.Unusable != "" || f.Refused == r.node.Name:
		case f.Refused == "":
			f.Refused, f.At = r.node.Name, microTime(p.now)
		default:
			words := r.words
			if words == "" {
				words = "it does not say why"
			}
			p.find(m, pool, fmt.Sprintf("the scheduler has kept pods off two empty nodes of %s, %s and %s, which is asked again at %s: %s",
				pool.Name, f.Refused, r.node.Name, formatTime(p.now.Add(refusalStands)), words))
			f.Refused = r.node.Name
		}
	}
}

// granting records how many nodes of the pools that grant something are of no use when they do.
func (p *pass) granting(m *candidate, claims nodesByPool) {
	for _, claim := range claims {
		name := claim.pool
		pool := p.capacity.pools[name]
		if pool == nil || claim.nodes <= m.claimedBefore(name) {
			continue
		}
		occupied := p.capacity.occupiedFor(pool, m) + m.leaving(name)
		if r := m.reservation(name); r != nil && r.Nodes > 0 && m.usableIn(name) < r.Nodes {
			// What was granted before is not met: what came of it counts against the claim still. Where it was, that is so of the
			// nodes that it has lost in this pass.
			if m.wasMet(r) {
				occupied = max(0, occupied-m.wastedOf(pool))
			} else {
				occupied = min(occupied, max(r.OccupiedAtGrant, r.Occupied))
			}
		}
		m.atGrant.set(name, occupied)
	}
}

// reservation is what the last pass recorded of a pool, nil for nothing.
func (c *candidate) reservation(pool string) *v1alpha1.Reservation {
	for i := range c.Reservations {
		if c.Reservations[i].NodePool == pool {
			return &c.Reservations[i]
		}
	}
	return nil
}

// replacements is how many nodes of a claim may be ordered in the place of others that turn out to be of no use, over all attempts.
func replacements(claim int32) int32 { return max(1, claim/10) }

// occupy says how many nodes of a pool are ordered beside a claim because others are of no use: as many as were when the pool granted
// the claim, and those that are replaced. Of these there are few, over all attempts: who has filled a node may fill the next one too.
func (p *pass) occupy(m *candidate, pool *poolCapacity, r *v1alpha1.Reservation) {
	active := int32(0)
	before := m.reservation(pool.Name)
	if before != nil && m.Invalid != "" {
		r.Occupied, r.OccupiedAtGrant = before.Occupied, before.OccupiedAtGrant
		return
	}
	if before != nil {
		r.OccupiedAtGrant = before.OccupiedAtGrant
		active = max(0, before.Occupied-before.OccupiedAtGrant)
	}
	atGrant, granted := m.atGrant.get(pool.Name)
	if granted {
		// Some that are of no use to this member have been given to another one since.
		r.OccupiedAtGrant, active = min(atGrant, p.capacity.occupiedFor(pool, m)), 0
	}
	if m.provenIn(pool.Name, r.Nodes) {
		// All of the claim is in use: what it needs from now on is another need.
		p.forget(m, pool.Name)
	}
	if m.heldReady(pool.Name) >= r.Nodes || !m.allows(pool.Name) || m.unusable(pool.Name) != "" {
		if r.OccupiedAtGrant > 0 {
			// Those that have gone since are not there any more when a node of the claim is lost.
			r.OccupiedAtGrant = min(r.OccupiedAtGrant, p.capacity.occupiedFor(pool, m))
		}
		return
	}
	occupied := p.capacity.occupiedFor(pool, m)
	if m.growth == nil && !granted && m.wasMet(before) && m.replaced(pool.Name) == 0 {
		// A complete member has lost a node. Others may have come since its claim was granted.
		r.OccupiedAtGrant = max(0, occupied-m.wastedOf(pool))
	}
	extra := max(0, occupied-r.OccupiedAtGrant)
	if more := min(extra-active, replacements(r.Nodes)-m.replaced(pool.Name)); more > 0 {
		f := p.newFinding(m, pool)
		f.Replaced += more
		active += more
	}
	r.Occupied = min(occupied, r.OccupiedAtGrant+active, pool.MaxSize)
	if r.Occupied < min(occupied, pool.MaxSize) {
		m.unreplaced = append(m.unreplaced, pool)
	}
}

// wasMet reports whether the nodes of a claim were all there when the last pass recorded it.
func (c *candidate) wasMet(before *v1alpha1.Reservation) bool {
	return before != nil && before.Nodes > 0 && before.Occupied == 0 &&
		int32(len(before.Held)) >= before.Nodes //nolint:gosec // Bounded by the size of the MiniCluster.
}

// wastedOf counts the nodes of a pool that were held for the member until this pass and are of no use to it now.
func (c *candidate) wastedOf(pool *poolCapacity) int32 {
	var count int32
	for _, node := range c.heldBefore {
		if node != nil && node.pool == pool && node.claimedBy == c && node.wasted(c) {
			count++
		}
	}
	return count
}

func (c *candidate) replaced(pool string) int32 {
	if f := c.findings[pool]; f != nil {
		return f.Replaced
	}
	return 0
}

// provenIn reports whether pods of the member are bound to as many nodes of a pool as it claims there. One that is about to go has yet
// to be replaced.
func (c *candidate) provenIn(pool string, claim int32) bool {
	if c.findings[pool] == nil || claim == 0 {
		return false
	}
	nodes := map[*nodeCapacity]bool{}
	for i, node := range c.places {
		if node != nil && node.holder == c && node.Pool == pool && node.Ready && !node.Leaving && !c.Pods[i].Released &&
			c.Pods[i].Index < c.Size {
			nodes[node] = true
		}
	}
	return int32(len(nodes)) >= claim //nolint:gosec // Bounded by the size of the MiniCluster.
}

// forget forgets how many nodes of a pool were replaced, and the one that refused a pod. What stands against the pool stays.
func (p *pass) forget(m *candidate, pool string) {
	if f := m.findings[pool]; f.Unusable == "" {
		f.Replaced, f.Refused = 0, ""
	}
}

// found are the findings as the member's status records them, those that say something, and of too many the latest.
func (c *candidate) found() []v1alpha1.PoolFinding {
	if len(c.findings) == 0 {
		return nil
	}
	var out []v1alpha1.PoolFinding
	for _, name := range slices.Sorted(maps.Keys(c.findings)) {
		if f := c.findings[name]; f.Unusable != "" || f.Refused != "" || f.Replaced > 0 {
			out = append(out, *f)
		}
	}
	if len(out) > v1alpha1.MaxFindings {
		slices.SortStableFunc(out, func(a, b v1alpha1.PoolFinding) int { return b.At.Compare(a.At.Time) })
		out = out[:v1alpha1.MaxFindings]
	}
	return out
}

// filled says which nodes of the pools that lack some for the member are of no use to it and are not replaced any more, empty when
// there are none.
func (p *pass) filled(m *candidate) string {
	var parts []string
	for _, pool := range m.unreplaced {
		parts = append(parts, "; "+p.capacity.wastedWords(pool, m))
	}
	return strings.Join(parts, "")
}

// filledBy is filled for one pool, before it is known what is recorded of it. Where no node is counted as one that others have, it
// says what keeps pods off those that are Ready all the same.
func (p *pass) filledBy(m *candidate, r *v1alpha1.Reservation) string {
	pool := p.capacity.pools[r.NodePool]
	switch {
	case pool == nil:
		return ""
	case p.capacity.occupiedFor(pool, m) > r.Occupied:
		return "; " + p.capacity.wastedWords(pool, m)
	}
	if words := pool.unfinishedWords(m); words != "" {
		return "; of those that are Ready, " + words
	}
	return ""
}

// unfinishedWords says what keeps the pods of a member off the nodes of a pool that are Ready and might have become of use yet.
func (p *poolCapacity) unfinishedWords(m *candidate) string {
	s := p.shownTo(m)
	if s.unfinished == nil {
		parts, _ := p.byCause(func(n *nodeCapacity) bool {
			return n.holder == nil && !n.changesHands && !n.Leaving && n.Ready && n.coming(m.Member)
		}, func(n *nodeCapacity) string { return n.unfinishedBy(m) })
		s.unfinished = new(listed(parts))
	}
	return *s.unfinished
}

// unfinishedBy says why a node that is Ready is of no use to a member yet, in words that follow its name.
func (n *nodeCapacity) unfinishedBy(m *candidate) string {
	switch {
	case !n.tolerated(m.Member):
		return n.wastedBy(m)
	case n.lacksDevice(m.Member):
		return "without devices that the template has"
	case m.Selects != nil && !n.selected(m.Member):
		return fmt.Sprintf("not selected by %s", m.Selects)
	default:
		return "without the label " + m.TopologyKey
	}
}

// byCause are the nodes of a pool that are wanted, by what is wrong with them, in words. It returns the causes, too.
func (p *poolCapacity) byCause(
	wanted func(*nodeCapacity) bool, cause func(*nodeCapacity) string,
) (parts []string, causes map[string][]string) {
	causes = map[string][]string{}
	for _, node := range p.nodes {
		if wanted(node) {
			why := cause(node)
			causes[why] = append(causes[why], node.Name)
		}
	}
	for why, names := range causes {
		slices.Sort(names)
		parts = append(parts, listed(names)+" "+why)
	}
	slices.Sort(parts)
	return parts, causes
}

// wastedWords says what is wrong with the nodes of a pool that are of no use to a member.
func (c *capacity) wastedWords(pool *poolCapacity, m *candidate) string {
	s := pool.shownTo(m)
	if s.wasted != nil {
		return *s.wasted
	}
	parts, causes := pool.byCause(func(n *nodeCapacity) bool { return n.wasted(m) }, func(n *nodeCapacity) string { return n.wastedBy(m) })
	text := fmt.Sprintf("nodes of %s are of no use to it and no more are ordered in their place", pool.Name)
	if len(parts) > 0 {
		text += ": " + listed(parts)
	}
	if causes[filledByOthers] != nil {
		text += "; a taint of its own in the template of " + pool.Name + " would keep other pods off"
	}
	s.wasted = &text
	return text
}

const filledByOthers = "filled by other pods"

// wastedBy says why a node is of no use to a member, in words that follow its name.
func (n *nodeCapacity) wastedBy(m *candidate) string {
	switch {
	case !n.Ready:
		return "not Ready"
	case n.Cordoned:
		return "cordoned"
	case !n.tolerated(m.Member):
		for i := range n.Taints {
			if taint := &n.Taints[i]; !n.accepts(m.Member, taint) {
				return "tainted with " + taint.Key
			}
		}
		return "tainted"
	case n.flaw(m.Member) == tooSmall, n.flaw(m.Member) == daemonsFill:
		return "too small for a pod"
	case n.flaw(m.Member) == notSelected:
		return "not selected by the pods"
	case !fits(m.PodRequests, n.Allocatable, n.Requested, n.toCome):
		return filledByOthers
	case m.TopologyKey != "" && !n.inDomain(m):
		return "in another " + m.TopologyKey
	default:
		return "kept by the scheduler from its pods"
	}
}
