package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// leaves announces that the cloud takes nodes away five minutes after noon.
func leaves(list []plan.Node, names ...string) []plan.Node {
	for i := range list {
		for _, name := range names {
			if list[i].Name == name {
				list[i].Leaving, list[i].Departure = true, &plan.Departure{At: noon.Add(5 * time.Minute)}
			}
		}
	}
	return list
}

// failed says that the machines of nodes are no more.
func failed(list []plan.Node, names ...string) []plan.Node {
	for i := range list {
		for _, name := range names {
			if list[i].Name == name {
				list[i].Leaving, list[i].Departure = true, &plan.Departure{Failure: "preempted"}
			}
		}
	}
	return list
}

func told(list []plan.Node) []plan.Node {
	for i := range list {
		if list[i].Departure != nil {
			list[i].Departure.Told = true
		}
	}
	return list
}

// full fills nodes with one pod of three cores.
func full(list []plan.Node) []plan.Node {
	for i := range list {
		list[i].Requested = threeCore
	}
	return list
}

// TestDepartures: a node that the cloud takes away stays its member's until the pod has left, is replaced, and is told of once.
func TestDepartures(t *testing.T) {
	t.Parallel()
	two := func() *memberBuilder { return member("m", 2, 2, "p").holds("p", 2, "p-0", "p-1").podsOn("p-0", "p-1") }
	three := func(held ...string) *memberBuilder {
		m := member("m", 2, 3, "p").holds("p", 3, held...).podsOn("p-0", "p-1")
		return m.grows(3, time.Minute, time.Hour).granted("p", time.Minute)
	}
	for name, row := range map[string]struct {
		member *memberBuilder
		nodes  []plan.Node
		want   string
		told   []string
	}{
		"a notice": {
			member: two(), nodes: leaves(full(nodes("p", 0, 2)), "p-1"),
			want: "p: 2 reserved, 2 held; WaitingForNodes",
			told: []string{"node p-1 of p leaves at 2026-11-23T12:05:00Z: the cloud takes it away; its replacement is on order"},
		},
		"a notice that was told": {
			member: two(), nodes: told(leaves(full(nodes("p", 0, 2)), "p-1")),
			want: "p: 2 reserved, 2 held; WaitingForNodes",
		},
		"several notices at once": {
			member: two(), nodes: leaves(full(nodes("p", 0, 2)), "p-0", "p-1"),
			want: "p: 2 reserved, 2 held; WaitingForNodes",
			told: []string{"2 nodes of p leave, the first at 2026-11-23T12:05:00Z: the cloud takes them away: p-0, p-1; replacements are on order"},
		},
		"a machine that has failed": {
			member: two(), nodes: failed(full(nodes("p", 0, 2)), "p-1"),
			want: "p: 2 reserved, 2 held; WaitingForNodes",
			told: []string{"the machine of node p-1 of p has failed: preempted; its replacement is on order"},
		},
		"the replacement is held beside the node that leaves": {
			member: two(), nodes: append(told(leaves(full(nodes("p", 0, 2)), "p-1")), nodes("p", 2, 4)...),
			want: "p: 2 reserved, 3 held; Ready",
		},
		"the replacement is kept": {
			member: member("m", 2, 2, "p").holds("p", 2, "p-0", "p-1", "p-2").podsOn("p-0", "p-1"),
			nodes:  append(told(leaves(full(nodes("p", 0, 2)), "p-1")), nodes("p", 2, 4)...),
			want:   "p: 2 reserved, 3 held; Ready",
		},
		"the notice is taken back": {
			member: member("m", 2, 2, "p").holds("p", 2, "p-0", "p-1", "p-2").podsOn("p-0", "p-1"),
			nodes:  append(full(nodes("p", 0, 2)), nodes("p", 2, 3)...),
			want:   "p: 2 reserved, 2 held; Ready",
			told:   []string{"gave back 1 node: p-2"},
		},
		"others in the pool do not help": {
			member: two(), nodes: append(told(leaves(full(nodes("p", 0, 2)), "p-1")), occupy(nodes("p", 2, 3), "p-2")...),
			want: "p: 2 reserved, 2 held, 1 occupied; WaitingForNodes",
		},
		"a node without a pod is given up at once": {
			member: three("p-0", "p-1", "p-2"),
			nodes:  append(full(nodes("p", 0, 2)), leaves(nodes("p", 2, 3), "p-2")...),
			want:   "p: 3 reserved, 2 held; WaitingForNodes",
			told: []string{
				"node p-2 of p leaves at 2026-11-23T12:05:00Z: the cloud takes it away; its replacement is on order", "gave back 1 node: p-2",
			},
		},
		"a growth waits for the replacement": {
			member: three("p-0", "p-1"),
			nodes:  append(told(leaves(full(nodes("p", 0, 2)), "p-1")), nodes("p", 2, 3)...),
			want:   "p: 3 reserved, 3 held; WaitingForNodes",
		},
		"a growth goes on with the replacement": {
			member: three("p-0", "p-1"),
			nodes:  append(told(leaves(full(nodes("p", 0, 2)), "p-1")), nodes("p", 2, 4)...),
			want:   "p: 3 reserved, 4 held; resize to 3; Resizing",
			told:   []string{"resizing the MiniCluster from 2 to 3; 3 nodes are Ready"},
		},
		"the rank that leaves with a shrink": {
			member: member("m", 1, 1, "p").holds("p", 1, "p-0", "p-1").podsOn("p-0", "p-1"),
			nodes:  leaves(full(nodes("p", 0, 2)), "p-1"),
			want:   "p: 1 reserved, 2 held; PodsLeaving",
			told:   []string{"node p-1 of p leaves at 2026-11-23T12:05:00Z: the cloud takes it away"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			observed := plan.Observed{Members: []plan.Member{row.member.Member}, Pools: []plan.Pool{pool("p", 8)}, Nodes: row.nodes}
			d := plan.Plan(observed, noon).Members[0]
			if got := summary(d); got != row.want {
				t.Errorf("%s, want %s", got, row.want)
			}
			var notes []string
			for _, n := range d.Notes {
				notes = append(notes, n.Message)
			}
			if got, want := strings.Join(notes, "\n"), strings.Join(row.told, "\n"); got != want {
				t.Errorf("told\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestDepartureOfReleased: a pod that was released for a node which leaves before it got there is recreated, and not sent there.
func TestDepartureOfReleased(t *testing.T) {
	t.Parallel()
	m := member("m", 2, 2, "p").holds("p", 2, "p-0", "p-1").podsOn("p-0", "p-1")
	m.Pods[1].Released = true
	observed := plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{pool("p", 8)}, Nodes: leaves(full(nodes("p", 0, 2)), "p-1")}
	d := plan.Plan(observed, noon).Members[0]
	if len(d.Recreate) != 1 || d.Recreate[0].Index != 1 || d.Reserved() != 2 {
		t.Errorf("recreates %v and claims %d nodes, want rank 1 and 2", d.Recreate, d.Reserved())
	}
	if last := d.Conditions[1]; last.Type != v1alpha1.ConditionCapacityReady || last.Status != "False" {
		t.Errorf("CapacityReady is %v", last)
	}
}
