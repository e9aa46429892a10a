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
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
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

// thenListed is for what was there when the record began.
func (s story) thenListed(o client.Object) story {
	s = s.then(o)
	s[len(s)-1].Listed = true
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
		Spec:       corev1.NodeSpec{ProviderID: "cloud://" + name},
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
	p.Spec.Containers = []corev1.Container{
		{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}}},
	}
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
	begin := story{}.then(pool(2), registered("a"), instance("a"), registered("b"), instance("b"),
		node("a", true), node("b", true), cluster(1, 1), member("m", 1, "a"))
	for name, row := range map[string]struct {
		events story
		says   string // nothing when no promise is broken
	}{
		"a growth onto Ready nodes": {begin.then(member("m", 2, "a", "b"), cluster(2, 2)), ""},
		"a growth before the node is Ready": {
			begin.then(node("b", false), member("m", 2, "a", "b"), cluster(2, 2)), "resized from 1 to 2 with 1 Ready nodes held: [a]",
		},
		"a growth before the node is held": {
			begin.then(cluster(2, 2), member("m", 2, "a", "b")), "resized from 1 to 2 with 1 Ready nodes held: [a]",
		},
		"a growth without a member": {story{}.then(cluster(1, 1), cluster(2, 2)), "without a member"},
		"a growth beyond the maximum": {
			begin.then(node("c", true), node("d", true), node("e", true), member("m", 5, "a", "b", "c", "d", "e"), cluster(5, 5)),
			"outside 1 to 4",
		},
		"a size that a user writes":            {begin.then(cluster(3, 1)), ""},
		"a shrink":                             {begin.then(member("m", 2, "a", "b"), cluster(2, 2), cluster(1, 1)), ""},
		"a desired size beyond the maximum":    {begin.then(desiring(5)), "member ns/m wants 5, outside 1 to 4"},
		"more reserved than the pool can have": {begin.then(member("n", 4)), "5 nodes are reserved in hpc, above its maxSize 4"},
		"a node held twice":                    {begin.then(member("n", 1, "a")), "node a is held for"},
		"a target above the maximum":           {begin.then(pool(5)), "the target of hpc is 5, above its maxSize 4"},
		"an empty machine told to go":          {begin.then(pool(1, "of-b")), ""},
		"a machine told to go under a pod": {
			begin.then(pod(0, "a"), pool(1, "of-a")), "node a: the machine was told to go while pod ns/m-0 was on it",
		},
		"a machine told to go after its pod": {begin.then(pod(0, "a"), pod(0, "a", succeeded), pool(1, "of-a")), ""},
		"a node deleted under a pod": {
			begin.then(pod(1, "b")).gone(node("b", true)), "node b: the node was deleted while pod ns/m-1 was on it",
		},
		"a node deleted under a DaemonSet's pod": {begin.then(pod(1, "b", ofDaemonSet)).gone(node("b", true)), ""},
		"a node that is taken under a pod":       {begin.then(pod(1, "b")).gone(taken("b")), ""},
		"a pod whose node was taken":             {begin.then(pod(1, "b")).gone(taken("b")).then(pod(1, "", starved)), ""},
		"a pod beside one whose node was taken": {
			begin.then(pod(1, "b")).gone(taken("b")).then(pod(2, "", starved)), "a pod before its node: pod ns/m-2",
		},
		"a node deleted after its pod":                  {begin.then(pod(1, "b")).gone(pod(1, "b")).gone(node("b", true)), ""},
		"a grown pod that waits for a node":             {begin.then(pod(1, "", starved)), "a pod before its node: pod ns/m-1"},
		"a first pod that waits for a node":             {begin.then(pod(0, "", starved)), ""},
		"a pod of a user's edit that waits":             {begin.then(cluster(3, 1), pod(2, "", starved)), ""},
		"a pod whose node the scheduler has yet to see": {begin.then(roomy("a"), pod(1, "", starved)), ""},
		"a pod whose node is full": {
			begin.then(roomy("a"), pod(0, "a", starved), pod(1, "", starved)), "a pod before its node: pod ns/m-1",
		},
		"a pod that was kept off its node, which went": {refused(begin, 31), ""},
		"a pod whose node went soon":                   {refused(begin, 3), "a pod before its node: pod ns/m-1"},
		"a gated pod":                                  {begin.then(pod(0, "", gated)), ""},
		"a first pod without its gate that waits":      {begin.then(pod(0, "", labelled, starved)), "a pod before its node: pod ns/m-0"},
		"a pod released for a node held":               {begin.then(pod(0, "", gated), pod(0, "", releasedFor("a"))), ""},
		"a pod released for a node of nobody": {
			begin.then(pod(0, "", gated), pod(0, "", releasedFor("b"))), "pod ns/m-0 was released for node b, which is not held for ns/m",
		},
		"a pod of a MiniCluster that is unmanaged": {story{}.then(pod(7, "", starved)), ""},
		"a machine told to go that has crashed":    {begin.then(pod(0, "a"), instance("a", crashed), pool(1, "of-a")), ""},
		"a machine told to go that is taken away":  {begin.then(pod(0, "a"), instance("a", leavingSoon), pool(1, "of-a")), ""},
		"a machine told to go that is said to be gone": {
			begin.then(pod(0, "a"), failed("a"), pool(1, "of-a")), "node a: the machine was told to go while pod ns/m-0 was on it",
		},
		"a machine told to go before it is recorded": {
			story{}.then(pool(1), machine("of-c"), instance("c"), node("c", true), pod(0, "c"), pool(0, "of-c")),
			"node c: the machine was told to go while pod ns/m-0 was on it",
		},
		"a machine told to go whose node is gone": {begin.then(pod(1, "b")).gone(taken("b")).then(pool(1, "of-b")), ""},
		"a node of a machine that has crashed": {
			begin.then(pod(1, "b"), instance("b", crashed)).gone(node("b", true)).then(pod(1, "", starved)), "",
		},
		"a node of a machine that is said to be gone": {
			begin.then(pod(1, "b"), failed("b")).gone(node("b", true)), "node b: the node was deleted while pod ns/m-1 was on it",
		},
		"an instance ended under a pod": {
			begin.then(pod(1, "b")).gone(instance("b")), "node b: its instance was ended while pod ns/m-1 was on it",
		},
		"an instance ended that has crashed": {begin.then(pod(1, "b")).gone(instance("b", crashed)).gone(node("b", true)), ""},
		"an instance that the test takes": {
			begin.then(pod(1, "b")).gone(instance("b", annotated(history.AnnotationTaken))).then(pool(1, "of-b")).gone(node("b", true)), "",
		},
		"an instance ended after its node": {begin.gone(node("b", true)).gone(instance("b")), ""},
		"machines up to the target":        {begin.then(pool(4), machine("x"), machine("y")), ""},
		"a machine beyond the target": {
			begin.then(pool(3), machine("x"), machine("y")), "machine y was ordered: hpc has 4 machines and its target is 3",
		},
		"a machine beside one on its way out":    {begin.then(pool(3), machine("x"), pool(3, "x"), machine("y")), ""},
		"a machine beside one that is cancelled": {begin.then(pool(3), machine("x"), cancelled(machine("x")), machine("y")), ""},
		"a machine claimed for a higher target":  {begin.then(claimed(4), claimed(1), machine("x"), machine("y")), ""},
		"a machine that was found":               {begin.then(found("x")), ""},
		"a machine ordered twice": {
			begin.then(pool(4), machine("x")).gone(machine("x")).then(machine("x")), "machine x was ordered twice",
		},
		"a machine that is gone before its node": {
			begin.gone(instance("b")).gone(registered("b")), "machine of-b has gone and left its node",
		},
		"a machine cancelled as it registers":   {begin.then(pool(3), machine("of-c"), node("c", true)).gone(machine("of-c")), ""},
		"a machine that is gone after its node": {begin.gone(node("b", true)).gone(instance("b")).gone(registered("b")), ""},
		"a record that goes before the machine": {
			begin.gone(node("b", true)).gone(registered("b")), "the record of machine of-b has gone, and the cloud has instance i-b of it",
		},
		"an instance without a record": {
			begin.then(instance("c")), "the cloud has made instance i-c of machine of-c, which there is no record of",
		},
		"an instance before its record": {
			begin.then(instance("c"), machine("of-c")), "the cloud has made instance i-c of machine of-c, which there is no record of",
		},
		"an instance that the cloud makes besides": {begin.then(instance("c", ofNobody)), ""},
		"an instance that the test has made":       {begin.then(instance("c", annotated(history.AnnotationPlanted))), ""},
		"an instance that was there before":        {begin.thenListed(instance("c")), ""},
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

// machine is the record of one that boots.
func machine(name string) *v1alpha1.PoolMachine {
	return &v1alpha1.PoolMachine{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PoolMachineSpec{NodePool: "hpc"}}
}

// registered is the record of the machine of a node, which has another name.
func registered(node string) *v1alpha1.PoolMachine {
	m := machine("of-" + node)
	m.Status.ProviderID, m.Status.NodeName = "cloud://"+node, node
	return m
}

// failed is such a record that says that the machine is no more.
func failed(node string) *v1alpha1.PoolMachine {
	m := registered(node)
	m.Status.Failure = &v1alpha1.MachineFailure{Code: "Vanished"}
	return m
}

// cancelled is such a record that is being deleted.
func cancelled(m *v1alpha1.PoolMachine) *v1alpha1.PoolMachine {
	m.DeletionTimestamp = new(metav1.NewTime(noon))
	return m
}

// instance is what the cloud has of the machine of a node.
func instance(node string, change ...func(*v1alpha1.KwokInstance)) *v1alpha1.KwokInstance {
	i := &v1alpha1.KwokInstance{
		ObjectMeta: metav1.ObjectMeta{Name: "i-" + node},
		Spec:       v1alpha1.KwokInstanceSpec{NodePool: "hpc", Machine: "of-" + node, NodeName: node, ProviderID: "cloud://" + node},
	}
	for _, c := range change {
		c(i)
	}
	return i
}

func crashed(i *v1alpha1.KwokInstance) {
	i.Status.Failure = &v1alpha1.MachineFailure{Code: "Crashed"}
}

func leavingSoon(i *v1alpha1.KwokInstance) { i.Status.LeavingAt = new(metav1.NewMicroTime(noon)) }

func ofNobody(i *v1alpha1.KwokInstance) { i.Spec.Machine = "" }

func annotated(key string) func(*v1alpha1.KwokInstance) {
	return func(i *v1alpha1.KwokInstance) { i.Annotations = map[string]string{key: "true"} }
}

// taken is a node that the test takes away.
func taken(name string) *corev1.Node {
	n := node(name, true)
	n.Annotations = map[string]string{history.AnnotationTaken: "true"}
	return n
}

// found is the record of a machine that nobody has ordered.
func found(name string) *v1alpha1.PoolMachine {
	m := machine(name)
	m.Annotations = map[string]string{v1alpha1.AnnotationAdopted: "cloud://" + name}
	return m
}

// claimed is a pool for which two names were claimed.
func claimed(target int32) *v1alpha1.NodePool {
	p := pool(target)
	p.Status.MachinesOrdered = 2
	return p
}

// TestLost: a node that goes is lost unless its machine was told to go before, or the cloud takes it away.
func TestLost(t *testing.T) {
	t.Parallel()
	begin := story{}.then(pool(1), registered("a"), instance("a"), node("a", true))
	for name, row := range map[string]struct {
		events story
		says   string
	}{
		"a node whose machine was told to go": {begin.then(pool(0, "of-a")).gone(node("a", true)), ""},
		"a node without a machine":            {story{}.then(pool(1), node("a", true)).gone(node("a", true)), ""},
		"a node whose machine has crashed":    {begin.then(instance("a", crashed)).gone(node("a", true)), ""},
		"a node whose machine was cancelled before it came": {
			story{}.then(pool(1), cancelled(machine("of-a")), node("a", true), cancelled(registered("a"))).gone(node("a", true)), "",
		},
		"a node whose machine was not told to go": {begin.gone(node("a", true)), "node a of hpc was deleted"},
		"a node whose machine is said to be gone": {
			begin.then(failed("a")).gone(node("a", true)), "node a of hpc was deleted",
		},
		"a node whose record was deleted": {
			begin.then(cancelled(registered("a"))).gone(node("a", true)), "node a of hpc was deleted",
		},
		"a node whose machine was told to go only when it was deleted": {
			begin.gone(node("a", true)).then(pool(0, "of-a")), "node a of hpc was deleted",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lost := strings.Join(history.Lost(row.events), "\n")
			if (row.says == "") != (lost == "") || !strings.Contains(lost, row.says) {
				t.Errorf("got %q, want %q", lost, row.says)
			}
		})
	}
}

func desiring(size int32) *v1alpha1.EnsembleMember {
	m := member("m", 1, "a")
	m.Spec.Size = size
	return m
}

func TestWaited(t *testing.T) {
	t.Parallel()
	events := story{}.then(
		pod(1, "", starved), pod(2, "", starved), pod(1, "", starved), pod(1, "a"), pod(1, "a"), pod(0, "", starved), pod(2, "b"),
	)
	waited := history.Waited(events, func(p *corev1.Pod) bool { return history.IndexOf(p) >= 1 })
	if want := 3*time.Second + 5*time.Second; waited != want {
		t.Errorf("the pods waited %s, not %s", waited, want)
	}
}

// refused is a pod that the scheduler keeps off its node for some seconds, until the node goes.
func refused(begin story, seconds int) story {
	waits := pod(1, "", starved, releasedFor("a"))
	waits.UID = "refused"
	s := begin.then(roomy("a"))
	for range seconds {
		s = s.then(waits)
	}
	return s.gone(roomy("a")).then(waits)
}
