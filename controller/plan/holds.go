package plan

import (
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Holds is the greatest size that a member can ever have nodes for, as far as the maxSize of these pools goes: that of all
// of them together, or of the largest where its nodes have to come from one. Pools that its pods do not fit count for
// nothing. It is told before there is a member, so what is in use at the moment is not looked at.
func Holds(m *Member, pools []Pool) int64 {
	perNode := int64(podsPerNode(m, newCapacity(&Observed{Pools: pools}, time.Time{})))
	var all, largest int64
	for _, pool := range pools {
		if TooLarge(m, pool) != "" {
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
