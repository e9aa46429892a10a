package install

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/helm"
)

// TestChartIsKustomize: with the values beside it, the chart renders what each overlay and each component renders, and without values
// what manifests renders.
func TestChartIsKustomize(t *testing.T) {
	t.Parallel()
	h := helm.New(t, "")
	same := func(name, directory string, values ...string) {
		got, err := template(t, h, append(slices.Clone(asKustomize), values...)...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		want := kustomize(t, directory)
		if len(want) < 50 {
			t.Errorf("%s: kustomize renders %d objects", name, len(want))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-kustomize +chart):\n%s", name, diff)
		}
	}
	same("manifests", manifests)
	for _, overlay := range directories(t, "overlays") {
		same(overlay, overlay, "--values", filepath.Join(overlay, "values.yaml"))
	}
	components := directories(t, "components")
	for _, component := range components {
		same(component, with(t, component), "--values", filepath.Join(component, "values.yaml"))
	}

	// And all at once. The order is that in which the chart adds flags.
	var all []string
	for _, name := range []string{"karpenter", "cluster-api", "kind-job", "kind-jobset", "metrics-auth"} {
		all = append(all, filepath.Join(manifests, "components", name))
	}
	if len(all)+1 != len(components) {
		t.Errorf("of the components %q this test knows those of machines, of kinds and metrics-auth", components)
	}
	var values []string
	for _, component := range all {
		values = append(values, "--values", filepath.Join(component, "values.yaml"))
	}
	same("all components", with(t, all...), values...)
}

// directories are those in a directory of the manifests.
func directories(t *testing.T, in string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(manifests, in))
	if err != nil || len(entries) == 0 {
		t.Fatalf("there is nothing in %s: %v", in, err)
	}
	var found []string
	for _, entry := range entries {
		found = append(found, filepath.Join(manifests, in, entry.Name()))
	}
	return found
}

// with writes a kustomization of a user's, with simulated machines and further components, and returns its directory.
func with(t *testing.T, components ...string) string {
	t.Helper()
	directory := t.TempDir()
	relative := func(path string) string { return relativeTo(t, directory, path) }
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n"
	for _, name := range []string{"namespace", "crd", "certificates", "provider", "controller"} {
		text += "- " + relative(filepath.Join(manifests, name)) + "\n"
	}
	kwok := filepath.Join(manifests, "components", "kwok")
	text += "components:\n- " + relative(kwok) + "\n"
	for _, component := range components {
		if component != kwok {
			text += "- " + relative(component) + "\n"
		}
	}
	if err := os.WriteFile(filepath.Join(directory, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return directory
}

// relativeTo is a path of this directory, from another one.
func relativeTo(t *testing.T, directory, path string) string {
	t.Helper()
	whole, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if path, err = filepath.Rel(directory, whole); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestChartByDefault: a release differs from what kustomize renders in two things: the Namespace is Helm's to create, and definitions
// outlive the release.
func TestChartByDefault(t *testing.T) {
	t.Parallel()
	h := helm.New(t, "")
	got, err := template(t, h)
	if err != nil {
		t.Fatal(err)
	}
	want := kustomize(t, manifests)
	delete(want, "Namespace /"+namespace)
	for _, object := range want {
		if object.GetKind() == "CustomResourceDefinition" {
			annotations := object.GetAnnotations()
			annotations["helm.sh/resource-policy"] = "keep"
			object.SetAnnotations(annotations)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-kustomize +chart):\n%s", diff)
	}
	if said, err := h.Run(t.Context(), "lint", "--strict", chart); err != nil {
		t.Errorf("%v: %s", err, said)
	}
}

// TestChartElsewhere: in another namespace nothing is left of that of the manifests.
func TestChartElsewhere(t *testing.T) {
	t.Parallel()
	h := helm.New(t, "")
	got, err := h.Run(
		t.Context(), "template", "release", chart, "--namespace", "hpc", "--kube-version", "1.35.0", "--values", "testdata/every.yaml",
	)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(got) {
		if strings.Contains(line, namespace) {
			t.Errorf("there is the namespace of the manifests: %s", line)
		}
	}
}

// TestMemoryLimit: the memory at which garbage is collected follows the limit, and there is none where there is no limit.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	h := helm.New(t, "")
	for values, want := range map[string]map[string]string{
		"":                                       {"GOMEMLIMIT": "1800MiB", "GOGC": "50"},
		"provider.resources.limits.memory=4Gi":   {"GOMEMLIMIT": "3686MiB", "GOGC": "50"},
		"provider.resources.requests.memory=1Gi": {"GOGC": "50"},
		"provider.resources.limits.cpu=2,provider.env.A=b":                {"A": "b", "GOGC": "50"},
		"provider.resources.limits.cpu=2,provider.env.GOMEMLIMIT=1000MiB": {"GOMEMLIMIT": "1000MiB", "GOGC": "50"},
	} {
		got, err := template(t, h, "--set", values)
		if err != nil {
			t.Errorf("%s: %v", values, err)
			continue
		}
		var deployment appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(
			got["Deployment "+namespace+"/provider"].Object, &deployment,
		); err != nil {
			t.Fatal(err)
		}
		env := map[string]string{}
		for _, variable := range deployment.Spec.Template.Spec.Containers[0].Env {
			env[variable.Name] = variable.Value
		}
		if diff := cmp.Diff(want, env); diff != "" {
			t.Errorf("%s (-want +got):\n%s", values, diff)
		}
	}
}

// TestGatesByVersion: the chart looks at the version of the cluster for who gives pods their gate.
func TestGatesByVersion(t *testing.T) {
	t.Parallel()
	h := helm.New(t, "")
	const policy, webhook = "MutatingAdmissionPolicy /ensemble-autoscaler-gates", "MutatingWebhookConfiguration /ensemble-autoscaler-gates"
	for version, want := range map[string]string{
		"1.30.0": webhook, "1.35.9": webhook, "v1.35.3-gke.1009000": webhook, "1.36.0": policy, "v1.36.1-eks-1234567": policy, "1.37.2": policy,
		"2.0.0": policy,
	} {
		got, err := template(t, h, "--kube-version", version)
		if err != nil {
			t.Errorf("%s: %v", version, err)
			continue
		}
		for _, name := range []string{policy, webhook} {
			if (got[name] != nil) != (name == want) {
				t.Errorf("on %s there is %s: %t", version, name, got[name] != nil)
			}
		}
	}
}

// TestValuesAreRefused: a value that cannot be is refused with its name and what would be right.
func TestValuesAreRefused(t *testing.T) {
	t.Parallel()
	h := helm.New(t, "")
	for set, says := range map[string][]string{
		"gates=policy":                                        {"gates", "must be one of 'Auto', 'Policy', 'Webhook'"},
		"gates=Policy":                                        {"Kubernetes v1.35.0 has no MutatingAdmissionPolicy", "set Webhook or Auto"},
		"image.tag=latest":                                    {"image.tag: is latest", "name a version"},
		"image.digest=0123":                                   {"/image/digest", "does not match pattern"},
		"provider.replicas=0":                                 {"/provider/replicas", "minimum: got 0, want 1"},
		"controller.replicas=two":                             {"/controller/replicas", "got string, want integer"},
		"controller.replica=2":                                {"/controller", "additional properties 'replica' not allowed"},
		"machines.kwok.enabled=false":                         {"machines: nothing is enabled", "machines.karpenter"},
		"machines.karpenter.enabled=yes":                      {"/machines/karpenter/enabled", "got string, want boolean"},
		"machines.clusterAPI.namespace=":                      {"/machines/clusterAPI/namespace", "does not match pattern"},
		"provider.extraArgs={kwok}":                           {"/provider/extraArgs/0", "'kwok' does not match pattern"},
		"provider.env.NO-NAME=1":                              {"/provider/env", "'NO-NAME' not allowed"},
		"provider.resources.limits.memory=2G":                 {"/provider/resources/limits/memory", "'2G' does not match pattern"},
		"certificates.caBundle=QUJD":                          {"caBundle and webhookAnnotations are for source: Files"},
		"certificates.source=Secret":                          {"/certificates/source", "'Issued', 'Files'"},
		`provider.podLabels.app\.kubernetes\.io/name=another`: {"provider.podLabels: has app.kubernetes.io/name", "leave it out"},
	} {
		_, err := template(t, h, "--kube-version", "1.35.0", "--set", set)
		if err == nil {
			t.Errorf("%s is taken", set)
			continue
		}
		for _, part := range says {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: it does not say %q: %v", set, part, err)
			}
		}
	}
	if _, err := template(t, h, "--kube-version", "1.29.0"); err == nil || !strings.Contains(err.Error(), "1.30.0") {
		t.Errorf("Kubernetes 1.29: %v", err)
	}
}

// TestVersions: the manifests, the example and the chart name one version of the image.
func TestVersions(t *testing.T) {
	t.Parallel()
	h := helm.New(t, "")
	got, err := template(t, h)
	if err != nil {
		t.Fatal(err)
	}
	image := ""
	all := []map[string]*unstructured.Unstructured{got, kustomize(t, manifests), kustomize(t, "../../../examples/cluster-autoscaler")}
	for _, objects := range all {
		for name, object := range objects {
			if object.GetKind() != "Deployment" {
				continue
			}
			var deployment appsv1.Deployment
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &deployment); err != nil {
				t.Fatal(err)
			}
			pod := &deployment.Spec.Template.Spec
			for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
				if !strings.HasPrefix(container.Image, "ensemble-autoscaler:") {
					continue
				}
				if image == "" {
					image = container.Image
				}
				if container.Image != image || strings.HasSuffix(container.Image, ":latest") {
					t.Errorf("%s has the image %s, and others %s", name, container.Image, image)
				}
			}
		}
	}
	if image == "" {
		t.Error("no object has the image")
	}
}
