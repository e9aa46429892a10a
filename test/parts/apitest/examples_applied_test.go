package apitest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	fieldpath "k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	ensemblev1alpha1 "github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/jobset"
	karpentertest "github.com/ensemble-autoscaler/ensemble-autoscaler/test/parts/karpenter"
)

// TestExamplesAreApplied applies each directory of the examples as its page says, and finds nothing that the API server would warn of.
func TestExamplesAreApplied(t *testing.T) {
	define(t)
	paths, err := filepath.Glob("../../../examples/*/README.md")
	if err != nil || len(paths) != 8 {
		t.Fatalf("the examples with a page of their own are %q (%v)", paths, err)
	}
	for _, page := range paths {
		directory := filepath.Dir(page)
		parts := []string{directory}
		if filepath.Base(directory) == "gitops" {
			parts = []string{filepath.Join(directory, "pools"), filepath.Join(directory, "apps")}
		}
		t.Run(filepath.Base(directory), func(t *testing.T) {
			content, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			pools := map[string]bool{}
			for _, part := range parts {
				name, err := filepath.Rel("../../..", part)
				if err != nil {
					t.Fatal(err)
				}
				if command := "kubectl apply -k " + filepath.ToSlash(name); !strings.Contains(string(content), command) {
					t.Errorf("%s does not say %q", page, command)
				}
				applied(t, part)
				rendered, err := kubectl(t, "kustomize", part)
				if err != nil {
					t.Fatalf("%v: %s", err, rendered)
				}
				for text := range strings.SplitSeq(rendered, "\n---\n") {
					inOrder(t, parse(t, text), pools)
				}
			}
		})
	}
	t.Run("tools that sync", toolsThatSync)
}

// applied applies a directory for the time of the test. Nothing may be warned of.
func applied(t *testing.T, directory string) {
	t.Helper()
	said, err := kubectl(t, "apply", "--server-side", "--validate=strict", "-k", directory)
	if err != nil || strings.Contains(said, "Warning") {
		t.Errorf("kubectl apply -k %s: %v: %s", directory, err, said)
	}
	// Twice, as a tool that syncs does.
	if again, err := kubectl(t, "apply", "--server-side", "--validate=strict", "-k", directory); err != nil {
		t.Errorf("kubectl apply -k %s, again: %v: %s", directory, err, again)
	}
	if said, err := kubectl(t, "delete", "--wait=true", "-k", directory); err != nil {
		t.Errorf("kubectl delete -k %s: %v: %s", directory, err, said)
	}
}

// inOrder checks the next object of an example: a MiniCluster and an Ensemble come after the pools that they name, because they are
// refused otherwise, what an Ensemble runs is valid, and images are named without a registry.
func inOrder(t *testing.T, object *unstructured.Unstructured, pools map[string]bool) {
	t.Helper()
	var named, images []string
	switch object.GetKind() {
	case "NodePool":
		if object.GroupVersionKind().Group == v1alpha1.Group {
			pools[object.GetName()] = true
		}
	case "MiniCluster":
		named = strings.Split(object.GetAnnotations()[v1alpha1.AnnotationNodePools], ",")
		images = imagesOf(t, object.Object)
		if size := field(t, object, "spec.size"); size != nil {
			t.Errorf("%s has the size %v, which is not the file's to say", object.GetName(), size)
		}
	case "Job":
		named = strings.Split(object.GetAnnotations()[v1alpha1.AnnotationNodePools], ",")
		images = imagesOf(t, mapOf(field(t, object, "spec.template")))
	case "JobSet":
		named = strings.Split(object.GetAnnotations()[v1alpha1.AnnotationNodePools], ",")
		jobs, _, err := unstructured.NestedSlice(object.Object, "spec", "replicatedJobs")
		if err != nil {
			t.Fatal(err)
		}
		for _, job := range jobs {
			template, _, err := unstructured.NestedMap(mapOf(job), "template", "spec", "template")
			if err != nil {
				t.Fatal(err)
			}
			images = append(images, imagesOf(t, template)...)
		}
	case "Ensemble":
		var ensemble ensemblev1alpha1.Ensemble
		convert(t, object, &ensemble)
		for i := range ensemble.Spec.Members {
			named = append(named, ensemble.Spec.Members[i].NodePools...)
			if _, faults := ensemblefile.Parse(ensemble.Spec.Members[i].Ensemble, fieldpath.NewPath("ensemble")); len(faults) > 0 {
				t.Errorf("%s: %v", object.GetName(), faults.ToAggregate())
			}
		}
		members, _, err := unstructured.NestedSlice(object.Object, "spec", "members")
		if err != nil {
			t.Fatal(err)
		}
		for _, member := range members {
			cluster, _, err := unstructured.NestedMap(mapOf(member), "minicluster")
			if err != nil {
				t.Fatal(err)
			}
			images = append(images, imagesOf(t, cluster)...)
		}
	default:
		return
	}
	for _, name := range named {
		if !pools[name] {
			t.Errorf("%s %s names the pool %q, and before it come %v", object.GetKind(), object.GetName(), name, pools)
		}
	}
	for _, image := range images {
		if registry, _, has := strings.Cut(image, "/"); has && strings.ContainsAny(registry, ".:") {
			t.Errorf("%s %s has the image %q of a registry", object.GetKind(), object.GetName(), image)
		}
	}
	if object.GetKind() != "NodePool" && len(images) == 0 {
		t.Errorf("%s %s has no image", object.GetKind(), object.GetName())
	}
}

// imagesOf are the images of the containers of a MiniCluster.
func imagesOf(t *testing.T, cluster map[string]any) []string {
	t.Helper()
	containers, _, err := unstructured.NestedSlice(cluster, "spec", "containers")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, container := range containers {
		image, _, err := unstructured.NestedString(mapOf(container), "image")
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, image)
	}
	return out
}

// mapOf is a value that is a map, or an empty one.
func mapOf(value any) map[string]any {
	out, _ := value.(map[string]any)
	return out
}

// TestExampleAutoscaler: it scales the member of the MiniCluster beside it, within its sizes, and what it asks for does not fall while a
// growth has its time.
func TestExampleAutoscaler(t *testing.T) {
	var autoscaler autoscalingv2.HorizontalPodAutoscaler
	var pool v1alpha1.NodePool
	convert(t, documents(t, "hpa/autoscaler.yaml")[0], &autoscaler)
	convert(t, documents(t, "hpa/nodepool.yaml")[0], &pool)
	cluster := documents(t, "hpa/minicluster.yaml")[0]
	target := autoscalingv2.CrossVersionObjectReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "EnsembleMember", Name: cluster.GetName(),
	}
	if autoscaler.Spec.ScaleTargetRef != target || autoscaler.Namespace != cluster.GetNamespace() {
		t.Errorf("it scales %+v", autoscaler.Spec.ScaleTargetRef)
	}
	least, most := sizeIn(t, cluster, "minSize"), sizeIn(t, cluster, "maxSize")
	if int64(*autoscaler.Spec.MinReplicas) != least || int64(autoscaler.Spec.MaxReplicas) != most {
		t.Errorf(
			"it scales from %d to %d, and the MiniCluster from %d to %d", *autoscaler.Spec.MinReplicas, autoscaler.Spec.MaxReplicas, least, most,
		)
	}
	window := time.Duration(*autoscaler.Spec.Behavior.ScaleDown.StabilizationWindowSeconds) * time.Second
	if window < 2*pool.Spec.ProvisionTimeout.Duration {
		t.Errorf("it may ask for less after %v, and the nodes of a growth have %v", window, pool.Spec.ProvisionTimeout.Duration)
	}
}

func sizeIn(t *testing.T, cluster *unstructured.Unstructured, name string) int64 {
	t.Helper()
	value, is := field(t, cluster, "spec."+name).(float64)
	if !is {
		t.Fatalf("%s has no spec.%s", cluster.GetName(), name)
	}
	return int64(value)
}

// toolsThatSync: what Argo CD and Flux CD are told leads to the directories that are there, pools before what names them. Of both there is
// only as much of a definition here as it takes to be applied.
func toolsThatSync(t *testing.T) {
	for _, namespace := range []string{"argocd", "flux-system"} {
		create(t, parse(t, "{apiVersion: v1, kind: Namespace, metadata: {name: "+namespace+"}}"))
	}
	for name, path := range map[string][]string{"gitops/argocd.yaml": {"spec", "source", "path"}, "gitops/fluxcd.yaml": {"spec", "path"}} {
		var led []string
		for _, object := range documents(t, name) {
			judge(t, server.client.Create(t.Context(), object, client.DryRunAll, client.FieldValidation("Strict")), nil)
			text, _, err := unstructured.NestedString(object.Object, path...)
			if err != nil {
				t.Fatal(err)
			}
			led = append(led, strings.TrimPrefix(text, "./"))
			if _, err := os.Stat(filepath.Join("../../..", filepath.FromSlash(text), "kustomization.yaml")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if want := []string{"examples/gitops/pools", "examples/gitops/apps"}; !slices.Equal(led, want) {
			t.Errorf("%s leads to %q, want %q", name, led, want)
		}
	}
}

// define installs the kinds of others that the examples have objects of, for the time of the test: those of Karpenter and JobSet as they are.
func define(t *testing.T) {
	t.Helper()
	paths, err := karpentertest.Definitions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sets, err := jobset.Definition(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	options := envtest.CRDInstallOptions{
		MaxTime: time.Minute,
		Paths:   append(paths, sets), ErrorIfPathMissing: true,
		CRDs: []*apiextensionsv1.CustomResourceDefinition{
			definition("argoproj.io", "v1alpha1", "Application", "applications"),
			definition("kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations"),
		},
	}
	if _, err := envtest.InstallCRDs(server.config, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := envtest.UninstallCRDs(server.config, options); err != nil {
			t.Error(err)
		}
	})
}

// definition is one of a namespaced kind with any fields.
func definition(group, version, kind, plural string) *apiextensionsv1.CustomResourceDefinition {
	anything := true
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: plural + "." + group},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{
				Kind: kind, ListKind: kind + "List", Plural: plural, Singular: strings.ToLower(kind),
			},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: version, Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{
					OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &anything},
				},
			}},
		},
	}
}
