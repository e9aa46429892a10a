package nodegroup_test

import (
	"slices"
	"testing"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// named are the machines of a group that ids stand for, as the server finds them.
func named(g *nodegroup.Group, ids []string) (asked []nodegroup.Asked) {
	for _, id := range ids {
		if _, name, is := nodegroup.ParsePlaceholder(id); is {
			asked = append(asked, nodegroup.Asked{Machine: name, ByPlaceholder: true})
		}
		for i := range g.Machines {
			if g.Machines[i].ProviderID == id {
				asked = append(asked, nodegroup.Asked{Machine: g.Machines[i].Name})
			}
		}
	}
	return asked
}

// TestCounted is what Cluster Autoscaler's life depends on. It compares the target with the machines that it counts: those whose nodes
// have registered, and the instances that are being created without an error. Where it counts fewer, it deletes those with
// an error, and then asks for the rest back with DecreaseTargetSize. An error, or an answer that changes nothing, stops it for all groups.
func TestCounted(t *testing.T) {
	t.Parallel()
	tooLate := func(n int) nodegroup.Machine { return ago(time.Hour, withoutID(booting(n))) }
	for name, row := range map[string]struct {
		group *nodegroup.Group
		// counted is how many are, and pausedCounted how many in a group that is paused.
		counted, pausedCounted int32
		// repaired is the target after the request that repairs it, the same if none is needed.
		repaired int32
	}{
		"at rest":                         {group(2, up(0), up(1)), 2, 2, 2},
		"booting, and on order":           {group(4, up(0), withoutID(booting(1))), 4, 4, 4},
		"two of four did not come":        {group(4, up(0), up(1), tooLate(2), tooLate(3)), 2, 4, 2},
		"one of four has failed":          {group(4, up(0), up(1), failing(booting(2)), booting(3)), 3, 4, 3},
		"one has crashed":                 {group(3, up(0), up(1), crashed(up(2))), 2, 3, 2},
		"a node is gone":                  {group(2, up(0), nodeless(crashed(up(1)))), 1, 2, 1},
		"one has crashed, one boots":      {group(3, up(0), crashed(up(1)), withoutID(booting(2))), 2, 3, 2},
		"one has crashed, one has failed": {group(3, up(0), crashed(up(1)), failing(booting(2))), 1, 3, 2},
		"all have crashed":                {group(2, crashed(up(0)), crashed(up(1))), 0, 2, 0},
		"a crashed one is held":           {with(group(2, up(0), crashed(up(1))), claim("ns/a", 2, 0, 1)), 1, 2, 1},
		"one that is to go does not count, the one for it does": {toDelete(group(2, up(0), up(1, releasing)), "hpc-1"), 2, 2, 2},
		"a crashed one that is to go":                           {toDelete(group(1, up(0), crashed(up(1))), "hpc-1"), 1, 1, 1},
		"a spot notice":                                         {group(2, up(0), spot(up(1))), 2, 2, 2},
		"a record that is being deleted":                        {group(2, up(0), beingDeleted(booting(1))), 2, 2, 2},
		"the list of those that go is full": {
			toDelete(group(3, up(0), failing(booting(1)), failing(booting(2))), manyNames(4999)...), 1, 3, 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := row.group
			instances := g.Instances(noon)
			if got := countInstances(instances); got != row.counted {
				t.Errorf("%d are counted, want %d: %+v", got, row.counted, instances)
			}
			target := g.Target
			if failed := failedIDs(instances); row.counted < target && len(failed) > 0 {
				victims, after, err := g.DeleteNodes(named(g, failed))
				if err != nil || len(victims) == 0 || after >= target {
					t.Errorf("DeleteNodes(%v) deletes %v: target %d -> %d, %v", failed, victims, target, after, err)
				}
				target = after
			} else if row.counted < target {
				after, err := g.DecreaseTargetSize(row.counted - target)
				if err != nil || after >= target {
					t.Errorf("DecreaseTargetSize(%d): target %d -> %d, %v", row.counted-target, target, after, err)
				}
				target = after
			}
			if target != row.repaired {
				t.Errorf("the target becomes %d, want %d", target, row.repaired)
			}
			still := *g
			still.Paused = true
			instances = still.Instances(noon)
			if got := countInstances(instances); got != row.pausedCounted || got < g.Target || len(failedIDs(instances)) > 0 {
				t.Errorf("of the paused group %d of %d are counted, want %d: %+v", got, g.Target, row.pausedCounted, instances)
			}
			if still.MinSizeToTell() != g.Target || still.MaxSizeToTell() != g.Target {
				t.Errorf("a paused group has room from %d to %d", still.MinSizeToTell(), still.MaxSizeToTell())
			}
		})
	}
}

func manyNames(count int) (names []string) {
	for n := range count {
		names = append(names, machineName(10000+n))
	}
	return names
}

// TestLostAfterDecrease: what Cluster Autoscaler has taken from the target because it is no more is not taken from it again.
func TestLostAfterDecrease(t *testing.T) {
	t.Parallel()
	g := withFloor(group(3, autoscalers(up(0)), autoscalers(up(1)), crashed(autoscalers(up(2)))))
	var err error
	if g.Target, err = g.DecreaseTargetSize(-1); err != nil || g.Target != 2 {
		t.Fatalf("the target is %d: %v", g.Target, err)
	}
	d := nodegroup.Plan(g, announceTimeout, noon)
	if len(d.Lost) > 0 || !slices.Equal(d.Leave, []string{"hpc-2"}) || len(d.Order) > 0 {
		t.Errorf("it is lost %v, leaves %v, and %v is ordered", d.Lost, d.Leave, d.Order)
	}
}
