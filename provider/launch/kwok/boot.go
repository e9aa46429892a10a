package kwok

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Codes of the failures of instances.
const (
	codeBootFailure   = "BootFailure"
	codeCrashed       = "Crashed"
	codeSpotReclaimed = "SpotReclaimed"
	// reasonSpotNotice is that of the event of an instance that is to be taken back.
	reasonSpotNotice = "SpotNotice"
)

// Boot is the cloud's side: it lets instances boot, and brings about what becomes of them.
//
// An instance whose Node somebody else deletes goes on to exist, and to be paid for, as it does in a cloud: Boot does nothing.
type Boot struct {
	Client client.Client
	// Live reads from the API server.
	Live client.Reader
	// Events are about the instances.
	Events events.EventRecorder
	Clock  clock.PassiveClock
}

// SetupWithManager starts Boot with a manager. Machines boot side by side.
func (b *Boot) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("kwok-boot").
		For(&v1alpha1.KwokInstance{}).
		Owns(&corev1.Node{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: inParallel}).
		Complete(b)
}

// Reconcile implements reconcile.Reconciler. An instance that was told to end does so, whatever else was to become of it; one
// that has failed loses its node; all others come to their fate: before they register, or after.
func (b *Boot) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var instance v1alpha1.KwokInstance
	switch err := b.Client.Get(ctx, request.NamespacedName, &instance); {
	case apierrors.IsNotFound(err):
		return ctrl.Result{}, b.removeOrphanedNode(ctx, request.Name)
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("get KwokInstance %s: %w", request.Name, err)
	}
	switch status := &instance.Status; {
	case instance.DeletionTimestamp != nil:
		return ctrl.Result{}, nil
	case status.TerminatingAt != nil:
		return b.terminate(ctx, &instance)
	case status.Failure != nil:
		return ctrl.Result{}, b.leaveBehind(ctx, &instance)
	case status.RegisteredAt != nil:
		return b.live(ctx, &instance)
	default:
		return b.boot(ctx, &instance)
	}
}

// boot is what becomes of an instance that has not registered.
func (b *Boot) boot(ctx context.Context, instance *v1alpha1.KwokInstance) (ctrl.Result, error) {
	if instance.Spec.Fate == v1alpha1.FateOutOfStock {
		return ctrl.Result{}, b.fail(ctx, instance, v1alpha1.FailureOutOfResources, codeOutOfStock, outOfStock(instance.Spec.NodePool))
	}
	if left := b.until(instance.Spec.LaunchedAt.Add(instance.Spec.BootDelay.Duration)); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	if instance.Spec.Fate == v1alpha1.FateBootFailure {
		return ctrl.Result{}, b.fail(ctx, instance, v1alpha1.FailureOther, codeBootFailure,
			"the simulated machine failed to boot (spec.machines.kwok.failurePercent)")
	}
	return ctrl.Result{}, b.register(ctx, instance)
}

// live is what becomes of an instance that has registered.
func (b *Boot) live(ctx context.Context, instance *v1alpha1.KwokInstance) (ctrl.Result, error) {
	at := instance.Status.RegisteredAt.Add(orZero(instance.Spec.FateDelay))
	switch instance.Spec.Fate {
	case v1alpha1.FateCrash:
		if left := b.until(at); left > 0 {
			return ctrl.Result{RequeueAfter: left}, nil
		}
		return ctrl.Result{}, b.fail(ctx, instance, v1alpha1.FailureOther, codeCrashed,
			"the simulated machine crashed (spec.machines.kwok.crashPercent)")
	case v1alpha1.FateSpotReclaim:
		if left := b.until(at); left > 0 {
			return ctrl.Result{RequeueAfter: left}, nil
		}
		return b.reclaim(ctx, instance)
	default:
		return ctrl.Result{}, nil
	}
}

// reclaim takes an instance back, after notice.
func (b *Boot) reclaim(ctx context.Context, instance *v1alpha1.KwokInstance) (ctrl.Result, error) {
	if instance.Status.LeavingAt == nil {
		leavingAt := metav1.NewMicroTime(b.Clock.Now().Add(orZero(instance.Spec.Machines.SpotNotice)))
		updated := instance.DeepCopy()
		updated.Status.LeavingAt = &leavingAt
		// The event of the write brings the next pass.
		if err := b.Client.Status().Patch(ctx, updated, client.MergeFrom(instance)); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
		b.Events.Eventf(instance, nil, corev1.EventTypeWarning, reasonSpotNotice, "Reclaim",
			"the simulated cloud takes the machine back at %s", leavingAt.Format(time.RFC3339))
		return ctrl.Result{}, nil
	}
	if left := b.until(instance.Status.LeavingAt.Time); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	return ctrl.Result{}, b.fail(ctx, instance, v1alpha1.FailureOther, codeSpotReclaimed,
		"the simulated cloud has taken the machine back (spec.machines.kwok.spotPercent)")
}

// terminate ends an instance that was told to end when that has taken its time.
func (b *Boot) terminate(ctx context.Context, instance *v1alpha1.KwokInstance) (ctrl.Result, error) {
	if left := b.until(instance.Status.TerminatingAt.Add(orZero(instance.Spec.Machines.TerminationDelay))); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	return ctrl.Result{}, end(ctx, b.Client, b.Live, instance)
}

// fail records that an instance will not come up, or is no more. It stays until it is let go, as a cloud can still be asked about
// an instance that has failed. The failure is recorded before the node goes, so that the node is never missed without a reason.
func (b *Boot) fail(ctx context.Context, instance *v1alpha1.KwokInstance, class v1alpha1.FailureClass, code, message string) error {
	machine := instance.Spec.Machine
	if machine == "" {
		machine = instance.Name
	}
	updated := instance.DeepCopy()
	updated.Status.Failure = &v1alpha1.MachineFailure{
		Machine: machine, Time: metav1.NewMicroTime(b.Clock.Now()), Class: class, Code: code, Message: message,
	}
	if err := b.Client.Status().Patch(ctx, updated, client.MergeFrom(instance)); err != nil {
		return client.IgnoreNotFound(err)
	}
	log.FromContext(ctx).Info("Instance failed", "instance", instance.Name, "nodePool", instance.Spec.NodePool, "code", code, "why", message)
	b.Events.Eventf(instance, nil, corev1.EventTypeWarning, code, "Fail", "%s", message)
	return b.leaveBehind(ctx, updated)
}

// leaveBehind removes what an instance that has failed does not keep: its node, as a cloud's controller does, and the instance
// itself where there was no stock for it.
func (b *Boot) leaveBehind(ctx context.Context, instance *v1alpha1.KwokInstance) error {
	if instance.Spec.Fate == v1alpha1.FateOutOfStock {
		if err := client.IgnoreNotFound(b.Client.Delete(ctx, instance, client.Preconditions{UID: &instance.UID})); err != nil {
			return fmt.Errorf("delete KwokInstance %s, for which there is no stock: %w", instance.Name, err)
		}
		return nil
	}
	return endNode(ctx, b.Client, b.Client, instance)
}

// until is the time from now to another time.
func (b *Boot) until(at time.Time) time.Duration { return at.Sub(b.Clock.Now()) }
