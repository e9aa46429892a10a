package nodegroup_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// crashed is a machine that had a node and is no more.
func crashed(m nodegroup.Machine) nodegroup.Machine {
	m.Registered, m.Failure = true, &nodegroup.Failure{
		At: noon.Add(-time.Second), Class: v1alpha1.FailureOther, Code: "Crash", Message: "the kernel panicked",
	}
	return m
}

// spot is a machine that the cloud takes away in two minutes.
func spot(m nodegroup.Machine) nodegroup.Machine {
	m.LeavingAt = noon.Add(2 * time.Minute)
	return m
}

// beingDeleted is a machine whose record is being deleted.
func beingDeleted(m nodegroup.Machine) nodegroup.Machine {
	m.Going = noon.Add(-time.Second)
	return m
}

// asked is a machine that the cloud may have been asked for.
func asked(m nodegroup.Machine) nodegroup.Machine {
	m.Asked = true
	return m
}

// nodeless is a machine whose node is not there any more.
func nodeless(m nodegroup.Machine) nodegroup.Machine {
	m.Node = nil
	return m
}

const spotTaint = ": the cloud takes machine hpc-1 away at 2026-11-23T12:02:00Z; no pod may come to its node any more [releasing]"

func TestLostAndLeaving(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		group *nodegroup.Group
		want  steps
	}{
		"a machine that has crashed leaves the target, held and with pods, and Cluster Autoscaler decides on another": {
			withFloor(with(group(2, up(0, heldBy("ns/a")), crashed(up(1, heldBy("ns/a"), pods(1)))), claim("ns/a", 2, 0, 1))),
			steps{Floor: 2, Lost: []string{"hpc-1"}},
		},
		"so does one whose node is gone": {
			withFloor(with(group(2, up(0, heldBy("ns/a")), nodeless(crashed(up(1)))), claim("ns/a", 2, 0))),
			steps{Floor: 2, Lost: []string{"hpc-1"}},
		},
		"a node that is gone of a machine that may be well says nothing": {
			withFloor(group(2, autoscalers(up(0)), nodeless(up(1)))),
			steps{},
		},
		"what the target counts no more is first what is no more": {
			withFloor(group(2, autoscalers(up(0)), crashed(autoscalers(up(1))), autoscalers(booting(2)))),
			steps{Leave: []string{"hpc-1"}, Next: late(2)},
		},
		"no release takes the room that a lost machine leaves": {
			minSize(2, withFloor(group(3, crashed(up(0)), up(1, releasing), autoscalers(up(2))))),
			steps{Lost: []string{"hpc-0"}, Say: []string{"node-1: the node is needed after all"}},
		},
		"what was to be ordered is ordered all the same": {
			withFloor(group(3, autoscalers(up(0)), crashed(autoscalers(up(1))))),
			steps{Lost: []string{"hpc-1"}, Order: []nodegroup.Order{orderAutoscaler(1)}},
		},
		"without an autoscaler it is replaced at once, in the same pass": {
			withFloor(
				following(with(group(2, up(0, heldBy("ns/a")), crashed(ago(time.Hour, up(1, heldBy("ns/a"), pods(1))))), claim("ns/a", 2, 0, 1))),
			),
			steps{Floor: 2, Leave: []string{"hpc-1"}, Order: []nodegroup.Order{orderFloor(1)}},
		},
		"but not before the time that its cloud bears": {
			replaceAfter(
				3*time.Minute, withFloor(following(with(group(2, up(0, heldBy("ns/a")), crashed(ago(2*time.Minute, up(1)))), claim("ns/a", 2, 0)))),
			),
			steps{Floor: 2, Next: noon.Add(time.Minute)},
		},
		"and not at all if the target does not count it": {
			withFloor(following(group(1, autoscalers(up(0)), crashed(autoscalers(up(1)))))),
			steps{Leave: []string{"hpc-1"}},
		},
		"a machine that has failed is replaced after the time that its cloud bears": {
			replaceAfter(3*time.Minute, withFloor(following(with(group(1, failing(ago(2*time.Minute, booting(0)))), claim("ns/a", 1))))),
			steps{Floor: 1, Next: noon.Add(time.Minute)},
		},
		"a machine that is no more is deleted whatever its node shows": {
			toDelete(withFloor(group(0, crashed(up(0, pods(3))))), "hpc-0"),
			steps{Delete: []string{"hpc-0"}},
		},
		"one that is being deleted is waited for": {
			toDelete(withFloor(group(0, beingDeleted(up(0, releasing)))), "hpc-0"),
			steps{},
		},
		"a spot notice orders the replacement first, and taints the node": {
			withFloor(with(group(2, up(0, heldBy("ns/a"), pods(1)), spot(up(1, heldBy("ns/a"), pods(1)))), claim("ns/a", 2, 0, 1))),
			steps{Floor: 2, Leave: []string{"hpc-1"}, Order: []nodegroup.Order{orderFloor(1)}, Say: []string{"node-1" + spotTaint}},
		},
		"it stays while pods are on it": {
			toDelete(
				withFloor(with(group(1, up(0, heldBy("ns/a"), pods(1)), spot(up(1, heldBy("ns/a"), releasing, pods(1)))), claim("ns/a", 2, 0, 1))),
				"hpc-1",
			),
			steps{Floor: 2},
		},
		"and goes when they have left": {
			toDelete(
				withFloor(with(group(1, up(0, heldBy("ns/a"), pods(1)), spot(up(1, heldBy("ns/a"), releasing))), claim("ns/a", 2, 0, 1))), "hpc-1",
			),
			steps{Floor: 2, Delete: []string{"hpc-1"}},
		},
		"one that nobody uses is released and not replaced": {
			withFloor(with(group(2, up(0, heldBy("ns/a")), spot(up(1))), claim("ns/a", 1, 0))),
			steps{Floor: 1, Say: []string{"node-1: no member holds the node and no pod uses it; it is released [releasing]"}},
		},
		"but where minSize calls for it, it is replaced": {
			minSize(2, withFloor(with(group(2, up(0, heldBy("ns/a")), spot(up(1))), claim("ns/a", 1, 0)))),
			steps{Floor: 1, Leave: []string{"hpc-1"}, Order: []nodegroup.Order{orderAutoscaler(1)}, Say: []string{"node-1" + spotTaint}},
		},
		"a spare node takes the place of one that leaves, and is not released": {
			forMembers(3, withFloor(with(group(3, up(0, heldBy("ns/a")), spot(up(1, heldBy("ns/a"))), up(2)), claim("ns/a", 2, 0, 1)))),
			steps{Floor: 2, GiveUp: 1, Leave: []string{"hpc-1"}, Say: []string{"node-1" + spotTaint}},
		},
		"a machine whose record a person deletes is replaced, and its node tainted": {
			withFloor(with(group(2, up(0, heldBy("ns/a")), beingDeleted(up(1, heldBy("ns/a"), pods(1)))), claim("ns/a", 2, 0, 1))),
			steps{Floor: 2, Leave: []string{"hpc-1"}, Order: []nodegroup.Order{orderFloor(1)}, Say: []string{
				"node-1: the record of machine hpc-1 is being deleted; no pod may come to its node any more [releasing]",
			}},
		},
		"one that the cloud was not asked for is gone in a moment, and counts until then": {
			withFloor(group(2, autoscalers(up(0)), beingDeleted(autoscalers(booting(1))))),
			steps{Next: late(1)},
		},
		"one that was cancelled and is not gone yet is no reason to cancel another": {
			withFloor(group(1, beingDeleted(autoscalers(booting(0))), autoscalers(booting(1)))),
			steps{Next: late(0)},
		},
		"one that is nobody's any more is not replaced": {
			withFloor(group(2, autoscalers(up(0)), beingDeleted(up(1, releasing)))),
			steps{Release: []string{"hpc-1"}},
		},
		"one that was cancelled and is not gone yet lowers the target no more": {
			withFloor(group(1, autoscalers(up(0)), beingDeleted(asked(booting(1))))),
			steps{Leave: []string{"hpc-1"}},
		},
		"nor does it keep one that is no more in the target": {
			withFloor(group(2, autoscalers(up(0)), crashed(autoscalers(up(1))), beingDeleted(asked(autoscalers(booting(2)))))),
			steps{Lost: []string{"hpc-1"}, Leave: []string{"hpc-2"}},
		},
		"a machine that was to be taken away and has crashed is replaced no sooner than others": {
			replaceAfter(3*time.Minute, withFloor(following(group(1, spot(crashed(ago(2*time.Minute, autoscalers(up(0))))))))),
			steps{Next: noon.Add(time.Minute)},
		},
		"without an autoscaler a node that is not Ready and held stays": {
			withFloor(following(with(group(1, up(0, heldBy("ns/a"), notReady, notReadyFor(provisionTimeout))), claim("ns/a", 1, 0)))),
			steps{Floor: 1},
		},
		"a paused pool does nothing about any of them": {
			paused(withFloor(group(3, crashed(up(0)), spot(up(1)), beingDeleted(up(2))))),
			steps{},
		},
		"a pool that is being deleted replaces none": {
			deleting(following(withFloor(group(3, crashed(up(0, pods(1))), spot(up(1, releasing)), beingDeleted(asked(booting(2))))))),
			steps{Lost: []string{"hpc-0"}, Release: []string{"hpc-2", "hpc-1"}},
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

// replaceAfter sets how soon a cloud may be asked again.
func replaceAfter(after time.Duration, g *nodegroup.Group) *nodegroup.Group {
	g.ReplaceAfter = after
	return g
}

// TestManyAreLost: of more machines than the API server takes names of, the others go in the next passes.
func TestManyAreLost(t *testing.T) {
	t.Parallel()
	const machines, most = 6000, 5000
	for name, change := range map[string]func(nodegroup.Machine) nodegroup.Machine{"lost": crashed, "taken away": spot} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var all []nodegroup.Machine
			for n := range machines {
				all = append(all, change(autoscalers(up(n))))
			}
			g := group(machines, all...)
			g.MaxSize = machines
			d := nodegroup.Plan(g, announceTimeout, noon)
			if len(d.Lost)+len(d.Leave) != most || !d.Next.After(noon) {
				t.Errorf("%d are lost, %d leave, and the next pass is due at %s", len(d.Lost), len(d.Leave), d.Next)
			}
		})
	}
}

func TestMessagesOfLostAndLeaving(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		group *nodegroup.Group
		want  string
	}{
		"one that is no more": {
			withFloor(group(2, autoscalers(up(0)), crashed(autoscalers(up(1))))),
			"machine hpc-1 is no more: Crash: the kernel panicked",
		},
		"one that is taken away": {
			withFloor(group(2, autoscalers(up(0)), spot(autoscalers(up(1))))),
			"2 of 2 nodes are Ready; the cloud takes machine hpc-1 away at 2026-11-23T12:02:00Z; its replacement is ordered first",
		},
		"one that was to go, with pods": {
			toDelete(withFloor(group(1, autoscalers(up(0)), spot(autoscalers(up(1, releasing, pods(1)))))), "hpc-1"),
			"1 machine is on its way out: hpc-1; the cloud takes machine hpc-1 away at 2026-11-23T12:02:00Z; its replacement is ordered first",
		},
		"two that are taken away and that nobody uses": {
			withFloor(group(2, spot(up(0)), spot(up(1)))),
			"2 of 2 nodes are Ready; the cloud takes machine hpc-0 away at 2026-11-23T12:02:00Z; and 1 more machine later",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := nodegroup.Plan(row.group, announceTimeout, noon)
			if got := d.Conditions[1].Message; got != row.want {
				t.Errorf("the message is\n%s, want\n%s", got, row.want)
			}
		})
	}
}

func TestThrottled(t *testing.T) {
	t.Parallel()
	waits := func(m nodegroup.Machine) nodegroup.Machine {
		m.Throttled = "RequestLimitExceeded"
		return m
	}
	g := group(4, waits(booting(0)), waits(booting(1)), waits(up(2)), waits(ago(time.Hour, booting(3))))
	d := nodegroup.Plan(g, announceTimeout, noon)
	got := d.Notes[len(d.Notes)-1]
	if got.Type != v1alpha1.ConditionThrottled || got.Status != "True" || got.Reason != v1alpha1.ReasonThrottled ||
		got.Message != "2 machines wait because the cloud asks to be asked later: RequestLimitExceeded" {
		t.Errorf("the condition is %+v", got)
	}
	if !strings.Contains(d.Conditions[1].Message, nodegroup.CodeProvisionTimeout) {
		t.Errorf("that the cloud throttles stops the clock: %s", d.Conditions[1].Message)
	}
}
