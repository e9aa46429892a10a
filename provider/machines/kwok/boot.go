package kwok

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// annotationManaged is how the kwok controller knows the nodes that it keeps Ready.
const annotationManaged = "kwok.x-k8s.io/node"

// Boot lets machines boot: it registers the node of each when its boot delay is over, or lets it fail, and
// removes the machine when its node has vanished after that.
type Boot struct {
	Client client.Client
	// Live reads from the API server.
	Live   client.Reader
	Events events.EventRecorder
	Clock  clock.PassiveClock
}

// SetupWithManager starts Boot with a manager.
func (b *Boot) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("kwok-boot").
		For(&v1alpha1.KwokMachine{}).
		Owns(&corev1.Node{}).
		Complete(b)
}

// Reconcile implements reconcile.Reconciler.
func (b *Boot) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var machine v1alpha1.KwokMachine
	switch err := b.Client.Get(ctx, request.NamespacedName, &machine); {
	case apierrors.IsNotFound(err):
		return ctrl.Result{}, b.removeOrphan(ctx, request.Name)
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("get KwokMachine %s: %w", request.Name, err)
	}
	if machine.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	if machine.Status.Failure != nil {
		return ctrl.Result{}, nil
	}
	if machine.Spec.Fate == v1alpha1.FateOutOfStock {
		return ctrl.Result{}, b.fail(ctx, &machine, v1alpha1.FailureOutOfResources, "OutOfStock",
			"the simulated cloud has no machine left for NodePool "+machine.Spec.NodePool+" (spec.machines.kwok.stock)")
	}
	if left := machine.Spec.OrderedAt.Add(machine.Spec.BootDelay.Duration).Sub(b.Clock.Now()); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	if machine.Spec.Fate == v1alpha1.FateBootFailure {
		return ctrl.Result{}, b.fail(ctx, &machine, v1alpha1.FailureOther, "BootFailure",
			"the simulated machine failed to boot (spec.machines.kwok.failurePercent)")
	}
	var node corev1.Node
	err := b.Client.Get(ctx, request.NamespacedName, &node)
	switch {
	case apierrors.IsNotFound(err) && machine.Status.RegisteredAt != nil:
		return ctrl.Result{}, b.vanish(ctx, &machine)
	case apierrors.IsNotFound(err):
		return ctrl.Result{}, b.register(ctx, &machine)
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("get Node %s: %w", request.Name, err)
	case !metav1.IsControlledBy(&node, &machine):
		return ctrl.Result{}, fmt.Errorf("machine %s cannot register: a Node of that name exists and is not its own", machine.Name)
	case machine.Status.RegisteredAt == nil:
		return ctrl.Result{}, b.recordRegistration(ctx, &machine)
	}
	return ctrl.Result{}, nil
}

// register creates the node of a machine that has none yet. The cache may not know that the machine has registered, and has
// lost its node since, or is gone: a node that it got then would be nobody's.
func (b *Boot) register(ctx context.Context, machine *v1alpha1.KwokMachine) error {
	var now v1alpha1.KwokMachine
	if err := b.Live.Get(ctx, client.ObjectKeyFromObject(machine), &now); err != nil || now.UID != machine.UID || now.Status.RegisteredAt != nil {
		// The event that the cache has yet to see brings the next pass.
		return client.IgnoreNotFound(err)
	}
	node := nodeOf(machine)
	if err := controllerutil.SetControllerReference(machine, node, b.Client.Scheme()); err != nil {
		return fmt.Errorf("own Node %s: %w", node.Name, err)
	}
	// A node of that name that exists already is looked at in the next pass, which its event causes.
	if err := b.Client.Create(ctx, node); err != nil {
		return fmt.Errorf("create Node %s: %w", node.Name, err)
	}
	log.FromContext(ctx).Info("Machine registered its node", "machine", machine.Name, "nodePool", machine.Spec.NodePool,
		"afterSeconds", b.Clock.Since(machine.Spec.OrderedAt.Time).Seconds())
	return b.recordRegistration(ctx, machine)
}

// removeOrphan deletes the node of a machine that is gone. There is one when the machine was deleted while the cache still
// let it boot. Until then the node is Ready and takes pods, and belongs to no pool that Cluster Autoscaler is told of.
func (b *Boot) removeOrphan(ctx context.Context, name string) error {
	var node corev1.Node
	if err := b.Client.Get(ctx, client.ObjectKey{Name: name}, &node); err != nil {
		return client.IgnoreNotFound(err)
	}
	owner := metav1.GetControllerOf(&node)
	if owner == nil || owner.APIVersion != v1alpha1.GroupVersion.String() || owner.Kind != "KwokMachine" || owner.Name != name {
		return nil
	}
	// The cache may not have the machine yet.
	var machine v1alpha1.KwokMachine
	if err := b.Live.Get(ctx, client.ObjectKey{Name: name}, &machine); !apierrors.IsNotFound(err) {
		return err
	}
	if err := deletion(b.Client.Delete(ctx, &node, client.Preconditions{UID: &node.UID})); err != nil {
		return fmt.Errorf("delete Node %s, whose machine is gone: %w", name, err)
	}
	log.FromContext(ctx).Info("Machine is gone; removed the node that it has registered meanwhile", "machine", name, "nodePool", node.Labels[v1alpha1.LabelNodePool])
	return nil
}

// fail records that a machine will not come up. It stays until somebody deletes it, as an instance of a cloud
// that has failed can still be asked about.
func (b *Boot) fail(ctx context.Context, machine *v1alpha1.KwokMachine, class v1alpha1.FailureClass, code, message string) error {
	updated := machine.DeepCopy()
	updated.Status.Failure = &v1alpha1.MachineFailure{
		Machine: machine.Name, Time: metav1.NewMicroTime(b.Clock.Now()), Class: class, Code: code, Message: message,
	}
	if err := b.Client.Status().Patch(ctx, updated, client.MergeFrom(machine)); err != nil {
		return client.IgnoreNotFound(err)
	}
	log.FromContext(ctx).Info("Machine failed", "machine", machine.Name, "nodePool", machine.Spec.NodePool, "code", code, "why", message)
	return nil
}

func (b *Boot) recordRegistration(ctx context.Context, machine *v1alpha1.KwokMachine) error {
	updated := machine.DeepCopy()
	now := metav1.NewTime(b.Clock.Now())
	updated.Status.RegisteredAt = &now
	if err := b.Client.Status().Patch(ctx, updated, client.MergeFrom(machine)); err != nil {
		return client.IgnoreNotFound(err)
	}
	return nil
}

// vanish removes a machine whose node somebody else has deleted, as a cloud's instance would be gone with it.
func (b *Boot) vanish(ctx context.Context, machine *v1alpha1.KwokMachine) error {
	// The cache may not have the node yet.
	var node corev1.Node
	if err := b.Live.Get(ctx, client.ObjectKeyFromObject(machine), &node); !apierrors.IsNotFound(err) {
		return err
	}
	if err := deletion(b.Client.Delete(ctx, machine, client.Preconditions{UID: &machine.UID})); err != nil {
		return fmt.Errorf("delete KwokMachine %s, whose node is gone: %w", machine.Name, err)
	}
	log.FromContext(ctx).Info("Node is gone; removed its machine", "machine", machine.Name, "nodePool", machine.Spec.NodePool)
	var pool v1alpha1.NodePool
	// The machine may have been deleted by the provider, which deletes the node first.
	if err := b.Live.Get(ctx, client.ObjectKey{Name: machine.Spec.NodePool}, &pool); err != nil || slices.Contains(pool.Spec.MachinesToDelete, machine.Name) {
		return client.IgnoreNotFound(err)
	}
	b.Events.Eventf(&pool, machine, corev1.EventTypeWarning, v1alpha1.ReasonMachineVanished, "RemoveMachine",
		"node %s was deleted, and not by the provider; its machine is gone with it", machine.Name)
	return nil
}

// nodeOf is the node that a machine registers.
func nodeOf(machine *v1alpha1.KwokMachine) *corev1.Node {
	template := machine.Spec.Template.DeepCopy()
	labels := map[string]string{
		corev1.LabelOSStable:   "linux",
		corev1.LabelArchStable: "amd64",
	}
	maps.Copy(labels, template.Labels)
	labels[corev1.LabelHostname] = machine.Name
	labels[v1alpha1.LabelNodePool] = machine.Spec.NodePool
	annotations := map[string]string{}
	if machine.Spec.Fate != v1alpha1.FateNeverReady {
		annotations[annotationManaged] = "fake"
	}
	if machine.Spec.Purpose == v1alpha1.PurposeReservation {
		annotations[v1alpha1.AnnotationReserved] = "true"
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: machine.Name, Labels: labels, Annotations: annotations},
		Spec:       corev1.NodeSpec{ProviderID: machine.Spec.ProviderID, Taints: template.Taints},
		Status:     corev1.NodeStatus{Capacity: template.Capacity, Allocatable: template.AllocatableOrCapacity()},
	}
}
