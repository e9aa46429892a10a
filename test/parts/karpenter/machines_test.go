package karpenter_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/parts/karpenter"
)

// blocked is how long an ordinary workload of Karpenter may wait at the most, on a busy machine, while something fails for us: a claim
// that cannot be launched is kept for 10 s, and Karpenter makes nothing meanwhile. Cluster Autoscaler, which leaves a pool alone for
// minutes elsewhere, asks again after seconds here.
const blocked = 90 * time.Second

// unlaunched is how long the claim of a machine is without a provider id at the most where Karpenter and the provider run: 10 s from when
// the provider has seen that Karpenter could not launch it, and what that and its deletion take on a busy machine. Karpenter would try for
// 5 minutes.
const unlaunched = 20 * time.Second

// TestGrowAndShrink: nodes come before pods, and those that go are those of the ranks that went, and no others.
func TestGrowAndShrink(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	pool := x.pool("hpc", pool{maxSize: 10})
	cluster := x.cluster("m", 2, pool)
	x.atSize(cluster, 2)
	x.machines(pool, 2)
	x.scale(cluster, 5)
	x.atSize(cluster, 5)
	x.machines(pool, 5)
	stay := x.nodesOf(cluster, 2)
	x.scale(cluster, 2)
	x.atSize(cluster, 2)
	if nodes := x.machines(pool, 2); !slices.Equal(nodes, stay) {
		t.Errorf("the nodes %v are left, and the pods are on %v", nodes, stay)
	}
	x.remove(cluster)
	x.machines(pool, 0)
}

// TestTwoGrowths: two MiniClusters that together exceed their pool are created at once. One runs as a whole, the other waits, and runs when
// there is room.
func TestTwoGrowths(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	pool := x.pool("hpc", pool{maxSize: 6})
	growths := []types.NamespacedName{x.cluster("a", 4, pool), x.cluster("b", 4, pool)}
	first := -1
	x.until(func(s *history.State) string {
		first = slices.IndexFunc(growths, func(growth types.NamespacedName) bool { return notAtSize(s, growth, 4) == "" })
		if first < 0 {
			return notAtSize(s, growths[0], 4) + "; " + notAtSize(s, growths[1], 4)
		}
		return ""
	})
	x.remove(growths[first])
	x.atSize(growths[1-first], 4)
	x.machines(pool, 4)
}

// TestStockout: what the first pool of a member has no machines for comes from the second, and Karpenter goes on for others meanwhile.
func TestStockout(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	others := x.ordinary("web", "")
	first, second := x.pool("first", pool{maxSize: 10, class: karpenter.ClassMissing}), x.pool("second", pool{maxSize: 10})
	cluster := x.cluster("m", 3, first, second)
	others.scale(2)
	x.failed(first, "InsufficientCapacity", v1alpha1.FailureOutOfResources)
	x.atSize(cluster, 3)
	x.machines(second, 3)
	x.machines(first, 0)
	if took := others.runs(2); took > blocked {
		t.Errorf("an ordinary workload waited for %s", took)
	}
	// While the pool is short again and again.
	x.scale(cluster, 5)
	others.scale(4)
	if took := others.runs(4); took > blocked {
		t.Errorf("an ordinary workload waited for %s", took)
	}
	x.atSize(cluster, 5)
}

// TestLaunchFailure: a machine that Karpenter can never launch fails long before Karpenter gives it up, and its claim goes with it.
func TestLaunchFailure(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	others := x.ordinary("web", "")
	first, second := x.pool("first", pool{maxSize: 10, instance: "unheard-of", timeout: "40s"}), x.pool("second", pool{maxSize: 10})
	cluster := x.cluster("m", 2, first, second)
	x.failed(first, "LaunchFailed", v1alpha1.FailureOther)
	others.scale(2)
	// Others of the pool may be luckier, so that the member goes on to the next pool when its time is over.
	x.atSize(cluster, 2)
	x.machines(second, 2)
	x.machines(first, 0)
	if took := others.runs(2); took > blocked {
		t.Errorf("an ordinary workload waited for %s", took)
	}
}

// TestPaused: while one of our pools is paused, machines of it that cannot be launched are let go, and Karpenter goes on for others. It
// is not parallel: how soon Karpenter tries to launch a claim depends on what it makes besides.
func TestPaused(t *testing.T) {
	x := newTenant(t)
	others := x.ordinary("web", "")
	hpc := pool{maxSize: 10, instance: "unheard-of"}
	name := x.pool("hpc", hpc)
	longest := x.unlaunched(name)
	x.cluster("m", 2, name)
	has := func(count int) func(context.Context) (bool, error) {
		return func(ctx context.Context) (bool, error) {
			claims, err := claimsOf(ctx, name)
			return len(claims) == count, err
		}
	}
	x.poll("there are no NodeClaims", has(2))
	hpc.paused = true
	x.pool("hpc", hpc)
	others.scale(2)
	if both, err := has(2)(t.Context()); err != nil || !both {
		t.Fatalf("the NodeClaims were gone before the pool was paused: %v", err)
	}
	x.poll("the NodeClaims are there", has(0))
	if took := others.runs(2); took > blocked {
		t.Errorf("an ordinary workload waited for %s", took)
	}
	if took := longest(); took > unlaunched {
		t.Errorf("a NodeClaim was without a provider id for %s", took)
	} else {
		t.Logf("a NodeClaim was without a provider id for %s at the most", took)
	}
}

// TestDriftAndConsolidation: Karpenter takes away nodes of its own that are of no use or not as they should be, and not ours.
func TestDriftAndConsolidation(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	pool := x.pool("hpc", pool{maxSize: 10})
	cluster := x.cluster("m", 3, pool)
	x.atSize(cluster, 3)
	before := x.machines(pool, 3)
	others := x.ordinary("web", "consolidationPolicy: WhenEmptyOrUnderutilized, consolidateAfter: 0s")
	others.scale(2)
	others.runs(2)
	var old []string
	x.until(func(s *history.State) string { old = others.nodes(s); return "" })
	// Its template is another one now.
	x.apply(`{apiVersion: karpenter.sh/v1, kind: NodePool, metadata: {name: %[1]s}, spec: {template: {metadata: {labels: {example.com/ordinary: %[1]s}, annotations: {example.com/generation: "2"}},
spec: {nodeClassRef: {group: %[2]s, kind: %[3]s, name: %[4]s}, requirements: [{key: node.kubernetes.io/instance-type, operator: In, values: [%[5]s]}]}}}}`,
		others.name, karpenter.Group, karpenter.Kind, karpenter.ClassFast, karpenter.InstanceType)
	x.until(func(s *history.State) string {
		for _, name := range others.nodes(s) {
			if slices.Contains(old, name) {
				return name + " is there and has drifted"
			}
		}
		return ""
	})
	// Nobody needs them any more.
	others.scale(0)
	x.until(func(s *history.State) string {
		if left := others.nodes(s); len(left) > 0 {
			return fmt.Sprintf("%v are empty and there", left)
		}
		return ""
	})
	x.atSize(cluster, 3)
	if after := x.machines(pool, 3); !slices.Equal(before, after) {
		t.Errorf("the nodes were %v and are %v", before, after)
	}
}

// TestTakenAway: where somebody else deletes the claim of a machine, as Karpenter does when a spot machine is interrupted, another takes
// its place.
func TestTakenAway(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	pool := x.pool("hpc", pool{maxSize: 10})
	cluster := x.cluster("m", 2, pool)
	x.atSize(cluster, 2)
	x.machines(pool, 2)
	claims, err := claimsOf(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	gone := claims[0].GetName()
	var node string
	x.until(func(s *history.State) string { node = s.Machines[gone].Status.NodeName; return "" })
	taken := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"true"}}}`, history.AnnotationTaken))
	if err := shared.Client.Patch(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, taken); err != nil {
		t.Fatal(err)
	}
	x.until(func(s *history.State) string {
		if s.Nodes[node].Annotations[history.AnnotationTaken] == "" {
			return "that the node is taken away is not seen yet"
		}
		return ""
	})
	if err := shared.Client.Delete(t.Context(), &claims[0]); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	x.until(func(s *history.State) string {
		if s.Machines[gone] != nil {
			return "machine " + gone + " is there"
		}
		return ""
	})
	x.atSize(cluster, 2)
	x.machines(pool, 2)
}
