package record

import (
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// taintDisrupted is the taint by which Karpenter says that it is removing a node.
const taintDisrupted = "karpenter.sh/disrupted"

// Releasing reports whether the provider has tainted a node for release. A Cluster Autoscaler that has just
// started removes such taints; the annotation then stands alone and does not count. Nor does it for a taint that was put
// there at another time, which is Cluster Autoscaler's own.
func Releasing(node *corev1.Node) bool {
	said := node.Annotations[v1alpha1.AnnotationReleasing]
	if said == "" {
		return false
	}
	at, err := time.Parse(time.RFC3339, said)
	return err == nil && slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == v1alpha1.TaintToBeDeleted && t.Value == ToBeDeletedValue(at)
	})
}

// ToBeDeletedValue is the value of the taint that is put on a node at a time, the seconds since 1970, as Cluster Autoscaler
// writes it.
func ToBeDeletedValue(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }

// Leaving reports whether somebody else is removing a node: it is being deleted, or Cluster Autoscaler or Karpenter has
// tainted it.
func Leaving(node *corev1.Node) bool {
	return node.DeletionTimestamp != nil || slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == taintDisrupted || (t.Key == v1alpha1.TaintToBeDeleted && !Releasing(node))
	})
}

// CountPods counts the pods that keep a node from being empty: those that have not ended, of DaemonSets and mirror pods apart.
func CountPods(pods []corev1.Pod) int {
	count := 0
	for i := range pods {
		pod := &pods[i]
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
		owner := metav1.GetControllerOf(pod)
		daemon := owner != nil && owner.Kind == "DaemonSet"
		if !ended && !mirror && !daemon {
			count++
		}
	}
	return count
}
