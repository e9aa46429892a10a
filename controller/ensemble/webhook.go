package ensemble

import (
	"context"
	"maps"
	"net/http"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/admission"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// WebhookPath is where the API server has Ensembles validated.
const WebhookPath = "/validate-ensemble"

// NewWebhook validates Ensembles: one with a fault is refused when it is written, and not discovered in the log of a pod.
// clusters is a cache that has the MiniClusters of members that were made before.
func NewWebhook(
	scheme *runtime.Scheme, settings Settings, clusters client.Reader, lookup *admission.Lookup, metrics *admission.Metrics,
) http.Handler {
	return metrics.Record("validate-ensemble", webhook.WithValidator(scheme, &validator{settings, clusters, lookup}))
}

type validator struct {
	Settings
	clusters client.Reader
	lookup   *admission.Lookup
}

var _ webhook.Validator[*v1alpha1.Ensemble] = (*validator)(nil)

// ValidateCreate implements webhook.Validator.
func (v *validator) ValidateCreate(ctx context.Context, e *v1alpha1.Ensemble) (webhook.Warnings, error) {
	f := examine(e, v.DefaultNodePools)
	f.firstSizes(nil, e, v.DefaultNodePools)
	if err := v.members(ctx, f, nil, e); err != nil {
		return nil, err
	}
	return f.admissionWarnings(), invalid(e, f.faults)
}

// ValidateUpdate implements webhook.Validator.
func (v *validator) ValidateUpdate(ctx context.Context, before, after *v1alpha1.Ensemble) (webhook.Warnings, error) {
	if after.DeletionTimestamp != nil || equality.Semantic.DeepEqual(before.Spec, after.Spec) {
		// Whoever removes a finalizer, or adds a label, is not asked about what was there before.
		return nil, nil
	}
	f := examine(after, v.DefaultNodePools)
	f.firstSizes(before, after, v.DefaultNodePools)
	if len(examine(before, v.DefaultNodePools).faults) == 0 {
		f.faults = append(f.faults, ValidateUpdate(before, after)...)
	}
	if err := v.members(ctx, f, before, after); err != nil {
		return nil, err
	}
	return f.admissionWarnings(), invalid(after, f.faults)
}

// members examines the MiniClusters that an Ensemble without faults so far would be made of, as they would be when they are
// written: those that are not there yet as new ones, the others for what would change in them. before is nil for a new
// Ensemble.
func (v *validator) members(ctx context.Context, f *findings, before, after *v1alpha1.Ensemble) error {
	if len(f.faults) > 0 {
		return nil
	}
	review := v.lookup.Review(after.Namespace)
	for i := range after.Spec.Members {
		if before != nil && i < len(before.Spec.Members) && equality.Semantic.DeepEqual(before.Spec.Members[i], after.Spec.Members[i]) {
			continue
		}
		built, err := build(after, i, &v.Settings)
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		if !member.Managed(built.cluster) {
			continue
		}
		there := minicluster.New()
		switch err := v.clusters.Get(ctx, types.NamespacedName{Namespace: after.Namespace, Name: memberName(after, i)}, there); {
		case apierrors.IsNotFound(err) || (err == nil && !metav1.IsControlledBy(there, after)):
			there = nil
		case err != nil:
			return apierrors.NewInternalError(err)
		}
		found, err := v.member(ctx, review, there, built.cluster, after, i)
		if err != nil {
			return err
		}
		f.faults = append(f.faults, found.Faults...)
		f.warnings = append(f.warnings, found.Warnings...)
	}
	return nil
}

// member examines one. there is its MiniCluster, nil where there is none yet.
func (*validator) member(
	ctx context.Context, review *admission.Review, there, built *unstructured.Unstructured, e *v1alpha1.Ensemble, i int,
) (*admission.Findings, error) {
	at := placeOf(i)
	if there == nil {
		pools, err := review.Find(ctx, admission.PoolsOf(built))
		if err != nil {
			return nil, err
		}
		additions, err := admission.Prepare(built)
		if err == nil {
			err = additions.AddTo(built)
		}
		if err != nil {
			return nil, invalid(e, field.ErrorList{field.Invalid(at.Spec, field.OmitValueType{}, err.Error())})
		}
		return admission.ExamineNew(built, pools, at), nil
	}
	changed := there.DeepCopy()
	changed.SetAnnotations(annotated(there.GetAnnotations(), built.GetAnnotations()))
	pools, err := review.Find(ctx, admission.NewPoolsOf(there, changed))
	if err != nil {
		return nil, err
	}
	return admission.ExamineUpdate(there, changed, pools, at), nil
}

// annotated are the annotations of a MiniCluster, which may have none, when those that an Ensemble sets are brought in line.
func annotated(there, built map[string]string) map[string]string {
	annotations := make(map[string]string, len(there)+len(built))
	maps.Copy(annotations, there)
	for _, key := range policyAnnotations {
		delete(annotations, key)
	}
	maps.Copy(annotations, built)
	return annotations
}

// placeOf is where a user finds the parts of the MiniCluster of a member.
func placeOf(i int) admission.Place {
	member := field.NewPath("spec", "members").Index(i)
	cluster := member.Child("minicluster")
	return admission.Place{Metadata: cluster.Child("metadata"), Spec: cluster.Child("spec"), Annotation: func(key string) *field.Path {
		if name, has := policyFields[key]; has {
			return member.Child(name)
		}
		return cluster.Child("metadata", "annotations").Key(key)
	}}
}

// ValidateDelete implements webhook.Validator. It is not asked.
func (*validator) ValidateDelete(context.Context, *v1alpha1.Ensemble) (webhook.Warnings, error) {
	return nil, nil
}

func invalid(e *v1alpha1.Ensemble, faults field.ErrorList) error {
	if len(faults) == 0 {
		return nil
	}
	return apierrors.NewInvalid(v1alpha1.GroupVersion.WithKind("Ensemble").GroupKind(), e.Name, admission.Told(faults))
}

// admissionWarnings are what kubectl shows.
func (f *findings) admissionWarnings() webhook.Warnings {
	warnings := webhook.Warnings(f.warnings)
	for _, path := range f.unused {
		warnings = append(warnings, path+": has no effect here; one endpoint serves all Ensembles and starts their members")
	}
	// The API server cuts what is long in sum.
	const most = 20
	return warnings[:min(len(warnings), most)]
}
