package system_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// user is somebody who reads what the API server warns him of.
type user struct {
	client.Client
	mu       sync.Mutex
	warnings []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (u *user) HandleWarningHeader(_ int, _, text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.warnings = append(u.warnings, text)
}

// takeWarnings are the warnings since it was asked last.
func (u *user) takeWarnings() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	told := u.warnings
	u.warnings = nil
	return told
}

func newUser(t *testing.T, s *system.System) *user {
	t.Helper()
	u := &user{}
	config := rest.CopyConfig(s.Plane.AdminConfig())
	config.QPS, config.WarningHandler = -1, u
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	if u.Client, err = client.New(config, client.Options{Scheme: s.Client.Scheme(), HTTPClient: transport}); err != nil {
		t.Fatal(err)
	}
	return u
}

// objectOf is one object in YAML.
func objectOf(t *testing.T, format string, arguments ...any) *unstructured.Unstructured {
	t.Helper()
	objects, err := system.Objects(fmt.Appendf(nil, format, arguments...))
	if err != nil || len(objects) != 1 {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	return objects[0]
}

const (
	clusterText = `
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata: {name: %s, namespace: default, annotations: {%s}}
spec: {size: 2, minSize: 1, maxSize: 4, interactive: true, containers: [{image: "ubuntu:noble", runFlux: true, resources: {requests: {cpu: "3", memory: 1Gi}}}]%s}
`
	poolOfText = `
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: %s}
spec:
  maxSize: %d
  template:
    taints: [{key: example.com/dedicated, value: hpc, effect: NoSchedule}]
    capacity: {cpu: "4", memory: 16Gi, pods: "110"%s}
  machines: {kwok: {bootDelay: 0s}}
`
	toHPC = `autoscaling.flux-framework.org/node-pools: hpc`
)

// TestAdmission: what the API server says to users who write MiniClusters, NodePools and EnsembleMembers, and what becomes
// of a MiniCluster that says no more than which pool its nodes come from.
//
//nolint:tparallel // The last part takes the controller away from the others.
func TestAdmission(t *testing.T) {
	t.Parallel()
	s, err := system.Start(t.Context(), system.Options{
		Progress: os.Stderr, LogDir: t.ArtifactDir(), AutoscalerFlags: []string{"--scan-interval=1s"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	u := newUser(t, s)
	demo := types.NamespacedName{Namespace: metav1.NamespaceDefault, Name: "demo"}

	// A pool and the MiniCluster on it are created one after the other, as kubectl apply does.
	for _, object := range []*unstructured.Unstructured{
		objectOf(t, poolOfText, "hpc", 8, ""), objectOf(t, clusterText, demo.Name, toHPC, ""),
	} {
		if err := u.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	if told := u.takeWarnings(); len(told) > 0 {
		t.Errorf("warned of nothing: %q", told)
	}
	t.Run("pods land on the nodes held for them", func(t *testing.T) { prepared(t, s, demo) })
	t.Run("refusals", func(t *testing.T) { refusals(t, s, u) })
	t.Run("edits", func(t *testing.T) { edits(t, u, demo) })
	t.Run("members", func(t *testing.T) { members(t, u, demo) })
	t.Run("the controller is down", func(t *testing.T) { withoutController(t, s, u, demo) })
}

// prepared: the stored MiniCluster has what marks its pods and nothing that a file could take away, and its pods have that and what they
// need to land on their nodes.
func prepared(t *testing.T, s *system.System, demo types.NamespacedName) {
	t.Helper()
	cluster := objectOf(t, clusterText, demo.Name, toHPC, "")
	if err := s.Client.Get(t.Context(), demo, cluster); err != nil {
		t.Fatal(err)
	}
	pod, _, err := unstructured.NestedMap(cluster.Object, "spec", "pod")
	if want := `map[annotations:map[cluster-autoscaler.kubernetes.io/safe-to-evict:false] ` +
		`labels:map[autoscaling.flux-framework.org/member:demo]]`; fmt.Sprint(pod) != want || err != nil {
		t.Errorf("spec.pod is %v (%v), not %s", pod, err, want)
	}
	until(t, func(ctx context.Context) (bool, error) {
		var pods corev1.PodList
		if err := s.Client.List(
			ctx, &pods, client.InNamespace(demo.Namespace), client.MatchingLabels{batchv1.JobNameLabel: demo.Name},
		); err != nil {
			return false, err
		}
		running := 0
		for i := range pods.Items {
			p := &pods.Items[i]
			tolerates := slices.ContainsFunc(p.Spec.Tolerations, func(t corev1.Toleration) bool { return t.Key == "example.com/dedicated" })
			if p.Labels[v1alpha1.LabelMember] != demo.Name || p.Annotations[v1alpha1.AnnotationSafeToEvict] != "false" ||
				(len(p.Spec.SchedulingGates) == 0 && !tolerates) {
				t.Fatalf(
					"a pod has the labels %v, annotations %v, gates %v and tolerations %v", p.Labels, p.Annotations, p.Spec.SchedulingGates,
					p.Spec.Tolerations,
				)
			}
			if p.Status.Phase == corev1.PodRunning && strings.HasPrefix(p.Spec.NodeName, "hpc-") {
				running++
			}
		}
		return running == 2, nil
	})
}

// refusals: each says what is wrong with which field, in words that need no documentation, is logged once and counted.
func refusals(t *testing.T, s *system.System, u *user) {
	t.Helper()
	for _, object := range []*unstructured.Unstructured{
		objectOf(t, strings.Replace(poolOfText, "spec:", "spec:\n  allowedNamespaces: {matchLabels: {team: hpc}}", 1), "closed", 4, ""),
		objectOf(t, "{apiVersion: v1, kind: Namespace, metadata: {name: limited, labels: {team: hpc}}}"),
		objectOf(
			t,
			`{apiVersion: v1, kind: LimitRange, metadata: {name: large, namespace: limited}, spec: {limits: [{type: Container, default: {cpu: "6"}, defaultRequest: {cpu: "6"}}]}}`,
		),
	} {
		if err := u.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	limited := func(object *unstructured.Unstructured) *unstructured.Unstructured {
		object.SetNamespace("limited")
		return object
	}
	for name, row := range map[string]struct {
		object   *unstructured.Unstructured
		refused  []string
		warnings []string
	}{
		"a pool that does not exist": {objectOf(t, clusterText, "x", "autoscaling.flux-framework.org/node-pools: nowhere", ""),
			[]string{
				`metadata.annotations[autoscaling.flux-framework.org/node-pools]: Invalid value: "nowhere": there is no NodePool "nowhere"; those ` +
					`that can be named here are hpc`,
			}, nil},
		"pools that cannot be names": {objectOf(t, clusterText, "x", "autoscaling.flux-framework.org/node-pools: Not A Pool", ""),
			[]string{`"Not A Pool" cannot be the name of a NodePool`}, nil},
		"pods that are too large": {objectOf(t, strings.Replace(clusterText, `cpu: "3"`, `cpu: "5"`, 1), "x", toHPC, ""),
			[]string{"spec.containers", "a pod requests 5 of cpu and an empty node of hpc offers 4"}, nil},
		"a size that cannot be": {objectOf(
			t, strings.NewReplacer("size: 2", "size: 9", "maxSize: 4", "maxSize: 9").Replace(clusterText), "x", toHPC, "",
		),
			[]string{"spec.size: Invalid value: 9: must be at most what its NodePools hold, 8 (hpc has maxSize 8)"}, nil},
		"growth that cannot be": {objectOf(
			t, strings.Replace(clusterText, "minSize: 1, maxSize: 4, ", "minSize: 2, ", 1), "x",
			toHPC+", autoscaling.flux-framework.org/request-policy: Coalesce", "",
		),
			[]string{"spec.maxSize: Required value"}, nil},
		"a name whose pods would have none": {objectOf(t, clusterText, strings.Repeat("x", 62), toHPC, ""),
			[]string{"metadata.name: Invalid value", "must have at most 61 characters"}, nil},
		"what the Flux Operator drops": {objectOf(
			t, strings.Replace(clusterText, "runFlux: true", "launcher: true, batch: true", 1), "x", toHPC, "",
		),
			[]string{"spec.containers[0].batch: Invalid value: true: must not be set beside launcher"}, nil},
		"a selector of another pool": {objectOf(
			t, clusterText, "x", toHPC, ", pod: {nodeSelector: {autoscaling.flux-framework.org/node-pool: other}}",
		),
			[]string{
				"spec.pod.nodeSelector[autoscaling.flux-framework.org/node-pool]", "must be among the NodePools that the nodes come from: hpc",
			}, nil},
		"one that cannot grow": {objectOf(t, strings.Replace(clusterText, "maxSize: 4, ", "", 1), "x", toHPC, ""), nil,
			[]string{"spec.maxSize: is not set: the MiniCluster cannot grow above its first size, 2, and requests to grow will be DENIED"}},
		"a name that is made up": {objectOf(t, strings.Replace(clusterText, "name: %s,", "generateName: %s-,", 1), "x", toHPC, ""),
			[]string{"metadata.generateName: Forbidden"}, nil},
		"one without the annotation": {objectOf(t, strings.Replace(clusterText, "size: 2", "size: 99", 1), "x", "other: a", ""), nil, nil},
		"a pool of other namespaces": {objectOf(t, clusterText, "x", "autoscaling.flux-framework.org/node-pools: closed", ""),
			[]string{
				`metadata.annotations[autoscaling.flux-framework.org/node-pools]: Forbidden: NodePool closed may be named only in namespaces with ` +
					`the labels team=hpc (its spec.allowedNamespaces), and namespace default has none of these`,
			}, nil},
		"a pool of the namespace": {
			limited(
				objectOf(
					t, clusterText, "x", "autoscaling.flux-framework.org/node-pools: closed",
					`, flux: {container: {resources: {requests: {cpu: "1"}}}}`,
				),
			),
			nil, nil,
		},
		"an Ensemble of a pool of other namespaces": {objectOf(t, ensembleText, "hpc", "closed"),
			[]string{`spec.members[1].nodePools: Forbidden: NodePool closed may be named only in namespaces with the labels team=hpc`}, nil},
		"what the namespace adds to pods": {limited(
			objectOf(t, strings.Replace(clusterText, `requests: {cpu: "3", memory: 1Gi}`, `requests: {memory: 1Gi}`, 1), "x", toHPC, ""),
		),
			[]string{
				`spec.containers: Invalid value: a pod requests 6 of cpu and an empty node of hpc offers 4`,
				`(LimitRange large has containers that say nothing of cpu request 6)`,
			}, nil},
		"an Ensemble that the namespace adds to": {limited(
			objectOf(t, strings.Replace(ensembleText, `requests: {cpu: "3"}`, `requests: {}`, 1), "hpc", "hpc"),
		),
			[]string{`spec.members[0].minicluster.spec.containers: Invalid value: a pod requests 6 of cpu`}, nil},
		"size edits that are neither Follow nor unset": {objectOf(
			t, clusterText, "x", toHPC+", autoscaling.flux-framework.org/size-edits: Never", "",
		),
			[]string{
				`metadata.annotations[autoscaling.flux-framework.org/size-edits]: Invalid value: "Never": it has to be Follow, or not there`,
			}, nil},
		"a NodePool of namespaces that are none": {objectOf(
			t, strings.Replace(poolOfText, "spec:", "spec:\n  allowedNamespaces: {matchExpressions: [{key: a, operator: In}]}", 1), "x", 1, "",
		),
			[]string{`spec.allowedNamespaces.matchExpressions[0].values: Required value`}, nil},
		"a NodePool that offers more than it has": {objectOf(
			t, strings.Replace(poolOfText, "capacity:", "allocatable: {cpu: 4100m}\n    capacity:", 1), "x", 1, "",
		),
			[]string{`spec.template.allocatable[cpu]: Invalid value: "4100m": must be at most template.capacity[cpu], which is 4`}, nil},
		"a NodePool without a core": {objectOf(t, strings.Replace(poolOfText, `cpu: "4"`, "cpu: 0", 1), "x", 1, ""),
			[]string{`spec.template.capacity[cpu]: Invalid value: "0": must be above 0`}, nil},
		"a NodePool of another kind": {objectOf(t, poolOfText, "x", 1, `, nvidia.com/gpu: 8`), nil, nil},
		"an Ensemble of pools that do not exist": {objectOf(t, ensembleText, "hpc", "nowhere"),
			[]string{`spec.members[1].nodePools: Invalid value: "nowhere": there is no NodePool "nowhere"`}, nil},
		"an Ensemble whose pods are too large": {objectOf(t, strings.Replace(ensembleText, `cpu: "3"`, `cpu: "5"`, 1), "hpc", "hpc"),
			[]string{
				`spec.members[0].minicluster.spec.containers: Invalid value: a pod requests 5 of cpu`, `spec.members[1].minicluster.spec.containers`,
			}, nil},
		"an Ensemble": {objectOf(t, ensembleText, "hpc", "hpc"), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			u.takeWarnings()
			err := u.Create(t.Context(), row.object, client.DryRunAll, client.FieldValidation("Strict"))
			if len(row.refused) == 0 && err != nil {
				t.Errorf("refused: %v", err)
			}
			if len(row.refused) > 0 && !apierrors.IsInvalid(err) {
				t.Errorf("the answer is %v, not that it is invalid", err)
			}
			for _, part := range row.refused {
				if err != nil && !strings.Contains(err.Error(), part) {
					t.Errorf("the answer does not say %s: %v", part, err)
				}
			}
			if told := u.takeWarnings(); !slices.Equal(told, row.warnings) && err == nil {
				t.Errorf("the warnings are %q, not %q", told, row.warnings)
			}
		})
	}
	text, err := os.ReadFile(s.Plane.LogDir() + "/controller.log")
	if err != nil {
		t.Fatal(err)
	}
	if count := len(regexp.MustCompile(`(?m)^.*Refused.*spec\.maxSize: Required value.*$`).FindAll(text, -1)); count != 1 {
		t.Errorf("a refusal is logged %d times", count)
	}
	metrics, err := s.Metrics(t.Context(), s.ControllerMetrics)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`ensemble_autoscaler_admission_reviews_total{answer="refused",webhook="validate-nodepool"} 3`,
		`ensemble_autoscaler_admission_reviews_total{answer="refused",webhook="validate-ensemble"} 4`,
		`ensemble_autoscaler_admission_reviews_total{answer="warned",webhook="validate-minicluster"} 1`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf(
				"/metrics does not have %s; it has\n%s", line,
				strings.Join(regexp.MustCompile(`(?m)^ensemble_autoscaler_admission.*$`).FindAllString(metrics, -1), "\n"),
			)
		}
	}
}

const ensembleText = `
apiVersion: ensemble.flux-framework.org/v1alpha1
kind: Ensemble
metadata: {name: e, namespace: default}
spec:
  members:
  - nodePools: [%s]
    minicluster: &cluster {spec: {size: 1, minSize: 1, maxSize: 2, containers: [{image: i, resources: {requests: {cpu: "3"}}}]}}
    ensemble: &text "jobs: [{name: hello, command: hello}]\nrules: [{trigger: start, action: {name: submit, label: hello}}]"
  - {nodePools: [%s], minicluster: *cluster, ensemble: *text}
`

// patch edits an object as kubectl patch does.
func patch(ctx context.Context, u client.Client, object client.Object, text string) error {
	return u.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(text)))
}

func annotate(key, value string) string {
	return fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, key, value)
}

// edits: of a MiniCluster that is there what changes is judged, and nothing else.
func edits(t *testing.T, u *user, demo types.NamespacedName) {
	t.Helper()
	if err := u.Create(t.Context(), objectOf(t, poolOfText, "more", 4, "")); err != nil {
		t.Fatal(err)
	}
	cluster := objectOf(t, clusterText, demo.Name, toHPC, "")
	for name, row := range map[string]struct{ text, refused string }{
		"another policy": {annotate(v1alpha1.AnnotationGrowthPolicy, "BestEffort"), ""},
		"a policy that is none": {
			annotate(v1alpha1.AnnotationGrowthPolicy, "Slowly"), `Invalid value: "Slowly": it has to be one of AllOrNothing, BestEffort, Greedy`,
		},
		"a pool more": {annotate(v1alpha1.AnnotationNodePools, "hpc,more"), ""},
		"a pool of other namespaces": {
			annotate(v1alpha1.AnnotationNodePools, "hpc,closed"),
			"Forbidden: NodePool closed may be named only in namespaces with the labels team=hpc",
		},
		"a pool that does not exist": {annotate(v1alpha1.AnnotationNodePools, "hpc,nowhere"), `there is no NodePool "nowhere"`},
		"a minSize above the maximum": {
			`{"spec":{"minSize":5}}`, "spec.minSize: Invalid value: 5: must be at most the maximum size of the MiniCluster, which is 4",
		},
		"the size": {`{"spec":{"size":3}}`, ""},
		"labels":   {`{"metadata":{"labels":{"a":"b"}}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := u.Patch(t.Context(), cluster.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(row.text)), client.DryRunAll)
			if row.refused == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if row.refused != "" && (!apierrors.IsInvalid(err) || !strings.Contains(err.Error(), row.refused)) {
				t.Errorf("the answer is %v, not %s", err, row.refused)
			}
		})
	}
	// Of one that is managed from now on nothing has been judged before.
	joining := objectOf(
		t, strings.Replace(clusterText, `cpu: "3"`, `cpu: "5"`, 1), "joining", "autoscaling.flux-framework.org/growth-policy: Greedey",
		", pod: {tolerations: [{operator: Exists}]}",
	)
	if err := u.Create(t.Context(), joining); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ policy, refused string }{
		{"Greedey", `Invalid value: "Greedey": it has to be one of AllOrNothing, BestEffort, Greedy`},
		{"Greedy", "spec.containers: Invalid value: a pod requests 5 of cpu and an empty node of hpc offers 4"},
	} {
		err := patch(
			t.Context(), u, joining.DeepCopy(),
			fmt.Sprintf(`{"metadata":{"annotations":{%q:"hpc",%q:%q}}}`, v1alpha1.AnnotationNodePools, v1alpha1.AnnotationGrowthPolicy, row.policy),
		)
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), row.refused) {
			t.Errorf("the answer is %v, not %s", err, row.refused)
		}
	}
	if err := u.Delete(t.Context(), joining); err != nil {
		t.Fatal(err)
	}
	u.takeWarnings()
	pool := objectOf(t, poolOfText, "hpc", 8, "")
	if err := patch(t.Context(), u, pool, `{"spec":{"maxSize":1,"template":{"labels":{"a":"b"}}}}`); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"spec.template: concerns machines that are ordered from now on; the 2 that there are keep the template of before",
		"spec.maxSize: 1 is below the 2 nodes that members have reserved: they keep them, and get no more until they hold fewer",
		"spec.maxSize: 1 is below spec.replicas, which is 2: no machine is deleted for that",
	}
	if told := u.takeWarnings(); !slices.Equal(told, want) {
		t.Errorf("told are %q, not %q", told, want)
	}
	if err := patch(t.Context(), u, pool, `{"spec":{"maxSize":8,"template":{"labels":null}}}`); err != nil {
		t.Fatal(err)
	}
}

// members: an EnsembleMember is the controller's, its desired size the user's.
func members(t *testing.T, u *user, demo types.NamespacedName) {
	t.Helper()
	member := &v1alpha1.EnsembleMember{}
	if err := u.Get(t.Context(), demo, member); err != nil {
		t.Fatal(err)
	}
	for text, refused := range map[string]string{
		`{"spec":{"size":1}}`:                      "",
		`{"metadata":{"labels":{"a":"b"}}}`:        "",
		`{"spec":{"minSize":2}}`:                   "set spec.minSize there",
		`{"spec":{"maxSize":5}}`:                   "whose maximum size is fixed when it is created",
		`{"spec":{"nodePools":["more"]}}`:          "set its annotation autoscaling.flux-framework.org/node-pools",
		`{"spec":{"growthPolicy":"Greedy"}}`:       "set its annotation autoscaling.flux-framework.org/growth-policy",
		`{"spec":{"placement":"Single"}}`:          "set its annotation autoscaling.flux-framework.org/placement",
		`{"spec":{"requestPolicy":"Coalesce"}}`:    "set its annotation autoscaling.flux-framework.org/request-policy",
		`{"spec":{"podsPerNode":2}}`:               "set its annotation autoscaling.flux-framework.org/pods-per-node",
		`{"spec":{"giveUpAfter":2}}`:               "set its annotation autoscaling.flux-framework.org/give-up-after",
		`{"spec":{"size":1,"podsPerNode":"Auto"}}`: "set its annotation autoscaling.flux-framework.org/pods-per-node",
	} {
		err := u.Patch(t.Context(), member.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(text)), client.DryRunAll)
		if (refused == "") != (err == nil) || (err != nil &&
			(!apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), refused))) {
			t.Errorf("%s is answered %v, not %q", text, err, refused)
		}
	}
	err := u.Status().Patch(
		t.Context(), member.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"status":{"reserved":7}}`)), client.DryRunAll,
	)
	if err == nil || !strings.Contains(err.Error(), "the status is written by the controller alone") {
		t.Errorf("another status is answered %v", err)
	}
	byHand := member.DeepCopy()
	byHand.ObjectMeta = metav1.ObjectMeta{Namespace: demo.Namespace, Name: "by-hand"}
	if err := u.Create(t.Context(), byHand); err == nil || !strings.Contains(
		err.Error(), "set the annotation autoscaling.flux-framework.org/node-pools on MiniCluster by-hand",
	) {
		t.Errorf("one that is made by hand is answered %v", err)
	}
	scale := objectOf(t, "{apiVersion: autoscaling/v1, kind: Scale, spec: {replicas: 3}}")
	if err := u.SubResource("scale").Update(t.Context(), member, client.WithSubResourceBody(scale)); err != nil {
		t.Errorf("kubectl scale is answered %v", err)
	}
	sized(t, u, demo, 3)
}

// sized waits until a MiniCluster has a size.
func sized(t *testing.T, u client.Client, key types.NamespacedName, want int64) {
	t.Helper()
	until(t, func(ctx context.Context) (bool, error) {
		cluster := &unstructured.Unstructured{}
		cluster.SetAPIVersion("flux-framework.org/v1alpha2")
		cluster.SetKind("MiniCluster")
		if err := u.Get(ctx, key, cluster); err != nil {
			return false, err
		}
		size, _, err := unstructured.NestedInt64(cluster.Object, "spec", "size")
		return size == want, err
	})
}

// withoutController: what has not opted in does not notice, what has goes on living, and what would need the controller is
// refused until it is back.
func withoutController(t *testing.T, s *system.System, u *user, demo types.NamespacedName) {
	t.Helper()
	if err := s.Controller.Stop(time.Minute); err != nil {
		t.Fatal(err)
	}
	plain := objectOf(t, clusterText, "plain", "other: a", "")
	managed := objectOf(t, clusterText, "managed", toHPC, "")
	cluster, pool := objectOf(t, clusterText, demo.Name, toHPC, ""), objectOf(t, poolOfText, "hpc", 8, "")
	for what, write := range map[string]func(context.Context) error{
		"a MiniCluster without the annotation": func(ctx context.Context) error { return u.Create(ctx, plain) },
		"the size of a managed one": func(ctx context.Context) error {
			return patch(
				ctx, u, cluster.DeepCopy(), `{"spec":{"size":2}}`,
			)
		},
		"its labels, and its applied size": func(ctx context.Context) error {
			return patch(
				ctx, u, cluster.DeepCopy(), `{"metadata":{"labels":{"a":"b"},"annotations":{"autoscaling.flux-framework.org/applied-size":"2"}}}`,
			)
		},
		"its status": func(ctx context.Context) error {
			return u.Status().Patch(ctx, cluster.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"status":{"size":2}}`)))
		},
		"a higher maxSize of a NodePool": func(ctx context.Context) error { return patch(ctx, u, pool.DeepCopy(), `{"spec":{"maxSize":9}}`) },
		"a NodePool is paused and goes on": func(ctx context.Context) error {
			return patch(ctx, u, pool.DeepCopy(), `{"spec":{"paused":false,"minSize":4}}`)
		},
	} {
		if err := write(t.Context()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"a managed MiniCluster":        u.Create(t.Context(), managed.DeepCopy()),
		"another policy":               patch(t.Context(), u, cluster.DeepCopy(), annotate(v1alpha1.AnnotationGrowthPolicy, "Greedy")),
		"a new NodePool":               u.Create(t.Context(), objectOf(t, poolOfText, "new", 1, "")),
		"another template of one":      patch(t.Context(), u, pool.DeepCopy(), `{"spec":{"template":{"labels":{"a":"b"}}}}`),
		"a plain one that joins":       patch(t.Context(), u, plain.DeepCopy(), annotate(v1alpha1.AnnotationNodePools, "hpc")),
		"an Ensemble":                  u.Create(t.Context(), objectOf(t, ensembleText, "hpc", "hpc")),
		"the bounds of a managed one":  patch(t.Context(), u, cluster.DeepCopy(), `{"spec":{"minSize":2}}`),
		"a lower maxSize of the other": patch(t.Context(), u, objectOf(t, poolOfText, "more", 4, ""), `{"spec":{"maxSize":1}}`),
	} {
		if !system.NotAnswered(err) {
			t.Errorf("%s is answered %v without the controller", what, err)
		}
	}
	// The provider writes the target of the pool, whose minimum size has risen, and Cluster Autoscaler's order is followed.
	until(t, func(ctx context.Context) (bool, error) {
		p := &v1alpha1.NodePool{}
		if err := u.Get(ctx, types.NamespacedName{Name: "hpc"}, p); err != nil {
			return false, err
		}
		return p.Spec.Replicas >= 4 && p.Status.Ready >= 4, nil
	})
	// A managed one leaves, and another is deleted, without anybody being asked.
	if err := patch(
		t.Context(), u, cluster.DeepCopy(), fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, v1alpha1.AnnotationNodePools),
	); err != nil {
		t.Errorf("taking the annotation away: %v", err)
	}
	if err := u.Delete(t.Context(), objectOf(t, poolOfText, "more", 4, "")); err != nil {
		t.Errorf("deleting a NodePool: %v", err)
	}
	until(t, func(ctx context.Context) (bool, error) {
		err := u.Get(ctx, types.NamespacedName{Name: "more"}, &v1alpha1.NodePool{})
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	})
	if err := s.RestartController(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(t.Context(), managed); err != nil {
		t.Errorf("a managed MiniCluster when the controller is back: %v", err)
	}
}
