package resize

import (
	"context"
	"sync/atomic"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
)

// ledger remembers what was made of the pods of Jobs, so that a pass costs what has changed and not what there is.
type ledger struct {
	store *pods.Store
	jobs  map[pods.JobKey]*counted
	// interests says which pods the last pass has looked at; nil before the first.
	interests atomic.Pointer[interests]
	// took is how long the last pass has computed, in nanoseconds.
	took atomic.Int64
}

// counted are the pods of a Job as they were counted last.
type counted struct {
	version uint64
	size    int32
	// read has what was read off each pod, by its name.
	read  map[string]readPod
	ranks *ranks
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
	return &ledger{store: store, jobs: map[pods.JobKey]*counted{}}
}

// of is what the pods of a Job come to for a size of its workload.
func (l *ledger) of(view *pods.View, job pods.JobKey, size int32) *ranks {
	now, version := view.Job(job)
	before := l.jobs[job]
	if before != nil && before.version == version && before.size == size {
		return before.ranks
	}
	count := &counted{version: version, size: size, read: make(map[string]readPod, len(now))}
	for name, pod := range now {
		var read readPod
		if before != nil {
			read = before.read[name]
		}
		if read.pod != pod {
			read = readPod{pod, podOf(pod.Detail())}
		}
		count.read[name] = read
	}
	count.ranks = ranksOf(count.read, size)
	l.jobs[job] = count
	return count.ranks
}

// end ends a pass: what it has not looked at is of no interest until something else leads to the next one.
func (l *ledger) end(s *seen) {
	for job := range l.jobs {
		if s.owners[job] == nil {
			delete(l.jobs, job)
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
	if job, is := pod.Job(); is && known.jobs[job] != nil {
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
