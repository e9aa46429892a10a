package nodegroup_test

import (
	"slices"
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// TestClaimThatGoesTakesNothingFromOneThatStays: a cloud had machines for one and a half of two claims. When one of them is gone, what
// boots for the other goes on, also where it was ordered later.
func TestClaimThatGoesTakesNothingFromOneThatStays(t *testing.T) {
	t.Parallel()
	var machines []nodegroup.Machine
	for n := range 16 {
		switch m := booting(n); {
		case n < 4:
			machines = append(machines, part("uid-gone", 8, 0, failing(m)))
		case n < 8:
			machines = append(machines, part("uid-gone", 8, 0, m))
		default:
			machines = append(machines, part("uid-a", 8, 8, m))
		}
	}
	g := group(16, machines...)
	g.MaxSize, g.ForMembers = 20, 16
	g.Reservations = []nodegroup.Reservation{claims(allOrNothing)(8)}
	g = withFloor(g)
	d := nodegroup.Plan(g, announceTimeout, noon)
	for _, gone := range slices.Concat(d.Release, d.Retire, d.Cancel, d.Abandon, d.Leave, d.Lost) {
		for n := 8; n < 16; n++ {
			if gone == machineName(n) {
				t.Errorf("%s, which boots for the claim that stays, is given back: %+v", gone, d)
			}
		}
	}
	if len(d.Release) != 8 || len(d.Order) != 0 {
		t.Errorf("%d machines are released and %v ordered, want 8 and none", len(d.Release), d.Order)
	}
}
