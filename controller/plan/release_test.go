package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// gated says which ranks wait behind the scheduling gate.
func (b *memberBuilder) gated(ranks ...int32) *memberBuilder {
	b.Gated = ranks
	return b
}

// released puts a pod on its way to a node, where the scheduler has refused it for a while, or not.
func (b *memberBuilder) released(rank int32, node string, refused time.Duration) *memberBuilder {
	pod := plan.Pod{Index: rank, Node: node, Released: true}
	if refused > 0 {
		pod.RefusedSince = noon.Add(-refused)
	}
	b.Pods = append(b.Pods, pod)
	return b
}

// had records a size that was smaller until somebody wrote the present one into the MiniCluster.
func (b *memberBuilder) had(size int32) *memberBuilder {
	b.FormerSize, b.SizeGiven = size, true
	return b
}

// lacks records that the nodes of the present size are being waited for, of which a part was served before.
func (b *memberBuilder) lacks(served int32) *memberBuilder {
	return b.grows(b.Size, time.Minute, time.Minute).served(served)
}

// TestRelease says which pods may go where. An answer has rank:node for each, and -rank for those that are recreated.
func TestRelease(t *testing.T) {
	t.Parallel()
	four := names("a", 0, 4)
	for name, row := range map[string]struct {
		member *memberBuilder
		nodes  []plan.Node
		want   string
		says   string
	}{
		"the pods of a new MiniCluster wait while a node of its size is missing": {
			member: member("m", 4, 4, "a").holds("a", 4, names("a", 0, 3)...).lacks(0).gated(0, 1, 2, 3),
			nodes:  nodes("a", 0, 3),
		},
		"they are released together, the lead broker first": {
			member: member("m", 4, 4, "a").holds("a", 4, names("a", 0, 3)...).lacks(0).gated(3, 1, 0, 2),
			nodes:  nodes("a", 0, 4),
			want:   "0:a-0 1:a-1 2:a-2 3:a-3",
			says:   "released 4 pods of size 4 to 4 nodes, which are Ready",
		},
		"a greedy member's pods go as their nodes come": {
			member: member("m", 4, 4, "a").takes(v1alpha1.GrowthGreedy, v1alpha1.PlacementSpan).holds("a", 4, "a-0").lacks(0).gated(1, 0, 2, 3),
			nodes:  nodes("a", 0, 2),
			want:   "0:a-0 1:a-1",
		},
		"a release that was cut off goes on": {
			member: member("m", 4, 4, "a").holds("a", 4, four...).podsOn("a-0").released(1, "a-3", 0).gated(3, 2),
			nodes:  nodes("a", 0, 4),
			want:   "2:a-1 3:a-2",
		},
		"pods of a size that somebody wrote into the MiniCluster wait for all of its nodes": {
			member: member("m", 4, 4, "a").holds("a", 4, names("a", 0, 3)...).podsOn("a-0", "a-1").lacks(2).gated(2, 3),
			nodes:  nodes("a", 0, 3),
		},
		"so they do when the nodes that are claimed have room for them, and one is lost": {
			member: member("m", 5, 5, "a").shares(3, oneCore).had(4).holds("a", 2, "a-0").gated(3, 4),
			nodes:  nodes("a", 0, 1),
			want:   "3:a-0",
		},
		"so they do when a node of theirs still has a pod that is about to leave": {
			member: member("m", 3, 3, "a").had(1).holds("a", 4, names("a", 0, 4)...).podsOn("a-0").pod(5, "a-3").gated(1, 2),
			nodes:  occupy(nodes("a", 0, 4), "a-3"),
		},
		"a pod that has died gets its place back meanwhile": {
			member: member("m", 4, 4, "a").holds("a", 4, names("a", 0, 3)...).podsOn("a-0").lacks(2).gated(1, 2, 3),
			nodes:  nodes("a", 0, 3),
			want:   "1:a-1",
		},
		"a pod that has died gets its place back though another node is lost": {
			member: member("m", 4, 4, "a").holds("a", 4, four...).podsOn("a-0", "a-1").gated(2, 3),
			nodes:  nodes("a", 0, 3),
			want:   "2:a-2",
		},
		"a pod that has died gets its place back though more is asked for": {
			member: member("m", 6, 8, "a").holds("a", 6, names("a", 0, 6)...).podsOn(names("a", 0, 4)...).grows(8, time.Minute, 0).served(6).gated(4,
				5),
			nodes: nodes("a", 0, 5),
			want:  "4:a-4",
		},
		"pods that are about to leave stay where they are": {
			member: member("m", 2, 2, "a").holds("a", 2, "a-0", "a-1").podsOn("a-0").gated(1, 2, 3),
			nodes:  nodes("a", 0, 4),
			want:   "1:a-1",
		},
		"pods that a smaller desired size is about to take away stay behind the gate": {
			member: member("m", 4, 2, "a").holds("a", 4, names("a", 0, 3)...).podsOn("a-0").lacks(2).gated(1, 2, 3),
			nodes:  nodes("a", 0, 3),
			want:   "1:a-1",
		},
		"pods that share nodes fill one after the other": {
			member: member("m", 5, 5, "a").shares(3, oneCore).holds("a", 2, "a-0", "a-1").gated(0, 1, 2, 3, 4),
			nodes:  nodes("a", 0, 2),
			want:   "0:a-0 1:a-0 2:a-0 3:a-1 4:a-1",
		},
		"pods of a MiniCluster that is being deleted go nowhere": {
			member: member("m", 2, 2, "a").is(plan.Deleting).holds("a", 2, "a-0", "a-1").gated(0, 1),
			nodes:  nodes("a", 0, 2),
		},
		"a pod whose node is lost on its way is recreated, and its node is replaced": {
			member: member("m", 2, 2, "a").holds("a", 2, "a-0", "a-1").podsOn("a-0").released(1, "a-1", 0),
			nodes:  nodes("a", 0, 1),
			want:   "-1",
		},
		"a pod that the scheduler keeps off its node for long is recreated": {
			member: member("m", 2, 2, "a").holds("a", 2, "a-0", "a-1").podsOn("a-0").released(1, "a-1", time.Minute),
			nodes:  nodes("a", 0, 2),
			want:   "-1",
		},
		"a pod that the scheduler has kept off its node for a moment is waited for": {
			member: member("m", 2, 2, "a").holds("a", 2, "a-0", "a-1").podsOn("a-0").released(1, "a-1", time.Second),
			nodes:  nodes("a", 0, 2),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			decisions := plan.Plan(
				plan.Observed{Members: []plan.Member{row.member.Member}, Pools: []plan.Pool{pool("a", 10)}, Nodes: row.nodes}, noon,
			)
			d := decisions.Members[0]
			var got []string
			for _, a := range d.Release {
				got = append(got, fmt.Sprintf("%d:%s", a.Index, a.Node))
			}
			for _, s := range d.Recreate {
				got = append(got, fmt.Sprintf("-%d", s.Index))
			}
			if diff := cmp.Diff(row.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("unexpected releases (-want +got):\n%s", diff)
			}
			said := ""
			for _, n := range d.Notes {
				said += n.Message + "\n"
			}
			if !strings.Contains(said, row.says) {
				t.Errorf("it says %q, without %q", said, row.says)
			}
		})
	}
}

// TestRefusingNodesAreAvoided: a node that the scheduler has kept a pod off is given back and of no use to that member for a
// while, though it seems to have room; others may have it.
func TestRefusingNodesAreAvoided(t *testing.T) {
	t.Parallel()
	m := member("m", 1, 1, "a").holds("a", 1, "a-0").released(0, "a-0", time.Minute)
	observed := plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{pool("a", 10)}, Nodes: nodes("a", 0, 1)}
	d := plan.Plan(observed, noon).Members[0]
	if got, want := summary(d), "a: 1 reserved, 0 held, 1 occupied; WaitingForNodes"; got != want {
		t.Errorf("it decides %q, not %q", got, want)
	}
	if len(d.Avoided) != 1 || d.Avoided[0].Node != "a-0" || !d.Avoided[0].Until.Time.Equal(noon.Add(10*time.Minute)) {
		t.Errorf("it avoids %+v", d.Avoided)
	}
	m.Pods, m.Gated = nil, []int32{0}
	m.Reservations, m.Growth, m.Avoided = d.Reservations, d.Growth, d.Avoided
	other := member("n", 1, 1, "a").gated(0)
	observed.Members = []plan.Member{m.Member, other.Member}
	decisions := plan.Plan(observed, noon.Add(time.Second))
	if got, want := summary(decisions.Members[0]), "a: 1 reserved, 0 held; WaitingForNodes"; got != want {
		t.Errorf("afterwards it decides %q, not %q", got, want)
	}
	if want := []plan.Assignment{{Index: 0, Node: "a-0"}}; !cmp.Equal(decisions.Members[1].Release, want) {
		t.Errorf("another member's pod is released to %v, not to %v", decisions.Members[1].Release, want)
	}
	observed.Members = []plan.Member{m.Member}
	if d := plan.Plan(observed, noon.Add(10*time.Minute)).Members[0]; len(d.Avoided) != 0 || len(d.Release) != 1 {
		t.Errorf("after ten minutes it avoids %+v and releases %v", d.Avoided, d.Release)
	}
}

// TestRefusedPodsAreLookedAtAgain: nothing but time makes a refused pod one that is recreated.
func TestRefusedPodsAreLookedAtAgain(t *testing.T) {
	t.Parallel()
	m := member("m", 1, 1, "a").holds("a", 1, "a-0").released(0, "a-0", 10*time.Second)
	decisions := plan.Plan(plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{pool("a", 10)}, Nodes: nodes("a", 0, 1)}, noon)
	if want := noon.Add(20 * time.Second); !decisions.Next.Equal(want) {
		t.Errorf("the next pass is at %s, not at %s", decisions.Next, want)
	}
}

// TestNodesOfDeadPodsStay: when a size that somebody wrote into a MiniCluster cannot be had, the nodes of the former size stay,
// though the pod of one has died.
func TestNodesOfDeadPodsStay(t *testing.T) {
	t.Parallel()
	m := member("m", 5, 5, "a").holds("a", 5, names("a", 0, 2)...).podsOn("a-0").lacks(2).gated(1, 2, 3, 4)
	past := microTime(noon.Add(-time.Second))
	m.Growth.Deadline, m.Growth.GrantedAt = &past, &past
	d := plan.Plan(
		plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{pool("a", 10)}, Nodes: nodes("a", 0, 2)}, noon,
	).Members[0]
	if got, want := summary(d), "a: 2 reserved, 2 held; BackingOff"; got != want {
		t.Errorf("it decides %q, not %q", got, want)
	}
	if want := []plan.Assignment{{Index: 1, Node: "a-1"}}; !cmp.Equal(d.Release, want) {
		t.Errorf("it releases %v, not %v", d.Release, want)
	}
}

// TestGivenSizeStaysAGang: somebody writes the size that a growth is under way to, and a smaller desired size comes. The pods that
// stay wait for all of their nodes, though the controller has written that size itself.
func TestGivenSizeStaysAGang(t *testing.T) {
	t.Parallel()
	m := member("m", 5, 4, "a").had(5).holds("a", 5, names("a", 0, 3)...).podsOn("a-0", "a-1").grows(5, time.Minute, time.Minute).gated(2, 3,
		4)
	m.Growth.From, m.Growth.Served = 2, 2
	for _, want := range []string{
		"a: 5 reserved, 3 held; resize to 4; WaitingForNodes", "a: 4 reserved, 3 held; WaitingForNodes",
		"a: 4 reserved, 3 held; WaitingForNodes",
	} {
		d := plan.Plan(
			plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{pool("a", 10)}, Nodes: nodes("a", 0, 3)}, noon,
		).Members[0]
		if got := summary(d); got != want || d.Growth == nil || len(d.Release) > 0 {
			t.Errorf("it decides %q with growth %+v and releases %v, not %q", got, d.Growth, d.Release, want)
		}
		m.Reservations, m.Growth, m.FormerSize = d.Reservations, d.Growth, m.Size
		if d.Resize != 0 {
			m.Size, m.SizeGiven = d.Resize, false
		}
	}
}

// TestNodesThatAreThereStay: of a smaller desired size those nodes are kept that are there, and not a claim of one that is lost.
func TestNodesThatAreThereStay(t *testing.T) {
	t.Parallel()
	m := member("m", 2, 4, "a", "b").holds("a", 3, "a-0", "a-1").holds("b", 2, "b-0", "b-1").podsOn("a-0", "a-1").grows(5, time.Minute,
		time.Minute).granted("b", time.Minute)
	all := slices.Concat(nodes("a", 0, 2), nodes("b", 0, 2))
	d := plan.Plan(
		plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{pool("a", 10), pool("b", 10)}, Nodes: all}, noon,
	).Members[0]
	if got, want := summary(d), "a: 2 reserved, 2 held; b: 2 reserved, 2 held; resize to 4; Resizing"; got != want {
		t.Errorf("it decides %q, not %q", got, want)
	}
}

// TestNodesInUseAreNotMadeUpFor: a smaller desired size leaves a node over, which is given back though one that a pod is on is not
// Ready. The pods of the size that stays wait on.
func TestNodesInUseAreNotMadeUpFor(t *testing.T) {
	t.Parallel()
	m := member("m", 4, 4, "a").holds("a", 5, names("a", 0, 5)...).podsOn("a-0").grows(5, time.Minute, time.Minute).gated(1, 2, 3)
	m.Growth.Served = 1
	all := nodes("a", 0, 5)
	all[0].Ready = false
	d := plan.Plan(plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{pool("a", 10)}, Nodes: all}, noon).Members[0]
	if got, want := summary(d), "a: 4 reserved, 4 held; WaitingForNodes"; got != want || d.Growth == nil || len(d.Release) > 0 {
		t.Errorf("it decides %q with growth %+v and releases %v, not %q", got, d.Growth, d.Release, want)
	}
}

// TestServed: what has had its nodes is recorded, though the growth goes on to a larger size, and of that what has not left.
func TestServed(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		size, served int32
		held         int
		want         int32
	}{
		"a node is missing":      {size: 6, served: 4, held: 5, want: 4},
		"all nodes are there":    {size: 6, served: 4, held: 6, want: 6},
		"higher ranks have left": {size: 3, served: 4, held: 2, want: 3},
	} {
		m := member("m", row.size, 18, "a").holds("a", 6, names("a", 0, row.held)...).podsOn(names("a", 0, 2)...).grows(18, time.Minute,
			0).served(row.served)
		d := plan.Plan(
			plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{pool("a", 10)}, Nodes: nodes("a", 0, row.held)}, noon,
		).Members[0]
		if d.Growth == nil || d.Growth.Served != row.want {
			t.Errorf("%s: the growth is %+v, want %d served", name, d.Growth, row.want)
		}
	}
}
