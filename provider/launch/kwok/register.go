package kwok

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// annotationManaged is how the kwok controller knows the nodes that it keeps Ready.
const annotationManaged = "kwok.x-k8s.io/node"

// register makes sure of the node of an instance that has booted, and records it.
func (b *Boot) register(ctx context.Context, instance *v1alpha1.KwokInstance) error {
	var node corev1.Node
	switch err := b.Client.Get(ctx, client.ObjectKey{Name: instance.Spec.NodeName}, &node); {
	case apierrors.IsNotFound(err):
		return b.createNode(ctx, instance)
	case err != nil:
		return fmt.Errorf("get Node %s: %w", instance.Spec.NodeName, err)
	case !metav1.IsControlledBy(&node, instance):
		return fmt.Errorf("KwokInstance %s cannot register: a Node named %s exists and is not its own", instance.Name, node.Name)
	}
	return b.recordRegistration(ctx, instance)
}

// createNode creates the node of an instance that has none yet. The cache may not know that the instance has registered, and has
// lost its node since, or was told to end, or is gone: a node that it got then would be nobody's.
func (b *Boot) createNode(ctx context.Context, instance *v1alpha1.KwokInstance) error {
	var now v1alpha1.KwokInstance
	if err := b.Live.Get(ctx, client.ObjectKeyFromObject(instance), &now); err != nil {
		return client.IgnoreNotFound(err)
	}
	if now.UID != instance.UID || now.DeletionTimestamp != nil || now.Status.TerminatingAt != nil || now.Status.RegisteredAt != nil {
		// The event that the cache has yet to see brings the next pass.
		return nil
	}
	node := nodeOf(instance)
	if err := controllerutil.SetControllerReference(instance, node, b.Client.Scheme()); err != nil {
		return fmt.Errorf("own Node %s: %w", node.Name, err)
	}
	// A node of that name that exists already is looked at in the next pass, which its event causes.
	if err := b.Client.Create(ctx, node); err != nil {
		return fmt.Errorf("create Node %s: %w", node.Name, err)
	}
	log.FromContext(ctx).Info("Instance registered its node", "instance", instance.Name, "node", node.Name, "nodePool", instance.Spec.NodePool,
		"afterSeconds", b.Clock.Since(instance.Spec.LaunchedAt.Time).Seconds())
	return b.recordRegistration(ctx, instance)
}

func (b *Boot) recordRegistration(ctx context.Context, instance *v1alpha1.KwokInstance) error {
	updated := instance.DeepCopy()
	now := metav1.NewMicroTime(b.Clock.Now())
	updated.Status.RegisteredAt = &now
	return client.IgnoreNotFound(b.Client.Status().Patch(ctx, updated, client.MergeFrom(instance)))
}

// removeOrphanedNode deletes the node of an instance that is gone. There is one when the instance was deleted while the cache
// still let it boot. Until then the node is Ready and takes pods, and belongs to no pool that Cluster Autoscaler is told of.
func (b *Boot) removeOrphanedNode(ctx context.Context, instance string) error {
	// Which name the node has is written in the instance, which is gone: it is one of the two that there can be.
	for _, name := range []string{instance, NodeName(instance)} {
		var node corev1.Node
		switch err := b.Client.Get(ctx, client.ObjectKey{Name: name}, &node); {
		case apierrors.IsNotFound(err):
			continue
		case err != nil:
			return fmt.Errorf("get Node %s: %w", name, err)
		}
		if !isOwnedBy(&node, instance) {
			continue
		}
		// The cache may not have the instance yet.
		var there v1alpha1.KwokInstance
		if err := b.Live.Get(ctx, client.ObjectKey{Name: instance}, &there); !apierrors.IsNotFound(err) {
			return err
		}
		if err := client.IgnoreNotFound(b.Client.Delete(ctx, &node, client.Preconditions{UID: &node.UID})); err != nil {
			return fmt.Errorf("delete Node %s, whose instance is gone: %w", name, err)
		}
		log.FromContext(ctx).Info("Instance is gone; removed the node that it has registered meanwhile", "instance", instance, "node", name)
	}
	return nil
}

// isOwnedBy reports whether a node is that of an instance of that name.
func isOwnedBy(node *corev1.Node, instance string) bool {
	owner := metav1.GetControllerOf(node)
	return owner != nil && owner.APIVersion == v1alpha1.GroupVersion.String() && owner.Kind == "KwokInstance" && owner.Name == instance
}

// nodeOf is the node that an instance registers.
func nodeOf(instance *v1alpha1.KwokInstance) *corev1.Node {
	template := instance.Spec.Template.DeepCopy()
	labels := map[string]string{
		corev1.LabelOSStable:   "linux",
		corev1.LabelArchStable: "amd64",
	}
	maps.Copy(labels, template.Labels)
	// A kubelet sets it by itself.
	labels[corev1.LabelHostname] = instance.Spec.NodeName
	annotations, taints := map[string]string{}, template.Taints
	if instance.Spec.Fate != v1alpha1.FateNeverReady {
		annotations[annotationManaged] = "fake"
	}
	if instance.Spec.Machines.Registration != v1alpha1.KwokRegistrationBare {
		labels[v1alpha1.LabelNodePool] = instance.Spec.NodePool
		if reserved := instance.Annotations[v1alpha1.AnnotationReserved]; reserved != "" {
			annotations[v1alpha1.AnnotationReserved] = reserved
		}
		taints = append(slices.Clip(taints), corev1.Taint{Key: v1alpha1.TaintRegistration, Effect: corev1.TaintEffectNoSchedule})
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: instance.Spec.NodeName, Labels: labels, Annotations: annotations},
		Spec:       corev1.NodeSpec{ProviderID: instance.Spec.ProviderID, Taints: taints},
		Status:     corev1.NodeStatus{Capacity: template.Capacity, Allocatable: template.AllocatableOrCapacity()},
	}
}
