package plan_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// BenchmarkPlan measures a pass over a cluster in which each tenth member wants to grow and all others are at
// rest. The nodes are divided evenly among pools and members; a tenth of them is free.
func BenchmarkPlan(b *testing.B) {
	for _, size := range []struct{ members, pools, nodes int }{
		{100, 10, 1_000}, {1_000, 100, 10_000}, {10_000, 1_000, 100_000},
		// The largest with a tenth of the members, a tenth of the pools, a fifth of the nodes: what each of them costs.
		{1_000, 1_000, 100_000}, {10_000, 100, 100_000}, {10_000, 1_000, 20_000},
	} {
		b.Run(fmt.Sprintf("members=%d/pools=%d/nodes=%d", size.members, size.pools, size.nodes), func(b *testing.B) {
			observed := large(size.members, size.pools, size.nodes)
			b.ReportAllocs()
			for b.Loop() {
				plan.Plan(observed, noon)
			}
		})
	}
}

// BenchmarkPlanInDomains measures the largest of these passes where all members have to be in one zone: in pools of one, and
// in pools of which each node says where it is. The last row is one pool in which all members begin at once and choose.
func BenchmarkPlanInDomains(b *testing.B) {
	zones := []string{"x", "y", "z"}
	labels := make([]map[string]string, len(zones))
	for i, zone := range zones {
		labels[i] = map[string]string{zoneKey: zone}
	}
	for name, observed := range map[string]plan.Observed{
		"pools=zoned": large(10_000, 999, 100_000), "pools=spanning": large(10_000, 999, 100_000), "pools=one": large(10_000, 1, 100_000),
	} {
		for i := range observed.Pools {
			if name == "pools=zoned" {
				observed.Pools[i].Labels = labels[i%len(zones)]
			}
		}
		for i := range observed.Members {
			m := &observed.Members[i]
			m.TopologyKey = zoneKey
			if name == "pools=one" {
				m.Reservations, m.Pods = nil, nil
			}
		}
		for i := range observed.Nodes {
			n := &observed.Nodes[i]
			of := i / 9
			if i >= 90_000 {
				of = i
			}
			n.Labels = labels[of%999%len(zones)]
			if name == "pools=one" {
				n.Requested = nil
			}
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				plan.Plan(observed, noon)
			}
		})
	}
}

func large(members, pools, nodes int) plan.Observed {
	var o plan.Observed
	allocatable := plan.Resources{corev1.ResourceCPU: 4000, corev1.ResourceMemory: 16 << 30, corev1.ResourcePods: 110}
	for p := range pools {
		o.Pools = append(o.Pools, plan.Pool{
			Name: fmt.Sprintf("pool-%d", p), MaxSize: int32(nodes), ProvisionTimeout: time.Hour, Allocatable: allocatable,
		})
	}
	each := nodes * 9 / 10 / members
	for m := range members {
		pool := fmt.Sprintf("pool-%d", m%pools)
		member := plan.Member{
			Key:   types.NamespacedName{Namespace: "default", Name: fmt.Sprintf("member-%d", m)},
			Wants: int32(each), Size: int32(each), NodePools: []string{pool},
			PodRequests: plan.Resources{corev1.ResourceCPU: 3000, corev1.ResourcePods: 1},
		}
		var held []string
		for i := range each {
			name := fmt.Sprintf("node-%d-%d", m, i)
			held = append(held, name)
			member.Pods = append(member.Pods, plan.Pod{Index: int32(i), Node: name})
			o.Nodes = append(o.Nodes, plan.Node{
				Name: name, Pool: pool, Ready: true, Reserved: true, Allocatable: allocatable,
				Requested: plan.Resources{corev1.ResourceCPU: 3000, corev1.ResourcePods: 1},
			})
		}
		member.Reservations = []v1alpha1.Reservation{{NodePool: pool, Nodes: int32(each), Held: held}}
		if m%10 == 0 {
			member.Wants += 5
		}
		o.Members = append(o.Members, member)
	}
	for n := len(o.Nodes); n < nodes; n++ {
		o.Nodes = append(o.Nodes, plan.Node{
			Name: fmt.Sprintf("free-%d", n), Pool: fmt.Sprintf("pool-%d", n%pools), Ready: true, Allocatable: allocatable,
		})
	}
	return o
}

// BenchmarkPlanShapes measures a pass in which 2,000 members ask for a node of a pool whose 5,000 nodes are full of others' pods: members
// of one shape, members of which no two are alike, and the latter on nodes of which no two are.
func BenchmarkPlanShapes(b *testing.B) {
	for _, size := range []struct {
		name              string
		members, nodes    int
		alike, nodesAlike bool
	}{
		{"one", 2_000, 5_000, true, true}, {"distinct", 2_000, 5_000, false, true}, {"distinct/nodes=distinct", 2_000, 5_000, false, false},
	} {
		observed := filled(size.members, size.nodes)
		for i := range observed.Members {
			if !size.alike {
				observed.Members[i].PodRequests[corev1.ResourceCPU] += int64(i)
			}
		}
		for i := range observed.Nodes {
			if !size.nodesAlike {
				observed.Nodes[i].Requested[corev1.ResourceCPU] -= int64(i % 900)
			}
		}
		b.Run("shapes="+size.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				plan.Plan(observed, noon)
			}
		})
	}
}

// filled is a pool as large as it may be, whose nodes have no room for the members that want some.
func filled(members, nodes int) plan.Observed {
	allocatable := plan.Resources{corev1.ResourceCPU: 64_000, corev1.ResourceMemory: 256 << 30, corev1.ResourcePods: 110}
	o := plan.Observed{Pools: []plan.Pool{{Name: "pool", MaxSize: int32(nodes), ProvisionTimeout: time.Hour, Allocatable: allocatable}}}
	for n := range nodes {
		o.Nodes = append(o.Nodes, plan.Node{
			Name: fmt.Sprintf("node-%d", n), Pool: "pool", Ready: true, Allocatable: allocatable,
			Requested: plan.Resources{corev1.ResourceCPU: 64_000, corev1.ResourceMemory: 64 << 30, corev1.ResourcePods: 30},
		})
	}
	for m := range members {
		o.Members = append(o.Members, plan.Member{
			Key:   types.NamespacedName{Namespace: "default", Name: fmt.Sprintf("member-%d", m)},
			Wants: 1, NodePools: []string{"pool"},
			PodRequests: plan.Resources{corev1.ResourceCPU: 1000, corev1.ResourceMemory: 1 << 30, corev1.ResourcePods: 1},
		})
	}
	return o
}
