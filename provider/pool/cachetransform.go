package pool

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// longestValue is the size in bytes up to which what others annotate a node with is kept.
const longestValue = 64

// StripNode keeps of a node in the cache what is read or patched. It may be anybody's, and become one of a machine: that depends on what is
// written down of the machine.
//
// Of annotations the names are kept, since a patch depends on whether there are any, and values that are short: those of others are neither
// read nor written.
func StripNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	out := &corev1.Node{ObjectMeta: node.ObjectMeta}
	out.ManagedFields = nil
	for name, value := range out.Annotations {
		if len(value) > longestValue && !isRead(name) {
			out.Annotations[name] = ""
		}
	}
	out.Spec = corev1.NodeSpec{ProviderID: node.Spec.ProviderID, Unschedulable: node.Spec.Unschedulable, Taints: node.Spec.Taints}
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			out.Status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status, LastTransitionTime: c.LastTransitionTime}}
		}
	}
	return out, nil
}

// isRead reports whether the value of an annotation of nodes is read here.
func isRead(annotation string) bool {
	switch annotation {
	case v1alpha1.AnnotationReserved, v1alpha1.AnnotationReleasing, v1alpha1.AnnotationHeldBy, v1alpha1.AnnotationGivenUp,
		v1alpha1.AnnotationScaleDownDisabled, v1alpha1.AnnotationScaleDownDisabledByUser:
		return true
	default:
		return false
	}
}
