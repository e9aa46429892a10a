package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// growthRuns is how often TestGrowths creates MiniClusters that exceed their pool.
var growthRuns = flag.Int("e2e.growths", 4, "how often four MiniClusters are created that together exceed their pool")

// growthPool is the number of nodes of the pool that they compete for.
const growthPool = 8

// growthSizes draws the sizes of four MiniClusters, each of which fits the pool, and no number of which fills it. So whoever fills
// it all the same leaves one of them with a part.
func growthSizes(seed uint64) []int {
	random := rand.New(rand.NewPCG(seed, seed))
	for {
		sizes := make([]int, 4)
		for i := range sizes {
			sizes[i] = 2 + random.IntN(growthPool-3)
		}
		fills, sum := false, 0
		for chosen := range 1 << len(sizes) {
			sum = 0
			for i, size := range sizes {
				sum += size * (chosen >> i & 1)
			}
			fills = fills || sum == growthPool
		}
		// The last choice was all of them.
		if !fills && sum > growthPool {
			return sizes
		}
	}
}

// TestGrowths: four MiniClusters that together exceed their pool are created at once. It ends with whole ones that run and whole
// ones that wait, every time; without the annotation, on as many nodes, some are left with a part of their pods.
func TestGrowths(t *testing.T) {
	t.Parallel()
	t.Run("managed", func(t *testing.T) {
		t.Parallel()
		x := newTenant(t)
		// Nodes stay from one time to the next, so that the machines' boot is no part of it.
		pool := x.pool("hpc", growthPool, "200ms")
		x.scaleDownDelay(pool, "1h")
		for seed := range uint64(*growthRuns) {
			x.managedGrowths(seed, pool)
		}
		x.allForMembers(pool)
		x.scaleDownDelay(pool, "0s")
		x.end(pool)
	})
	t.Run("without us", func(t *testing.T) {
		t.Parallel()
		x := newTenant(t)
		pool := x.namespace + "-hpc"
		x.apply(`
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: %s}
spec:
  minSize: %[2]d
  maxSize: %[2]d
  autoscaler: None
  template:
    taints: [{key: example.com/dedicated, value: hpc, effect: NoSchedule}]
    capacity: {cpu: "4", memory: 16Gi, pods: "110"}
  machines: {kwok: {}}
`, pool, growthPool)
		x.until(func(s *history.State) string {
			return unless(s.ReadyNodes(pool) == growthPool, "%d nodes are Ready", s.ReadyNodes(pool))
		})
		halves := 0
		for seed := range uint64(*growthRuns) {
			halves += x.plainGrowths(seed, pool)
		}
		if halves == 0 {
			t.Errorf("in %d times no MiniCluster was left with a part of its pods: the test shows nothing", *growthRuns)
		}
		t.Logf("without us, %d of %d MiniClusters were left with a part of their pods", halves, 4**growthRuns)
		x.removePool(pool)
		x.poolGone(pool)
	})
}

// allForMembers expects that no machine of a pool was ordered for pods that Cluster Autoscaler has found without a node. There are
// none, and it would be as long as it takes until Cluster Autoscaler removes the machine again.
func (x *tenant) allForMembers(pool string) {
	x.Helper()
	x.look(func(s *history.State) {
		for name, m := range s.Machines {
			if m.Spec.NodePool == pool && m.Spec.Purpose != v1alpha1.PurposeReservation {
				x.Errorf("machine %s was ordered for %s, and only members want any", name, m.Spec.Purpose)
			}
		}
	})
}

// managedGrowths creates four, waits until whoever has room runs and the others wait, and takes away those that run until all
// have run.
func (x *tenant) managedGrowths(seed uint64, pool string) {
	x.Helper()
	sizes := growthSizes(seed)
	waiting := map[types.NamespacedName]int{}
	for i, size := range sizes {
		waiting[x.miniCluster(fmt.Sprintf("g%d-%d", seed, i), size, pool)] = size
	}
	for len(waiting) > 0 {
		var running []types.NamespacedName
		x.until(func(s *history.State) string {
			running = nil
			var unclear []string
			for cluster, size := range waiting {
				switch c := condition(s.Members[cluster], v1alpha1.ConditionCapacityReserved); {
				case notAtSize(s, cluster, size) == "":
					running = append(running, cluster)
				case c.reason == v1alpha1.ReasonPoolFull || c.reason == v1alpha1.ReasonQueued:
					if gated := len(x.gatedPods(s, cluster)); gated != size {
						unclear = append(unclear, fmt.Sprintf("%d of %d pods of %s are gated", gated, size, cluster))
					}
				default:
					unclear = append(unclear, notAtSize(s, cluster, size))
				}
			}
			return unless(len(unclear) == 0 && len(running) > 0, "sizes %v: %d run, and %s", sizes, len(running), strings.Join(unclear, "; "))
		})
		for _, cluster := range running {
			x.onHeldNodes(cluster)
			x.atRest(cluster)
			delete(waiting, cluster)
		}
		// Nothing changes until one of them goes.
		for cluster := range waiting {
			x.explainedAs(cluster, v1alpha1.ConditionCapacityReserved, []string{v1alpha1.ReasonPoolFull, v1alpha1.ReasonQueued}, "")
		}
		for _, cluster := range running {
			x.remove(cluster)
		}
		for _, cluster := range running {
			x.gone(cluster)
		}
	}
}

// plainGrowths creates four without the annotation, waits until the nodes are full, and counts those that have a part of their
// pods.
func (x *tenant) plainGrowths(seed uint64, pool string) (halves int) {
	x.Helper()
	sizes := map[types.NamespacedName]int{}
	for i, size := range growthSizes(seed) {
		sizes[x.plainMiniCluster(fmt.Sprintf("g%d-%d", seed, i), size, pool)] = size
	}
	x.until(func(s *history.State) string {
		halves = 0
		all, running := 0, 0
		for cluster, size := range sizes {
			of := 0
			for _, pod := range s.PodsOf(cluster) {
				all++
				if pod.Status.Phase == corev1.PodRunning {
					of++
				}
			}
			running += of
			if of > 0 && of < size {
				halves++
			}
		}
		return unless(running == growthPool && all > running, "%d of %d pods run", running, all)
	})
	for cluster := range sizes {
		x.remove(cluster)
	}
	for cluster := range sizes {
		x.gone(cluster)
	}
	return halves
}
