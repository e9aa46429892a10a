// Package resize gives managed MiniClusters their sizes: it observes the cluster (observe.go), lets package
// plan decide, and applies the decisions (members.go, apply.go).
//
// There is one reconciler with one key. Every relevant event leads to the same request, so bursts coalesce
// and every pass sees the whole.
package resize

import (
	"context"
	"errors"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// retryAfter is how long a pass that was cut short waits if no event comes first.
const retryAfter = 200 * time.Millisecond

// everything is the one key.
var everything = reconcile.Request{NamespacedName: types.NamespacedName{Name: "everything"}}

// Reconciler gives managed MiniClusters their sizes.
type Reconciler struct {
	// Client reads from caches, of unstructured objects too, and writes to the API server.
	Client  client.Client
	Events  events.EventRecorder
	Clock   clock.PassiveClock
	Metrics *Metrics

	// writes are what this process has written and its caches may not have seen. One worker touches it.
	writes writes
	// faults are what was last said to be wrong with a MiniCluster.
	faults map[types.NamespacedName]string
}

// SetupWithManager starts the reconciler with a manager.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.writes, r.faults = writes{}, map[types.NamespacedName]string{}
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{everything}
	})
	build := ctrl.NewControllerManagedBy(mgr).
		Named("resize").
		WithOptions(controller.Options{MaxConcurrentReconciles: 1})
	for _, kind := range Kinds() {
		build = build.Watches(kind, all)
	}
	return build.Complete(r)
}

// Kinds are the kinds of objects that a pass reads.
func Kinds() []client.Object {
	return []client.Object{
		minicluster.New(), &v1alpha1.EnsembleMember{}, &v1alpha1.NodePool{}, &batchv1.Job{}, &corev1.Pod{}, &corev1.Node{},
	}
}

// Reconcile implements reconcile.Reconciler: one pass over everything.
func (r *Reconciler) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	started := r.Clock.Now()
	// 1. Observe.
	seen, err := observe(ctx, r.Client)
	if err != nil {
		return reconcile.Result{}, err
	}
	if behind := r.writes.behind(seen); behind != "" {
		// A plan made without what this process has written itself could give a node away twice. The event
		// of the write brings the next pass.
		log.FromContext(ctx).V(1).Info("Put off a pass until the cache has caught up", "object", behind)
		return reconcile.Result{RequeueAfter: retryAfter}, nil
	}

	// 2. Bring the members in line with their MiniClusters.
	failures := r.syncMembers(ctx, seen)

	// 3. Plan.
	decisions := plan.Plan(seen.values(), started)

	// 4. Apply.
	for i := range decisions.Members {
		d := &decisions.Members[i]
		entry := seen.entries[d.Key]
		if entry.skip {
			continue
		}
		if err := r.apply(ctx, entry, d); err != nil {
			failures = append(failures, err)
		}
	}
	r.Metrics.observePass(r.Clock.Since(started), seen, &decisions)

	// 5. Say when to come again.
	conflict := false
	failures = slices.DeleteFunc(failures, func(err error) bool {
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
	case !decisions.Next.IsZero():
		return reconcile.Result{RequeueAfter: max(decisions.Next.Sub(r.Clock.Now()), time.Millisecond)}, nil
	}
	return reconcile.Result{}, nil
}
