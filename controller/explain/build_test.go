package explain_test

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/explain"
)

// now is the time of all facts.
var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

func microBefore(d time.Duration) metav1.MicroTime { return metav1.NewMicroTime(now.Add(-d)) }

// member is one of size 2 that wants 8 in hpc-a, as the controller has told of it with conditions.
func member(name string, edits ...func(*v1alpha1.EnsembleMember)) *v1alpha1.EnsembleMember {
	m := &v1alpha1.EnsembleMember{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Generation: 3},
		Spec:       v1alpha1.EnsembleMemberSpec{Size: 8, MinSize: 1, MaxSize: 10, NodePools: []string{"hpc-a"}},
		Status: v1alpha1.EnsembleMemberStatus{
			ObservedGeneration: 3, Size: 2, Running: 2, Reserved: 8, Nodes: 2,
			Reservations: []v1alpha1.Reservation{{NodePool: "hpc-a", Nodes: 8}},
			Growth:       &v1alpha1.Growth{From: 2, Size: 8, Since: microBefore(time.Minute)},
		},
	}
	for _, edit := range edits {
		edit(m)
	}
	return m
}

// conditions sets the conditions in order, each as REASON: the first open one has a message, those before it are True.
func conditions(pairs ...string) func(*v1alpha1.EnsembleMember) {
	kinds := []string{
		v1alpha1.ConditionCapacityReserved, v1alpha1.ConditionCapacityReady, v1alpha1.ConditionResized, v1alpha1.ConditionPodsRunning,
	}
	return func(m *v1alpha1.EnsembleMember) {
		var all []metav1.Condition
		for i, kind := range kinds {
			c := metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: kind, Message: kind + " is met"}
			if 2*i < len(pairs) && pairs[2*i] != "" {
				c.Status, c.Reason, c.Message = metav1.ConditionFalse, pairs[2*i], pairs[2*i+1]
			}
			all = append(all, c)
		}
		v1alpha1.SetConditions(&m.Status.Conditions, m.Generation, metav1.NewTime(now), "at size", all...)
	}
}

// waitsForNodes is a member whose claim is granted and whose nodes are not Ready.
var waitsForNodes = conditions("", "", v1alpha1.ReasonWaitingForNodes, "2 of 8 nodes are Ready in hpc-a; the others have until "+
	"2026-11-23T12:14:00Z",
	v1alpha1.ReasonWaitingForCapacity, "at size 2, wants 8", v1alpha1.ReasonPodsStarting, "2 of 8 pods run")

// unclaimed is a member that has only what it runs on.
func unclaimed(reason, message string) func(*v1alpha1.EnsembleMember) {
	return func(m *v1alpha1.EnsembleMember) {
		m.Status.Reserved = 2
		m.Status.Reservations = []v1alpha1.Reservation{{NodePool: "hpc-a", Nodes: 2}}
		conditions(reason, message, "", "", v1alpha1.ReasonWaitingForCapacity, "at size 2, wants 8")(m)
	}
}

// pool is hpc-a or another one with a target of replicas, of which ready are Ready, and a floor.
func pool(name string, floor, replicas, ready int32, edits ...func(*v1alpha1.NodePool)) v1alpha1.NodePool {
	changed := microBefore(100 * time.Second)
	p := v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.NodePoolSpec{
			MaxSize: 10, Replicas: replicas, ProvisionTimeout: metav1.Duration{Duration: 15 * time.Minute},
			Autoscaler: v1alpha1.AutoscalerClusterAutoscaler,
		},
		Status: v1alpha1.NodePoolStatus{Floor: floor, FloorChangedAt: &changed, Reserved: floor, Replicas: replicas, Ready: ready},
	}
	floorMet := metav1.Condition{Type: v1alpha1.ConditionFloorMet, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonFloorMet,
		Message: fmt.Sprintf("the target size %d is at or above the floor %d", replicas, floor)}
	if replicas < floor {
		floorMet.Status, floorMet.Reason = metav1.ConditionFalse, v1alpha1.ReasonFloorNotMet
		floorMet.Message = fmt.Sprintf("the target size %d is below the floor %d; waiting for Cluster Autoscaler, which has to run with "+
			"--enforce-node-group-min-size", replicas, floor)
	}
	v1alpha1.SetConditions(&p.Status.Conditions, 0, metav1.NewTime(changed.Time), "at rest", floorMet)
	for _, edit := range edits {
		edit(&p)
	}
	return p
}

// below sets since when a pool has been below its floor.
func below(d time.Duration) func(*v1alpha1.NodePool) {
	return func(p *v1alpha1.NodePool) {
		changed := microBefore(d)
		p.Status.FloorChangedAt = &changed
		for i := range p.Status.Conditions {
			p.Status.Conditions[i].LastTransitionTime = before(d)
		}
	}
}

// machine is one of hpc-a that was ordered some time ago, in a state.
func machine(name, state string, ordered time.Duration, edits ...func(*v1alpha1.PoolMachine)) v1alpha1.PoolMachine {
	m := v1alpha1.PoolMachine{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.PoolMachineSpec{NodePool: "hpc-a", OrderedAt: microBefore(ordered)},
		Status: v1alpha1.PoolMachineStatus{Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: state},
		}},
	}
	for _, edit := range edits {
		edit(&m)
	}
	return m
}

// node is one of hpc-a that is Ready.
func node(name string, edits ...func(*corev1.Node)) corev1.Node {
	n := corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.LabelNodePool: "hpc-a"}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: before(time.Hour)},
		}},
	}
	for _, edit := range edits {
		edit(&n)
	}
	return n
}

// notReady is a node that does not become Ready.
func notReady(n *corev1.Node) {
	n.Status.Conditions[0] = corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: "cni plugin not initialized",
		LastTransitionTime: before(30 * time.Second),
	}
}

// podOf is a pod of a member, behind its gate or on a node.
func podOf(member string, index int, gated bool) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: fmt.Sprintf("%s-%d", member, index), Labels: map[string]string{v1alpha1.LabelMember: member},
	}}
	if gated {
		p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}}
		p.Status.Phase = corev1.PodPending
		return p
	}
	p.Spec.NodeName = fmt.Sprintf("hpc-a-%d", index)
	p.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	return p
}

// unlabelled is a pod of no member.
func unlabelled(p corev1.Pod) corev1.Pod {
	p.Labels = nil
	return p
}

// autoscaler is a Cluster Autoscaler that looked some time ago and knows hpc-a.
func autoscaler(looked time.Duration, edits ...func(*explain.NodeGroup)) *explain.Autoscaler {
	group := explain.NodeGroup{Name: "hpc-a", Health: "Healthy", Target: 2, MinSize: 2, MaxSize: 10, ScaleUp: "NoActivity"}
	for _, edit := range edits {
		edit(&group)
	}
	return &explain.Autoscaler{
		Namespace: "ensemble-autoscaler-system", Time: now.Add(-looked), State: "Running", Health: "Healthy",
		NodeGroups: []explain.NodeGroup{group},
	}
}
