package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// scenarios are what users do. Each calls disturb in the middle of things, and ends with all nodes given back.
var scenarios = map[string]func(*tenant){
	"a member grows and shrinks":           growAndShrink,
	"two members share a pool":             twoMembersInOnePool,
	"two members wait for each other":      twoMembersInATightPool,
	"two members have a pool each":         twoMembersInTwoPools,
	"a member grows while it grows":        growDuringGrow,
	"a member shrinks while it grows":      shrinkDuringGrow,
	"a MiniCluster finishes":               finished,
	"a MiniCluster is deleted as it grows": deletedDuringGrow,
	"a user edits the size":                edited,
	"a user takes the annotation away":     unmanaged,
	"a pool is out of stock":               outOfStock,
	"machines fail to boot":                machinesFail,
	"the first pool runs out of stock":     fallBack,
	"a zone runs out of stock":             zoneOutOfStock,
	"a greedy member takes what there is":  greedy,
	"nodes stay for the next growth":       warmNodes,
	"a pool is paused":                     pausedPool,
	"nodes do not get Ready in time":       provisionTimeout,
	"two growths ask for most of a pool":   twoGrowths,
	"nodes are handed over":                handOver,
	"a node is lost during a growth":       lostWhileGrowing,
	"a node is lost at rest":               lostAtRest,
	"a node is not Ready for a while":      unreadyAtRest,
	"the pods of a new one wait":           gatedCreation,
	"the pods of an edit wait":             gatedEdit,
	"pods die":                             podDies,
	"pools are asked in order":             poolsInOrder,
	"the scheduler refuses a node":         refused,
	"it is unmanaged while its pods wait":  gatesOpen,
	"a MiniCluster that runs is annotated": annotated,
	"strangers come to a dedicated pool":   strangers,
}

// TestScenarios runs them undisturbed, then again with each of our programs killed in the middle of things.
func TestScenarios(t *testing.T) {
	t.Parallel()
	// A group ends when all in it have: what is killed is used by the others too, and loses events.
	t.Run("undisturbed", func(t *testing.T) {
		for name, scenario := range scenarios {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				scenario(newTenant(t))
			})
		}
	})
	for program, v := range map[string]*victim{
		"provider": {restart: shared.RestartProvider}, "controller": {restart: shared.RestartController},
	} {
		for name, scenario := range scenarios {
			t.Run(name+" and the "+program+" is killed", func(t *testing.T) {
				t.Parallel()
				scenario(disturbedTenant(t, v))
			})
		}
	}
}

// TestAutoscalerKilled runs scenarios in which Cluster Autoscaler is killed in the middle of things.
// It is not parallel: one that has just been started knows of no order and no backoff, which others wait for.
func TestAutoscalerKilled(t *testing.T) {
	autoscaler := &victim{restart: shared.RestartAutoscaler}
	for name, scenario := range map[string]func(*tenant){
		"a member grows and shrinks": growAndShrink, "a pool is out of stock": outOfStock, "a pool is paused": pausedPool,
	} {
		t.Run(name, func(t *testing.T) { scenario(disturbedTenant(t, autoscaler)) })
	}
}

// disturbedTenant is a tenant that kills a program in the middle of things.
func disturbedTenant(t *testing.T, v *victim) *tenant {
	t.Helper()
	x := newTenant(t)
	x.disturb = func() {
		if err := v.kill(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

// victim is a program that tests kill. Those that ask for it at the same time share one kill: a program that was killed again and
// again, by one test after the other, would do nothing in between.
type victim struct {
	restart func(context.Context) error
	// begun counts the kills.
	begun atomic.Int64
}

// kill kills the program and starts it again, if nobody else does between the call and its end.
func (v *victim) kill(ctx context.Context) error {
	before := v.begun.Load()
	shared.serving.Lock()
	defer shared.serving.Unlock()
	if v.begun.Load() != before {
		return nil
	}
	v.begun.Add(1)
	shared.kills.Add(1)
	return v.restart(ctx)
}

// end deletes what is left and waits until every node is given back.
func (x *tenant) end(pools ...string) {
	x.Helper()
	var left []string
	x.look(func(s *history.State) {
		left = nil
		for key := range s.MiniClusters {
			if key.Namespace == x.namespace {
				left = append(left, key.Name)
			}
		}
	})
	for _, name := range left {
		key := x.key(name)
		x.remove(key)
		x.disturb()
		x.gone(key)
	}
	for _, pool := range pools {
		x.nodes(pool, 0)
		x.floor(pool, 0)
		x.removePool(pool)
		x.poolGone(pool)
	}
}

func growAndShrink(x *tenant) {
	pool := x.pool("hpc", 10, "2s")
	cluster := x.miniCluster("m", 2, pool)
	x.atSize(cluster, 2)
	x.nodes(pool, 2)

	grown := x.plan(cluster, "grow", 6)
	x.grant(cluster, "grow", 6)
	x.floor(pool, 8)
	x.disturb()
	x.target(pool, 8)
	x.disturb()
	x.atSize(cluster, 8)
	x.asPlanned(cluster, grown)
	x.nodes(pool, 8)
	x.event(cluster, v1alpha1.ReasonReserved, "reserved 6 more nodes in "+pool)
	x.event(cluster, v1alpha1.ReasonResizing, "from 2 to 8")

	before := x.held(cluster)
	shrunk := x.plan(cluster, "shrink", 5)
	x.grant(cluster, "shrink", 5)
	x.size(cluster, 3)
	x.disturb()
	x.atSize(cluster, 3)
	x.asPlanned(cluster, shrunk)
	x.nodes(pool, 3)
	x.event(cluster, v1alpha1.ReasonNodesGivenBack, "gave back")
	for _, node := range x.held(cluster) {
		if !slices.Contains(before, node) {
			x.Errorf("after the shrink the member holds %s, which is not one of the nodes that it had: %v", node, before)
		}
	}
	x.end(pool)
}

func twoMembersInOnePool(x *tenant) {
	pool := x.pool("hpc", 10, "2s")
	a, b := x.miniCluster("a", 1, pool), x.miniCluster("b", 2, pool)
	x.atSize(a, 1)
	x.atSize(b, 2)
	x.grant(a, "grow", 3)
	x.grant(b, "grow", 2)
	x.disturb()
	x.atSize(a, 4)
	x.atSize(b, 4)
	x.nodes(pool, 8)
	x.grant(a, "shrink", 2)
	x.disturb()
	x.atSize(a, 2)
	x.atSize(b, 4)
	x.nodes(pool, 6)
	x.end(pool)
}

// twoMembersInATightPool: the second growth waits, whole, until the first member gives nodes back, and then
// takes over those same nodes.
func twoMembersInATightPool(x *tenant) {
	pool := x.pool("hpc", 6, "1s")
	a, b := x.miniCluster("a", 1, pool), x.miniCluster("b", 1, pool)
	x.atSize(a, 1)
	x.atSize(b, 1)
	x.grant(a, "grow", 3)
	x.atSize(a, 4)
	planned := x.plan(b, "grow", 3)
	x.grant(b, "grow", 3)
	x.refusedAsPlanned(b, v1alpha1.ReasonPoolFull, pool, planned)
	if held := x.held(b); len(held) != 1 {
		x.Errorf("b waits for 3 more nodes and holds %v: a part of what it asked for", held)
	}
	x.disturb()
	x.grant(a, "shrink", 2)
	x.disturb()
	x.atSize(a, 2)
	x.atSize(b, 4)
	x.nodes(pool, 6)
	x.end(pool)
}

func twoMembersInTwoPools(x *tenant) {
	one, two := x.pool("one", 10, "1s"), x.pool("two", 10, "2s")
	a, b := x.miniCluster("a", 1, one), x.miniCluster("b", 1, two)
	x.atSize(a, 1)
	x.atSize(b, 1)
	x.grant(a, "grow", 3)
	x.grant(b, "grow", 4)
	x.disturb()
	x.atSize(a, 4)
	x.atSize(b, 5)
	x.nodes(one, 4)
	x.nodes(two, 5)
	x.end(one, two)
}

func growDuringGrow(x *tenant) {
	pool := x.pool("hpc", 10, "4s")
	cluster := x.miniCluster("m", 1, pool)
	x.atSize(cluster, 1)
	x.grant(cluster, "grow", 2)
	x.target(pool, 3)
	x.disturb()
	x.grant(cluster, "grow", 3)
	x.disturb()
	x.atSize(cluster, 6)
	x.nodes(pool, 6)
	x.end(pool)
}

func shrinkDuringGrow(x *tenant) {
	pool := x.pool("hpc", 10, "4s")
	cluster := x.miniCluster("m", 2, pool)
	x.atSize(cluster, 2)
	x.grant(cluster, "grow", 5)
	x.target(pool, 7)
	x.disturb()
	x.grant(cluster, "shrink", 3)
	x.disturb()
	x.atSize(cluster, 4)
	x.nodes(pool, 4)
	x.end(pool)
}

func finished(x *tenant) {
	pool := x.pool("hpc", 10, "1s")
	cluster := x.miniClusterOf("m", 3, fmt.Sprintf(`{%s: "12"}`, controlplane.RunSecondsAnnotation), pool)
	x.lead(cluster)
	x.disturb()
	x.until(func(s *history.State) string {
		member := s.Members[cluster]
		if member == nil {
			return "there is no member"
		}
		if c := condition(member, v1alpha1.ConditionResized); c.reason != v1alpha1.ReasonFinished || c.status != "True" {
			return fmt.Sprintf("the member is %s: %s", c.reason, c.message)
		}
		return ""
	})
	x.nodes(pool, 0)
	x.end(pool)
}

func deletedDuringGrow(x *tenant) {
	pool := x.pool("hpc", 10, "3s")
	cluster := x.miniCluster("m", 2, pool)
	x.atSize(cluster, 2)
	x.grant(cluster, "grow", 4)
	x.target(pool, 6)
	x.disturb()
	x.end(pool)
}

// edited: a size written into the MiniCluster itself becomes the desired size, in both directions.
func edited(x *tenant) {
	pool := x.pool("hpc", 10, "1s")
	cluster := x.miniCluster("m", 2, pool)
	x.atSize(cluster, 2)
	x.edit(cluster, 5)
	x.disturb()
	x.atSize(cluster, 5)
	x.nodes(pool, 5)
	x.event(cluster, v1alpha1.ReasonAdopted, "set the size of the MiniCluster to 5")
	x.edit(cluster, 1)
	x.disturb()
	x.atSize(cluster, 1)
	x.nodes(pool, 1)
	x.look(func(s *history.State) {
		if wants := s.Members[cluster].Spec.Size; wants != 1 {
			x.Errorf("the member wants %d after the size was set to 1", wants)
		}
	})
	x.end(pool)
}

// unmanaged: without the annotation the MiniCluster stays as it is, and nothing is held for it any more.
func unmanaged(x *tenant) {
	pool := x.pool("hpc", 10, "1s")
	cluster := x.miniCluster("m", 2, pool)
	x.atSize(cluster, 2)
	x.annotate(cluster)
	x.disturb()
	x.until(func(s *history.State) string {
		if s.Members[cluster] != nil {
			return "the member is still there"
		}
		return ""
	})
	x.floor(pool, 0)
	x.look(func(s *history.State) {
		if pods := s.PodsOf(cluster); len(pods) != 2 {
			x.Errorf("%d of 2 pods are left", len(pods))
		}
	})
	x.end(pool)
}
