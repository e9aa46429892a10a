package ensemble

import (
	"context"
	"net/http"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
)

// WebhookPath is where the API server has Ensembles validated.
const WebhookPath = "/validate-ensemble"

// NewWebhook validates Ensembles: one with a fault is refused when it is written, and not discovered in the log of a pod.
func NewWebhook(scheme *runtime.Scheme, settings Settings) http.Handler {
	return admission.WithValidator(scheme, &validator{settings})
}

type validator struct{ Settings }

var _ admission.Validator[*v1alpha1.Ensemble] = (*validator)(nil)

// ValidateCreate implements admission.Validator.
func (v *validator) ValidateCreate(_ context.Context, e *v1alpha1.Ensemble) (admission.Warnings, error) {
	f := examine(e, v.DefaultNodePools)
	return f.admissionWarnings(), invalid(e, f.faults)
}

// ValidateUpdate implements admission.Validator.
func (v *validator) ValidateUpdate(_ context.Context, before, after *v1alpha1.Ensemble) (admission.Warnings, error) {
	if after.DeletionTimestamp != nil || equality.Semantic.DeepEqual(before.Spec, after.Spec) {
		// Whoever removes a finalizer, or adds a label, is not asked about what was there before.
		return nil, nil
	}
	f := examine(after, v.DefaultNodePools)
	faults := f.faults
	if len(examine(before, v.DefaultNodePools).faults) == 0 {
		faults = append(faults, ValidateUpdate(before, after)...)
	}
	return f.admissionWarnings(), invalid(after, faults)
}

// ValidateDelete implements admission.Validator. It is not asked.
func (*validator) ValidateDelete(context.Context, *v1alpha1.Ensemble) (admission.Warnings, error) {
	return nil, nil
}

func invalid(e *v1alpha1.Ensemble, faults field.ErrorList) error {
	if len(faults) == 0 {
		return nil
	}
	return apierrors.NewInvalid(v1alpha1.GroupVersion.WithKind("Ensemble").GroupKind(), e.Name, faults)
}

// admissionWarnings are what kubectl shows.
func (f *findings) admissionWarnings() admission.Warnings {
	warnings := admission.Warnings(f.warnings)
	for _, path := range f.unused {
		warnings = append(warnings, path+": has no effect here; one endpoint serves all Ensembles and starts their members")
	}
	// The API server cuts what is long in sum.
	const most = 20
	return warnings[:min(len(warnings), most)]
}
