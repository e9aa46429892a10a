package e2e

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// outOfStock: a growth that the cloud cannot fill fails with the reason, is tried again, and is done when
// there are machines.
func outOfStock(x *tenant) {
	pool := x.poolOf("hpc", 10, false, "{bootDelay: 1s, stock: 3}")
	cluster := x.miniCluster("m", 2, pool)
	x.atSize(cluster, 2)
	planned := x.plan(cluster, "grow", 2)
	x.granted(planned, pool+" 4")
	x.grant(cluster, "grow", 2)
	x.failed(pool, "OutOfStock", v1alpha1.FailureOutOfResources)
	x.explainedAs(cluster, v1alpha1.ConditionReady, []string{v1alpha1.ReasonWaitingForNodes, v1alpha1.ReasonBackingOff}, pool)
	x.disturb()
	x.event(types.NamespacedName{Name: pool}, v1alpha1.ReasonMachineFailed, "OutOfStock")
	x.size(cluster, 2)
	x.poolOf("hpc", 10, false, "{bootDelay: 1s, stock: 10}")
	x.disturb()
	x.atSize(cluster, 4)
	x.asPlanned(cluster, planned)
	x.nodes(pool, 4)
	x.end(pool)
}

// fallBack: what the first pool of a member does not have comes from the second, and the MiniCluster is resized when all of
// it is there.
func fallBack(x *tenant) {
	first := x.poolOf("first", 10, false, "{bootDelay: 1s, stock: 3, stockout: Vanish}")
	second := x.pool("second", 10, "1s")
	cluster := x.miniCluster("m", 2, first, second)
	x.atSize(cluster, 2)
	x.nodes(first, 2)
	// What a pool has in stock shows when it is asked.
	x.granted(x.plan(cluster, "grow", 4), first+" 6")
	x.grant(cluster, "grow", 4)
	x.failed(first, "OutOfStock", v1alpha1.FailureOutOfResources)
	x.disturb()
	x.atSize(cluster, 6)
	x.atRest(cluster)
	x.event(cluster, v1alpha1.ReasonFellBack, "which is out of stock")
	x.until(func(s *history.State) string {
		// The third node of the first pool may have been Ready when the pool ran out, or not.
		here, there := len(s.NodesOf(first)), len(s.NodesOf(second))
		if here+there != 6 || here > 3 || int(s.Pools[first].Spec.Replicas) != here || int(s.Pools[second].Spec.Replicas) != there {
			return fmt.Sprintf(
				"there are %d and %d nodes, with targets %d and %d", here, there, s.Pools[first].Spec.Replicas, s.Pools[second].Spec.Replicas,
			)
		}
		return ""
	})
	x.end(first, second)
}

// greedy: a member that takes each node as it comes has what the pool has, asks again for the rest, and gets it.
func greedy(x *tenant) {
	pool := x.poolOf("hpc", 10, false, "{bootDelay: 1s, bootJitter: 1s, stock: 4}")
	cluster := x.miniCluster("m", 2, pool)
	x.atSize(cluster, 2)
	x.setGrowthPolicy(cluster, v1alpha1.GrowthGreedy)
	x.grant(cluster, "grow", 1)
	x.atSize(cluster, 3)
	x.grant(cluster, "grow", 3)
	x.failed(pool, "OutOfStock", v1alpha1.FailureOutOfResources)
	x.disturb()
	x.poolOf("hpc", 10, false, "{bootDelay: 1s, bootJitter: 1s, stock: 10}")
	x.atSize(cluster, 6)
	x.nodes(pool, 6)
	x.end(pool)
}

// warmNodes: nodes that a member gives up stay, Cluster Autoscaler does not take them, the next growth of another member finds
// them, and they go when their time is over.
func warmNodes(x *tenant) {
	pool := x.pool("hpc", 10, "1s")
	x.scaleDownDelay(pool, "1h")
	a, b := x.miniCluster("a", 4, pool), x.miniCluster("b", 1, pool)
	x.atSize(a, 4)
	x.atSize(b, 1)
	before := append(x.held(a), x.held(b)...)
	x.marked(a)
	planned := x.plan(a, "shrink", 3)
	x.grant(a, "shrink", 3)
	x.disturb()
	x.atSize(a, 1)
	x.asPlanned(a, planned)
	x.nodes(pool, 5)
	planned = x.plan(b, "grow", 2)
	if !strings.HasPrefix(planned.Ready, "at once") {
		x.Errorf("nodes that are there already are Ready %q, not at once", planned.Ready)
	}
	x.grant(b, "grow", 2)
	x.disturb()
	x.atSize(b, 3)
	x.asPlanned(b, planned)
	x.nodes(pool, 5)
	for _, node := range append(x.held(a), x.held(b)...) {
		if !slices.Contains(before, node) {
			x.Errorf("%s is new; there were %v", node, before)
		}
	}
	x.scaleDownDelay(pool, "1s")
	x.nodes(pool, 4)
	x.end(pool)
}

// machinesFail: all machines fail to boot, then about every third one, and the growth comes to its end all the same.
func machinesFail(x *tenant) {
	pool := x.pool("hpc", 10, "500ms")
	cluster := x.miniCluster("m", 1, pool)
	x.atSize(cluster, 1)
	x.poolOf("hpc", 10, false, "{bootDelay: 500ms, bootJitter: 500ms, failurePercent: 100}")
	planned := x.plan(cluster, "grow", 4)
	x.grant(cluster, "grow", 4)
	x.failed(pool, "BootFailure", v1alpha1.FailureOther)
	x.explainedAs(cluster, v1alpha1.ConditionCapacityReady, []string{v1alpha1.ReasonWaitingForNodes}, pool)
	x.disturb()
	x.poolOf("hpc", 10, false, "{bootDelay: 500ms, bootJitter: 500ms, failurePercent: 33}")
	x.atSize(cluster, 5)
	x.asPlanned(cluster, planned)
	x.nodes(pool, 5)
	x.end(pool)
}

// pausedPool: a pool that is paused grants nothing and takes nothing back, and makes up for it afterwards.
func pausedPool(x *tenant) {
	pool := x.poolOf("hpc", 10, false, "{}")
	a, b := x.miniCluster("a", 2, pool), x.miniCluster("b", 2, pool)
	x.atSize(a, 2)
	x.atSize(b, 2)
	x.poolOf("hpc", 10, true, "{}")
	x.paused(pool)
	planned := x.plan(a, "grow", 2)
	x.grant(a, "grow", 2)
	x.refusedAsPlanned(a, v1alpha1.ReasonPoolPaused, pool, planned)
	x.grant(b, "shrink", 1)
	x.size(b, 1)
	x.disturb()
	x.look(func(s *history.State) {
		if nodes := s.NodesOf(pool); len(nodes) != 4 {
			x.Errorf("the paused pool has the nodes %v", nodes)
		}
	})
	x.poolOf("hpc", 10, false, "{}")
	x.atSize(a, 4)
	x.atSize(b, 1)
	x.nodes(pool, 5)
	x.end(pool)
}

// paused waits until a NodePool says that it is paused.
func (x *tenant) paused(pool string) {
	x.Helper()
	x.until(func(s *history.State) string {
		for _, c := range s.Pools[pool].Status.Conditions {
			if c.Type == v1alpha1.ConditionPaused && c.Status == "True" {
				return ""
			}
		}
		return pool + " does not say that it is paused"
	})
}

// failed waits until a NodePool tells of a failure.
func (x *tenant) failed(pool, code string, class v1alpha1.FailureClass) {
	x.Helper()
	x.until(func(s *history.State) string {
		p := s.Pools[pool]
		if p == nil || p.Status.LastFailure == nil || p.Status.LastFailure.Code != code || p.Status.LastFailure.Class != class {
			return fmt.Sprintf("NodePool %s does not tell of the failure %s", pool, code)
		}
		return ""
	})
}
