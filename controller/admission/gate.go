package admission

import (
	"context"
	"net/http"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// gater gives the pods of managed MiniClusters their scheduling gate, where the API server cannot do so itself: what
// MutatingAdmissionPolicy ensemble-autoscaler-gates says, in Go. It refuses no pod, and has no other effect.
type gater struct{ decoder admission.Decoder }

// Handle implements admission.Handler. The API server asks about no pods but those that want a gate; whatever else comes is
// let through as it is.
func (g *gater) Handle(_ context.Context, request admission.Request) admission.Response {
	if request.Operation != admissionv1.Create {
		return admission.Allowed("")
	}
	pod := &corev1.Pod{}
	if err := g.decoder.Decode(request, pod); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if !wantsGate(pod) {
		return admission.Allowed("")
	}
	// The patch says no more than that, so that fields of the pod which are not known here stay. There is no list to add to
	// in a pod that has no gate.
	gate := map[string]any{"name": v1alpha1.SchedulingGate}
	if len(pod.Spec.SchedulingGates) == 0 {
		return admission.Patched("", webhook.JSONPatchOp{Operation: "add", Path: "/spec/schedulingGates", Value: []any{gate}})
	}
	return admission.Patched("", webhook.JSONPatchOp{Operation: "add", Path: "/spec/schedulingGates/-", Value: gate})
}

// wantsGate is whether a pod is one of a managed MiniCluster that is to wait, and has not our gate yet. The Flux Operator
// makes its pods by a Job; whatever else carries the label by mistake is nobody's to release. A pod that names its node has no
// use for a gate, and must not have one.
func wantsGate(pod *corev1.Pod) bool {
	_, labelled := pod.Labels[v1alpha1.LabelMember]
	return labelled && pod.Spec.NodeName == "" &&
		slices.ContainsFunc(
			pod.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == "Job" && o.Controller != nil && *o.Controller },
		) &&
		!slices.Contains(pod.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: v1alpha1.SchedulingGate})
}
