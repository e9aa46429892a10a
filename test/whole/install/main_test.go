package install

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/helm"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const (
	manifests = "../../../manifests"
	chart     = manifests + "/chart"
	namespace = "ensemble-autoscaler-system"
)

// unscoped are the kinds without a namespace that kustomize does not know as such.
var unscoped = sets.New("ValidatingAdmissionPolicy", "MutatingAdmissionPolicy", "FlowSchema", "PriorityLevelConfiguration")

// asKustomize are the values with which the chart renders what kustomize does: the Namespace too, and nothing about what Helm is to keep.
var asKustomize = []string{"--set", "namespace.create=true,crds.keep=false"}

// template renders the chart for a release in the namespace of the manifests, on the version of Kubernetes that we test with.
func template(t *testing.T, h *helm.Helm, arguments ...string) (map[string]*unstructured.Unstructured, error) {
	t.Helper()
	text, err := h.Run(t.Context(), append([]string{
		"template", "release", chart, "--namespace", namespace, "--kube-version", "1.37.2",
	}, arguments...)...)
	if err != nil {
		return nil, err
	}
	return objects(t, []byte(text)), nil
}

// kustomize renders a kustomization.
func kustomize(t *testing.T, directory string) map[string]*unstructured.Unstructured {
	t.Helper()
	binaries, err := controlplane.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	text, err := exec.CommandContext(t.Context(), filepath.Join(binaries.Directory(), "kubectl"), "kustomize", directory).Output()
	if err != nil {
		t.Fatalf("kustomize %s: %v", directory, err)
	}
	return objects(t, text)
}

// objects are those of a text, by kind, namespace and name. None may be there twice.
func objects(t *testing.T, text []byte) map[string]*unstructured.Unstructured {
	t.Helper()
	list, err := system.Objects(text)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*unstructured.Unstructured{}
	for _, object := range list {
		// Kustomize gives a namespace to objects of kinds that it does not know, and the API server takes it away.
		if unscoped.Has(strings.TrimSuffix(object.GetKind(), "Binding")) {
			object.SetNamespace("")
		}
		name := fmt.Sprintf("%s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())
		if found[name] != nil {
			t.Errorf("%s is there twice", name)
		}
		found[name] = object
	}
	return found
}
