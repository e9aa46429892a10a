package apitest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

// TestMetricsAuthComponent: a kustomization of a user's that takes it up has the flag in both programs, and the rights for it.
func TestMetricsAuthComponent(t *testing.T) {
	directory := t.TempDir()
	manifests, err := filepath.Abs("../../../manifests")
	if err != nil {
		t.Fatal(err)
	}
	from, err := filepath.Rel(directory, manifests)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(
		"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [%[1]s]\ncomponents: [%[1]s/components/metrics-auth]\n",
		from,
	)
	if err := os.WriteFile(filepath.Join(directory, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	rendered, err := exec.CommandContext(t.Context(), server.kubectl, "kustomize", directory).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, rendered)
	}
	var found []string
	for text := range strings.SplitSeq(string(rendered), "\n---\n") {
		switch object := parse(t, text); {
		case object.GetKind() == "Deployment":
			var deployment appsv1.Deployment
			convert(t, object, &deployment)
			if slices.Contains(deployment.Spec.Template.Spec.Containers[0].Args, "--metrics-authorization") {
				found = append(found, object.GetName())
			}
		case strings.HasPrefix(object.GetName(), "ensemble-autoscaler-metrics-"):
			found = append(found, object.GetKind()+" "+strings.TrimPrefix(object.GetName(), "ensemble-autoscaler-"))
		}
	}
	slices.Sort(found)
	if want := []string{
		"ClusterRole metrics-auth", "ClusterRole metrics-reader", "ClusterRoleBinding metrics-auth", "controller", "provider",
	}; !slices.Equal(found, want) {
		t.Errorf("it has %q, want %q", found, want)
	}
}
