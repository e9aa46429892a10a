package check

import (
	"cmp"
	"slices"
)

// Severity says how bad a finding is.
type Severity string

const (
	// Error is a fault: something does not work, or will not as soon as it is needed.
	Error Severity = "Error"
	// Warning is something that works and should be otherwise.
	Warning Severity = "Warning"
	// Note is something to know that needs nothing to be done.
	Note Severity = "Note"
)

// rank orders severities, the worst first.
func (s Severity) rank() int { return slices.Index([]Severity{Error, Warning, Note}, s) }

// Finding is one thing that is not as it should be.
type Finding struct {
	Severity Severity `json:"severity"`
	// Reason is a CamelCase word for the kind of finding, which stays the same.
	Reason string `json:"reason"`
	// Object is what it is about: a kind, and a namespace and name.
	Object string `json:"object"`
	// Message says what is wrong and what comes of it, Remedy what to do.
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

// Report is what a check has found.
type Report struct {
	// Installed is false before anything of the ensemble-autoscaler is in the cluster.
	Installed bool `json:"installed"`
	// Checked names what was looked at, in order.
	Checked []string `json:"checked"`
	// Findings are what is not as it should be, the worst first.
	Findings []Finding `json:"findings"`
	// Unknown is what could not be looked at, each with the right that is missing.
	Unknown []Unknown `json:"unknown,omitempty"`
}

// Failed reports whether one of the findings is an error.
func (r *Report) Failed() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == Error })
}

// subject is a part of the check.
type subject struct {
	name string
	find func(*Facts, *Shipped) []Finding
	// before is set for what is looked at before an installation, too.
	before bool
}

// subjects are all parts, in the order in which an installation depends on them.
func subjects() []subject {
	return []subject{
		{"versions", findVersions, true},
		{"definitions", findDefinitions, false},
		{"programs", findPrograms, false},
		{"Cluster Autoscaler", findAutoscaler, true},
		{"certificates", findCertificates, false},
		{"network policies", findNetwork, false},
		{"webhooks", findWebhooks, false},
		{"admission policies", findPolicies, false},
		{"rights", findRights, false},
		{"node pools", findPools, false},
		{"members", findMembers, false},
	}
}

// Find makes a report of facts. It is a pure function.
func Find(facts *Facts, shipped *Shipped) *Report {
	r := &Report{Installed: facts.Installed(), Findings: []Finding{}, Unknown: facts.Unknown}
	for _, s := range subjects() {
		if !r.Installed && !s.before {
			continue
		}
		r.Checked = append(r.Checked, s.name)
		r.Findings = append(r.Findings, s.find(facts, shipped)...)
	}
	if !r.Installed {
		r.Findings = append(r.Findings, Finding{
			Note, "NotInstalled", "Namespace " + facts.Namespace, "the ensemble-autoscaler is not installed in this cluster", installRemedy(facts),
		})
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(a.Severity.rank(), b.Severity.rank()) })
	return r
}

// installRemedy is how to install.
func installRemedy(facts *Facts) string {
	if facts.Serves(policiesOf(mutatingPolicies)) {
		return "install it: make deploy"
	}
	return "install it with the overlay for this version of Kubernetes: make deploy MANIFESTS=manifests/overlays/pod-webhook"
}
