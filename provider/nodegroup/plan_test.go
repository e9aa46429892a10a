package nodegroup_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

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
			withFloor(with(group(2, up(0, heldBy("ns/a")), up(1, heldBy("ns/a"))), claim("ns/a", 2, 0, 1))),
			steps{Floor: 2},
		},
		"a new claim raises the floor, and the target is Cluster Autoscaler's to raise": {
			with(group(0), claim("ns/a", 3)),
			steps{Floor: 3},
		},
		"a pool without an autoscaler follows its floor": {
			func() *nodegroup.Group {
				g := withFloor(with(group(0), claim("ns/a", 3)))
				g.FollowsFloor = true
				return g
			}(),
			steps{Floor: 3, Raise: 3},
		},
		"the floor never exceeds maxSize": {
			with(group(0), occupied(claim("ns/a", 8), 5)),
			steps{Floor: 10},
		},
		"nodes of no use to one member are added once, however many they are of no use to": {
			with(group(0), occupied(claim("ns/a", 2), 3), occupied(claim("ns/b", 2), 2)),
			steps{Floor: 7},
		},
		"machines for claims are ordered for members, the others for Cluster Autoscaler": {
			withFloor(with(group(5, up(0, heldBy("ns/a"))), claim("ns/a", 3, 0))),
			steps{Floor: 3, Order: []nodegroup.Order{orderFloor(2), orderAutoscaler(2)}},
		},
		"a marked node that waits to be held is not ordered again": {
			withFloor(with(group(3, up(0)), claim("ns/a", 2))),
			steps{Floor: 2, Order: []nodegroup.Order{orderFloor(1), orderAutoscaler(1)}},
		},
		"a node that a member holds says so": {
			withFloor(with(group(1, autoscalers(up(0))), claim("ns/a", 1, 0))),
			steps{Floor: 1, Say: []string{"node-0: the node is held for ns/a"}},
		},
		"a node that is held no longer is tainted before anything else": {
			withFloor(with(group(2, up(0, heldBy("ns/a")), up(1, heldBy("ns/a"))), claim("ns/a", 1, 0))),
			steps{Floor: 1, Say: []string{"node-1: no member holds the node and no pod uses it; it is released [releasing]"}},
		},
		"a node that is given up stays for the next growth where the pool says so": {
			delayed(time.Minute, withFloor(with(group(2, up(0, heldBy("ns/a")), up(1, heldBy("ns/a"))), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Say: []string{"node-1: the node is no longer held for ns/a and stays for the next growth"}, Next: noon.Add(time.Minute)},
		},
		"so does one that a claim is about to take, which may take another": {
			delayed(time.Minute, withFloor(with(group(2, up(0, heldBy("ns/a")), up(1, heldBy("ns/b"))), claim("ns/a", 2, 0)))),
			steps{Floor: 2, Say: []string{"node-1: the node is no longer held for ns/b and stays for the next growth"}},
		},
		"and one whose pods are seen to leave later": {
			delayed(time.Minute, withFloor(with(group(2, up(0, heldBy("ns/a")), up(1, heldBy("ns/b"), pods(1))), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Say: []string{"node-1: the node is no longer held for ns/b and stays for the next growth"}},
		},
		"and is not released before its time": {
			delayed(time.Minute, withFloor(with(group(2, up(0, heldBy("ns/a")), up(1, givenUp(20*time.Second))), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Next: noon.Add(40 * time.Second)},
		},
		"then it goes": {
			delayed(time.Minute, withFloor(with(group(2, up(0, heldBy("ns/a")), up(1, givenUp(time.Minute))), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Say: []string{"node-1: no member holds the node and no pod uses it; it is released [releasing]"}},
		},
		"and is not kept from Cluster Autoscaler any more where it may not go": {
			minSize(2, delayed(time.Minute, withFloor(with(group(2, up(0, heldBy("ns/a")), up(1, givenUp(time.Minute))), claim("ns/a", 1, 0))))),
			steps{Floor: 1, Say: []string{"node-1: the node does not stay for the next growth any more"}},
		},
		"nor when a pod of no member has come to it": {
			delayed(time.Minute, withFloor(with(group(2, up(0, heldBy("ns/a")), up(1, givenUp(time.Second), pods(1))), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Say: []string{"node-1: the node does not stay for the next growth any more"}},
		},
		"nor when the pool does not say so any more": {
			minSize(2, withFloor(with(group(2, up(0, heldBy("ns/a")), up(1, givenUp(time.Second))), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Say: []string{"node-1: the node does not stay for the next growth any more"}},
		},
		"but while a claim is about to take it, it is": {
			withFloor(with(group(2, up(0, heldBy("ns/a")), up(1, givenUp(time.Hour))), claim("ns/a", 2, 0))),
			steps{Floor: 2},
		},
		"one that is not Ready does not stay": {
			delayed(time.Minute, withFloor(with(group(2, up(0, heldBy("ns/a")), up(1, givenUp(time.Second), notReady)), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Say: []string{"node-1: no member holds the node and no pod uses it; it is released [releasing]"}},
		},
		"nor one that nobody has held": {
			delayed(time.Minute, withFloor(with(group(2, up(0, heldBy("ns/a")), up(1)), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Say: []string{"node-1: no member holds the node and no pod uses it; it is released [releasing]"}},
		},
		"a tainted node goes in the next pass": {
			withFloor(with(group(2, up(0, heldBy("ns/a")), up(1, releasing)), claim("ns/a", 1, 0))),
			steps{Floor: 1, Release: []string{"hpc-1"}},
		},
		"a release waits until Cluster Autoscaler was told the lower floor": {
			toldAt(2, noon.Add(-time.Second), withFloor(with(group(2, up(0, heldBy("ns/a")), up(1, releasing)), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Next: noon.Add(-time.Second).Add(announceTimeout)},
		},
		"a release waits for a Cluster Autoscaler that is not there only so long": {
			toldAt(2, noon.Add(-announceTimeout), withFloor(with(group(2, up(0, heldBy("ns/a")), up(1, releasing)), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Release: []string{"hpc-1"}},
		},
		"a lower floor is recorded before the release that it allows": {
			with(floor(2, group(2, up(0, heldBy("ns/a")), up(1, releasing))), claim("ns/a", 1, 0)),
			steps{Floor: 1},
		},
		"nothing below minSize is released": {
			minSize(2, withFloor(group(2, up(0), up(1)))),
			steps{},
		},
		"a node with a pod is not released": {
			withFloor(group(1, up(0, pods(1)))),
			steps{},
		},
		"a tainted node on which a pod has settled is kept": {
			withFloor(group(1, up(0, releasing, pods(1)))),
			steps{Say: []string{"node-0: the node is needed after all"}},
		},
		"a node without the mark is Cluster Autoscaler's, empty or not": {
			withFloor(group(1, up(0, unmarked))),
			steps{},
		},
		"nor does a node say that it is tainted when Cluster Autoscaler has taken the taint off and it is not released now": {
			withFloor(group(1, up(0, untainted, pods(1)))),
			steps{Say: []string{"node-0: the taint for release was taken off the node, which is not released now"}},
		},
		"one that is released all the same is tainted again": {
			withFloor(group(1, up(0, untainted))),
			steps{Say: []string{"node-0: no member holds the node and no pod uses it; it is released [releasing]"}},
		},
		"a node that another claim can use is handed over": {
			withFloor(with(group(2, up(0, releasing), up(1, heldBy("ns/b"))), claim("ns/b", 2, 1))),
			steps{Floor: 2, Say: []string{"node-0: the node is needed after all"}},
		},
		"a Ready node is handed over rather than one that boots": {
			withFloor(with(group(3, up(0), booting(1), up(2, heldBy("ns/b"))), claim("ns/b", 2, 2))),
			steps{Floor: 2, Release: []string{"hpc-1"}, Next: late(1)},
		},
		"a cordoned node is of no use to a claim": {
			withFloor(with(group(2, up(0, cordonedOff), up(1)), claim("ns/b", 1))),
			steps{Floor: 1, Say: []string{"node-0: no member holds the node and no pod uses it; it is released [releasing]"}},
		},
		"a node that never became Ready in time is of no use to a claim": {
			withFloor(
				with(group(2, up(0, notReady, func(n *nodegroup.Node) { n.CreatedAt = noon.Add(-provisionTimeout) }), up(1)), claim("ns/b", 1)),
			),
			steps{Floor: 1, Say: []string{"node-0: no member holds the node and no pod uses it; it is released [releasing]"}},
		},
		"machines that boot for a claim that is gone go without a taint": {
			withFloor(group(2, booting(0), booting(1))),
			steps{Release: []string{"hpc-1", "hpc-0"}, Next: late(0)},
		},
		"machines that boot for Cluster Autoscaler stay": {
			withFloor(group(1, autoscalers(booting(0)))),
			steps{Next: late(0)},
		},
		"orders for a claim that is gone are not made, and the target goes down by them": {
			forMembers(6, withFloor(with(group(6, up(0, heldBy("ns/a")), up(1, heldBy("ns/a"))), claim("ns/a", 2, 0, 1)))),
			steps{Floor: 2, GiveUp: 4},
		},
		"orders for a claim that is gone are not made while their release waits": {
			forMembers(6, toldAt(6, noon, withFloor(group(6)))),
			steps{Next: noon.Add(announceTimeout)},
		},
		"orders that Cluster Autoscaler made for itself are made": {
			forMembers(2, withFloor(with(group(4, up(0, heldBy("ns/a")), up(1, heldBy("ns/a"))), claim("ns/a", 2, 0, 1)))),
			steps{Floor: 2, Order: []nodegroup.Order{orderAutoscaler(2)}},
		},
		"orders that the floor calls for are for members, though the nodes that were of no use to one are free by now": {
			forMembers(5, withFloor(with(group(5, up(0), up(1), up(2)), occupied(claim("ns/a", 2), 3)))),
			steps{Floor: 5, Order: []nodegroup.Order{orderFloor(2)}},
		},
		"and those beyond it Cluster Autoscaler's": {
			forMembers(4, withFloor(with(group(5, up(0), up(1), autoscalers(up(2, pods(1)))), occupied(claim("ns/a", 2), 2)))),
			steps{Floor: 4, Order: []nodegroup.Order{orderFloor(1), orderAutoscaler(1)}},
		},
		"machines that are to go are deleted, and forgotten when they are gone": {
			toDelete(withFloor(group(0, up(0, releasing))), "hpc-0", "hpc-7"),
			steps{Delete: []string{"hpc-0"}, Gone: []string{"hpc-7"}},
		},
		"nothing is ordered above a maxSize that was lowered, and the target goes down by what is missing": {
			maxSize(2, withFloor(group(4, autoscalers(up(0)), autoscalers(up(1)), autoscalers(up(2))))),
			steps{GiveUp: 1},
		},
		"but as far as maxSize": {
			maxSize(2, withFloor(group(4, autoscalers(up(0))))),
			steps{GiveUp: 2, Order: []nodegroup.Order{orderAutoscaler(1)}},
		},
		"orders above a maxSize that was lowered and those for a claim that is gone are given up once": {
			maxSize(4, forMembers(6, withFloor(with(group(6, up(0, heldBy("ns/a")), up(1, heldBy("ns/a"))), claim("ns/a", 2, 0, 1))))),
			steps{Floor: 2, GiveUp: 4},
		},
		"without an autoscaler nodes above a maxSize that was lowered go when nobody uses them": {
			maxSize(1, withFloor(following(group(3, autoscalers(up(0, releasing)), autoscalers(up(1, releasing)), autoscalers(up(2, pods(1))))))),
			steps{Retire: []string{"hpc-1", "hpc-0"}},
		},
		"machines that boot go first": {
			maxSize(1, withFloor(following(group(3, autoscalers(up(0)), autoscalers(up(1)), autoscalers(booting(2)))))),
			steps{Cancel: []string{"hpc-2"}, Next: late(2), Say: []string{
				"node-1: no pod uses the node and the target does not count it any more; it is released [releasing]",
			}},
		},
		"and the target follows them": {
			maxSize(1, withFloor(following(group(3, autoscalers(up(2, pods(1))))))),
			steps{GiveUp: 2},
		},
		"a lower target cancels the newest machine that boots, never one that has registered": {
			withFloor(group(1, autoscalers(up(0)), autoscalers(booting(1)), autoscalers(booting(2)), autoscalers(up(3)))),
			steps{Cancel: []string{"hpc-2", "hpc-1"}, Next: late(1)},
		},
		"a machine that is late is Cluster Autoscaler's to delete": {
			withFloor(with(group(1, ago(time.Hour, booting(0))), claim("ns/a", 1))),
			steps{Floor: 1},
		},
		"without an autoscaler a machine that is late is replaced, and the target stays": {
			withFloor(following(with(group(1, ago(time.Hour, booting(0))), claim("ns/a", 1)))),
			steps{Floor: 1, Retire: []string{"hpc-0"}},
		},
		"without an autoscaler a machine that has failed is replaced a minute after its order": {
			withFloor(following(with(group(2, failing(ago(59*time.Second, booting(0))), failing(ago(time.Minute, booting(1)))), claim("ns/a", 2)))),
			steps{Floor: 2, Retire: []string{"hpc-1"}, Next: noon.Add(time.Second)},
		},
		"without an autoscaler a node that does not become Ready is tainted first": {
			withFloor(following(with(group(1, up(0, notReady, notReadyFor(provisionTimeout))), claim("ns/a", 1)))),
			steps{Floor: 1, Say: []string{"node-0: the node has not been Ready for the provisionTimeout and is replaced [releasing]"}},
		},
		"and replaced then": {
			withFloor(following(with(group(1, up(0, notReady, notReadyFor(provisionTimeout), releasing)), claim("ns/a", 1)))),
			steps{Floor: 1, Retire: []string{"hpc-0"}},
		},
		"a node that has not been Ready for a moment stays": {
			withFloor(following(with(group(1, up(0, notReady, notReadyFor(time.Minute))), claim("ns/a", 1)))),
			steps{Floor: 1, Next: noon.Add(provisionTimeout - time.Minute)},
		},
		"a node that has not been Ready and that Cluster Autoscaler decides on stays": {
			withFloor(with(group(1, up(0, notReady, notReadyFor(time.Hour))), claim("ns/a", 1))),
			steps{Floor: 1},
		},
		"without an autoscaler a target that a user has lowered empties nodes, the newest first, none with pods or a holder": {
			withFloor(
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
			withFloor(following(group(1, autoscalers(up(0)), autoscalers(up(1, releasing))))),
			steps{Retire: []string{"hpc-1"}},
		},
		"a target that a user has lowered below the floor is raised, and nothing is cancelled": {
			withFloor(following(with(group(0, booting(0), booting(1)), claim("ns/a", 2)))),
			steps{Floor: 2, Raise: 2, Next: late(0)},
		},
		"a target that a user has lowered cancels machines that boot before it empties nodes": {
			withFloor(following(group(1, autoscalers(up(0)), autoscalers(booting(1))))),
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
			deleting(withFloor(with(group(1, up(0, heldBy("ns/a"))), claim("ns/a", 1, 0)))),
			steps{Floor: 1},
		},
		"a pool that is being deleted takes all its nodes out of use, whatever is on them": {
			deleting(withFloor(group(2, up(0, unmarked, pods(1)), up(1)))),
			steps{Say: []string{
				"node-1: the NodePool is being deleted; no pod may come to the node any more [releasing]",
				"node-0: the NodePool is being deleted; no pod may come to the node any more [releasing]",
			}},
		},
		"a pool that is being deleted gives up what is not there yet, and nodes when they are empty, minSize or not": {
			deleting(minSize(4, withFloor(group(4, up(0, unmarked, releasing, pods(1)), up(1, unmarked, releasing), booting(2))))),
			steps{Release: []string{"hpc-2", "hpc-1"}, GiveUp: 1},
		},
		"a pool that is being deleted lets more nodes go than its target counts, and the target stays at 0": {
			deleting(withFloor(group(1, up(0, releasing), up(1, releasing), up(2, releasing, pods(1))))),
			steps{Release: []string{"hpc-1"}, Retire: []string{"hpc-0"}},
		},
		"a pool that is being deleted goes after its machines": {
			deleting(withFloor(group(0))),
			steps{Finish: true},
		},
		"a pool that is being deleted waits for machines that are on their way out": {
			deleting(toDelete(withFloor(group(0, up(0, releasing))), "hpc-0")),
			steps{Delete: []string{"hpc-0"}},
		},
		"a machine that has vanished is ordered again": {
			withFloor(with(group(2, up(0, heldBy("ns/a"))), claim("ns/a", 2, 0))),
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
