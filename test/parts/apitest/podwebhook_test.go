package apitest

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestPodWebhookInManifests: the overlay for Kubernetes before 1.36 has a webhook in place of the policy that gives pods their
// gate, which is asked under the same conditions, and is otherwise everything.
func TestPodWebhookInManifests(t *testing.T) {
	base, overlay := render(t, "."), render(t, "overlays/pod-webhook")
	const policy, binding, webhook = "MutatingAdmissionPolicy ensemble-autoscaler-gates", "MutatingAdmissionPolicyBinding " +
		"ensemble-autoscaler-gates",
		"MutatingWebhookConfiguration ensemble-autoscaler-gates"
	for name, object := range base {
		if name == policy || name == binding {
			continue
		}
		if diff := cmp.Diff(object, overlay[name]); diff != "" {
			t.Errorf("%s (-manifests +overlay):\n%s", name, diff)
		}
	}
	for name, object := range overlay {
		if strings.HasPrefix(object.GetKind(), "MutatingAdmissionPolicy") || base[name] == nil && name != webhook {
			t.Errorf("the overlay has %s", name)
		}
	}
	if base[policy] == nil || base[binding] == nil || overlay[webhook] == nil {
		t.Fatalf("%v, %v or %v is missing", base[policy] != nil, base[binding] != nil, overlay[webhook] != nil)
	}
	if err := server.client.Create(t.Context(), overlay[webhook], client.DryRunAll, client.FieldValidation("Strict")); err != nil {
		t.Errorf("the API server says of the webhook: %v", err)
	}
	webhooks, _, err := unstructured.NestedSlice(render(t, "overlays/pod-webhook")[webhook].Object, "webhooks")
	if err != nil || len(webhooks) != 1 {
		t.Fatalf("%d webhooks, %v", len(webhooks), err)
	}
	asked, is := webhooks[0].(map[string]any)
	spec, _, err := unstructured.NestedMap(base[policy].Object, "spec")
	if !is || err != nil {
		t.Fatal(err)
	}
	constraints, is := spec["matchConstraints"].(map[string]any)
	if !is {
		t.Fatal("the policy has no constraints")
	}
	for what, pair := range map[string][2]any{
		"pods by label":      {constraints["objectSelector"], asked["objectSelector"]},
		"which requests":     {constraints["resourceRules"], asked["rules"]},
		"conditions":         {spec["matchConditions"], asked["matchConditions"]},
		"failures":           {spec["failurePolicy"], asked["failurePolicy"]},
		"being asked again":  {spec["reinvocationPolicy"], asked["reinvocationPolicy"]},
		"namespaces by name": {constraints["namespaceSelector"], asked["namespaceSelector"]},
	} {
		if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
			t.Errorf("%s (-policy +webhook):\n%s", what, diff)
		}
	}
}

// render is what kubectl makes of a directory of manifests, by kind and name.
func render(t *testing.T, directory string) map[string]*unstructured.Unstructured {
	t.Helper()
	command := exec.CommandContext(
		t.Context(), server.kubectl, "kustomize", filepath.Join("..", "..", "..", "manifests", filepath.FromSlash(directory)),
	)
	text, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]*unstructured.Unstructured{}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		object := parse(t, document)
		key := object.GetKind() + " " + object.GetName()
		if namespace := object.GetNamespace(); namespace != "" && !strings.Contains(object.GetKind(), "Admission") {
			key += " in " + namespace
		}
		objects[key] = object
	}
	return objects
}
