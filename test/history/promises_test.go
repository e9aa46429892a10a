package history_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/history"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// story is a record, an event a second.
type story []history.Event

func (s story) then(objects ...client.Object) story {
	// Stories with a common beginning do not share it.
	s = slices.Clone(s)
	for _, o := range objects {
		s = append(s, history.Event{Version: uint64(len(s) + 1), At: noon.Add(time.Duration(len(s)) * time.Second), Object: o})
	}
	return s
}

func (s story) gone(o client.Object) story {
	s = s.then(o)
	s[len(s)-1].Deleted = true
	return s
}

func node(name string, ready bool) *corev1.Node {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.LabelNodePool: "hpc"}},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}},
	}
}

func cluster(size, applied int) client.Object {
	u := minicluster.New()
	u.SetNamespace("ns")
	u.SetName("m")
	if applied > 0 {
		u.SetAnnotations(map[string]string{v1alpha1.AnnotationAppliedSize: strconv.Itoa(applied)})
	}
	u.Object["spec"] = map[string]any{"size": int64(size), "minSize": int64(1), "maxSize": int64(4)}
	return u
}

func member(name string, reserved int32, held ...string) *v1alpha1.EnsembleMember {
	return &v1alpha1.EnsembleMember{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec:       v1alpha1.EnsembleMemberSpec{Size: 2, MinSize: 1, MaxSize: 4},
		Status:     v1alpha1.EnsembleMemberStatus{Reservations: []v1alpha1.Reservation{{NodePool: "hpc", Nodes: reserved, Held: held}}},
	}
}

func pool(target int32, toDelete ...string) *v1alpha1.NodePool {
	return &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: "hpc"},
		Spec:       v1alpha1.NodePoolSpec{MaxSize: 4, Replicas: target, MachinesToDelete: toDelete},
	}
}

func pod(index int, on string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "m-" + strconv.Itoa(index), UID: types.UID("pod-" + strconv.Itoa(index)),
			Labels: map[string]string{batchv1.JobNameLabel: "m", "hpa-selector": "m", batchv1.JobCompletionIndexAnnotation: strconv.Itoa(index)},
		},
		Spec:   corev1.PodSpec{NodeName: on},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func starved(p *corev1.Pod) {
	p.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}}}}
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable},
	}}
}

// labelled pods are those of a MiniCluster that was managed from its creation on.
func labelled(p *corev1.Pod) { p.Labels[v1alpha1.LabelMember] = "m" }

func gated(p *corev1.Pod) {
	labelled(p)
	p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}}
}

// releasedFor is a pod that may go to a node.
func releasedFor(node string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		labelled(p)
		p.Annotations = map[string]string{v1alpha1.AnnotationNode: node}
	}
}

// roomy is a Ready node with room for one pod.
func roomy(name string) *corev1.Node {
	n := node(name, true)
	n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}
	return n
}

func succeeded(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }

func ofDaemonSet(p *corev1.Pod) {
	p.Labels = nil
	p.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Name: "d", Controller: new(true)}}
}

// TestBroken: each promise that is broken is noticed, and what is allowed is not taken for a breach.
func TestBroken(t *testing.T) {
	t.Parallel()
	begin := story{}.then(pool(0), node("a", true), node("b", true), cluster(1, 1), member("m", 1, "a"))
	for name, row := range map[string]struct {
		events story
		says   string // nothing when no promise is broken
	}{
		"a growth onto Ready nodes":                     {begin.then(member("m", 2, "a", "b"), cluster(2, 2)), ""},
		"a growth before the node is Ready":             {begin.then(node("b", false), member("m", 2, "a", "b"), cluster(2, 2)), "resized from 1 to 2 with 1 Ready nodes held: [a]"},
		"a growth before the node is held":              {begin.then(cluster(2, 2), member("m", 2, "a", "b")), "resized from 1 to 2 with 1 Ready nodes held: [a]"},
		"a growth without a member":                     {story{}.then(cluster(1, 1), cluster(2, 2)), "without a member"},
		"a growth beyond the maximum":                   {begin.then(node("c", true), node("d", true), node("e", true), member("m", 5, "a", "b", "c", "d", "e"), cluster(5, 5)), "outside 1 to 4"},
		"a size that a user writes":                     {begin.then(cluster(3, 1)), ""},
		"a shrink":                                      {begin.then(member("m", 2, "a", "b"), cluster(2, 2), cluster(1, 1)), ""},
		"a wish beyond the maximum":                     {begin.then(wishing(5)), "member ns/m wants 5, outside 1 to 4"},
		"more reserved than the pool can have":          {begin.then(member("n", 4)), "5 nodes are reserved in hpc, above its maxSize 4"},
		"a node held twice":                             {begin.then(member("n", 1, "a")), "node a is held for"},
		"a target above the maximum":                    {begin.then(pool(5)), "the target of hpc is 5, above its maxSize 4"},
		"an empty machine told to go":                   {begin.then(pool(1, "b")), ""},
		"a machine told to go under a pod":              {begin.then(pod(0, "a"), pool(1, "a")), "node a: the machine was told to go while pod ns/m-0 was on it"},
		"a machine told to go after its pod":            {begin.then(pod(0, "a"), pod(0, "a", succeeded), pool(1, "a")), ""},
		"a node deleted under a pod":                    {begin.then(pod(1, "b")).gone(node("b", true)), "node b: the node was deleted while pod ns/m-1 was on it"},
		"a node deleted under a DaemonSet's pod":        {begin.then(pod(1, "b", ofDaemonSet)).gone(node("b", true)), ""},
		"a node that is taken under a pod":              {begin.then(pod(1, "b")).gone(taken("b")), ""},
		"a pod whose node was taken":                    {begin.then(pod(1, "b")).gone(taken("b")).then(pod(1, "", starved)), ""},
		"a pod beside one whose node was taken":         {begin.then(pod(1, "b")).gone(taken("b")).then(pod(2, "", starved)), "a pod before its node: pod ns/m-2"},
		"a node deleted after its pod":                  {begin.then(pod(1, "b")).gone(pod(1, "b")).gone(node("b", true)), ""},
		"a grown pod that waits for a node":             {begin.then(pod(1, "", starved)), "a pod before its node: pod ns/m-1"},
		"a first pod that waits for a node":             {begin.then(pod(0, "", starved)), ""},
		"a pod of a user's edit that waits":             {begin.then(cluster(3, 1), pod(2, "", starved)), ""},
		"a pod whose node the scheduler has yet to see": {begin.then(roomy("a"), pod(1, "", starved)), ""},
		"a pod whose node is full":                      {begin.then(roomy("a"), pod(0, "a", starved), pod(1, "", starved)), "a pod before its node: pod ns/m-1"},
		"a gated pod":                                   {begin.then(pod(0, "", gated)), ""},
		"a first pod without its gate that waits":       {begin.then(pod(0, "", labelled, starved)), "a pod before its node: pod ns/m-0"},
		"a pod released for a node held":                {begin.then(pod(0, "", gated), pod(0, "", releasedFor("a"))), ""},
		"a pod released for a node of nobody":           {begin.then(pod(0, "", gated), pod(0, "", releasedFor("b"))), "pod ns/m-0 was released for node b, which is not held for ns/m"},
		"a pod of a MiniCluster that is unmanaged":      {story{}.then(pod(7, "", starved)), ""},
		"machines up to the target":                     {begin.then(pool(2), machine("x"), machine("y")), ""},
		"a machine beyond the target":                   {begin.then(pool(1), machine("x"), machine("y")), "machine y was ordered: hpc has 2 machines and its target is 1"},
		"a machine beside one on its way out":           {begin.then(pool(1), machine("x"), pool(1, "x"), machine("y")), ""},
		"a machine claimed for a higher target":         {begin.then(claimed(2), claimed(1), machine("x"), machine("y")), ""},
		"a machine ordered twice":                       {begin.then(pool(2), machine("x")).gone(machine("x")).then(machine("x")), "machine x was ordered twice"},
		"a machine that is gone before its node":        {begin.then(pool(1), registered("a")).gone(registered("a")), "machine a has gone and left its node"},
		"a machine cancelled as it registers":           {begin.then(pool(1), machine("a")).gone(machine("a")), ""},
		"a machine that is gone after its node":         {begin.then(pool(1), registered("a")).gone(node("a", true)).gone(registered("a")), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken := strings.Join(history.Broken(row.events), "\n")
			if (row.says == "") != (broken == "") || !strings.Contains(broken, row.says) {
				t.Errorf("got %q, want %q", broken, row.says)
			}
		})
	}
}

func machine(name string) *v1alpha1.KwokMachine {
	return &v1alpha1.KwokMachine{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.KwokMachineSpec{NodePool: "hpc"}}
}

// taken is a node that the test takes away.
func taken(name string) *corev1.Node {
	n := node(name, true)
	n.Annotations = map[string]string{history.AnnotationTaken: "true"}
	return n
}

func registered(name string) *v1alpha1.KwokMachine {
	m := machine(name)
	m.Status.RegisteredAt = new(metav1.NewTime(noon))
	return m
}

// claimed is a pool for which two names were claimed.
func claimed(target int32) *v1alpha1.NodePool {
	p := pool(target)
	p.Status.MachinesOrdered = 2
	return p
}

// TestLost: a node that goes is lost unless its machine was told to go before.
func TestLost(t *testing.T) {
	t.Parallel()
	begin := story{}.then(pool(1), machine("a"), node("a", true))
	if lost := history.Lost(begin.then(pool(0, "a")).gone(node("a", true))); len(lost) > 0 {
		t.Errorf("a node whose machine was told to go: %v", lost)
	}
	if lost := history.Lost(story{}.then(pool(1), node("a", true)).gone(node("a", true))); len(lost) > 0 {
		t.Errorf("a node without a machine: %v", lost)
	}
	if lost := history.Lost(begin.gone(node("a", true))); len(lost) != 1 || !strings.Contains(lost[0], "node a of hpc was deleted") {
		t.Errorf("a node whose machine was not told to go: %v", lost)
	}
}

func wishing(size int32) *v1alpha1.EnsembleMember {
	m := member("m", 1, "a")
	m.Spec.Size = size
	return m
}

func TestWaited(t *testing.T) {
	t.Parallel()
	events := story{}.then(pod(1, "", starved), pod(2, "", starved), pod(1, "", starved), pod(1, "a"), pod(1, "a"), pod(0, "", starved), pod(2, "b"))
	waited := history.Waited(events, func(p *corev1.Pod) bool { return history.IndexOf(p) >= 1 })
	if want := 3*time.Second + 5*time.Second; waited != want {
		t.Errorf("the pods waited %s, not %s", waited, want)
	}
}
