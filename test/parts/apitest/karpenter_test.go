package apitest

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/karpenter"
)

// TestBackendComponents: with it the provider has the flag, and the rights on NodeClaims; without it neither. The same holds of the
// simulated cloud.
func TestBackendComponents(t *testing.T) {
	for directory, with := range map[string]bool{
		".": false, "overlays/karpenter": true, "overlays/files": false, "overlays/pod-webhook": false, "overlays/client-elsewhere": false,
	} {
		objects := render(t, directory)
		var deployment appsv1.Deployment
		convert(t, objects["Deployment provider in ensemble-autoscaler-system"], &deployment)
		args := deployment.Spec.Template.Spec.Containers[0].Args
		if slices.Contains(args, "--karpenter") != with || slices.Contains(args, "--kwok") == with {
			t.Errorf("%s: the provider runs with %q", directory, args)
		}
		want, rules := map[string][]rbacv1.PolicyRule{}, map[string][]rbacv1.PolicyRule{}
		for key, object := range objects {
			if !strings.HasSuffix(object.GetKind(), "Role") || !strings.Contains(key, "ensemble-autoscaler-provider") {
				continue
			}
			var role rbacv1.ClusterRole
			convert(t, object, &role)
			if strings.Contains(key, "-karpenter") || strings.Contains(key, "-kwok") {
				rules[key] = role.Rules
				continue
			}
			for _, rule := range role.Rules {
				if slices.Contains(
					rule.Resources, "kwokinstances",
				) || slices.Contains(rule.Resources, "nodes") && slices.Contains(rule.Verbs, "create") {
					t.Errorf("%s: %s grants %q of %q without a backend", directory, key, rule.Verbs, rule.Resources)
				}
			}
		}
		if with {
			want["ClusterRole ensemble-autoscaler-provider-karpenter"] = []rbacv1.PolicyRule{{
				APIGroups: []string{"karpenter.sh"}, Resources: []string{"nodeclaims"},
				Verbs: []string{"get", "list", "watch", "create", "patch", "delete"},
			}}
			want["Role ensemble-autoscaler-provider-karpenter in default"] = []rbacv1.PolicyRule{{
				APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"list"},
			}}
		} else {
			want["ClusterRole ensemble-autoscaler-provider-kwok"] = []rbacv1.PolicyRule{{
				APIGroups: []string{v1alpha1.Group}, Resources: []string{"kwokinstances"},
				Verbs: []string{"get", "list", "watch", "create", "patch", "delete"},
			}, {
				APIGroups: []string{v1alpha1.Group}, Resources: []string{"kwokinstances/status"}, Verbs: []string{"patch"},
			}, {
				APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"create"},
			}}
		}
		if diff := cmp.Diff(want, rules); diff != "" {
			t.Errorf("%s: the rights (-want +got):\n%s", directory, diff)
		}
	}
}

// TestWithoutKarpenter: a cluster that has no Karpenter is an error that says what to install.
func TestWithoutKarpenter(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := karpenter.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	kind, kept, err := karpenter.Cached()
	if err != nil {
		t.Fatal(err)
	}
	_, err = ctrl.NewManager(server.config, manager.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{kind: kept}},
	})
	if err = karpenter.Missing(err); err == nil || !strings.Contains(err.Error(), "install Karpenter") {
		t.Errorf("the manager is set up with %v", err)
	}
}
