package nodegroup

import "fmt"

// Refusal is a request of Cluster Autoscaler that cannot be carried out. It changes nothing.
type Refusal struct {
	Kind RefusalKind
	// Message names the value that is wrong and what would be right.
	Message string
}

// RefusalKind says what kind of fault a request has.
type RefusalKind int

const (
	// Malformed is a request that could never be carried out.
	Malformed RefusalKind = iota
	// OutOfRange is a request for a size outside the bounds of the group.
	OutOfRange
	// Forbidden is a request that the state of the group does not allow now.
	Forbidden
)

func (r *Refusal) Error() string { return r.Message }

func refuse(kind RefusalKind, format string, args ...any) *Refusal {
	return &Refusal{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

func (g *Group) paused() *Refusal {
	return refuse(Forbidden, "%s is paused: its spec.paused is true", g.Name)
}
