package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// failClaims finds the claims whose pools do not have what they lack: there are no machines, or the nodes have had their time. What
// there is, and what is coming, serves the first claims, in the order in which they were asked for. The others fail, and are tried
// again in that order.
func (p *pass) failClaims() {
	if !slices.ContainsFunc(p.members, func(m *candidate) bool {
		return slices.ContainsFunc(m.Reservations, func(r v1alpha1.Reservation) bool { return p.charged(m, r.NodePool) != "" })
	}) {
		return
	}
	type failing struct {
		m        *candidate
		failures []v1alpha1.PoolFailure
	}
	var all []failing
	supplies := map[string]*supply{}
	order := slices.Clone(p.members)
	slices.SortStableFunc(order, byRequest)
	for _, m := range order {
		if m.Lifecycle != Running {
			continue
		}
		if failures := p.failures(m, supplies); len(failures) > 0 {
			all = append(all, failing{m, failures})
		}
	}
	p.retries = newRetries(p.members, len(all))
	for _, f := range all {
		if !f.m.waitsOut() && !f.m.fellBack {
			// Others of its gang may have failed it already.
			p.fail(f.m, f.failures)
			p.moveGang(f.m, f.failures)
		}
	}
}

// failures are those of the pools that have nodes missing and nothing left for them.
func (p *pass) failures(m *candidate, supplies map[string]*supply) []v1alpha1.PoolFailure {
	var out []v1alpha1.PoolFailure
	for i := range m.Reservations {
		r := &m.Reservations[i]
		pool, usable := p.capacity.pools[r.NodePool], m.usableIn(r.NodePool)
		if usable >= r.Nodes {
			continue
		}
		reason := p.charged(m, r.NodePool)
		if pool != nil && reason != v1alpha1.ReasonNodesUnusable && p.supplyOf(supplies, pool).serves(
			m, p.lackOf(m, r, usable), reason != "", p.late(m),
		) {
			continue
		}
		failure := v1alpha1.PoolFailure{NodePool: r.NodePool, Reason: reason, At: microTime(p.now)}
		switch reason {
		case v1alpha1.ReasonOutOfStock:
			failure.Message = fmt.Sprintf(
				"%d of %d nodes were Ready in %s, which is out of stock: %s", usable, r.Nodes, r.NodePool+m.where(),
				truncate(pool.OutOfStock.Message),
			)
		case v1alpha1.ReasonNodesUnusable:
			failure.Message = m.unusable(r.NodePool)
		case v1alpha1.ReasonProvisionTimeout:
			failure.Message = fmt.Sprintf(
				"%d of %d nodes were Ready in %s within its provisionTimeout%s", usable, r.Nodes, r.NodePool+m.where(), p.filledBy(m, r),
			)
		default:
			continue
		}
		out = append(out, failure)
		if pool != nil && reason != v1alpha1.ReasonNodesUnusable && m.canFallBack(r.NodePool) {
			m.stillComing.set(r.NodePool, p.supplyOf(supplies, pool).keeps(m, r.Nodes-usable, p.late(m)))
		}
	}
	return out
}

// lack is what a claim has not: so many nodes are missing, of which others can take the place of so many. A node that is held and not
// Ready keeps its place.
type lack struct{ missing, open int32 }

// lackOf is what a claim lacks of which so many nodes are usable. While it has time, nodes that are held may get Ready.
func (p *pass) lackOf(m *candidate, r *v1alpha1.Reservation, usable int32) lack {
	open := max(0, r.Nodes-m.lasting(r.NodePool))
	if p.late(m) {
		return lack{missing: r.Nodes - usable, open: open}
	}
	return lack{missing: open, open: open}
}

// charged is the reason for which a claim on a pool has failed unless there is enough for it; empty while it has time. Of a failure
// of the pool before it was granted it need know nothing.
func (p *pass) charged(m *candidate, name string) string {
	pool := p.capacity.pools[name]
	switch {
	case m.growth == nil || m.growth.Deadline == nil || m.Invalid != "" || m.shrink > 0 || m.ready() >= m.grantedBefore:
		return ""
	case m.unusable(name) != "":
		return v1alpha1.ReasonNodesUnusable
	case pool != nil && m.growth.GrantedAt != nil && pool.OutOfStock.At.After(m.growth.GrantedAt.Time):
		return v1alpha1.ReasonOutOfStock
	case p.late(m):
		return v1alpha1.ReasonProvisionTimeout
	}
	return ""
}

// late reports whether what the member was granted has had its time.
func (p *pass) late(m *candidate) bool {
	return m.growth != nil && m.growth.Deadline != nil && !p.now.Before(m.growth.Deadline.Time)
}

// supply is what a pool has for claims that lack nodes, on the way through these in their order.
type supply struct {
	pool *poolCapacity
	// coming is the number of machines and nodes that are on their way, own that of them by the ids of their orders. A node that is
	// marked for its release is one of them: the provider chooses by what it has seen of the claims, and takes its mark off.
	coming int32
	own    map[string]int32
	// free counts the nodes that are there, by the shape of those that could use them.
	free map[string]int32
	// usedComing and usedFree are what earlier claims need of them.
	usedComing, usedFree int32
}

func (p *pass) supplyOf(supplies map[string]*supply, pool *poolCapacity) *supply {
	s := supplies[pool.Name]
	if s == nil {
		s = &supply{pool: pool, own: map[string]int32{}, free: map[string]int32{}}
		for id, machines := range pool.Coming {
			s.coming += machines
			s.own[id] += machines
		}
		for _, node := range pool.nodes {
			if node.holder == nil && (node.Releasing || !node.Leaving && node.booting()) {
				s.coming++
				s.own[node.Order]++
			}
		}
		supplies[pool.Name] = s
	}
	return s
}

// serves reports whether there is enough for what a claim lacks, beside what earlier ones need, and takes it. One that
// is charged with nothing takes what is there. For one that is late nothing is coming any more.
func (s *supply) serves(m *candidate, of lack, charged, late bool) bool {
	free := min(max(0, s.freeFor(m)-s.usedFree), of.open)
	coming := max(0, s.coming-s.usedComing)
	switch {
	case late:
		coming = 0
	case !charged && m.growth != nil:
		// Its machines may have yet to be ordered.
		coming = min(coming, s.own[m.Claim])
	}
	if charged && of.missing > free+coming {
		return false
	}
	s.use(of.missing, free, coming)
	return true
}

// keeps is how many of the nodes that a failed claim lacks are there or coming all the same, and takes them: what is missing beside
// them is asked of another pool.
func (s *supply) keeps(m *candidate, lacks int32, late bool) int32 {
	free, coming := max(0, s.freeFor(m)-s.usedFree), max(0, s.coming-s.usedComing)
	if late {
		coming = 0
	}
	return s.use(lacks, free, coming)
}

// use takes so many of what is there and coming, and returns how many there were.
func (s *supply) use(lacks, free, coming int32) int32 {
	now := min(lacks, free)
	later := min(lacks-now, coming)
	s.usedFree += now
	s.usedComing += later
	return now + later
}

// freeFor counts the nodes that are there and that a member could use.
func (s *supply) freeFor(m *candidate) int32 {
	count, known := s.free[m.shapeKey]
	if !known {
		if index := s.pool.indexFor(m); index != nil {
			count = index.usable(m, (*nodeCapacity).takeable)
		} else {
			for _, node := range s.pool.nodes {
				if node.takeable() && node.usable(m) {
					count++
				}
			}
		}
		s.free[m.shapeKey] = count
	}
	return count
}

// retries keeps the attempts of members that wait for the same pool apart: in step they would only take from each other what each
// could have had alone.
type retries struct {
	// waiting has when those that failed before are due, in order, last when the last of those was made that fail in this pass, both by
	// pool.
	waiting map[string][]time.Time
	last    map[string]time.Time
	failing int
}

func newRetries(members []*candidate, failing int) *retries {
	r := &retries{waiting: map[string][]time.Time{}, last: map[string]time.Time{}, failing: failing}
	for _, m := range members {
		if !m.waitsOut() || m.waitsForPods() {
			continue
		}
		for i := range m.growth.Failures {
			pool := m.growth.Failures[i].NodePool
			r.waiting[pool] = append(r.waiting[pool], m.growth.RetryAfter.Time)
		}
	}
	for _, times := range r.waiting {
		slices.SortFunc(times, time.Time.Compare)
	}
	return r
}

// after is when a growth is tried again that has failed in some pools: after its back-off, and up to half of it later.
func (r *retries) after(now time.Time, g *v1alpha1.Growth) time.Time {
	wait := backoff(g.Attempts)
	at, last := now.Add(wait), now.Add(wait+wait/2)
	others := r.failing
	for i := range g.Failures {
		others += len(r.waiting[g.Failures[i].NodePool])
	}
	gap := wait / 2 / time.Duration(max(8, others))
	for i := range g.Failures {
		if before := r.last[g.Failures[i].NodePool]; at.Before(before.Add(gap)) {
			at = before.Add(gap)
		}
	}
	for again := true; again && at.Before(last); {
		again = false
		for i := range g.Failures {
			times := r.waiting[g.Failures[i].NodePool]
			next, _ := slices.BinarySearchFunc(times, at.Add(-gap), func(t, after time.Time) int {
				if t.After(after) {
					return 1
				}
				return -1
			})
			if next < len(times) && times[next].Before(at.Add(gap)) {
				at, again = times[next].Add(gap), true
			}
		}
	}
	if at.After(last) {
		at = last
	}
	for i := range g.Failures {
		r.last[g.Failures[i].NodePool] = at
	}
	return at
}
