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
func (r *Reconciler) fillStatus(m *v1alpha1.EnsembleMember, e *entry, d *plan.Decision) {
	status := &m.Status
	status.Decisions = record(status, e.kind.Words().Kind, m.Spec.Request, e.size(), d.Notes, r.Clock.Now())
	status.ObservedGeneration = m.Generation
	status.Size = e.size()
	status.Reserved, status.Nodes = d.Reserved(), d.Nodes
	status.Reservations, status.Growth = d.Reservations, d.Growth
	status.Pools, status.TopologyDomain, status.Avoided = inWords(d.Reservations), d.TopologyDomain, d.Avoided
	status.Findings, status.PodsLacking, status.Running = d.Findings, d.PodsLacking, d.Running
	status.Selector = e.kind.Selector(e.name(), "")
	v1alpha1.SetConditions(&status.Conditions, m.Generation, metav1.NewTime(r.Clock.Now()), d.WhenReady, d.Conditions...)
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
