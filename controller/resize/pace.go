package resize

import (
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// Progress of one member is written once in a while: one node more of those that it waits for, or one less of those that its pods
// leave. A write for each would be as many as there are nodes. What is put off is decided again by the next pass, and by the next
// process if this one dies: nothing is kept of it but when the last write was.
//
// The larger a growth is, the less one node of it says, and the more slowly all of them come.
const (
	// minPause is also how long nodes that are given back may be kept for more of them.
	minPause     = 150 * time.Millisecond
	pausePerNode = 20 * time.Millisecond
	longestPause = time.Second
)

// pace remembers when the status of a member was last written.
type pace struct {
	mu    sync.Mutex
	wrote map[types.NamespacedName]time.Time
}

func newPace() *pace { return &pace{wrote: map[types.NamespacedName]time.Time{}} }

func (p *pace) note(member types.NamespacedName, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrote[member] = now
}

// due is when the new status of a member is to be written; zero for at once. Whatever somebody waits for is written at once, and so
// is the first step after a pause.
func (p *pace) due(e *entry, after *v1alpha1.EnsembleMemberStatus, v *memberDecision, awaited map[string]bool, now time.Time) time.Time {
	before := &e.member.Status
	if !progress(before, after, v) {
		return time.Time{}
	}
	pause := min(max(minPause, time.Duration(after.Reserved)*pausePerNode), longestPause)
	if givesUp(before.Reservations, after.Reservations) {
		if slices.ContainsFunc(before.Reservations, func(r v1alpha1.Reservation) bool { return awaited[r.NodePool] }) {
			return time.Time{}
		}
		pause = minPause
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if due := p.wrote[e.key].Add(pause); now.Before(due) {
		return due
	}
	return time.Time{}
}

// forget drops the members that are gone, and returns when the first of the writes that were put off is due; zero for none.
func (p *pace) forget(seen *seen) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := range p.wrote {
		if e := seen.entries[key]; e == nil || e.member == nil {
			delete(p.wrote, key)
		}
	}
	var first time.Time
	for _, e := range seen.entries {
		first = soonest(first, e.due)
	}
	return first
}

// progress reports whether a decision changes nothing but which nodes are held and how many pods run, and what is said about their numbers.
// Claims, the growth, the size, the answer to a request, and whether and why something is outstanding are all more than that, and so is
// what has to be recorded before a pod is released.
func progress(before, after *v1alpha1.EnsembleMemberStatus, v *memberDecision) bool {
	if v.any(func(d *plan.Decision) bool {
		return d.Resize != 0 || len(d.Release) > 0 || len(d.Recreate) > 0 || d.GiveUp != nil ||
			slices.ContainsFunc(d.Notes, func(n plan.Note) bool { return n.Reason != v1alpha1.ReasonNodesGivenBack })
	}) {
		return false
	}
	return equality.Semantic.DeepEqual(promised(before), promised(after))
}

// promised is a status without what progress changes.
func promised(status *v1alpha1.EnsembleMemberStatus) *v1alpha1.EnsembleMemberStatus {
	out := *status
	out.Nodes, out.Running, out.Decisions = 0, 0, nil
	out.Reservations = withoutNodes(status.Reservations)
	out.Groups = slices.Clone(status.Groups)
	for i := range out.Groups {
		of := &out.Groups[i]
		of.Nodes, of.Running, of.Message, of.Reservations = 0, 0, "", withoutNodes(of.Reservations)
	}
	out.Conditions = slices.Clone(status.Conditions)
	for i := range out.Conditions {
		out.Conditions[i].Message = ""
	}
	if status.LastRequest != nil {
		request := *status.LastRequest
		request.Outcome = ""
		out.LastRequest = &request
	}
	return &out
}

// withoutNodes are reservations that do not say which nodes are held.
func withoutNodes(reservations []v1alpha1.Reservation) []v1alpha1.Reservation {
	out := slices.Clone(reservations)
	for i := range out {
		out[i].Held = nil
	}
	return out
}

// awaitedPools are the pools of which members hold fewer nodes than they have claimed. What others give back there is theirs.
func awaitedPools(decisions []plan.Decision) map[string]bool {
	awaited := map[string]bool{}
	for i := range decisions {
		for j := range decisions[i].Reservations {
			if r := &decisions[i].Reservations[j]; int(r.Nodes) > len(r.Held) {
				awaited[r.NodePool] = true
			}
		}
	}
	return awaited
}
