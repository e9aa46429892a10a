package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// withoutPods says which ranks have no pod, and what the Job says of that.
func (b *memberBuilder) withoutPods(words string, ranks ...int32) *memberBuilder {
	b.Lacking, b.NotMade = ranks, words
	return b
}

// lackedFor records since when pods have been lacking, for how many of them nodes were given back, and how often.
func (b *memberBuilder) lackedFor(ago time.Duration, pods, givenBack, attempts int32) *memberBuilder {
	b.PodsLacking = &v1alpha1.PodsLacking{Since: microTime(noon.Add(-ago)), Pods: pods, GivenBack: givenBack, Attempts: attempts}
	return b
}

// written says that somebody else than the controller wrote the size.
func (b *memberBuilder) written() *memberBuilder { b.SizeGiven = true; return b }

// waitsForPods records a growth that is tried again some time after noon because its pods did not come.
func (b *memberBuilder) waitsForPods(from, size, attempts int32, retry time.Duration) *memberBuilder {
	at := microTime(noon.Add(retry))
	b.Growth = &v1alpha1.Growth{
		From: from, Served: from, Size: size, Since: microTime(noon.Add(-time.Hour)), Attempts: attempts, RetryAfter: &at,
	}
	return b.failed("a", v1alpha1.ReasonPodsNotMade)
}

func TestPods(t *testing.T) {
	t.Parallel()
	const quota = "exceeded quota: q"
	five := names("a", 0, 5)
	for name, row := range map[string]struct {
		member *memberBuilder
		// nodes is how many nodes of the pool there are.
		nodes int
		want  string
		says  []string
		// lacks is what is recorded of pods that lack: pods, those given back, attempts.
		lacks []int32
		// running is the number of pods that the status tells.
		running int32
	}{
		"a member whose pods all run is ready": {
			member: member("m", 5, 5, "a").holds("a", 5, five...).podsOn(five...), nodes: 5,
			want: "a: 5 reserved, 5 held; Ready", says: []string{"5 pods run"}, running: 5,
		},
		"one whose pods are on their way is not": {
			member: member("m", 5, 5, "a").holds("a", 5, five...).podsOn("a-0", "a-1").gated(2, 3, 4), nodes: 5,
			want: "a: 5 reserved, 5 held; PodsStarting", says: []string{"2 of 5 pods run"}, running: 2,
		},
		"nor one whose pods are bound and do not start, which keep their nodes": {
			member: func() *memberBuilder {
				b := member("m", 2, 2, "a").holds("a", 2, "a-0", "a-1").podsOn("a-0", "a-1")
				b.Running, b.NotStarted = 1, "1 pod does not start: ImagePullBackOff: no such image"
				return b
			}(), nodes: 2,
			want: "a: 2 reserved, 2 held; PodsNotStarted", says: []string{
				"1 of 2 pods run; 1 pod does not start: ImagePullBackOff: no such image",
			}, running: 1,
		},
		"pods that do not exist are told with the Job's own words, and have time": {
			member: member("m", 5, 5, "a").holds("a", 5, five...).podsOn("a-0", "a-1").withoutPods(quota, 2, 3, 4), nodes: 5,
			want:  "a: 5 reserved, 5 held; PodsNotMade",
			says:  []string{"3 of 5 pods are not made: exceeded quota: q; their nodes are given back at 2026-11-23T12:10:00Z"},
			lacks: []int32{3, 0, 0}, running: 2,
		},
		"without a reason they are on their way": {
			member: member("m", 5, 5, "a").holds("a", 5, five...).podsOn("a-0", "a-1").withoutPods("", 2, 3, 4).lackedFor(time.Minute, 3, 0, 0),
			nodes:  5,
			want:   "a: 5 reserved, 5 held; PodsStarting", lacks: []int32{3, 0, 0}, running: 2,
		},
		"nothing is given back while a node of the size is missing": {
			member: member("m", 5, 5, "a").holds("a", 5, five...).podsOn("a-0").withoutPods(quota, 1, 2, 3, 4).lackedFor(time.Hour, 4, 0, 0),
			nodes:  4,
			want:   "a: 5 reserved, 4 held; WaitingForNodes", lacks: []int32{4, 0, 0}, running: 1,
		},
		"then a size that the controller wrote goes back to what has pods": {
			member: member("m", 5, 5, "a").holds("a", 5, five...).podsOn("a-0", "a-1").withoutPods(quota, 2, 3, 4).lackedFor(10*time.Minute, 3, 0,
				0), nodes: 5,
			want: "a: 2 reserved, 2 held; resize to 2; BackingOff",
			says: []string{"3 of 5 pods are not made: exceeded quota: q, and there were nodes for all since 2026-11-23T11:50:00Z; the nodes that " +
				"no pod uses are given back; attempt 2 is at 2026-11-23T12:01:00Z",
				"3 of 5 pods are not made: exceeded quota: q; attempt 2 for size 5 is at 2026-11-23T12:01:00Z",
				"resizing the MiniCluster from 5 to 2, which has pods", "gave back 3 nodes: a-2, a-3, a-4"},
			lacks: []int32{0, 0, 1}, running: 2,
		},
		"of a greedy member too": {
			member: member("m", 5, 5, "a").takes(v1alpha1.GrowthGreedy, v1alpha1.PlacementSpan).
				holds("a", 5, five...).podsOn("a-0", "a-1").withoutPods(quota, 2, 3, 4).lackedFor(10*time.Minute, 3, 0, 0), nodes: 5,
			want: "a: 2 reserved, 2 held; resize to 2; BackingOff", lacks: []int32{0, 0, 1}, running: 2,
		},
		"no rank leaves that is on a node": {
			member: member("m", 5, 5, "a").holds("a", 5, five...).pod(0, "a-0").pod(3, "a-3").withoutPods("", 1, 2, 4).lackedFor(10*time.Minute, 3,
				0, 0), nodes: 5,
			want: "a: 2 reserved, 2 held; resize to 4; PodsNotMade", says: []string{
				"gave back 3 nodes: a-1, a-2, a-4",
			}, lacks: []int32{2, 2, 1}, running: 2,
		},
		"not below minSize": {
			member: func() *memberBuilder {
				b := member("m", 5, 5, "a").holds("a", 5, five...).podsOn("a-0", "a-1").withoutPods(quota, 2, 3, 4).lackedFor(10*time.Minute, 3, 0, 0)
				b.MinSize = 3
				return b
			}(), nodes: 5,
			want: "a: 2 reserved, 2 held; resize to 3; PodsNotMade", lacks: []int32{1, 1, 1}, running: 2,
		},
		"nor below one": {
			member: member("m", 2, 2, "a").holds("a", 2, "a-0", "a-1").withoutPods("", 0, 1).lackedFor(10*time.Minute, 2, 0, 0), nodes: 2,
			want: "resize to 1; PodsNotMade", lacks: []int32{1, 1, 1},
		},
		"a size that somebody wrote stays, and claims nodes for the pods that exist": {
			member: member("m", 5, 5, "a").written().holds("a", 5, five...).podsOn("a-0", "a-1").withoutPods(quota, 2, 3,
				4).lackedFor(10*time.Minute, 3, 0, 0), nodes: 5,
			want: "a: 2 reserved, 2 held; PodsNotMade",
			says: []string{
				"3 of 5 pods are not made: exceeded quota: q; their nodes were given back", "asked for again when the pods exist",
				"gave back 3 nodes",
			},
			lacks: []int32{3, 3, 1}, running: 2,
		},
		"so it stays": {
			member: member("m", 5, 5, "a").written().holds("a", 2, "a-0", "a-1").podsOn("a-0", "a-1").withoutPods(quota, 2, 3,
				4).lackedFor(time.Hour, 3, 3, 1), nodes: 5,
			want: "a: 2 reserved, 2 held; PodsNotMade", lacks: []int32{3, 3, 1}, running: 2,
		},
		"a rank that dies then keeps its node, for as long as one that does not come": {
			member: member("m", 5, 5, "a").written().holds("a", 2, "a-0", "a-1").podsOn("a-0").withoutPods(quota, 1, 2, 3, 4).lackedFor(time.Hour, 3,
				3, 1), nodes: 2,
			want: "a: 2 reserved, 2 held; PodsNotMade", lacks: []int32{4, 3, 1}, running: 1,
		},
		"and one that comes gets one": {
			member: member("m", 5, 5, "a").written().holds("a", 2, "a-0", "a-1").podsOn("a-0", "a-1").gated(2).withoutPods(quota, 3,
				4).lackedFor(time.Hour, 3, 3, 1), nodes: 2,
			want: "a: 3 reserved, 2 held; WaitingForNodes", lacks: []int32{2, 2, 1}, running: 2,
		},
		"no growth is asked for while pods of the present size do not exist": {
			member: member("m", 5, 8, "a").written().holds("a", 2, "a-0", "a-1").podsOn("a-0", "a-1").withoutPods(quota, 2, 3,
				4).lackedFor(time.Hour, 3, 3, 1), nodes: 2,
			want: "a: 2 reserved, 2 held; PodsNotMade", says: []string{
				"size 8 is asked for when all pods of size 5 exist: 3 of 5 pods are not made: exceeded quota: q",
			},
			lacks: []int32{3, 3, 1}, running: 2,
		},
		"when all pods are there it is forgotten": {
			member: member("m", 5, 5, "a").holds("a", 5, five...).podsOn(five...).lackedFor(time.Hour, 3, 3, 1), nodes: 5,
			want: "a: 5 reserved, 5 held; Ready", running: 5,
		},
		"a growth whose pods did not come waits": {
			member: member("m", 2, 5, "a").holds("a", 2, "a-0", "a-1").podsOn("a-0", "a-1").waitsForPods(2, 5, 3, time.Minute).lackedFor(time.Hour,
				0, 0, 3), nodes: 5,
			want: "a: 2 reserved, 2 held; BackingOff", lacks: []int32{0, 0, 3}, running: 2,
		},
		"also when more is asked for meanwhile": {
			member: member("m", 2, 8, "a").holds("a", 2, "a-0", "a-1").podsOn("a-0", "a-1").waitsForPods(2, 5, 3, time.Minute).lackedFor(time.Hour,
				0, 0, 3), nodes: 5,
			want: "a: 2 reserved, 2 held; BackingOff", says: []string{"for size 8 is at"}, lacks: []int32{0, 0, 3}, running: 2,
		},
		"and is tried again, nodes first": {
			member: member("m", 2, 5, "a").holds("a", 2, "a-0", "a-1").podsOn("a-0", "a-1").waitsForPods(2, 5, 3, 0).lackedFor(time.Hour, 0, 0, 3),
			nodes:  2,
			want:   "a: 5 reserved, 2 held; WaitingForNodes", lacks: []int32{0, 0, 3}, running: 2,
		},
		"what was to go back goes back in the next pass where that could not be written": {
			member: member("m", 5, 5, "a").holds("a", 2, "a-0", "a-1").podsOn("a-0", "a-1").withoutPods(quota, 2, 3, 4).waitsForPods(2, 5, 1,
				time.Minute).lackedFor(time.Hour, 0, 0, 1), nodes: 2,
			want: "a: 2 reserved, 2 held; resize to 2; BackingOff", lacks: []int32{0, 0, 1}, running: 2,
		},
		"and stays where the pods have come meanwhile": {
			member: member("m", 5, 5, "a").holds("a", 2, "a-0", "a-1").podsOn("a-0", "a-1").gated(2, 3, 4).waitsForPods(2, 5, 1,
				time.Minute).lackedFor(time.Hour, 0, 0, 1), nodes: 2,
			want: "a: 5 reserved, 2 held; WaitingForNodes", running: 2,
		},
		"ranks that have succeeded need no nodes and count as running": {
			member: func() *memberBuilder {
				b := member("m", 5, 5, "a").holds("a", 5, five...).pod(0, "a-0").pod(2, "a-2").pod(4, "a-4")
				b.Succeeded = []int32{3, 1, 3}
				return b
			}(), nodes: 5,
			want: "a: 3 reserved, 3 held; Ready", says: []string{"3 pods run, and 2 succeeded", "gave back 2 nodes: a-1, a-3"}, running: 5,
		},
		"a growth beside them asks for what it needs": {
			member: func() *memberBuilder {
				b := member("m", 3, 5, "a").holds("a", 1, "a-0").pod(0, "a-0")
				b.Succeeded = []int32{1, 2}
				return b
			}(), nodes: 1,
			want: "a: 3 reserved, 1 held; WaitingForNodes", running: 3,
		},
		"one that finds no room does not grow by the nodes of those that have succeeded": {
			member: func() *memberBuilder {
				b := member("m", 3, 12, "a").holds("a", 3, "a-0", "a-1", "a-2").pod(1, "a-1").pod(2, "a-2").grows(12, time.Minute, 0).granted("a",
					time.Hour).served(3)
				b.Succeeded = []int32{0}
				return b
			}(), nodes: 3,
			want: "a: 2 reserved, 2 held; PoolTooSmall", running: 3,
		},
		"a suspended member claims nothing and keeps nodes until its pods have left": {
			member: member("m", 5, 8, "a").is(plan.Suspended).holds("a", 8, names("a", 0, 8)...).podsOn("a-0").grows(8, time.Minute,
				time.Minute).granted("a", time.Minute), nodes: 8,
			want: "a: 0 reserved, 1 held; Suspended",
			says: []string{
				"the Job of the MiniCluster is suspended; it claims no nodes until it is resumed; pods have still to leave 1 node",
			}, running: 1,
		},
		"resumed, its pods are a new gang": {
			member: member("m", 3, 3, "a").holds("a", 0, "a-0").gated(0, 1, 2), nodes: 2,
			want: "a: 3 reserved, 2 held; WaitingForNodes",
		},
		"also those beside some that have succeeded": {
			member: func() *memberBuilder {
				b := member("m", 5, 5, "a").gated(0, 1, 2)
				b.Succeeded = []int32{3, 4}
				return b
			}(), nodes: 2,
			want: "a: 3 reserved, 2 held; WaitingForNodes", running: 2,
		},
		"a MiniCluster that cannot be read keeps what it has and gets nothing more": {
			member: func() *memberBuilder {
				b := member("m", 3, 9, "a").holds("a", 5, "a-0", "a-1").podsOn("a-0", "a-1").gated(2).grows(8, time.Hour, -time.Minute).granted("a",
					time.Hour).served(2)
				b.Invalid = "spec.containers[0].resources: cannot be read"
				return b
			}(), nodes: 8,
			want: "a: 5 reserved, 5 held; Invalid",
			says: []string{"what the member has stays as it is: spec.containers[0].resources: cannot be read"}, running: 2,
		},
		"nor does it become smaller": {
			member: func() *memberBuilder {
				b := member("m", 3, 1, "a").holds("a", 3, names("a", 0, 3)...).podsOn("a-0").withoutPods(quota, 1, 2).lackedFor(time.Hour, 2, 0, 0)
				b.Invalid = "spec: cannot be read"
				return b
			}(), nodes: 3,
			want: "a: 3 reserved, 3 held; Invalid", lacks: []int32{2, 0, 0}, running: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			observed := plan.Observed{Members: []plan.Member{row.member.Member}, Pools: []plan.Pool{pool("a", 10)}, Nodes: nodes("a", 0, row.nodes)}
			d := plan.Plan(observed, noon).Members[0]
			if diff := cmp.Diff(row.want, summary(d)); diff != "" {
				t.Errorf("decision (-want +got):\n%s\n%s", diff, words(d))
			}
			for _, text := range row.says {
				if said := words(d); !strings.Contains(said, text) {
					t.Errorf("nothing says %q; said:\n%s", text, said)
				}
			}
			var lacks []int32
			if l := d.PodsLacking; l != nil {
				lacks = []int32{l.Pods, l.GivenBack, l.Attempts}
			}
			if diff := cmp.Diff(row.lacks, lacks); diff != "" {
				t.Errorf("what is recorded of pods that lack (-want +got):\n%s", diff)
			}
			if row.member.Invalid != "" && !cmp.Equal(row.member.Growth, d.Growth) {
				t.Errorf("a growth of what cannot be read was %+v and is %+v", row.member.Growth, d.Growth)
			}
			if d.Running != row.running {
				t.Errorf("%d pods are told to run, want %d", d.Running, row.running)
			}
			again := written(row.member.Member, d)
			if again.Size != row.member.Size {
				// The Job follows.
				again.Lacking = nil
				for _, rank := range row.member.Lacking {
					if rank < again.Size {
						again.Lacking = append(again.Lacking, rank)
					}
				}
			}
			observed.Members[0] = again
			if second := plan.Plan(observed, noon).Members[0]; len(second.Notes) > 0 || second.Resize != 0 {
				t.Errorf("planned again, it does something still: %+v, resize to %d", second.Notes, second.Resize)
			}
		})
	}
}

// written is a member after a decision has been written.
func written(m plan.Member, d plan.Decision) plan.Member {
	m.Reservations, m.Growth, m.TopologyDomain, m.Avoided, m.PodsLacking = d.Reservations, d.Growth, d.TopologyDomain, d.Avoided, d.PodsLacking
	m.Findings = d.Findings
	m.FormerSize = m.Size
	if d.Resize != 0 {
		m.Size, m.SizeGiven = d.Resize, false
	}
	return m
}

// TestPodsThatDoNotComeAreTriedAgainLater follows a growth to five with a quota of two, until the quota is raised.
func TestPodsThatDoNotComeAreTriedAgainLater(t *testing.T) {
	t.Parallel()
	made := int32(2)
	m := member("m", 2, 5, "a").holds("a", 2, "a-0", "a-1").podsOn("a-0", "a-1").Member
	p, now := pool("a", 10), noon
	p.ProvisionTimeout = 5 * time.Minute
	var tried []time.Duration
	for range 1000 {
		observed := plan.Observed{Members: []plan.Member{m}, Pools: []plan.Pool{p}, Nodes: nodes("a", 0, 5)}
		decisions := plan.Plan(observed, now)
		d := decisions.Members[0]
		if d.Resize > m.Size {
			tried = append(tried, now.Sub(noon))
		}
		changed := d.Resize != 0 || len(d.Notes) > 0
		m = written(m, d)
		m.Pods, m.Lacking, m.NotMade = nil, nil, "exceeded quota"
		m.Running = min(made, m.Size)
		for rank := range m.Size {
			if rank < made {
				m.Pods = append(m.Pods, plan.Pod{Index: rank, Node: names("a", 0, 5)[rank]})
			} else {
				m.Lacking = append(m.Lacking, rank)
			}
		}
		if changed {
			continue
		}
		if d.FirstUnmet() == v1alpha1.ConditionReady {
			if made < 5 || d.PodsLacking != nil {
				t.Fatalf("with %d pods it is ready and still knows of %+v", made, d.PodsLacking)
			}
			break
		}
		if !decisions.Next.After(now) {
			t.Fatalf("at %v the next pass is at %v: %+v", now, decisions.Next, d)
		}
		if now = decisions.Next; len(tried) == 5 {
			// The one after is the last.
			made = 5
		}
	}
	var want []time.Duration
	at := time.Duration(0)
	for _, wait := range []time.Duration{0, 1, 2, 4, 8, 10} {
		if wait > 0 {
			at += 5*time.Minute + wait*time.Minute
		}
		want = append(want, at)
	}
	if diff := cmp.Diff(want, tried); diff != "" {
		t.Errorf("tried at (-want +got):\n%s", diff)
	}
}
