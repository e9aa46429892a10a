package plan_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// group makes a member a group of a workload.
func (b *memberBuilder) group(name string) *memberBuilder { b.Kind, b.Group = "JobSet", name; return b }

// TestGang plans a workload with two groups, lead and work.
func TestGang(t *testing.T) {
	t.Parallel()
	lead := func(size, wants int32, pools ...string) *memberBuilder {
		return member("m", size, wants, pools...).group("lead")
	}
	work := func(size, wants int32, pools ...string) *memberBuilder {
		return member("m", size, wants, pools...).group("work")
	}
	single := func(b *memberBuilder) *memberBuilder {
		return b.takes(v1alpha1.GrowthAllOrNothing, v1alpha1.PlacementSingle)
	}

	cases := []struct {
		name    string
		members []*memberBuilder
		pools   []plan.Pool
		nodes   []plan.Node
		// want has one summary for each group, says texts that what is said of the groups has to contain, not one that it must not.
		want, says []string
		not        string
	}{{
		name:    "both groups are granted their nodes in one pass",
		members: []*memberBuilder{lead(1, 1, "a"), work(4, 4, "b")},
		pools:   []plan.Pool{pool("a", 10), pool("b", 10)},
		want:    []string{"a: 1 reserved, 0 held; WaitingForNodes", "b: 4 reserved, 0 held; WaitingForNodes"},
		says:    []string{"reserved 1 more node in a for size 1", "reserved 4 more nodes in b for size 4"},
	}, {
		name: "neither is when there is no room for one of them",
		members: []*memberBuilder{
			lead(1, 1, "a"), work(4, 4, "b"), member("z", 8, 8, "b").holds("b", 8, names("b", 0, 8)...).podsOn(names("b", 0, 8)...),
		},
		pools: []plan.Pool{pool("a", 10), pool("b", 10)},
		nodes: nodes("b", 0, 8),
		want:  []string{"PoolFull", "PoolFull", "b: 8 reserved, 8 held; Ready"},
		says:  []string{"group work: 4 more nodes are needed and b has room for 2: maxSize 10, 8 reserved, 0 occupied by other workloads"},
		not:   "reserved 1 more node",
	}, {
		name:    "what one takes of a pool is not there for the other",
		members: []*memberBuilder{lead(6, 6, "a"), work(6, 6, "a"), member("z", 1, 1, "a").holds("a", 1, "a-0").podsOn("a-0")},
		pools:   []plan.Pool{pool("a", 12)},
		nodes:   nodes("a", 0, 1),
		want:    []string{"PoolFull", "PoolFull", "a: 1 reserved, 1 held; Ready"},
	}, {
		name:    "groups that are too large for a pool together hold nobody back",
		members: []*memberBuilder{lead(6, 6, "a"), work(6, 6, "a"), member("z", 2, 2, "a")},
		pools:   []plan.Pool{pool("a", 10)},
		want:    []string{"PoolTooSmall", "PoolTooSmall", "a: 2 reserved, 0 held; WaitingForNodes"},
		says:    []string{"the groups need 12 nodes together of pools that can have 10: a"},
	}, {
		name:    "a group that can go elsewhere leaves the pool to the one that cannot",
		members: []*memberBuilder{lead(3, 3, "a", "b"), work(3, 3, "a")},
		pools:   []plan.Pool{pool("a", 4), pool("b", 4)},
		want:    []string{"b: 3 reserved, 0 held; WaitingForNodes", "a: 3 reserved, 0 held; WaitingForNodes"},
	}, {
		name:    "the nodes of a gang that is to have one pool come from the first with room for all",
		members: []*memberBuilder{single(lead(3, 3, "a", "b")), single(work(3, 3, "a", "b"))},
		pools:   []plan.Pool{pool("a", 5), pool("b", 6)},
		want:    []string{"b: 3 reserved, 0 held; WaitingForNodes", "b: 3 reserved, 0 held; WaitingForNodes"},
	}, {
		name:    "a gang that is to have one pool has none where no pool is in all lists",
		members: []*memberBuilder{single(lead(1, 1, "a")), single(work(3, 3, "b"))},
		pools:   []plan.Pool{pool("a", 5), pool("b", 6)},
		want:    []string{"PoolNotFound", "PoolNotFound"},
		says:    []string{"no NodePool that is left to be asked is in the lists of all groups"},
	}, {
		name: "a gang is in one zone, that which has room for all",
		members: []*memberBuilder{
			lead(1, 1, "ax", "ay").inOne(zoneKey, ""), work(4, 4, "bx", "by").inOne(zoneKey, ""),
		},
		pools: []plan.Pool{in(pool("ax", 5), "x"), in(pool("ay", 5), "y"), in(pool("bx", 3), "x"), in(pool("by", 4), "y")},
		want:  []string{"ay: 1 reserved, 0 held; WaitingForNodes", "by: 4 reserved, 0 held; WaitingForNodes"},
		says:  []string{"in topology.kubernetes.io/zone=y"},
	}, {
		name: "a group goes where pods of another one are",
		members: []*memberBuilder{
			lead(1, 1, "ax", "ay").inOne(zoneKey, ""), work(1, 1, "by").inOne(zoneKey, "").holds("by", 1, "by-0").podsOn("by-0"),
		},
		pools: []plan.Pool{in(pool("ax", 5), "x"), in(pool("ay", 5), "y"), in(pool("by", 4), "y")},
		nodes: at(nodes("by", 0, 1), "y"),
		want:  []string{"ay: 1 reserved, 0 held; WaitingForNodes", "by: 1 reserved, 1 held; Ready"},
	}, {
		name: "groups find one zone together where their nodes may be in several",
		members: []*memberBuilder{
			lead(1, 1, "a").inOne(zoneKey, "").holds("a", 1).grows(1, time.Minute, time.Minute).begins(),
			work(1, 1, "a").inOne(zoneKey, "").holds("a", 1).grows(1, time.Minute, time.Minute).begins(),
		},
		pools: []plan.Pool{pool("a", 5)},
		nodes: append(at(nodes("a", 0, 1), "x"), at(nodes("a", 1, 3), "y")...),
		want:  []string{"a: 1 reserved, 1 held; PodsStarting", "a: 1 reserved, 1 held; PodsStarting"},
		says:  []string{"1 node is Ready in a, in topology.kubernetes.io/zone=y"},
		not:   "zone=x",
	}, {
		name: "a group does not grow before the nodes of the others are there",
		members: []*memberBuilder{
			lead(1, 2, "a").holds("a", 2, names("a", 0, 2)...).podsOn("a-0").grows(2, time.Minute, time.Minute).granted("a", time.Minute),
			work(4, 6, "b").holds("b", 6, names("b", 0, 5)...).podsOn(names("b", 0, 4)...).grows(6, time.Minute, time.Minute).
				granted("b", time.Minute),
		},
		pools: []plan.Pool{pool("a", 10), pool("b", 10)},
		nodes: append(nodes("a", 0, 2), nodes("b", 0, 5)...),
		want:  []string{"a: 2 reserved, 2 held; WaitingForCapacity", "b: 6 reserved, 5 held; WaitingForNodes"},
		says:  []string{"at size 1, wants 2, and waits for nodes of other groups"},
	}, {
		name: "all grow when the nodes of all are there",
		members: []*memberBuilder{
			lead(1, 2, "a").holds("a", 2, names("a", 0, 2)...).podsOn("a-0").grows(2, time.Minute, time.Minute).granted("a", time.Minute),
			work(4, 6, "b").holds("b", 6, names("b", 0, 5)...).podsOn(names("b", 0, 4)...).grows(6, time.Minute, time.Minute).
				granted("b", time.Minute),
		},
		pools: []plan.Pool{pool("a", 10), pool("b", 10)},
		nodes: append(nodes("a", 0, 2), nodes("b", 0, 6)...),
		want:  []string{"a: 2 reserved, 2 held; resize to 2; Resizing", "b: 6 reserved, 6 held; resize to 6; Resizing"},
		says:  []string{"resizing the group lead of the JobSet from 1 to 2", "resizing the group work of the JobSet from 4 to 6"},
	}, {
		name: "what one group lacks at its deadline makes the others give theirs back",
		members: []*memberBuilder{
			lead(1, 2, "a").holds("a", 2, names("a", 0, 2)...).podsOn("a-0").grows(2, time.Hour, 0).granted("a", time.Hour).served(1),
			work(4, 6, "b").holds("b", 6, names("b", 0, 5)...).podsOn(names("b", 0, 4)...).grows(6, time.Hour, -time.Second).
				granted("b", time.Hour).served(4),
		},
		pools: []plan.Pool{pool("a", 10), pool("b", 10)},
		nodes: append(nodes("a", 0, 2), nodes("b", 0, 5)...),
		want:  []string{"a: 1 reserved, 1 held; BackingOff", "b: 4 reserved, 4 held; BackingOff"},
		says:  []string{"5 of 6 nodes were Ready in b within its provisionTimeout; the nodes that no pod uses are given back; attempt 2 is at"},
	}, {
		name: "what one group lacks is asked of its next pool, and the others keep theirs",
		members: []*memberBuilder{
			lead(1, 2, "a").holds("a", 2, names("a", 0, 2)...).podsOn("a-0").grows(2, time.Hour, 0).granted("a", time.Hour).served(1),
			work(4, 6, "b", "c").holds("b", 6, names("b", 0, 5)...).podsOn(names("b", 0, 4)...).grows(6, time.Hour, -time.Second).
				granted("b", time.Hour).served(4),
		},
		pools: []plan.Pool{pool("a", 10), pool("b", 10), pool("c", 10)},
		nodes: append(nodes("a", 0, 2), nodes("b", 0, 5)...),
		want:  []string{"a: 2 reserved, 2 held; WaitingForCapacity", "b: 5 reserved, 5 held; c: 1 reserved, 0 held; WaitingForNodes"},
	}, {
		name: "a gang that is to have one pool moves as a whole",
		members: []*memberBuilder{
			single(lead(1, 1, "a", "b").holds("a", 1, "a-0").grows(1, time.Hour, 0).granted("a", time.Hour).begins()),
			single(work(4, 4, "a", "b").holds("a", 4, names("a", 1, 3)...).grows(4, time.Hour, -time.Second).granted("a", time.Hour).begins()),
		},
		pools: []plan.Pool{pool("a", 10), pool("b", 10)},
		nodes: nodes("a", 0, 3),
		want:  []string{"b: 1 reserved, 0 held; WaitingForNodes", "b: 4 reserved, 0 held; WaitingForNodes"},
	}, {
		name: "with best effort each group is a growth of its own",
		members: []*memberBuilder{
			lead(1, 1, "a").takes(v1alpha1.GrowthBestEffort, ""), work(4, 4, "b").takes(v1alpha1.GrowthBestEffort, ""),
			member("z", 8, 8, "b").holds("b", 8, names("b", 0, 8)...).podsOn(names("b", 0, 8)...),
		},
		pools: []plan.Pool{pool("a", 10), pool("b", 10)},
		nodes: nodes("b", 0, 8),
		want:  []string{"a: 1 reserved, 0 held; WaitingForNodes", "PoolFull", "b: 8 reserved, 8 held; Ready"},
	}, {
		name: "greedy groups that ask at once are served in their order",
		members: []*memberBuilder{
			work(4, 4, "a").takes(v1alpha1.GrowthGreedy, ""), lead(3, 3, "a").takes(v1alpha1.GrowthGreedy, ""),
		},
		pools: []plan.Pool{pool("a", 5)},
		want:  []string{"a: 4 reserved, 0 held; WaitingForNodes", "PoolFull"},
	}}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := plan.Observed{Pools: c.pools, Nodes: c.nodes}
			for _, b := range c.members {
				o.Members = append(o.Members, b.Member)
			}
			decisions := plan.Plan(o, noon)
			var got []string
			var said strings.Builder
			for _, d := range decisions.Members {
				got = append(got, summary(d))
				for _, n := range d.Notes {
					said.WriteString(n.Message + "\n")
				}
				for _, condition := range d.Conditions {
					said.WriteString(condition.Message + "\n")
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("decided (-want +got):\n%s\nsaid:\n%s", diff, said.String())
			}
			if c.not != "" && strings.Contains(said.String(), c.not) {
				t.Errorf("it is said that %q:\n%s", c.not, said.String())
			}
			for _, text := range c.says {
				if !strings.Contains(said.String(), text) {
					t.Errorf("nothing says %q:\n%s", text, said.String())
				}
			}
		})
	}
}

// TestGatesOfAGang releases pods of groups that exist when the nodes of all groups are there.
func TestGatesOfAGang(t *testing.T) {
	t.Parallel()
	released := func(ready int) []int {
		lead := member("m", 1, 1, "a").group("lead").holds("a", 1, "a-0").grows(1, time.Minute, time.Minute).begins()
		work := member("m", 2, 2, "a").group("work").holds("a", 2, names("a", 1, ready)...).grows(2, time.Minute, time.Minute).begins()
		lead.Gated, work.Gated = []int32{0}, []int32{0, 1}
		var out []int
		for _, d := range plan.Plan(plan.Observed{
			Members: []plan.Member{lead.Member, work.Member}, Pools: []plan.Pool{pool("a", 10)}, Nodes: nodes("a", 0, ready),
		}, noon).Members {
			out = append(out, len(d.Release))
		}
		return out
	}
	if got := released(2); !slices.Equal(got, []int{0, 0}) {
		t.Errorf("with a node missing to one group the groups have %v pods released", got)
	}
	if got := released(3); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("with all nodes there the groups have %v pods released", got)
	}
}

// TestUnits takes what there is of a growth in whole units.
func TestUnits(t *testing.T) {
	t.Parallel()
	greedy := func(wants, unit int32) plan.Decision {
		b := member("m", 2, wants, "a").takes(v1alpha1.GrowthGreedy, "").holds("a", wants, names("a", 0, 7)...).podsOn("a-0", "a-1").
			grows(wants, time.Minute, time.Minute).granted("a", time.Minute).served(2)
		b.Unit = unit
		o := plan.Observed{Members: []plan.Member{b.Member}, Pools: []plan.Pool{pool("a", 20)}, Nodes: nodes("a", 0, 7)}
		return plan.Plan(o, noon).Members[0]
	}
	for unit, want := range map[int32]int32{1: 7, 2: 6, 3: 5, 4: 6, 6: 0} {
		if d := greedy(14, unit); d.Resize != want {
			t.Errorf("a greedy group of 2 that grows by %d and has 7 nodes of 14 is resized to %d, not %d", unit, d.Resize, want)
		}
	}
	d := greedy(13, 2)
	if d.Resize != 0 || d.Conditions[0].Reason != v1alpha1.ReasonInvalid || d.Reserved() != 13 || !strings.Contains(d.Conditions[0].Message,
		"the desired size 13 has to differ from its size, which is 2, by a multiple of 2 pods, which grow together: 12 or 14 would do") {
		t.Errorf("a desired size that is no multiple: %s, %s", summary(d), d.Conditions[0].Message)
	}
}

// TestNamed shrinks a group whose pods leave by name.
func TestNamed(t *testing.T) {
	t.Parallel()
	zero := int32(0)
	shared := func(b *memberBuilder) *memberBuilder { return b.shares(2, oneCore) }
	cases := []struct {
		name   string
		member *memberBuilder
		nodes  []plan.Node
		want   []int32
	}{{
		name:   "those of the pool that is preferred least",
		member: member("m", 4, 2, "a", "b").holds("b", 2, "b-0", "b-1").holds("a", 2, "a-0", "a-1").podsOn("b-0", "b-1", "a-0", "a-1"),
		want:   []int32{1, 0},
	}, {
		name:   "whose nodes become free before others",
		member: shared(member("m", 5, 3, "a").holds("a", 3, "a-0", "a-1", "a-2").podsOn("a-0", "a-1", "a-1", "a-2", "a-2")),
		// The one of a-0 frees a node, of the other nodes one has to be broken.
		want: []int32{0, 4},
	}, {
		name:   "those of two nodes rather than of one that others use, too",
		member: member("m", 3, 2, "a").holds("a", 3, "a-0", "a-1", "a-2").podsOn("a-0", "a-1", "a-2"),
		nodes:  occupy(nodes("a", 0, 3), "a-2", "a-0"),
		want:   []int32{1},
	}, {
		name: "those that do not run before those that do",
		member: func() *memberBuilder {
			b := member("m", 3, 2, "a").holds("a", 3, "a-0", "a-1", "a-2").podsOn("a-0", "a-1", "a-2")
			b.Pods[1].Running = false
			return b
		}(),
		want: []int32{1},
	}, {
		name: "never the lead, and those behind the gate first",
		member: func() *memberBuilder {
			b := member("m", 4, 1, "a", "b").holds("b", 1, "b-0").holds("a", 1, "a-0").podsOn("b-0", "a-0")
			b.Gated, b.Lead = []int32{7, 5}, &zero
			return b
		}(),
		want: []int32{7, 5, 1},
	}, {
		name: "those that have been named are not named again",
		member: func() *memberBuilder {
			b := member("m", 4, 2, "a").holds("a", 4, names("a", 0, 4)...).podsOn(names("a", 0, 4)...)
			b.Pods[1].Leaving = true
			return b
		}(),
		want: []int32{3},
	}, {
		name:   "none of pods that do not exist",
		member: member("m", 4, 2, "a").holds("a", 4, names("a", 0, 4)...).podsOn("a-0"),
		want:   nil,
	}}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.member.Leaves = plan.Named
			for i := range c.member.Pods {
				// Those that do not run are marked so.
				c.member.Pods[i].Running = c.name != "those that do not run before those that do" || i != 1
			}
			all := c.nodes
			if all == nil {
				all = append(nodes("a", 0, 5), nodes("b", 0, 5)...)
			}
			for i := range all {
				for _, pod := range c.member.Pods {
					if pod.Node == all[i].Name {
						all[i].Requested.Add(c.member.PodRequests)
					}
				}
			}
			d := plan.Plan(plan.Observed{
				Members: []plan.Member{c.member.Member}, Pools: []plan.Pool{pool("a", 10), pool("b", 10)}, Nodes: all,
			}, noon).Members[0]
			if d.Resize != c.member.Wants || !slices.Equal(d.Leave, c.want) {
				t.Errorf("resized to %d, and %v are to leave, not %v", d.Resize, d.Leave, c.want)
			}
		})
	}
}

// TestNodesThatPodsLeave follows a shrink of three to one: each node is held until the pod there has left it, whichever pods leave.
func TestNodesThatPodsLeave(t *testing.T) {
	t.Parallel()
	for _, leaves := range []plan.Leaves{plan.Named, plan.Unknown} {
		three := names("a", 0, 3)
		held := func(pods ...int32) []string {
			b := member("m", 1, 1, "a").holds("a", 1, three...)
			b.Leaves = leaves
			for _, pod := range pods {
				b.pod(pod, three[pod])
			}
			if leaves == plan.Named && len(pods) > 1 {
				b.Pods[0].Leaving = true
			}
			all := nodes("a", 0, 3)
			for _, pod := range pods {
				all[pod].Requested = threeCore
			}
			d := plan.Plan(plan.Observed{Members: []plan.Member{b.Member}, Pools: []plan.Pool{pool("a", 10)}, Nodes: all}, noon).Members[0]
			if d.Reserved() != 1 || len(d.Reservations) != 1 {
				t.Fatalf("%d: reserved %+v", leaves, d.Reservations)
			}
			return d.Reservations[0].Held
		}
		for _, row := range []struct {
			pods []int32
			want []string
		}{{[]int32{0, 1, 2}, three}, {[]int32{0, 2}, []string{"a-0", "a-2"}}, {[]int32{2}, []string{"a-2"}}} {
			if got := held(row.pods...); !slices.Equal(got, row.want) {
				t.Errorf("%d: with the pods %v there the nodes %v are held, not %v", leaves, row.pods, got, row.want)
			}
		}
	}
}

// TestLostNodeOfAGang gives a group that has lost a node while another one grows a deadline for it: the other one waits for it.
func TestLostNodeOfAGang(t *testing.T) {
	t.Parallel()
	lead := member("m", 1, 2, "a").group("lead").holds("a", 2, "a-0", "a-1").podsOn("a-0").
		grows(2, time.Minute, 0).granted("a", time.Minute).served(1)
	work := member("m", 2, 2, "b").group("work").holds("b", 2, "b-0").podsOn("b-0")
	decisions := plan.Plan(plan.Observed{
		Members: []plan.Member{lead.Member, work.Member}, Pools: []plan.Pool{pool("a", 10), pool("b", 10)},
		Nodes: append(nodes("a", 0, 2), nodes("b", 0, 1)...),
	}, noon).Members
	g, other := decisions[1].Growth, decisions[0].Growth
	if decisions[0].Resize != 0 || g == nil || g.Deadline == nil || !g.Since.Time.Equal(other.Since.Time) {
		t.Errorf("resized to %d while a node of the other group is missing, which has the growth %+v", decisions[0].Resize, g)
	}
}

// TestPresentSizesOfAGangComeFirst asks for no larger size of a group while another one has no nodes for the size that it has.
func TestPresentSizesOfAGangComeFirst(t *testing.T) {
	t.Parallel()
	lead := member("m", 1, 4, "a").group("lead").holds("a", 1, "a-0").podsOn("a-0")
	work := member("m", 3, 5, "b").group("work").holds("b", 2, "b-0", "b-1").podsOn("b-0", "b-1")
	decided := func(maxSize int32) (got []string) {
		for _, d := range plan.Plan(plan.Observed{
			Members: []plan.Member{lead.Member, work.Member}, Pools: []plan.Pool{pool("a", 10), pool("b", maxSize)},
			Nodes: append(nodes("a", 0, 1), nodes("b", 0, 2)...),
		}, noon).Members {
			got = append(got, summary(d))
		}
		return got
	}
	want := []string{"a: 1 reserved, 1 held; WaitingForCapacity", "b: 3 reserved, 2 held; WaitingForNodes"}
	if diff := cmp.Diff(want, decided(10)); diff != "" {
		t.Errorf("with room (-want +got):\n%s", diff)
	}
	want = []string{"a: 1 reserved, 1 held; PoolTooSmall", "b: 2 reserved, 2 held; PoolTooSmall"}
	if diff := cmp.Diff(want, decided(2)); diff != "" {
		t.Errorf("without room (-want +got):\n%s", diff)
	}
}
