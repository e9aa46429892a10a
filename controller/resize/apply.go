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
func (r *Reconciler) apply(ctx context.Context, seen *seen, v *memberDecision, awaited map[string]bool) error {
	e := v.e
	member := e.member.DeepCopy()
	r.fillStatus(member, v)
	before, after, departing := &e.member.Status, &member.Status, v.departing()
	resizes, releases := v.resizes(), v.releases()
	// A departure is told once and never decided again, so its record cannot wait.
	recorded := len(departing) == 0 && sameRecord(before, after)
	told, write := error(nil), !equality.Semantic.DeepEqual(before, after) && (!resizes || !recorded)
	if write {
		if e.due = r.pace.due(e, after, v, awaited, r.Clock.Now()); !e.due.IsZero() {
			return nil
		}
	}
	var beside sync.WaitGroup
	switch {
	case write && len(departing) == 0 && len(releases) > 0 && standsBehind(before, releases):
		beside.Go(func() { told = r.writeStatus(ctx, e, member) })
	case write:
		if err := r.writeStatus(ctx, e, member); err != nil {
			return err
		}
	}
	notes := v.notes()
	r.Metrics.observeGrowth(e.member, after, r.Clock.Now())
	r.tellNotes(ctx, e, notes, func(reason string) bool {
		return reason != v1alpha1.ReasonPodsReleased && reason != v1alpha1.ReasonResizing
	})
	r.observer.told.note(departing, seen.departing)

	released := r.release(ctx, v, seen)
	if released == nil {
		r.tellNotes(ctx, e, notes, func(reason string) bool { return reason == v1alpha1.ReasonPodsReleased })
	}
	if beside.Wait(); told != nil {
		// What else was decided is decided again.
		return errors.Join(told, released)
	}
	failures := []error{released, r.recreate(ctx, v)}
	if resizes {
		failures = append(failures, r.resize(ctx, v, after.Growth, notes))
	}
	if sizes, why := v.giveUp(); sizes != nil {
		failures = append(failures, r.giveUp(ctx, e, member, sizes, why))
	}
	return errors.Join(failures...)
}

// sameRecord reports whether what one status has recorded for the next pass is what another one has: all but how far a member is.
func sameRecord(before, after *v1alpha1.EnsembleMemberStatus) bool {
	same := equality.Semantic.DeepEqual
	if !same(before.Reservations, after.Reservations) || !same(before.Growth, after.Growth) || before.TopologyDomain != after.TopologyDomain ||
		!same(before.Avoided, after.Avoided) || !same(before.Findings, after.Findings) || !same(before.PodsLacking, after.PodsLacking) {
		return false
	}
	return slices.EqualFunc(before.Groups, after.Groups, func(a, b v1alpha1.GroupStatus) bool {
		return a.Name == b.Name && same(a.Reservations, b.Reservations) && same(a.Growth, b.Growth) && same(a.Avoided, b.Avoided) &&
			same(a.Findings, b.Findings) && same(a.PodsLacking, b.PodsLacking)
	})
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

// resize gives the groups of a workload their new sizes, in one write.
func (r *Reconciler) resize(ctx context.Context, v *memberDecision, growth *v1alpha1.Growth, notes []plan.Note) error {
	e, change := v.e, v.change()
	object, err := r.giveSizes(ctx, e.workload, change)
	if err != nil {
		return fmt.Errorf("resize %s %s: %w", e.kind.Words().Kind, e.workload.Key, err)
	}
	r.writes.note(e.workloadWritten(), object)
	r.Metrics.observeResize(e.member, e.workload.Size(), change.Sizes.Sum(), growth, r.Clock.Now())
	r.tellNotes(ctx, e, notes, func(reason string) bool { return reason == v1alpha1.ReasonResizing })
	return nil
}

// tellNotes tells those of some steps that have one of some reasons.
func (r *Reconciler) tellNotes(ctx context.Context, e *entry, notes []plan.Note, which func(reason string) bool) {
	for _, note := range notes {
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

// giveUp sets the desired sizes of groups of a member back. m is the version that the decision was made on, or the one that was written
// since, so a desired size that came in between stays.
func (r *Reconciler) giveUp(ctx context.Context, e *entry, m *v1alpha1.EnsembleMember, sizes member.Sizes, why string) error {
	before := m.DeepCopy()
	for group, size := range sizes {
		v1alpha1.SetGroupSize(m, group, size)
	}
	m.Spec.Request = &v1alpha1.Request{
		Action: v1alpha1.RequestGiveUp, Amount: before.Spec.Size - m.Spec.Size, Size: m.Spec.Size,
		By: pods.Shortened("the controller: "+why, 512), At: metav1.NewMicroTime(r.Clock.Now()),
	}
	if err := r.Client.Patch(ctx, m, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("set back the desired size of EnsembleMember %s: %w", e.key, err)
	}
	r.writes.note(memberWritten(m), m)
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
