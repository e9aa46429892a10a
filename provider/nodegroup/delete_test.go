package nodegroup_test

import (
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// TestGivenUpBeforeItRegistered: a machine that was given up before it registered, and has a node since, goes when that is
// tainted, so that no pod comes any more, and the last pod has left. One that Cluster Autoscaler deletes, whose taint it has, goes.
func TestGivenUpBeforeItRegistered(t *testing.T) {
	t.Parallel()
	g := group(1, up(0, unmarked), up(1))
	g.ToDelete = []string{machineName(1)}
	var d nodegroup.Decisions
	for count := range 2 {
		g.Machines[1].Node.Pods = count
		d = nodegroup.Plan(g, announceTimeout, noon)
		if len(d.Delete) > 0 || len(d.Gone) > 0 || len(d.Marks) != 1 || !d.Marks[0].Releasing || d.Marks[0].Node != nodeName(1) {
			t.Errorf(
				"with %d pods: deletes %v, takes %v to be gone and marks %+v; want the node tainted and nothing deleted", count, d.Delete, d.Gone,
				d.Marks,
			)
		}
	}
	g.Machines[1].Node.Releasing = true
	if d = nodegroup.Plan(g, announceTimeout, noon); len(d.Delete) > 0 || len(d.Marks) > 0 {
		t.Errorf("tainted, with a pod: deletes %v and marks %+v; want nothing", d.Delete, d.Marks)
	}
	g.Machines[1].Node.Pods = 0
	if d = nodegroup.Plan(g, announceTimeout, noon); len(d.Delete) != 1 {
		t.Errorf("when the pod has left: deletes %v, want the machine", d.Delete)
	}
	g.Machines[1].Node.Pods, g.Machines[1].Node.Leaving = 1, true
	if d = nodegroup.Plan(g, announceTimeout, noon); len(d.Delete) != 1 {
		t.Errorf("with the taint of Cluster Autoscaler: deletes %v, want the machine", d.Delete)
	}
}
