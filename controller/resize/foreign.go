package resize

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// tellForeign makes members of kinds that this controller was not told to manage say so: nobody decides for them, and their pods may wait
// behind the gate for ever. Nothing but their conditions changes; what they have reserved stays theirs. It is told in an event once.
func (r *Reconciler) tellForeign(ctx context.Context, seen *seen) []error {
	return inParallel(len(seen.foreign), func(i int) error {
		before := seen.foreign[i]
		if before.DeletionTimestamp != nil {
			return nil
		}
		of := member.TargetOf(before)
		message := fmt.Sprintf("the controller manages no workloads of the kind %s (--kinds): the size stays, nodes that are held stay held, "+
			"and pods behind the gate wait, until an administrator switches that kind on or %s %s is deleted", of.Kind, of.Kind, of.Name)
		after := before.DeepCopy()
		var conditions []metav1.Condition
		for _, kind := range []string{
			v1alpha1.ConditionCapacityReserved, v1alpha1.ConditionCapacityReady, v1alpha1.ConditionResized, v1alpha1.ConditionPodsRunning,
		} {
			// Nobody looks, so nobody knows.
			conditions = append(conditions, metav1.Condition{
				Type: kind, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonKindNotManaged, Message: message,
			})
		}
		after.Status.ObservedGeneration = after.Generation
		v1alpha1.SetConditions(&after.Status.Conditions, after.Generation, metav1.NewTime(r.Clock.Now()), "", conditions...)
		if equality.Semantic.DeepEqual(before.Status, after.Status) {
			return nil
		}
		patch, err := statusPatch(before, after)
		if err != nil {
			return err
		}
		if err := r.Client.Status().Patch(ctx, after, patch); err != nil {
			return fmt.Errorf("write the status of EnsembleMember %s/%s: %w", before.Namespace, before.Name, err)
		}
		known := meta.FindStatusCondition(before.Status.Conditions, v1alpha1.ConditionReady)
		if known != nil && known.Reason == v1alpha1.ReasonKindNotManaged {
			return nil
		}
		log.FromContext(ctx).Info(message, "namespace", before.Namespace, "member", before.Name, "reason", v1alpha1.ReasonKindNotManaged)
		about := &corev1.ObjectReference{
			APIVersion: of.APIVersion, Kind: of.Kind, Namespace: before.Namespace, Name: of.Name, UID: ownerOf(before),
		}
		r.Events.Eventf(about, before, corev1.EventTypeWarning, v1alpha1.ReasonKindNotManaged, v1alpha1.ReasonKindNotManaged, "%s", message)
		return nil
	})
}
