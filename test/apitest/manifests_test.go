package apitest

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/controlplane"
)

// TestManifests deploys everything as the README says, and finds nothing that the API server would warn of: no
// unknown field, and no pod that the namespace's own security standard would refuse.
func TestManifests(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := controlplane.WriteKubeconfig(kubeconfig, server.config); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), server.kubectl, "--kubeconfig="+kubeconfig,
		"apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", filepath.Join("..", "..", "manifests"))
	example := exec.CommandContext(t.Context(), server.kubectl, "--kubeconfig="+kubeconfig,
		"apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", filepath.Join("..", "..", "examples", "cluster-autoscaler"))
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	if err := command.Run(); err != nil {
		t.Fatalf("%v: %s", err, problems.String())
	}
	if problems.Len() > 0 {
		t.Errorf("it warns: %s", problems.String())
	}
	if said, err := example.CombinedOutput(); err != nil || strings.Contains(string(said), "Warning") {
		t.Errorf("examples/cluster-autoscaler: %v: %s", err, said)
	}
	for _, name := range []string{"provider", "controller"} {
		var deployment appsv1.Deployment
		if err := server.client.Get(t.Context(), client.ObjectKey{Namespace: "ensemble-autoscaler-system", Name: name}, &deployment); err != nil {
			t.Fatalf("%v; applied was:\n%s", err, out.String())
		}
		pod := &deployment.Spec.Template.Spec
		security := pod.Containers[0].SecurityContext
		if pod.SecurityContext == nil || !*pod.SecurityContext.RunAsNonRoot || !*security.ReadOnlyRootFilesystem || *security.AllowPrivilegeEscalation {
			t.Errorf("%s runs with %+v and %+v", name, pod.SecurityContext, security)
		}
		if strings.Contains(strings.Join(pod.Containers[0].Args, " "), "--insecure") {
			t.Errorf("%s serves without TLS", name)
		}
	}
}
