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

	// GiveUp is the number of machines by which the target is lowered because they were to be ordered and are not any
	// more: for members who do not want them now, or above a greatest size that is lower now. It has to be made sure
	// first that none of them exists.
	GiveUp int32

	// Release are machines to put into spec.machinesToDelete in the one write that lowers the target by
	// their number. Before that write it has to be made sure, with a live look at each, that a registered
	// one is empty and held by nobody.
	Release []string

	// Retire are machines to put into spec.machinesToDelete while the target stays: it does not count them any
	// more, or they are to be replaced. The same has to be made sure of them.
	Retire []string

	// Delete are machines that are to go. Before each it has to be made sure that one without a node has not registered
	// since, and that no pod has come to a node before its taint. Gone are those of spec.machinesToDelete that exist no more.
	// With LookForGone it has to be made sure first that they do not: the order of one may have been under way.
	Delete, Gone []string
	LookForGone  bool

	// OrderedFrom belongs into the status: the first number whose order may be under way.
	OrderedFrom int64

	// Cancel are machines that are booting and no longer wanted because the target was lowered.
	Cancel []string

	// Order are the machines to order, each with its purpose.
	Order []v1alpha1.MachinePurpose

	// Failed names machines that have failed, NewlyFailed those of them that the status does not name yet, and
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

const (
	// mostToDelete is how many names spec.machinesToDelete may have: the API server refuses a write with more.
	mostToDelete = 5000
	// mostAtOnce is how many names one pass puts there: the API server is asked about each node first, and every other pool
	// waits for that.
	mostAtOnce = 500
	// mostNoted is how many machines that have failed the status names at most, those on their way out apart: the object has
	// to stay small enough to be written.
	mostNoted = 1000
	// nextPart is how long after such a pass the next one is due at the latest.
	nextPart = time.Second
)

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
		g.planEnd(&d, now)
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
	d.Marks = g.marks(holders, tainted, warm, kept)
	d.Release, d.GiveUp, d.Next = g.release(&d, surplus, chosen, unwanted, announceTimeout, now)
	d.Next = earlier(d.Next, earlier(cold, earlier(due, g.nextDeadline(now))))
	for _, m := range g.live() {
		if retired[m.Name] != "" && (m.Node == nil || m.Node.Releasing) {
			d.Retire = append(d.Retire, m.Name)
		}
	}
	g.bound(&d, now)

	if wanted := g.leastSize(d.Floor); g.FollowsFloor && wanted > g.Target {
		d.Raise, d.RaisedForMembers = wanted, g.raisedForMembers(wanted, d.Floor)
	}
	d.Delete, d.Gone = g.deletions()
	d.LookForGone = slices.ContainsFunc(d.Gone, func(name string) bool { return Number(g.Name, name) >= g.OrderedFrom })
	d.Cancel, d.Order = g.orders(len(kept), unwanted, d.Floor)
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

// givenUpNow reports whether a node is given up in this pass that is to stay for the next growth. Not all of those are surplus:
// a claim may be about to take one and then take another, and the pods that were on one may be gone before the next pass.
func (g *Group) givenUpNow(node *Node, holder string) bool {
	return g.ScaleDownDelay > 0 && !g.Deleting && node.HeldBy != "" && holder == "" && node.Ready && !node.Leaving && !node.Releasing
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

// noteFailures finds the machines that have failed, and those of which the status does not know. Of very many that have, some
// are noted when others are gone; but each before it is deleted.
func (g *Group) noteFailures(d *Decisions) {
	known, going := setOf(g.KnownFailed), setOf(g.ToDelete)
	var news []*Machine
	stay := 0
	for i := range g.Machines {
		switch m := &g.Machines[i]; {
		case m.Failure == nil:
		case !known[m.Name]:
			news = append(news, m)
		default:
			d.Failed = append(d.Failed, m.Name)
			if !going[m.Name] {
				stay++
			}
		}
	}
	for _, m := range news {
		if !going[m.Name] {
			if stay >= mostNoted {
				continue
			}
			stay++
		}
		d.Failed, d.NewlyFailed = append(d.Failed, m.Name), append(d.NewlyFailed, m.Name)
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
	over := len(live) - int(max(g.most(), g.leastSize(floor))) - len(chosen)
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
// goes when the last pod has left it. There may be more of them than the target counts.
func (g *Group) planEnd(d *Decisions, now time.Time) {
	live := g.live()
	chosen := map[string]string{}
	for _, m := range live {
		chosen[m.Name] = "the NodePool is being deleted; no pod may come to the node any more"
		switch {
		case m.Node != nil && (!m.Node.Releasing || m.Node.Pods > 0):
		case len(d.Release) < int(g.Target):
			d.Release = append(d.Release, m.Name)
		default:
			d.Retire = append(d.Retire, m.Name)
		}
	}
	g.bound(d, now)
	d.Marks = g.marks(nil, chosen, nil, nil)
	d.GiveUp = max(0, g.Target-int32(len(live))) //nolint:gosec // At most MaxSize and those that were cancelled.
	d.Delete, d.Gone = g.deletions()
	d.LookForGone = slices.ContainsFunc(d.Gone, func(name string) bool { return Number(g.Name, name) >= g.OrderedFrom })
	d.Finish = len(g.Machines) == 0 && len(g.ToDelete) == 0 && g.Target == 0
	g.report(d)
}

// bound leaves machines that are to go to the next passes where there are too many of them for one, or for the list of those
// that go.
func (g *Group) bound(d *Decisions, now time.Time) {
	room := min(mostAtOnce, g.roomToDelete())
	if len(d.Release)+len(d.Retire) <= room {
		return
	}
	d.Release = d.Release[:min(len(d.Release), room)]
	d.Retire = d.Retire[:min(len(d.Retire), room-len(d.Release))]
	if room > 0 {
		// Where there is no room, the write that makes some brings the next pass.
		d.Next = earlier(d.Next, now.Add(nextPart))
	}
}

// roomToDelete is how many names may be added to those of the machines that are to go.
func (g *Group) roomToDelete() int { return max(0, mostToDelete-len(g.ToDelete)) }

// divide finds the marked machines that nobody holds and no pod uses. As many of them as claims are unmet
// are kept, to be held next; the others are surplus, the least useful first.
func (g *Group) divide(holders map[string]string, now time.Time) (surplus []*Machine, kept map[string]bool) {
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
	kept = map[string]bool{}
	for unmet := g.unmet(); len(kept) < unmet && len(free) > 0; {
		last := free[len(free)-1]
		if rank(last) == 0 {
			break
		}
		kept[last.Name] = true
		free = free[:len(free)-1]
	}
	return free, kept
}

// marks are the nodes that do not say of themselves what they should. chosen are those to be released, with the
// reason of each, warm those that stay for the next growth, and kept those that are to be held next.
func (g *Group) marks(holders, chosen map[string]string, warm map[string]time.Time, kept map[string]bool) []Mark {
	var marks []Mark
	for _, m := range g.live() {
		if m.Node == nil {
			continue
		}
		node, holder := m.Node, holders[m.Name]
		mark := Mark{Node: node.Name, HeldBy: holder, Reserved: node.Reserved || holder != "", Releasing: chosen[m.Name] != ""}
		_, mark.Warm = warm[m.Name]
		mark.Warm = mark.Warm || (kept[m.Name] && !node.GivenUpAt.IsZero()) || (!mark.Releasing && g.givenUpNow(node, holder))
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
		case mark.Reserved != node.Reserved:
		case holder == "" && !node.GivenUpAt.IsZero() && !mark.Warm && !node.Releasing:
			mark.Why = "the node does not stay for the next growth any more"
		case !mark.Releasing && node.Untainted:
			mark.Why = "the taint for release was taken off the node, which is not released now"
		default:
			continue
		}
		marks = append(marks, mark)
	}
	return append(marks, g.lateMarks(holders)...)
}

// lateMarks are the nodes of machines that are to go and that no taint keeps pods from: those have registered since, or somebody
// has taken the taint off.
func (g *Group) lateMarks(holders map[string]string) []Mark {
	if len(g.ToDelete) == 0 {
		return nil
	}
	var marks []Mark
	going := setOf(g.ToDelete)
	for i := range g.Machines {
		m := &g.Machines[i]
		holder := holders[m.Name]
		if !going[m.Name] || m.Node == nil || m.Node.Leaving || (m.Node.Releasing && m.Node.HeldBy == holder) {
			continue
		}
		marks = append(marks, Mark{
			Node: m.Node.Name, HeldBy: holder, Reserved: m.Node.Reserved || holder != "", Releasing: true,
			Why: "the machine is to go; no pod may come to its node any more",
		})
	}
	return marks
}

// unwantedOrders is the number of machines that do not exist yet and that nobody is to have any more: a floor has called for
// them that is lower now, or the greatest size has become less than the target. They are not ordered any more.
func (g *Group) unwantedOrders(floor int32) int {
	live := len(g.live())
	unwanted := int(min(g.Target, g.ForMembers)) - max(live, int(g.MinSize), int(floor))
	above := int(g.Target - g.MaxSize)
	return max(0, min(max(unwanted, above), int(g.Target)-live))
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
// was given up before it registered, and has a node all the same, goes when that is tainted and has no pod.
func (g *Group) deletions() (existing, gone []string) {
	if len(g.ToDelete) == 0 {
		return nil, nil
	}
	exists, stays := g.names(), map[string]bool{}
	for i := range g.Machines {
		stays[g.Machines[i].Name] = g.Machines[i].taken()
	}
	missing := int(g.Target) - g.countLive()
	for _, name := range g.ToDelete {
		switch {
		case stays[name]:
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
// machines which the target counts and nobody is to have.
func (g *Group) orders(kept, unwanted int, floor int32) (cancel []string, order []v1alpha1.MachinePurpose) {
	live := g.live()
	missing := int(g.Target) - len(live) - unwanted
	for _, m := range live {
		if len(cancel) < len(live)-int(g.most()) && !m.Registered && m.Node == nil {
			cancel = append(cancel, m.Name)
		}
	}
	// What the floor called for is ours to release even if nobody is short of a node now: the nodes that were of no use to a
	// member when it was counted may be free by the time of the order.
	forMembers := max(g.unmet()-kept, int(min(g.ForMembers, g.Target, g.leastSize(floor)))-len(live))
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
