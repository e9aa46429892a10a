package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOneLoopCallsTheProviderInTheOrderOfClusterAutoscaler(t *testing.T) {
	w := newWorld(t)
	w.join("hpc-a", "0", true)
	w.provider.groups["hpc-a"].target = 1
	foreign := newNode("other", "0", true)
	w.cluster.nodes[foreign.Name] = foreign
	w.pass(0)
	w.provider.taken()

	w.now = w.now.Add(2 * time.Second)
	if err := w.autoscaler.runOnce(t.Context(), w.now); err != nil {
		t.Fatal(err)
	}
	want := []string{
		// The group of hpc-a-0 is cached from the last loop; a node of no group is asked for each time.
		"NodeGroupForNode other-0",
		"Refresh",
		"NodeGroups",
		"TemplateNodeInfo hpc-a", "TemplateNodeInfo hpc-b",
		"TargetSize hpc-a", "TargetSize hpc-b",
		// Nodes is cached.
		"NodeGroupForNode hpc-a-0", "GetOptions hpc-a", "NodeGroupForNode other-0",
		// Scale-down.
		"TargetSize hpc-a", "TargetSize hpc-b", "NodeGroupForNode other-0", "GetOptions hpc-a",
		// Enforcement of the minimum sizes.
		"TargetSize hpc-a", "TargetSize hpc-b",
	}
	if got := w.provider.taken(); !slices.Equal(got, want) {
		t.Errorf("calls\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestMachinesAreListedEveryTwoMinutesUnlessTheGroupIsScaled(t *testing.T) {
	w := newWorld(t)
	listed := func(after time.Duration) int {
		w.pass(0)
		w.now = w.now.Add(after)
		w.provider.taken()
		if err := w.autoscaler.runOnce(t.Context(), w.now); err != nil {
			t.Fatal(err)
		}
		count := 0
		for _, call := range w.provider.taken() {
			if call == "Nodes hpc-a" {
				count++
			}
		}
		return count
	}
	if got := listed(time.Second); got != 0 {
		t.Errorf("an idle group was listed %d times after a second, want 0", got)
	}
	if got := listed(2 * time.Minute); got != 1 {
		t.Errorf("an idle group was listed %d times after two minutes, want 1", got)
	}
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.min = 2 })
	if got := listed(time.Second); got != 1 {
		t.Errorf("a group that is being scaled was listed %d times after a second, want 1", got)
	}
}

func TestFloorIsEnforcedWithTheWholeDeltaInOneCall(t *testing.T) {
	w := newWorld(t)
	w.join("hpc-a", "0", true)
	w.join("hpc-a", "1", true)
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.target = 2 })
	w.want(w.pass(0))
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.min = 8 })
	w.want(w.pass(2*time.Second), "IncreaseSize hpc-a 6")
	w.want(w.pass(2 * time.Second))
}

func TestFloorIsNotEnforcedWithoutTheFlag(t *testing.T) {
	w := newWorld(t, "--enforce-node-group-min-size=false")
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.min = 8 })
	w.want(w.pass(0))
}

func TestAFloorThatSankAfterTheRefreshIsEnforcedAllTheSame(t *testing.T) {
	w := newWorld(t)
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.min, g.target = 4, 4 })
	for i := range 4 {
		w.join("hpc-a", fmt.Sprint(i), true)
	}
	w.want(w.pass(0))
	// The provider lowers floor and target while a loop is under way. Its pods let the loop come far
	// enough: choose is called between the refresh and the enforcement.
	w.pend(newPod("big", "3", "hpc-b"))
	w.autoscaler.choose = func([]expansion) int {
		w.provider.edit("hpc-a", func(g *fakeGroup) { g.min, g.target = 1, 1 })
		return 0
	}
	w.want(w.pass(2*time.Second), "IncreaseSize hpc-b 1", "IncreaseSize hpc-a 3")
}

func TestFailedIncreaseBacksTheGroupOff(t *testing.T) {
	w := newWorld(t)
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.min = 3 })
	w.provider.failing["IncreaseSize"] = errors.New("no")
	w.want(w.pass(0), "IncreaseSize hpc-a 3")
	delete(w.provider.failing, "IncreaseSize")
	w.want(w.pass(4 * time.Minute))
	w.want(w.pass(2*time.Minute), "IncreaseSize hpc-a 3")
}

func TestBackoffDoublesUpToItsLongest(t *testing.T) {
	b := newBackoffs(options{initialBackoff: 5 * time.Minute, maxBackoff: 30 * time.Minute, backoffReset: 3 * time.Hour})
	now := start
	for i, want := range []time.Duration{5, 10, 20, 30, 30} {
		until := b.fail("hpc-a", failure{code: "x"}, now)
		if got := until.Sub(now); got != want*time.Minute {
			t.Errorf("failure %d: backoff of %s, want %dm", i, got, want)
		}
		if _, active := b.active("hpc-a", now.Add(time.Minute)); !active {
			t.Errorf("failure %d: not active a minute later", i)
		}
		if again := b.fail("hpc-a", failure{code: "y"}, now.Add(time.Second)); again.Sub(until) != time.Second {
			t.Errorf("failure %d: one more during the backoff moved its end by %s, want 1s", i, again.Sub(until))
		}
		now = until.Add(2 * time.Second)
	}
	if got := b.fail("hpc-a", failure{}, now.Add(4*time.Hour)).Sub(now.Add(4 * time.Hour)); got != 5*time.Minute {
		t.Errorf("after the reset time: backoff of %s, want 5m", got)
	}
}

func TestScaleUpForPendingPods(t *testing.T) {
	for name, row := range map[string]struct {
		pods    []*corev1.Pod
		prepare func(*world)
		want    []string
	}{
		"one node a pod": {
			pods: []*corev1.Pod{newPod("a", "3", "hpc-a"), newPod("b", "3", "hpc-a")},
			want: []string{"IncreaseSize hpc-a 2"},
		},
		"small pods share a node": {
			pods: []*corev1.Pod{newPod("a", "2", "hpc-a"), newPod("b", "2", "hpc-a"), newPod("c", "1", "hpc-a")},
			want: []string{"IncreaseSize hpc-a 2"},
		},
		"never above the maximum size": {
			pods:    []*corev1.Pod{newPod("a", "3", "hpc-b"), newPod("b", "3", "hpc-b"), newPod("c", "3", "hpc-b")},
			prepare: func(w *world) { w.provider.groups["hpc-b"].max = 2 },
			want:    []string{"IncreaseSize hpc-b 2"},
		},
		"a pod larger than a node helps nobody": {
			pods: []*corev1.Pod{newPod("a", "5", "hpc-a")},
		},
		"a pod that fits a node that exists": {
			pods: []*corev1.Pod{newPod("a", "3", "hpc-a")},
			prepare: func(w *world) {
				w.join("hpc-a", "0", true)
				w.provider.groups["hpc-a"].target = 1
			},
		},
		"a node that is full does not count": {
			pods: []*corev1.Pod{newPod("a", "3", "hpc-a")},
			prepare: func(w *world) {
				w.bind(newPod("x", "2", ""), w.join("hpc-a", "0", true))
				w.provider.groups["hpc-a"].target = 1
			},
			want: []string{"IncreaseSize hpc-a 1"},
		},
		"an untolerated taint of the template": {
			pods: []*corev1.Pod{newPod("a", "3", "hpc-a")},
			prepare: func(w *world) {
				w.provider.groups["hpc-a"].template.Spec.Taints = []corev1.Taint{{Key: "dedicated", Value: "hpc", Effect: corev1.TaintEffectNoSchedule}}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if row.prepare != nil {
				row.prepare(w)
			}
			for _, pod := range row.pods {
				w.pend(pod)
			}
			w.want(w.pass(0), row.want...)
		})
	}
}

func TestNewPodsWaitOneLoop(t *testing.T) {
	w := newWorld(t)
	pod := newPod("a", "3", "hpc-a")
	pod.CreationTimestamp = metav1.NewTime(start.Add(-time.Second))
	w.pend(pod)
	w.want(w.pass(0))
	w.want(w.pass(2*time.Second), "IncreaseSize hpc-a 1")
}

func TestPodsThatTheSchedulerHasNotRefusedBuyNothing(t *testing.T) {
	w := newWorld(t)
	gated := newPod("gated", "3", "hpc-a")
	gated.Status.Conditions = []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated},
	}
	w.cluster.pods["gated"] = gated
	w.want(w.pass(0))
}

func TestUpcomingNodesKeepPodsFromBuyingTwice(t *testing.T) {
	w := newWorld(t)
	w.pend(newPod("a", "3", "hpc-a"))
	w.want(w.pass(0), "IncreaseSize hpc-a 1")
	w.want(w.pass(10 * time.Second))
	w.join("hpc-a", "0", false)
	w.want(w.pass(10 * time.Second))
}

func TestATargetRaisedByOthersIsNotUpcoming(t *testing.T) {
	// Since 1.36 only nodes that the autoscaler asked for itself are expected to come.
	w := newWorld(t)
	w.provider.edit("hpc-a", func(g *fakeGroup) {
		g.target, g.instances = 1, []*externalgrpc.Instance{creating("0", "")}
	})
	w.want(w.pass(0))
	w.pend(newPod("a", "3", "hpc-a"))
	w.want(w.pass(2*time.Second), "IncreaseSize hpc-a 1")
}

func TestAGroupWithATargetAndNoMachineIsUnhealthy(t *testing.T) {
	w := newWorld(t)
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.target, g.min = 1, 4 })
	w.want(w.pass(0))
}

func TestUnneededNodeIsTaintedThenDeleted(t *testing.T) {
	w := newWorld(t)
	w.join("hpc-a", "0", true)
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.target = 1 })
	w.want(w.pass(0))
	w.want(w.pass(10 * time.Minute))
	if got := w.cluster.taints("hpc-a-0"); !slices.Equal(got, []string{"DeletionCandidateOfClusterAutoscaler"}) {
		t.Errorf("taints %v while unneeded, want the soft one alone", got)
	}
	w.want(w.pass(time.Second))
	if got := w.cluster.taints("hpc-a-0"); !slices.Contains(got, "ToBeDeletedByClusterAutoscaler") {
		t.Errorf("taints %v after the unneeded time, want ToBeDeletedByClusterAutoscaler", got)
	}
	w.want(w.pass(5*time.Second), "DeleteNodes hpc-a hpc-a-0")
}

func TestNodesThatStay(t *testing.T) {
	for name, prepare := range map[string]func(*world, *corev1.Node){
		"the minimum size is reached": func(w *world, _ *corev1.Node) { w.provider.groups["hpc-a"].min = 1 },
		"scale-down is disabled by annotation": func(_ *world, node *corev1.Node) {
			node.Annotations = map[string]string{v1alpha1.AnnotationScaleDownDisabled: "true"}
		},
		"a pod runs there": func(w *world, node *corev1.Node) { w.bind(newPod("x", "1", ""), node) },
		"another is deleting it": func(_ *world, node *corev1.Node) {
			node.Spec.Taints = []corev1.Taint{{Key: v1alpha1.TaintToBeDeleted, Effect: corev1.TaintEffectNoSchedule}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "--node-delete-delay-after-taint=0s")
			// The first loop takes such taints for its own.
			w.want(w.pass(0))
			prepare(w, w.join("hpc-a", "0", true))
			w.provider.edit("hpc-a", func(g *fakeGroup) { g.target = 1 })
			for range 4 {
				w.want(w.pass(11 * time.Minute))
			}
		})
	}
}

func TestDaemonSetPodsDoNotKeepANode(t *testing.T) {
	w := newWorld(t, "--node-delete-delay-after-taint=0s")
	pod := newPod("agent", "1", "")
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "agent", Controller: new(true)}}
	w.bind(pod, w.join("hpc-a", "0", true))
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.target = 1 })
	w.want(w.pass(0))
	w.want(w.pass(11*time.Minute), "DeleteNodes hpc-a hpc-a-0")
}

func TestScaleDownStopsAtTheMinSize(t *testing.T) {
	w := newWorld(t, "--node-delete-delay-after-taint=0s")
	for i := range 5 {
		w.join("hpc-a", fmt.Sprint(i), true)
	}
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.target, g.min = 5, 3 })
	w.want(w.pass(0))
	w.want(w.pass(11*time.Minute), "DeleteNodes hpc-a hpc-a-0", "DeleteNodes hpc-a hpc-a-1")
	delete(w.cluster.nodes, "hpc-a-0")
	delete(w.cluster.nodes, "hpc-a-1")
	w.want(w.pass(11 * time.Minute))
}

func TestNodesOnTheirWayOutCountAgainstTheMinSize(t *testing.T) {
	w := newWorld(t, "--node-delete-delay-after-taint=1m")
	for i := range 2 {
		w.join("hpc-a", fmt.Sprint(i), true)
	}
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.target, g.min = 2, 1 })
	w.want(w.pass(0))
	w.want(w.pass(11 * time.Minute)) // taints hpc-a-0
	w.want(w.pass(time.Second))
	if got := w.cluster.taints("hpc-a-1"); slices.Contains(got, v1alpha1.TaintToBeDeleted) {
		t.Error("hpc-a-1 is tainted too, which leaves the group below its minimum size")
	}
	w.want(w.pass(time.Minute), "DeleteNodes hpc-a hpc-a-0")
}

func TestNoScaleDownShortlyAfterAScaleUp(t *testing.T) {
	w := newWorld(t, "--node-delete-delay-after-taint=0s", "--scale-down-unneeded-time=1m", "--scale-down-delay-after-add=10m")
	w.join("hpc-a", "0", true)
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.target = 1 })
	w.provider.edit("hpc-b", func(g *fakeGroup) { g.min = 1 })
	w.want(w.pass(0), "IncreaseSize hpc-b 1")
	w.join("hpc-b", "0", true)
	w.want(w.pass(5 * time.Minute))
	w.want(w.pass(6*time.Minute), "DeleteNodes hpc-a hpc-a-0")
}

func TestNodeThatTheProviderKeepsLosesItsTaint(t *testing.T) {
	for name, prepare := range map[string]func(*world){
		"the provider refuses": func(w *world) { w.provider.failing["DeleteNodes"] = errors.New("held by default/demo") },
		"a pod has come":       func(w *world) { w.bind(newPod("late", "1", ""), w.cluster.nodes["hpc-a-0"]) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.join("hpc-a", "0", true)
			w.provider.edit("hpc-a", func(g *fakeGroup) { g.target = 1 })
			w.pass(0)
			w.pass(11 * time.Minute)
			if !slices.Contains(w.cluster.taints("hpc-a-0"), v1alpha1.TaintToBeDeleted) {
				t.Fatal("the node was not tainted")
			}
			prepare(w)
			w.pass(5 * time.Second)
			if slices.Contains(w.cluster.taints("hpc-a-0"), v1alpha1.TaintToBeDeleted) {
				t.Error("the taint is still there")
			}
		})
	}
}

func TestFirstLoopRemovesTaintsOfItsGroupsWhoeverPutThem(t *testing.T) {
	w := newWorld(t)
	taint := corev1.Taint{Key: v1alpha1.TaintToBeDeleted, Value: "1", Effect: corev1.TaintEffectNoSchedule}
	w.join("hpc-a", "0", true).Spec.Taints = []corev1.Taint{taint}
	foreign := newNode("other", "0", true)
	foreign.Spec.Taints = []corev1.Taint{taint}
	w.cluster.nodes[foreign.Name] = foreign
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.target, g.min = 1, 1 })
	w.pass(0)
	if got := w.cluster.taints("hpc-a-0"); len(got) != 0 {
		t.Errorf("taints %v of a node of a group after the first loop, want none", got)
	}
	if got := w.cluster.taints("other-0"); len(got) != 1 {
		t.Errorf("taints %v of a foreign node, want its own", got)
	}
}

func TestNodeTaintedAndDeletedByOthersIsNeitherReplacedNorMissed(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		w.join("hpc-a", fmt.Sprint(i), true)
	}
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.target, g.min = 3, 3 })
	w.want(w.pass(0))
	w.cluster.nodes["hpc-a-2"].Spec.Taints = []corev1.Taint{{Key: v1alpha1.TaintToBeDeleted, Effect: corev1.TaintEffectNoSchedule}}
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.min = 2 })
	w.want(w.pass(2 * time.Second))
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.target = 2 })
	w.want(w.pass(2 * time.Second))
	delete(w.cluster.nodes, "hpc-a-2")
	w.want(w.pass(2 * time.Second))
}

// creating is a machine of hpc-a that is on order, failed when code is not empty.
func creating(name, code string) *externalgrpc.Instance {
	i := &externalgrpc.Instance{
		Id:     "kwok://hpc-a/" + name,
		Status: &externalgrpc.InstanceStatus{InstanceState: externalgrpc.InstanceStatus_instanceCreating},
	}
	if code != "" {
		i.Status.ErrorInfo = &externalgrpc.InstanceErrorInfo{ErrorCode: code, ErrorMessage: "no stock", InstanceErrorClass: 1}
	}
	return i
}

func TestFailedMachinesAreDeletedAndTheGroupBacksOff(t *testing.T) {
	w := newWorld(t)
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.min = 4 })
	w.want(w.pass(0), "IncreaseSize hpc-a 4")
	w.provider.edit("hpc-a", func(g *fakeGroup) {
		g.instances = []*externalgrpc.Instance{creating("0", ""), creating("1", "STOCKOUT"), creating("2", "STOCKOUT"), creating("3", "")}
	})
	w.want(w.pass(2*time.Second), "DeleteNodes hpc-a kwok://hpc-a/1,kwok://hpc-a/2")
	// The floor is unmet and the group is left alone.
	w.want(w.pass(2 * time.Second))
	w.provider.edit("hpc-b", func(g *fakeGroup) { g.min = 4 })
	w.want(w.pass(2*time.Second), "IncreaseSize hpc-b 4")
}

func TestMachinesThatNeverRegisterAreDeletedDownToTheMinSize(t *testing.T) {
	w := newWorld(t)
	w.provider.edit("hpc-a", func(g *fakeGroup) {
		g.target = 3
		g.instances = []*externalgrpc.Instance{creating("0", ""), creating("1", ""), creating("2", "")}
	})
	w.want(w.pass(0))
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.min = 1 })
	w.want(w.pass(15 * time.Minute))
	w.want(w.pass(time.Second), "DeleteNodes hpc-a kwok://hpc-a/0,kwok://hpc-a/1")
}

func TestScaleUpThatTakesTooLongIsAskedBackWhole(t *testing.T) {
	w := newWorld(t)
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.min = 3 })
	w.want(w.pass(0), "IncreaseSize hpc-a 3")
	w.join("hpc-a", "0", true)
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.min = 0 })
	w.want(w.pass(15*time.Minute+time.Second), "DecreaseTargetSize hpc-a -3")
}

func TestRefreshErrorSkipsTheLoop(t *testing.T) {
	w := newWorld(t)
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.min = 3 })
	w.provider.failing["Refresh"] = errors.New("not ready")
	w.want(w.pass(0))
	delete(w.provider.failing, "Refresh")
	w.want(w.pass(time.Second), "IncreaseSize hpc-a 3")
}

func TestNodeGroupsErrorForgetsScaleUpsUnderWay(t *testing.T) {
	w := newWorld(t)
	w.pend(newPod("a", "3", "hpc-a"))
	w.want(w.pass(0), "IncreaseSize hpc-a 1")
	w.provider.failing["NodeGroups"] = errors.New("not ready")
	w.want(w.pass(2 * time.Second))
	delete(w.provider.failing, "NodeGroups")
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.instances = []*externalgrpc.Instance{creating("0", "")} })
	w.autoscaler.provider.forgetNodes("hpc-a")
	w.want(w.pass(2*time.Second), "IncreaseSize hpc-a 1")
}

func TestAnAnswerToGetOptionsMakesFreshNodesUnready(t *testing.T) {
	w := newWorld(t)
	w.provider.options = &externalgrpc.NodeGroupAutoscalingOptions{
		ScaleDownUnneededDuration: durationpb.New(10 * time.Minute),
		MaxNodeProvisionDuration:  durationpb.New(15 * time.Minute),
	}
	w.pend(newPod("a", "3", "hpc-a"))
	w.want(w.pass(0), "IncreaseSize hpc-a 1")
	// The node has registered and is not Ready yet. Without an answer it would count as upcoming.
	w.join("hpc-a", "0", false).Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}}
	w.want(w.pass(2*time.Second), "IncreaseSize hpc-a 1")
}

func TestGroupWithoutATemplateIsNotScaledUp(t *testing.T) {
	w := newWorld(t)
	w.provider.failing["TemplateNodeInfo"] = errors.New("none")
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.min = 3 })
	w.want(w.pass(0))
}

func TestUnhealthyClusterIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	for i := range 4 {
		w.join("hpc-a", fmt.Sprint(i), false).CreationTimestamp = metav1.NewTime(start.Add(-time.Hour))
	}
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.target = 4 })
	w.provider.edit("hpc-b", func(g *fakeGroup) { g.min = 1 })
	w.want(w.pass(0))
}

func TestTargetAboveTheNodesForTooLongIsLowered(t *testing.T) {
	w := newWorld(t)
	w.join("hpc-a", "0", true)
	w.provider.edit("hpc-a", func(g *fakeGroup) { g.target, g.min = 3, 1 })
	w.want(w.pass(0))
	w.want(w.pass(15*time.Minute+time.Second), "DecreaseTargetSize hpc-a -2")
}

func TestLoopEndsWithItsContext(t *testing.T) {
	w := newWorld(t, "--scan-interval=1h")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.autoscaler.loop(ctx) }()
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("ended with %v, want no error", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("still running 10 s after the end of its context")
	}
}
