package admission

import (
	"context"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/minicluster"
)

// Where the API server asks, as manifests/controller/admission.yaml has it, and for pods manifests/overlays/pod-webhook.
const (
	PathMutateMiniCluster   = "/mutate-minicluster"
	PathValidateMiniCluster = "/validate-minicluster"
	PathValidateNodePool    = "/validate-nodepool"
	PathGatePod             = "/gate-pod"
)

// Webhooks are the handlers of MiniClusters, NodePools and pods, by their paths.
func Webhooks(scheme *runtime.Scheme, lookup *Lookup, metrics *Metrics) map[string]http.Handler {
	return map[string]http.Handler{
		PathMutateMiniCluster:   metrics.Record("mutate-minicluster", &webhook.Webhook{Handler: &preparer{lookup, webhook.NewDecoder(scheme)}}),
		PathValidateMiniCluster: metrics.Record("validate-minicluster", webhook.WithValidator(scheme, &clusterValidator{lookup})),
		PathValidateNodePool:    metrics.Record("validate-nodepool", webhook.WithValidator(scheme, &poolValidator{})),
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
	return warnings, apierrors.NewInvalid(kind.GroupKind(), name, f.Faults)
}

// preparer adds to MiniClusters what they lack. It has no other effect, so that a trial run, or being asked twice, does no
// harm.
type preparer struct {
	lookup  *Lookup
	decoder webhook.Decoder
}

// Handle implements webhook.Handler. The object is taken as it comes, so that the fields which are not known here stay.
func (p *preparer) Handle(ctx context.Context, request webhook.Request) webhook.Response {
	cluster := &unstructured.Unstructured{}
	if err := p.decoder.Decode(request, cluster); err != nil {
		return webhook.Errored(http.StatusBadRequest, err)
	}
	pools, err := p.lookup.Find(ctx, PoolsOf(cluster))
	if err != nil {
		return webhook.Errored(http.StatusInternalServerError, err)
	}
	additions, err := Prepare(cluster, pools)
	if err == nil {
		err = additions.AddTo(cluster)
	}
	if err != nil {
		return webhook.Errored(http.StatusBadRequest, err)
	}
	changed, err := cluster.MarshalJSON()
	if err != nil {
		return webhook.Errored(http.StatusInternalServerError, err)
	}
	return webhook.PatchResponseFromRaw(request.Object.Raw, changed)
}

type clusterValidator struct{ lookup *Lookup }

var _ webhook.Validator[*unstructured.Unstructured] = (*clusterValidator)(nil)

// ValidateCreate implements webhook.Validator.
func (v *clusterValidator) ValidateCreate(ctx context.Context, cluster *unstructured.Unstructured) (webhook.Warnings, error) {
	pools, err := v.lookup.Find(ctx, PoolsOf(cluster))
	if err != nil {
		return nil, err
	}
	return ExamineNew(cluster, pools, Itself()).Answer(minicluster.GroupVersionKind, cluster.GetName())
}

// ValidateUpdate implements webhook.Validator.
func (v *clusterValidator) ValidateUpdate(ctx context.Context, before, after *unstructured.Unstructured) (webhook.Warnings, error) {
	pools, err := v.lookup.Find(ctx, NewPoolsOf(before, after))
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
