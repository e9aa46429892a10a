package nodegroup

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Ids of orders that are for no claim.
const (
	// OrderFloor is what the floor calls for beyond claims.
	OrderFloor = "floor"
	// OrderAutoscaler is what Cluster Autoscaler, or a person, asks for beyond the floor.
	OrderAutoscaler = "autoscaler"
)

// Order is a number of machines that are asked of the cloud together.
type Order struct {
	// ID is the claim that the order is for, OrderFloor or OrderAutoscaler.
	ID string
	// Purpose says for whom the machines are.
	Purpose v1alpha1.MachinePurpose
	// Count is the number of machines.
	Count int
	// Atomic is set where the cloud is to be asked for all of them or none.
	Atomic bool
	// Domain is where the machines are wanted, as KEY=VALUE, empty for anywhere.
	Domain string
}

// Record is what each machine of the order says of it. numbers are those of its machines.
func (o *Order) Record(numbers []int64) v1alpha1.MachineOrder {
	return v1alpha1.MachineOrder{
		ID: o.ID, Size: int32(o.Count), First: numbers[0], Last: numbers[len(numbers)-1], //nolint:gosec // At most MaxSize.
		Atomic: o.Atomic, Domain: o.Domain,
	}
}

// Count is the number of machines of all orders.
func Count(orders []Order) int {
	sum := 0
	for i := range orders {
		sum += orders[i].Count
	}
	return sum
}

// orders brings the number of machines up to the target. kept are the marked machines that wait to be held, unwanted is the number of
// machines which the target counts and nobody is to have. How many are for members follows from the claims as a whole; claims, in the
// order in which they began, say only what is asked for together.
func (g *Group) orders(kept map[string]*Machine, holders map[string]string, unwanted int, floor int32) []Order {
	live := g.countLive()
	// Above a maxSize that was lowered, what is replaced waits for what is released.
	missing := min(int(g.Target)-unwanted, int(g.MaxSize)) - live
	if missing <= 0 {
		return nil
	}
	// What the floor called for is ours to release even if nobody is short of a node now: the nodes that were of no use to a
	// member when it was counted may be free by the time of the order.
	forMembers := max(g.unmet()-len(kept), int(min(g.ForMembers, g.Target, g.minTarget(floor)))-live)
	forMembers = min(missing, max(0, forMembers))
	orders, left := g.claimOrders(kept, holders, forMembers)
	if left > 0 {
		orders = append(orders, Order{ID: OrderFloor, Purpose: v1alpha1.PurposeReservation, Count: left})
	}
	if rest := missing - forMembers; rest > 0 {
		orders = append(orders, Order{ID: OrderAutoscaler, Purpose: v1alpha1.PurposeAutoscaler, Count: rest})
	}
	return orders
}

// claimOrders divides machines among the claims that lack some, an order for each. left is how many are for none of them. An order
// that is cut short is not for all or none: half of it would not do what the whole is for.
func (g *Group) claimOrders(kept map[string]*Machine, holders map[string]string, machines int) (orders []Order, left int) {
	coming := g.coming(holders)
	claims := g.claims()
	spare := spareOf(kept, claims)
	standing := g.standing()
	for _, c := range claims {
		lacks := c.lacks(standing)
		if c.Claim != "" {
			lacks = max(0, lacks-coming[c.Claim])
		}
		waiting := min(spare, lacks)
		spare, lacks = spare-waiting, lacks-waiting
		count := min(lacks, machines)
		if c.Claim == "" || count == 0 {
			continue
		}
		machines -= count
		orders = append(orders, Order{
			ID: c.Claim, Purpose: v1alpha1.PurposeReservation, Count: count, Domain: c.Domain,
			Atomic: g.CanBeAtomic && c.AllOrNothing && count == lacks,
		})
	}
	return orders, machines
}

// claims are the reservations in the order in which they are served.
func (g *Group) claims() []*Reservation {
	claims := make([]*Reservation, 0, len(g.Reservations))
	for i := range g.Reservations {
		claims = append(claims, &g.Reservations[i])
	}
	slices.SortFunc(claims, func(a, b *Reservation) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Member, b.Member))
	})
	return claims
}

// coming is the number of machines that were ordered for a claim, are well and are not held yet, by the id of the order.
func (g *Group) coming(holders map[string]string) map[string]int {
	coming := map[string]int{}
	for _, m := range g.live() {
		if holders[m.nodeName()] == "" && m.Failure == nil {
			coming[m.Order.ID]++
		}
	}
	return coming
}

// spareOf is the number of machines that wait to be held and were ordered for none of the claims: they are for the first ones.
func spareOf(kept map[string]*Machine, claims []*Reservation) int {
	ids := map[string]bool{}
	for _, c := range claims {
		ids[c.Claim] = true
	}
	spare := 0
	for _, m := range kept {
		if m.Order.ID == "" || !ids[m.Order.ID] {
			spare++
		}
	}
	return spare
}
