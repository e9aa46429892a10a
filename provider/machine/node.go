package machine

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
)

// adopt makes a node say what its bootstrap did not know: its pool, and that it is ours to release; and takes the taint off that
// kept pods away until now. A machine that is told to go, or that has failed, gets no pods any more.
func (r *Reconciler) adopt(ctx context.Context, m *v1alpha1.PoolMachine, seen *seen) error {
	node := seen.node
	if node == nil || node.DeletionTimestamp != nil || m.DeletionTimestamp != nil || m.Status.Failure != nil {
		return nil
	}
	if (m.Status.NodeName != "" && m.Status.NodeName != node.Name) || r.adopted.Behind(node) {
		return nil
	}
	patch, err := record.NodePatch(node, adopted(m, node))
	if err != nil || patch == nil {
		return err
	}
	written := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name}}
	err = r.Client.Patch(ctx, written, patch)
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsConflict(err) {
		return nil // The node has changed; its event brings the next look.
	}
	if err != nil {
		return fmt.Errorf("adopt node %s: %w", node.Name, err)
	}
	r.adopted.Wrote(written)
	return nil
}

// adopted is the node of a machine as it is to be.
func adopted(m *v1alpha1.PoolMachine, node *corev1.Node) *corev1.Node {
	out := &corev1.Node{ObjectMeta: node.ObjectMeta}
	out.Labels, out.Annotations = maps.Clone(node.Labels), maps.Clone(node.Annotations)
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	if out.Annotations == nil {
		out.Annotations = map[string]string{}
	}
	out.Labels[v1alpha1.LabelNodePool] = m.Spec.NodePool
	if m.Spec.Purpose == v1alpha1.PurposeReservation && out.Annotations[v1alpha1.AnnotationReserved] == "" {
		out.Annotations[v1alpha1.AnnotationReserved] = "true"
	}
	out.Spec.Taints = slices.DeleteFunc(slices.Clone(node.Spec.Taints), func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintRegistration })
	return out
}
