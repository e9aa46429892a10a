package simulation

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// observe is what the controller's caches know, as plain values.
func (c *controller) observe() plan.Observed {
	w := c.world
	var o plan.Observed
	for _, p := range w.pools.caches[c.reads].items {
		pool := planPool(p)
		pool.Coming = c.coming(p.name)
		if of := &pool.OutOfStock; c.unseen(of) {
			*of = plan.Stockout{}
		}
		o.Pools = append(o.Pools, pool)
	}
	use, pods := map[string]*usage{}, map[string]*podsSeen{}
	for _, p := range w.pods.caches[c.reads].items {
		if p.placed() != "" {
			usageOf(use, p.placed()).add(p)
		}
		if p.member != "" {
			podsOf(pods, p.member).add(p)
		}
	}
	for _, n := range w.nodes.caches[c.reads].items {
		used := usageOf(use, n.name)
		node := plan.Node{
			Name: n.name, Pool: n.pool, Ready: n.ready && !n.starting, Cordoned: n.cordoned, Leaving: n.tainted, Releasing: n.ours,
			Reserved:  n.reserved,
			CreatedAt: n.createdAt, Allocatable: offered(n.cpu, n.devices), Labels: n.labels,
			Requested: used.requested, Daemons: used.daemons,
		}
		if n.foreign != "" {
			node.Taints = []corev1.Taint{{Key: n.foreign, Effect: corev1.TaintEffectNoSchedule}}
		}
		if m := c.machineOf(n); m != nil {
			node.Order = m.order.ID
		}
		if n.pool == "" || c.place(n, &node) {
			o.Nodes = append(o.Nodes, node)
		}
	}
	for _, m := range w.members.caches[c.reads].items {
		value := planMember(m, w.clusters.caches[c.reads].get(m.name))
		podsOf(pods, m.name).describe(&value)
		if len(value.Lacking) > 0 {
			// The Job's events are read when somebody asks, and not from a cache.
			value.NotMade = w.jobs.notMade[m.name]
		}
		o.Members = append(o.Members, value)
	}
	return o
}

// usage is what pods request of a node.
type usage struct{ requested, daemons plan.Resources }

func usageOf(all map[string]*usage, node string) *usage {
	u := all[node]
	if u == nil {
		none := func() plan.Resources { return plan.Resources{corev1.ResourceCPU: 0, corev1.ResourcePods: 0} }
		u = &usage{requested: none(), daemons: none()}
		all[node] = u
	}
	return u
}

func (u *usage) add(p *podObject) {
	u.requested.Add(p.requests())
	if p.daemon != "" {
		u.daemons.Add(p.requests())
	}
}

func (p *podObject) requests() plan.Resources {
	out := plan.Resources{corev1.ResourceCPU: p.cpu, corev1.ResourcePods: 1}
	if p.devices > 0 {
		out[device] = p.devices
	}
	return out
}

// podsSeen are the pods of a member as the cache has them.
type podsSeen struct {
	pods             []plan.Pod
	gated, succeeded []int32
	exist, running   map[int32]bool
	requests         plan.Resources
	selects          labels
	any              bool
	// waiting is the number of pods that the scheduler finds no node for, stuck that of those which do not start, with why.
	waiting, stuck int
	refusal, why   string
}

func podsOf(all map[string]*podsSeen, member string) *podsSeen {
	s := all[member]
	if s == nil {
		s = &podsSeen{exist: map[int32]bool{}, running: map[int32]bool{}}
		all[member] = s
	}
	return s
}

func (s *podsSeen) add(p *podObject) {
	s.exist[p.index] = true
	if p.succeeded {
		s.succeeded = append(s.succeeded, p.index)
		return
	}
	if !s.any {
		s.any, s.requests, s.selects = true, plan.Resources{}, p.selects
	}
	for name, amount := range p.requests() {
		s.requests[name] = max(s.requests[name], amount)
	}
	if p.running {
		s.running[p.index] = true
	}
	switch {
	case p.waits():
		seeWaiting(p, s)
	case p.node != "":
		s.pods = append(s.pods, plan.Pod{Index: p.index, Node: p.node})
	}
	if p.refusal != "" {
		s.waiting, s.refusal = s.waiting+1, p.refusal
	}
	if p.stuck != "" {
		s.stuck, s.why = s.stuck+1, p.stuck
	}
}

// describe gives a member its pods.
func (s *podsSeen) describe(m *plan.Member) {
	m.Pods, m.Gated = s.pods, s.gated
	active := map[int32]bool{}
	for i := range s.pods {
		active[s.pods[i].Index] = true
	}
	for _, rank := range s.gated {
		active[rank] = true
	}
	m.Succeeded = slices.DeleteFunc(slices.Clone(s.succeeded), func(rank int32) bool { return active[rank] })
	for rank := range m.Size {
		switch {
		case !s.exist[rank]:
			m.Lacking = append(m.Lacking, rank)
		case s.running[rank]:
			m.Running++
		}
	}
	if s.any && m.PodRequests != nil {
		for name, amount := range s.requests {
			m.PodRequests[name] = max(m.PodRequests[name], amount)
		}
		m.Selects = s.selects.selector()
	}
	switch {
	case s.stuck > 0:
		m.NotStarted = fmt.Sprintf("%d of %d pods do not start: %s", s.stuck, m.Size, s.why)
	case s.waiting > 0:
		m.NotStarted = fmt.Sprintf("the scheduler finds no node for %d of %d pods: %s", s.waiting, m.Size, s.refusal)
	}
}

func planPool(p *poolObject) plan.Pool {
	out := plan.Pool{
		Name: p.name, Paused: p.paused, MaxSize: p.maxSize, ProvisionTimeout: p.provisionTimeout, Allocatable: offered(p.cpu, p.devices),
		Labels: p.labels, Daemons: p.daemons, Basis: p.basis(), AllowedNamespaces: p.allowed.selector(),
	}
	if p.lastFailure != nil && p.lastFailure.Class == v1alpha1.FailureOutOfResources {
		out.OutOfStock = plan.Stockout{At: p.lastFailure.At, Message: p.lastFailure.Message}
		if slices.Contains(p.failed, p.lastFailed) {
			out.OutOfStock.Machine = p.lastFailed
		}
	}
	if p.floor > p.target && !p.floorChangedAt.IsZero() {
		out.Stall = plan.Stall{Since: p.floorChangedAt, Cause: "Cluster Autoscaler has not raised the target"}
	}
	return out
}

// basis stands for a hash of the template, the machines and the DaemonSets.
func (p *poolObject) basis() string {
	return fmt.Sprintf("%d, %d, %v, %v, %d", p.cpu, p.devices, p.labels, p.daemons, p.edited)
}

// coming counts the machines of a pool that have no node yet, by their orders.
func (c *controller) coming(pool string) map[string]int32 {
	w := c.world
	out := map[string]int32{}
	for _, m := range w.machines.caches[c.reads].items {
		if m.pool == pool && m.failure == nil && !m.leaves() && w.nodes.caches[c.reads].get(m.nodeName) == nil {
			out[m.order.ID]++
		}
	}
	return out
}

// recordsAfter is how long after a machine has failed its pool is believed without its record, as in package resize.
const recordsAfter = 30 * time.Second

// unseen reports whether the record of the machine by which a pool has failed has not been seen to say so.
func (c *controller) unseen(of *plan.Stockout) bool {
	if of.Machine == "" {
		return false
	}
	if m := c.world.machines.caches[c.reads].get(of.Machine); m != nil && m.leaves() {
		return false
	}
	until := of.At.Add(recordsAfter)
	if !c.world.now.Before(until) {
		return false
	}
	c.next = sooner(c.next, until)
	return true
}

func planMember(m *memberObject, cluster *clusterObject) plan.Member {
	value := plan.Member{
		Kind: "MiniCluster", Job: "Job of the MiniCluster",
		Key: types.NamespacedName{Namespace: "default", Name: m.name}, Lifecycle: plan.Deleting,
		Wants: m.wants, MinSize: m.minSize, Size: m.size, FormerSize: m.size, NodePools: m.pools, GrowthPolicy: m.policy, Placement: m.placement,
		PodsPerNode: m.podsPerNode, GiveUpAfter: m.giveUpAfter, Reservations: m.reservations, Growth: m.growth,
		TopologyKey: m.topologyKey, TopologyDomain: m.domain, Avoided: m.avoided,
		Findings: m.findings, PodsLacking: m.podsLacking, Claim: m.claim(), NamespaceLabels: m.namespaceLabels,
	}
	if cluster == nil {
		return value
	}
	value.Size, value.SizeGiven, value.Invalid = cluster.size, m.adopted == cluster.generation, cluster.invalid
	if cluster.invalid != "" {
		// What was read last.
		value.Size = m.size
	}
	value.PodRequests, value.Selects = offered(m.podCPU(), m.deviceCount()), m.selects.selector()
	value.PodRequests[corev1.ResourcePods] = 1
	switch {
	case cluster.deleting:
	case cluster.finished:
		value.Lifecycle = plan.Finished
	case cluster.suspended:
		value.Lifecycle = plan.Suspended
	default:
		value.Lifecycle = plan.Running
	}
	return value
}

// claim is the id of the orders for the growth that is under way, empty for none.
func (m *memberObject) claim() string {
	if m.growth == nil {
		return ""
	}
	return fmt.Sprintf("%s-%d", m.name, m.growth.Since.UnixMicro())
}
