package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// topology is where a member is whose nodes all have the same value of one label, its domain. Without a TopologyKey none of
// it is of interest.
type topology struct {
	// domain is the value that the member's nodes have, or those that it asks for; empty while it is open.
	domain string
	// anchored is set when pods of the member that stay are on nodes of the domain: it cannot be in another one.
	anchored bool
	// moves is set while the member asks in another domain than it was in, and when it was granted nodes there in this pass.
	moves bool
	// domains are the values that the templates of its pools have, by pool. A pool that has none spans domains: its nodes get
	// their values from the cloud.
	domains map[string]string
	// baseKey is the key of the member's shape without a domain.
	baseKey string
}

// findDomain finds out where a member is, which are the groups of a gang or one: where its pods are that stay, or else where the last pass
// left it. What has been recorded for another key, or by nobody, is read off the nodes held and off the pools that have granted some.
func findDomain(groups []*candidate, capacity *capacity) {
	counts := map[string]int32{}
	for _, c := range groups {
		c.baseKey, c.domains = c.shapeKey, map[string]string{}
		for _, name := range c.NodePools {
			if pool := capacity.pools[name]; pool != nil && pool.Labels[c.TopologyKey] != "" {
				c.domains[name] = pool.Labels[c.TopologyKey]
			}
		}
		for i, node := range c.places {
			if node != nil && c.Pods[i].Index < c.Size {
				counts[node.Labels[c.TopologyKey]]++
			}
		}
	}
	recorded := groups[0].recordedDomain()
	domain := domainWithMost(counts, recorded)
	anchored := domain != ""
	if domain == "" {
		domain = recorded
	}
	if domain == "" {
		domain = domainHeld(groups, counts)
	}
	for _, c := range groups {
		c.anchored = anchored
		c.setDomain(domain)
		if !c.allows(c.current) {
			c.current = c.first()
		}
	}
}

// recordedDomain is where the last pass left the member; empty where it was put nowhere, or had another key.
func (c *candidate) recordedDomain() string {
	if domain, found := strings.CutPrefix(c.TopologyDomain, c.TopologyKey+"="); found {
		return domain
	}
	return ""
}

// domainHeld is the domain of most of the nodes held, beside some counts, or else of a pool that has granted some.
func domainHeld(groups []*candidate, counts map[string]int32) string {
	for _, c := range groups {
		for _, node := range c.heldBefore {
			if node != nil {
				counts[node.Labels[c.TopologyKey]]++
			}
		}
	}
	domain := domainWithMost(counts, "")
	for _, c := range groups {
		for i := 0; domain == "" && i < len(c.Reservations); i++ {
			if r := &c.Reservations[i]; r.Nodes > 0 {
				domain = c.domains[r.NodePool]
			}
		}
	}
	return domain
}

// domainWithMost is the domain with the greatest count, of several the preferred one or the first by name; empty when there is none.
func domainWithMost(counts map[string]int32, preferred string) string {
	best := ""
	for domain, count := range counts {
		switch {
		case domain == "" || count <= 0:
		case best == "" || count > counts[best]:
			best = domain
		case count == counts[best] && best != preferred && (domain == preferred || domain < best):
			best = domain
		}
	}
	return best
}

// setDomain puts the member into a domain. Nodes of others are of no use to it from then on.
func (c *candidate) setDomain(domain string) {
	c.domain = domain
	c.shapeKey = c.baseKey + "in " + c.TopologyKey + "=" + domain
}

// open reports whether the member has to be in one domain, and none has been chosen.
func (c *candidate) open() bool { return c.TopologyKey != "" && c.domain == "" }

// settles reports whether the member cannot move to another domain: pods of it are there, or may be on their way because
// there are nodes for all of them.
func (c *candidate) settles() bool {
	return c.anchored || (c.domain != "" && c.readySize() >= c.Size)
}

// allows reports whether nodes of a pool can be of use to the member in its domain. While that is open only those of pools
// that span domains can.
func (c *candidate) allows(pool string) bool {
	if c.TopologyKey == "" {
		return true
	}
	of := c.domains[pool]
	return of == "" || of == c.domain
}

// first is the first pool of the list that allows the member, or the first one when none does.
func (c *candidate) first() string {
	if i := slices.IndexFunc(c.NodePools, c.allows); i >= 0 {
		return c.NodePools[i]
	}
	if len(c.NodePools) > 0 {
		return c.NodePools[0]
	}
	return ""
}

// mayKeep is the number of nodes of a pool that the member may claim because it has claimed them before. Of a pool in another
// domain those are left that its pods are on, of one whose new nodes are of no use those that are there.
func (c *candidate) mayKeep(pool string) int32 {
	switch {
	case !c.allows(pool):
		return min(c.claimedBefore(pool), c.stayingIn(pool))
	case c.unusable(pool) != "":
		return min(c.claimedBefore(pool), c.servingOrStaying(pool))
	default:
		return c.claimedBefore(pool)
	}
}

// servingOrStaying counts the held nodes of one pool that are of use to the member or have pods that stay.
func (c *candidate) servingOrStaying(pool string) int32 {
	var count int32
	for _, node := range c.held {
		if node.Pool == pool && (node.stays > 0 || c.serves(node)) {
			count++
		}
	}
	return count
}

// inDomain reports whether a node is in the domain of a member, or in any while that is open.
func (n *nodeCapacity) inDomain(c *candidate) bool {
	of := n.Labels[c.TopologyKey]
	return of != "" && (c.domain == "" || of == c.domain)
}

// isElsewhere says that a pool is in another domain than the member, empty when it is not.
func (c *candidate) isElsewhere(pool string) string {
	if c.allows(pool) {
		return ""
	}
	return fmt.Sprintf("%s is in %s=%s and the nodes of the member are in %s", pool, c.TopologyKey, c.domains[pool], c.domain)
}

// where tells the domain of the member behind the names of pools.
func (c *candidate) where() string {
	switch {
	case c.TopologyKey == "":
		return ""
	case c.domain == "":
		return ", in one " + c.TopologyKey
	default:
		return ", in " + c.TopologyKey + "=" + c.domain
	}
}

// occupiers tells what takes room of a pool that is not reserved.
func (c *candidate) occupiers() string {
	if c.TopologyKey == "" {
		return "occupied by other workloads"
	}
	return "occupied by other workloads or not" + strings.TrimPrefix(c.where(), ",")
}

// topologyDomain is what the member's status says of its domain. With the last claim it is open again.
func (c *candidate) topologyDomain() string {
	if c.TopologyKey == "" || c.domain == "" || c.Lifecycle != Running || !c.isSomewhere() {
		return ""
	}
	return c.TopologyKey + "=" + c.domain
}

// isSomewhere reports whether the member, or a group of its gang, has claims or pods that stay.
func (c *candidate) isSomewhere() bool {
	return c.anchored || c.claimed() > 0 || (c.gang != nil && slices.ContainsFunc(c.gang.groups, func(m *candidate) bool {
		return m.claimed() > 0
	}))
}

// choice is a domain in which a growth can be asked for, and the pools to ask there.
type choice struct {
	domain string
	pools  []string
	// together is set when only several of them together are asked: each has been by itself.
	together bool
}

// choices are the domains in which a growth can be asked for, in order of preference. One that settles stays where it is.
// Any other is asked for first where it is, then in each domain that pools of its list are of, in their order; the pools
// that span domains are one such choice, in which the domain is found when the nodes are there. At last they are asked
// together with the pools of each domain: that may bring nodes which are of no use.
func (c *candidate) choices() []choice {
	asks := c.asks()
	if c.settles() || c.waitsOut() || c.follows() {
		return []choice{{domain: c.domain, pools: asks}}
	}
	in := func(domain string, orElse func(pool string) bool) []string {
		var pools []string
		for _, name := range asks {
			if c.domains[name] == domain || orElse(name) {
				pools = append(pools, name)
			}
		}
		return pools
	}
	spans := func(pool string) bool { return c.domains[pool] == "" }
	var out, last []choice
	if c.domain != "" {
		here := in(c.domain, func(pool string) bool { return spans(pool) && c.claimedBefore(pool) > 0 })
		if len(here) > 0 {
			out = append(out, choice{domain: c.domain, pools: here})
		}
	}
	seen := map[string]bool{c.domain: c.domain != ""}
	for _, name := range asks {
		domain := c.domains[name]
		if !seen[domain] {
			seen[domain] = true
			out = append(out, choice{domain: domain, pools: in(domain, func(string) bool { return false })})
		}
	}
	for _, name := range asks {
		domain := c.domains[name]
		has := slices.ContainsFunc(last, func(other choice) bool { return other.domain == domain })
		if together := in(domain, spans); domain != "" && !has && len(together) > 1 && slices.ContainsFunc(together, spans) {
			last = append(last, choice{domain: domain, pools: together, together: true})
		}
	}
	if c.Placement == v1alpha1.PlacementSingle {
		return out
	}
	return append(out, last...)
}

// follows reports whether other groups of the gang have nodes where the member is, so that it goes nowhere by itself.
func (c *candidate) follows() bool {
	return c.gang != nil && c.domain != "" && slices.ContainsFunc(c.gang.groups, func(other *candidate) bool {
		return other != c && (other.claimed() > 0 || other.grantedBefore > 0 || len(other.held) > 0)
	})
}

// grantInOneDomain lets a member claim the nodes that it wants of pools of one domain, or says why not. A growth that moves to
// another one leaves nothing behind but what its pods are on.
func (p *pass) grantInOneDomain(m *candidate) *refusal {
	before, kept, domain := m.current, m.kept, m.domain
	var refusals []*refusal
	var asked []*poolCapacity
	for _, c := range m.choices() {
		if m.moves = domain != "" && c.domain != domain; m.moves {
			m.kept = m.inUseOnly()
		}
		m.setDomain(c.domain)
		grant := p.grantOf
		if c.together {
			grant = p.grantAcross
		}
		v := grant(m, c.pools)
		if v == nil {
			m.lead()
			return nil
		}
		refusals, asked = append(refusals, v), append(asked, m.asked...)
		m.current, m.kept, m.asked, m.moves = before, kept, nil, false
		m.setDomain(domain)
	}
	m.asked = asked
	if len(refusals) == 0 {
		return &refusal{v1alpha1.ReasonPoolNotFound, "no NodePool is left to be asked", true}
	}
	return combined(refusals)
}

// lead puts the other groups of the gang where the member is.
func (c *candidate) lead() {
	for _, other := range c.eachGroup() {
		if other != c {
			other.setDomain(c.domain)
		}
	}
}

// inUseOnly keeps of each pool that has granted nodes those that pods are on which stay.
func (c *candidate) inUseOnly() nodesByPool {
	var kept nodesByPool
	for i := range c.Reservations {
		kept.set(c.Reservations[i].NodePool, c.stayingIn(c.Reservations[i].NodePool))
	}
	return kept
}

// leaves reports whether a member gives back a node that it holds because it is in another domain than the member is now. One
// that moves to where none has been chosen yet begins there again.
func (c *candidate) leaves(node *nodeCapacity) bool {
	if c.TopologyKey == "" || node.pods > 0 {
		return false
	}
	return !node.inDomain(c) || (c.moves && c.domain == "")
}

// leaving counts the nodes of a pool that a member leaves. They are there for a while, and of no use to it.
func (c *candidate) leaving(pool string) int32 {
	var count int32
	for _, node := range c.held {
		if c.moves && node.Pool == pool && c.leaves(node) {
			count++
		}
	}
	return count
}

// leaveOtherDomains frees the nodes that a member leaves.
func (c *candidate) leaveOtherDomains() {
	if c.TopologyKey == "" {
		return
	}
	c.held = slices.DeleteFunc(c.held, func(node *nodeCapacity) bool {
		if !c.leaves(node) {
			return false
		}
		node.free()
		return true
	})
}

// chooseDomain puts a member whose domain is open where its nodes are, or else where the pools that have granted some have
// most free nodes for it. While there are none it stays open.
func (p *pass) chooseDomain(m *candidate) {
	if !m.open() {
		return
	}
	counts := map[string]int32{}
	for _, m := range m.eachGroup() {
		for _, node := range m.held {
			counts[node.Labels[m.TopologyKey]]++
		}
	}
	domain := domainWithMost(counts, "")
	if domain == "" {
		for _, m := range m.eachGroup() {
			p.countFree(m, counts)
		}
		domain = domainWithMost(counts, "")
	}
	if domain != "" {
		m.setDomain(domain)
		m.lead()
	}
}

// countFree adds, by domain, the free nodes of the pools that a member claims some of.
func (p *pass) countFree(m *candidate, counts map[string]int32) {
	for _, claim := range m.claims {
		if pool := p.capacity.pools[claim.pool]; pool != nil && claim.nodes > 0 {
			for domain, count := range pool.freeFor(m).counts {
				counts[domain] += count
			}
		}
	}
}

// freeNodes counts the nodes of a pool that nobody holds and that members of one shape could use, by domain.
type freeNodes struct {
	key string
	// member is one of that shape.
	member *Member
	counts map[string]int32
}

// freeFor counts the free nodes for a member whose domain is open. The count follows what is taken after it was made.
func (p *poolCapacity) freeFor(m *candidate) *freeNodes {
	f := p.free[m.shapeKey]
	if f == nil {
		if p.free == nil {
			p.free = map[string]*freeNodes{}
		}
		f = &freeNodes{key: m.TopologyKey, member: m.Member, counts: map[string]int32{}}
		p.free[m.shapeKey] = f
		for _, node := range p.nodes {
			if domain := node.Labels[f.key]; domain != "" && node.takeable() && node.takes(f.member) {
				f.counts[domain]++
			}
		}
	}
	return f
}

// taken notes that a free node is about to be held.
func (p *poolCapacity) taken(node *nodeCapacity) {
	for _, f := range p.free {
		if domain := node.Labels[f.key]; domain != "" && node.takes(f.member) {
			f.counts[domain]--
		}
	}
}

// scattered is the number of free nodes that are not in the domain with most of them.
func (f *freeNodes) scattered() int32 {
	var sum int32
	for _, count := range f.counts {
		sum += count
	}
	return sum - f.counts[domainWithMost(f.counts, "")]
}
