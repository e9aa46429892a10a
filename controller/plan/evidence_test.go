package plan_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// labelled selects what has one label, by name and value: "zone=x".
type labelled string

func (l labelled) Matches(_ string, labels map[string]string) bool {
	key, value, _ := strings.Cut(string(l), "=")
	return labels[key] == value
}

func (l labelled) String() string { return string(l) }

// claim is a member of some pods of 3800m that waits for as many nodes of pool a, which were granted some time before noon.
func claim(size int32, ago time.Duration) *memberBuilder {
	b := member("m", size, size, "a", "b").holds("a", size).grows(size, ago, 10*time.Minute-ago).granted("a", ago).begins()
	b.PodRequests = plan.Resources{corev1.ResourceCPU: 3800, corev1.ResourcePods: 1}
	b.Claim = "m/1"
	return b
}

// came are nodes of pool a that registered a minute before noon, ordered for the claim.
func came(from, to int, change func(*plan.Node)) []plan.Node {
	list := nodes("a", from, to)
	for i := range list {
		list[i].CreatedAt, list[i].Order = noon.Add(-time.Minute), "m/1"
		if change != nil {
			change(&list[i])
		}
	}
	return list
}

// agentOn is a node on which a DaemonSet takes 500m.
func agentOn(n *plan.Node) {
	n.Daemons = plan.Resources{corev1.ResourceCPU: 500, corev1.ResourcePods: 1}
	n.Requested = n.Daemons
}

func smaller(n *plan.Node) {
	n.Allocatable = plan.Resources{corev1.ResourceCPU: 3500, corev1.ResourcePods: 110}
}

func tainted(n *plan.Node) {
	n.Taints = []corev1.Taint{{Key: "agent", Value: "starts", Effect: corev1.TaintEffectNoSchedule}}
}

func notReady(n *plan.Node) { n.Ready = false }

func aged(n *plan.Node) { n.CreatedAt = noon.Add(-11 * time.Minute) }

func all(changes ...func(*plan.Node)) func(*plan.Node) {
	return func(n *plan.Node) {
		for _, change := range changes {
			change(n)
		}
	}
}

// withAgent is a pool on whose nodes a DaemonSet takes 500m.
func withAgent(p plan.Pool) plan.Pool {
	p.Daemons = []plan.Daemon{{Name: "x/agent", Requests: plan.Resources{corev1.ResourceCPU: 500, corev1.ResourcePods: 1}}}
	return p
}

// TestNodesOfNoUse says what becomes of a claim of pods of 3800m in pool a, and then b, whose templates have 4 cores.
func TestNodesOfNoUse(t *testing.T) {
	t.Parallel()
	const waits = "a: 2 reserved, 0 held; WaitingForNodes"
	for name, row := range map[string]struct {
		member *memberBuilder
		pool   plan.Pool
		nodes  []plan.Node
		want   string
		// found is what the finding about a is to contain, none the whole of it otherwise; replaced the number that it has.
		found    string
		replaced int32
		says     string
	}{
		"one node that a DaemonSet has filled is enough": {
			nodes: came(0, 1, agentOn), pool: withAgent(pool("a", 30)),
			want:  "b: 2 reserved, 0 held; WaitingForNodes",
			found: "new nodes of a have 3500m of cpu left for a pod of 3800m: DaemonSet x/agent takes 500m",
			says:  "DaemonSet x/agent takes 500m; reserved 2 more nodes in b",
		},
		"so is one that a DaemonSet will fill whose pod has not come": {
			nodes: came(0, 1, nil), pool: withAgent(pool("a", 30)),
			want:  "b: 2 reserved, 0 held; WaitingForNodes",
			found: "DaemonSet x/agent takes 500m",
		},
		"and one with a DaemonSet that nobody knew of": {
			nodes: came(0, 1, agentOn),
			want:  "b: 2 reserved, 0 held; WaitingForNodes",
			found: "new nodes of a have 3500m of cpu left for a pod of 3800m: DaemonSets take 500m",
		},
		"nodes that are smaller than the template says are of no use when there are two": {
			nodes: came(0, 2, smaller),
			want:  "b: 2 reserved, 0 held; WaitingForNodes",
			found: "new nodes of a have 3500m of cpu left for a pod of 3800m: their allocatable is 3500m, the template says 4",
		},
		"a single one may be broken, and is replaced": {
			nodes: came(0, 1, smaller),
			want:  "a: 2 reserved, 0 held, 1 occupied; WaitingForNodes", replaced: 1,
		},
		"two smaller ones beside one that is of use are not those of the pool, and one of them is replaced": {
			member: claim(3, 2*time.Minute),
			nodes:  append(came(0, 2, smaller), came(2, 3, nil)...),
			want:   "a: 3 reserved, 1 held, 1 occupied; WaitingForNodes", replaced: 1,
			says: "nodes of a are of no use to it and no more are ordered in their place: a-0, a-1 too small for a pod",
		},
		"of a large claim a tenth is replaced": {
			member: claim(30, 2*time.Minute),
			nodes:  append(came(0, 9, smaller), came(9, 20, nil)...),
			want:   "a: 30 reserved, 11 held, 3 occupied; WaitingForNodes", replaced: 3,
		},
		"labels that the pods do not select": {
			member: func() *memberBuilder { b := claim(2, 2*time.Minute); b.Selects = labelled(zoneKey + "=x"); return b }(),
			pool:   in(pool("a", 30), "x"), nodes: at(came(0, 1, nil), "y"),
			want:  "BackingOff",
			found: "new nodes of a are not among those that the pods select by topology.kubernetes.io/zone=x: a-0 is not",
		},
		"labels that the node does not have yet are waited for": {
			member: func() *memberBuilder { b := claim(2, 2*time.Minute); b.Selects = labelled(zoneKey + "=x"); return b }(),
			pool:   in(pool("a", 30), "x"), nodes: came(0, 1, nil),
			want: waits,
		},
		"another zone than the template says": {
			member: claim(2, 2*time.Minute).inOne(zoneKey, "x"),
			pool:   in(pool("a", 30), "x"), nodes: at(came(0, 1, nil), "y"),
			want:  "b: 2 reserved, 0 held; WaitingForNodes",
			found: "new nodes of a are in topology.kubernetes.io/zone=y and the template says x: a-0 is",
		},
		"a node that is not Ready is coming": {nodes: came(0, 2, all(smaller, notReady)), want: waits},
		"so is one with a taint":             {nodes: came(0, 2, all(smaller, tainted)), want: waits},
		"so is one that has no devices yet": {
			member: func() *memberBuilder { b := claim(2, 2*time.Minute); b.PodRequests["gpu"] = 8; return b }(),
			pool: func() plan.Pool {
				p := pool("a", 30)
				p.Allocatable = plan.Resources{corev1.ResourceCPU: 4000, corev1.ResourcePods: 110, "gpu": 8}
				return p
			}(),
			nodes: came(0, 2, nil), want: waits,
		},
		"a taint that stays makes a node one that others have, of which one is replaced": {
			nodes: came(0, 2, all(tainted, aged)),
			want:  "a: 2 reserved, 0 held, 1 occupied; WaitingForNodes", replaced: 1,
			says: "no more are ordered in their place: a-0, a-1 tainted with agent",
		},
		"so does what is never Ready": {
			nodes: came(0, 2, all(notReady, aged)),
			want:  "a: 2 reserved, 0 held, 1 occupied; WaitingForNodes", replaced: 1,
			says: "a-0, a-1 not Ready",
		},
		"what others fill after the claim was granted is replaced once": {
			nodes: occupy(came(0, 3, nil), names("a", 0, 3)...),
			want:  "a: 2 reserved, 0 held, 1 occupied; WaitingForNodes", replaced: 1,
			says: "0 of 2 nodes are Ready in a; the others have until 2026-11-23T12:08:00Z; nodes of a are of no use to it and no more are " +
				"ordered in their place: " +
				"a-0, a-1, a-2 filled by other pods; a taint of its own in the template of a would keep other pods off",
		},
		"what they had filled before counts besides": {
			member: claim(2, 2*time.Minute).beside(2),
			nodes:  occupy(came(0, 4, nil), names("a", 0, 4)...),
			want:   "a: 2 reserved, 0 held, 3 occupied; WaitingForNodes", replaced: 1,
		},
		"empty nodes that came for others are evidence when there are two and none is of use": {
			member: member("m", 2, 2, "a", "b").needs(3800), nodes: nodesWith(nodes("a", 0, 2), smaller),
			want: "b: 2 reserved, 0 held; WaitingForNodes",
		},
		"one of them may be broken": {
			member: member("m", 2, 2, "a", "b").needs(3800), nodes: nodesWith(nodes("a", 0, 1), smaller),
			want: "a: 2 reserved, 0 held, 1 occupied; WaitingForNodes",
		},
		"a DaemonSet in the way is known before anything is bought": {
			member: member("m", 2, 2, "a", "b").needs(3800), pool: withAgent(pool("a", 30)),
			want: "b: 2 reserved, 0 held; WaitingForNodes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, a := row.member, row.pool
			if m == nil {
				m = claim(2, 2*time.Minute)
			}
			if a.Name == "" {
				a = pool("a", 30)
			}
			observed := plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{a, in(pool("b", 30), "x")}, Nodes: row.nodes}
			if m.Selects != nil {
				observed.Pools = observed.Pools[:1]
			}
			d := plan.Plan(observed, noon).Members[0]
			if got := summary(d); got != row.want {
				t.Errorf("it decides %q, not %q", got, row.want)
			}
			checkFinding(t, d, row.found, row.replaced)
			if said := words(d); !strings.Contains(said, row.says) {
				t.Errorf("nothing says %q; said:\n%s", row.says, said)
			}
			again := planAgain(observed, d)
			if len(again.Notes) > 0 || summary(again) != summary(d) || !cmp.Equal(again.Findings, d.Findings) || !cmp.Equal(
				again.Reservations, d.Reservations,
			) {
				t.Errorf("planned again it decides %q with %+v and %+v, and notes %+v", summary(again), again.Reservations, again.Findings, again.Notes)
			}
		})
	}
}

// planAgain plans, at the same time, on what a plan for a single member wrote.
func planAgain(observed plan.Observed, d plan.Decision) plan.Decision {
	observed.Members = []plan.Member{written(observed.Members[0], d)}
	return plan.Plan(observed, noon).Members[0]
}

func checkFinding(t *testing.T, d plan.Decision, unusable string, replaced int32) {
	t.Helper()
	switch {
	case unusable == "" && replaced == 0:
		if len(d.Findings) > 0 {
			t.Errorf("it has found %+v", d.Findings)
		}
	case len(d.Findings) != 1 || d.Findings[0].NodePool != "a" || d.Findings[0].Basis == "" || d.Findings[0].Replaced != replaced,
		unusable == "" && d.Findings[0].Unusable != "", !strings.Contains(d.Findings[0].Unusable, unusable):
		t.Errorf("it has found %+v, not %q of a with %d replaced", d.Findings, unusable, replaced)
	}
}

func nodesWith(list []plan.Node, change func(*plan.Node)) []plan.Node {
	for i := range list {
		change(&list[i])
	}
	return list
}

// needs says how much CPU a pod requests, in thousandths.
func (b *memberBuilder) needs(cpu int64) *memberBuilder {
	b.PodRequests = plan.Resources{corev1.ResourceCPU: cpu, corev1.ResourcePods: 1}
	return b
}

// TestAFindingStands: as long as what it rests on is the same, nothing is bought in the pool, whatever the time. It is forgotten when
// that changes, and when a node is seen that is of use.
func TestAFindingStands(t *testing.T) {
	t.Parallel()
	m := claim(2, 2*time.Minute)
	m.NodePools = []string{"a"}
	observed := plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{pool("a", 30)}, Nodes: came(0, 2, smaller)}
	d := plan.Plan(observed, noon).Members[0]
	if got, want := summary(d), "BackingOff"; got != want || d.Growth.Attempts != 1 ||
		d.Growth.Failures[0].Reason != v1alpha1.ReasonNodesUnusable {
		t.Fatalf("it decides %q with growth %+v, not %q", got, d.Growth, want)
	}
	observed.Members[0], observed.Nodes = written(m.Member, d), nil
	for _, later := range []time.Duration{time.Minute, time.Hour, 30 * 24 * time.Hour} {
		d := plan.Plan(observed, noon.Add(later)).Members[0]
		if got, want := summary(d), v1alpha1.ReasonNodesUnusable; got != want {
			t.Errorf("%s later it decides %q, not %q", later, got, want)
		}
		checkFinding(t, d, "their allocatable is 3500m", 0)
		observed.Members[0] = written(observed.Members[0], d)
	}
	for name, change := range map[string]func(*plan.Observed){
		"the pool's basis changes":  func(o *plan.Observed) { o.Pools[0].Basis = "other" },
		"the pods request less":     func(o *plan.Observed) { o.Members[0].PodRequests = plan.Resources{corev1.ResourceCPU: 3000} },
		"the pods select nodes":     func(o *plan.Observed) { o.Members[0].Selects = labelled("=") },
		"a node is of use":          func(o *plan.Observed) { o.Nodes = occupy(nodes("a", 7, 8), "a-7"); o.Nodes[0].CreatedAt = noon },
		"the pods tolerate a taint": func(o *plan.Observed) { o.Members[0].Tolerations = []corev1.Toleration{{Key: "x"}} },
	} {
		changed := plan.Observed{Members: []plan.Member{observed.Members[0]}, Pools: []plan.Pool{observed.Pools[0]}}
		change(&changed)
		d := plan.Plan(changed, noon.Add(31*24*time.Hour)).Members[0]
		if d.Reserved() != 2 || len(d.Findings) > 0 {
			t.Errorf("when %s it has reserved %d and found %+v", name, d.Reserved(), d.Findings)
		}
	}
	for name, change := range map[string]func(*plan.Member){
		"they are suspended":      func(m *plan.Member) { m.Lifecycle = plan.Suspended },
		"they are yet to be made": func(*plan.Member) {},
	} {
		m := observed.Members[0]
		m.PodRequests, m.Lacking = plan.Resources{corev1.ResourceCPU: 100}, []int32{0, 1}
		change(&m)
		d := plan.Plan(plan.Observed{Members: []plan.Member{m}, Pools: []plan.Pool{observed.Pools[0]}}, noon.Add(31*24*time.Hour)).Members[0]
		if d.Reserved() != 0 || len(d.Findings) != 1 {
			t.Errorf("without pods, as %s, it has reserved %d and found %+v", name, d.Reserved(), d.Findings)
		}
	}
	old := observed
	old.Nodes = occupy(nodes("a", 7, 8), "a-7")
	if d := plan.Plan(old, noon.Add(time.Hour)).Members[0]; d.Reserved() != 0 || len(d.Findings) != 1 {
		t.Errorf("for a node of before it has reserved %d and found %+v", d.Reserved(), d.Findings)
	}
}

// TestUnfinishedNodes: at its deadline a claim says what keeps its pods off the nodes that are Ready and might be of use later.
func TestUnfinishedNodes(t *testing.T) {
	t.Parallel()
	const gpu = "example.com/gpu"
	for name, row := range map[string]struct {
		change func(*plan.Node)
		says   string
	}{
		"taints":  {tainted, "; of those that are Ready, a-0, a-1 tainted with agent"},
		"devices": {nil, "; of those that are Ready, a-0, a-1 without devices that the template has"},
		"labels":  {nil, "; of those that are Ready, a-0, a-1 not selected by topology.kubernetes.io/zone=x"},
		"nothing": {notReady, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, p := claim(2, 9*time.Minute), pool("a", 30)
			m.NodePools = []string{"a"}
			switch name {
			case "devices":
				m.PodRequests = plan.Resources{gpu: 1}
				p.Allocatable = plan.Resources{gpu: 4}
			case "labels":
				m.Selects, p = labelled(zoneKey+"=x"), in(p, "x")
			}
			d := plan.Plan(
				plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{p}, Nodes: came(0, 2, row.change)}, noon.Add(time.Minute),
			).Members[0]
			if summary(d) != "BackingOff" || len(d.Growth.Failures) != 1 {
				t.Fatalf("at its deadline it decides %q with %+v", summary(d), d.Growth)
			}
			if got, want := d.Growth.Failures[0].Message, "0 of 2 nodes were Ready in a within its provisionTimeout"+row.says; got != want {
				t.Errorf("it says %q, not %q", got, want)
			}
		})
	}
}

// TestReplacementsAreCountedOverAllAttempts: what was replaced in one attempt is not replaced in the next. It is forgotten when pods of
// the member run on all nodes of the claim.
func TestReplacementsAreCountedOverAllAttempts(t *testing.T) {
	t.Parallel()
	m := claim(2, 2*time.Minute)
	m.NodePools = []string{"a"}
	observed := plan.Observed{
		Members: []plan.Member{m.Member}, Pools: []plan.Pool{pool("a", 30)}, Nodes: occupy(came(0, 2, nil), "a-0", "a-1"),
	}
	d := plan.Plan(observed, noon).Members[0]
	checkFinding(t, d, "", 1)
	observed.Members[0] = written(observed.Members[0], d)
	d = plan.Plan(observed, noon.Add(9*time.Minute)).Members[0]
	if got := summary(d); got != "BackingOff" || !strings.Contains(
		d.Growth.Failures[0].Message, "a-0, a-1 filled by other pods; a taint of its own",
	) {
		t.Fatalf("at its deadline it decides %q with %+v", got, d.Growth)
	}
	observed.Members[0], observed.Nodes = written(observed.Members[0], d), nil
	d = plan.Plan(observed, noon.Add(11*time.Minute)).Members[0]
	if got, want := summary(d), "a: 2 reserved, 0 held; WaitingForNodes"; got != want {
		t.Fatalf("at the next attempt it decides %q, not %q", got, want)
	}
	observed.Members[0] = written(observed.Members[0], d)
	observed.Nodes = nodesWith(occupy(nodes("a", 4, 6), "a-4", "a-5"), func(n *plan.Node) { n.CreatedAt = noon.Add(12 * time.Minute) })
	d = plan.Plan(observed, noon.Add(13*time.Minute)).Members[0]
	if got, want := summary(d), "a: 2 reserved, 0 held; WaitingForNodes"; got != want {
		t.Errorf("when others fill those too it decides %q, not %q", got, want)
	}
	checkFinding(t, d, "", 1)
	observed.Members[0] = written(observed.Members[0], d)
	observed.Nodes = append(observed.Nodes, nodes("a", 6, 8)...)
	observed.Members[0].Pods = []plan.Pod{{Index: 0, Node: "a-6"}, {Index: 1, Node: "a-7"}}
	// One of these is about to go, so it has yet to be replaced itself.
	observed.Nodes[len(observed.Nodes)-1].Leaving = true
	d = plan.Plan(observed, noon.Add(14*time.Minute)).Members[0]
	if got, want := d.Reservations[0].Occupied, d.Reservations[0].OccupiedAtGrant; got != want {
		t.Errorf("%d nodes are to be ordered beside the claim, not %d", got, want)
	}
	checkFinding(t, d, "", 1)
	observed.Nodes[len(observed.Nodes)-1].Leaving = false
	checkFinding(t, plan.Plan(observed, noon.Add(14*time.Minute)).Members[0], "", 0)
}

// TestWhatOthersFilledMeanwhile: a node of a claim that was met is lost, and others have come to the pool since it was granted. They
// are none of those that are replaced.
func TestWhatOthersFilledMeanwhile(t *testing.T) {
	t.Parallel()
	m := member("m", 2, 2, "a").holds("a", 2, "a-0", "a-1").podsOn("a-0")
	d := plan.Plan(plan.Observed{
		Members: []plan.Member{m.Member}, Pools: []plan.Pool{pool("a", 30)},
		Nodes: append(nodes("a", 0, 1), occupy(nodes("a", 2, 7), names("a", 2, 7)...)...),
	}, noon).Members[0]
	if got, want := summary(d), "a: 2 reserved, 1 held, 5 occupied; WaitingForNodes"; got != want {
		t.Errorf("it decides %q, not %q", got, want)
	}
	checkFinding(t, d, "", 0)
}

// TestRefusedOnASecondNode: the scheduler keeps pods off empty nodes. The first may be that node's failure, the second is the pool's.
func TestRefusedOnASecondNode(t *testing.T) {
	t.Parallel()
	pods := func(b *memberBuilder, ago time.Duration, on ...string) plan.Member {
		b.Pods = nil
		for i, name := range on {
			b.Pods = append(
				b.Pods,
				plan.Pod{
					Index: int32(i), Node: name, Released: true, RefusedSince: noon.Add(-ago), Refusal: "0/9 nodes are available: 9 have no volume",
				},
			)
		}
		return b.Member
	}
	m := member("m", 2, 2, "a").holds("a", 2, "a-0", "a-1")
	observed := plan.Observed{
		Members: []plan.Member{pods(m, time.Minute, "a-0", "a-1")}, Pools: []plan.Pool{pool("a", 30)}, Nodes: nodes("a", 0, 2),
	}
	d := plan.Plan(observed, noon).Members[0]
	said := "the scheduler has kept pods off two empty nodes of a, a-0 and a-1, which is asked again at 2026-11-23T13:00:00Z: 0/9 nodes are " +
		"available: 9 have no volume"
	if got, want := summary(d), v1alpha1.ReasonNodesUnusable; got != want || !strings.Contains(words(d), said) {
		t.Errorf("it decides %q, not %q, and says\n%s", got, want, words(d))
	}
	checkFinding(t, d, said, 0)
	if len(d.Recreate) != 2 || !strings.HasSuffix(d.Recreate[0].Why, "0/9 nodes are available: 9 have no volume") {
		t.Errorf("pods are deleted to be made again:  %+v", d.Recreate)
	}
	observed.Members[0] = written(observed.Members[0], d)
	if again := plan.Plan(observed, noon).Members[0]; len(again.Notes) > 0 || !cmp.Equal(again.Findings, d.Findings) {
		t.Errorf("planned again it notes %+v and has found %+v", again.Notes, again.Findings)
	}
	observed.Members[0].Pods, observed.Members[0].Gated = nil, []int32{0, 1}
	if decisions := plan.Plan(
		observed, noon.Add(59*time.Minute),
	); decisions.Members[0].Reserved() != 0 || !decisions.Next.Equal(noon.Add(time.Hour)) {
		t.Errorf("after 59 minutes it has reserved %d, and the next pass is at %s", decisions.Members[0].Reserved(), decisions.Next)
	}
	if d := plan.Plan(observed, noon.Add(time.Hour)).Members[0]; d.Reserved() != 2 || len(d.Findings) != 0 {
		t.Errorf("after an hour it has reserved %d and found %+v", d.Reserved(), d.Findings)
	}

	// On one node, then on another one, once they are no longer avoided.
	observed.Members[0] = pods(member("m", 2, 2, "a").holds("a", 2, "a-0", "a-1"), time.Minute, "a-0")
	d = plan.Plan(observed, noon).Members[0]
	if len(d.Findings) != 1 || d.Findings[0].Refused != "a-0" || d.Findings[0].Unusable != "" {
		t.Fatalf("after a refusal it has found %+v", d.Findings)
	}
	observed.Members[0] = written(observed.Members[0], d)
	observed.Members[0].Pods[0].Node = "a-1"
	if d := plan.Plan(observed, noon).Members[0]; len(d.Findings) != 1 || d.Findings[0].Unusable == "" {
		t.Errorf("after a second one it has found %+v", d.Findings)
	}
	// A node that others have pods on may have refused it for their sake.
	observed.Nodes[1].Requested = plan.Resources{corev1.ResourceCPU: 4000, corev1.ResourcePods: 2}
	if d := plan.Plan(observed, noon).Members[0]; len(d.Findings) != 1 || d.Findings[0].Unusable != "" {
		t.Errorf("after one on a node that is not empty it has found %+v", d.Findings)
	}
}

// TestRefusals: what a pool's own spec says against the pods of a member.
func TestRefusals(t *testing.T) {
	t.Parallel()
	with := func(change func(*plan.Member, *plan.Pool)) (plan.Member, plan.Pool) {
		m, p := member("m", 2, 2, "a").Member, withAgent(in(pool("a", 10), "x"))
		m.NamespaceLabels = map[string]string{"team": "red"}
		change(&m, &p)
		return m, p
	}
	for name, row := range map[string]struct {
		change       func(*plan.Member, *plan.Pool)
		reason, says string
	}{
		"none": {func(*plan.Member, *plan.Pool) {}, "", ""},
		"a namespace": {func(_ *plan.Member, p *plan.Pool) { p.AllowedNamespaces = labelled("team=blue") },
			v1alpha1.ReasonNamespaceNotAllowed, "a has nodes for namespaces with team=blue alone, and default is none of them"},
		"no namespace": {func(_ *plan.Member, p *plan.Pool) { p.AllowedNamespaces = labelled("team=red") }, "", ""},
		"a selector": {func(m *plan.Member, _ *plan.Pool) { m.Selects = labelled(zoneKey + "=y") },
			v1alpha1.ReasonNotSelected, "the pods select nodes by topology.kubernetes.io/zone=y, and those of a are not among them"},
		"no selector": {func(m *plan.Member, _ *plan.Pool) { m.Selects = labelled(zoneKey + "=x") }, "", ""},
		"a DaemonSet": {func(m *plan.Member, _ *plan.Pool) { m.PodRequests = plan.Resources{corev1.ResourceCPU: 3800} },
			v1alpha1.ReasonPodTooLarge, "a pod requests 3800m of cpu and an empty node of a offers 3500m: DaemonSet x/agent takes 500m"},
		"two DaemonSets": {func(m *plan.Member, p *plan.Pool) {
			m.PodRequests = plan.Resources{corev1.ResourceCPU: 3800}
			p.Daemons = append(p.Daemons, plan.Daemon{Name: "x/log", Requests: plan.Resources{corev1.ResourceCPU: 100}})
		}, v1alpha1.ReasonPodTooLarge, "offers 3400m: DaemonSets take 600m: x/agent takes 500m, x/log takes 100m"},
		"huge pages": {func(m *plan.Member, _ *plan.Pool) {
			m.PodRequests = plan.Resources{corev1.ResourceHugePagesPrefix + "2Mi": 5120 << 20}
		}, v1alpha1.ReasonPodTooLarge, "a pod requests 5Gi of hugepages-2Mi and an empty node of a offers 0"},
		"pods that share more than there is": {func(m *plan.Member, _ *plan.Pool) {
			m.PodsPerNode, m.PodRequests = 2, plan.Resources{corev1.ResourceMemory: 1 << 62}
		}, v1alpha1.ReasonPodTooLarge, "2 pods that share a node request"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, p := with(row.change)
			if reason, why := plan.Refusal(&m, &p); reason != row.reason || !strings.Contains(why, row.says) || (why == "") != (row.says == "") {
				t.Errorf("it is refused for %q: %q, not for %q: %q", reason, why, row.reason, row.says)
			}
			d := plan.Plan(plan.Observed{Members: []plan.Member{m}, Pools: []plan.Pool{p}}, noon).Members[0]
			if reason, reserved := conditionOf(
				d, v1alpha1.ConditionCapacityReserved,
			); (row.reason != "" && reason != row.reason) || reserved != (row.reason == "") {
				t.Errorf("the plan says %s, not %s", reason, row.reason)
			}
			if holds := plan.Holds(&m, []plan.Pool{p}); (holds == 0) != (row.reason != "") {
				t.Errorf("it holds %d", holds)
			}
		})
	}
	m, p := with(func(m *plan.Member, _ *plan.Pool) { m.Selects = labelled(zoneKey + "=y") })
	d := plan.Plan(plan.Observed{Members: []plan.Member{m}, Pools: []plan.Pool{p}, Nodes: at(nodes("a", 0, 1), "y")}, noon).Members[0]
	if d.Reserved() != 2 {
		t.Errorf("%d nodes are reserved in a pool with a node that is selected though its template is not", d.Reserved())
	}
}

// TestWhatIsHeldStaysWhoeverMayHaveMore: a pool that does not allow a namespace any more takes nothing away.
func TestWhatIsHeldStaysWhoeverMayHaveMore(t *testing.T) {
	t.Parallel()
	p := pool("a", 10)
	p.AllowedNamespaces = labelled("team=blue")
	m := member("m", 3, 4, "a").holds("a", 3, "a-0", "a-1").podsOn("a-0", "a-1")
	d := plan.Plan(plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{p}, Nodes: nodes("a", 0, 2)}, noon).Members[0]
	if got, want := summary(d), "a: 3 reserved, 2 held; NamespaceNotAllowed"; got != want {
		t.Errorf("it decides %q, not %q", got, want)
	}
}

// TestDaemonsTakeRoom: pods that share nodes are as many as fit beside those of DaemonSets, also where these have not come yet.
func TestDaemonsTakeRoom(t *testing.T) {
	t.Parallel()
	m := member("m", 4, 4, "a").shares(plan.Auto, oneCore)
	a := withAgent(pool("a", 10))
	d := plan.Plan(plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{a}}, noon).Members[0]
	if d.Reserved() != 2 {
		t.Errorf("%d nodes are reserved for 4 pods of which 3 fit a node", d.Reserved())
	}
	young := nodesWith(nodes("a", 0, 1), func(n *plan.Node) { n.CreatedAt = noon })
	m = member("m", 4, 4, "a").shares(4, oneCore).holds("a", 1, "a-0").gated(0, 1, 2, 3).takes(v1alpha1.GrowthGreedy, v1alpha1.PlacementSpan)
	for _, row := range []struct {
		nodes []plan.Node
		want  int
	}{{young, 3}, {nodes("a", 0, 1), 4}} {
		d = plan.Plan(plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{a}, Nodes: row.nodes}, noon).Members[0]
		if len(d.Release) != row.want {
			t.Errorf("%d pods of a core are released to a node of four, want %d", len(d.Release), row.want)
		}
	}
}

// TestAmountsDoNotOverflow: what is more than an int64 has is the most that it has.
func TestAmountsDoNotOverflow(t *testing.T) {
	t.Parallel()
	sum := plan.Resources{corev1.ResourceMemory: math.MaxInt64}
	sum.Add(plan.Resources{corev1.ResourceMemory: math.MaxInt64, corev1.ResourceCPU: 1})
	if want := (plan.Resources{corev1.ResourceMemory: math.MaxInt64, corev1.ResourceCPU: 1}); !cmp.Equal(sum, want) {
		t.Errorf("the sum is %v, not %v", sum, want)
	}
}
