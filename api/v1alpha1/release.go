package v1alpha1

import (
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Releasing reports whether the provider has tainted a node for release. A Cluster Autoscaler that has just
// started removes such taints; the annotation then stands alone and does not count. Nor does it for a taint that was put
// there at another time, which is Cluster Autoscaler's own.
func Releasing(node *corev1.Node) bool {
	said := node.Annotations[AnnotationReleasing]
	if said == "" {
		return false
	}
	at, err := time.Parse(time.RFC3339, said)
	return err == nil && slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == TaintToBeDeleted && t.Value == ToBeDeletedValue(at)
	})
}

// ToBeDeletedValue is the value of the taint that is put on a node at a time, the seconds since 1970, as Cluster Autoscaler
// writes it.
func ToBeDeletedValue(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
