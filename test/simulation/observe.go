package simulation

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// observe is what the controller's caches know, as plain values.
func (c *controller) observe() plan.Observed {
	w := c.world
	var o plan.Observed
	for _, p := range w.pools.caches[controllerCache].items {
		o.Pools = append(o.Pools, planPool(p))
	}
	cpu, count := map[string]int64{}, map[string]int64{}
	pods, gated := map[string][]plan.Pod{}, map[string][]int32{}
	for _, p := range w.pods.caches[controllerCache].items {
		if p.waits() {
			seeWaiting(p, gated, pods)
		}
		if p.placed() == "" {
			continue
		}
		cpu[p.placed()] += p.cpu
		count[p.placed()]++
		if p.member != "" && p.node != "" {
			pods[p.member] = append(pods[p.member], plan.Pod{Index: p.index, Node: p.node})
		}
	}
	for _, n := range w.nodes.caches[controllerCache].items {
		node := plan.Node{
			Name: n.name, Pool: n.pool, Ready: n.ready && !n.starting, Cordoned: n.cordoned, Leaving: n.tainted, Reserved: n.reserved,
			CreatedAt: n.createdAt, Allocatable: offered, Labels: n.labels,
			Requested: plan.Resources{corev1.ResourceCPU: cpu[n.name], corev1.ResourcePods: count[n.name]},
		}
		if n.pool == "" || c.place(n, &node) {
			o.Nodes = append(o.Nodes, node)
		}
	}
	for _, m := range w.members.caches[controllerCache].items {
		value := planMember(m, w.clusters.caches[controllerCache].get(m.name))
		value.Pods, value.Gated = pods[m.name], gated[m.name]
		o.Members = append(o.Members, value)
	}
	return o
}

func planPool(p *poolObject) plan.Pool {
	out := plan.Pool{Name: p.name, Paused: p.paused, MaxSize: p.maxSize, ProvisionTimeout: p.provisionTimeout, Allocatable: offered,
		Labels: p.labels}
	if p.lastFailure != nil && p.lastFailure.Class == v1alpha1.FailureOutOfResources {
		out.OutOfStock = plan.Stockout{At: p.lastFailure.At, Message: p.lastFailure.Message}
	}
	if p.floor > p.target && !p.floorChangedAt.IsZero() {
		out.Stall = plan.Stall{Since: p.floorChangedAt, Cause: "Cluster Autoscaler has not raised the target"}
	}
	return out
}

func planMember(m *memberObject, cluster *clusterObject) plan.Member {
	value := plan.Member{
		Key: types.NamespacedName{Namespace: "default", Name: m.name}, Lifecycle: plan.Deleting,
		Wants: m.wants, MinSize: m.minSize, Size: m.size, FormerSize: m.size, NodePools: m.pools, GrowthPolicy: m.policy, Placement: m.placement,
		PodsPerNode: m.podsPerNode, GiveUpAfter: m.giveUpAfter, Reservations: m.reservations, Growth: m.growth,
		TopologyKey: m.topologyKey, TopologyDomain: m.domain, Avoided: m.avoided,
	}
	if cluster == nil {
		return value
	}
	value.Size, value.SizeGiven = cluster.size, m.adopted == cluster.generation
	value.PodRequests = plan.Resources{corev1.ResourceCPU: m.podCPU(), corev1.ResourcePods: 1}
	switch {
	case cluster.deleting:
	case cluster.finished:
		value.Lifecycle = plan.Finished
	default:
		value.Lifecycle = plan.Running
	}
	return value
}
