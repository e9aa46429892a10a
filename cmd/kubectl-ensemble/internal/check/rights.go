package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// wantedRights are the single rights that the programs need, of the parts that are installed.
func wantedRights(f *Facts, shipped *Shipped) []Right {
	parts := f.parts()
	var out []Right
	for i := range shipped.Rights {
		s := &shipped.Rights[i]
		if !parts[s.Part] {
			continue
		}
		for _, namespace := range f.namespacesOf(s) {
			out = append(out, single(s.Program, namespace, &s.Rule)...)
		}
	}
	key := func(r Right) string {
		r.Allowed = false
		return fmt.Sprintf("%+v", r)
	}
	slices.SortFunc(out, func(a, b Right) int { return cmp.Compare(key(a), key(b)) })
	return slices.CompactFunc(out, func(a, b Right) bool { return key(a) == key(b) })
}

// namespacesOf are where a right of the manifests is needed in this cluster: those with Machines of Cluster API are what the provider was
// told, and none where these are in a cluster of their own.
func (f *Facts) namespacesOf(s *ShippedRight) []string {
	switch {
	case s.Part == partClusterAPI:
		var all []string
		for i := range f.Provider {
			if flags := f.Provider[i].Flags; flags.Value(flagClusterAPI, "") != "" && flags.Value("machines-kubeconfig", "") == "" {
				all = append(all, strings.Split(flags[flagClusterAPI], ",")...)
			}
		}
		return all
	case s.Namespace == Namespace:
		return []string{f.Namespace}
	default:
		return []string{s.Namespace}
	}
}

// single are the rights of a rule, each for itself. Rules for paths of the API server have none.
func single(program, namespace string, rule *rbacv1.PolicyRule) []Right {
	var out []Right
	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				for _, name := range names {
					out = append(out, Right{Program: program, Namespace: namespace, Verb: verb, Group: group, Resource: resource, Name: name})
				}
			}
		}
	}
	return out
}

// findRights looks at whether the programs may do what they need.
func findRights(f *Facts, _ *Shipped) []Finding {
	lacking := map[string][]string{}
	for i := range f.Rights {
		r := &f.Rights[i]
		if r.Allowed {
			continue
		}
		words := r.Verb + " " + strings.TrimSuffix(r.Resource+"."+r.Group, ".")
		if r.Name != "" {
			words += " " + r.Name
		}
		if r.Namespace != "" {
			words += " in " + r.Namespace
		}
		lacking[r.Program] = append(lacking[r.Program], words)
	}
	var out []Finding
	for _, program := range []string{"provider", "controller"} {
		if len(lacking[program]) == 0 {
			continue
		}
		out = append(out, Finding{
			Error, "RightsMissing", "ServiceAccount " + f.Namespace + "/" + program,
			"it lacks rights that it needs: " + strings.Join(lacking[program], ", "),
			"apply the roles and bindings of this version: make deploy",
		})
	}
	return out
}
