package apitest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// TestCertificatesInManifests: by default the provider issues certificates and may write its two Secrets; in the overlay
// with files it mounts them and may write none; in the overlay with the client elsewhere it may not create any there.
func TestCertificatesInManifests(t *testing.T) {
	const own = "ensemble-autoscaler-system"
	// The provider may, and the controller.
	twice := []string{"create", "create", "list", "list", "update", "update", "watch", "watch"}
	for name, row := range map[string]struct {
		directory string
		args      []string
		mounts    []string
		rights    map[string][]string // what may be done with Secrets, by namespace
	}{
		"by default": {".", []string{"--client-names=cluster-autoscaler"}, nil, map[string][]string{own: twice}},
		"files": {"overlays/files", []string{
			"--client-names=cluster-autoscaler", "--tls-cert-file=/tls/tls.crt", "--tls-key-file=/tls/tls.key", "--client-ca-file=/tls/ca.crt",
		}, []string{"/tls"}, map[string][]string{}},
		"the client elsewhere": {
			"overlays/client-elsewhere", []string{
				"--client-names=cluster-autoscaler", "--client-secret=kube-system/cluster-autoscaler-provider-tls",
			}, nil,
			map[string][]string{own: twice, "kube-system": {"list", "update", "watch"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			command := exec.CommandContext(
				t.Context(), server.kubectl, "kustomize", filepath.Join("..", "..", "..", "manifests", filepath.FromSlash(row.directory)),
			)
			rendered, err := command.Output()
			if err != nil {
				t.Fatal(err)
			}
			rights, kinds := map[string][]string{}, map[string]int{}
			for text := range strings.SplitSeq(string(rendered), "\n---\n") {
				object := parse(t, text)
				kinds[object.GetKind()]++
				switch object.GetKind() {
				case "Deployment":
					if object.GetName() == "provider" {
						var deployment appsv1.Deployment
						convert(t, object, &deployment)
						container := &deployment.Spec.Template.Spec.Containers[0]
						var args, mounts []string
						for _, arg := range container.Args {
							if strings.Contains(arg, "client-") || strings.Contains(arg, "tls-") {
								args = append(args, arg)
							}
						}
						for _, mount := range container.VolumeMounts {
							if mount.Name == "tls" {
								mounts = append(mounts, mount.MountPath)
							}
						}
						if !slices.Equal(args, row.args) || !slices.Equal(mounts, row.mounts) {
							t.Errorf("the provider runs with %q and mounts %q", args, mounts)
						}
					}
				case "Role", "ClusterRole":
					var role rbacv1.Role
					convert(t, object, &role)
					for _, rule := range role.Rules {
						if !slices.Contains(rule.Resources, "secrets") {
							continue
						}
						if len(rule.ResourceNames) == 0 && !slices.Equal(rule.Verbs, []string{"create"}) {
							t.Errorf("%s %s grants %q of all Secrets", role.Kind, role.Name, rule.Verbs)
						}
						rights[role.Namespace] = append(rights[role.Namespace], rule.Verbs...)
						slices.Sort(rights[role.Namespace])
					}
				}
			}
			if fmt.Sprint(rights) != fmt.Sprint(row.rights) {
				t.Errorf("it grants %v of Secrets, not %v", rights, row.rights)
			}
			if kinds["Deployment"] != 2 || kinds["Namespace"] != 1 || kinds["CustomResourceDefinition"] != 6 {
				t.Errorf("it is not everything: %v", kinds)
			}
		})
	}
}

func convert(t *testing.T, object *unstructured.Unstructured, into any) {
	t.Helper()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, into); err != nil {
		t.Fatal(err)
	}
}

// TestWhoReachesTheProvider: Cluster Autoscaler alone, in the namespace that the manifests are for. Whoever may create pods in
// another one could give them its label.
func TestWhoReachesTheProvider(t *testing.T) {
	for directory, namespace := range map[string]string{".": "", "overlays/files": "", "overlays/client-elsewhere": "kube-system"} {
		var policy networkingv1.NetworkPolicy
		object := render(t, directory)["NetworkPolicy provider in ensemble-autoscaler-system"]
		convert(t, object, &policy)
		want := networkingv1.NetworkPolicyPeer{
			PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": "cluster-autoscaler"}},
		}
		if namespace != "" {
			want.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}}
		}
		if diff := cmp.Diff([]networkingv1.NetworkPolicyPeer{want}, policy.Spec.Ingress[0].From); diff != "" {
			t.Errorf("%s: who reaches the ports of Cluster Autoscaler (-want +got):\n%s", directory, diff)
		}
	}
}
