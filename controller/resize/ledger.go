package resize

import (
	"context"
	"sync/atomic"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
)

// ledger remembers what was made of the pods of members, so that a pass costs what has changed and not what there is.
type ledger struct {
	store   *pods.Store
	members map[types.NamespacedName]*counted
	// interests says which pods the last pass has looked at; nil before the first.
	interests atomic.Pointer[interests]
	// took is how long the last pass has computed, in nanoseconds.
	took atomic.Int64
}

// counted are the pods of a member as they were counted last.
type counted struct {
	// makers are the Jobs of all groups, in their order, as they were, or the member itself.
	makers []countedMaker
	// sizes are those of the groups, and ranks what their pods come to.
	sizes []int32
	ranks []*ranks
	// read has what was read off each pod, by its name.
	read map[string]readPod
}

type countedMaker struct {
	key     pods.JobKey
	version uint64
}

type readPod struct {
	pod     *pods.Pod
	reading *podReading
}

// interests are the nodes and Jobs whose pods a pass looks at.
type interests struct {
	nodes map[string]host
	jobs  map[pods.JobKey]*entry
}

func newLedger(store *pods.Store) *ledger {
	return &ledger{store: store, members: map[types.NamespacedName]*counted{}}
}

// count says of each group of a member what its pods come to.
func (l *ledger) count(view *pods.View, e *entry) {
	before := l.members[e.key]
	if before == nil || !before.holds(view, e) {
		before = l.recount(view, e, before)
		l.members[e.key] = before
	}
	for i := range e.groups {
		e.groups[i].ranks = before.ranks[i]
	}
}

// makers calls a function with what makes the pods of each group of a member, and the group; -1 is what makes those of all. It ends where
// the function says so.
func (e *entry) makers(do func(key pods.JobKey, group int) bool) {
	if !e.byJobs() {
		do(pods.MemberKey(e.key), -1)
		return
	}
	for i := range e.groups {
		for _, job := range e.groups[i].jobs {
			if !do(keyOf(job), i) {
				return
			}
		}
	}
}

// holds reports whether nothing has changed since: neither a pod, nor a size, nor which Jobs there are.
func (c *counted) holds(view *pods.View, e *entry) bool {
	if len(c.sizes) != len(e.groups) {
		return false
	}
	for i := range e.groups {
		if c.sizes[i] != e.sizeOf(&e.groups[i]) {
			return false
		}
	}
	at, same := 0, true
	e.makers(func(key pods.JobKey, _ int) bool {
		_, version := view.Job(key)
		same = at < len(c.makers) && c.makers[at] == countedMaker{key, version}
		at++
		return same
	})
	return same && at == len(c.makers)
}

// recount counts the pods of a member, of which some were read before; before is nil for none.
func (l *ledger) recount(view *pods.View, e *entry, before *counted) *counted {
	count := &counted{read: map[string]readPod{}}
	groups := make([][]*podReading, len(e.groups))
	e.makers(func(key pods.JobKey, group int) bool {
		now, version := view.Job(key)
		count.makers = append(count.makers, countedMaker{key, version})
		for name, pod := range now {
			var read readPod
			if before != nil {
				read = before.read[name]
			}
			if read.pod != pod {
				read = readPod{pod, podOf(e.kind, pod.Detail())}
			}
			count.read[name] = read
			of := group
			if of < 0 {
				// Which group a pod is in its Job says, and only where there is none the pod itself.
				of = e.indexOf(read.reading.group)
			}
			if of >= 0 {
				groups[of] = append(groups[of], read.reading)
			}
		}
		return true
	})
	for i := range e.groups {
		size := e.sizeOf(&e.groups[i])
		count.sizes = append(count.sizes, size)
		count.ranks = append(count.ranks, ranksOf(groups[i], size, e.kind.Leaves()))
	}
	return count
}

func keyOf(job *batchv1.Job) pods.JobKey { return pods.JobKey{Namespace: job.Namespace, UID: job.UID} }

// end ends a pass: what it has not looked at is of no interest until something else leads to the next one.
func (l *ledger) end(s *seen) {
	for key := range l.members {
		if s.entries[key] == nil {
			delete(l.members, key)
		}
	}
	l.interests.Store(&interests{nodes: s.hosts, jobs: s.owners})
}

// concern is how much a pass is needed because of a pod.
type concern int

const (
	// noConcern: what is on nodes of no pool decides nothing, and a node that joins a pool leads to a pass by itself.
	noConcern concern = iota
	// roomConcern: somebody else's pod leaves more or less room on a node of a pool.
	roomConcern
	// memberConcern: the pod waits behind the gate, or is one of a member.
	memberConcern
)

// A pass follows a change of somebody else's pod after foreignTimes what the last one took to compute, and within these bounds. In a large
// cluster there is always such a change: passes for each would never rest, and so take a two-hundredth of a core.
const (
	foreignTimes                  = 200
	foreignAtLeast, foreignAtMost = time.Second, 5 * time.Second
)

// foreignWithin is how soon a pass follows a change of somebody else's pod.
func (l *ledger) foreignWithin() time.Duration {
	return min(max(foreignTimes*time.Duration(l.took.Load()), foreignAtLeast), foreignAtMost)
}

func (l *ledger) concern(pod *pods.Pod) concern {
	if pod == nil {
		return noConcern
	}
	known := l.interests.Load()
	if known == nil || pod.Gated() {
		return memberConcern
	}
	if job, is := pod.Maker(); is && known.jobs[job] != nil {
		return memberConcern
	}
	if _, is := known.nodes[pod.Node()]; is {
		return roomConcern
	}
	return noConcern
}

// follow is a source of passes: one after each change of a pod that concerns them. By then the store knows of it.
func (l *ledger) follow() source.SyncingSource {
	follow := &following{store: l.store}
	l.store.Listen(func(before, after *pods.Pod) {
		queue := follow.queue.Load()
		if queue == nil {
			return
		}
		switch max(l.concern(before), l.concern(after)) {
		case memberConcern:
			(*queue).Add(everything)
		case roomConcern:
			(*queue).AddAfter(everything, l.foreignWithin())
		case noConcern:
		}
	})
	return follow
}

type following struct {
	store *pods.Store
	queue atomic.Pointer[workqueue.TypedRateLimitingInterface[reconcile.Request]]
}

// Start implements source.Source.
func (f *following) Start(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	f.queue.Store(&queue)
	// What was told before counts too.
	queue.Add(everything)
	return nil
}

// WaitForSync implements source.SyncingSource.
func (f *following) WaitForSync(ctx context.Context) error {
	select {
	case <-f.store.Filled():
		return nil
	case <-ctx.Done():
		return ctx.Err() //nolint:wrapcheck // The controller says what it waits for.
	}
}
