package nodegroup_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// orderFloor are machines that the floor calls for, and that are for no claim of their own.
func orderFloor(count int) nodegroup.Order {
	return nodegroup.Order{ID: "floor", Purpose: v1alpha1.PurposeReservation, Count: count}
}

// orderAutoscaler are machines that Cluster Autoscaler, or a person, asks for.
func orderAutoscaler(count int) nodegroup.Order {
	return nodegroup.Order{ID: "autoscaler", Purpose: v1alpha1.PurposeAutoscaler, Count: count}
}

// orderFor are machines for a claim.
func orderFor(claim string, count int, changes ...func(*nodegroup.Order)) nodegroup.Order {
	o := nodegroup.Order{ID: claim, Purpose: v1alpha1.PurposeReservation, Count: count}
	for _, change := range changes {
		change(&o)
	}
	return o
}

// steps is the part of the decisions that changes anything. Machines are by number in names.
type steps struct {
	Floor, Raise, GiveUp               int32
	Release, Retire, Lost, Leave       []string
	Delete, Gone, Cancel, Abandon, Say []string
	Order                              []nodegroup.Order
	Next                               time.Time
	Finish                             bool
}

func stepsOf(d *nodegroup.Decisions) steps {
	s := steps{
		Floor: d.Floor, Raise: d.Raise, GiveUp: d.GiveUp, Release: d.Release, Retire: d.Retire, Lost: d.Lost, Leave: d.Leave,
		Delete: d.Delete, Gone: d.Gone, Cancel: d.Cancel, Abandon: d.Abandon, Order: d.Order, Next: d.Next, Finish: d.Finish,
	}
	for i := range d.Marks {
		m := &d.Marks[i]
		text := m.Node + ": " + m.Why
		if m.Releasing {
			text += " [releasing]"
		}
		s.Say = append(s.Say, text)
	}
	return s
}

func TestPlan(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		group *nodegroup.Group
		want  steps
	}{
		"a pool at rest is left alone": {
			recorded(with(group(2, up(0, heldBy("ns/a")), up(1, heldBy("ns/a"))), claim("ns/a", 2, 0, 1))),
			steps{Floor: 2},
		},
		"a new claim raises the floor, and the target is Cluster Autoscaler's to raise": {
			with(group(0), claim("ns/a", 3)),
			steps{Floor: 3},
		},
		"a pool without an autoscaler follows its floor": {
			func() *nodegroup.Group {
				g := recorded(with(group(0), claim("ns/a", 3)))
				g.FollowsFloor = true
				return g
			}(),
			steps{Floor: 3, Raise: 3},
		},
		"the floor never exceeds maxSize": {
			with(group(0), occupied(claim("ns/a", 8), 5)),
			steps{Floor: 10},
		},
		"nodes of no use to one member are added once, whoever else they are of no use to": {
			with(group(0), occupied(claim("ns/a", 2), 3), occupied(claim("ns/b", 2), 2)),
			steps{Floor: 7},
		},
		"machines for claims are ordered for members, the others for Cluster Autoscaler": {
			recorded(with(group(5, up(0, heldBy("ns/a"))), claim("ns/a", 3, 0))),
			steps{Floor: 3, Order: []nodegroup.Order{orderFloor(2), orderAutoscaler(2)}},
		},
		"a marked node that waits to be held is not ordered again": {
			recorded(with(group(3, up(0)), claim("ns/a", 2))),
			steps{Floor: 2, Order: []nodegroup.Order{orderFloor(1), orderAutoscaler(1)}},
		},
		"a node that a member holds says so": {
			recorded(with(group(1, autoscalers(up(0))), claim("ns/a", 1, 0))),
			steps{Floor: 1, Say: []string{"node-0: the node is held for ns/a"}},
		},
		"a node that is held no longer is tainted before anything else": {
			recorded(with(group(2, up(0, heldBy("ns/a")), up(1, heldBy("ns/a"))), claim("ns/a", 1, 0))),
			steps{Floor: 1, Say: []string{"node-1: no member holds the node and no pod uses it; it is released [releasing]"}},
		},
		"a node that is given up stays for the next growth where the pool says so": {
			delayed(time.Minute, recorded(with(group(2, up(0, heldBy("ns/a")), up(1, heldBy("ns/a"))), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Say: []string{"node-1: the node is no longer held for ns/a and stays for the next growth"}, Next: noon.Add(time.Minute)},
		},
		"so does one that a claim is about to take, which may take another": {
			delayed(time.Minute, recorded(with(group(2, up(0, heldBy("ns/a")), up(1, heldBy("ns/b"))), claim("ns/a", 2, 0)))),
			steps{Floor: 2, Say: []string{"node-1: the node is no longer held for ns/b and stays for the next growth"}},
		},
		"and one whose pods are seen to leave later": {
			delayed(time.Minute, recorded(with(group(2, up(0, heldBy("ns/a")), up(1, heldBy("ns/b"), pods(1))), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Say: []string{"node-1: the node is no longer held for ns/b and stays for the next growth"}},
		},
		"and is not released before its time": {
			delayed(time.Minute, recorded(with(group(2, up(0, heldBy("ns/a")), up(1, givenUp(20*time.Second))), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Next: noon.Add(40 * time.Second)},
		},
		"then it goes": {
			delayed(time.Minute, recorded(with(group(2, up(0, heldBy("ns/a")), up(1, givenUp(time.Minute))), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Say: []string{"node-1: no member holds the node and no pod uses it; it is released [releasing]"}},
		},
		"and is not kept from Cluster Autoscaler any more where it may not go": {
			minSize(2, delayed(time.Minute, recorded(with(group(2, up(0, heldBy("ns/a")), up(1, givenUp(time.Minute))), claim("ns/a", 1, 0))))),
			steps{Floor: 1, Say: []string{"node-1: the node does not stay for the next growth any more"}},
		},
		"nor when somebody else's pod has come to it": {
			delayed(time.Minute, recorded(with(group(2, up(0, heldBy("ns/a")), up(1, givenUp(time.Second), pods(1))), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Say: []string{"node-1: the node does not stay for the next growth any more"}},
		},
		"nor when the pool does not say so any more": {
			minSize(2, recorded(with(group(2, up(0, heldBy("ns/a")), up(1, givenUp(time.Second))), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Say: []string{"node-1: the node does not stay for the next growth any more"}},
		},
		"but while a claim is about to take it, it is": {
			recorded(with(group(2, up(0, heldBy("ns/a")), up(1, givenUp(time.Hour))), claim("ns/a", 2, 0))),
			steps{Floor: 2},
		},
		"one that is not Ready does not stay": {
			delayed(time.Minute, recorded(with(group(2, up(0, heldBy("ns/a")), up(1, givenUp(time.Second), notReady)), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Say: []string{"node-1: no member holds the node and no pod uses it; it is released [releasing]"}},
		},
		"nor one that nobody has held": {
			delayed(time.Minute, recorded(with(group(2, up(0, heldBy("ns/a")), up(1)), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Say: []string{"node-1: no member holds the node and no pod uses it; it is released [releasing]"}},
		},
		"a tainted node goes in the next pass": {
			recorded(with(group(2, up(0, heldBy("ns/a")), up(1, releasing)), claim("ns/a", 1, 0))),
			steps{Floor: 1, Release: []string{"hpc-1"}},
		},
		"a release waits until Cluster Autoscaler was told the lower floor": {
			toldAt(2, noon.Add(-time.Second), recorded(with(group(2, up(0, heldBy("ns/a")), up(1, releasing)), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Next: noon.Add(-time.Second).Add(announceTimeout)},
		},
		"a release waits for a Cluster Autoscaler that is not there only so long": {
			toldAt(2, noon.Add(-announceTimeout), recorded(with(group(2, up(0, heldBy("ns/a")), up(1, releasing)), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Release: []string{"hpc-1"}},
		},
		"a lower floor is recorded before the release that it allows": {
			with(floor(2, group(2, up(0, heldBy("ns/a")), up(1, releasing))), claim("ns/a", 1, 0)),
			steps{Floor: 1},
		},
		"nothing below minSize is released": {
			minSize(2, recorded(group(2, up(0), up(1)))),
			steps{},
		},
		"a node with a pod is not released": {
			recorded(group(1, up(0, pods(1)))),
			steps{},
		},
		"a tainted node on which a pod has settled is kept": {
			recorded(group(1, up(0, releasing, pods(1)))),
			steps{Say: []string{"node-0: the node is needed after all"}},
		},
		"a node without the mark is Cluster Autoscaler's, empty or not": {
			recorded(group(1, up(0, unmarked))),
			steps{},
		},
		"nor does a node say that it is tainted when Cluster Autoscaler has taken the taint off and it is not released now": {
			recorded(group(1, up(0, untainted, pods(1)))),
			steps{Say: []string{"node-0: the taint for release was taken off the node, which is not released now"}},
		},
		"one that is released all the same is tainted again": {
			recorded(group(1, up(0, untainted))),
			steps{Say: []string{"node-0: no member holds the node and no pod uses it; it is released [releasing]"}},
		},
		"a node that another claim can use is handed over": {
			recorded(with(group(2, up(0, releasing), up(1, heldBy("ns/b"))), claim("ns/b", 2, 1))),
			steps{Floor: 2, Say: []string{"node-0: the node is needed after all"}},
		},
		"a Ready node is handed over rather than one that boots": {
			recorded(with(group(3, up(0), booting(1), up(2, heldBy("ns/b"))), claim("ns/b", 2, 2))),
			steps{Floor: 2, Release: []string{"hpc-1"}, Next: late(1)},
		},
		"a cordoned node is of no use to a claim": {
			recorded(with(group(2, up(0, cordonedOff), up(1)), claim("ns/b", 1))),
			steps{Floor: 1, Say: []string{"node-0: no member holds the node and no pod uses it; it is released [releasing]"}},
		},
		"a node that never became Ready in time is of no use to a claim": {
			recorded(
				with(group(2, up(0, notReady, func(n *nodegroup.Node) { n.CreatedAt = noon.Add(-provisionTimeout) }), up(1)), claim("ns/b", 1)),
			),
			steps{Floor: 1, Say: []string{"node-0: no member holds the node and no pod uses it; it is released [releasing]"}},
		},
		"machines that boot for a claim that is gone go without a taint": {
			recorded(group(2, booting(0), booting(1))),
			steps{Release: []string{"hpc-1", "hpc-0"}, Next: late(0)},
		},
		"machines that boot for Cluster Autoscaler stay": {
			recorded(group(1, autoscalers(booting(0)))),
			steps{Next: late(0)},
		},
		"orders for a claim that is gone are not made, and the target goes down by them": {
			forMembers(6, recorded(with(group(6, up(0, heldBy("ns/a")), up(1, heldBy("ns/a"))), claim("ns/a", 2, 0, 1)))),
			steps{Floor: 2, GiveUp: 4},
		},
		"orders for a claim that is gone are not made while their release waits": {
			forMembers(6, toldAt(6, noon, recorded(group(6)))),
			steps{Next: noon.Add(announceTimeout)},
		},
		"orders that Cluster Autoscaler made for itself are made": {
			forMembers(2, recorded(with(group(4, up(0, heldBy("ns/a")), up(1, heldBy("ns/a"))), claim("ns/a", 2, 0, 1)))),
			steps{Floor: 2, Order: []nodegroup.Order{orderAutoscaler(2)}},
		},
		"orders that the floor calls for are for members, though the nodes that were of no use to one are free by now": {
			forMembers(5, recorded(with(group(5, up(0), up(1), up(2)), occupied(claim("ns/a", 2), 3)))),
			steps{Floor: 5, Order: []nodegroup.Order{orderFloor(2)}},
		},
		"and those beyond it Cluster Autoscaler's": {
			forMembers(4, recorded(with(group(5, up(0), up(1), autoscalers(up(2, pods(1)))), occupied(claim("ns/a", 2), 2)))),
			steps{Floor: 4, Order: []nodegroup.Order{orderFloor(1), orderAutoscaler(1)}},
		},
		"machines that are to go are deleted, and forgotten when they are gone": {
			toDelete(recorded(group(0, up(0, releasing))), "hpc-0", "hpc-7"),
			steps{Delete: []string{"hpc-0"}, Gone: []string{"hpc-7"}},
		},
		"nothing is ordered above a maxSize that was lowered, and the target goes down by what is missing": {
			maxSize(2, recorded(group(4, autoscalers(up(0)), autoscalers(up(1)), autoscalers(up(2))))),
			steps{GiveUp: 1},
		},
		"but as far as maxSize": {
			maxSize(2, recorded(group(4, autoscalers(up(0))))),
			steps{GiveUp: 2, Order: []nodegroup.Order{orderAutoscaler(1)}},
		},
		"orders above a maxSize that was lowered and those for a claim that is gone are given up once": {
			maxSize(4, forMembers(6, recorded(with(group(6, up(0, heldBy("ns/a")), up(1, heldBy("ns/a"))), claim("ns/a", 2, 0, 1))))),
			steps{Floor: 2, GiveUp: 4},
		},
		"without an autoscaler nodes above a maxSize that was lowered go when nobody uses them": {
			maxSize(1, recorded(following(group(3, autoscalers(up(0, releasing)), autoscalers(up(1, releasing)), autoscalers(up(2, pods(1))))))),
			steps{Retire: []string{"hpc-1", "hpc-0"}},
		},
		"machines that boot go first": {
			maxSize(1, recorded(following(group(3, autoscalers(up(0)), autoscalers(up(1)), autoscalers(booting(2)))))),
			steps{Cancel: []string{"hpc-2"}, Next: late(2), Say: []string{
				"node-1: no pod uses the node and the target does not count it any more; it is released [releasing]",
			}},
		},
		"and the target follows them": {
			maxSize(1, recorded(following(group(3, autoscalers(up(2, pods(1))))))),
			steps{GiveUp: 2},
		},
		"a lower target cancels the newest machine that boots, never one that has registered": {
			recorded(group(1, autoscalers(up(0)), autoscalers(booting(1)), autoscalers(booting(2)), autoscalers(up(3)))),
			steps{Cancel: []string{"hpc-2", "hpc-1"}, Next: late(1)},
		},
		"a machine that is late is Cluster Autoscaler's to delete": {
			recorded(with(group(1, ago(time.Hour, booting(0))), claim("ns/a", 1))),
			steps{Floor: 1},
		},
		"without an autoscaler a machine that is late is replaced, and the target stays": {
			recorded(following(with(group(1, ago(time.Hour, booting(0))), claim("ns/a", 1)))),
			steps{Floor: 1, Retire: []string{"hpc-0"}},
		},
		"without an autoscaler a machine that has failed is replaced a minute after its order": {
			recorded(following(with(group(2, failing(ago(59*time.Second, booting(0))), failing(ago(time.Minute, booting(1)))), claim("ns/a", 2)))),
			steps{Floor: 2, Retire: []string{"hpc-1"}, Next: noon.Add(time.Second)},
		},
		"without an autoscaler a node that does not become Ready is tainted first": {
			recorded(following(with(group(1, up(0, notReady, notReadyFor(provisionTimeout))), claim("ns/a", 1)))),
			steps{Floor: 1, Say: []string{"node-0: the node has not been Ready for the provisionTimeout and is replaced [releasing]"}},
		},
		"and replaced then": {
			recorded(following(with(group(1, up(0, notReady, notReadyFor(provisionTimeout), releasing)), claim("ns/a", 1)))),
			steps{Floor: 1, Retire: []string{"hpc-0"}},
		},
		"a node that has not been Ready for a moment stays": {
			recorded(following(with(group(1, up(0, notReady, notReadyFor(time.Minute))), claim("ns/a", 1)))),
			steps{Floor: 1, Next: noon.Add(provisionTimeout - time.Minute)},
		},
		"a node that has not been Ready and that Cluster Autoscaler decides on stays": {
			recorded(with(group(1, up(0, notReady, notReadyFor(time.Hour))), claim("ns/a", 1))),
			steps{Floor: 1},
		},
		"without an autoscaler a target that a user has lowered empties nodes, the newest first, none with pods or a holder": {
			recorded(
				following(
					with(group(2, autoscalers(up(0)), autoscalers(up(1)), autoscalers(up(2, pods(1))), up(3, heldBy("ns/a"))), claim("ns/a", 1, 3)),
				),
			),
			steps{Floor: 1, Say: []string{
				"node-1: no pod uses the node and the target does not count it any more; it is released [releasing]",
				"node-0: no pod uses the node and the target does not count it any more; it is released [releasing]",
			}},
		},
		"and deletes them once they are tainted": {
			recorded(following(group(1, autoscalers(up(0)), autoscalers(up(1, releasing))))),
			steps{Retire: []string{"hpc-1"}},
		},
		"a target that a user has lowered below the floor is raised, and nothing is cancelled": {
			recorded(following(with(group(0, booting(0), booting(1)), claim("ns/a", 2)))),
			steps{Floor: 2, Raise: 2, Next: late(0)},
		},
		"a target that a user has lowered cancels machines that boot before it empties nodes": {
			recorded(following(group(1, autoscalers(up(0)), autoscalers(booting(1))))),
			steps{Cancel: []string{"hpc-1"}, Next: late(1)},
		},
		"of a paused pool the floor is recorded and nothing else is done": {
			paused(toDelete(with(group(1, up(0), up(1)), claim("ns/a", 3)), "hpc-1")),
			steps{Floor: 3},
		},
		"a paused pool that is being deleted waits": {
			paused(deleting(group(1, up(0, releasing)))),
			steps{},
		},
		"a name that was never claimed is passed over by the next order": {
			toDelete(group(3, autoscalers(up(0)), autoscalers(up(1))), "hpc-2"),
			steps{Order: []nodegroup.Order{orderAutoscaler(1)}},
		},
		"and forgotten when there is nothing to order": {
			toDelete(group(2, autoscalers(up(0)), autoscalers(up(1))), "hpc-2"),
			steps{Gone: []string{"hpc-2"}},
		},
		"a pool that is being deleted waits for its members": {
			deleting(recorded(with(group(1, up(0, heldBy("ns/a"))), claim("ns/a", 1, 0)))),
			steps{Floor: 1},
		},
		"a pool that is being deleted takes all its nodes out of use, whoever is on them": {
			deleting(recorded(group(2, up(0, unmarked, pods(1)), up(1)))),
			steps{Say: []string{
				"node-1: the NodePool is being deleted; no pod may come to the node any more [releasing]",
				"node-0: the NodePool is being deleted; no pod may come to the node any more [releasing]",
			}},
		},
		"a pool that is being deleted gives up what is not there yet, and nodes when they are empty, minSize or not": {
			deleting(minSize(4, recorded(group(4, up(0, unmarked, releasing, pods(1)), up(1, unmarked, releasing), booting(2))))),
			steps{Release: []string{"hpc-2", "hpc-1"}, GiveUp: 1},
		},
		"a pool that is being deleted lets more nodes go than its target counts, and the target stays at 0": {
			deleting(recorded(group(1, up(0, releasing), up(1, releasing), up(2, releasing, pods(1))))),
			steps{Release: []string{"hpc-1"}, Retire: []string{"hpc-0"}},
		},
		"a pool that is being deleted goes after its machines": {
			deleting(recorded(group(0))),
			steps{Finish: true},
		},
		"a pool that is being deleted waits for machines that are on their way out": {
			deleting(toDelete(recorded(group(0, up(0, releasing))), "hpc-0")),
			steps{Delete: []string{"hpc-0"}},
		},
		"a machine that has vanished is ordered again": {
			recorded(with(group(2, up(0, heldBy("ns/a"))), claim("ns/a", 2, 0))),
			steps{Floor: 2, Order: []nodegroup.Order{orderFloor(1)}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := nodegroup.Plan(row.group, announceTimeout, noon)
			if diff := cmp.Diff(row.want, stepsOf(&d), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("wrong steps (-want +got):\n%s", diff)
			}
		})
	}
}

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
			g = recorded(g)
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

func with(g *nodegroup.Group, claims ...nodegroup.Reservation) *nodegroup.Group {
	g.Reservations = claims
	return g
}

func following(g *nodegroup.Group) *nodegroup.Group {
	g.FollowsFloor = true
	return g
}

func paused(g *nodegroup.Group) *nodegroup.Group {
	g.Paused = true
	return g
}

func deleting(g *nodegroup.Group) *nodegroup.Group {
	g.Deleting = true
	return g
}

func occupied(r nodegroup.Reservation, nodes int32) nodegroup.Reservation {
	r.Occupied = nodes
	return r
}

func toldAt(floor int32, changed time.Time, g *nodegroup.Group) *nodegroup.Group {
	g.AnnouncedFloor, g.FloorChangedAt = floor, changed
	return g
}

func floor(recorded int32, g *nodegroup.Group) *nodegroup.Group {
	g.Floor = recorded
	return g
}

func minSize(size int32, g *nodegroup.Group) *nodegroup.Group {
	g.MinSize = size
	return g
}

func forMembers(part int32, g *nodegroup.Group) *nodegroup.Group {
	g.ForMembers = part
	return g
}

func toDelete(g *nodegroup.Group, names ...string) *nodegroup.Group {
	g.ToDelete = names
	return g
}

func maxSize(size int32, g *nodegroup.Group) *nodegroup.Group {
	g.MaxSize = size
	return g
}

func floorChanged(at time.Time, g *nodegroup.Group) *nodegroup.Group {
	g.FloorChangedAt = at
	return g
}

func template(hash string, g *nodegroup.Group) *nodegroup.Group {
	g.TemplateHash = hash
	return g
}

func TestOrdersUnderWay(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		group *nodegroup.Group
		from  int64
		look  bool
	}{
		{"all have come", claimed(1, 3, group(3, up(0), up(1), booting(2))), 3, false},
		{"one has not", claimed(1, 3, group(3, up(0), up(1))), 1, false},
		{"one that has not is to go: it is forgotten after a look", toDelete(claimed(1, 3, group(2, up(0), up(1))), "hpc-2"), 1, true},
		{"one of an older order is to go", toDelete(claimed(2, 3, group(2, up(0), up(2))), "hpc-1"), 3, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if d := nodegroup.Plan(row.group, announceTimeout, noon); d.OrderedFrom != row.from || d.LookForGone != row.look {
				t.Errorf("under way from %d, want %d; a look is needed: %t, want %t", d.OrderedFrom, row.from, d.LookForGone, row.look)
			}
		})
	}
}

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

func TestConditions(t *testing.T) {
	t.Parallel()
	failed := autoscalers(booting(1))
	failed.Failure = &nodegroup.Failure{Class: v1alpha1.FailureOutOfResources, Code: "OutOfStock", Message: "no machine of this kind is left"}
	for name, row := range map[string]struct {
		group           *nodegroup.Group
		floor, machines metav1.Condition
		// others are WithinBounds, MachinesUpToDate and Paused, where they are not as usual.
		others map[string]metav1.Condition
	}{
		"at rest": {
			recorded(with(group(1, up(0, heldBy("ns/a"))), claim("ns/a", 1, 0))),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 1 is at or above the floor 1"},
			metav1.Condition{Type: "MachinesReady", Status: "True", Reason: "MachinesReady", Message: "1 of 1 nodes are Ready"},
			nil,
		},
		"waiting for Cluster Autoscaler": {
			recorded(with(group(0), claim("ns/a", 1))),
			metav1.Condition{
				Type: "FloorMet", Status: "False", Reason: "FloorNotMet",
				Message: "the target size 0 is below the floor 1; waiting for Cluster Autoscaler, which has to run with --enforce-node-group-min-size",
			},
			metav1.Condition{Type: "MachinesReady", Status: "True", Reason: "MachinesReady", Message: "0 of 0 nodes are Ready"},
			nil,
		},
		"booting": {
			recorded(with(group(2, up(0, heldBy("ns/a")), booting(1)), claim("ns/a", 2, 0))),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 2 is at or above the floor 2"},
			metav1.Condition{Type: "MachinesReady", Status: "False", Reason: "Provisioning", Message: "1 of 2 nodes are Ready"},
			nil,
		},
		"with a failed machine": {
			recorded(group(2, autoscalers(up(0)), failed)),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 2 is at or above the floor 0"},
			metav1.Condition{
				Type: "MachinesReady", Status: "False", Reason: "MachineFailed",
				Message: "machine hpc-1 failed: OutOfStock: no machine of this kind is left",
			},
			nil,
		},
		"being deleted, with members": {
			deleting(recorded(with(group(1, up(0, heldBy("ns/a"))), claim("ns/a", 1, 0)))),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 1 is at or above the floor 1"},
			metav1.Condition{
				Type: "MachinesReady", Status: "False", Reason: "Deleting",
				Message: "the NodePool is being deleted; it waits until no node is reserved by ns/a",
			},
			nil,
		},
		"being deleted, with pods": {
			deleting(recorded(group(2, up(0, pods(2)), up(1)))),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 2 is at or above the floor 0"},
			metav1.Condition{
				Type: "MachinesReady", Status: "False", Reason: "Deleting",
				Message: "the NodePool is being deleted; it waits until no pod is on node-0",
			},
			nil,
		},
		"being deleted": {
			deleting(recorded(group(0))),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 0 is at or above the floor 0"},
			metav1.Condition{
				Type: "MachinesReady", Status: "False", Reason: "Deleting", Message: "the NodePool is being deleted, and its machines are",
			},
			nil,
		},
		"with machines on their way out": {
			toDelete(recorded(group(1, autoscalers(up(0)), up(1))), "hpc-1"),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 1 is at or above the floor 0"},
			metav1.Condition{Type: "MachinesReady", Status: "False", Reason: "Releasing", Message: "1 machine is on its way out: hpc-1"},
			nil,
		},
		"late, which Cluster Autoscaler backs off from": {
			floorChanged(noon.Add(-2*time.Hour), with(group(1, ago(time.Hour, booting(0))), claim("ns/a", 2))),
			metav1.Condition{
				Type: "FloorMet", Status: "False", Reason: "FloorNotMet",
				Message: "the target size 1 is below the floor 2; waiting for Cluster Autoscaler, which has to run with " +
					"--enforce-node-group-min-size and leaves a group alone for a while after a failure; the last one: ProvisionTimeout: the node did " +
					"not register within the provisionTimeout of 5m0s",
			},
			metav1.Condition{
				Type: "MachinesReady", Status: "False", Reason: "MachineFailed",
				Message: "machine hpc-0 failed: ProvisionTimeout: the node did not register within the provisionTimeout of 5m0s",
			},
			nil,
		},
		"below minSize": {
			minSize(2, recorded(group(1, autoscalers(up(0))))),
			metav1.Condition{
				Type: "FloorMet", Status: "False", Reason: "FloorNotMet",
				Message: "the target size 1 is below minSize 2; waiting for Cluster Autoscaler, which has to run with --enforce-node-group-min-size",
			},
			metav1.Condition{Type: "MachinesReady", Status: "True", Reason: "MachinesReady", Message: "1 of 1 nodes are Ready"},
			nil,
		},
		"above a maxSize that was lowered": {
			maxSize(1, recorded(group(2, autoscalers(up(0)), autoscalers(up(1))))),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 2 is at or above the floor 0"},
			metav1.Condition{Type: "MachinesReady", Status: "True", Reason: "MachinesReady", Message: "2 of 2 nodes are Ready"},
			map[string]metav1.Condition{
				"WithinBounds": {
					Status: "False", Reason: "AboveMaxSize",
					Message: "the target size 2 is above maxSize 1: nothing is ordered or granted beyond it, and nodes go when nobody uses them",
				},
			},
		},
		"with machines of an old template": {
			template(
				"new",
				recorded(group(3, ordered("old", autoscalers(up(0))), ordered("new", autoscalers(up(1))), ordered("old", autoscalers(up(2))))),
			),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 3 is at or above the floor 0"},
			metav1.Condition{Type: "MachinesReady", Status: "True", Reason: "MachinesReady", Message: "3 of 3 nodes are Ready"},
			map[string]metav1.Condition{
				"MachinesUpToDate": {
					Status: "False", Reason: "TemplateChanged",
					Message: "2 of 3 machines were ordered with a template from before its last edit and keep it: hpc-0, hpc-2",
				},
			},
		},
		"paused": {
			paused(recorded(with(group(0), claim("ns/a", 1)))),
			metav1.Condition{
				Type: "FloorMet", Status: "False", Reason: "FloorNotMet", Message: "the target size 0 is below the floor 1; the NodePool is paused",
			},
			metav1.Condition{Type: "MachinesReady", Status: "True", Reason: "MachinesReady", Message: "0 of 0 nodes are Ready"},
			map[string]metav1.Condition{
				"Paused": {
					Status: "True", Reason: "Paused",
					Message: "spec.paused is true: no machine is ordered, deleted or released, and no member is granted more nodes",
				},
			},
		},
		"with a node that the target does not count and that has pods": {
			following(recorded(group(1, autoscalers(up(0, pods(1))), autoscalers(up(1, pods(1)))))),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 1 is at or above the floor 0"},
			metav1.Condition{
				Type: "MachinesReady", Status: "False", Reason: "Releasing",
				Message: "there are 2 machines and the target is 1; nodes go when no pod and no member uses them",
			},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := nodegroup.Plan(row.group, announceTimeout, noon)
			want := []metav1.Condition{
				row.floor, row.machines,
				{
					Type: "WithinBounds", Status: "True", Reason: "WithinBounds",
					Message: fmt.Sprintf("the target size %d is at most maxSize 10", row.group.Target),
				},
				{Type: "MachinesUpToDate", Status: "True", Reason: "UpToDate", Message: "every machine was ordered with the template of now"},
				{Type: "Paused", Status: "False", Reason: "NotPaused", Message: "spec.paused is not set"},
				{Type: "Throttled", Status: "False", Reason: "NotThrottled", Message: "the cloud takes what it is asked"},
			}
			for i := range want {
				if other, is := row.others[want[i].Type]; is {
					other.Type = want[i].Type
					want[i] = other
				}
			}
			if diff := cmp.Diff(want, slices.Concat(d.Conditions, d.Notes)); diff != "" {
				t.Errorf("wrong conditions (-want +got):\n%s", diff)
			}
		})
	}
}

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
