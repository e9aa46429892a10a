package nodegroup_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

func TestFailures(t *testing.T) {
	t.Parallel()
	g := group(4, ago(time.Hour, booting(0)), failing(booting(1)), failing(booting(2)), booting(3))
	g.KnownFailed = []string{"hpc-1"}
	d := nodegroup.Plan(toDelete(g, "hpc-2"), announceTimeout, noon)
	if diff := cmp.Diff([]string{"hpc-0", "hpc-1", "hpc-2"}, d.Failed); diff != "" {
		t.Errorf("wrong failed machines, of which one is on its way out (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"hpc-0", "hpc-2"}, d.NewlyFailed); diff != "" {
		t.Errorf("wrong newly failed machines (-want +got):\n%s", diff)
	}
	if d.LastFailed != "hpc-2" || d.LastFailure.Code != "OutOfStock" {
		t.Errorf("the last failure is that of %s: %s", d.LastFailed, d.LastFailure)
	}
	if g.Machines[0].Failure != nil {
		t.Errorf("Plan has changed what it was given: %+v", g.Machines[0])
	}
	g.KnownFailed = d.Failed
	if d := nodegroup.Plan(g, announceTimeout, noon); d.LastFailure != nil || len(d.NewlyFailed) > 0 {
		t.Errorf("what is recorded is found again: %v, %v", d.NewlyFailed, d.LastFailure)
	}
}

// TestManyFail: of very many machines that have failed the status names a part, each of them once and before it is deleted.
func TestManyFail(t *testing.T) {
	t.Parallel()
	const machines, most = 2500, 1000
	g := group(machines)
	for n := range machines {
		g.Machines = append(g.Machines, failing(booting(n)))
	}
	g.MaxSize = machines
	var noted []string
	for passes := 0; len(g.Machines) > 0; passes++ {
		if passes > 2*machines/most+2 {
			t.Fatalf("after %d passes %d machines are left", passes, len(g.Machines))
		}
		d := nodegroup.Plan(g, announceTimeout, noon)
		if len(d.Failed) > most+len(g.ToDelete) {
			t.Fatalf("%d machines are noted as failed, and %d are on their way out", len(d.Failed), len(g.ToDelete))
		}
		noted = append(noted, d.NewlyFailed...)
		for _, name := range d.Delete {
			if !slices.Contains(d.Failed, name) {
				t.Fatalf("%s is deleted, and its failure is not noted", name)
			}
		}
		g.KnownFailed = d.Failed
		g.Machines = slices.DeleteFunc(slices.Clone(g.Machines), func(m nodegroup.Machine) bool { return slices.Contains(d.Delete, m.Name) })
		g.ToDelete = nil
		// Cluster Autoscaler deletes some of those that it was told of, whether they are noted or not.
		for _, i := range g.Instances(noon) {
			if i.Failure != nil && len(g.ToDelete) < 700 {
				g.ToDelete = append(g.ToDelete, i.ProviderID[len("test://"):])
			}
		}
		g.Target = int32(len(g.Machines) - len(g.ToDelete))
	}
	if slices.Sort(noted); len(noted) != machines || len(slices.Compact(noted)) != machines {
		t.Errorf("%d failures were noted of %d", len(noted), machines)
	}
}
