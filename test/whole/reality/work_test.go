package reality

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// TestSuspend: a Job that is suspended gives its nodes to whoever waits for them. When it is resumed it waits in turn, as a growth whose
// pods have no nodes yet.
func TestSuspend(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 3})
	m := x.cluster("m", 3, cluster{}, p)
	x.atSize(m, 3)
	other := x.cluster("other", 2, cluster{}, p)
	x.says(other, []string{v1alpha1.ReasonPoolFull}, p)
	x.suspend(m, true)
	x.says(m, []string{v1alpha1.ReasonSuspended})
	x.atSize(other, 2)
	x.until(func(s *history.State) string {
		return unless(s.Members[m].Status.Reserved == 0 && len(s.PodsOf(m)) == 0, "%d nodes are reserved for a Job that is suspended, %d pods "+
			"are there",
			s.Members[m].Status.Reserved, len(s.PodsOf(m)))
	})
	x.suspend(m, false)
	x.until(func(s *history.State) string {
		gated := gatedOf(s, m)
		return unless(gated == 3, "%d of 3 pods are behind the gate: %s", gated, words(s.Members[m]))
	})
	x.says(m, []string{v1alpha1.ReasonPoolFull, v1alpha1.ReasonQueued}, p)
	x.remove(other)
	x.atSize(m, 3)
}

// TestSuspendedGrowth: who is suspended buys nothing, whatever it wants. It has that when it is resumed.
func TestSuspendedGrowth(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 20})
	m := x.cluster("m", 2, cluster{}, p)
	x.atSize(m, 2)
	x.suspend(m, true)
	x.says(m, []string{v1alpha1.ReasonSuspended})
	x.machines(p, 0)
	x.scale(m, 5)
	x.until(func(s *history.State) string {
		member := s.Members[m]
		return unless(
			member.Spec.Size == 5 && condition(member, v1alpha1.ConditionReady).ObservedGeneration == member.Generation,
			"the new size has not been seen",
		)
	})
	x.says(m, []string{v1alpha1.ReasonSuspended})
	x.size(m, 2)
	x.within(p, 2)
	x.suspend(m, false)
	x.atSize(m, 5)
	x.machines(p, 5)
	x.within(p, 7)
}

// TestSucceeded: a rank that has succeeded needs its node no more, and is no rank that does not run.
func TestSucceeded(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 20})
	x.atMost(p, 3, "nothing is bought for a rank that has succeeded")
	m := x.cluster("m", 3, cluster{}, p)
	x.atSize(m, 3)
	pods := x.pods(m, 3)
	node := pods[2].Spec.NodeName
	x.patch(podObject(pods[2]), `{"metadata":{"annotations":{"test.ensemble-autoscaler/run-seconds":"1"}}}`)
	x.until(func(s *history.State) string {
		return unless(s.Nodes[node] == nil, "the node of a pod that has succeeded is still there: %s", words(s.Members[m]))
	})
	x.machines(p, 2)
	x.until(func(s *history.State) string {
		member := s.Members[m]
		return unless(saysReady(member) && member.Status.Running == 3 && member.Status.Reserved == 2, "%d of 3 pods run or have succeeded on "+
			"%d nodes: %s",
			member.Status.Running, member.Status.Reserved, words(member))
	})
	x.size(m, 3)
}

// TestNamespaceGoes: a namespace that is being deleted claims nothing, however long that takes.
func TestNamespaceGoes(t *testing.T) {
	x := newTenant(t, "reality.example.com/keep: workloads")
	p := x.pool("p", pool{maxSize: 20, kwok: "bootDelay: 5s"})
	m := x.cluster("m", 2, cluster{}, p)
	x.atSize(m, 2)
	x.scale(m, 5)
	x.until(func(s *history.State) string {
		return unless(len(machinesOf(s, p)) == 5, "there are the machines %v", machinesOf(s, p))
	})
	x.delete(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: x.namespace}})
	x.until(func(s *history.State) string {
		return unless(ends(s.Members[m]), "%s does not say that it goes: %s", m, words(s.Members[m]))
	})
	x.machines(p, 0)
	x.size(m, 2)
	for _, event := range shared.recorder.Events() {
		cluster, is := event.Object.(*unstructured.Unstructured)
		if !is || client.ObjectKeyFromObject(cluster) != m {
			continue
		}
		if size, _, _ := unstructured.NestedInt64(cluster.Object, "spec", "size"); size > 2 {
			x.Errorf("the MiniCluster was given the size %d in a namespace that is being deleted", size)
			break
		}
	}
	x.apply(
		"{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicyBinding, metadata: {name: reality-keep}, spec: " +
			"{policyName: reality-none, validationActions: [Deny]}}",
	)
	x.until(func(s *history.State) string {
		return unless(
			s.Members[m] == nil && s.MiniClusters[m] == nil, "the MiniCluster (%t) or its member (%t) is still there", s.MiniClusters[m] != nil,
			s.Members[m] != nil,
		)
	})
}

// gatedOf counts the pods of a MiniCluster that wait behind the gate.
func gatedOf(s *history.State, m types.NamespacedName) (gated int) {
	for _, pod := range s.PodsOf(m) {
		if history.Gated(pod) && pod.DeletionTimestamp == nil {
			gated++
		}
	}
	return gated
}
