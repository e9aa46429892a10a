package nodegroup

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Decisions is what a pass over a pool has decided. The fields are in the order in which they are to be
// applied; a pass may be cut off anywhere in between.
type Decisions struct {
	// Floor and Reserved belong into the status before anything else happens: a floor that is lowered
	// has to be told to Cluster Autoscaler before the target is.
	Floor, Reserved int32

	// Marks are the nodes whose annotations or taints have to change.
	Marks []Mark

	// Raise is the target to set because the pool follows its floor, or 0; RaisedForMembers is the part of it
	// that the floor calls for.
	Raise, RaisedForMembers int32

	// GiveUp is the number of machines by which the target is lowered because they were to be ordered for
	// members who want them no more. It has to be made sure first that none of them exists.
	GiveUp int32

	// Release are machines to put into spec.machinesToDelete in the one write that lowers the target by
	// their number. Before that write it has to be made sure, with a live look at each, that a registered
	// one is empty and held by nobody.
	Release []string

	// Delete are machines that are to go, Gone those of spec.machinesToDelete that exist no more.
	Delete, Gone []string

	// Cancel are machines that are booting and no longer wanted because the target was lowered.
	Cancel []string

	// Order are the machines to order, each with its purpose.
	Order []v1alpha1.MachinePurpose

	// Replicas, Ready and Conditions belong into the status.
	Replicas, Ready int32
	Conditions      []metav1.Condition
	WhenReady       string

	// Finish is set when the NodePool is being deleted and nothing of it is left.
	Finish bool

	// Next is when a pass is due though nothing has changed; zero when none is.
	Next time.Time
}

// Mark is what a node has to say of itself.
type Mark struct {
	Node string
	// HeldBy is the member that holds the node, empty for none.
	HeldBy string
	// Reserved is the mark that makes the node ours to release.
	Reserved bool
	// Releasing is set when the node has to be tainted for release, unset when the taint has to go.
	Releasing bool
	// Why is a sentence on the change.
	Why string
}

// Plan decides what is to be done for a pool. announceTimeout is how long a release waits for Cluster
// Autoscaler to ask for the least size, before it is taken not to be running.
func Plan(g *Group, announceTimeout time.Duration, now time.Time) Decisions {
	d := Decisions{Floor: g.WantedFloor(), Reserved: g.Reserved()}
	holders := g.holders()
	if g.Deleting && d.Reserved == 0 && len(holders) == 0 {
		g.planEnd(&d)
		return d
	}
	surplus, kept := g.divide(holders, now)

	chosen := map[string]bool{}
	room := int(g.Target - max(g.MinSize, d.Floor))
	unwanted := g.unwantedOrders(d.Floor)
	room -= unwanted
	for _, m := range surplus[:min(len(surplus), max(0, room))] {
		chosen[m.Name] = true
	}
	d.Marks = g.marks(holders, chosen)
	d.Release, d.GiveUp, d.Next = g.release(&d, surplus, chosen, unwanted, announceTimeout, now)

	if wanted := min(max(g.MinSize, d.Floor), g.MaxSize); g.FollowsFloor && wanted > g.Target {
		d.Raise, d.RaisedForMembers = wanted, g.raisedForMembers(wanted, d.Floor)
	}
	d.Delete, d.Gone = g.deletions()
	d.Cancel, d.Order = g.orders(kept, unwanted)
	g.report(&d)
	return d
}

// planEnd takes a pool apart that is being deleted. Every node is tainted, so that no pod comes to it any more, and
// goes when the last pod has left it.
func (g *Group) planEnd(d *Decisions) {
	live := g.live()
	chosen := map[string]bool{}
	for _, m := range live {
		chosen[m.Name] = true
		if m.Node == nil || (m.Node.Releasing && m.Node.Pods == 0) {
			d.Release = append(d.Release, m.Name)
		}
	}
	d.Marks = g.marks(nil, chosen)
	d.GiveUp = max(0, g.Target-int32(len(live))) //nolint:gosec // At most MaxSize and those that were cancelled.
	d.Delete, d.Gone = g.deletions()
	d.Finish = len(g.Machines) == 0 && len(g.ToDelete) == 0 && g.Target == 0
	g.report(d)
}

// divide finds the marked machines that nobody holds and no pod uses. As many of them as claims are unmet
// are kept, to be held next; the others are surplus, the least useful first.
func (g *Group) divide(holders map[string]string, now time.Time) (surplus []*Machine, kept int) {
	free := slices.DeleteFunc(g.live(), func(m *Machine) bool {
		return !m.marked() || holders[m.Name] != "" || (m.Node != nil && m.Node.Pods > 0)
	})
	rank := func(m *Machine) int {
		switch {
		case !m.usable(now, g.ProvisionTimeout):
			return 0
		case m.Node == nil:
			return 1
		case !m.Node.Ready:
			return 2
		case m.Node.Releasing:
			return 3
		default:
			return 4
		}
	}
	slices.SortStableFunc(free, func(a, b *Machine) int { return cmp.Compare(rank(a), rank(b)) })
	for unmet := g.unmet(); kept < unmet && len(free) > 0; kept++ {
		last := free[len(free)-1]
		if rank(last) == 0 {
			break
		}
		free = free[:len(free)-1]
	}
	return free, kept
}

// marks are the nodes that do not say of themselves what they should.
func (g *Group) marks(holders map[string]string, chosen map[string]bool) []Mark {
	var marks []Mark
	for _, m := range g.live() {
		if m.Node == nil {
			continue
		}
		node, holder := m.Node, holders[m.Name]
		mark := Mark{Node: node.Name, HeldBy: holder, Reserved: node.Reserved || holder != "", Releasing: chosen[m.Name]}
		switch {
		case mark.Releasing && !node.Releasing && g.Deleting:
			mark.Why = "the NodePool is being deleted; no pod may come to the node any more"
		case mark.Releasing && !node.Releasing:
			mark.Why = "no member holds the node and no pod uses it; it is released"
		case !mark.Releasing && node.Releasing && holder != "":
			mark.Why = "the node is handed over to " + holder
		case !mark.Releasing && node.Releasing:
			mark.Why = "the node is needed after all"
		case holder != node.HeldBy && holder != "":
			mark.Why = "the node is held for " + holder
		case holder != node.HeldBy:
			mark.Why = "the node is no longer held for " + node.HeldBy
		case mark.Reserved == node.Reserved:
			continue
		}
		marks = append(marks, mark)
	}
	return marks
}

// unwantedOrders is the number of machines that do not exist yet and were called for by a floor that is lower
// now. They are not ordered any more.
func (g *Group) unwantedOrders(floor int32) int {
	live := len(g.live())
	unwanted := int(min(g.Target, g.ForMembers)) - max(live, int(g.MinSize), int(floor))
	return max(0, min(unwanted, int(g.Target)-live))
}

// release are the machines whose release can be recorded now: those that have not registered, and nodes
// that were tainted in an earlier pass, so that no pod has come since; and how many of the unwanted orders can
// be given up.
func (g *Group) release(d *Decisions, surplus []*Machine, chosen map[string]bool, unwanted int, timeout time.Duration, now time.Time) (names []string, giveUp int32, next time.Time) {
	for _, m := range surplus {
		if chosen[m.Name] && (m.Node == nil || m.Node.Releasing) {
			names = append(names, m.Name)
		}
	}
	less := len(names) + unwanted
	if less == 0 || d.Floor != g.Floor {
		// A lower floor is recorded first; the pass that follows releases.
		return nil, 0, time.Time{}
	}
	told := g.FollowsFloor || int(g.Target)-less >= int(g.AnnouncedFloor)
	if until := g.FloorChangedAt.Add(timeout); !told && now.Before(until) {
		return nil, 0, until
	}
	return names, int32(unwanted), time.Time{} //nolint:gosec // At most MaxSize.
}

// deletions divides the machines that are to go into those that exist and those that are gone.
func (g *Group) deletions() (existing, gone []string) {
	exists := make(map[string]bool, len(g.Machines))
	for i := range g.Machines {
		exists[g.Machines[i].Name] = true
	}
	for _, name := range g.ToDelete {
		if exists[name] {
			existing = append(existing, name)
		} else {
			gone = append(gone, name)
		}
	}
	return existing, gone
}

// orders brings the number of machines to the target: by new ones, or by cancelling those that have not
// registered, the newest first. kept is the number of marked machines that wait to be held, unwanted that of
// machines which the target counts and nobody wants any more.
func (g *Group) orders(kept, unwanted int) (cancel []string, order []v1alpha1.MachinePurpose) {
	live := g.live()
	missing := int(g.Target) - len(live) - unwanted
	for _, m := range live {
		if len(cancel) < -missing && !m.Registered && m.Node == nil {
			cancel = append(cancel, m.Name)
		}
	}
	forMembers := g.unmet() - kept
	for i := range max(0, missing) {
		if i < forMembers {
			order = append(order, v1alpha1.PurposeReservation)
		} else {
			order = append(order, v1alpha1.PurposeAutoscaler)
		}
	}
	return cancel, order
}

// report fills in what the status says.
func (g *Group) report(d *Decisions) {
	d.Replicas = int32(len(g.Machines)) //nolint:gosec // At most MaxSize and the machines on their way out.
	live, ready := g.live(), int32(0)
	var failed *Machine
	for i := range g.Machines {
		if g.Machines[i].Node != nil && g.Machines[i].Node.Ready {
			d.Ready++
		}
	}
	for _, m := range live {
		if m.Node != nil && m.Node.Ready {
			ready++
		}
		if m.Failure != nil {
			failed = m
		}
	}

	floor := metav1.Condition{Type: v1alpha1.ConditionFloorMet, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonFloorMet,
		Message: fmt.Sprintf("the target size %d is at or above the floor %d", g.Target, d.Floor)}
	if g.Target < d.Floor {
		floor.Status, floor.Reason = metav1.ConditionFalse, v1alpha1.ReasonFloorNotMet
		floor.Message = fmt.Sprintf("the target size %d is below the floor %d; waiting for Cluster Autoscaler, which has to run with --enforce-node-group-min-size", g.Target, d.Floor)
	}

	machines := metav1.Condition{Type: v1alpha1.ConditionMachinesReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonMachinesReady,
		Message: fmt.Sprintf("%d of %d nodes are Ready", ready, g.Target)}
	switch {
	case g.Deleting:
		machines.Status, machines.Reason = metav1.ConditionFalse, v1alpha1.ReasonDeleting
		machines.Message = g.waitsFor()
	case failed != nil:
		machines.Status, machines.Reason = metav1.ConditionFalse, v1alpha1.ReasonMachineFailed
		machines.Message = fmt.Sprintf("machine %s failed: %s: %s", failed.Name, failed.Failure.Code, failed.Failure.Message)
	case ready < g.Target:
		machines.Status, machines.Reason = metav1.ConditionFalse, v1alpha1.ReasonProvisioning
	case len(g.ToDelete) > 0:
		machines.Status, machines.Reason = metav1.ConditionFalse, v1alpha1.ReasonReleasing
		machines.Message = fmt.Sprintf("%d machines are on their way out: %s", len(g.ToDelete), Listed(g.ToDelete))
	}
	d.Conditions = []metav1.Condition{floor, machines}
	d.WhenReady = machines.Message
}

// waitsFor says what keeps a pool that is being deleted.
func (g *Group) waitsFor() string {
	const begin = "the NodePool is being deleted"
	if len(g.Reservations) > 0 {
		var members []string
		for i := range g.Reservations {
			members = append(members, g.Reservations[i].Member)
		}
		return fmt.Sprintf("%s; it waits until no node is reserved by %s", begin, Listed(members))
	}
	var used []string
	for _, m := range g.live() {
		if m.Node != nil && m.Node.Pods > 0 {
			used = append(used, m.Name)
		}
	}
	if len(used) > 0 {
		slices.Sort(used)
		return fmt.Sprintf("%s; it waits until no pod is on %s", begin, Listed(used))
	}
	return begin + ", and its machines are"
}

// newestFirst orders machines by their time of order, then by name, of which the longer is the newer one.
func newestFirst(a, b *Machine) int {
	return -cmp.Or(a.OrderedAt.Compare(b.OrderedAt), cmp.Compare(len(a.Name), len(b.Name)), strings.Compare(a.Name, b.Name))
}

// Listed names the first few of a list and counts the rest: a message has to stay readable.
func Listed(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
