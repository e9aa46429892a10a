package check

import (
	"fmt"
	"slices"
	"strings"
)

// findPolicies looks at whether the admission policies that are shipped are served, installed, and bound.
func findPolicies(f *Facts, shipped *Shipped) []Finding {
	var out []Finding
	parts := f.parts()
	for _, policy := range shipped.Policies {
		kind, isBinding := strings.CutSuffix(policy.Kind, binding)
		if isBinding || !parts[policy.Part] || !f.knows(policiesOf(kind).GroupResource().String()) {
			continue
		}
		object := kind + " " + policy.Name
		installed := slices.ContainsFunc(f.Policies, func(p Policy) bool { return p.Kind == kind && p.Name == policy.Name })
		if kind == mutatingPolicies && (f.gatedByWebhook() || (!installed && !f.knows(webhooksOf(mutatingWebhooks)))) {
			// A webhook does the same, or may do so where webhooks may not be read.
			continue
		}
		if !f.Serves(policiesOf(kind)) {
			out = append(out, Finding{
				Error, "PolicyNotServed", object,
				fmt.Sprintf(
					"the API server (%s) does not serve %s of version v1: pods of members get no gate, and start before there are nodes for all of them",
					f.Kubernetes, kind,
				),
				"make deploy MANIFESTS=manifests/overlays/pod-webhook, whose webhook does the same",
			})
			continue
		}
		if !installed {
			out = append(out, Finding{Error, "PolicyMissing", object, "it is not installed: what it keeps is not kept", "make deploy"})
			continue
		}
		if !f.knows(policiesOf(kind + binding).GroupResource().String()) {
			continue
		}
		at := slices.IndexFunc(f.Policies, func(p Policy) bool { return p.Kind == kind+binding && p.Binds == policy.Name })
		switch {
		case at < 0:
			out = append(out, Finding{Error, "PolicyNotBound", object, "no binding makes it count: what it keeps is not kept", "make deploy"})
		case kind == validatingPolicies && !slices.ContainsFunc(f.Policies, func(p Policy) bool {
			return p.Kind == kind+binding && p.Binds == policy.Name && p.Denies
		}):
			out = append(out, Finding{
				Warning, "PolicyDeniesNothing", object, fmt.Sprintf(
					"its binding %s has no validationAction Deny: what it forbids is done", f.Policies[at].Name,
				), "make deploy",
			})
		}
	}
	return out
}
