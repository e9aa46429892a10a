package endpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/budget"
)

const (
	// writeEvery is how often the queue of a member is written at most while nothing has changed in it by which a size could be decided.
	writeEvery = 10 * time.Second
	// refreshEvery is how often one that has not changed at all is written, so that its age tells whether the member still speaks.
	refreshEvery = 5 * time.Minute
	// putOffEvery is how often those are looked at that were put off.
	putOffEvery = time.Second
	// maxPutOff is how many there may be, each of at most some 10 KiB. Of more the member is told to tell again.
	maxPutOff = 4096
	// writesAtOnce is how many of them are written at a time.
	writesAtOnce = 8
)

// queues are what members have told of their queues. Each is an object of its own: the EnsembleMember, which has the nodes that are held,
// is written by others, who must not lose against a member that tells much.
type queues struct {
	client client.Client
	clock  clock.PassiveClock
	writes *budget.Budget
	log    logr.Logger

	mu sync.Mutex
	// putOff has what is to be written in a while, by member.
	putOff map[client.ObjectKey]*report
	// written has what was written last. The cache has it a moment later.
	written map[client.ObjectKey]v1alpha1.Queue
}

// report is what a member reported.
type report struct {
	// member is the uid of its EnsembleMember.
	member types.UID
	queue  v1alpha1.Queue
	// since is when it was put off first.
	since time.Time
}

func newQueues(c client.Client, clock clock.PassiveClock, writes *budget.Budget, log logr.Logger) *queues {
	return &queues{
		client: c, clock: clock, writes: writes, log: log, putOff: map[client.ObjectKey]*report{},
		written: map[client.ObjectKey]v1alpha1.Queue{},
	}
}

// tell takes what a member tells. It is written at once when something is new by which a size could be decided and the budget of the
// namespace allows it; otherwise it is put off, and what is told meanwhile takes its place.
func (q *queues) tell(ctx context.Context, key client.ObjectKey, t *report) (stored bool, err error) {
	before := q.stored(ctx, key, t.member)
	now := q.clock.Now()
	q.mu.Lock()
	waits := q.putOff[key]
	if waits != nil && waits.member == t.member {
		if t.queue.At.Before(&waits.queue.At) {
			q.mu.Unlock()
			return false, nil
		}
		t.since = waits.since
	} else {
		t.since = now
	}
	switch {
	case before != nil && sameQueue(before, &t.queue) && now.Sub(before.At.Time) < refreshEvery:
		// What was told in between is true no more, and was never written.
		delete(q.putOff, key)
		q.mu.Unlock()
		return true, nil
	case due(before, &t.queue, now) && q.affords(key.Namespace, waits != nil, now):
		delete(q.putOff, key)
		q.mu.Unlock()
		err := q.write(ctx, key, t)
		if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
			q.put(key, t)
		}
		return err == nil, client.IgnoreNotFound(err)
	case waits == nil && len(q.putOff) >= maxPutOff:
		q.mu.Unlock()
		return false, &denied{
			reason: fmt.Sprintf("the queues of %d members wait to be stored: tell again in a moment", maxPutOff), repeated: true,
		}
	}
	q.putOff[key] = t
	q.mu.Unlock()
	return false, nil
}

// affords is whether the budget allows a write. One that was put off is not counted again as turned away.
func (q *queues) affords(namespace string, again bool, now time.Time) bool {
	if again && !q.writes.Left(namespace, now) {
		return false
	}
	return q.writes.Take(namespace, now) == nil
}

// put keeps what could not be written for later, if nothing newer is kept.
func (q *queues) put(key client.ObjectKey, t *report) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if waits := q.putOff[key]; waits == nil || waits.queue.At.Before(&t.queue.At) {
		q.putOff[key] = t
	}
}

// due is whether a queue is to be written now, as far as the budget allows it. before is the one stored; nil if there is none.
func due(before, queue *v1alpha1.Queue, now time.Time) bool {
	if before == nil || decides(before, queue) {
		return true
	}
	after := writeEvery
	if sameQueue(before, queue) {
		after = refreshEvery
	}
	return now.Sub(before.At.Time) >= after
}

// decides is whether two queues differ in something by which a size could be decided: how much waits, for how many nodes, and whether
// anything runs. How many run, and have ended, follows from that a moment later.
func decides(a, b *v1alpha1.Queue) bool {
	pending := func(j *v1alpha1.QueueJobs) int64 { return j.New + j.Depend + j.Priority + j.Sched }
	return pending(&a.Jobs) != pending(&b.Jobs) || (a.Jobs.Run == 0) != (b.Jobs.Run == 0) || !equality.Semantic.DeepEqual(a.Waiting, b.Waiting)
}

// sameQueue is whether two queues differ in nothing but when it was told, and by which pod.
func sameQueue(a, b *v1alpha1.Queue) bool {
	return a.Jobs == b.Jobs && equality.Semantic.DeepEqual(a.Waiting, b.Waiting) && equality.Semantic.DeepEqual(a.Counts, b.Counts)
}

// stored is what is stored of a member, nil if nothing is.
func (q *queues) stored(ctx context.Context, key client.ObjectKey, member types.UID) *v1alpha1.Queue {
	var cached *v1alpha1.Queue
	object := &v1alpha1.MemberQueue{}
	if err := q.client.Get(ctx, key, object, client.UnsafeDisableDeepCopy); err == nil && ownerOf(object) == member {
		cached = &object.Queue
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	written, has := q.written[key]
	switch {
	case !has:
		return cached
	case cached != nil && !cached.At.Before(&written.At):
		// The cache has it too.
		delete(q.written, key)
		return cached
	}
	return &written
}

// last is what a member told last, as far as this replica knows; nil if it never has.
func (q *queues) last(ctx context.Context, key client.ObjectKey, member *v1alpha1.EnsembleMember) *v1alpha1.Queue {
	stored := q.stored(ctx, key, member.UID)
	q.mu.Lock()
	waits := q.putOff[key]
	q.mu.Unlock()
	switch {
	case waits != nil && waits.member == member.UID && (stored == nil || stored.At.Before(&waits.queue.At)):
		return &waits.queue
	case stored != nil:
		return stored
	}
	return member.Status.Queue
}

// write stores what a member told, in place of all that it told before.
func (q *queues) write(ctx context.Context, key client.ObjectKey, t *report) error {
	patch, err := json.Marshal([]map[string]any{
		// A MiniCluster that was deleted and made again has an EnsembleMember of its own; the garbage collector takes the object before it.
		{"op": "test", "path": "/metadata/ownerReferences/0/uid", "value": t.member},
		{"op": "add", "path": "/queue", "value": t.queue},
	})
	if err != nil {
		return fmt.Errorf("encode the queue of %s: %w", key, err)
	}
	object := &v1alpha1.MemberQueue{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	err = q.client.Patch(ctx, object, client.RawPatch(types.JSONPatchType, patch))
	if apierrors.IsNotFound(err) {
		controls := true
		object = &v1alpha1.MemberQueue{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name,
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: "EnsembleMember", Name: key.Name, UID: t.member, Controller: &controls,
			}}}, Queue: t.queue}
		err = q.client.Create(ctx, object)
	}
	if err != nil {
		return fmt.Errorf("store the queue of %s: %w", key, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.written) >= maxPutOff {
		// The cache has had time for most of them; of the others one write more is the worst.
		clear(q.written)
	}
	q.written[key] = t.queue
	return nil
}

// Run writes what was put off, until the context ends.
func (q *queues) Run(ctx context.Context) error {
	tick := time.NewTicker(putOffEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			q.flush(ctx)
		}
	}
}

// flush writes those that are due and that the budgets allow, the oldest first.
func (q *queues) flush(ctx context.Context) {
	type one struct {
		key client.ObjectKey
		t   *report
	}
	q.mu.Lock()
	all := make([]one, 0, len(q.putOff))
	for key, t := range q.putOff {
		all = append(all, one{key, t})
	}
	q.mu.Unlock()
	slices.SortFunc(all, func(a, b one) int { return a.t.since.Compare(b.t.since) })
	var writes errgroup.Group
	writes.SetLimit(writesAtOnce)
	for _, o := range all {
		now := q.clock.Now()
		switch member := (&v1alpha1.EnsembleMember{}); {
		case apierrors.IsNotFound(q.client.Get(ctx, o.key, member, client.UnsafeDisableDeepCopy)):
			// It is managed no more.
			q.forget(o.key, o.t)
			continue
		case !due(q.stored(ctx, o.key, o.t.member), &o.t.queue, now) || !q.affords(o.key.Namespace, true, now):
			continue
		}
		writes.Go(func() error {
			if err := q.write(ctx, o.key, o.t); err != nil {
				// It is tried again.
				q.log.V(1).Info("A queue is not stored", "namespace", o.key.Namespace, "member", o.key.Name, "why", err.Error())
				return nil
			}
			q.forget(o.key, o.t)
			return nil
		})
	}
	_ = writes.Wait() // None of them has an error.
}

// forget drops what was put off, unless something newer has taken its place.
func (q *queues) forget(key client.ObjectKey, t *report) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.putOff[key] == t {
		delete(q.putOff, key)
	}
}
