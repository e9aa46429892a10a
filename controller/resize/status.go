package resize

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// fillStatus makes the status say what was decided.
func (r *Reconciler) fillStatus(m *v1alpha1.EnsembleMember, v *memberDecision) {
	status, e, first := &m.Status, v.e, &v.groups[0]
	sizes := e.sizes()
	status.Decisions = record(status, e.kind.Words().Kind, m.Spec.Request, sizes, v.notes(), r.Clock.Now())
	status.ObservedGeneration = m.Generation
	status.Size = sizes.Sum()
	status.Reserved = v.sum((*plan.Decision).Reserved)
	status.Nodes = v.sum(func(d *plan.Decision) int32 { return d.Nodes })
	status.Running = v.sum(func(d *plan.Decision) int32 { return d.Running })
	status.Reservations, status.Growth, status.Groups = v.reservations, v.growth(), v.status()
	status.Pools, status.TopologyDomain = inWords(v.reservations), first.TopologyDomain
	status.Avoided, status.Findings, status.PodsLacking = nil, nil, nil
	if d := v.one(); d != nil {
		status.Avoided, status.Findings, status.PodsLacking = d.Avoided, d.Findings, d.PodsLacking
	}
	status.Selector = e.kind.Selector(e.name(), "")
	v1alpha1.SetConditions(&status.Conditions, m.Generation, metav1.NewTime(r.Clock.Now()), v.whenReady(), v.conditions()...)
	if request := m.Spec.Request; request != nil {
		status.LastRequest = outcomeOf(request, m)
	}
}

// outcomeOf says what has become of a request: what the member waits for, or the last that was known of it before somebody set
// the size otherwise, as kubectl scale does.
func outcomeOf(request *v1alpha1.Request, member *v1alpha1.EnsembleMember) *v1alpha1.RequestOutcome {
	last := member.Status.LastRequest
	if request.Size == member.Spec.Size {
		out := &v1alpha1.RequestOutcome{Request: *request}
		if ready := meta.FindStatusCondition(member.Status.Conditions, v1alpha1.ConditionReady); ready != nil {
			out.Outcome = ready.Message
		}
		return out
	}
	if last != nil && last.At.Equal(&request.At) {
		return last
	}
	return &v1alpha1.RequestOutcome{Request: *request, Outcome: fmt.Sprintf("overtaken: the size was set to %d otherwise", member.Spec.Size)}
}

// inWords names the pools of the reservations with their numbers of nodes.
func inWords(reservations []v1alpha1.Reservation) string {
	words := make([]string, len(reservations))
	for i := range reservations {
		words[i] = fmt.Sprintf("%s %d", reservations[i].NodePool, reservations[i].Nodes)
	}
	return strings.Join(words, ", ")
}
