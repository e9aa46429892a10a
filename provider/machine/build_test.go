package machine

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// noon is when the tests begin.
var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// machineOf is machine p-0 of an order of one that was made a minute ago.
func machineOf(change ...func(*v1alpha1.PoolMachine)) *v1alpha1.PoolMachine {
	m := &v1alpha1.PoolMachine{
		ObjectMeta: metav1.ObjectMeta{Name: "p-0", Finalizers: []string{v1alpha1.FinalizerMachine}},
		Spec: v1alpha1.PoolMachineSpec{
			NodePool: "p", Purpose: v1alpha1.PurposeReservation, OrderedAt: metav1.NewMicroTime(noon.Add(-time.Minute)),
			Order: v1alpha1.MachineOrder{ID: "o", Size: 1},
		},
	}
	for _, c := range change {
		c(m)
	}
	return m
}

// launched is a machine that the cloud has made, and of whose node nothing is known.
func launched(m *v1alpha1.PoolMachine) {
	m.Status.ProviderID = "cloud://0"
	m.Status.Conditions = []metav1.Condition{
		{Type: v1alpha1.ConditionLaunched, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonLaunched},
	}
}

// registered is a machine whose node is known.
func registered(m *v1alpha1.PoolMachine) {
	launched(m)
	m.Status.NodeName = "n"
}

// hasFailed is a machine of which a failure is recorded.
func hasFailed(m *v1alpha1.PoolMachine) {
	m.Status.Failure = &v1alpha1.MachineFailure{Machine: m.Name, Time: metav1.NewMicroTime(noon), Class: v1alpha1.FailureOther,
		Code: "First", Message: "it was the first"}
}

// going is a machine whose record was deleted some time ago.
func going(ago time.Duration) func(*v1alpha1.PoolMachine) {
	return func(m *v1alpha1.PoolMachine) {
		at := metav1.NewTime(noon.Add(-ago))
		m.DeletionTimestamp = &at
	}
}

// nodeOf is the node of that machine, which registered some time ago.
func nodeOf(ago time.Duration, ready corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", CreationTimestamp: metav1.NewTime(noon.Add(-ago))},
		Spec:       corev1.NodeSpec{ProviderID: "cloud://0"},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}},
	}
}

func answered(kind launch.OutcomeKind, id, code, message string) *outcome {
	return &outcome{launch.Outcome{Kind: kind, ProviderID: id, Code: code, Message: message}}
}

// listed is what a listing says of the machine that was asked for some time ago.
func listed(instance *launch.Instance, absentFor, ago time.Duration) sighting {
	out := sighting{instance: instance, listed: noon.Add(-ago)}
	if absentFor > 0 {
		out.absentSince = noon.Add(-absentFor)
	}
	return out
}
