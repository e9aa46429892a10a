package plan

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// gang are the groups of pods of one workload. Each is a candidate of its own, with its own shape, claims and nodes, and goes through the
// phases as any other: the gang is what they have to agree on. A workload with one group has none.
type gang struct {
	// groups are in the order in which they were observed.
	groups []*candidate
	// of is the first of them, which says what is the workload's, invalid why it cannot be read; empty while it can.
	of      *Member
	count   int
	invalid string
	// asking are the groups whose growth asks for more nodes in this pass.
	asking []*candidate
	// present is set when there are Ready nodes for the present size of every group, met when there are for all that every group claims.
	present, met bool
}

// gangsOf finds the workloads with several groups; nil when there are none.
func gangsOf(members []Member) map[types.NamespacedName]*gang {
	var gangs map[types.NamespacedName]*gang
	for i := range members {
		m := &members[i]
		if m.Group == "" {
			continue
		}
		if gangs == nil {
			gangs = map[types.NamespacedName]*gang{}
		}
		g := gangs[m.Key]
		if g == nil {
			g = &gang{of: m}
			gangs[m.Key] = g
		}
		g.count++
		for _, why := range []string{m.Invalid, m.wrongUnit()} {
			if g.invalid == "" {
				g.invalid = why
			}
		}
	}
	return gangs
}

// read is a member as the pass sees it, with ranks for all of its pods and what its gang has in common. It returns what its pods are called
// by the observer, nil where that is their ranks. Of a member with one group whose highest ranks leave and which grows by single pods
// nothing is copied.
func (g *gang) read(m *Member, capacity *capacity) (seen *Member, ids []int32) {
	if m.unit() > 1 || g != nil {
		c := *m
		m = &c
		if why := m.wrongUnit(); m.Invalid == "" && why != "" {
			m.Invalid = why
		}
	}
	if g != nil {
		m.Invalid = g.invalid
		m.Lifecycle, m.GrowthPolicy, m.Placement, m.GiveUpAfter = g.of.Lifecycle, g.of.GrowthPolicy, g.of.Placement, g.of.GiveUpAfter
		m.TopologyKey, m.TopologyDomain, m.NamespaceLabels = g.of.TopologyKey, g.of.TopologyDomain, g.of.NamespaceLabels
		m.Kind, m.Job = fmt.Sprintf("group %s of the %s", m.Group, g.of.Kind), g.of.Job
	}
	return ranked(m, capacity)
}

// link makes candidates the groups of their gang.
func (p *pass) link(gangs map[types.NamespacedName]*gang) {
	if gangs == nil {
		return
	}
	for _, m := range p.members {
		if g := m.gang; g != nil && m.order == 0 {
			p.gangs = append(p.gangs, g)
			if g.of.TopologyKey != "" {
				findDomain(g.groups, p.capacity)
			}
		}
	}
}

// growsAsOne reports whether the groups of the member's gang are granted nodes together. The others are growths of their own.
func (c *candidate) growsAsOne() bool {
	return c.gang != nil && c.GrowthPolicy != v1alpha1.GrowthBestEffort && c.GrowthPolicy != v1alpha1.GrowthGreedy
}

// eachGroup are the groups of the member's gang, or itself.
func (c *candidate) eachGroup() []*candidate {
	if c.gang == nil {
		return []*candidate{c}
	}
	return c.gang.groups
}

// grows reports whether the growth of a group asks for nodes, or waits for some.
func (c *candidate) grows() bool { return c.growth != nil && !c.waitsOut() && !c.replaces() }

// replaces reports whether the growth of a group is to no larger size: it is there because the group has lost nodes while others grew.
func (c *candidate) replaces() bool {
	return c.growth != nil && c.growth.From > 0 && c.growth.From == c.growth.Size && c.growth.Served >= c.growth.Size
}

// lacksNodes reports whether the present size of a group or its growth lacks nodes.
func (c *candidate) lacksNodes() bool {
	return c.Lifecycle == Running && c.Invalid == "" && c.shrink == 0 && c.Wants >= c.Size && c.ready() < c.nodesFor(c.growthSize())
}

// joinGrowths makes one growth of those of a gang. They are as old as the youngest, as one that is enlarged. A group whose nodes are all
// there waits for the others, and one that has lost some, though it asks for no more, has to have them again by a deadline: or the others
// would hold theirs for nothing.
func (p *pass) joinGrowths(g *gang) {
	if !g.groups[0].growsAsOne() {
		return
	}
	if !g.grows() {
		for _, m := range g.groups {
			if m.replaces() && !m.waitsOut() {
				// What the others have asked for they have, or they do not ask for it any more.
				m.growth = nil
			}
		}
		return
	}
	var since metav1.MicroTime
	for _, m := range g.groups {
		switch {
		case m.growth == nil && m.ended != nil:
			m.growth, m.ended = m.ended, nil
		case m.growth == nil && m.lacksNodes():
			m.growth = p.begin(m, m.growthSize())
			m.growth.Since = metav1.MicroTime{}
		case m.waitsOut() && !m.waitsForPods():
			m.forgetFailed()
		}
		if m.growth != nil && !m.waitsForPods() && m.growth.Since.After(since.Time) {
			since = m.growth.Since
		}
	}
	for _, m := range g.groups {
		if m.growth != nil && !m.waitsForPods() {
			m.growth.Since = since
		}
	}
}

// grows reports whether a group of the gang grows, or has all the nodes of its growth while another one has lost some.
func (g *gang) grows() bool {
	ended := slices.ContainsFunc(g.groups, func(m *candidate) bool { return m.ended != nil })
	return slices.ContainsFunc(g.groups, (*candidate).grows) || (ended && slices.ContainsFunc(g.groups, (*candidate).lacksNodes))
}

// waitForPresent tells groups that ask for nothing before the present sizes of others have been granted what these wait for.
func (g *gang) waitForPresent() {
	var refused *refusal
	for _, m := range g.groups {
		if refused == nil && m.growsAsOne() && m.lacksClaims() && m.refusal != nil {
			refused = &refusal{m.refusal.reason, m.inGang(m.refusal.message), true}
		}
	}
	for _, m := range g.groups {
		if m.refusal == nil && refused != nil && m.Wants > m.Size {
			m.refusal = refused
		}
	}
}

// moveGang makes a gang whose nodes have to come from one pool ask another one together, when that has failed for one of its groups.
func (p *pass) moveGang(m *candidate, failures []v1alpha1.PoolFailure) {
	if !m.growsAsOne() || m.Placement != v1alpha1.PlacementSingle {
		return
	}
	for _, other := range m.gang.groups {
		if other != m && !m.waitsOut() && other.grows() && !other.fellBack {
			p.fail(other, failures)
		}
	}
}

// exhaustGang ends an attempt of a gang, for which no pool is left to one of its groups. Those that have not failed by themselves have
// failed with it.
func (p *pass) exhaustGang(m *candidate, retry func(*v1alpha1.Growth) metav1.MicroTime) {
	var attempts int32
	for _, c := range m.gang.groups {
		if c.growth != nil && !c.waitsForPods() {
			attempts = max(attempts, c.growth.Attempts)
		}
	}
	m.growth.Attempts = attempts + 1
	at := retry(m.growth)
	for _, c := range m.gang.groups {
		if c.growth == nil || c.waitsForPods() {
			continue
		}
		if len(c.growth.Failures) == 0 {
			c.growth.Failures = slices.Clone(m.growth.Failures)
		}
		c.growth.Attempts = m.growth.Attempts
		c.waitUntil(at)
	}
}

// settleGangs finds out which gangs have what they wait for. A growth that seemed to have all its nodes has not ended while that of another
// group has not.
func (p *pass) settleGangs() {
	for _, g := range p.gangs {
		g.present, g.met = true, true
		ended := true
		for _, m := range g.groups {
			g.present = g.present && m.readySize() >= m.Size
			g.met = g.met && m.ready() >= m.claimed() && !m.hasLessRoom()
			ended = ended && (m.ended == nil || m.ready() >= m.claimed())
		}
		for _, m := range g.groups {
			if m.growsAsOne() && !ended && m.ended != nil {
				m.growth = m.ended
			}
		}
	}
}

// hasLessRoom reports whether nodes have turned out to have less room than empty ones. The next pass asks for more.
func (c *candidate) hasLessRoom() bool {
	return min(c.sizeOf(c.claimed()), c.Wants) < c.Wants && c.refusal == nil && !c.partial()
}

// mayResize reports whether the gang lets a group have a larger size: there are nodes for all that its groups were granted. Of a growth
// that was granted nothing no part is served, though a group may have room for it.
func (c *candidate) mayResize() bool {
	if !c.growsAsOne() {
		return true
	}
	refused := slices.ContainsFunc(c.gang.groups, func(m *candidate) bool { return m.refusal != nil })
	granted := slices.ContainsFunc(c.gang.groups, func(m *candidate) bool { return m.growth != nil && m.growth.GrantedAt != nil })
	return c.gang.met && (granted || !refused)
}

// presentMet reports whether there are nodes for the present size of the member, and of the groups that it waits for.
func (c *candidate) presentMet() bool {
	return c.readySize() >= c.Size && (!c.growsAsOne() || c.gang.present)
}
