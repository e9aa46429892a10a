package record

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// taintDisrupted is the taint by which Karpenter says that it is removing a node.
const taintDisrupted = "karpenter.sh/disrupted"

// Leaving reports whether somebody else is removing a node: it is being deleted, or Cluster Autoscaler or Karpenter has
// tainted it.
func Leaving(node *corev1.Node) bool {
	return node.DeletionTimestamp != nil || slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == taintDisrupted || (t.Key == v1alpha1.TaintToBeDeleted && !v1alpha1.Releasing(node))
	})
}

// CountPods counts the pods that keep a node from being empty: those that have not ended, of DaemonSets and mirror pods apart.
func CountPods(pods []corev1.Pod) int {
	count := 0
	for i := range pods {
		if Counts(&pods[i]) {
			count++
		}
	}
	return count
}

// Counts reports whether a pod keeps its node from being empty.
func Counts(pod *corev1.Pod) bool {
	ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	owner := metav1.GetControllerOfNoCopy(pod)
	daemon := owner != nil && owner.Kind == "DaemonSet"
	return !ended && !mirror && !daemon
}
