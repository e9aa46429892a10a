package apitest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// TestClusterAPIComponent: a kustomization of a user's that takes it up has the flag, and rights on Machines in their namespace alone.
func TestClusterAPIComponent(t *testing.T) {
	directory := t.TempDir()
	manifests, err := filepath.Abs("../../../manifests")
	if err != nil {
		t.Fatal(err)
	}
	from, err := filepath.Rel(directory, manifests)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: "+
		"[%[1]s/namespace, %[1]s/crd, %[1]s/certificates, %[1]s/provider, %[1]s/controller]\n"+
		"components: [%[1]s/components/cluster-api]\n", from)
	if err := os.WriteFile(filepath.Join(directory, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	rendered, err := exec.CommandContext(t.Context(), server.kubectl, "kustomize", directory).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, rendered)
	}
	var args []string
	roles := map[string][]rbacv1.PolicyRule{}
	for text := range strings.SplitSeq(string(rendered), "\n---\n") {
		switch object := parse(t, text); object.GetKind() {
		case "Deployment":
			if object.GetName() == "provider" {
				var deployment appsv1.Deployment
				convert(t, object, &deployment)
				args = deployment.Spec.Template.Spec.Containers[0].Args
			}
		case "Role", "ClusterRole":
			var role rbacv1.Role
			convert(t, object, &role)
			for _, rule := range role.Rules {
				if slices.Contains(rule.APIGroups, "cluster.x-k8s.io") {
					roles[role.Kind+" in "+role.Namespace] = append(roles[role.Kind+" in "+role.Namespace], rule)
				}
			}
		}
	}
	if !slices.Contains(args, "--cluster-api=machines") || slices.Contains(args, "--kwok") {
		t.Errorf("the provider runs with %q", args)
	}
	want := map[string][]rbacv1.PolicyRule{"Role in machines": {{
		APIGroups: []string{"cluster.x-k8s.io"}, Resources: []string{"machines"}, Verbs: []string{"get", "list", "watch", "create", "delete"},
	}, {
		APIGroups: []string{"cluster.x-k8s.io"}, Resources: []string{"clusters"}, Verbs: []string{"get"},
	}}}
	if diff := cmp.Diff(want, roles); diff != "" {
		t.Errorf("rights on Machines (-want +got):\n%s", diff)
	}
}
