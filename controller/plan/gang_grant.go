package plan

import (
	"fmt"
	"slices"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// grantGang lets the groups of a gang that ask for more nodes claim them, all of them or none, and reports whether it did. The room that
// one of them takes is not there for the next.
func (p *pass) grantGang(g *gang) bool {
	v := p.grantGroups(g)
	if v == nil {
		return true
	}
	var failed *candidate
	for _, m := range g.asking {
		m.refusal = v
		if m.fellBack || m.missesFailed() {
			failed = m
		}
		m.asked = p.couldAsk(m)
	}
	if failed != nil {
		// As for one group: nodes of a part of a growth are not held while it waits for room elsewhere.
		p.exhaust(failed, v.message)
		for _, m := range g.groups {
			if m.waitsOut() && !slices.Contains(g.asking, m) {
				m.claims, _ = p.place(m, p.target(m))
			}
		}
	}
	return false
}

// grantGroups is grantGang that says why not.
func (p *pass) grantGroups(g *gang) *refusal {
	for _, m := range g.groups {
		if v := m.waits(); v != nil {
			return &refusal{v.reason, m.inGang(v.message), true}
		}
	}
	if g.of.TopologyKey != "" {
		return p.grantGangInOneDomain(g)
	}
	return p.grantTogether(g, g.asking, (*candidate).asks)
}

// inGang is a message about one group of a gang, for all of them.
func (c *candidate) inGang(message string) string {
	return fmt.Sprintf("group %s: %s", c.Group, message)
}

// couldAsk are the pools that a member waits for: those that might grant it something.
func (p *pass) couldAsk(m *candidate) []*poolCapacity {
	var out []*poolCapacity
	for _, name := range m.asks() {
		if p.refuses(m, name) == nil {
			out = append(out, p.capacity.pools[name])
		}
	}
	return out
}

// grantTogether lets groups of a gang claim the nodes that they want of their pools. Where the nodes have to come from one pool it is the
// first that all of them list and that has room for all. Where they may span pools, a group that finds no room after the others may find
// some before them.
func (p *pass) grantTogether(g *gang, groups []*candidate, pools func(*candidate) []string) *refusal {
	if g.of.Placement == v1alpha1.PlacementSingle {
		return p.grantOfOne(g, groups, pools)
	}
	if v := p.neverServes(groups, pools); v != nil {
		return v
	}
	order := slices.Clone(groups)
	var first *refusal
	for range groups {
		at, v := p.attempt(order, func(m *candidate) *refusal { return p.grantOf(m, pools(m)) })
		if v == nil {
			return nil
		}
		if first == nil {
			first = v
		}
		if at == 0 {
			// It finds none though it is the first.
			return v
		}
		refused := order[at]
		order = slices.Insert(slices.Delete(order, at, at+1), 0, refused)
	}
	return first
}

// grantOfOne is grantTogether of one pool. Of a gang that has been granted a part before it is the pool that has.
func (p *pass) grantOfOne(g *gang, groups []*candidate, pools func(*candidate) []string) *refusal {
	names := slices.Clone(pools(groups[0]))
	for _, m := range g.groups {
		switch {
		case m.grows() && m.growth.GrantedAt != nil:
			names = slices.DeleteFunc(names, func(name string) bool { return name != m.current })
		case slices.Contains(groups, m):
			names = slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(pools(m), name) })
		}
	}
	var refusals []*refusal
	for _, name := range names {
		only := func(*candidate) []string { return []string{name} }
		v := p.neverServes(groups, only)
		if v == nil {
			_, v = p.attempt(groups, func(m *candidate) *refusal {
				m.current = name
				return p.grantFrom(m)
			})
		}
		if v == nil {
			return nil
		}
		refusals = append(refusals, v)
	}
	if len(refusals) == 0 {
		return &refusal{v1alpha1.ReasonPoolNotFound, "no NodePool that is left to be asked is in the lists of all groups", true}
	}
	return combined(refusals)
}

// neverServes says that some pools are too small for groups of a gang together, nil when they may do: those whose pools are among those of
// one of them need no more than these can ever have.
func (p *pass) neverServes(groups []*candidate, pools func(*candidate) []string) *refusal {
	for _, widest := range groups {
		var most, needed int64
		listed := pools(widest)
		for _, name := range listed {
			if pool := p.capacity.pools[name]; pool != nil {
				most += int64(pool.MaxSize)
			}
		}
		for _, m := range groups {
			if slices.ContainsFunc(pools(m), func(name string) bool { return !slices.Contains(listed, name) }) {
				continue
			}
			needed += int64(m.nodesFor(p.target(m)))
			for _, node := range m.held {
				if node.stays > 0 && !slices.Contains(listed, node.Pool) {
					needed--
				}
			}
		}
		if len(listed) > 0 && needed > most {
			return &refusal{v1alpha1.ReasonPoolTooSmall, fmt.Sprintf(
				"the groups need %d nodes together of pools that can have %d: %s", needed, most, joinNames(listed)), true}
		}
	}
	return nil
}

// draft is what a group and its pools were before they were asked.
type draft struct {
	of    *candidate
	saved candidate
}

// draftOf keeps what a grant may change of a group.
func draftOf(m *candidate) draft {
	d := draft{m, *m}
	d.saved.growth = m.growth.DeepCopy()
	d.saved.unclaimed, d.saved.atGrant, d.saved.kept = slices.Clone(m.unclaimed), slices.Clone(m.atGrant), slices.Clone(m.kept)
	return d
}

// restore makes the group what it was.
func (d *draft) restore() { *d.of = d.saved }

// attempt lets groups claim nodes one after the other. Where one is refused nothing has been granted to any, and it returns which.
func (p *pass) attempt(groups []*candidate, grant func(*candidate) *refusal) (at int, refused *refusal) {
	var drafts []draft
	pools := map[*poolCapacity]poolCapacity{}
	for i, m := range groups {
		drafts = append(drafts, draftOf(m))
		claims, more := p.place(m, p.target(m))
		if more == 0 {
			m.claims = claims
		} else if v := grant(m); v != nil {
			for j := range drafts {
				drafts[j].restore()
			}
			for pool, before := range pools {
				pool.granted, pool.unclaimed, pool.kept.taken = before.granted, before.unclaimed, before.kept.taken
			}
			return i, &refusal{v.reason, m.inGang(v.message), v.permanent}
		}
		for _, claim := range m.claims {
			if pool := p.capacity.pools[claim.pool]; pool != nil {
				if _, known := pools[pool]; !known {
					pools[pool] = poolCapacity{granted: pool.granted, unclaimed: pool.unclaimed, kept: pool.kept}
				}
				pool.noteClaimed(m, max(0, claim.nodes-m.claimedBefore(claim.pool)))
			}
		}
	}
	return 0, nil
}

// domainChoice is a domain in which a gang can be asked for, and the pools that a group asks there.
type domainChoice struct {
	domain string
	pools  func(*candidate) []string
}

// domainChoices are those of a gang, as choices are those of a member. It stays where it is once pods of a group are there, or may be on
// their way because there are nodes for all groups.
func (g *gang) domainChoices() []domainChoice {
	here := g.groups[0].domain
	if g.settles() {
		return []domainChoice{{here, (*candidate).asks}}
	}
	spans := func(m *candidate, pool string) bool { return m.domains[pool] == "" }
	in := func(domain string, orElse func(m *candidate, pool string) bool) domainChoice {
		return domainChoice{domain, func(m *candidate) []string {
			return slices.DeleteFunc(slices.Clone(m.asks()), func(pool string) bool {
				return m.domains[pool] != domain && !orElse(m, pool)
			})
		}}
	}
	var out, last []domainChoice
	if here != "" {
		out = append(out, in(here, func(m *candidate, pool string) bool { return spans(m, pool) && m.claimedBefore(pool) > 0 }))
	}
	spanning := g.of.Placement != v1alpha1.PlacementSingle && slices.ContainsFunc(g.groups, func(m *candidate) bool {
		return slices.ContainsFunc(m.asks(), func(pool string) bool { return spans(m, pool) })
	})
	seen := map[string]bool{}
	for _, m := range g.groups {
		for _, name := range m.asks() {
			domain := m.domains[name]
			if seen[domain] {
				continue
			}
			seen[domain] = true
			if domain != here || here == "" {
				out = append(out, in(domain, func(*candidate, string) bool { return false }))
			}
			if domain != "" && spanning {
				last = append(last, in(domain, spans))
			}
		}
	}
	return append(out, last...)
}

// settles reports whether the gang cannot move to another domain.
func (g *gang) settles() bool {
	return g.groups[0].anchored || (g.groups[0].domain != "" && !slices.ContainsFunc(g.groups, func(m *candidate) bool {
		return m.readySize() < m.Size
	}))
}

// grantGangInOneDomain lets the groups of a gang claim the nodes that they want of pools of one domain, or says why not. A gang that moves
// to another one asks there for all that it has elsewhere, too.
func (p *pass) grantGangInOneDomain(g *gang) *refusal {
	here := g.groups[0].domain
	var refusals []*refusal
	for _, choice := range g.domainChoices() {
		drafts := make([]draft, len(g.groups))
		groups, moves := g.asking, here != "" && choice.domain != here
		if moves {
			groups = slices.DeleteFunc(slices.Clone(g.groups), func(m *candidate) bool { return m.growth == nil || m.waitsOut() })
		}
		for i, m := range g.groups {
			drafts[i] = draftOf(m)
			if m.moves = moves; moves {
				m.kept = m.inUseOnly()
			}
			m.setDomain(choice.domain)
		}
		v := p.grantInDomain(g, groups, choice)
		if v == nil {
			return nil
		}
		refusals = append(refusals, v)
		for i := range drafts {
			drafts[i].restore()
		}
	}
	if len(refusals) == 0 {
		return &refusal{v1alpha1.ReasonPoolNotFound, "no NodePool is left to be asked", true}
	}
	return combined(refusals)
}

// grantInDomain is grantTogether in a domain in which each of the groups has to have pools.
func (p *pass) grantInDomain(g *gang, groups []*candidate, choice domainChoice) *refusal {
	for _, m := range groups {
		if _, more := p.place(m, p.target(m)); more > 0 && len(choice.pools(m)) == 0 {
			where := fmt.Sprintf("in %s=%s", g.of.TopologyKey, choice.domain)
			if choice.domain == "" {
				where = "of several domains"
			}
			return &refusal{v1alpha1.ReasonTopologyMismatch, m.inGang("none of its NodePools that are left to be asked is " + where), true}
		}
	}
	return p.grantTogether(g, groups, choice.pools)
}
