package admission

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// reads are a cache that has no NodePools yet, and an API server that has some.
func reads(t *testing.T, live interceptor.Funcs, names ...string) (*runtime.Scheme, *Lookup) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(
		v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme), appsv1.AddToScheme(scheme), batchv1.AddToScheme(scheme),
	); err != nil {
		t.Fatal(err)
	}
	build := fake.NewClientBuilder().WithScheme(scheme).WithInterceptorFuncs(live)
	for _, name := range names {
		build = build.WithObjects(pool(t, name, `{}`))
	}
	return scheme, &Lookup{Cached: fake.NewClientBuilder().WithScheme(scheme).Build(), Live: build.Build()}
}

// TestLateCache: a NodePool that the cache does not have yet is found by asking the API server.
func TestLateCache(t *testing.T) {
	t.Parallel()
	_, lookup := reads(t, interceptor.Funcs{}, "a", "b")
	pools, err := lookup.Review("ns").Find(t.Context(), []string{"a", "c"})
	if err != nil || pools.Named["a"] == nil || len(pools.Named) != 1 {
		t.Errorf("found are %v, %v", pools, err)
	}
}

// TestAnswers: each answer is counted for what it is, and nothing is patched twice.
func TestAnswers(t *testing.T) {
	t.Parallel()
	down := false
	scheme, lookup := reads(t, interceptor.Funcs{List: func(
		ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption,
	) error {
		if _, is := list.(*v1alpha1.NodePoolList); is && down {
			return errors.New("the network is down")
		}
		return c.List(ctx, list, options...)
	}}, "a")
	registry := prometheus.NewPedanticRegistry()
	metrics, err := NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	hooks := Webhooks(scheme, lookup, metrics)
	ask := func(path, object string) webhook.Response {
		hook, is := hooks[path].(*webhook.Webhook)
		if !is {
			t.Fatalf("%s is served by %T", path, hooks[path])
		}
		return hook.Handle(t.Context(), webhook.Request{AdmissionRequest: admissionv1.AdmissionRequest{
			UID: "uid", Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: []byte(object)},
		}})
	}
	written := func(pools, spec string) string {
		encoded, err := cluster(t, pools, "", spec).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		return string(encoded)
	}
	const good = `{size: 1, minSize: 1, maxSize: 2, ` + fits + `, other: {large: 9007199254740993, half: 0.5}}`

	first := ask(PathMutateMiniCluster, written("a", good))
	var patched []string
	for _, patch := range first.Patches {
		patched = append(patched, patch.Operation+" "+patch.Path)
	}
	if diff := cmp.Diff([]string{"add /spec/pod"}, patched); diff != "" || !first.Allowed {
		t.Errorf("allowed %t (-want +got):\n%s", first.Allowed, diff)
	}
	u := cluster(t, "a", "", good)
	additions, err := Prepare(u)
	if err == nil {
		err = additions.AddTo(u)
	}
	if err != nil {
		t.Fatal(err)
	}
	again, err := u.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if second := ask(PathMutateMiniCluster, string(again)); !second.Allowed || len(second.Patches) > 0 || second.PatchType != nil {
		t.Errorf("asked again it patches %v", second.Patches)
	}
	sets := func(spec string) string {
		return `{"apiVersion":"jobset.x-k8s.io/v1alpha2","kind":"JobSet","metadata":{"name":"j","annotations":{` +
			`"autoscaling.flux-framework.org/node-pools":"a"}},"spec":` + spec + `}`
	}
	for _, row := range []struct {
		path, object string
		code         int32
		says         string
	}{
		{PathSizeMiniCluster, written("a", good), 200, ""},
		{PathSizeMiniCluster, "{", 400, "unexpected end of JSON"},
		{PathMutateMiniCluster, written("a", `{pod: 3}`), 400, "spec: json: cannot unmarshal number"},
		{PathMutateMiniCluster, "{", 400, "unexpected end of JSON"},
		{PathValidateMiniCluster, written("a", good), 200, ""},
		{PathValidateMiniCluster, written("a", `{size: 1, minSize: 1, `+fits+`}`), 200, ""},
		{PathValidateMiniCluster, written("b", good), 422, `there is no NodePool "b"`},
		{PathValidateMiniCluster, written("out-of-reach", good), 500, "list NodePools: the network is down"},
		{
			PathValidateNodePool,
			`{"apiVersion":"autoscaling.flux-framework.org/v1alpha1","kind":"NodePool","spec":{"template":{"capacity":{"cpu":"0"}}}}`, 422,
			"spec.template.capacity[cpu]",
		},
		{
			PathMutateJob, `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"j","annotations":{"autoscaling.flux-framework.org/node-pools":"a"}}}`,
			200, "",
		},
		{PathMutateJob, `{"apiVersion":"batch/v1","kind":"Job","spec":3}`, 400, "read the Job"},
		{
			PathValidateJob, `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"j","annotations":{"autoscaling.flux-framework.org/node-pools":"a"}}}`,
			422, "spec.completionMode",
		},
		{PathMutateJobSet, sets(`{"replicatedJobs":[]}`), 200, ""},
		{PathMutateJobSet, sets(`3`), 400, "spec: "},
		{PathValidateJobSet, sets(`{"replicatedJobs":[]}`), 422, "spec.replicatedJobs: Required value"},
		{PathGatePod, `{"apiVersion":"v1","kind":"Pod"}`, 200, ""},
		{PathGatePod, "{", 400, "unexpected end of JSON"},
	} {
		down = strings.Contains(row.object, "out-of-reach")
		if response := ask(row.path, row.object); response.Result.Code != row.code || !strings.Contains(response.Result.Message, row.says) {
			t.Errorf("%s answers %s with %d %s, not %d %s", row.path, row.object, response.Result.Code, response.Result.Message, row.code, row.says)
		}
	}
	want := `
# HELP ensemble_autoscaler_admission_reviews_total Objects that the API server had a webhook look at, by webhook and answer: allowed, warned (allowed with a warning), refused, failed (for want of an answer).
# TYPE ensemble_autoscaler_admission_reviews_total counter
ensemble_autoscaler_admission_reviews_total{answer="allowed",webhook="gate-pod"} 1
ensemble_autoscaler_admission_reviews_total{answer="allowed",webhook="mutate-job"} 1
ensemble_autoscaler_admission_reviews_total{answer="allowed",webhook="mutate-jobset"} 1
ensemble_autoscaler_admission_reviews_total{answer="allowed",webhook="mutate-minicluster"} 2
ensemble_autoscaler_admission_reviews_total{answer="allowed",webhook="size-minicluster"} 1
ensemble_autoscaler_admission_reviews_total{answer="allowed",webhook="validate-job"} 0
ensemble_autoscaler_admission_reviews_total{answer="allowed",webhook="validate-jobset"} 0
ensemble_autoscaler_admission_reviews_total{answer="allowed",webhook="validate-minicluster"} 1
ensemble_autoscaler_admission_reviews_total{answer="allowed",webhook="validate-nodepool"} 0
ensemble_autoscaler_admission_reviews_total{answer="failed",webhook="gate-pod"} 0
ensemble_autoscaler_admission_reviews_total{answer="failed",webhook="mutate-job"} 0
ensemble_autoscaler_admission_reviews_total{answer="failed",webhook="mutate-jobset"} 0
ensemble_autoscaler_admission_reviews_total{answer="failed",webhook="mutate-minicluster"} 0
ensemble_autoscaler_admission_reviews_total{answer="failed",webhook="size-minicluster"} 0
ensemble_autoscaler_admission_reviews_total{answer="failed",webhook="validate-job"} 0
ensemble_autoscaler_admission_reviews_total{answer="failed",webhook="validate-jobset"} 0
ensemble_autoscaler_admission_reviews_total{answer="failed",webhook="validate-minicluster"} 1
ensemble_autoscaler_admission_reviews_total{answer="failed",webhook="validate-nodepool"} 0
ensemble_autoscaler_admission_reviews_total{answer="refused",webhook="gate-pod"} 1
ensemble_autoscaler_admission_reviews_total{answer="refused",webhook="mutate-job"} 1
ensemble_autoscaler_admission_reviews_total{answer="refused",webhook="mutate-jobset"} 1
ensemble_autoscaler_admission_reviews_total{answer="refused",webhook="mutate-minicluster"} 2
ensemble_autoscaler_admission_reviews_total{answer="refused",webhook="size-minicluster"} 1
ensemble_autoscaler_admission_reviews_total{answer="refused",webhook="validate-job"} 1
ensemble_autoscaler_admission_reviews_total{answer="refused",webhook="validate-jobset"} 1
ensemble_autoscaler_admission_reviews_total{answer="refused",webhook="validate-minicluster"} 1
ensemble_autoscaler_admission_reviews_total{answer="refused",webhook="validate-nodepool"} 1
ensemble_autoscaler_admission_reviews_total{answer="warned",webhook="gate-pod"} 0
ensemble_autoscaler_admission_reviews_total{answer="warned",webhook="mutate-job"} 0
ensemble_autoscaler_admission_reviews_total{answer="warned",webhook="mutate-jobset"} 0
ensemble_autoscaler_admission_reviews_total{answer="warned",webhook="mutate-minicluster"} 0
ensemble_autoscaler_admission_reviews_total{answer="warned",webhook="size-minicluster"} 0
ensemble_autoscaler_admission_reviews_total{answer="warned",webhook="validate-job"} 0
ensemble_autoscaler_admission_reviews_total{answer="warned",webhook="validate-jobset"} 0
ensemble_autoscaler_admission_reviews_total{answer="warned",webhook="validate-minicluster"} 1
ensemble_autoscaler_admission_reviews_total{answer="warned",webhook="validate-nodepool"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
