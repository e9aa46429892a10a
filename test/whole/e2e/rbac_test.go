package e2e

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// auditPolicy makes the API server record every request of provider and controller, and nothing else.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users:
  - system:serviceaccount:ensemble-autoscaler-system:provider
  - system:serviceaccount:ensemble-autoscaler-system:controller
- level: None
`

// checkRights compares what provider and controller were granted by manifests/ with what they have asked for
// in this run: a right that is missing shows as a request that was forbidden, one too many as a right that
// was never used. Leases are for leader election, which does not run here. A watch that begins with the list
// needs no list of its own, which API servers that cannot do that are asked for. What an earlier version has left is looked for
// only where that version was.
func checkRights() error {
	used := map[string]bool{}
	var problems []error
	err := requests(func(r *request) {
		program := strings.TrimPrefix(r.User.Username, "system:serviceaccount:"+system.Namespace+":")
		name := right(program, r.Object.Group, joined(r.Object.Resource, r.Object.Subresource), r.Verb)
		if r.Response.Code == 403 && !used["forbidden "+name] {
			used["forbidden "+name] = true
			problems = append(problems, fmt.Errorf("%s is missing from manifests/%s/rbac.yaml", name, program))
		}
		used[name] = true
		if r.Verb == "watch" {
			used[right(program, r.Object.Group, r.Object.Resource, "list")] = true
		}
	})
	if err != nil {
		return err
	}
	for _, program := range []string{"provider", "controller"} {
		granted, err := rights(program)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(granted)) {
			if !used[name] && !ofBefore(name) && !byChance(name) {
				problems = append(problems, fmt.Errorf("%s is granted by %s and was never used", name, granted[name]))
			}
		}
	}
	return errors.Join(problems...)
}

// ofBefore reports whether a right is for what the version before leaves: its machines are looked for, and its controller writes whole
// objects while both run.
func ofBefore(name string) bool {
	return slices.Contains([]string{
		right("provider", v1alpha1.Group, "kwokmachines", "list"),
		right("controller", "", "configmaps", "update"),
		right("controller", v1alpha1.Group, "nodepools", "get"),
		right("controller", v1alpha1.Group, "ensemblemembers", "update"),
		right("controller", v1alpha1.Group, "ensemblemembers/status", "update"),
	}, name)
}

// byChance reports whether a right is used only where things fall so: events that repeat one before, a namespace that the cache does
// not have yet when the webhook asks, and what is read live when pods do not come for a while or lose their member. Package reality has
// tests of the last ones.
func byChance(name string) bool {
	return slices.Contains([]string{
		right("provider", "events.k8s.io", "events", "patch"),
		right("controller", "events.k8s.io", "events", "patch"),
		right("controller", "", "namespaces", "get"),
		right("controller", "", "events", "list"),
		right("controller", "batch", "jobs", "get"),
		right("controller", minicluster.GroupVersionKind.Group, "miniclusters", "get"),
	}, name)
}

// rights are those that are granted to a program, but for its lease, each with the file that grants it.
func rights(program string) (map[string]string, error) {
	granted := map[string]string{}
	grant := func(file string, rules []rbacv1.PolicyRule) {
		for _, rule := range rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						granted[right(program, group, resource, verb)] = file
					}
				}
			}
		}
	}
	for _, file := range []string{
		"manifests/" + program + "/rbac.yaml", "manifests/components/kwok/rbac.yaml", "manifests/certificates/rbac.yaml",
	} {
		objects, err := shared.ObjectsOf(file)
		if err != nil {
			return nil, err
		}
		for _, object := range objects {
			switch kind := object.GetKind(); {
			case !strings.Contains(object.GetName(), program):
				// It is the other one's.
			case kind == "ClusterRole":
				var role rbacv1.ClusterRole
				if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role); err != nil {
					return nil, err
				}
				grant(file, role.Rules)
			case kind == "Role" && object.GetName() != program+"-leader-election":
				var role rbacv1.Role
				if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role); err != nil {
					return nil, err
				}
				grant(file, role.Rules)
			}
		}
	}
	return granted, nil
}

func right(program, group, resource, verb string) string {
	return fmt.Sprintf("%s: %s of %s", program, verb, strings.TrimSuffix(resource+"."+group, "."))
}

func joined(resource, subresource string) string {
	if subresource == "" {
		return resource
	}
	return resource + "/" + subresource
}
