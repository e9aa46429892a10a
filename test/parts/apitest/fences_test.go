package apitest

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// write is one that nobody keeps.
type write func(context.Context) error

// creation, patch and deletion are writes by a user.
func creation(by client.Client, object *unstructured.Unstructured) write {
	return func(ctx context.Context) error { return by.Create(ctx, object.DeepCopy(), client.DryRunAll) }
}

func deletion(by client.Client, object *unstructured.Unstructured) write {
	return func(ctx context.Context) error { return by.Delete(ctx, object.DeepCopy(), client.DryRunAll) }
}

// patch is a merge patch in YAML.
func patch(t *testing.T, by client.Client, object *unstructured.Unstructured, change string) write {
	t.Helper()
	encoded, err := yaml.YAMLToJSON([]byte(change))
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context) error {
		return by.Patch(ctx, object.DeepCopy(), client.RawPatch(types.MergePatchType, encoded), client.DryRunAll)
	}
}

// untilForbidden waits until the API server, which learns of policies by watching, enforces one.
func untilForbidden(t *testing.T, writes ...write) {
	t.Helper()
	var last error
	if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 5*time.Minute, true, func(ctx context.Context) (bool, error) {
		for _, w := range writes {
			if last = w(ctx); !apierrors.IsForbidden(last) {
				return false, nil
			}
		}
		return true, nil
	}); err != nil {
		t.Fatalf("the policies are not enforced: %v: %v", err, last)
	}
}

// fence is a write and why it is refused, nil for one that is allowed.
type fence struct {
	write   write
	refused []string
}

func checkFences(t *testing.T, rows map[string]fence) {
	t.Helper()
	for name, row := range rows {
		t.Run(name, func(t *testing.T) { judge(t, row.write(t.Context()), row.refused) })
	}
}

const poolLabel = v1alpha1.LabelNodePool

// node is one with labels, owners and a spec, all in YAML.
func node(t *testing.T, name, labels, owners, spec string) *unstructured.Unstructured {
	t.Helper()
	return parse(
		t, `{apiVersion: v1, kind: Node, metadata: {name: `+name+`, labels: {`+labels+`}, ownerReferences: [`+owners+`]}, spec: {`+spec+`}}`,
	)
}

// TestWhichNodesTheProviderMayWrite: those of pools, and none of the control plane. It labels a node that registered without the label,
// and takes none out of a pool or into another. Nobody else is held to that.
func TestWhichNodesTheProviderMayWrite(t *testing.T) {
	applyManifest(t, "provider", "admission.yaml")
	applyManifest(t, "components/kwok", "admission.yaml")
	provider, other := as(t, "system:serviceaccount:ensemble-autoscaler-system:provider"), as(t, "system:serviceaccount:default:provider")

	const ofPool, simulated = poolLabel + ": hpc", `{apiVersion: autoscaling.flux-framework.org/v1alpha1, kind: KwokInstance, name: i, uid: 7c4aa9a8-1f3b-4f0e-8a11-000000000002, controller: true}`
	pooled := create(t, node(t, "pooled", ofPool, "", `providerID: "cloud://a/pooled"`))
	bare := create(t, node(t, "bare", "app: x", "", `providerID: "cloud://a/bare", taints: [{key: startup, effect: NoSchedule}]`))
	unnamed := create(t, node(t, "unnamed", ofPool, "", ""))
	master := create(t, node(t, "master", `node-role.kubernetes.io/control-plane: ""`, "", `providerID: "cloud://a/master"`))
	instance := create(t, node(t, "instance", "", simulated, `providerID: "kwok://hpc/i"`))
	foreignOwner := create(
		t,
		node(
			t, "foreign-owner", "",
			`{apiVersion: example.com/v1, kind: KwokInstance, name: i, uid: 7c4aa9a8-1f3b-4f0e-8a11-000000000003, controller: true}`, "",
		),
	)
	untilForbidden(
		t, deletion(provider, master), creation(provider, node(t, "new", "", "", "")),
		patch(t, as(t, "system:node:pooled", "system:nodes"), pooled, `{metadata: {labels: {`+poolLabel+`: b}}}`),
	)

	const taint, mark = `{spec: {taints: [{key: ToBeDeletedByClusterAutoscaler, value: "1", effect: NoSchedule}]}}`,
		`{metadata: {annotations: {autoscaling.flux-framework.org/held-by: ns/m}}}`
	outside, moves := []string{
		"writes no nodes but those with the label " + poolLabel,
	}, []string{"does not move a node from one pool to another"}
	gone, made := []string{
		"deletes no nodes but those with the label " + poolLabel,
	}, []string{"creates no nodes but those of simulated machines"}
	checkFences(t, map[string]fence{
		"a taint":                            {patch(t, provider, pooled, taint), nil},
		"a mark":                             {patch(t, provider, pooled, mark), nil},
		"the label of a node without it":     {patch(t, provider, bare, `{metadata: {labels: {`+ofPool+`}}, spec: {taints: null}}`), nil},
		"a taint of a node outside":          {patch(t, provider, bare, taint), outside},
		"a mark on one of the control plane": {patch(t, provider, master, mark), outside},
		"one of the control plane into a pool": {
			patch(t, provider, master, `{metadata: {labels: {`+ofPool+`}}}`), []string{"takes no node of the control plane into a pool"},
		},
		"another pool":     {patch(t, provider, pooled, `{metadata: {labels: {`+poolLabel+`: b}}}`), moves},
		"no pool any more": {patch(t, provider, pooled, `{metadata: {labels: {`+poolLabel+`: null}}}`), outside},
		"a provider id": {
			patch(t, provider, unnamed, `{spec: {providerID: "cloud://a/pooled"}}`), []string{"does not write spec.providerID"},
		},
		"deletion":                             {deletion(provider, pooled), nil},
		"deletion of a simulated one":          {deletion(provider, instance), nil},
		"deletion of one of another owner":     {deletion(provider, foreignOwner), gone},
		"deletion of a node outside":           {deletion(provider, bare), gone},
		"deletion of one of the control plane": {deletion(provider, master), gone},
		"a simulated node":                     {creation(provider, node(t, "new", ofPool, "", `providerID: "kwok://hpc/new"`)), nil},
		"a simulated node without the label":   {creation(provider, node(t, "new", "", simulated, `providerID: "kwok://hpc/new"`)), nil},
		"a simulated node of nobody": {
			creation(provider, node(t, "new", "", "", `providerID: "kwok://hpc/new"`)), []string{"creates no nodes but those with the label"},
		},
		"a node of another cloud":      {creation(provider, node(t, "new", ofPool, "", `providerID: "cloud://a/new"`)), made},
		"a node without a provider id": {creation(provider, node(t, "new", ofPool, "", "")), made},
		"another's mark":               {patch(t, other, master, mark), nil},
		"another's deletion":           {deletion(other, master), nil},
		"another's node":               {creation(other, node(t, "new", "", "", "")), nil},
		"another pool, by another":     {patch(t, other, pooled, `{metadata: {labels: {`+poolLabel+`: b}}}`), nil},
	})
}

// TestWhatAKubeletMayLabel: it registers its node with the label of a pool, and never changes it, also not with the status.
func TestWhatAKubeletMayLabel(t *testing.T) {
	applyManifest(t, "provider", "admission.yaml")
	kubelet := as(t, "system:node:mine", "system:nodes")
	mine := create(t, node(t, "mine", poolLabel+": a", "", ""))
	plain := create(t, node(t, "plain", "", "", ""))
	status := func(object *unstructured.Unstructured, change string) write {
		encoded, err := yaml.YAMLToJSON([]byte(change))
		if err != nil {
			t.Fatal(err)
		}
		return func(ctx context.Context) error {
			return kubelet.Status().Patch(ctx, object.DeepCopy(), client.RawPatch(types.MergePatchType, encoded), client.DryRunAll)
		}
	}
	moved := `{metadata: {labels: {` + poolLabel + `: b}}}`
	untilForbidden(t, patch(t, kubelet, mine, moved))
	refused := []string{"a kubelet sets the label " + poolLabel + " when its node registers, and does not change it"}
	checkFences(t, map[string]fence{
		"a node that registers with the label": {creation(kubelet, node(t, "new", poolLabel+": a", "", "")), nil},
		"another label":                        {patch(t, kubelet, mine, `{metadata: {labels: {app: x}}}`), nil},
		"its status":                           {status(mine, `{status: {phase: Running}}`), nil},
		"another pool":                         {patch(t, kubelet, mine, moved), refused},
		"another pool, with the status":        {status(mine, moved), refused},
		"no pool any more":                     {patch(t, kubelet, mine, `{metadata: {labels: {`+poolLabel+`: null}}}`), refused},
		"a pool afterwards":                    {patch(t, kubelet, plain, moved), refused},
		"a pool afterwards, with the status":   {status(plain, moved), refused},
		"an administrator's label":             {patch(t, as(t, "alice"), plain, moved), nil},
	})
}

// TestWhichMiniClustersTheControllerMayWrite: it creates and deletes those of Ensembles, not in the namespaces of Kubernetes, and changes
// sizes and annotations alone, of those and of managed ones. Nobody else is held to that.
func TestWhichMiniClustersTheControllerMayWrite(t *testing.T) {
	applyManifest(t, "controller", "gates.yaml")
	controller, other := as(
		t, "system:serviceaccount:ensemble-autoscaler-system:controller",
	), as(t, "system:serviceaccount:default:controller")
	const label, managed = `ensemble.flux-framework.org/ensemble: e`, v1alpha1.AnnotationNodePools + `: hpc`
	cluster := func(namespace, name, labels, annotations, owners string) *unstructured.Unstructured {
		return parse(t, `{apiVersion: flux-framework.org/v1alpha2, kind: MiniCluster, metadata: {name: `+name+`, namespace: `+namespace+`, labels: {`+labels+`}, annotations: {`+annotations+`},
			ownerReferences: [`+owners+`]}, spec: {size: 2, minSize: 1, maxSize: 4, interactive: true, pod: {labels: {a: b}, serviceAccountName: low}, containers: [{image: i, command: sleep}]}}`)
	}
	ofEnsemble, ofUser := create(
		t, cluster("default", "of-an-ensemble", label, managed, byEnsemble),
	), create(t, cluster("default", "of-a-user", "", managed, ""))
	unmanaged, labelled := create(t, cluster("default", "unmanaged", "", "", "")), create(t, cluster("default", "labelled", label, "", ""))
	untilForbidden(t, deletion(controller, ofUser))

	creates, changes := []string{
		"creates and deletes no MiniClusters but those of an Ensemble",
	}, []string{"changes nothing of a MiniCluster but spec.size, spec.minSize and its own annotations"}
	foreign := []string{"changes no MiniClusters but those of an Ensemble, and those with the annotation"}
	checkFences(t, map[string]fence{
		"a new one of an Ensemble":       {creation(controller, cluster("default", "new", label, managed, byEnsemble)), nil},
		"a new one of nobody":            {creation(controller, cluster("default", "new", "", managed, "")), creates},
		"a new one with the label alone": {creation(controller, cluster("default", "new", label, managed, "")), creates},
		"a new one without the label":    {creation(controller, cluster("default", "new", "", managed, byEnsemble)), creates},
		"a new one of another kind":      {creation(controller, cluster("default", "new", label, managed, byAnother)), creates},
		"a new one in kube-system": {
			creation(controller, cluster("kube-system", "new", label, managed, byEnsemble)),
			[]string{"creates no MiniClusters in the namespaces of Kubernetes itself"},
		},
		"a size": {
			patch(t, controller, ofUser, `{metadata: {annotations: {autoscaling.flux-framework.org/applied-size: "3"}}, spec: {size: 3}}`), nil,
		},
		"a minimum size and annotations": {
			patch(
				t, controller, ofEnsemble,
				`{metadata: {annotations: {autoscaling.flux-framework.org/growth-policy: Greedy, ensemble.flux-framework.org/applied-spec: x}}, spec: {minSize: 2}}`,
			),
			nil,
		},
		"no minimum size any more": {patch(t, controller, ofEnsemble, `{spec: {minSize: null}}`), nil},
		"what a webhook puts back": {
			patch(t, controller, ofUser, `{spec: {size: 3, pod: {labels: {autoscaling.flux-framework.org/member: of-a-user}}}}`), nil,
		},
		"a size of one that is not managed": {patch(t, controller, unmanaged, `{spec: {size: 3}}`), foreign},
		"to manage one":                     {patch(t, controller, unmanaged, `{metadata: {annotations: {`+managed+`}}}`), foreign},
		"another image": {
			patch(t, controller, ofUser, `{spec: {containers: [{image: another, command: sleep}]}}`), changes,
		},
		"another ServiceAccount":             {patch(t, controller, ofUser, `{spec: {pod: {serviceAccountName: high}}}`), changes},
		"no ServiceAccount":                  {patch(t, controller, ofUser, `{spec: {pod: {serviceAccountName: null}}}`), changes},
		"a field that was not there":         {patch(t, controller, ofUser, `{spec: {tasks: 3}}`), changes},
		"a field of the pod that was not":    {patch(t, controller, ofUser, `{spec: {pod: {runtimeClassName: x}}}`), changes},
		"a field that is not there any more": {patch(t, controller, ofUser, `{spec: {interactive: null}}`), changes},
		"a maximum size":                     {patch(t, controller, ofUser, `{spec: {maxSize: 9}}`), changes},
		"another's annotation":               {patch(t, controller, ofUser, `{metadata: {annotations: {example.com/x: z}}}`), changes},
		"a label":                            {patch(t, controller, ofUser, `{metadata: {labels: {`+label+`}}}`), changes},
		"an owner":                           {patch(t, controller, ofUser, `{metadata: {ownerReferences: [`+byEnsemble+`]}}`), changes},
		"a finalizer":                        {patch(t, controller, ofUser, `{metadata: {finalizers: [example.com/keep]}}`), changes},
		"deletion of one of an Ensemble":     {deletion(controller, ofEnsemble), nil},
		"deletion of a user's":               {deletion(controller, ofUser), creates},
		"deletion of one with the label":     {deletion(controller, labelled), creates},
		"a user's new one":                   {creation(other, cluster("default", "new", "", "", "")), nil},
		"a user's image":                     {patch(t, other, ofUser, `{spec: {containers: [{image: another, command: sleep}]}}`), nil},
		"a user's deletion of his own":       {deletion(other, ofUser), nil},
	})
}
