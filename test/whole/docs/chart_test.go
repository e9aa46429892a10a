package docs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/helm"
)

// TestChart renders the chart with our values and finds the same Cluster Autoscaler as in the manifests: flags, volumes, file, rights,
// and the label by which the NetworkPolicy of the provider admits it.
func TestChart(t *testing.T) {
	t.Parallel()
	chart := os.Getenv("CLUSTER_AUTOSCALER_CHART")
	if chart == "" {
		t.Skip("CLUSTER_AUTOSCALER_CHART names no directory of Cluster Autoscaler's Helm chart")
	}
	checkKeys(t, chart)

	rendered, err := helm.New(t, "").Run(t.Context(), "template", release, chart, "--namespace", namespace,
		"--values", filepath.Join("..", "..", "..", "examples", "cluster-autoscaler", "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}

	var deployment appsv1.Deployment
	config := map[string]string{}
	// A right in the whole cluster is one in the namespace too.
	granted, needed := map[string]bool{}, neededRights(t)
	for text := range strings.SplitSeq(rendered, "\n---\n") {
		switch kind(t, text) {
		case "Deployment":
			parse(t, text, &deployment)
		case "ConfigMap":
			var object corev1.ConfigMap
			parse(t, text, &object)
			config[object.Namespace+"/"+object.Name] = object.Data["cloud-config.yaml"]
		default:
			addRights(t, granted, text)
		}
	}

	got, want := registered(t, &deployment), manifests(t)
	got.Config = config
	for _, name := range []string{"logtostderr", "stderrthreshold", "v"} {
		delete(got.Flags, name) // the chart's own, of its log
	}
	if diff := cmp.Diff(want, got, compareConfig); diff != "" {
		t.Errorf("the chart renders something else than the manifests (-manifests +chart):\n%s", diff)
	}
	if name := deployment.Spec.Template.Labels["app.kubernetes.io/name"]; !slices.Contains(admittedNames(t), name) {
		t.Errorf("the pods are labelled %q, which the NetworkPolicy does not admit", name)
	}
	if missing := without(needed, granted); len(missing) > 0 || len(needed) < 30 {
		t.Errorf("of %d rights the chart does not give these:\n%s", len(needed), strings.Join(missing, "\n"))
	}
}

// checkKeys compares the list of the chart's keys, with which the values are checked where there is no chart.
func checkKeys(t *testing.T, chart string) {
	t.Helper()
	var about struct {
		Version string `json:"version"`
	}
	var values map[string]any
	for name, into := range map[string]any{"Chart.yaml": &about, "values.yaml": &values} {
		content, err := os.ReadFile(filepath.Join(chart, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(content, into); err != nil {
			t.Fatal(err)
		}
	}
	if about.Version != chartVersion {
		t.Fatalf("%s is version %s of the chart, and the values are for %s", chart, about.Version, chartVersion)
	}
	path := "testdata/chart-" + chartVersion + "-keys.txt"
	for key := range strings.FieldsSeq(string(read(t, "test/whole/docs/"+path))) {
		if _, has := find(values, key); !has {
			t.Errorf("%s has %s, and the chart has not", path, key)
		}
	}
}

// find looks for a path in values.
func find(values map[string]any, path string) (any, bool) {
	name, rest, deeper := strings.Cut(path, ".")
	value, has := values[name]
	if !has || !deeper {
		return value, has
	}
	inner, is := value.(map[string]any)
	if !is {
		return nil, false
	}
	return find(inner, rest)
}
