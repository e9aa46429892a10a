package nodegroup_test

import (
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

func TestOrdersUnderWay(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		group *nodegroup.Group
		from  int64
		look  bool
	}{
		{"all have come", claimed(1, 3, group(3, up(0), up(1), booting(2))), 3, false},
		{"one has not", claimed(1, 3, group(3, up(0), up(1))), 1, false},
		{"one that has not is to go: it is forgotten after a look", toDelete(claimed(1, 3, group(2, up(0), up(1))), "hpc-2"), 1, true},
		{"one of an older order is to go", toDelete(claimed(2, 3, group(2, up(0), up(2))), "hpc-1"), 3, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if d := nodegroup.Plan(row.group, announceTimeout, noon); d.OrderedFrom != row.from || d.LookForGone != row.look {
				t.Errorf("under way from %d, want %d; a look is needed: %t, want %t", d.OrderedFrom, row.from, d.LookForGone, row.look)
			}
		})
	}
}
