// Package resize gives managed workloads their sizes: it observes the cluster (observe.go), lets package
// plan decide, and applies the decisions (members.go, apply.go).
//
// There is one reconciler with one key. Every relevant event leads to the same request, so bursts coalesce
// and every pass sees the whole.
package resize

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
)

// retryAfter is how long a pass that was cut short waits if no event comes first, and retryAfterMost how long one in which writes
// have failed again and again.
const (
	retryAfter     = 200 * time.Millisecond
	retryAfterMost = 10 * time.Second
)

// writesAtOnce is how many members are written at a time. A write takes milliseconds, of which the API server spends most
// on waiting for etcd.
const writesAtOnce = 16

// releasesAtOnce is how many pods of a growth are released at a time. The Job controller makes up to 500 pods at a time, and the scheduler
// binds each when it comes to it: on an API server that is busy with them a write takes a quarter of a second, and a growth would wait
// for releases alone.
const releasesAtOnce = 64

// inParallel does something for each number below count, several at a time, and returns what failed.
func inParallel(count int, do func(int) error) []error {
	return inParallelUpTo(writesAtOnce, count, do)
}

func inParallelUpTo(several, count int, do func(int) error) []error {
	failures := make([]error, count)
	// Nothing that is done here is given up because something else failed, nor because the process is told to end: each
	// write notices by itself.
	workqueue.ParallelizeUntil(context.Background(), several, count, func(i int) { failures[i] = do(i) })
	return slices.DeleteFunc(failures, func(err error) bool { return err == nil })
}

// everything is the one key.
var everything = reconcile.Request{NamespacedName: types.NamespacedName{Name: "everything"}}

// Reconciler gives managed workloads their sizes.
type Reconciler struct {
	// Kinds are those of workloads that are managed.
	Kinds member.Kinds
	// Client reads from caches, of unstructured objects too, and writes to the API server. Live reads from the API server itself.
	Client  client.Client
	Live    client.Reader
	Events  events.EventRecorder
	Clock   clock.PassiveClock
	Metrics *Metrics
	// Pods are those of the cluster.
	Pods *pods.Store
	// Interrupted is an error while a watch of one of Watched is interrupted, so that what is known of the cluster may be old.
	Interrupted func() error

	observer *observer
	// pace says when progress was last written.
	pace *pace
	// strangers are nodes that no machine vouches for.
	strangers strangers
	// writes are what this process has written and its caches may not have seen.
	writes *writes
	// owners bounds how often the owners of pods that seem to belong to no member are read.
	owners *budget[pods.JobKey]
	// blind is set while passes are put off because of a watch that was interrupted.
	blind bool
	// rests is when the next pass may begin.
	rests time.Time
	// spent is the processor time that the thread has had which a pass runs on; nil where that cannot be known.
	spent func() time.Duration
	// untargeted is set once a target was written and not stored: the definition in the cluster is an older one, which drops the field.
	untargeted atomic.Bool
	// targets is set once it is known that the definition has the field.
	targets atomic.Bool
	// ungrouped and grouped are the same of the groups of members with several.
	ungrouped, grouped atomic.Bool
	// faults are what was last said to be wrong with a workload, by the key of its member.
	faults sync.Map
}

// SetupWithManager starts the reconciler with a manager.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.begin()
	r.spent = threadTime
	var err error
	if r.observer.stores, err = storesOf(context.Background(), mgr.GetCache()); err != nil {
		return err
	}
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{everything}
	})
	build := ctrl.NewControllerManagedBy(mgr).
		Named("resize").
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 1,
			// There is one key. What fails for one member must not keep the deadlines of all others from being seen.
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](retryAfter, retryAfterMost),
		})
	for _, kind := range Watched(r.Kinds) {
		by := all
		var which []builder.WatchesOption
		switch kind.(type) {
		case *corev1.Node:
			which = append(which, builder.WithPredicates(nodeChanged))
		case *batchv1.Job:
			which = append(which, builder.WithPredicates(jobChanged(r.Kinds)))
		case *v1alpha1.PoolMachine:
			which = append(which, builder.WithPredicates(machineChanged))
		case *appsv1.DaemonSet:
			// Its status changes with each of its pods.
			which = append(which, builder.WithPredicates(predicate.GenerationChangedPredicate{}))
		case *corev1.Namespace:
			which = append(which, builder.WithPredicates(namespaceChanged))
		}
		build = build.Watches(kind, by, which...)
	}
	return build.WatchesRawSource(r.observer.ledger.follow()).Complete(r)
}

// namespaceChanged lets those events of namespaces through by which a pass would see something else.
var namespaceChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	return !maps.Equal(
		e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels(),
	) || e.ObjectOld.GetDeletionTimestamp().IsZero() != e.ObjectNew.GetDeletionTimestamp().IsZero()
}}

// begin makes the reconciler one that remembers nothing.
func (r *Reconciler) begin() {
	reasons := newNotMade(r.Live, func(outcome string) { r.Metrics.reads.WithLabelValues(outcome).Inc() })
	r.observer, r.writes, r.pace, r.strangers = newObserver(r.Kinds, r.Client, r.Pods, r.Clock, reasons), newWrites(), newPace(), strangers{}
	r.observer.awaited = r.writes.pods
	r.owners = newBudget[pods.JobKey](askOwnerAgain)
}

// Watched are the kinds of objects that a pass reads from the cache of the manager, with workloads of some kinds. Pods have a watch of
// their own.
func Watched(kinds member.Kinds) []client.Object {
	// Jobs make the pods of workloads, and may be workloads themselves.
	others := slices.DeleteFunc(kinds.Objects(), func(object client.Object) bool {
		_, is := object.(*batchv1.Job)
		return is
	})
	return append(others, []client.Object{
		&v1alpha1.EnsembleMember{}, &v1alpha1.NodePool{}, &v1alpha1.PoolMachine{}, &batchv1.Job{}, &corev1.Node{},
		&appsv1.DaemonSet{}, &corev1.Namespace{},
	}...)
}

// A pass that has computed for a while is followed by a rest of nine times that, so that passes never take more than a tenth of a core,
// whatever happens in the cluster. A rest is not longer than restAtMost: what comes meanwhile waits that long at most. What a pass has
// waited for is no reason to rest: the API server, or the processor, which is busy just when a growth starts.
const (
	restTimes  = 9
	restAtMost = time.Second
)

// Reconcile implements reconcile.Reconciler: one pass over everything.
func (r *Reconciler) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	started := r.Clock.Now()
	if wait := r.rests.Sub(started); wait > 0 {
		// A clock that was set back must not make it longer.
		return reconcile.Result{RequeueAfter: min(wait, restAtMost)}, nil
	}
	if r.interrupted(ctx) {
		// A decision made of what is half old and half new could let pods go that are to wait.
		return reconcile.Result{RequeueAfter: interruptedAfter}, nil
	}
	// 1. Observe.
	computed := r.stopwatch()
	defer computed()
	seen, err := r.observer.observe(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	if behind := r.writes.behind(seen); behind != "" {
		// A plan made without what this process has written itself could give a node away twice. The event
		// of the write brings the next pass.
		log.FromContext(ctx).V(1).Info("Put off a pass until the cache has caught up", "object", behind)
		return reconcile.Result{RequeueAfter: retryAfter}, nil
	}

	// 2. Bring the members in line with their workloads.
	failures := append(r.syncMembers(ctx, seen), r.tellForeign(ctx, seen)...)

	// 3. Plan.
	decisions := plan.Plan(seen.values(), started)
	took := computed()
	r.observer.ledger.took.Store(int64(took))
	r.rests = r.Clock.Now().Add(min(restTimes*took, restAtMost))

	// 4. Apply. The writes for one member are in order; those for different members concern different objects. What is
	// given up is recorded before somebody else gets it.
	members := memberDecisions(seen, decisions.Members)
	givers, takers := split(members)
	awaited := awaitedPools(decisions.Members)
	for _, which := range [][]*memberDecision{givers, takers} {
		failures = append(failures, inParallel(len(which), func(i int) error { return r.apply(ctx, seen, which[i], awaited) })...)
	}
	failures = append(failures, r.levelJobs(ctx, seen)...)
	strays, next := r.ungateStrays(ctx, seen.strays, started)
	failures = append(failures, strays...)
	next = soonest(next, seen.next, r.tellStrangers(ctx, seen, started), r.pace.forget(seen), decisions.Next)
	r.Metrics.observePass(r.Clock.Since(started), members)

	// 5. Say when to come again.
	conflict := false
	failures = slices.DeleteFunc(flattenErrors(failures), func(err error) bool {
		lost := apierrors.IsConflict(err) || apierrors.IsNotFound(err)
		conflict = conflict || lost
		return lost
	})
	switch {
	case len(failures) > 0:
		return reconcile.Result{}, errors.Join(failures...)
	case conflict:
		r.Metrics.conflicts.Inc()
		return reconcile.Result{RequeueAfter: retryAfter}, nil
	case !next.IsZero():
		return reconcile.Result{RequeueAfter: max(next.Sub(r.Clock.Now()), time.Millisecond)}, nil
	}
	return reconcile.Result{}, nil
}

// stopwatch begins to measure what a pass computes; read ends it and tells. Without the processor time of a thread it is the time that has
// passed.
func (r *Reconciler) stopwatch() (read func() time.Duration) {
	if r.spent == nil {
		begun := r.Clock.Now()
		return func() time.Duration { return r.Clock.Since(begun) }
	}
	runtime.LockOSThread()
	begun, unlock := r.spent(), sync.OnceFunc(runtime.UnlockOSThread)
	return func() time.Duration {
		defer unlock()
		return r.spent() - begun
	}
}

// interruptedAfter is how soon it is seen that watches go on again.
const interruptedAfter = time.Second

// interrupted reports whether what is known of the cluster may be old. It is logged once for each interruption.
func (r *Reconciler) interrupted(ctx context.Context) bool {
	var err error
	if r.Interrupted != nil {
		err = r.Interrupted()
	}
	switch {
	case err != nil && !r.blind:
		log.FromContext(ctx).Info("Deciding nothing until all watches of the API server go on", "because", err.Error())
	case err == nil && r.blind:
		log.FromContext(ctx).Info("All watches of the API server go on; deciding again")
	}
	if r.blind = err != nil; r.blind {
		r.Metrics.putOff.Inc()
	}
	return r.blind
}

// soonest is the first of some points in time of which a zero one is none.
func soonest(times ...time.Time) time.Time {
	var first time.Time
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// flattenErrors takes errors apart that were joined.
func flattenErrors(errs []error) []error {
	var out []error
	for _, err := range errs {
		if joined, is := err.(interface{ Unwrap() []error }); is {
			out = append(out, flattenErrors(joined.Unwrap())...)
		} else {
			out = append(out, err)
		}
	}
	return out
}

// split divides the decisions that can be applied into those by which a member gives up nodes or claims, and the others.
func split(memberDecisions []memberDecision) (givers, takers []*memberDecision) {
	for i := range memberDecisions {
		switch v := &memberDecisions[i]; {
		case v.e.skip:
		case givesUp(v.e.member.Status.Reservations, v.reservations):
			givers = append(givers, v)
		default:
			takers = append(takers, v)
		}
	}
	return givers, takers
}

func givesUp(before, after []v1alpha1.Reservation) bool {
	left := map[string]*v1alpha1.Reservation{}
	for i := range after {
		left[after[i].NodePool] = &after[i]
	}
	return slices.ContainsFunc(before, func(b v1alpha1.Reservation) bool {
		a := left[b.NodePool]
		return a == nil || a.Nodes < b.Nodes || lacks(a.Held, b.Held)
	})
}

// lacks reports whether one of some nodes is not among others. Both lists are in order.
func lacks(others, nodes []string) bool {
	for _, node := range nodes {
		at, is := slices.BinarySearch(others, node)
		if !is {
			return true
		}
		others = others[at+1:]
	}
	return false
}
