package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
)

// errStale ends a pass that was planned from a cache which is behind.
var errStale = errors.New("the cache is behind")

// restFactor is how many times longer than its last pass took a pool rests before the next one. A pool with thousands of
// members has many events, and each pass looks at all of them; a small pool does not notice. It is at most restAtMost: a pass that was
// long because the processor was busy with something else is no reason to let a growth wait.
const (
	restFactor = 9
	restAtMost = time.Second
)

// restAfter is how long a pool rests after a pass.
func restAfter(pass time.Duration) time.Duration { return min(restFactor*pass, restAtMost) }

// staleRetry is how long a pass that found the cache behind waits if no event comes first.
const staleRetry = 100 * time.Millisecond

// poolsAtOnce is how many pools are looked at side by side. Each waits for the API server most of its time.
const poolsAtOnce = 8

const (
	// growsWithin and shrinksWithin are how long what only people read of a status is held back, so that the nodes of a growth, which
	// come one after the other, are not told one by one: that all of them are Ready is told at once.
	growsWithin   = 5 * time.Second
	shrinksWithin = 2 * time.Second
	// lowerWithin is how long a floor that sinks is held back, so that the nodes that a member gives up one after the other are
	// released together.
	lowerWithin = 500 * time.Millisecond
	// tidyWithin is how long the names of machines that are gone stay in spec.machinesToDelete for another write to take them away with.
	tidyWithin = time.Second
)

// Reconciler brings the records of machines to what the specs of pools and the reservations say. It calls no cloud: package machine
// brings to pass what the records say.
type Reconciler struct {
	Client   client.Client
	Observer *Observer
	Events   events.EventRecorder
	Clock    clock.PassiveClock
	// AnnounceTimeout is how long a release waits for Cluster Autoscaler to ask for the minimum size.
	AnnounceTimeout time.Duration
	// Metrics may be nil.
	Metrics *Metrics

	written, nodes record.Written
	deleted        record.Asked
	mu             sync.Mutex
	// rested is when the next pass of each pool may begin, told when its status was written last, aimed when its target was.
	rested, told, aimed map[string]time.Time
}

// SetupWithManager starts the reconciler with a manager.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.rested, r.told, r.aimed = map[string]time.Time{}, map[string]time.Time{}, map[string]time.Time{}
	return ctrl.NewControllerManagedBy(mgr).
		Named("nodepool").
		WithOptions(controller.Options{MaxConcurrentReconciles: poolsAtOnce}).
		For(&v1alpha1.NodePool{}).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.poolOfNode)).
		Watches(&v1alpha1.PoolMachine{}, handler.EnqueueRequestsFromMapFunc(poolOfLabel)).
		Watches(&v1alpha1.EnsembleMember{}, handler.EnqueueRequestsFromMapFunc(poolsOfMember)).
		WatchesRawSource(&tenantsSource{r.Observer.Tenants, r.poolNamed}).
		Complete(r)
}

// Reconcile implements reconcile.Reconciler: observe, plan, apply.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var pool v1alpha1.NodePool
	if err := r.Client.Get(ctx, request.NamespacedName, &pool); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(request)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if r.written.Behind(&pool) {
		// What would be planned from it the API server would refuse. The event of the write brings the next pass.
		return ctrl.Result{RequeueAfter: staleRetry}, nil
	}
	begun := r.Clock.Now()
	if wait := r.rests(pool.Name).Sub(begun); wait > 0 {
		// A clock that was set back must not make it longer.
		return ctrl.Result{RequeueAfter: min(wait, restAtMost)}, nil
	}
	group, err := r.Observer.Observe(ctx, &pool)
	if err != nil {
		return ctrl.Result{}, err
	}
	now := r.Clock.Now()
	r.Metrics.Observe(group, now)
	decisions := nodegroup.Plan(group, r.AnnounceTimeout, now)
	planned := r.Clock.Now()
	r.restUntil(pool.Name, planned.Add(restAfter(planned.Sub(begun))))
	later, err := r.apply(ctx, &pool, group, &decisions)
	switch {
	case errors.Is(err, errStale), apierrors.IsConflict(err):
		return ctrl.Result{RequeueAfter: staleRetry}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	if next := earlier(decisions.Next, later); !next.IsZero() {
		return ctrl.Result{RequeueAfter: max(next.Sub(now), time.Millisecond)}, nil
	}
	return ctrl.Result{}, nil
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// rests is when the next pass of a pool may begin, restUntil sets it.
func (r *Reconciler) rests(pool string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rested[pool]
}

func (r *Reconciler) restUntil(pool string, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rested[pool] = until
}

// forget drops a pool that is gone.
func (r *Reconciler) forget(request ctrl.Request) {
	r.Metrics.forget(request.Name)
	r.written.Forget(request.NamespacedName)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.rested, request.Name)
	delete(r.told, request.Name)
	delete(r.aimed, request.Name)
}

// tell logs what happened to a pool and makes an event of it.
func (r *Reconciler) tell(ctx context.Context, pool *v1alpha1.NodePool, kind, reason, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	log.FromContext(ctx).Info(message, "nodePool", pool.Name, "reason", reason)
	r.Events.Eventf(pool, nil, kind, reason, reason, "%s", message)
}

func poolOfLabel(_ context.Context, object client.Object) []reconcile.Request {
	return requestFor(object.GetLabels()[v1alpha1.LabelNodePool])
}

func poolsOfMember(_ context.Context, object client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, pool := range reservedIn(object) {
		requests = append(requests, requestFor(pool)...)
	}
	return requests
}

// poolOfNode is the pool of the machine whose node that is.
func (r *Reconciler) poolOfNode(_ context.Context, object client.Object) []reconcile.Request {
	node, ok := object.(*corev1.Node)
	if !ok {
		return nil
	}
	machine, err := r.Observer.Store.OfNode(node.Spec.ProviderID, node.Name)
	if err != nil || machine == nil {
		return nil
	}
	return requestFor(machine.Spec.NodePool)
}

// poolNamed is the pool of the machine whose node has a name.
func (r *Reconciler) poolNamed(name string) []reconcile.Request {
	node, err := r.Observer.Store.NodeNamed(name)
	if err != nil || node == nil {
		return nil
	}
	return r.poolOfNode(context.Background(), node)
}

func requestFor(pool string) []reconcile.Request {
	if pool == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: pool}}}
}
