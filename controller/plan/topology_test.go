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

func TestPlanInOneDomain(t *testing.T) {
	t.Parallel()
	two := names("a", 0, 2)
	zoned := []plan.Pool{in(pool("a", 10), "x"), in(pool("b", 10), "y")}
	mixed := func(x, y int) []plan.Node {
		return slices.Concat(at(nodes("s", 0, x), "x"), at(nodes("s", x, x+y), "y"))
	}

	cases := []struct {
		name    string
		members []*memberBuilder
		pools   []plan.Pool
		nodes   []plan.Node
		// want has one summary for each member, with its domain.
		want []string
		// says are texts that the conditions or notes of the first member must contain.
		says []string
	}{{
		name:    "a gang is asked for in the domain of the first pool that has room for it",
		members: []*memberBuilder{member("m", 4, 4, "a", "b").inOne(zoneKey, "")},
		pools:   zoned,
		want:    []string{"x: a: 4 reserved, 0 held; WaitingForNodes"},
		says: []string{
			"reserved 4 more nodes in a, in topology.kubernetes.io/zone=x for size 4",
			"0 of 4 nodes are Ready in a, in topology.kubernetes.io/zone=x; the others have until",
		},
	}, {
		name:    "pools of one domain serve a gang together before the next domain is asked",
		members: []*memberBuilder{member("m", 6, 6, "a", "b", "c").inOne(zoneKey, "")},
		pools:   []plan.Pool{in(pool("a", 4), "x"), in(pool("b", 10), "y"), in(pool("c", 4), "x")},
		want:    []string{"x: a: 4 reserved, 0 held; c: 2 reserved, 0 held; WaitingForNodes"},
	}, {
		name:    "and pools of two domains never do",
		members: []*memberBuilder{member("m", 6, 6, "a", "b").inOne(zoneKey, "")},
		pools:   []plan.Pool{in(pool("a", 4), "x"), in(pool("b", 4), "y")},
		want:    []string{"PoolTooSmall"},
		says:    []string{"6 nodes are needed and a has maxSize 4; 6 nodes are needed and b has maxSize 4"},
	}, {
		name: "what a pool has not provided is asked of another one of its domain first",
		members: []*memberBuilder{member("m", 6, 6, "a", "b", "c").inOne(zoneKey, "x").holds("a", 6, names("a", 0, 4)...).
			grows(6, time.Minute, time.Minute).granted("a", time.Minute).begins()},
		pools: []plan.Pool{outOfStock(in(pool("a", 10), "x"), time.Second), in(pool("b", 10), "y"), in(pool("c", 10), "x")},
		nodes: at(nodes("a", 0, 4), "x"),
		want:  []string{"x: a: 4 reserved, 4 held; c: 2 reserved, 0 held; WaitingForNodes"},
	}, {
		name: "then the whole gang moves to the next domain and gives back all that it had",
		members: []*memberBuilder{member("m", 6, 6, "a", "b", "c").inOne(zoneKey, "x").holds("a", 6, names("a", 0, 4)...).
			grows(6, time.Minute, time.Minute).granted("a", time.Minute).begins()},
		pools: []plan.Pool{outOfStock(in(pool("a", 10), "x"), time.Second), in(pool("b", 10), "y"), in(pool("c", 1), "x")},
		nodes: at(nodes("a", 0, 4), "x"),
		want:  []string{"y: b: 6 reserved, 0 held; WaitingForNodes"},
		says: []string{
			"4 of 6 nodes were Ready in a, in topology.kubernetes.io/zone=x, which is out of stock: no machine is left; reserved 6 more nodes in " +
				"b, in topology.kubernetes.io/zone=y for size 6",
			"gave back 4 nodes: a-0, a-1, a-2, a-3",
		},
	}, {
		name: "and leaves nothing in a pool that could have nodes in both",
		members: []*memberBuilder{member("m", 6, 6, "a", "s", "b").inOne(zoneKey, "x").holds("a", 4, names("a", 0, 3)...).holds("s", 2, "s-0").
			grows(6, time.Minute, time.Minute).granted("s", time.Minute).begins()},
		pools: []plan.Pool{outOfStock(in(pool("a", 4), "x"), time.Second), pool("s", 2), in(pool("b", 10), "y")},
		nodes: slices.Concat(at(nodes("a", 0, 3), "x"), at(nodes("s", 0, 1), "x")),
		want:  []string{"y: b: 6 reserved, 0 held; WaitingForNodes"},
		says:  []string{"gave back 4 nodes: a-0, a-1, a-2, s-0"},
	}, {
		name: "a part of a gang is not kept where it was while the next domain has no room",
		members: []*memberBuilder{member("m", 6, 6, "a", "b").inOne(zoneKey, "x").holds("a", 6, names("a", 0, 4)...).
			grows(6, time.Minute, time.Minute).granted("a", time.Minute).begins()},
		pools: []plan.Pool{outOfStock(in(pool("a", 10), "x"), time.Second), paused(in(pool("b", 10), "y"))},
		nodes: at(nodes("a", 0, 4), "x"),
		want:  []string{"BackingOff"},
		says:  []string{`and NodePool "b" is paused; the nodes that no pod uses are given back`, "gave back 4 nodes"},
	}, {
		name:    "a growth stays in the domain that the pods are in, though its pool is not the first one",
		members: []*memberBuilder{member("m", 2, 8, "b", "a").inOne(zoneKey, "x").holds("a", 2, two...).podsOn(two...)},
		pools:   zoned,
		nodes:   at(nodes("a", 0, 2), "x"),
		want:    []string{"x: a: 8 reserved, 2 held; WaitingForNodes"},
		says:    []string{"2 of 8 nodes are Ready in a, in topology.kubernetes.io/zone=x"},
	}, {
		name:    "and waits for it when it is full",
		members: []*memberBuilder{member("m", 2, 8, "b", "a").inOne(zoneKey, "x").holds("a", 2, two...).podsOn(two...)},
		pools:   []plan.Pool{in(pool("a", 4), "x"), in(pool("b", 10), "y")},
		nodes:   at(nodes("a", 0, 2), "x"),
		want:    []string{"x: a: 2 reserved, 2 held; PoolTooSmall"},
		says:    []string{"b is in topology.kubernetes.io/zone=y and the nodes of the member are in x; 8 nodes are needed and a has maxSize 4"},
	}, {
		name: "pods that are there keep a growth from moving when the pool fails",
		members: []*memberBuilder{member("m", 2, 8, "a", "b").inOne(zoneKey, "x").holds("a", 8, names("a", 0, 5)...).podsOn(two...).
			grows(8, time.Minute, time.Minute).granted("a", time.Minute)},
		pools: []plan.Pool{outOfStock(in(pool("a", 10), "x"), time.Second), in(pool("b", 10), "y")},
		nodes: at(nodes("a", 0, 5), "x"),
		want:  []string{"x: a: 2 reserved, 2 held; BackingOff"},
		says: []string{
			"and b is in topology.kubernetes.io/zone=y and the nodes of the member are in x; the nodes that no pod uses are given back",
		},
	}, {
		name: "so do nodes for all pods, which may be on their way",
		members: []*memberBuilder{member("m", 2, 8, "a", "b").inOne(zoneKey, "x").holds("a", 2, two...).
			grows(8, time.Minute, 0)},
		pools: []plan.Pool{in(pool("a", 4), "x"), in(pool("b", 10), "y")},
		nodes: at(nodes("a", 0, 2), "x"),
		want:  []string{"x: a: 2 reserved, 2 held; PoolTooSmall"},
	}, {
		name:    "the domain is where the pods are, whatever was recorded, and other nodes are given back",
		members: []*memberBuilder{member("m", 3, 3, "a", "b").inOne(zoneKey, "x").holds("a", 3, names("a", 0, 3)...).podsOn("b-0", "b-1")},
		pools:   zoned,
		nodes:   slices.Concat(at(nodes("a", 0, 3), "x"), at(nodes("b", 0, 2), "y")),
		want:    []string{"y: b: 3 reserved, 2 held; WaitingForNodes"},
		says:    []string{"gave back 3 nodes: a-0, a-1, a-2"},
	}, {
		name:    "a lost node is replaced in the domain of the others",
		members: []*memberBuilder{member("m", 3, 3, "a", "b").inOne(zoneKey, "y").holds("b", 3, names("b", 0, 3)...).podsOn(names("b", 0, 2)...)},
		pools:   zoned,
		nodes:   at(nodes("b", 0, 2), "y"),
		want:    []string{"y: b: 3 reserved, 2 held; WaitingForNodes"},
		says:    []string{"lost 1 node that does not exist any more: b-2"},
	}, {
		name:    "the recorded domain is that of a member whose only node is lost",
		members: []*memberBuilder{member("m", 1, 1, "s").inOne(zoneKey, "y").holds("s", 1, "s-9").podsOn("s-9")},
		pools:   []plan.Pool{pool("s", 10)},
		nodes:   mixed(2, 1),
		want:    []string{"y: s: 1 reserved, 1 held; Ready"},
	}, {
		name:    "in a pool that spans domains none is chosen before there are nodes",
		members: []*memberBuilder{member("m", 4, 4, "s").inOne(zoneKey, "")},
		pools:   []plan.Pool{pool("s", 10)},
		want:    []string{"s: 4 reserved, 0 held; WaitingForNodes"},
		says:    []string{"0 of 4 nodes are Ready in s, in one topology.kubernetes.io/zone"},
	}, {
		name: "then it is the one with most usable nodes, and those of others are occupied",
		members: []*memberBuilder{
			member("m", 4, 4, "s").inOne(zoneKey, "").holds("s", 4).beside(2).grows(4, time.Minute, time.Minute).granted("s", time.Minute).begins(),
		},
		pools: []plan.Pool{pool("s", 10)},
		nodes: mixed(2, 3),
		want:  []string{"y: s: 4 reserved, 3 held, 2 occupied; WaitingForNodes"},
	}, {
		name: "of two with as many the first by name",
		members: []*memberBuilder{
			member("m", 4, 4, "s").inOne(zoneKey, "").holds("s", 4).beside(2).grows(4, time.Minute, time.Minute).granted("s", time.Minute).begins(),
		},
		pools: []plan.Pool{pool("s", 10)},
		nodes: mixed(2, 2),
		want:  []string{"x: s: 4 reserved, 2 held, 2 occupied; WaitingForNodes"},
	}, {
		name: "and it is kept, though another one has more by now",
		members: []*memberBuilder{
			member("m", 4, 4, "s").inOne(zoneKey, "x").holds("s", 4, "s-0").beside(5).grows(4, time.Minute, time.Minute).granted("s",
				time.Minute).begins(),
		},
		pools: []plan.Pool{pool("s", 10)},
		nodes: mixed(2, 5),
		want:  []string{"x: s: 4 reserved, 2 held, 5 occupied; WaitingForNodes"},
	}, {
		name:    "a gang without pods leaves the domain of a full pool that cannot serve it for another one of the pool",
		members: []*memberBuilder{member("m", 4, 6, "s").inOne(zoneKey, "y").holds("s", 4, "s-6").grows(6, time.Minute, 0)},
		pools:   []plan.Pool{pool("s", 7)},
		nodes:   mixed(6, 1),
		want:    []string{"x: s: 6 reserved, 6 held; resize to 6; Resizing"},
		says:    []string{"gave back 1 node: s-6"},
	}, {
		name:    "nodes without the label are of no use",
		members: []*memberBuilder{member("m", 2, 2, "s").inOne(zoneKey, "")},
		pools:   []plan.Pool{pool("s", 10)},
		nodes:   nodes("s", 0, 3),
		want:    []string{"s: 2 reserved, 0 held, 3 occupied; WaitingForNodes"},
	}, {
		name: "two members have different domains of one pool",
		members: []*memberBuilder{
			member("m", 2, 3, "s").inOne(zoneKey, "x").holds("s", 2, "s-0", "s-1").podsOn("s-0", "s-1"),
			member("n", 2, 3, "s").inOne(zoneKey, "y").holds("s", 2, "s-3", "s-4").podsOn("s-3", "s-4"),
		},
		pools: []plan.Pool{pool("s", 10)},
		nodes: mixed(3, 3),
		want:  []string{"x: s: 3 reserved, 3 held; resize to 3; Resizing", "y: s: 3 reserved, 3 held; resize to 3; Resizing"},
	}, {
		name: "and each finds the nodes of its own, though the first has looked at all of them",
		members: []*memberBuilder{
			member("m", 2, 5, "s").inOne(zoneKey, "x").holds("s", 2, "s-0", "s-1").podsOn("s-0", "s-1"),
			member("n", 2, 5, "s").inOne(zoneKey, "y").holds("s", 2, "s-3", "s-4").podsOn("s-3", "s-4"),
		},
		pools: []plan.Pool{pool("s", 12)},
		nodes: mixed(3, 3),
		want:  []string{"x: s: 5 reserved, 3 held; WaitingForNodes", "y: s: 5 reserved, 3 held; WaitingForNodes"},
	}, {
		name:    "pools that span domains help those of one that are too small, when no other domain has room",
		members: []*memberBuilder{member("m", 6, 6, "a", "s").inOne(zoneKey, "")},
		pools:   []plan.Pool{in(pool("a", 4), "x"), pool("s", 4)},
		want:    []string{"x: a: 4 reserved, 0 held; s: 2 reserved, 0 held; WaitingForNodes"},
	}, {
		name: "greedy takes the nodes of its domain as they come, and no others",
		members: []*memberBuilder{member("m", 2, 8, "s").inOne(zoneKey, "x").holds("s", 8, "s-0", "s-1").beside(3).podsOn("s-0", "s-1").grows(8,
			time.Minute, time.Minute).
			granted("s", time.Minute).takes(v1alpha1.GrowthGreedy, v1alpha1.PlacementSpan)},
		pools: []plan.Pool{pool("s", 10)},
		nodes: mixed(4, 3),
		want:  []string{"x: s: 8 reserved, 4 held, 3 occupied; resize to 4; WaitingForNodes"},
	}, {
		name: "best effort takes what its domain had when the time is over",
		members: []*memberBuilder{member("m", 2, 8, "a", "b").inOne(zoneKey, "x").holds("a", 8, names("a", 0, 5)...).podsOn(two...).grows(8,
			time.Hour, -time.Second).
			granted("a", time.Hour).takes(v1alpha1.GrowthBestEffort, v1alpha1.PlacementSpan)},
		pools: zoned,
		nodes: at(nodes("a", 0, 5), "x"),
		want:  []string{"x: a: 5 reserved, 5 held; resize to 5; BackingOff"},
	}, {
		name:    "the domain of a former key does not matter",
		members: []*memberBuilder{member("m", 2, 2, "a", "b").inOne("example.com/rack", "y").inOne(zoneKey, "")},
		pools:   zoned,
		want:    []string{"x: a: 2 reserved, 0 held; WaitingForNodes"},
	}, {
		name: "a gang that waits for room in two domains keeps nothing that was free before in either",
		members: []*memberBuilder{
			member("first", 8, 8, "a", "b").inOne(zoneKey, "").grows(8, time.Hour, 0),
			member("second", 1, 2, "b").holds("b", 1, "b-0").podsOn("b-0").grows(2, time.Minute, 0),
			member("third", 4, 4, "a").holds("a", 4, names("a", 0, 4)...).podsOn(names("a", 0, 4)...),
			member("fourth", 4, 4, "b").holds("b", 4, names("b", 1, 5)...).podsOn(names("b", 1, 5)...),
		},
		pools: zoned,
		nodes: slices.Concat(at(nodes("a", 0, 4), "x"), at(nodes("b", 0, 5), "y")),
		want: []string{
			"PoolFull", "b: 2 reserved, 1 held; WaitingForNodes", "a: 4 reserved, 4 held; Ready", "b: 4 reserved, 4 held; Ready",
		},
	}}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			observed := plan.Observed{Pools: tc.pools, Nodes: tc.nodes}
			for _, m := range tc.members {
				observed.Members = append(observed.Members, m.Member)
			}
			slices.SortFunc(observed.Members, func(a, b plan.Member) int { return strings.Compare(a.Key.Name, b.Key.Name) })
			decisions := plan.Plan(observed, noon)
			byName := map[string]plan.Decision{}
			for _, d := range decisions.Members {
				byName[d.Key.Name] = d
			}
			var got []string
			for _, m := range tc.members {
				d := byName[m.Key.Name]
				domain := strings.TrimPrefix(d.TopologyDomain, zoneKey+"=")
				if domain != "" {
					domain += ": "
				}
				got = append(got, domain+summary(d))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("decisions (-want +got):\n%s", diff)
			}
			said := words(byName[tc.members[0].Key.Name])
			for _, text := range tc.says {
				if !strings.Contains(said, text) {
					t.Errorf("nothing says %q; said:\n%s", text, said)
				}
			}
			for i := range observed.Members {
				m, d := &observed.Members[i], byName[observed.Members[i].Key.Name]
				m.Reservations, m.Growth, m.TopologyDomain = d.Reservations, d.Growth, d.TopologyDomain
				m.Size = max(m.Size, d.Resize)
			}
			for _, d := range plan.Plan(observed, noon).Members {
				if len(d.Notes) > 0 || d.Resize != 0 {
					t.Errorf("planned again at the same time, %s is resized to %d and told of %+v", d.Key.Name, d.Resize, d.Notes)
				}
			}
		})
	}
}

// TestPlanChoosesTheDomainAnewForEachAttempt: what was recorded ends with the attempt, so that the next one begins with the
// first pool again.
func TestPlanChoosesTheDomainAnewForEachAttempt(t *testing.T) {
	t.Parallel()
	m := member("m", 4, 4, "a", "b").inOne(zoneKey, "y").holds("b", 4, "b-0").grows(4, time.Hour, -time.Second).granted("b",
		time.Hour).begins()
	m = m.failed("a", v1alpha1.ReasonOutOfStock)
	observed := plan.Observed{
		Members: []plan.Member{m.Member}, Pools: []plan.Pool{in(pool("a", 10), "x"), in(pool("b", 10), "y")}, Nodes: at(nodes("b", 0, 1), "y"),
	}
	d := plan.Plan(observed, noon).Members[0]
	if got := summary(d); got != "BackingOff" || d.TopologyDomain != "" {
		t.Fatalf("after the last pool: %s, in %q; want that it holds nothing and is in no domain", got, d.TopologyDomain)
	}
	observed.Members[0].Reservations, observed.Members[0].Growth, observed.Members[0].TopologyDomain = d.Reservations, d.Growth,
		d.TopologyDomain
	d = plan.Plan(observed, d.Growth.RetryAfter.Time).Members[0]
	if got := summary(d); got != "a: 4 reserved, 0 held; WaitingForNodes" || d.TopologyDomain != zoneKey+"=x" {
		t.Errorf("the next attempt: %s, in %q; want it in the first pool's", got, d.TopologyDomain)
	}
}
