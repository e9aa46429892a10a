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
// kept pods away until now. A machine that is told to go, or that has failed, gets no pods any more. A node that says that it is of
// another pool is left alone: which of the two is wrong is not known here.
func (r *Reconciler) adopt(ctx context.Context, m *v1alpha1.PoolMachine, seen *seen) error {
	node := seen.node
	if node == nil || node.DeletionTimestamp != nil || m.DeletionTimestamp != nil || m.Status.Failure != nil {
		return nil
	}
	if (m.Status.NodeName != "" && m.Status.NodeName != node.Name) || r.adopted.Behind(node) {
		return nil
	}
	if pool := node.Labels[v1alpha1.LabelNodePool]; pool != "" && pool != m.Spec.NodePool {
		return fmt.Errorf("node %s has the label of NodePool %s, and its machine %s is one of %s: take the label off the node",
			node.Name, pool, m.Name, m.Spec.NodePool)
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
	out.Labels, out.Annotations = record.WithPool(node.Labels, m.Spec.NodePool), maps.Clone(node.Annotations)
	if out.Annotations == nil {
		out.Annotations = map[string]string{}
	}
	if m.Spec.Purpose == v1alpha1.PurposeReservation && out.Annotations[v1alpha1.AnnotationReserved] == "" {
		out.Annotations[v1alpha1.AnnotationReserved] = "true"
	}
	out.Spec.Taints = slices.DeleteFunc(
		slices.Clone(node.Spec.Taints), func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintRegistration },
	)
	return out
}

// label makes sure that a node has the label of a pool, of whichever, before it is deleted: a policy of the API server lets the provider
// delete no others, and one whose machine has failed at once never got it.
func (r *Reconciler) label(ctx context.Context, m *v1alpha1.PoolMachine, node *corev1.Node) error {
	if node.Labels[v1alpha1.LabelNodePool] != "" {
		return nil
	}
	labelled := &corev1.Node{ObjectMeta: node.ObjectMeta, Spec: node.Spec}
	labelled.Labels = record.WithPool(node.Labels, m.Spec.NodePool)
	patch, err := record.NodePatch(node, labelled)
	if err != nil || patch == nil {
		return err
	}
	if err := r.Client.Patch(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name}}, patch); err != nil {
		return fmt.Errorf("label node %s before it is deleted: %w", node.Name, err)
	}
	return nil
}
