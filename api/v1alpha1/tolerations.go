package v1alpha1

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Tolerates reports whether one of the tolerations of a pod is for a taint of a node. The comparisons of numbers that newer
// versions of Kubernetes have for tolerations count as those of texts that differ: a pod with them is taken not to tolerate.
func Tolerates(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	return slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool {
		switch {
		case t.Effect != "" && t.Effect != taint.Effect:
			return false
		case t.Key == "":
			return t.Operator == corev1.TolerationOpExists
		case t.Key != taint.Key:
			return false
		case t.Operator == corev1.TolerationOpExists:
			return true
		}
		return (t.Operator == "" || t.Operator == corev1.TolerationOpEqual) && t.Value == taint.Value
	})
}
