package nodegroup_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// claims are reservations that began one after the other, the last one first.
func claims(changes ...func(*nodegroup.Reservation)) func(nodes int32, held ...int) nodegroup.Reservation {
	return func(nodes int32, held ...int) nodegroup.Reservation {
		r := claim("ns/a", nodes, held...)
		r.Claim, r.Since = "uid-a", noon.Add(-time.Minute)
		for _, change := range changes {
			change(&r)
		}
		return r
	}
}

func allOrNothing(r *nodegroup.Reservation) { r.AllOrNothing = true }
func inZone(r *nodegroup.Reservation)       { r.Domain = "topology.kubernetes.io/zone=a" }

// of makes a claim another member's, that began some time before noon.
func of(member string, age time.Duration) func(*nodegroup.Reservation) {
	return func(r *nodegroup.Reservation) {
		r.Member, r.Claim, r.Since = "ns/"+member, "uid-"+member, noon.Add(-age)
	}
}

// part is a machine of an order of so many, of which it is one.
func part(id string, size int32, first int64, m nodegroup.Machine) nodegroup.Machine {
	m.Order = v1alpha1.MachineOrder{ID: id, Size: size, First: first, Last: first + int64(size) - 1}
	return m
}

func canBeAtomic(g *nodegroup.Group) *nodegroup.Group {
	g.CanBeAtomic = true
	return g
}

func atomic(o *nodegroup.Order)                      { o.Atomic = true }
func zonal(o *nodegroup.Order)                       { o.Domain = "topology.kubernetes.io/zone=a" }
func nobodys(*nodegroup.Order)                       {}
func orders(of ...nodegroup.Order) []nodegroup.Order { return of }

func TestOrders(t *testing.T) {
	t.Parallel()
	mine := claims(allOrNothing)
	for name, row := range map[string]struct {
		group *nodegroup.Group
		want  []nodegroup.Order
	}{
		"a claim has an order of its own": {
			withFloor(with(group(3), claims(inZone)(3))),
			orders(orderFor("uid-a", 3, zonal)),
		},
		"it is for all or none where the cloud can and the member has no use for a part": {
			canBeAtomic(withFloor(with(group(3), mine(3)))),
			orders(orderFor("uid-a", 3, atomic)),
		},
		"but not where the cloud cannot": {
			withFloor(with(group(3), mine(3))),
			orders(orderFor("uid-a", 3, nobodys)),
		},
		"nor where the member has use for a part": {
			canBeAtomic(withFloor(with(group(3), claims()(3)))),
			orders(orderFor("uid-a", 3)),
		},
		"nor where the target has no room for all": {
			canBeAtomic(withFloor(with(group(2), mine(3)))),
			orders(orderFor("uid-a", 2)),
		},
		"what the claim has is not ordered again": {
			canBeAtomic(withFloor(with(group(4, up(0, heldBy("ns/a")), part("uid-a", 1, 1, booting(1))), mine(4, 0)))),
			orders(orderFor("uid-a", 2, atomic)),
		},
		"nor a node that waits to be held, for whichever member it was ordered": {
			canBeAtomic(withFloor(with(group(4, part("floor", 1, 0, up(0))), mine(4)))),
			orders(orderFor("uid-a", 3, atomic)),
		},
		"one that it lost is": {
			withFloor(
				following(
					with(group(2, up(0, heldBy("ns/a")), part("uid-a", 2, 0, crashed(ago(time.Hour, up(1, heldBy("ns/a")))))), claims()(2, 0, 1)),
				),
			),
			orders(orderFor("uid-a", 1)),
		},
		"claims are served in the order in which they began": {
			withFloor(with(group(5), claims()(3), claims(of("b", time.Hour))(3))),
			orders(orderFor("uid-b", 3), orderFor("uid-a", 2)),
		},
		"and then by their members": {
			withFloor(with(group(5), claims(of("d", time.Hour))(3), claims(of("c", time.Hour))(3))),
			orders(orderFor("uid-c", 3), orderFor("uid-d", 2)),
		},
		"what strangers have filled is for the floor, and the rest Cluster Autoscaler's": {
			forMembers(5, withFloor(with(group(6), occupied(claims()(3), 2)))),
			orders(orderFor("uid-a", 3), orderFloor(2), orderAutoscaler(1)),
		},
		"a claim that says not which growth it is for is the floor's": {
			withFloor(with(group(3), claim("ns/a", 3))),
			orders(orderFloor(3)),
		},
		"while records of an order vanish nothing is ordered": {
			withFloor(with(group(3, part("uid-a", 3, 0, booting(0))), claims()(3))),
			nil,
		},
		"above a maxSize that was lowered nothing is": {
			maxSize(
				2, withFloor(with(group(4, up(0, heldBy("ns/a")), spot(autoscalers(up(1, pods(1)))), autoscalers(up(2, pods(1)))), claims()(2, 0))),
			),
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := nodegroup.Plan(row.group, announceTimeout, noon)
			if diff := cmp.Diff(row.want, d.Order, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("wrong orders (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRecordOfAnOrder(t *testing.T) {
	t.Parallel()
	order := orderFor("uid-a", 3, atomic, zonal)
	want := v1alpha1.MachineOrder{ID: "uid-a", Size: 3, First: 4, Last: 7, Atomic: true, Domain: "topology.kubernetes.io/zone=a"}
	if got := order.Record([]int64{4, 6, 7}); got != want {
		t.Errorf("the record is %+v, want %+v", got, want)
	}
	if got := nodegroup.Count(orders(orderFloor(2), orderAutoscaler(3))); got != 5 {
		t.Errorf("2 and 3 machines are %d", got)
	}
}

// registeredUnasked is a machine that has registered before it was recorded that the cloud was asked for it.
func registeredUnasked(m nodegroup.Machine) nodegroup.Machine {
	m.Registered = true
	return m
}

func TestAbandoned(t *testing.T) {
	t.Parallel()
	of := func(n int) nodegroup.Machine { return part("uid-a", 3, 0, autoscalers(booting(n))) }
	for name, row := range map[string]struct {
		machines []nodegroup.Machine
		want     []string
	}{
		"an order that is complete":        {[]nodegroup.Machine{of(0), of(1), of(2)}, nil},
		"one of which a record is missing": {[]nodegroup.Machine{of(0), of(2)}, []string{"hpc-2", "hpc-0"}},
		"one that has launched a machine":  {[]nodegroup.Machine{asked(of(0)), of(2)}, nil},
		"one of which a machine has registered": {
			[]nodegroup.Machine{part("uid-a", 3, 0, registeredUnasked(autoscalers(booting(0)))), of(2)}, nil,
		},
		"one of which a machine is up":                       {[]nodegroup.Machine{part("uid-a", 3, 0, autoscalers(up(0))), of(2)}, nil},
		"one that is complete until the last record is gone": {[]nodegroup.Machine{of(0), of(1), beingDeleted(of(2))}, nil},
		"one that is being abandoned":                        {[]nodegroup.Machine{of(0), beingDeleted(of(1))}, []string{"hpc-0"}},
		"another order for the same claim": {
			[]nodegroup.Machine{of(0), of(1), of(2), part("uid-a", 2, 3, autoscalers(booting(3)))}, []string{"hpc-3"},
		},
		"machines of no order": {[]nodegroup.Machine{booting(0)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := withFloor(group(5, row.machines...))
			d := nodegroup.Plan(g, announceTimeout, noon)
			if diff := cmp.Diff(row.want, d.Abandon, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("wrong machines are abandoned (-want +got):\n%s", diff)
			}
			if len(row.want) > 0 && (len(d.Order)+len(d.Cancel)+len(d.Release)+len(d.Leave) > 0 || d.GiveUp > 0) {
				t.Errorf("besides %+v", stepsOf(&d))
			}
			if d := nodegroup.Plan(paused(g), announceTimeout, noon); len(d.Abandon) > 0 {
				t.Errorf("a paused pool abandons %v", d.Abandon)
			}
		})
	}
}

// TestNoneIsCancelledForOneThatIsAbandoned: what is abandoned makes room for the others.
func TestNoneIsCancelledForOneThatIsAbandoned(t *testing.T) {
	t.Parallel()
	g := withFloor(group(1, part("autoscaler", 2, 0, autoscalers(booting(0))), autoscalers(booting(1))))
	d := nodegroup.Plan(g, announceTimeout, noon)
	if len(d.Cancel) > 0 || fmt.Sprint(d.Abandon) != "[hpc-0]" {
		t.Errorf("cancels %v and abandons %v, want hpc-0 abandoned", d.Cancel, d.Abandon)
	}
}

// TestCancelFailedFirst: of those that a lower target does not count the ones go first that do not come anyway.
func TestCancelFailedFirst(t *testing.T) {
	t.Parallel()
	g := withFloor(group(1, failing(autoscalers(booting(0))), autoscalers(booting(1)), autoscalers(booting(2))))
	d := nodegroup.Plan(g, announceTimeout, noon)
	if got := fmt.Sprint(d.Cancel); got != "[hpc-0 hpc-2]" {
		t.Errorf("cancels %s, want the failed one and the newest", got)
	}
}
