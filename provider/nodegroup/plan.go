package nodegroup

import (
	"cmp"
	"fmt"
	"maps"
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

	// Retire are machines to put into spec.machinesToDelete while the target stays: it does not count them any
	// more, or they are to be replaced. The same has to be made sure of them.
	Retire []string

	// Delete are machines that are to go, Gone those of spec.machinesToDelete that exist no more. With LookForGone it
	// has to be made sure first that they do not: the order of one may have been under way.
	Delete, Gone []string
	LookForGone  bool

	// OrderedFrom belongs into the status: the first number whose order may be under way.
	OrderedFrom int64

	// Cancel are machines that are booting and no longer wanted because the target was lowered.
	Cancel []string

	// Order are the machines to order, each with its purpose.
	Order []v1alpha1.MachinePurpose

	// Failed names the machines that have failed, NewlyFailed those of them that the status does not name yet, and
	// LastFailure is the latest one, nil when it is recorded already. They belong into the status before a
	// machine is deleted: afterwards nothing tells of its failure.
	Failed, NewlyFailed []string
	LastFailure         *Failure
	LastFailed          string

	// Replicas, Ready and Conditions belong into the status. Ready, the condition, follows from Conditions and not
	// from Notes.
	Replicas, Ready   int32
	Conditions, Notes []metav1.Condition
	WhenReady         string

	// Finish is set when the NodePool is being deleted and nothing of it is left.
	Finish bool

	// Next is when a pass is due though nothing has changed; zero when none is.
	Next time.Time

	// warm are the machines that stay for the next growth, each with the time until which it does.
	warm map[string]time.Time
}

// Mark is what a node has to say of itself.
type Mark struct {
	Node string
	// HeldBy is the member that holds the node, empty for none.
	HeldBy string
	// Warm is set when the node stays for the next growth though nobody holds it: Cluster Autoscaler must not remove it.
	Warm bool
	// Reserved is the mark that makes the node ours to release.
	Reserved bool
	// Releasing is set when the node has to be tainted for release, unset when the taint has to go.
	Releasing bool
	// Why is a sentence on the change.
	Why string
}

// replaceAfter is how long after its order a machine that has failed is replaced at the earliest, where no
// autoscaler decides on that: a cloud that is out of machines is asked once in that time.
const replaceAfter = time.Minute

// Plan decides what is to be done for a pool. announceTimeout is how long a release waits for Cluster
// Autoscaler to ask for the least size, before it is taken not to be running.
func Plan(g *Group, announceTimeout time.Duration, now time.Time) Decisions {
	g = g.asOf(now)
	d := Decisions{Floor: g.WantedFloor(), Reserved: g.Reserved()}
	g.noteFailures(&d)
	d.OrderedFrom = g.underWay()
	holders := g.holders()
	switch {
	case g.Paused:
		g.report(&d)
		return d
	case g.Deleting && d.Reserved == 0 && len(holders) == 0:
		g.planEnd(&d)
		return d
	}
	surplus, kept := g.divide(holders, now)
	surplus, warm, cold := g.keepWarm(surplus, now)

	chosen := map[string]string{}
	room := int(g.Target - max(g.MinSize, d.Floor))
	unwanted := g.unwantedOrders(d.Floor)
	room -= unwanted
	for _, m := range surplus[:min(len(surplus), max(0, room))] {
		chosen[m.Name] = "no member holds the node and no pod uses it; it is released"
	}
	retired, due := g.retire(holders, chosen, surplus, d.Floor, now)
	tainted := maps.Clone(chosen)
	maps.Copy(tainted, retired)
	d.Marks = g.marks(holders, tainted, warm)
	d.Release, d.GiveUp, d.Next = g.release(&d, surplus, chosen, unwanted, announceTimeout, now)
	d.Next = earlier(d.Next, earlier(cold, earlier(due, g.nextDeadline(now))))
	for _, m := range g.live() {
		if retired[m.Name] != "" && (m.Node == nil || m.Node.Releasing) {
			d.Retire = append(d.Retire, m.Name)
		}
	}

	if wanted := g.leastSize(d.Floor); g.FollowsFloor && wanted > g.Target {
		d.Raise, d.RaisedForMembers = wanted, g.raisedForMembers(wanted, d.Floor)
	}
	d.Delete, d.Gone = g.deletions()
	d.LookForGone = slices.ContainsFunc(d.Gone, func(name string) bool { return Number(g.Name, name) >= g.OrderedFrom })
	d.Cancel, d.Order = g.orders(kept, unwanted)
	if d.Raise > 0 {
		// The raised target may well call for what the present one does not.
		d.Cancel = nil
	}
	d.warm = warm
	g.report(&d)
	return d
}

// keepWarm divides the surplus into what is released and what stays for the next growth, by name, each with the time until
// which it does. next is when the first of them is due.
func (g *Group) keepWarm(surplus []*Machine, now time.Time) (released []*Machine, warm map[string]time.Time, next time.Time) {
	if g.ScaleDownDelay <= 0 || g.Deleting {
		return surplus, nil, next
	}
	warm = map[string]time.Time{}
	for _, m := range surplus {
		until := now
		switch {
		case m.Node == nil || !m.Node.Ready || m.Node.Releasing || !m.usable(now, g.ProvisionTimeout):
		case m.Node.HeldBy != "":
			// It is given up in this pass.
			until = now.Add(g.ScaleDownDelay)
		case !m.Node.GivenUpAt.IsZero():
			until = m.Node.GivenUpAt.Add(g.ScaleDownDelay)
		}
		if !now.Before(until) {
			released = append(released, m)
			continue
		}
		warm[m.Name] = until
		next = earlier(next, until)
	}
	return released, warm, next
}

// underWay is the first number whose order may be under way. There is none when all machines are known that the target
// calls for, and none of those that are to go may still turn up.
func (g *Group) underWay() int64 {
	if g.countLive() < int(g.Target) {
		return g.OrderedFrom
	}
	if g.OrderedFrom >= g.Ordered {
		return g.Ordered
	}
	known := g.names()
	for _, name := range g.ToDelete {
		if !known[name] && Number(g.Name, name) >= g.OrderedFrom {
			return g.OrderedFrom
		}
	}
	return g.Ordered
}

// noteFailures finds the machines that have failed, and those of which the status does not know.
func (g *Group) noteFailures(d *Decisions) {
	known := setOf(g.KnownFailed)
	for i := range g.Machines {
		m := &g.Machines[i]
		if m.Failure == nil {
			continue
		}
		d.Failed = append(d.Failed, m.Name)
		if known[m.Name] {
			continue
		}
		d.NewlyFailed = append(d.NewlyFailed, m.Name)
		if d.LastFailure == nil || m.Failure.At.After(d.LastFailure.At) {
			d.LastFailure, d.LastFailed = m.Failure, m.Name
		}
	}
	slices.Sort(d.Failed)
	slices.Sort(d.NewlyFailed)
}

// nextDeadline is when the next machine will be late, zero when none can be.
func (g *Group) nextDeadline(now time.Time) (next time.Time) {
	for _, m := range g.live() {
		if deadline := m.OrderedAt.Add(g.ProvisionTimeout); m.Failure == nil && !m.Registered && m.Node == nil && deadline.After(now) {
			next = earlier(next, deadline)
		}
	}
	return next
}

// earlier is the earlier of two times, of which a zero one means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// retire finds, where no autoscaler decides, the machines that are to go while the target stays, with the reason
// of each: those that will not come up and are replaced, and those that a lower target does not count any more.
// next is when another one is due.
func (g *Group) retire(holders, chosen map[string]string, surplus []*Machine, floor int32, now time.Time) (retired map[string]string, next time.Time) {
	if !g.FollowsFloor {
		return nil, next
	}
	retired = map[string]string{}
	spare := map[string]bool{}
	for _, m := range surplus {
		spare[m.Name] = true
	}
	live := g.live()
	over := len(live) - int(max(g.Target, g.leastSize(floor))) - len(chosen)
	var idle []*Machine
	for _, m := range live {
		if chosen[m.Name] != "" || holders[m.Name] != "" {
			continue
		}
		switch due, why := g.replacement(m); {
		case why != "" && now.Before(due):
			next = earlier(next, due)
		case why != "":
			retired[m.Name] = why
			over--
			continue
		}
		switch {
		case m.Node == nil && !m.Registered:
			// orders cancels it.
			over--
		case m.Node != nil && m.Node.Pods == 0 && (spare[m.Name] || !m.marked()):
			idle = append(idle, m)
		}
	}
	for _, m := range idle[:min(len(idle), max(0, over))] {
		retired[m.Name] = "no pod uses the node and the target does not count it any more; it is released"
	}
	return retired, next
}

// replacement says when a machine that will not come up is to be replaced, and why; why is empty for any other.
func (g *Group) replacement(m *Machine) (due time.Time, why string) {
	switch {
	case m.Failure != nil:
		return m.OrderedAt.Add(replaceAfter), "the machine has failed and is replaced"
	case m.Node != nil && !m.Node.Ready && m.Node.Pods == 0 && !m.Node.Leaving:
		return m.Node.NotReadySince.Add(g.ProvisionTimeout), "the node has not been Ready for the provisionTimeout and is replaced"
	}
	return due, ""
}

// planEnd takes a pool apart that is being deleted. Every node is tainted, so that no pod comes to it any more, and
// goes when the last pod has left it.
func (g *Group) planEnd(d *Decisions) {
	live := g.live()
	chosen := map[string]string{}
	for _, m := range live {
		chosen[m.Name] = "the NodePool is being deleted; no pod may come to the node any more"
		if m.Node == nil || (m.Node.Releasing && m.Node.Pods == 0) {
			d.Release = append(d.Release, m.Name)
		}
	}
	d.Marks = g.marks(nil, chosen, nil)
	d.GiveUp = max(0, g.Target-int32(len(live))) //nolint:gosec // At most MaxSize and those that were cancelled.
	d.Delete, d.Gone = g.deletions()
	d.LookForGone = slices.ContainsFunc(d.Gone, func(name string) bool { return Number(g.Name, name) >= g.OrderedFrom })
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

// marks are the nodes that do not say of themselves what they should. chosen are those to be released, with the
// reason of each, and warm those that stay for the next growth.
func (g *Group) marks(holders, chosen map[string]string, warm map[string]time.Time) []Mark {
	var marks []Mark
	for _, m := range g.live() {
		if m.Node == nil {
			continue
		}
		node, holder := m.Node, holders[m.Name]
		mark := Mark{Node: node.Name, HeldBy: holder, Reserved: node.Reserved || holder != "", Releasing: chosen[m.Name] != ""}
		_, mark.Warm = warm[m.Name]
		switch {
		case mark.Releasing && !node.Releasing:
			mark.Why = chosen[m.Name]
		case !mark.Releasing && node.Releasing && holder != "":
			mark.Why = "the node is handed over to " + holder
		case !mark.Releasing && node.Releasing:
			mark.Why = "the node is needed after all"
		case holder != node.HeldBy && holder != "":
			mark.Why = "the node is held for " + holder
		case holder != node.HeldBy && mark.Warm:
			mark.Why = "the node is no longer held for " + node.HeldBy + " and stays for the next growth"
		case holder != node.HeldBy:
			mark.Why = "the node is no longer held for " + node.HeldBy
		case mark.Reserved == node.Reserved:
			continue
		}
		marks = append(marks, mark)
	}
	return append(marks, g.lateMarks(holders)...)
}

// lateMarks are the nodes of machines that are to go and have got a pod: no other may come.
func (g *Group) lateMarks(holders map[string]string) []Mark {
	if len(g.ToDelete) == 0 {
		return nil
	}
	var marks []Mark
	going := setOf(g.ToDelete)
	for i := range g.Machines {
		m := &g.Machines[i]
		holder := holders[m.Name]
		if !going[m.Name] || !m.taken() || (m.Node.Releasing && m.Node.HeldBy == holder) {
			continue
		}
		marks = append(marks, Mark{
			Node: m.Node.Name, HeldBy: holder, Reserved: m.Node.Reserved || holder != "", Releasing: true,
			Why: "the machine was given up before it registered; its node goes when the last pod has left it",
		})
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
func (g *Group) release(d *Decisions, surplus []*Machine, chosen map[string]string, unwanted int, timeout time.Duration, now time.Time) (names []string, giveUp int32, next time.Time) {
	for _, m := range surplus {
		if chosen[m.Name] != "" && (m.Node == nil || m.Node.Releasing) {
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

// deletions divides the machines that are to go into those that exist and those that are gone. A name that was never
// claimed stays while there is something to order, so that it is passed over, as Cluster Autoscaler was told. A machine that
// was given up before it registered, and has a pod all the same, goes when the pod has left.
func (g *Group) deletions() (existing, gone []string) {
	if len(g.ToDelete) == 0 {
		return nil, nil
	}
	exists, used := g.names(), map[string]bool{}
	for i := range g.Machines {
		used[g.Machines[i].Name] = g.Machines[i].taken()
	}
	missing := int(g.Target) - g.countLive()
	for _, name := range g.ToDelete {
		switch {
		case used[name]:
		case exists[name]:
			existing = append(existing, name)
		case missing <= 0 || Number(g.Name, name) < g.Ordered:
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
