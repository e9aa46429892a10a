package plan

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// zoned selects the nodes of a zone.
type zoned string

func (z zoned) Matches(_ string, labels map[string]string) bool { return labels["zone"] == string(z) }
func (z zoned) String() string                                  { return "zone=" + string(z) }

// TestIndex: what the index of a pool's nodes says is what a look at each of them says, for members and nodes of all kinds, and while nodes
// are held and given back.
func TestIndex(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	indexed := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		one := func(of int) bool { return r.IntN(of) == 0 }
		observed := Observed{Pools: []Pool{{
			Name: "pool", MaxSize: 500, ProvisionTimeout: time.Minute, Labels: map[string]string{"zone": "a"},
			Allocatable: Resources{corev1.ResourceCPU: 64, "gpu": 4}, Daemons: []Daemon{{Name: "agent", Requests: Resources{corev1.ResourceCPU: 2}}},
		}}}
		for i := range indexNodes + r.IntN(100) {
			node := Node{
				Name: fmt.Sprintf("node-%d", i), Pool: "pool", Ready: !one(10), Leaving: one(20), Cordoned: one(20), CreatedAt: now.Add(-time.Hour),
				Allocatable: Resources{
					corev1.ResourceCPU: 60 + int64(r.IntN(8)), "gpu": 4,
				}, Requested: Resources{corev1.ResourceCPU: int64(r.IntN(70))},
				Labels: map[string]string{"zone": []string{"a", "b"}[r.IntN(2)]}, Daemons: Resources{corev1.ResourceCPU: int64(r.IntN(3))},
			}
			if one(8) {
				node.CreatedAt = now
			}
			if one(12) {
				delete(node.Allocatable, "gpu")
			}
			if one(12) {
				node.Labels = nil
			}
			if one(10) {
				node.Taints = []corev1.Taint{{Key: "taint", Effect: corev1.TaintEffectNoSchedule}}
			}
			observed.Nodes = append(observed.Nodes, node)
		}
		c := newCapacity(&observed, now)
		pool := c.pools["pool"]
		for n := range indexFrom + 60 {
			m := &Member{NodePools: []string{"pool"}, PodRequests: Resources{corev1.ResourceCPU: int64(r.IntN(70))}}
			if one(4) {
				m.PodRequests["gpu"] = 1
			}
			if one(4) {
				m.Tolerations = []corev1.Toleration{{Key: "taint", Operator: corev1.TolerationOpExists}}
			}
			if one(3) {
				m.Selects = zoned("b")
			}
			if one(3) {
				m.TopologyKey = "zone"
			}
			of := newCandidate(m, nil, c)
			if m.TopologyKey != "" && one(2) {
				of.setDomain("b")
			}
			if one(4) {
				of.avoided = map[string]time.Time{pool.nodes[r.IntN(len(pool.nodes))].Name: now}
			}
			node := pool.nodes[r.IntN(len(pool.nodes))]
			switch {
			case one(3) && node.holder != nil:
				node.free()
			case one(3) && node.holder == nil:
				c.hold(node, of)
			}
			index := pool.indexFor(of)
			if index == nil {
				continue
			}
			indexed++
			var wasted, usable int32
			var evidence []string
			for _, node := range pool.nodes {
				if node.wasted(of) {
					wasted++
				}
				if node.takeable() && node.usable(of) {
					usable++
				}
				if node.evidence(m) {
					evidence = append(evidence, node.Name)
				}
			}
			if got := index.wasted(of); got != wasted {
				t.Fatalf("seed %d, member %d: %d nodes are wasted, and the index says %d", seed, n, wasted, got)
			}
			if got := index.usable(of, (*nodeCapacity).takeable); got != usable {
				t.Fatalf("seed %d, member %d: %d nodes can be taken, and the index says %d", seed, n, usable, got)
			}
			if index.flawless(m) && len(evidence) > 0 {
				t.Fatalf("seed %d, member %d: the index says that no node is evidence, and there are %s", seed, n, strings.Join(evidence, ", "))
			}
		}
	}
	if indexed < 1000 {
		t.Errorf("an index was asked %d times only", indexed)
	}
}
