package karpenter

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// orphanAgain is how often a node is looked at that Karpenter does not know yet.
const orphanAgain = 10 * time.Second

// Orphans deletes nodes of machines that registered when their claim was gone already, or had another machine. Karpenter does not know
// such a node, and leaves it with its taint for ever: where the cloud ends the instance, its node is deleted by that too, and where it was
// ended before it registered, by nobody.
type Orphans struct {
	Client client.Client
	// Live reads from the API server.
	Live client.Reader
	// Cluster is the UID of the namespace kube-system, with which claims are marked.
	Cluster string
}

// SetupWithManager starts it with a manager.
func (o *Orphans) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("karpenterorphan").
		For(&corev1.Node{}, builder.WithPredicates(predicate.NewPredicateFuncs(isUnregistered))).
		Complete(o)
}

// isUnregistered reports whether a node is one of a machine, and Karpenter does not know it yet.
func isUnregistered(object client.Object) bool {
	node, ok := object.(*corev1.Node)
	return ok && node.Labels[v1alpha1.LabelMachine] != "" && node.DeletionTimestamp == nil &&
		slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == taintUnregistered })
}

// isAnother reports whether a claim is of the machine that a node is marked with, and has another instance. A provider id is not there from
// the beginning: Karpenter writes that of the claim, and a cloud-controller-manager, where the kubelet does not, that of the
// node. What somebody else's claim means is not known.
func (o *Orphans) isAnother(claim *NodeClaim, node *corev1.Node) bool {
	pool := &launch.Pool{Cluster: o.Cluster, Name: node.Labels[v1alpha1.LabelNodePool]}
	return isOfPool(pool, claim) && claim.Status.ProviderID != "" && node.Spec.ProviderID != "" &&
		claim.Status.ProviderID != node.Spec.ProviderID
}

// Reconcile implements reconcile.Reconciler.
func (o *Orphans) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var node corev1.Node
	if err := o.Client.Get(ctx, request.NamespacedName, &node); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !isUnregistered(&node) {
		return ctrl.Result{}, nil
	}
	// The claim was there before the node, and claims of machines do not come again. Karpenter keeps in memory what it has launched until
	// it is written: where it was killed in between, it has launched another one for the claim.
	var claim NodeClaim
	name := node.Labels[v1alpha1.LabelMachine]
	switch err := o.Live.Get(ctx, client.ObjectKey{Name: name}, &claim); {
	case apierrors.IsNotFound(err):
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("get NodeClaim %s: %w", name, err)
	case !o.isAnother(&claim, &node):
		return ctrl.Result{RequeueAfter: orphanAgain}, nil
	}
	preconditions := client.Preconditions{UID: &node.UID, ResourceVersion: &node.ResourceVersion}
	if err := o.Client.Delete(ctx, &node, preconditions); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return ctrl.Result{}, nil // Its event brings the next look.
		}
		return ctrl.Result{}, fmt.Errorf("delete Node %s, whose NodeClaim is gone: %w", node.Name, err)
	}
	log.FromContext(ctx).Info("Deleted a node that registered for no NodeClaim", "node", node.Name, "machine", name)
	return ctrl.Result{}, nil
}
