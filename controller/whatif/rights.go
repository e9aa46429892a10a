package whatif

import "fmt"

// MissingRight is a right that the user lacks, and what is not known because of it.
type MissingRight struct {
	// Verb is that of the request, such as list.
	Verb string `json:"verb"`
	// Resource is the plural with its group, such as nodepools.autoscaling.flux-framework.org.
	Resource string `json:"resource"`
	// Namespace is empty for all namespaces, and for what has none.
	Namespace string `json:"namespace,omitempty"`
	// Message is what the API server said.
	Message string `json:"message"`
	// Without says what is not known.
	Without string `json:"without"`
}

// String says which right is missing.
func (m *MissingRight) String() string {
	where := ""
	if m.Namespace != "" {
		where = " in namespace " + m.Namespace
	}
	return fmt.Sprintf("no right to %s %s%s", m.Verb, m.Resource, where)
}
