package plan

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// candidate is a member on its way through a pass.
type candidate struct {
	*Member
	// gang are the groups of its workload where there are several, of which it is the one of this order; nil for none.
	gang  *gang
	order int
	// ids are what the observer calls its pods, by their ranks; nil where that is their ranks.
	ids []int32
	// shapeKey is that of the member's shape, in the domain that it is in at the moment.
	shapeKey string
	topology

	// perNode is how many pods of the member share a node.
	perNode int32
	// places are the nodes that its pods are on, in the order of the pods, heldBefore those that its status lists as held, in
	// their order; nil where there is none in any pool.
	places, heldBefore []*nodeCapacity
	// held are the nodes held for the member, in the order in which they were taken.
	held []*nodeCapacity
	// stranded are the released pods that cannot get to their nodes. They count as pods that are not there.
	stranded []Stranded
	// avoided are the nodes that the scheduler has kept its pods off, until when each.
	avoided map[string]time.Time
	// needless are, in order, the ranks of the member's size that need no node of its pools: those with a pod outside of them, those
	// that have succeeded, and those whose nodes were given back because their pods did not come.
	needless []int32
	// lacking are, in order, the ranks of its size that have no pod, podsLacking what is recorded of them, nil for nothing. forgone
	// counts those of them that need no node.
	lacking     []int32
	podsLacking *v1alpha1.PodsLacking
	forgone     int32
	// shrink is the size to go back to because the pods beyond it did not come, 0 for none.
	shrink int32
	// refused are the nodes that the scheduler keeps its pods off at the moment.
	refused []refusedNode
	// findings is what is known about pools, by pool.
	findings map[string]*v1alpha1.PoolFinding
	// atGrant is the number of nodes that were of no use when a pool granted the claim in this pass, by pool.
	atGrant nodesByPool
	// unreplaced has the pools of which more nodes are of no use than are replaced.
	unreplaced []*poolCapacity

	// current is the pool that missing nodes come from.
	current string
	// kept are the nodes that stay claimed of pools that have failed in this pass, by pool. Of other pools all do.
	kept nodesByPool
	// stillComing is what comes of pools that have failed in this pass though they do not have all.
	stillComing nodesByPool
	// fellBack is set when a pool has failed in this pass and others are left to be asked.
	fellBack bool
	// asked are the pools that had no room for the growth but may have some time.
	asked []*poolCapacity

	// unclaimed is how many nodes of each pool pods are on that stay, and which the member does not claim.
	unclaimed nodesByPool
	// grantedBefore is the number of nodes that the last pass had granted.
	grantedBefore int32
	// claims are the nodes granted in this pass, by pool.
	claims nodesByPool
	// growth is the growth that is under way, nil for none.
	growth *v1alpha1.Growth
	// ended is the growth that seems to have all its nodes. It has when they are there without those that are given back.
	ended *v1alpha1.Growth

	// refusal says why the growth has no nodes, nil when it has.
	refusal *refusal
	notes   []Note
}

// refusal is the reason for which a growth was not granted its nodes.
type refusal struct {
	reason, message string
	// permanent is set when waiting does not help, so that the growth does not hold others back.
	permanent bool
}

// newCandidate is a member, or a group of a gang, which is nil for one that has no others.
func newCandidate(m *Member, g *gang, capacity *capacity) *candidate {
	m, ids := g.read(m, capacity)
	c := &candidate{
		Member: m, ids: ids, shapeKey: m.shape(), perNode: podsPerNode(m, capacity),
		places: make([]*nodeCapacity, len(m.Pods)),
	}
	if g != nil {
		c.gang, c.order = g, len(g.groups)
		g.groups = append(g.groups, c)
	}
	c.remember(capacity.now)
	for i := range m.Pods {
		node := capacity.nodes[m.Pods[i].Node]
		if why := capacity.strands(&m.Pods[i], node); why != "" {
			c.stranded = append(c.stranded, Stranded{Index: c.id(m.Pods[i].Index), Why: why})
			c.avoid(&m.Pods[i], node, capacity.now)
			c.refuse(&m.Pods[i], node)
			continue
		}
		if node != nil {
			c.places[i] = node
			node.addPod(c, m.Pods[i].Index < m.Size)
		}
	}
	held := 0
	for i := range m.Reservations {
		held += len(m.Reservations[i].Held)
	}
	c.heldBefore, c.held = make([]*nodeCapacity, 0, held), make([]*nodeCapacity, 0, max(held, len(m.Pods)))
	for i := range m.Reservations {
		for _, name := range m.Reservations[i].Held {
			c.heldBefore = append(c.heldBefore, capacity.nodes[name])
		}
	}
	if len(c.avoided) > 0 {
		for _, name := range slices.Sorted(maps.Keys(c.avoided)) {
			c.shapeKey += "not " + name + ";"
		}
	}
	c.grantedBefore = reserved(m.Reservations)
	c.growth = m.Growth.DeepCopy()
	if c.growth != nil && slices.Contains(c.NodePools, c.growth.NodePool) {
		c.current = c.growth.NodePool
	} else if len(c.NodePools) > 0 {
		c.current = c.NodePools[0]
	}
	if m.TopologyKey != "" && g == nil {
		findDomain([]*candidate{c}, capacity)
	}
	return c
}

// asks are the pools that missing nodes can be asked of, in order of preference: those that have not failed. The nodes of
// one growth come from one pool where the member says so.
func (c *candidate) asks() []string {
	if c.growth == nil {
		return c.NodePools
	}
	if c.Placement == v1alpha1.PlacementSingle && c.growth.GrantedAt != nil {
		return []string{c.current}
	}
	var names []string
	for _, name := range c.NodePools {
		if !slices.ContainsFunc(c.growth.Failures, func(f v1alpha1.PoolFailure) bool {
			return f.NodePool == name && f.Reason != v1alpha1.ReasonPodsNotMade
		}) {
			names = append(names, name)
		}
	}
	return names
}

// canFallBack reports whether what a pool does not have is asked of another one, while what it has stays.
func (c *candidate) canFallBack(from string) bool {
	return c.Placement != v1alpha1.PlacementSingle && slices.ContainsFunc(c.asks(), func(name string) bool { return name != from })
}

// missesFailed reports whether the growth, of which nothing is outstanding, cannot ask pools that have failed before. That
// was when it was smaller, and they may have machines again: it waits out the failure and asks again.
func (c *candidate) missesFailed() bool {
	return c.growth != nil && len(c.growth.Failures) > 0 && c.growth.Deadline == nil && !c.waitsOut()
}

// stayClaimed is the number of nodes of a pool that need not be asked for.
func (c *candidate) stayClaimed(pool string) int32 {
	if kept, failed := c.kept.get(pool); failed {
		return min(kept, c.mayKeep(pool))
	}
	return c.mayKeep(pool)
}

// enlarge makes the growth one to a larger size. What is reserved already keeps its deadline.
func (c *candidate) enlarge(size int32, now metav1.MicroTime) {
	c.growth.From, c.growth.Size, c.growth.Since, c.growth.Attempts = c.growsFrom(), size, now, 0
	if c.waitsOut() {
		c.forgetFailed()
	}
}

// forgetFailed forgets which pools have failed.
func (c *candidate) forgetFailed() {
	c.growth.RetryAfter, c.growth.Failures, c.growth.Partial = nil, nil, false
}

// partial reports whether the member takes what there is of its growth.
func (c *candidate) partial() bool {
	return c.GrowthPolicy == v1alpha1.GrowthGreedy ||
		(c.GrowthPolicy == v1alpha1.GrowthBestEffort && c.growth != nil && c.growth.Partial)
}

// mayHold reports whether nodes of a pool can be held for the member: those of its list, and those that
// it claimed before its list was edited.
func (c *candidate) mayHold(pool string) bool {
	return slices.Contains(c.NodePools, pool) || slices.ContainsFunc(c.Reservations, func(r v1alpha1.Reservation) bool {
		return r.NodePool == pool
	})
}

// waitsOut reports whether the member waits out a failure.
func (c *candidate) waitsOut() bool { return c.growth != nil && c.growth.RetryAfter != nil }

// spread divides the nodes of a size among the pools: first those that pods are on which stay, unless they are about to go: what takes
// their place is claimed where it can be had. Then those that are there, then those that were claimed before, of other pools of the list
// before the current one, and the rest of the current pool.
func (c *candidate) spread(size int32) nodesByPool {
	var claims nodesByPool
	left := c.nodesFor(size)
	for _, node := range c.held {
		if left > 0 && node.stays > 0 && !node.Leaving {
			claims.add(node.Pool, 1)
			left--
		}
	}
	keep := func(name string, most int32) {
		nodes := min(left, most, max(0, c.stayClaimed(name)-claims.of(name)))
		claims.add(name, nodes)
		left -= nodes
	}
	for _, name := range c.NodePools {
		if left > 0 && name != c.current {
			keep(name, c.spareIn(name))
		}
	}
	if left > 0 {
		keep(c.current, c.spareIn(c.current))
	}
	for _, name := range c.NodePools {
		if left > 0 && name != c.current {
			keep(name, left)
		}
	}
	claims.add(c.current, left)
	return claims
}

// claimedBefore is the number of nodes of a pool that the last pass had granted.
func (c *candidate) claimedBefore(pool string) int32 {
	if r := c.reservation(pool); r != nil {
		return r.Nodes
	}
	return 0
}

// recordedClaims are those that the last pass has left, by pool.
func (c *candidate) recordedClaims() nodesByPool {
	var claims nodesByPool
	for i := range c.Reservations {
		claims.add(c.Reservations[i].NodePool, c.Reservations[i].Nodes)
	}
	return claims
}

// growthSize is the size that the member's next reservation has to reach: that of the MiniCluster while it
// has not been reserved, or pods of it do not come, then the desired size. A desired size below the size needs no nodes.
func (c *candidate) growthSize() int32 {
	switch {
	case c.lacksClaims() || c.forgone > 0:
		return c.Size
	case c.growsAsOne() && slices.ContainsFunc(c.gang.groups, (*candidate).lacksClaims):
		// The present sizes of all groups come first. What was granted to a larger one stays.
		if c.growth != nil && c.grantedBefore >= c.nodesFor(min(c.Wants, c.growth.Size)) {
			return max(c.Size, min(c.Wants, c.growth.Size))
		}
		return c.Size
	default:
		return max(c.Size, c.Wants)
	}
}

// lacksClaims reports whether the last pass has not granted the nodes of the member's present size.
func (c *candidate) lacksClaims() bool { return c.grantedBefore < c.nodesFor(c.Size) }

// edited reports whether somebody has written a larger size into the MiniCluster since the last pass. Its pods are a growth,
// though nodes that they share may need no others beside them.
func (c *candidate) edited() bool { return c.SizeGiven && c.FormerSize > 0 && c.Size > c.FormerSize }

// growsFrom is the size from which a growth that begins now would grow: 0 while the MiniCluster's present
// size has not been reserved, or has just been written by somebody else.
func (c *candidate) growsFrom() int32 {
	if c.grantedBefore < c.nodesFor(c.Size) || c.edited() {
		return 0
	}
	return c.Size
}

// resized reports whether the growth has reached its end: the controller has given the MiniCluster its new size. What
// becomes of its nodes after that is not the growth's concern.
func (c *candidate) resized() bool {
	return c.growth != nil && c.growth.From > 0 && c.Size > c.growth.From && c.Size >= c.growth.Size && !c.SizeGiven && !c.waitsOut()
}

// claimed is the number of nodes granted in this pass.
func (c *candidate) claimed() int32 {
	var sum int32
	for _, of := range c.claims {
		sum += of.nodes
	}
	return sum
}

// inUse is the number of held nodes that pods of the member are on which stay.
func (c *candidate) inUse() int32 {
	var count int32
	for _, node := range c.held {
		if node.stays > 0 {
			count++
		}
	}
	return count
}

// idle counts the held nodes that are Ready and have no pod of the member.
func (c *candidate) idle() int32 {
	var count int32
	for _, node := range c.held {
		if node.Ready && node.pods == 0 {
			count++
		}
	}
	return count
}

// ready counts the held nodes that are Ready and can take, or have, a pod of the member. A pod that has yet to leave
// keeps its node from another one.
func (c *candidate) ready() int32 {
	var count int32
	for _, node := range c.held {
		if c.serves(node) {
			count++
		}
	}
	return count
}

func (c *candidate) note(reason, message string) {
	c.notes = append(c.notes, Note{Reason: reason, Message: message})
}

func (c *candidate) warn(reason, message string) {
	c.notes = append(c.notes, Note{Reason: reason, Message: message, Warning: true})
}

// byRequest orders growths by the time at which they were asked for, then by key.
func byRequest(a, b *candidate) int {
	return cmp.Or(a.since().Compare(b.since()), byKey(a, b))
}

// byKey orders members by their keys, and the groups of a gang as they were observed.
func byKey(a, b *candidate) int {
	return cmp.Or(
		strings.Compare(a.Key.Namespace, b.Key.Namespace), strings.Compare(a.Key.Name, b.Key.Name), cmp.Compare(a.order, b.order),
	)
}

func (c *candidate) since() time.Time {
	if c.growth == nil {
		return time.Time{}
	}
	return c.growth.Since.Time
}

// reservations are the claims and held nodes as the member's status records them.
func (p *pass) reservations(c *candidate) []v1alpha1.Reservation {
	var counts nodesByPool
	for _, node := range c.held {
		counts.add(node.Pool, 1)
	}
	var out []v1alpha1.Reservation
	// The pools of the list come first, in its order, so that the status reads as the preference does.
	names := slices.Clone(c.NodePools)
	for _, of := range counts {
		if !slices.Contains(names, of.pool) {
			names = append(names, of.pool)
		}
	}
	slices.Sort(names[len(c.NodePools):])
	for _, name := range names {
		claim, held := c.claims.of(name), counts.of(name)
		if claim == 0 && held == 0 {
			continue
		}
		r := v1alpha1.Reservation{NodePool: name, Nodes: claim, Held: c.heldNames(name, held)}
		if pool := p.capacity.pools[name]; pool != nil {
			p.occupy(c, pool, &r)
		}
		out = append(out, r)
	}
	return out
}

// heldNames are the names of the nodes held of one pool, of which there are so many, in order; nil for none.
func (c *candidate) heldNames(pool string, count int32) []string {
	if count == 0 {
		return nil
	}
	names := make([]string, 0, count)
	for _, node := range c.held {
		if node.Pool == pool {
			names = append(names, node.Name)
		}
	}
	slices.Sort(names)
	return names
}

// usableIn counts the held nodes of one pool that are Ready and can take, or have, a pod of the member.
func (c *candidate) usableIn(pool string) int32 {
	var count int32
	for _, node := range c.held {
		if node.Pool == pool && c.serves(node) {
			count++
		}
	}
	return count
}

// spareIn counts the held nodes of one pool that could take a pod of the member and have none that stays.
func (c *candidate) spareIn(pool string) int32 {
	var count int32
	for _, node := range c.held {
		if node.Pool == pool && node.stays == 0 && c.serves(node) {
			count++
		}
	}
	return count
}

// stayingIn counts the held nodes of one pool that pods are on which stay.
func (c *candidate) stayingIn(pool string) int32 {
	var count int32
	for _, node := range c.held {
		if node.Pool == pool && node.stays > 0 && !node.Leaving {
			count++
		}
	}
	return count
}

// lasting counts the held nodes of one pool that are not about to go. The others are held until their pods have left them, beside
// those that take their place.
func (c *candidate) lasting(pool string) int32 {
	var count int32
	for _, node := range c.held {
		if node.Pool == pool && !node.Leaving {
			count++
		}
	}
	return count
}

// heldReady counts the held nodes of one pool that are Ready and not about to go.
func (c *candidate) heldReady(pool string) int32 {
	var count int32
	for _, node := range c.held {
		if node.Pool == pool && node.Ready && !node.Leaving {
			count++
		}
	}
	return count
}

func microTime(t time.Time) metav1.MicroTime {
	// An API object keeps microseconds; a plan that kept more would differ from what it reads back.
	return metav1.MicroTime{Time: t.Truncate(time.Microsecond)}
}
