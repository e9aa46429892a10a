package upgrade

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// right is one verb on one resource, of all namespaces or of one, for all names or for one.
type right struct{ namespace, group, resource, name, verb string }

// TestRightsOfOlderPrograms: an upgrade brings the manifests before it has replaced the last pod, so what they grant has to be
// enough for the programs of the release before as well. A provider from before there were PoolMachines is not to make any more
// machines from then on, nor to write what it makes them by.
func TestRightsOfOlderPrograms(t *testing.T) {
	t.Parallel()
	releases, err := filepath.Glob(filepath.Join("testdata", "*"))
	if err != nil || len(releases) == 0 {
		t.Fatalf("there is no release in testdata: %v", err)
	}
	for _, release := range releases {
		for _, program := range []string{"provider", "controller"} {
			t.Run(filepath.Base(release)+" "+program, func(t *testing.T) {
				t.Parallel()
				manifests := filepath.Join("..", "..", "..", "manifests")
				now := rights(t, program, filepath.Join(manifests, program, "rbac.yaml"),
					filepath.Join(manifests, "components", "kwok", "rbac.yaml"), filepath.Join(manifests, "certificates", "rbac.yaml"))
				for _, had := range rights(
					t, program, filepath.Join(release, "rbac", program+".yaml"), filepath.Join(release, "rbac", "certificates.yaml"),
				) {
					if !slices.ContainsFunc(now, had.within) && !had.toMakeFormer() {
						t.Errorf(
							"the %s of that release may %s %s.%s %s (namespace %q), and that of now may not", program, had.verb, had.resource, had.group,
							had.name, had.namespace,
						)
					}
				}
			})
		}
	}
}

// within reports whether a right is a part of another one.
func (r right) within(other right) bool {
	return r.group == other.group && r.resource == other.resource && r.verb == other.verb &&
		(other.namespace == "" || other.namespace == r.namespace) && (other.name == "" || other.name == r.name)
}

// toMakeFormer reports whether a right is one by which a provider makes and ends KwokMachines.
func (r right) toMakeFormer() bool {
	if r.group != v1alpha1.Group {
		return false
	}
	resource, _, _ := strings.Cut(r.resource, "/")
	return resource == "kwokmachines" || resource == "nodepools" && r.verb == "update"
}

// rights are those of the roles of a program in files.
func rights(t *testing.T, program string, files ...string) []right {
	t.Helper()
	var found []right
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := system.Objects(text)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, object := range objects {
			if kind := object.GetKind(); kind != "Role" && kind != "ClusterRole" || !strings.Contains(object.GetName(), program) {
				continue
			}
			// A Role has a namespace, a ClusterRole has none.
			var role rbacv1.Role
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			for _, rule := range role.Rules {
				for _, group := range rule.APIGroups {
					for _, resource := range rule.Resources {
						for _, verb := range rule.Verbs {
							for _, name := range namesOr(rule.ResourceNames) {
								found = append(found, right{object.GetNamespace(), group, resource, name, verb})
							}
						}
					}
				}
			}
		}
	}
	if len(found) == 0 {
		t.Fatalf("%q grant nothing to the %s", files, program)
	}
	return found
}

// namesOr are the names of a rule, or one that stands for all.
func namesOr(names []string) []string {
	if len(names) == 0 {
		return []string{""}
	}
	return names
}
