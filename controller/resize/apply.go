package resize

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
)

// apply carries out the decision for one member: the status first, because no size must be given and no pod be released that no
// recorded reservation stands behind, then the pods that may go to their nodes, then the resize. When the reservation is
// recorded already, the status waits for the next pass, which the resize brings: it tells of the new size, and one write
// does for both. Nor do pods wait for a status when their nodes are recorded as held already: it is written beside their releases.
//
// What is recorded is told at once: the next pass does not find it again, whatever becomes of the other writes. A pod that
// cannot be released does not hold up the resize. Mere progress may wait for more of it (pace.go): it is then neither recorded nor
// told, and the next pass decides it again.
func (r *Reconciler) apply(ctx context.Context, seen *seen, e *entry, d *plan.Decision, awaited map[string]bool) error {
	member := e.member.DeepCopy()
	r.fillStatus(member, e, d)
	before, after := &e.member.Status, &member.Status
	resizes := d.Resize != 0 && e.workload != nil
	// A departure is told once and never decided again, so its record cannot wait.
	recorded := len(d.Departing) == 0 &&
		equality.Semantic.DeepEqual(before.Reservations, after.Reservations) && equality.Semantic.DeepEqual(before.Growth, after.Growth) &&
		before.TopologyDomain == after.TopologyDomain && equality.Semantic.DeepEqual(before.Avoided, after.Avoided) &&
		equality.Semantic.DeepEqual(before.Findings, after.Findings) && equality.Semantic.DeepEqual(before.PodsLacking, after.PodsLacking)
	told, write := error(nil), !equality.Semantic.DeepEqual(before, after) && (!resizes || !recorded)
	if write {
		if e.due = r.pace.due(e, after, d, awaited, r.Clock.Now()); !e.due.IsZero() {
			return nil
		}
	}
	var beside sync.WaitGroup
	switch {
	case write && len(d.Departing) == 0 && len(d.Release) > 0 && standsBehind(before, d.Release):
		beside.Go(func() { told = r.writeStatus(ctx, e, member) })
	case write:
		if err := r.writeStatus(ctx, e, member); err != nil {
			return err
		}
	}
	r.Metrics.observeGrowth(e.member, d, r.Clock.Now())
	r.tellNotes(ctx, e, d, func(reason string) bool {
		return reason != v1alpha1.ReasonPodsReleased && reason != v1alpha1.ReasonResizing
	})
	r.observer.told.note(d.Departing, seen.departing)

	released := r.release(ctx, e, seen, d.Release)
	if released == nil {
		r.tellNotes(ctx, e, d, func(reason string) bool { return reason == v1alpha1.ReasonPodsReleased })
	}
	if beside.Wait(); told != nil {
		// What else was decided is decided again.
		return errors.Join(told, released)
	}
	failures := []error{released, r.recreate(ctx, e, d.Recreate)}
	if resizes {
		failures = append(failures, r.resize(ctx, e, d))
	}
	if d.GiveUp != nil {
		failures = append(failures, r.giveUp(ctx, e, member, d.GiveUp))
	}
	return errors.Join(failures...)
}

// standsBehind reports whether what is recorded holds the nodes of some pods for the member.
func standsBehind(status *v1alpha1.EnsembleMemberStatus, assignments []plan.Assignment) bool {
	held := map[string]bool{}
	for i := range status.Reservations {
		for _, node := range status.Reservations[i].Held {
			held[node] = true
		}
	}
	return !slices.ContainsFunc(assignments, func(a plan.Assignment) bool { return !held[a.Node] })
}

// writeStatus writes the status of a member.
func (r *Reconciler) writeStatus(ctx context.Context, e *entry, member *v1alpha1.EnsembleMember) error {
	patch, err := statusPatch(e.member, member)
	if err != nil {
		return err
	}
	if err := r.Client.Status().Patch(ctx, member, patch); err != nil {
		return fmt.Errorf("write the status of EnsembleMember %s: %w", e.key, err)
	}
	r.writes.note(memberWritten(member), member)
	r.pace.note(e.key, r.Clock.Now())
	return nil
}

// statusPatch is what differs between two versions of a member's status, with the version that it was decided on: what a newer
// version of the controller has written stays. Where there is no status yet it is the whole of it.
func statusPatch(before, after *v1alpha1.EnsembleMember) (client.Patch, error) {
	if len(before.Status.Conditions) > 0 {
		return client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}), nil
	}
	whole, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": before.ResourceVersion}, "status": after.Status})
	if err != nil {
		return nil, fmt.Errorf("encode the status of EnsembleMember %s/%s: %w", before.Namespace, before.Name, err)
	}
	return client.RawPatch(types.MergePatchType, whole), nil
}

// resize gives the workload its new size.
func (r *Reconciler) resize(ctx context.Context, e *entry, d *plan.Decision) error {
	object, patch, err := e.workload.SizePatch(member.To(member.Sizes{"": d.Resize}))
	if err != nil {
		return err
	}
	if err := r.Client.Patch(ctx, object, patch); err != nil {
		return fmt.Errorf("resize %s %s: %w", e.kind.Words().Kind, e.workload.Key, err)
	}
	r.writes.note(e.workloadWritten(), object)
	r.Metrics.observeResize(e.member, e.workload.Size(), d, r.Clock.Now())
	r.tellNotes(ctx, e, d, func(reason string) bool { return reason == v1alpha1.ReasonResizing })
	return nil
}

// tellNotes tells the steps of a decision that have one of some reasons.
func (r *Reconciler) tellNotes(ctx context.Context, e *entry, d *plan.Decision, which func(reason string) bool) {
	for _, note := range d.Notes {
		if !which(note.Reason) {
			continue
		}
		kind := corev1.EventTypeNormal
		if note.Warning {
			kind = corev1.EventTypeWarning
		}
		r.Metrics.steps.WithLabelValues(note.Reason).Inc()
		r.tell(ctx, e, kind, note.Reason, note.Message)
	}
}

// giveUp sets the desired size of a member back. member is the version that the decision was made on, or the one that was written
// since, so a desired size that came in between stays.
func (r *Reconciler) giveUp(ctx context.Context, e *entry, member *v1alpha1.EnsembleMember, d *plan.GiveUp) error {
	before := member.DeepCopy()
	member.Spec.Request = &v1alpha1.Request{
		Action: v1alpha1.RequestGiveUp, Amount: member.Spec.Size - d.Size, Size: d.Size,
		By: pods.Shortened("the controller: "+d.Why, 512), At: metav1.NewMicroTime(r.Clock.Now()),
	}
	member.Spec.Size = d.Size
	if err := r.Client.Patch(ctx, member, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("set back the desired size of EnsembleMember %s: %w", e.key, err)
	}
	r.writes.note(memberWritten(member), member)
	return nil
}

// longestNote is the greatest length of an event's note that the API server takes, in bytes.
const longestNote = 1024

// tell logs what happened to a member and makes an event of it, about the workload, which is what its user looks at. The log
// has all of a message that is too long for an event.
func (r *Reconciler) tell(ctx context.Context, e *entry, kind, reason, message string) {
	log.FromContext(ctx).Info(message, "namespace", e.key.Namespace, "member", e.key.Name, "reason", reason)
	about := member.Reference(e.kind, types.NamespacedName{Namespace: e.key.Namespace, Name: e.name()}, e.uid())
	note := pods.Shortened(message, longestNote)
	if e.member == nil {
		r.Events.Eventf(about, nil, kind, reason, reason, "%s", note)
		return
	}
	// Events that differ in their note alone are taken for repetitions of the first; the version of the member tells
	// them apart.
	r.Events.Eventf(about, e.member, kind, reason, reason, "%s", note)
}
