package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// shown is what the nodes of a pool show about it to members of one shape. A node that is there and well and still cannot take a pod
// is evidence: more of its kind would be of no more use. Of each sort two are kept, since a single one may be broken.
type shown struct {
	// byOrder are those whose order is known, newest those of no known order that registered last, empty those of all that no pod is
	// on but those of DaemonSets.
	byOrder       map[string][]*nodeCapacity
	newest, empty []*nodeCapacity
	// fits is what fitting found; nil while nobody has asked.
	fits *fitting
	// selected is set when labels of a node are selected; nil while nobody has asked.
	selected *bool
	// wasted says what fills the nodes that are of no use; nil while nobody has asked.
	wasted *string
	// unfinished says what keeps pods off nodes that are Ready and young; nil while nobody has asked.
	unfinished *string
}

// fitting says whether there are nodes that would take a pod, and when the last of them registered.
type fitting struct {
	some bool
	last time.Time
}

// flaw is why a node would be of no use to a member though nobody else were there.
type flaw int

const (
	noFlaw flaw = iota
	// tooSmall: its allocatable is below what a pod requests, whatever else is there.
	tooSmall
	// daemonsFill: DaemonSets take what a pod needs.
	daemonsFill
	// notSelected: its labels are not those that the pods select.
	notSelected
	// elsewhere: it is in another domain than the template of its pool says.
	elsewhere
)

// flaw says why a node is of no use to a member for what it is, if it is.
func (n *nodeCapacity) flaw(m *Member) flaw {
	switch {
	case !fits(m.PodRequests, n.Allocatable, nil, nil):
		return tooSmall
	case !fits(m.PodRequests, n.Allocatable, n.Daemons, n.toCome):
		return daemonsFill
	case !n.selected(m):
		return notSelected
	case n.isElsewhere(m):
		return elsewhere
	default:
		return noFlaw
	}
}

// isElsewhere reports whether a node is in another domain than the template of its pool says.
func (n *nodeCapacity) isElsewhere(m *Member) bool {
	return m.TopologyKey != "" && n.pool.Labels[m.TopologyKey] != "" && n.Labels[m.TopologyKey] != n.pool.Labels[m.TopologyKey]
}

// evidence reports whether a node that nobody holds is there and well, and of no use to a member for what it is.
func (n *nodeCapacity) evidence(m *Member) bool {
	return n.open() && !n.Leaving && n.Ready && !n.Cordoned && !n.coming(m) && n.flaw(m) != noFlaw
}

// empty reports whether no pods are on a node but those of DaemonSets and some that are told of.
func (n *nodeCapacity) empty(own int64) bool {
	if pods, counted := n.Requested[corev1.ResourcePods]; counted || own > 0 {
		return pods-n.Daemons[corev1.ResourcePods] <= own
	}
	for name, amount := range n.Requested {
		if amount > n.Daemons[name] {
			return false
		}
	}
	return true
}

// shownTo is what the nodes of a pool show to a member, read once for each shape.
func (p *poolCapacity) shownTo(m *candidate) *shown {
	if s := p.shown[m.shapeKey]; s != nil {
		return s
	}
	if p.shown == nil {
		p.shown = map[string]*shown{}
	}
	s := &shown{byOrder: map[string][]*nodeCapacity{}}
	p.shown[m.shapeKey] = s
	if index := p.indexFor(m); index != nil && index.flawless(m.Member) {
		return s
	}
	for _, node := range p.inOrder() {
		if node.holder != nil || !node.evidence(m.Member) {
			continue
		}
		switch {
		case node.Order == "":
			s.newest = newestTwo(append(s.newest, node))
		case len(s.byOrder[node.Order]) < 2:
			s.byOrder[node.Order] = append(s.byOrder[node.Order], node)
		}
		if node.empty(0) {
			s.empty = newestTwo(append(s.empty, node))
		}
	}
	return s
}

func newestTwo(nodes []*nodeCapacity) []*nodeCapacity {
	slices.SortStableFunc(nodes, func(a, b *nodeCapacity) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return nodes[:min(len(nodes), 2)]
}

// fitting reports whether there are nodes that would take a pod of the member if they were empty, whoever holds them, and when the
// last of them registered.
func (p *poolCapacity) fitting(m *candidate) (some bool, last time.Time) {
	s := p.shownTo(m)
	if s.fits == nil {
		s.fits = &fitting{}
		for _, node := range p.nodes {
			if node.Ready && !node.Leaving && (!s.fits.some || node.CreatedAt.After(s.fits.last)) && node.fitsIfEmpty(m.Member) {
				*s.fits = fitting{some: true, last: node.CreatedAt}
			}
		}
	}
	return s.fits.some, s.fits.last
}

// fitsIfEmpty reports whether a node would take a pod of the member if only pods of DaemonSets were on it: those that are, and those
// that are to come to each.
func (n *nodeCapacity) fitsIfEmpty(m *Member) bool {
	for name, amount := range m.PodRequests {
		if amount > 0 && amount > n.Allocatable[name]-max(n.Daemons[name], n.pool.daemons[name]) {
			return false
		}
	}
	return n.flaw(m) == noFlaw
}

// selectedBy reports whether labels of some node of the pool are selected by the pods of a member: templates do not have all labels.
func (p *poolCapacity) selectedBy(m *candidate) bool {
	if m.Selects == nil {
		return true
	}
	s := p.shownTo(m)
	if s.selected == nil {
		found := slices.ContainsFunc(p.nodes, func(n *nodeCapacity) bool { return m.Selects.Matches("", n.Labels) })
		s.selected = &found
	}
	return *s.selected
}

// evidenceAgainst are nodes that show a pool to be of no use to a member, nil while they do not, or while a young node is of use.
// Of those that came for its claim one is enough, or where it is smaller than others two. Of others that are empty it takes two, and
// no node that has registered later may be of use.
func (c *capacity) evidenceAgainst(pool *poolCapacity, m *candidate) []*nodeCapacity {
	s := pool.shownTo(m)
	came := s.cameFor(pool, m)
	if len(came)+len(s.empty) == 0 {
		return nil
	}
	fits, last := pool.fitting(m)
	all := slices.Clone(came)
	for _, node := range s.empty {
		if !fits || node.CreatedAt.After(last) {
			all = union(all, []*nodeCapacity{node})
		}
	}
	switch {
	case fits && c.now.Sub(last) < pool.ProvisionTimeout:
		return nil
	case len(came) >= 2, len(came) == 1 && came[0].flaw(m.Member) != tooSmall:
		return came
	case len(all) >= 2:
		return all
	default:
		return nil
	}
}

// cameFor are nodes that are evidence and came for the claim of a member, or have just been taken from it: at most a few. The first
// has another flaw than its size if any has.
func (s *shown) cameFor(pool *poolCapacity, m *candidate) []*nodeCapacity {
	var out []*nodeCapacity
	if m.Claim != "" {
		out = append(out, s.byOrder[m.Claim]...)
	}
	if m.growth != nil && m.growth.GrantedAt != nil {
		// A node's time is in whole seconds.
		granted := m.growth.GrantedAt.Truncate(time.Second)
		for _, node := range s.newest {
			if !node.CreatedAt.Before(granted) {
				out = append(out, node)
			}
		}
	}
	for _, node := range m.heldBefore {
		if node != nil && node.pool == pool && node.holder == nil && len(out) < 4 && node.evidence(m.Member) {
			out = union(out, []*nodeCapacity{node})
		}
	}
	slices.SortStableFunc(out, func(a, b *nodeCapacity) int { return cmp.Compare(b.flaw(m.Member), a.flaw(m.Member)) })
	return out
}

// union are nodes of two lists, each once. The lists are short.
func union(a, b []*nodeCapacity) []*nodeCapacity {
	out := slices.Clone(a)
	for _, node := range b {
		if !slices.Contains(out, node) {
			out = append(out, node)
		}
	}
	return out
}

// wordsOf say of a node that is evidence what the nodes of its pool lack for a pod, and who takes it.
func (n *nodeCapacity) wordsOf(m *candidate, nodes string) string {
	pool := n.pool
	if n.flaw(m.Member) == notSelected {
		return fmt.Sprintf("%s of %s are not among those that the pods select by %s: %s is not", nodes, pool.Name, m.Selects, n.Name)
	}
	if n.flaw(m.Member) == elsewhere {
		return fmt.Sprintf(
			"%s of %s are in %s=%s and the template says %s: %s is", nodes, pool.Name, m.TopologyKey, n.Labels[m.TopologyKey],
			pool.Labels[m.TopologyKey], n.Name,
		)
	}
	taken := Resources{}
	taken.Add(n.Daemons)
	taken.Add(n.toCome)
	resource, asked, left := Lacking(m.PodRequests, n.Allocatable, taken)
	why := fmt.Sprintf(
		"%s of %s have %s of %s left for a pod of %s", nodes, pool.Name, formatQuantity(resource, max(0, left)), resource,
		formatQuantity(resource, asked),
	)
	var who []string
	if taken[resource] > 0 {
		by := takenBy(pool.Daemons, resource)
		if by == "" || pool.daemons[resource] < taken[resource] {
			by = fmt.Sprintf("DaemonSets take %s", formatQuantity(resource, taken[resource]))
		}
		who = append(who, by)
	}
	if has, says := n.Allocatable[resource], pool.Allocatable[resource]; has != says {
		who = append(
			who, fmt.Sprintf("their allocatable is %s, the template says %s", formatQuantity(resource, has), formatQuantity(resource, says)),
		)
	}
	if len(who) == 0 {
		// The template says no more: the pods have turned out to request more than theirs.
		return truncate(why)
	}
	return truncate(why + ": " + strings.Join(who, ", "))
}
