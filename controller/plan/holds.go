package plan

import (
	"fmt"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Refusal says why a pool can have no nodes for the pods of a member, whatever its room, as far as the pool's own spec goes: a reason
// of package v1alpha1 and a sentence. Both are empty when it can.
func Refusal(m *Member, pool *Pool) (reason, why string) { return refusalOf(m, pool, false) }

// refusalOf is Refusal where it may be known that nodes of the pool are selected though its template is not.
func refusalOf(m *Member, pool *Pool, selected bool) (reason, why string) {
	if pool.AllowedNamespaces != nil && !pool.AllowedNamespaces.Matches(m.Key.Namespace, m.NamespaceLabels) {
		return v1alpha1.ReasonNamespaceNotAllowed, fmt.Sprintf(
			"%s has nodes for namespaces with %s alone, and %s is none of them", pool.Name, pool.AllowedNamespaces, m.Key.Namespace)
	}
	if m.Selects != nil && !selected && !m.Selects.Matches("", pool.Labels) {
		return v1alpha1.ReasonNotSelected, fmt.Sprintf("the pods select nodes by %s, and those of %s are not among them", m.Selects, pool.Name)
	}
	if why := TooLarge(m, *pool); why != "" {
		return v1alpha1.ReasonPodTooLarge, why
	}
	return "", ""
}

// Holds is the maximum size that a member can ever have nodes for, as far as the maxSize of these pools goes: that of all
// of them together, or of the largest where its nodes have to come from one. Pools that its pods do not fit count for
// nothing. It is told before there is a member, so what is in use at the moment is not looked at.
func Holds(m *Member, pools []Pool) int64 {
	perNode := int64(podsPerNode(m, newCapacity(&Observed{Pools: pools}, time.Time{})))
	var all, largest int64
	for _, pool := range pools {
		if _, why := Refusal(m, &pool); why != "" {
			continue
		}
		size := int64(pool.MaxSize) * perNode
		all += size
		largest = max(largest, size)
	}
	if m.Placement == v1alpha1.PlacementSingle {
		return largest
	}
	return all
}
