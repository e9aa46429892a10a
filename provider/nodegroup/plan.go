package nodegroup

import (
	"maps"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

	// Lost are machines to put into spec.machinesToDelete in the one write that lowers the target by their number, as they are: the
	// cloud says that they are no more, whatever is held or runs on their nodes. The target may be below the floor then, until Cluster
	// Autoscaler raises it.
	Lost []string

	// Leave are machines to put into spec.machinesToDelete in that write while the target stays, as they are: those that are taken
	// away, which are replaced before they are gone, and those that are no more and that the target does not count, or that are replaced.
	Leave []string

	// Delete are machines that are to go. Before each it has to be made sure that one without a node has not registered
	// since, and that no pod has come to a node before its taint; but not of one that has registered and has failed. Gone are those of
	// spec.machinesToDelete that exist no more. With LookForGone it has to be made sure first that they do not: the order of one may
	// have been under way.
	Delete, Gone []string
	LookForGone  bool

	// OrderedFrom belongs into the status: the first number whose order may be under way.
	OrderedFrom int64

	// Cancel are machines that are booting and no longer wanted because the target was lowered.
	Cancel []string

	// Abandon are machines of orders of which records are missing and that have asked the cloud for nothing. Their records are deleted
	// and not put into spec.machinesToDelete; the target stays, and other names are ordered when they are gone. Before that it has to be
	// made sure, with a live look, that the other records do not exist; and that each is as it was observed when it is deleted.
	Abandon []string

	// Order is what to order. It presumes that all of the above has been written. Count is the number of names that it needs.
	Order []Order

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

const (
	// maxToDelete is how many names spec.machinesToDelete may have: the API server refuses a write with more.
	maxToDelete = 5000
	// maxAtOnce is how many names one pass puts there that have to be looked at: the API server is asked about each node first.
	maxAtOnce = 500
	// maxNoted is how many machines that have failed the status names at most, those on their way out apart: the object has
	// to stay small enough to be written.
	maxNoted = 1000
	// nextPart is how long after such a pass the next one is due at the latest.
	nextPart = time.Second
)

// Plan decides what is to be done for a pool. announceTimeout is how long a release waits for Cluster
// Autoscaler to ask for the least size, before it is taken not to be running.
func Plan(g *Group, announceTimeout time.Duration, now time.Time) Decisions {
	g = g.asOf(now)
	d := Decisions{Floor: g.WantedFloor(), Reserved: g.Reserved(), OrderedFrom: g.underWay()}
	g.noteFailures(&d)
	switch {
	case g.Paused:
	case g.Deleting && d.Reserved == 0 && len(g.holders()) == 0:
		g.planEnd(&d, now)
	default:
		g.plan(&d, announceTimeout, now)
	}
	g.report(&d)
	return d
}

// plan decides for a pool that lives, step by step. What is lost or leaves needs no look at the nodes, so its write is certain to be
// the one that is decided: the steps after it see the group as that write leaves it, and replacements are ordered in the same pass.
func (g *Group) plan(d *Decisions, announceTimeout time.Duration, now time.Time) {
	recorded, holders := g.ToDelete, g.holders()

	// 1. What is no more leaves the target, or is replaced: sets Lost and Leave.
	g = g.lose(d, g.FollowsFloor, now)

	// 2. What nobody uses is kept for claims, kept warm, or chosen to be released.
	surplus, kept := g.splitSurplus(holders, now)
	surplus, warm, cold := g.keepWarm(surplus, now)
	unwanted := g.unwantedOrders(d.Floor)
	room := int(g.Target-max(g.MinSize, d.Floor)) - unwanted
	chosen := map[string]string{}
	for _, m := range surplus[:min(len(surplus), max(0, room))] {
		chosen[m.Name] = "no member holds the node and no pod uses it; it is released"
	}

	// 3. What is taken away and was not chosen is replaced at once, as far as there is no room: adds to Leave.
	g = g.leave(d, chosen, now)
	unwanted = min(g.unwantedOrders(d.Floor), unwanted+max(0, room-len(chosen)))

	// 4. What the target does not count, and what does not come up, goes where no autoscaler decides: sets Retire.
	retired, due := g.retire(holders, chosen, surplus, d.Floor, now)

	// 5. Nodes say what becomes of them: sets Marks. Those that have said so before can go: sets Release and GiveUp.
	tainted := maps.Clone(chosen)
	maps.Copy(tainted, retired)
	d.Marks = g.marks(holders, tainted, warm, kept)
	next := g.release(d, surplus, chosen, unwanted, announceTimeout, now)
	d.Next = earlier(earlier(d.Next, next), earlier(cold, earlier(due, g.nextDeadline(now))))
	for _, m := range g.live() {
		if retired[m.Name] != "" && m.free() {
			d.Retire = append(d.Retire, m.Name)
		}
	}
	g.limitDeletions(d, now)

	// 6. Machines are deleted, cancelled and ordered, up to the target: sets the rest.
	if wanted := g.leastSize(d.Floor); g.FollowsFloor && wanted > g.Target {
		d.Raise, d.RaisedForMembers = wanted, g.raisedForMembers(wanted, d.Floor)
	}
	g.deletions(d, recorded)
	abandoned, vanishing := g.abandoned()
	d.Abandon = abandoned
	if d.Raise == 0 {
		// A raised target may well call for what the present one does not.
		d.Cancel = g.cancelled(d.Abandon)
	}
	if !vanishing {
		d.Order = g.orders(kept, holders, unwanted, d.Floor)
	}
	d.warm = warm
}
