package nodegroup_test

import (
	"slices"
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// TestManyGo: more machines than the API server takes names of are released and deleted in parts.
func TestManyGo(t *testing.T) {
	t.Parallel()
	const machines, most, part = 12000, 5000, 500
	var all []nodegroup.Machine
	for n := range machines {
		all = append(all, up(n, releasing))
	}
	for name, g := range map[string]*nodegroup.Group{
		"given up by members":                    group(machines, all...),
		"not counted by a target that is lower":  following(group(0, all...)),
		"of a pool that is being deleted":        deleting(group(machines, all...)),
		"of one with a target of fewer machines": deleting(group(machines/2, all...)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g.MaxSize = machines
			g = withFloor(g)
			for passes := 0; len(g.Machines) > 0 || len(g.ToDelete) > 0; passes++ {
				d := nodegroup.Plan(g, announceTimeout, noon)
				news := len(d.Release) + len(d.Retire)
				if passes > machines/part+machines/most+1 {
					t.Fatalf("after %d passes there are %d machines, and %d are on their way out", passes, len(g.Machines), len(g.ToDelete))
				}
				if news > part || news+len(g.ToDelete) > most {
					t.Fatalf(
						"%d machines are released and %d retired at once, besides %d that are on their way out", len(d.Release), len(d.Retire),
						len(g.ToDelete),
					)
				}
				if news > 0 && len(g.Machines)-len(g.ToDelete) > news && !d.Next.After(noon) {
					t.Fatalf("%d machines are left, and no pass is due", len(g.Machines)-len(g.ToDelete)-news)
				}
				g.ToDelete = slices.Concat(g.ToDelete, d.Release, d.Retire)
				g.Target -= int32(len(d.Release)) + d.GiveUp
				if g.Target < 0 {
					t.Fatalf("the target is %d", g.Target)
				}
				if news > 0 && len(g.ToDelete) < most {
					continue
				}
				// The list is full, or has all of them: now they go.
				gone := map[string]bool{}
				for _, name := range g.ToDelete {
					gone[name] = true
				}
				g.Machines = slices.DeleteFunc(slices.Clone(g.Machines), func(m nodegroup.Machine) bool { return gone[m.Name] })
				g.ToDelete = nil
			}
			if g.Target != 0 {
				t.Errorf("the target is %d in the end", g.Target)
			}
		})
	}
}
