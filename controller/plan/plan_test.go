package plan_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

func TestPlan(t *testing.T) {
	t.Parallel()
	two := names("a", 0, 2)

	cases := []struct {
		name    string
		members []*memberBuilder
		pools   []plan.Pool
		nodes   []plan.Node
		// want has one summary for each member.
		want []string
		// says are texts that the conditions or notes of the first member must contain.
		says []string
	}{{
		name:    "a new member reserves the nodes of the size that it has",
		members: []*memberBuilder{member("m", 2, 2, "a")},
		pools:   []plan.Pool{pool("a", 10)},
		want:    []string{"a: 2 reserved, 0 held; WaitingForNodes"},
		says: []string{
			"reserved 2 more nodes in a for size 2; they have until 2026-11-23T12:10:00Z to be Ready", "0 of 2 nodes are Ready in a",
		},
	}, {
		name:    "a growth is reserved whole before anything else happens",
		members: []*memberBuilder{member("m", 2, 8, "a").holds("a", 2, two...).podsOn(two...)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 2),
		want:    []string{"a: 8 reserved, 2 held; WaitingForNodes"},
		says:    []string{"reserved 6 more nodes", "2 of 8 nodes are Ready in a; the others have until 2026-11-23T12:10:00Z"},
	}, {
		name:    "a growth with one node missing is not resized",
		members: []*memberBuilder{member("m", 2, 8, "a").holds("a", 8, names("a", 0, 7)...).podsOn(two...).grows(8, time.Minute, time.Minute)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 7),
		want:    []string{"a: 8 reserved, 7 held; WaitingForNodes"},
	}, {
		name:    "the last node is held and the member resized in one pass",
		members: []*memberBuilder{member("m", 2, 8, "a").holds("a", 8, names("a", 0, 7)...).podsOn(two...).grows(8, time.Minute, time.Minute)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 8),
		want:    []string{"a: 8 reserved, 8 held; resize to 8; Resizing"},
		says:    []string{"resizing the MiniCluster from 2 to 8; 8 nodes are Ready"},
	}, {
		name:    "a member at its size is ready",
		members: []*memberBuilder{member("m", 2, 2, "a").holds("a", 2, two...).podsOn(two...)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 2),
		want:    []string{"a: 2 reserved, 2 held; Ready"},
		says:    []string{"at size 2"},
	}, {
		name:    "a shrink is resized at once and keeps the nodes that pods are on",
		members: []*memberBuilder{member("m", 8, 3, "a").holds("a", 8, names("a", 0, 8)...).podsOn(names("a", 0, 8)...)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 8),
		want:    []string{"a: 8 reserved, 8 held; resize to 3; Resizing"},
		says:    []string{"resizing the MiniCluster from 8 to 3; the highest ranks leave"},
	}, {
		name:    "after the resize the reservation is lower, and a node is held until its pod has left",
		members: []*memberBuilder{member("m", 3, 3, "a").holds("a", 8, names("a", 0, 8)...).podsOn(names("a", 0, 5)...)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 8),
		want:    []string{"a: 3 reserved, 5 held; PodsLeaving"},
		says:    []string{"gave back 3 nodes: a-5, a-6, a-7", "pods of the former size have still to leave 2 nodes"},
	}, {
		name: "a gang that failed gives back all of its nodes, though it was asked to grow further meanwhile",
		members: []*memberBuilder{
			member("m", 8, 10, "a").holds("a", 8, names("a", 0, 6)...).podsOn(names("a", 0, 4)...).grows(10, time.Hour, -time.Minute).granted("a",
				time.Hour).served(4),
		},
		pools: []plan.Pool{pool("a", 10)},
		nodes: nodes("a", 0, 6),
		want:  []string{"a: 4 reserved, 4 held; BackingOff"},
		says:  []string{"the nodes that no pod uses are given back", "gave back 2 nodes: a-4, a-5"},
	}, {
		name: "what the leaving ranks lack is asked for no more",
		members: []*memberBuilder{
			member("m", 8, 4, "a").holds("a", 4, names("a", 0, 4)...).podsOn(names("a", 0, 4)...).grows(8, time.Hour, 0).begins().served(4),
		},
		pools: []plan.Pool{pool("a", 10)},
		nodes: nodes("a", 0, 6),
		want:  []string{"a: 4 reserved, 4 held; resize to 4; Resizing"},
	}, {
		name:    "pods outside the pools that are about to leave make no room there",
		members: []*memberBuilder{member("m", 4, 6, "a").podsOn("x-0", "x-1", "x-2", "x-3", "x-4", "x-5")},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("x", 0, 6),
		want:    []string{"a: 2 reserved, 0 held; WaitingForNodes"},
		says:    []string{"reserved 2 more nodes in a for size 6"},
	}, {
		name:    "a rank that moves from outside into a pool counts there",
		members: []*memberBuilder{member("m", 2, 2, "a").podsOn("x-0", "x-1").pod(1, "a-0")},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   append(nodes("x", 0, 2), nodes("a", 0, 1)...),
		want:    []string{"a: 1 reserved, 1 held; Ready"},
	}, {
		name:    "a smaller desired size in the middle of a growth gives back what is too much",
		members: []*memberBuilder{member("m", 2, 4, "a").holds("a", 8, names("a", 0, 6)...).podsOn(two...).grows(8, time.Minute, time.Minute)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 6),
		want:    []string{"a: 4 reserved, 4 held; resize to 4; Resizing"},
		says:    []string{"gave back 2 nodes: a-4, a-5"},
	}, {
		name:    "a desired size below the size in the middle of a growth ends it",
		members: []*memberBuilder{member("m", 2, 1, "a").holds("a", 8, names("a", 0, 6)...).podsOn(two...).grows(8, time.Minute, time.Minute)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 6),
		want:    []string{"a: 2 reserved, 2 held; resize to 1; Resizing"},
	}, {
		name:    "a grow in the middle of a growth that has no room lets the first one end",
		members: []*memberBuilder{member("m", 2, 12, "a").holds("a", 8, names("a", 0, 8)...).podsOn(two...).grows(8, time.Minute, time.Minute)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 8),
		want:    []string{"a: 8 reserved, 8 held; resize to 8; PoolTooSmall"},
		says:    []string{"12 nodes are needed and a has maxSize 10"},
	}, {
		name: "two gangs that do not fit together are served one after the other",
		members: []*memberBuilder{
			member("late", 1, 6, "a").holds("a", 1, "a-0").podsOn("a-0").grows(6, time.Minute, 0),
			member("soon", 1, 6, "a").holds("a", 1, "a-1").podsOn("a-1").grows(6, time.Hour, 0),
		},
		pools: []plan.Pool{pool("a", 10)},
		nodes: nodes("a", 0, 2),
		want: []string{
			"a: 1 reserved, 1 held; PoolFull",
			"a: 6 reserved, 1 held; WaitingForNodes",
		},
		says: []string{"5 more nodes are needed and a has room for 3: maxSize 10, 7 reserved, 0 occupied by other workloads"},
	}, {
		name: "a small gang has the room that is of no use to a large one which waits for more",
		members: []*memberBuilder{
			member("large", 1, 9, "a").holds("a", 1, "a-0").podsOn("a-0").grows(9, time.Hour, 0),
			member("other", 4, 4, "a").holds("a", 4, names("a", 1, 5)...).podsOn(names("a", 1, 5)...),
			member("small", 1, 2, "a").holds("a", 1, "a-5").podsOn("a-5").grows(2, time.Minute, 0),
		},
		pools: []plan.Pool{pool("a", 10)},
		nodes: nodes("a", 0, 6),
		want: []string{
			"a: 1 reserved, 1 held; PoolFull",
			"a: 4 reserved, 4 held; Ready",
			"a: 2 reserved, 1 held; WaitingForNodes",
		},
	}, {
		name: "a gang that can never be served holds nobody back",
		members: []*memberBuilder{
			member("huge", 1, 99, "a").holds("a", 1, "a-0").podsOn("a-0").grows(99, time.Hour, 0),
			member("small", 1, 2, "a").holds("a", 1, "a-1").podsOn("a-1").grows(2, time.Minute, 0),
		},
		pools: []plan.Pool{pool("a", 10)},
		nodes: nodes("a", 0, 2),
		want: []string{
			"a: 1 reserved, 1 held; PoolTooSmall",
			"a: 2 reserved, 1 held; WaitingForNodes",
		},
	}, {
		name:    "a pool that does not exist is named",
		members: []*memberBuilder{member("m", 2, 2, "nowhere")},
		want:    []string{"PoolNotFound"},
		says:    []string{`NodePool "nowhere" does not exist`},
	}, {
		name:    "a pool that is being deleted grants nothing more and keeps what it has granted",
		members: []*memberBuilder{member("m", 1, 2, "a").holds("a", 1, "a-0").podsOn("a-0").grows(2, time.Minute, 0)},
		pools:   []plan.Pool{deleting(pool("a", 10))},
		nodes:   nodes("a", 0, 2),
		want:    []string{"a: 1 reserved, 1 held; PoolDeleting"},
		says:    []string{`NodePool "a" is being deleted`},
	}, {
		name:    "a pool that is paused grants nothing more and keeps what it has granted",
		members: []*memberBuilder{member("m", 1, 2, "a").holds("a", 1, "a-0").podsOn("a-0").grows(2, time.Minute, 0)},
		pools:   []plan.Pool{paused(pool("a", 10))},
		nodes:   nodes("a", 0, 2),
		want:    []string{"a: 1 reserved, 1 held; PoolPaused"},
		says:    []string{`NodePool "a" is paused`},
	}, {
		name: "a pod that fits no node of the pool is refused with both amounts",
		members: []*memberBuilder{func() *memberBuilder {
			m := member("m", 2, 2, "a")
			m.PodRequests = plan.Resources{corev1.ResourceCPU: 6000}
			return m
		}()},
		pools: []plan.Pool{pool("a", 10)},
		want:  []string{"PodTooLarge"},
		says:  []string{"a pod requests 6 of cpu and an empty node of a offers 4"},
	}, {
		name:    "Ready nodes that other workloads fill do not count and raise the floor",
		members: []*memberBuilder{member("m", 2, 6, "a").holds("a", 6, two...).beside(2).podsOn(two...).grows(6, time.Minute, time.Minute)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   occupy(nodes("a", 0, 6), "a-2", "a-3"),
		want:    []string{"a: 6 reserved, 4 held, 2 occupied; WaitingForNodes"},
	}, {
		name:    "once met, a reservation does not count what others occupy",
		members: []*memberBuilder{member("m", 2, 2, "a").holds("a", 2, two...).podsOn(two...)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   occupy(nodes("a", 0, 6), "a-2", "a-3", "a-4", "a-5"),
		want:    []string{"a: 2 reserved, 2 held; Ready"},
	}, {
		name:    "nodes that have just registered are coming, not occupied",
		members: []*memberBuilder{member("m", 2, 4, "a").holds("a", 4, two...).podsOn(two...).grows(4, time.Minute, time.Minute)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes: func() []plan.Node {
			list := nodes("a", 0, 4)
			for i := 2; i < 4; i++ {
				list[i].Ready, list[i].CreatedAt = false, noon.Add(-time.Second)
			}
			return list
		}(),
		want: []string{"a: 4 reserved, 2 held; WaitingForNodes"},
	}, {
		name:    "a node that a foreign pod took before the member's pod came is replaced",
		members: []*memberBuilder{member("m", 2, 3, "a").holds("a", 3, "a-0", "a-1", "a-2").podsOn(two...).grows(3, time.Minute, time.Minute)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   occupy(nodes("a", 0, 3), "a-2"),
		want:    []string{"a: 3 reserved, 2 held, 1 occupied; WaitingForNodes"},
	}, {
		name:    "a cordoned node is not held, nor one that is leaving or has a foreign taint",
		members: []*memberBuilder{member("m", 1, 1, "a")},
		pools:   []plan.Pool{pool("a", 10)},
		nodes: func() []plan.Node {
			list := nodes("a", 0, 3)
			list[0].Cordoned = true
			list[1].Leaving = true
			list[2].Taints = []corev1.Taint{{Key: "maintenance", Effect: corev1.TaintEffectNoSchedule}}
			return list
		}(),
		want: []string{"a: 1 reserved, 0 held, 2 occupied; WaitingForNodes"},
	}, {
		name:    "the taints of the pool's own template do not matter",
		members: []*memberBuilder{member("m", 1, 1, "a").grows(1, 0, 0)},
		pools: func() []plan.Pool {
			p := pool("a", 10)
			p.Taints = []corev1.Taint{{Key: "ensemble", Value: "only", Effect: corev1.TaintEffectNoSchedule}}
			return []plan.Pool{p}
		}(),
		nodes: func() []plan.Node {
			list := nodes("a", 0, 1)
			list[0].Taints = []corev1.Taint{{Key: "ensemble", Value: "only", Effect: corev1.TaintEffectNoSchedule}}
			return list
		}(),
		want: []string{"a: 1 reserved, 1 held; PodsStarting"},
	}, {
		name:    "past its deadline a growth gives back every node that no pod uses",
		members: []*memberBuilder{member("m", 2, 8, "a").holds("a", 8, names("a", 0, 7)...).podsOn(two...).grows(8, time.Hour, -time.Second)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 7),
		want:    []string{"a: 2 reserved, 2 held; BackingOff"},
		says: []string{
			"7 of 8 nodes were Ready in a within its provisionTimeout", "gave back 5 nodes",
			"attempt 1 for size 8 failed in a; the next is at 2026-11-23T12:01:00Z",
		},
	}, {
		name: "a gang that waits out its failure lets others have the room",
		members: []*memberBuilder{
			func() *memberBuilder {
				m := member("failed", 1, 9, "a").holds("a", 1, "a-0").podsOn("a-0").grows(9, time.Hour, 0)
				retry := microTime(noon.Add(time.Second))
				m.Growth.Attempts, m.Growth.RetryAfter = 1, &retry
				return m
			}(),
			member("other", 1, 9, "a").holds("a", 1, "a-1").podsOn("a-1").grows(9, time.Minute, 0),
		},
		pools: []plan.Pool{pool("a", 10)},
		nodes: nodes("a", 0, 2),
		want:  []string{"a: 1 reserved, 1 held; BackingOff", "a: 9 reserved, 1 held; WaitingForNodes"},
	}, {
		name:    "a finished MiniCluster gives everything back but nodes that pods are still on",
		members: []*memberBuilder{member("m", 3, 3, "a").holds("a", 3, names("a", 0, 3)...).podsOn("a-0").is(plan.Finished)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 3),
		want:    []string{"a: 0 reserved, 1 held; PodsLeaving"},
		says:    []string{"gave back 2 nodes: a-1, a-2", "the MiniCluster has finished"},
	}, {
		name:    "a MiniCluster that is being deleted gives everything back",
		members: []*memberBuilder{member("m", 3, 3, "a").holds("a", 3, names("a", 0, 3)...).is(plan.Deleting)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 3),
		want:    []string{"Ready"},
		says:    []string{"gave back 3 nodes", "the MiniCluster is being deleted; its nodes are given back"},
	}, {
		name:    "pods on nodes of no pool need no node of a pool",
		members: []*memberBuilder{member("m", 2, 2, "a").podsOn("-0", "-1")},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("", 0, 2),
		want:    []string{"Ready"},
	}, {
		name:    "a pod on a node that is lost still needs a node",
		members: []*memberBuilder{member("m", 2, 2, "a").holds("a", 2, two...).podsOn("a-0", "lost")},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 1),
		want:    []string{"a: 2 reserved, 1 held; WaitingForNodes"},
	}, {
		name:    "nodes of another pool of the list count where pods are on them",
		members: []*memberBuilder{member("m", 2, 4, "a", "b").holds("a", 1, "a-0").holds("b", 1, "b-0").podsOn("a-0", "b-0")},
		pools:   []plan.Pool{pool("a", 10), pool("b", 10)},
		nodes:   slices.Concat(nodes("a", 0, 1), nodes("b", 0, 1)),
		want:    []string{"a: 3 reserved, 1 held; b: 1 reserved, 1 held; WaitingForNodes"},
	}, {
		name:    "a lost node of a complete member is reserved still, so that it is replaced",
		members: []*memberBuilder{member("m", 3, 3, "a").holds("a", 3, names("a", 0, 3)...).podsOn(two...)},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 2),
		want:    []string{"a: 3 reserved, 2 held; WaitingForNodes"},
		says:    []string{"lost 1 node that does not exist any more: a-2"},
	}, {
		name: "what a pool that is out of stock has not provided is asked of the next one",
		members: []*memberBuilder{
			member("m", 2, 8, "a", "b").holds("a", 8, names("a", 0, 5)...).podsOn(two...).grows(8, time.Minute, time.Minute).granted("a",
				time.Minute),
		},
		pools: []plan.Pool{outOfStock(pool("a", 10), time.Second), pool("b", 10)},
		nodes: nodes("a", 0, 5),
		want:  []string{"a: 5 reserved, 5 held; b: 3 reserved, 0 held; WaitingForNodes"},
		says: []string{
			"5 of 8 nodes were Ready in a, which is out of stock: no machine is left; reserved 3 more nodes in b for size 8; they have until " +
				"2026-11-23T12:10:00Z to be Ready",
			"5 of 8 nodes are Ready in a, b; the others have until 2026-11-23T12:10:00Z; before, 5 of 8 nodes were " +
				"Ready in a, which is out of stock",
		},
	}, {
		name: "a stockout from before the pool granted the nodes does not matter",
		members: []*memberBuilder{
			member("m", 2, 8, "a", "b").holds("a", 8, names("a", 0, 5)...).podsOn(two...).grows(8, time.Minute, time.Minute).granted("a",
				time.Minute),
		},
		pools: []plan.Pool{outOfStock(pool("a", 10), time.Hour), pool("b", 10)},
		nodes: nodes("a", 0, 5),
		want:  []string{"a: 8 reserved, 5 held; WaitingForNodes"},
	}, {
		name: "a whole gang moves where one pool has to have it all",
		members: []*memberBuilder{member("m", 2, 8, "a", "b").holds("a", 8, names("a", 0, 5)...).podsOn(two...).grows(8, time.Minute,
			time.Minute).
			granted("a", time.Minute).takes(v1alpha1.GrowthAllOrNothing, v1alpha1.PlacementSingle)},
		pools: []plan.Pool{outOfStock(pool("a", 10), time.Second), pool("b", 10)},
		nodes: nodes("a", 0, 5),
		want:  []string{"a: 2 reserved, 2 held; b: 6 reserved, 0 held; WaitingForNodes"},
		says:  []string{"gave back 3 nodes: a-2, a-3, a-4", "reserved 6 more nodes in b"},
	}, {
		name: "after the last pool all or nothing gives everything back and names each",
		members: []*memberBuilder{member("m", 2, 8, "a", "b").holds("a", 5, names("a", 0, 5)...).holds("b", 3, "b-0").podsOn(two...).
			grows(8, time.Hour, -time.Second).granted("b", time.Hour).failed("a", v1alpha1.ReasonOutOfStock)},
		pools: []plan.Pool{pool("a", 10), pool("b", 10)},
		nodes: slices.Concat(nodes("a", 0, 5), nodes("b", 0, 1)),
		want:  []string{"a: 2 reserved, 2 held; BackingOff"},
		says: []string{
			"a failed, 1 of 3 nodes were Ready in b within its provisionTimeout; the nodes that no pod uses are given back; attempt 2 is at " +
				"2026-11-23T12:01:00Z",
			"attempt 1 for size 8 failed in a (OutOfStock), b (ProvisionTimeout); the next is at 2026-11-23T12:01:00Z",
		},
	}, {
		name: "a part of a gang is not held while the next pool has no room for the rest",
		members: []*memberBuilder{
			member("m", 2, 8, "a", "b").holds("a", 8, names("a", 0, 5)...).podsOn(two...).grows(8, time.Minute, time.Minute).granted("a",
				time.Minute),
		},
		pools: []plan.Pool{outOfStock(pool("a", 10), time.Second), paused(pool("b", 10))},
		nodes: nodes("a", 0, 5),
		want:  []string{"a: 2 reserved, 2 held; BackingOff"},
		says:  []string{`and NodePool "b" is paused; the nodes that no pod uses are given back`},
	}, {
		name:    "a pool that is full or paused is passed over",
		members: []*memberBuilder{member("m", 2, 8, "a", "b", "c").holds("a", 2, two...).podsOn(two...)},
		pools:   []plan.Pool{pool("a", 3), paused(pool("b", 10)), pool("c", 10)},
		nodes:   nodes("a", 0, 2),
		want:    []string{"a: 2 reserved, 2 held; c: 6 reserved, 0 held; WaitingForNodes"},
	}, {
		name:    "pools that are too small alone serve a gang together",
		members: []*memberBuilder{member("m", 2, 8, "a", "b").holds("a", 2, two...).podsOn(two...)},
		pools:   []plan.Pool{pool("a", 5), pool("b", 4)},
		nodes:   nodes("a", 0, 2),
		want:    []string{"a: 5 reserved, 2 held; b: 3 reserved, 0 held; WaitingForNodes"},
		says:    []string{"reserved 3 more nodes in a and 3 more nodes in b for size 8"},
	}, {
		name: "and not where one pool has to have it all",
		members: []*memberBuilder{
			member("m", 2, 8, "a", "b").holds("a", 2, two...).podsOn(two...).takes(v1alpha1.GrowthAllOrNothing, v1alpha1.PlacementSingle),
		},
		pools: []plan.Pool{pool("a", 5), pool("b", 4)},
		nodes: nodes("a", 0, 2),
		want:  []string{"a: 2 reserved, 2 held; PoolTooSmall"},
		says:  []string{"8 nodes are needed and a has maxSize 5; 6 nodes are needed and b has maxSize 4"},
	}, {
		name: "a floor that nobody answers is told, with what may be wrong",
		members: []*memberBuilder{
			member("m", 2, 8, "a").holds("a", 8, two...).podsOn(two...).grows(8, time.Minute, time.Minute).granted("a", time.Minute),
		},
		pools: []plan.Pool{stalled(pool("a", 10), 45*time.Second, "nobody is there")},
		nodes: nodes("a", 0, 2),
		want:  []string{"a: 8 reserved, 2 held; WaitingForNodes"},
		says: []string{
			"2 of 8 nodes are Ready in a; the others have until 2026-11-23T12:01:00Z; nothing was ordered in a since 2026-11-23T11:59:15Z: nobody " +
				"is there",
		},
	}, {
		name: "greedy takes each node as it comes",
		members: []*memberBuilder{member("m", 2, 8, "a").holds("a", 8, names("a", 0, 5)...).podsOn(two...).grows(8, time.Minute, time.Minute).
			granted("a", time.Minute).takes(v1alpha1.GrowthGreedy, v1alpha1.PlacementSpan)},
		pools: []plan.Pool{pool("a", 10)},
		nodes: nodes("a", 0, 5),
		want:  []string{"a: 8 reserved, 5 held; resize to 5; WaitingForNodes"},
		says:  []string{"resizing the MiniCluster from 2 to 5; 5 nodes are Ready"},
	}, {
		name: "best effort waits for all nodes until their time is over",
		members: []*memberBuilder{member("m", 2, 8, "a").holds("a", 8, names("a", 0, 5)...).podsOn(two...).grows(8, time.Minute, time.Minute).
			granted("a", time.Minute).takes(v1alpha1.GrowthBestEffort, v1alpha1.PlacementSpan)},
		pools: []plan.Pool{pool("a", 10)},
		nodes: nodes("a", 0, 5),
		want:  []string{"a: 8 reserved, 5 held; WaitingForNodes"},
	}, {
		name: "and then takes what is there",
		members: []*memberBuilder{member("m", 2, 8, "a").holds("a", 8, names("a", 0, 5)...).podsOn(two...).grows(8, time.Hour, -time.Second).
			granted("a", time.Hour).takes(v1alpha1.GrowthBestEffort, v1alpha1.PlacementSpan)},
		pools: []plan.Pool{pool("a", 10)},
		nodes: nodes("a", 0, 5),
		want:  []string{"a: 5 reserved, 5 held; resize to 5; BackingOff"},
		says: []string{
			"5 of 8 nodes were Ready in a within its provisionTimeout; the member takes those that are there; attempt 2 is at 2026-11-23T12:01:00Z",
		},
	}, {
		name:    "pods that share a node need fewer nodes",
		members: []*memberBuilder{member("m", 2, 8, "a").shares(2, oneCore).holds("a", 1, "a-0").podsOn("a-0", "a-0")},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 1),
		want:    []string{"a: 4 reserved, 1 held; WaitingForNodes"},
		says:    []string{"reserved 3 more nodes in a for size 8"},
	}, {
		name:    "and the last node need not be full",
		members: []*memberBuilder{member("m", 2, 7, "a").shares(2, oneCore).holds("a", 4, names("a", 0, 4)...).podsOn("a-0", "a-0")},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 4),
		want:    []string{"a: 4 reserved, 4 held; resize to 7; Resizing"},
	}, {
		name:    "a node with room for one more pod is used before a new one is ordered",
		members: []*memberBuilder{member("m", 1, 2, "a").shares(2, oneCore).holds("a", 1, "a-0").podsOn("a-0")},
		pools:   []plan.Pool{pool("a", 10)},
		nodes:   nodes("a", 0, 1),
		want:    []string{"a: 1 reserved, 1 held; resize to 2; Resizing"},
	}, {
		name:    "as many as fit is what the pool with the least room for them has",
		members: []*memberBuilder{member("m", 1, 9, "a", "b").shares(plan.Auto, oneCore)},
		pools:   []plan.Pool{pool("a", 10), offering(pool("b", 10), 3500)},
		want:    []string{"a: 1 reserved, 0 held; WaitingForNodes"},
	}, {
		name:    "and a growth is counted by it",
		members: []*memberBuilder{member("m", 1, 9, "a", "b").shares(plan.Auto, oneCore).holds("a", 1, "a-0").podsOn("a-0")},
		pools:   []plan.Pool{pool("a", 10), offering(pool("b", 10), 3500)},
		nodes:   nodes("a", 0, 1),
		want:    []string{"a: 3 reserved, 1 held; WaitingForNodes"},
	}, {
		name:    "pods that would share a node that they do not fit together are refused with both amounts",
		members: []*memberBuilder{member("m", 1, 1, "a").shares(2, threeCore)},
		pools:   []plan.Pool{pool("a", 10)},
		want:    []string{"PodTooLarge"},
		says:    []string{"2 pods that share a node request 6 of cpu and an empty node of a offers 4"},
	}}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			observed := plan.Observed{Pools: tc.pools, Nodes: tc.nodes}
			for _, m := range tc.members {
				observed.Members = append(observed.Members, m.Member)
			}
			decisions := plan.Plan(observed, noon)
			var got []string
			for _, d := range decisions.Members {
				got = append(got, summary(d))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("decisions (-want +got):\n%s", diff)
			}
			said := words(decisions.Members[0])
			for _, text := range tc.says {
				if !strings.Contains(said, text) {
					t.Errorf("nothing says %q; said:\n%s", text, said)
				}
			}
		})
	}
}

// words are all texts of a decision.
func words(d plan.Decision) string {
	var out []string
	for _, n := range d.Notes {
		out = append(out, n.Message)
	}
	for _, c := range d.Conditions {
		out = append(out, c.Message)
	}
	return strings.Join(append(out, d.WhenReady), "\n")
}

func TestPlanClaimsTheNodesThatPodsAreOnWhoeverAskedFirst(t *testing.T) {
	t.Parallel()
	first := member("first", 2, 8, "a").holds("a", 2, names("a", 0, 1)...).podsOn("a-0").grows(8, time.Hour, 0)
	first.Growth.From = 2
	// The scheduler has put the pod of a new member on the node on which the first one had its second pod.
	second := member("second", 1, 1, "a").podsOn("a-1").grows(1, time.Minute, 0)
	third := member("third", 1, 1, "a").holds("a", 1, "a-2").podsOn("a-2")
	decisions := plan.Plan(plan.Observed{
		Members: []plan.Member{first.Member, second.Member, third.Member}, Pools: []plan.Pool{pool("a", 8)}, Nodes: nodes("a", 0, 3),
	}, noon).Members
	if reason, _ := conditionOf(decisions[0], v1alpha1.ConditionCapacityReserved); reason != v1alpha1.ReasonPoolFull {
		t.Fatalf("the first member says %s, want one that waits for room", reason)
	}
	if got := decisions[1].Reserved(); got != 1 {
		t.Errorf("%d nodes are reserved for the pod that runs, want 1: the floor counts what is reserved, and lacks a node otherwise", got)
	}
}

func TestPlanCountsNoRoomOnNodesThatAreNotReady(t *testing.T) {
	t.Parallel()
	m := member("m", 2, 6, "a").holds("a", 3, "a-0", "a-2", "a-1").podsOn("a-0", "a-0").grows(6, time.Minute, time.Minute).takes(
		v1alpha1.GrowthGreedy, v1alpha1.PlacementSpan,
	)
	m.PodsPerNode, m.PodRequests = 2, plan.Resources{corev1.ResourceCPU: 1300, corev1.ResourcePods: 1}
	list := nodes("a", 0, 3)
	list[0].Ready = false
	list[1].Requested = plan.Resources{corev1.ResourceCPU: 2000, corev1.ResourcePods: 1}
	d := plan.Plan(plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{pool("a", 10)}, Nodes: list}, noon).Members[0]
	if d.Resize != 3 {
		t.Errorf("resized to %d, want 3: one Ready node has room for a pod, the other for two", d.Resize)
	}
}
