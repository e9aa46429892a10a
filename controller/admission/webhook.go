package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// Where the API server asks, as manifests/controller/admission.yaml has it, for Jobs and JobSets
// manifests/components/kind-job and kind-jobset, and for pods manifests/overlays/pod-webhook.
const (
	PathMutateMiniCluster   = "/mutate-minicluster"
	PathSizeMiniCluster     = "/size-minicluster"
	PathValidateMiniCluster = "/validate-minicluster"
	PathValidateNodePool    = "/validate-nodepool"
	PathMutateJob           = "/mutate-job"
	PathValidateJob         = "/validate-job"
	PathMutateJobSet        = "/mutate-jobset"
	PathValidateJobSet      = "/validate-jobset"
	PathGatePod             = "/gate-pod"
)

// Webhooks are the handlers of MiniClusters, Jobs, JobSets, NodePools and pods, by their paths.
func Webhooks(scheme *runtime.Scheme, lookup *Lookup, metrics *Metrics) map[string]http.Handler {
	return map[string]http.Handler{
		PathMutateMiniCluster:   metrics.Record("mutate-minicluster", &webhook.Webhook{Handler: &mutator{webhook.NewDecoder(scheme), mark}}),
		PathSizeMiniCluster:     metrics.Record("size-minicluster", &webhook.Webhook{Handler: &mutator{webhook.NewDecoder(scheme), size}}),
		PathValidateMiniCluster: metrics.Record("validate-minicluster", webhook.WithValidator(scheme, &clusterValidator{lookup})),
		PathValidateNodePool:    metrics.Record("validate-nodepool", webhook.WithValidator(scheme, &poolValidator{})),
		PathMutateJob:           metrics.Record("mutate-job", &webhook.Webhook{Handler: &mutator{webhook.NewDecoder(scheme), markJob}}),
		PathValidateJob:         metrics.Record("validate-job", webhook.WithValidator(scheme, &jobValidator{lookup})),
		PathMutateJobSet:        metrics.Record("mutate-jobset", &webhook.Webhook{Handler: &mutator{webhook.NewDecoder(scheme), markJobSet}}),
		PathValidateJobSet:      metrics.Record("validate-jobset", webhook.WithValidator(scheme, &jobSetValidator{lookup})),
		PathGatePod:             metrics.Record("gate-pod", &webhook.Webhook{Handler: &gater{webhook.NewDecoder(scheme)}}),
	}
}

// Answer is what the API server is told of an object.
func (f *Findings) Answer(kind schema.GroupVersionKind, name string) (webhook.Warnings, error) {
	// The API server cuts what is long in sum.
	const most = 20
	warnings := webhook.Warnings(f.Warnings[:min(len(f.Warnings), most)])
	if len(f.Faults) == 0 {
		return warnings, nil
	}
	return warnings, apierrors.NewInvalid(kind.GroupKind(), name, Told(f.Faults))
}

// mutator changes workloads that are being written. It has no other effect, so that a trial run does no harm.
type mutator struct {
	decoder webhook.Decoder
	// change changes a workload, which was nil before if it is being created, and returns what its user is to be told.
	change func(request *webhook.Request, before, after *unstructured.Unstructured) (webhook.Warnings, error)
}

// Handle implements webhook.Handler. The object is taken as it comes, so that the fields which are not known here stay.
func (m *mutator) Handle(_ context.Context, request webhook.Request) webhook.Response {
	cluster := &unstructured.Unstructured{}
	if err := m.decoder.Decode(request, cluster); err != nil {
		return webhook.Errored(http.StatusBadRequest, err)
	}
	var before *unstructured.Unstructured
	if request.Operation == admissionv1.Update {
		before = &unstructured.Unstructured{}
		if err := m.decoder.DecodeRaw(request.OldObject, before); err != nil {
			return webhook.Errored(http.StatusBadRequest, err)
		}
	}
	warnings, err := m.change(&request, before, cluster)
	if err != nil {
		return webhook.Errored(http.StatusBadRequest, err)
	}
	changed, err := cluster.MarshalJSON()
	if err != nil {
		return webhook.Errored(http.StatusInternalServerError, err)
	}
	return webhook.PatchResponseFromRaw(request.Object.Raw, changed).WithWarnings(warnings...)
}

// mark adds the marks of its pods to a MiniCluster that is created, and those that it has lost to one that is updated. Being asked twice
// does no harm.
func mark(_ *webhook.Request, before, after *unstructured.Unstructured) (webhook.Warnings, error) {
	if before == nil {
		additions, err := Prepare(after)
		if err != nil {
			return nil, err
		}
		return nil, additions.AddTo(after)
	}
	additions, err := Restore(before, after)
	if err != nil {
		return nil, err
	}
	return nil, additions.AddTo(after)
}

// size says what becomes of the size in a file that is applied. It must not be asked twice about one write: what it has set is not
// what the file says.
func size(request *webhook.Request, before, after *unstructured.Unstructured) (webhook.Warnings, error) {
	if before == nil {
		return SizeOfNew(after, Itself())
	}
	var options struct {
		FieldManager string `json:"fieldManager"`
	}
	if len(request.Options.Raw) > 0 {
		if err := json.Unmarshal(request.Options.Raw, &options); err != nil {
			return nil, fmt.Errorf("read the options of the request: %w", err)
		}
	}
	return SizeOfApplied(before, after, options.FieldManager, Itself())
}

type clusterValidator struct{ lookup *Lookup }

var _ webhook.Validator[*unstructured.Unstructured] = (*clusterValidator)(nil)

// ValidateCreate implements webhook.Validator.
func (v *clusterValidator) ValidateCreate(ctx context.Context, cluster *unstructured.Unstructured) (webhook.Warnings, error) {
	pools, err := v.lookup.Review(cluster.GetNamespace()).Find(ctx, PoolsOf(cluster))
	if err != nil {
		return nil, err
	}
	return ExamineNew(cluster, pools, Itself()).Answer(minicluster.GroupVersionKind, cluster.GetName())
}

// ValidateUpdate implements webhook.Validator.
func (v *clusterValidator) ValidateUpdate(ctx context.Context, before, after *unstructured.Unstructured) (webhook.Warnings, error) {
	pools, err := v.lookup.Review(after.GetNamespace()).Find(ctx, NewPoolsOf(before, after))
	if err != nil {
		return nil, err
	}
	return ExamineUpdate(before, after, pools, Itself()).Answer(minicluster.GroupVersionKind, after.GetName())
}

// ValidateDelete implements webhook.Validator. It is not asked.
func (*clusterValidator) ValidateDelete(context.Context, *unstructured.Unstructured) (webhook.Warnings, error) {
	return nil, nil
}

type poolValidator struct{}

var _ webhook.Validator[*v1alpha1.NodePool] = (*poolValidator)(nil)

// ValidateCreate implements webhook.Validator.
func (*poolValidator) ValidateCreate(_ context.Context, pool *v1alpha1.NodePool) (webhook.Warnings, error) {
	return ExamineNodePool(nil, pool).Answer(v1alpha1.GroupVersion.WithKind("NodePool"), pool.Name)
}

// ValidateUpdate implements webhook.Validator.
func (*poolValidator) ValidateUpdate(_ context.Context, before, after *v1alpha1.NodePool) (webhook.Warnings, error) {
	if after.DeletionTimestamp != nil {
		return nil, nil
	}
	return ExamineNodePool(before, after).Answer(v1alpha1.GroupVersion.WithKind("NodePool"), after.Name)
}

// ValidateDelete implements webhook.Validator. It is not asked.
func (*poolValidator) ValidateDelete(context.Context, *v1alpha1.NodePool) (webhook.Warnings, error) {
	return nil, nil
}
