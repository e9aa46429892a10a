package whatif

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// Outcome is what becomes of the size that is asked about.
type Outcome string

const (
	// Granted says that all nodes are reserved, and the MiniCluster is resized when they are Ready.
	Granted Outcome = "Granted"
	// Refused says that nothing more is reserved for now. Reason and Message say why.
	Refused Outcome = "Refused"
	// Shrinks says that the highest ranks leave.
	Shrinks Outcome = "Shrinks"
	// Unchanged says that the member wants this size already, or that its MiniCluster has ended, so that no size makes a difference.
	Unchanged Outcome = "Unchanged"
)

// Answer is what the planner decides for a member with another size.
type Answer struct {
	// Member is its namespace and name.
	Member string `json:"member"`
	// Size is the size of its MiniCluster, Desired the size that it wants, and Asked the one that is asked about, within the bounds of the
	// MiniCluster. Limited says which bound it was limited by; empty for none.
	Size    int32  `json:"size"`
	Desired int32  `json:"desired"`
	Asked   int32  `json:"asked"`
	Limited string `json:"limited,omitempty"`

	Outcome Outcome `json:"outcome"`
	// Reason and Message are those of the condition that a growth waits for.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message"`

	// Pools are those of the member's list, in its order, and others in which it has nodes.
	Pools []PoolAnswer `json:"pools"`
	// PricePerHour is what the nodes that are reserved then cost more for an hour than those of now, negative for less. Empty where the
	// price of one of them is not declared; Unpriced names those pools.
	PricePerHour string   `json:"pricePerHour,omitempty"`
	Unpriced     []string `json:"unpriced,omitempty"`
	// Ready is how long it takes until all nodes are Ready, in the words of ReadyIn.
	Ready string `json:"ready,omitempty"`

	// Leaves are the ranks that leave, with their nodes, the highest first.
	Leaves []Leaving `json:"leaves,omitempty"`
	// Others are the members for which something else is decided because of it.
	Others []Other `json:"others,omitempty"`

	// MissingRights are what the user may not read, with what is not known because of it.
	MissingRights []MissingRight `json:"missingRights,omitempty"`
}

// PoolAnswer is what a pool has to do with it. Counts are of nodes.
type PoolAnswer struct {
	Name string `json:"name"`
	// Before and After are the nodes that are reserved for the member there.
	Before int32 `json:"before"`
	After  int32 `json:"after"`
	// Held are those of After that are there already; Order is by how many machines the pool's floor rises above its target.
	Held  int32 `json:"held"`
	Order int32 `json:"order"`
	// PricePerHour is the price of one node; empty where none is declared.
	PricePerHour string `json:"pricePerHour,omitempty"`
	// ReadyIn is the time until the nodes that are missing are Ready, and Measured what it is measured by.
	ReadyIn  string   `json:"readyIn,omitempty"`
	Measured Measured `json:"measured"`
	// Refusal is why the pool alone does not grant the size; empty where it does, or was not asked.
	Refusal string `json:"refusal,omitempty"`
}

// Leaving is a rank that leaves.
type Leaving struct {
	Rank int32  `json:"rank"`
	Node string `json:"node"`
}

// Other is another member that the size makes a difference to.
type Other struct {
	Member  string `json:"member"`
	Message string `json:"message"`
}

// Change is by how much, or to what, the desired size is to change. Exactly one of the fields is set.
type Change struct{ Grow, Shrink, To int32 }

// of is the size that a change leads to from a desired size.
func (c Change) of(desired int32) int64 {
	switch {
	case c.To > 0:
		return int64(c.To)
	default:
		return int64(desired) + int64(c.Grow) - int64(c.Shrink)
	}
}

// Bounds are the minimum and the maximum size of a MiniCluster.
type Bounds struct{ Min, Max int32 }

// limit brings a size into the bounds, and says by which one it was limited.
func (b Bounds) limit(size int64) (limited int32, by string) {
	switch {
	case size > int64(b.Max):
		return b.Max, fmt.Sprintf("limited to %d by spec.maxSize", b.Max)
	case size < int64(b.Min):
		return b.Min, fmt.Sprintf("limited to %d by spec.minSize", b.Min)
	default:
		return int32(size), "" //nolint:gosec // Within bounds that are int32.
	}
}

// Ask asks the planner what it decides for a member with another size. An error says that there is no such member.
func (w *World) Ask(key types.NamespacedName, change Change, bounds Bounds) (*Answer, error) {
	at := slices.IndexFunc(w.Observed.Members, func(m plan.Member) bool { return m.Key == key })
	if at < 0 {
		return nil, fmt.Errorf(
			"there is no member %s: its workload does not exist, or is not managed (annotation %s, and --kinds of the controller)", key,
			v1alpha1.AnnotationNodePools,
		)
	}
	before, usual := settle(w.Observed, w.Now)
	member := w.Observed.Members[at]
	a := &Answer{Member: key.String(), Size: member.Size, Desired: member.Wants}
	a.Asked, a.Limited = bounds.limit(change.of(member.Wants))
	if a.Asked == member.Wants {
		a.Outcome, a.Message = Unchanged, fmt.Sprintf("the member wants size %d already", a.Asked)
	}
	changed := w.with(at, func(m *plan.Member) { m.Wants = a.Asked })
	after, decisions := settle(changed, w.Now)
	if member.Lifecycle == plan.Finished || member.Lifecycle == plan.Deleting {
		a.Outcome, a.Message = Unchanged, "" // What is decided says why.
	}
	w.judge(a, &after[at], &decisions[at])
	w.price(a, before[at].Reservations, before, after)
	if a.Asked < member.Size && a.Outcome != Unchanged {
		a.Leaves = leaving(&member, a.Asked)
	}
	w.refusals(a, at, &after[at])
	a.Others = others(at, usual, decisions)
	return a, nil
}

// AskNew asks the planner what it decides for a member that does not exist yet, which is the last of those observed.
func (w *World) AskNew() *Answer {
	at := len(w.Observed.Members) - 1
	member := w.Observed.Members[at]
	without := w.Observed
	without.Members = without.Members[:at]
	before, usual := settle(without, w.Now)
	after, decisions := settle(w.Observed, w.Now)
	a := &Answer{Member: member.Key.String(), Asked: member.Wants}
	w.judge(a, &after[at], &decisions[at])
	w.price(a, nil, before, after)
	w.refusals(a, at, &after[at])
	a.Others = others(at, usual, decisions)
	return a
}

// with is what is observed, with one member changed.
func (w *World) with(at int, change func(*plan.Member)) plan.Observed {
	observed := w.Observed
	observed.Members = slices.Clone(observed.Members)
	change(&observed.Members[at])
	return observed
}

// judge says what becomes of the size.
func (w *World) judge(a *Answer, after *plan.Member, d *plan.Decision) {
	reserved := meta.FindStatusCondition(d.Conditions, v1alpha1.ConditionCapacityReserved)
	if a.Outcome == "" {
		switch {
		case reserved != nil && reserved.Status != metav1.ConditionTrue:
			a.Outcome = Refused
		case a.Asked < a.Size:
			a.Outcome = Shrinks
		default:
			a.Outcome = Granted
		}
	}
	if reserved != nil && a.Message == "" {
		a.Message = reserved.Message
		if reserved.Status != metav1.ConditionTrue {
			a.Reason = reserved.Reason
		}
	}
	names := slices.Clone(after.NodePools)
	for i := range after.Reservations {
		if name := after.Reservations[i].NodePool; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		pool := PoolAnswer{Name: name, Measured: w.Pools[name].Measured}
		if r := reservationIn(after.Reservations, name); r != nil {
			pool.After, pool.Held = r.Nodes, min(r.Nodes, int32(len(r.Held))) //nolint:gosec // Bounded by the size of the pool.
		}
		a.Pools = append(a.Pools, pool)
	}
}

// price says what the nodes cost, how many machines are ordered, and when they are Ready.
func (w *World) price(a *Answer, reserved []v1alpha1.Reservation, before, after []plan.Member) {
	total := resource.Quantity{}
	var slowest *PoolAnswer
	var longest time.Duration
	for i := range a.Pools {
		pool := &a.Pools[i]
		known := w.Pools[pool.Name]
		if r := reservationIn(reserved, pool.Name); r != nil {
			pool.Before = r.Nodes
		}
		floor := w.floor(pool.Name, before)
		pool.Order = max(0, w.floor(pool.Name, after)-max(known.Replicas, floor))
		if known.PricePerHour != nil {
			pool.PricePerHour = decimal(known.PricePerHour)
		}
		switch more := pool.After - pool.Before; {
		case more == 0:
		case known.PricePerHour == nil:
			a.Unpriced = append(a.Unpriced, pool.Name)
		default:
			price := known.PricePerHour.DeepCopy()
			price.Mul(int64(more))
			total.Add(price)
		}
		if pool.After <= pool.Before || a.Outcome == Refused {
			continue
		}
		pool.ReadyIn = readyIn(pool, known.ProvisionTimeout)
		took := pool.Measured.Slowest.Duration
		if pool.Measured.Machines == 0 {
			took = known.ProvisionTimeout
		}
		if pool.Held < pool.After && (slowest == nil || took > longest) {
			slowest, longest = pool, took
		}
	}
	if len(a.Unpriced) == 0 {
		a.PricePerHour = decimal(&total)
	}
	switch {
	case a.Outcome != Granted:
	case slowest == nil:
		a.Ready = atOnce
	default:
		a.Ready = slowest.ReadyIn
	}
}

const atOnce = "at once: all nodes are there"

// readyIn says how long the nodes of a pool take that are missing.
func readyIn(pool *PoolAnswer, timeout time.Duration) string {
	m := &pool.Measured
	switch {
	case pool.Held >= pool.After:
		return atOnce
	case m.Machines == 0:
		return fmt.Sprintf("not measured yet, at most %s by the pool's provisionTimeout", timeout)
	case m.Machines == 1:
		return fmt.Sprintf("about %s, as the one machine of the pool that is Ready", m.Median.Duration)
	default:
		return fmt.Sprintf("about %s, up to %s, as the last %d machines of the pool", m.Median.Duration, m.Slowest.Duration, m.Machines)
	}
}

// floor is the number of machines that the claims of members on a pool call for, and its minSize, as the provider counts.
func (w *World) floor(name string, members []plan.Member) int32 {
	at := slices.IndexFunc(w.Observed.Pools, func(p plan.Pool) bool { return p.Name == name })
	if at < 0 {
		return 0
	}
	var nodes, occupied int32
	for i := range members {
		if r := reservationIn(members[i].Reservations, name); r != nil {
			nodes, occupied = nodes+r.Nodes, max(occupied, r.Occupied)
		}
	}
	hidden := w.Pools[name].Hidden
	return min(max(nodes+hidden+occupied, w.Pools[name].MinSize), w.Observed.Pools[at].MaxSize+hidden)
}

// refusals asks the planner about each pool alone that has no part in a growth: those before the last that has, and where nothing is
// granted all of them.
func (w *World) refusals(a *Answer, at int, after *plan.Member) {
	if a.Outcome != Granted && a.Outcome != Refused {
		return
	}
	last := len(after.NodePools)
	if a.Outcome == Granted {
		last = 0
		for i, name := range after.NodePools {
			if a.Pools[i].After > a.Pools[i].Before && a.Pools[i].Name == name {
				last = i
			}
		}
	}
	for i, name := range after.NodePools[:last] {
		if a.Outcome == Granted && a.Pools[i].After > a.Pools[i].Before {
			continue
		}
		_, alone := settle(w.with(at, func(m *plan.Member) { m.Wants, m.NodePools = a.Asked, []string{name} }), w.Now)
		if c := meta.FindStatusCondition(alone[at].Conditions, v1alpha1.ConditionCapacityReserved); c != nil && c.Status != metav1.ConditionTrue {
			a.Pools[i].Refusal = c.Message
		}
	}
}

// others are the members for which the second decisions differ from the first in what they wait for, or in what is reserved.
func others(but int, usual, decisions []plan.Decision) []Other {
	var out []Other
	for i := range usual {
		if i == but {
			continue
		}
		was := meta.FindStatusCondition(usual[i].Conditions, v1alpha1.ConditionCapacityReserved)
		is := meta.FindStatusCondition(decisions[i].Conditions, v1alpha1.ConditionCapacityReserved)
		if was == nil || is == nil || (was.Status == is.Status && was.Reason == is.Reason &&
			inWords(usual[i].Reservations) == inWords(decisions[i].Reservations)) {
			continue
		}
		out = append(out, Other{Member: usual[i].Key.String(), Message: is.Message})
	}
	return out
}

// leaving are the ranks from a size on that are on nodes, the highest first.
func leaving(m *plan.Member, size int32) []Leaving {
	var out []Leaving
	for i := range m.Pods {
		if p := &m.Pods[i]; p.Index >= size {
			out = append(out, Leaving{Rank: p.Index, Node: p.Node})
		}
	}
	slices.SortFunc(out, func(a, b Leaving) int { return int(b.Rank) - int(a.Rank) })
	return out
}

func reservationIn(of []v1alpha1.Reservation, pool string) *v1alpha1.Reservation {
	for i := range of {
		if of[i].NodePool == pool {
			return &of[i]
		}
	}
	return nil
}

// inWords names the pools of reservations with their numbers of nodes.
func inWords(reservations []v1alpha1.Reservation) string {
	words := make([]string, len(reservations))
	for i := range reservations {
		words[i] = fmt.Sprintf("%s %d", reservations[i].NodePool, reservations[i].Nodes)
	}
	return strings.Join(words, ", ")
}

// decimal is a price as people write it: 3.06 and not 3060m.
func decimal(q *resource.Quantity) string {
	if q.IsZero() {
		return "0" // And not 0.00, as the sum of two others has it.
	}
	return q.AsDec().String()
}
