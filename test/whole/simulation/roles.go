package simulation

import (
	"math/rand/v2"
	"time"
)

// roles are what the cloud of a pool is like beside the plain one, which knows its machines by name, calls their nodes so, tells
// of all that becomes of them at once, and never loses a reply.
type roles struct {
	// ownNames gives nodes names of their own. lateIDs tells a provider id only when the node registers. byToken is a cloud that
	// does not know a machine by its name: that it is asked for one is recorded first.
	ownNames, lateIDs, byToken bool
	// atomic can give all machines of an order or none. lateFailures accepts what it has not, and says so later, or forgets it.
	atomic, lateFailures bool
	// bare nodes register without a taint that keeps pods away.
	bare bool
	// leavesNodes leaves the node of a machine that is gone; follows lets a machine go whose node somebody has deleted.
	leavesNodes, follows bool
	// idsAfter is how long after its launch the provider id of a machine is told, zero for at once.
	idsAfter span
	// keepsFailures never forgets a failure before it was let go; retries is when a machine that has failed comes up after all unless
	// it was told to go; zero for never.
	keepsFailures bool
	retries       span
	// launchTimeout and registerTimeout are when a machine fails that has no provider id yet, or no node; zero for never.
	launchTimeout, registerTimeout time.Duration
	// Of a hundred orders so many are throttled, and of so many the reply is lost.
	throttlePercent, lostPercent int
	// lag is how far listings are behind.
	lag time.Duration
	// ending is how long a machine takes to end.
	ending span
	// crashes, spot and meddled let machines crash, be taken away with notice, and have their nodes and records deleted by somebody;
	// orphans lets records be lost and instances be made that nobody has ordered.
	crashes, spot, meddled, orphans bool
}

// likeKarpenter is Karpenter with our NodeClaims: a claim has no provider id until it was launched,
// which it fails to be after 5 minutes; one that does not register in 15 fails too; a stockout is told a moment after the claim was
// made; a claim goes with its node; a node is drained first, which is looked at again after some seconds.
var likeKarpenter = roles{
	ownNames: true, lateIDs: true, idsAfter: span{time.Second, 8 * time.Second}, lateFailures: true, keepsFailures: true, follows: true,
	launchTimeout: 5 * time.Minute, registerTimeout: 15 * time.Minute, ending: span{200 * time.Millisecond, 25 * time.Second},
}

// likeClusterAPI is Cluster API with our Machines: provider ids come late, a machine that has failed is tried again until it
// is deleted, a drain is looked at again after 20 seconds, and nodes may be left.
var likeClusterAPI = roles{
	ownNames: true, lateIDs: true, idsAfter: span{2 * time.Second, 30 * time.Second}, lateFailures: true, keepsFailures: true,
	retries: span{200 * time.Millisecond, 10 * time.Second}, lag: 3 * time.Second, leavesNodes: true,
	ending: span{20 * time.Second, 65 * time.Second},
}

// castRoles gives pools roles. Half of the worlds are plain.
func castRoles(s *settings, draw *rand.Rand) {
	what := draw.IntN(8)
	if what < 3 {
		return
	}
	s.replicas = draw.IntN(3) == 0
	if what < 5 {
		for i := range s.pools {
			s.pools[i].roles = []roles{likeKarpenter, likeClusterAPI}[draw.IntN(2)]
			s.pools[i].meddled = draw.IntN(4) == 0
		}
		return
	}
	for i := range s.pools {
		r := &s.pools[i].roles
		for range 1 + draw.IntN(3) {
			r.cast(draw)
		}
	}
}

// cast adds one role.
func (r *roles) cast(draw *rand.Rand) {
	switch draw.IntN(12) {
	case 0:
		r.ownNames, r.lateIDs = true, draw.IntN(2) == 0
	case 1:
		r.byToken, r.lostPercent = true, 30
	case 2:
		r.atomic, r.byToken = true, draw.IntN(2) == 0
	case 3:
		r.lateFailures, r.lag = true, time.Duration(draw.IntN(8))*time.Second
	case 4:
		r.throttlePercent = 20 + draw.IntN(40)
	case 5:
		r.lag = time.Duration(1+draw.IntN(20)) * time.Second
	case 6:
		r.ending = span{20 * time.Second, 4 * time.Minute}
	case 7:
		r.crashes, r.leavesNodes = true, draw.IntN(2) == 0
	case 8:
		r.spot = true
	case 9:
		r.meddled = true
	case 10:
		r.orphans = true
	case 11:
		r.bare, r.lostPercent = true, 20
	}
}

// plain reports whether the cloud of a pool plays no role.
func (r *roles) plain() bool { return *r == roles{} }
