package resize

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// apply carries out the decision for one member: the status first, because a size must not be given that no recorded
// reservation stands behind, then the resize. When the reservation is recorded already, the status waits for the next
// pass, which the resize brings: it tells of the new size, and one write does for both.
func (r *Reconciler) apply(ctx context.Context, e *entry, d *plan.Decision) error {
	member := e.member.DeepCopy()
	r.fillStatus(member, e, d)
	before, after := &e.member.Status, &member.Status
	resizes := d.Resize != 0 && e.cluster != nil
	recorded := equality.Semantic.DeepEqual(before.Reservations, after.Reservations) && equality.Semantic.DeepEqual(before.Growth, after.Growth)
	if !equality.Semantic.DeepEqual(before, after) && (!resizes || !recorded) {
		if err := r.Client.Status().Update(ctx, member); err != nil {
			return fmt.Errorf("write the status of EnsembleMember %s: %w", e.key, err)
		}
		r.writes.note(kindMember, member)
	}
	if resizes {
		object, patch, err := e.cluster.SizePatch(d.Resize)
		if err != nil {
			return err
		}
		if err := r.Client.Patch(ctx, object, patch); err != nil {
			return fmt.Errorf("resize MiniCluster %s: %w", e.key, err)
		}
		r.writes.note(kindMiniCluster, object)
		r.Metrics.resized(e.cluster.Size, d.Resize, d.Growth, r.Clock.Now())
	}
	for _, note := range d.Notes {
		kind := corev1.EventTypeNormal
		if note.Warning {
			kind = corev1.EventTypeWarning
		}
		r.Metrics.steps.WithLabelValues(note.Reason).Inc()
		r.tell(ctx, e, kind, note.Reason, note.Message)
	}
	return nil
}

// fillStatus makes the status say what was decided.
func (r *Reconciler) fillStatus(member *v1alpha1.EnsembleMember, e *entry, d *plan.Decision) {
	status := &member.Status
	status.ObservedGeneration = member.Generation
	status.Size = e.size()
	status.Reserved, status.Nodes = d.Reserved(), d.Nodes
	status.Reservations, status.Growth = d.Reservations, d.Growth
	status.Pools = inWords(d.Reservations)
	status.Selector = minicluster.LabelJobName + "=" + member.Name
	v1alpha1.SetConditions(&status.Conditions, member.Generation, metav1.NewTime(r.Clock.Now()), d.WhenReady, d.Conditions...)
	if request := member.Spec.Request; request != nil && request.Size == member.Spec.Size {
		outcome := ""
		for i := range status.Conditions {
			if status.Conditions[i].Type == v1alpha1.ConditionReady {
				outcome = status.Conditions[i].Message
			}
		}
		status.LastRequest = &v1alpha1.RequestOutcome{Request: *request, Outcome: outcome}
	}
}

// inWords names the pools of the reservations with their numbers of nodes.
func inWords(reservations []v1alpha1.Reservation) string {
	words := make([]string, len(reservations))
	for i := range reservations {
		words[i] = fmt.Sprintf("%s %d", reservations[i].NodePool, reservations[i].Nodes)
	}
	return strings.Join(words, ", ")
}

// tell logs what happened to a member and makes an event of it, about the MiniCluster, which is what its user looks at.
func (r *Reconciler) tell(ctx context.Context, e *entry, kind, reason, message string) {
	log.FromContext(ctx).Info(message, "namespace", e.key.Namespace, "member", e.key.Name, "reason", reason)
	cluster := minicluster.Reference(e.key, e.uid())
	if e.member == nil {
		r.Events.Eventf(cluster, nil, kind, reason, reason, "%s", message)
		return
	}
	// Events that differ in their note alone are taken for repetitions of the first; the version of the member tells
	// them apart.
	r.Events.Eventf(cluster, e.member, kind, reason, reason, "%s", message)
}
