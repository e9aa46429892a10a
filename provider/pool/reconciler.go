package pool

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machines"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// errStale ends a pass that was planned from a cache which is behind.
var errStale = errors.New("the cache is behind")

// restFactor is how many times longer than its last pass took a pool rests before the next one. A pool with thousands of
// members has many events, and each pass looks at all of them; a small pool does not notice.
const restFactor = 9

// staleRetry is how long a pass that found the cache behind waits if no event comes first.
const staleRetry = 100 * time.Millisecond

// Reconciler brings the machines of pools to what their specs and reservations say.
type Reconciler struct {
	Client   client.Client
	Observer *Observer
	Backend  machines.Backend
	Events   events.EventRecorder
	Clock    clock.PassiveClock
	// AnnounceTimeout is how long a release waits for Cluster Autoscaler to ask for the least size.
	AnnounceTimeout time.Duration
	// Metrics may be nil.
	Metrics *Metrics

	// written has the resource version of each NodePool that this process has written and not yet seen in its cache. There
	// is one pass at a time.
	written map[string]string
	// rested is when the next pass of each pool may begin.
	rested map[string]time.Time
}

// SetupWithManager starts the reconciler with a manager. machine is an object of the backend's kind, whose
// events concern the pool that their label names.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, machine client.Object) error {
	r.written, r.rested = map[string]string{}, map[string]time.Time{}
	return ctrl.NewControllerManagedBy(mgr).
		Named("nodepool").
		WithOptions(controller.Options{MaxConcurrentReconciles: 1}).
		For(&v1alpha1.NodePool{}).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(poolOfLabel)).
		Watches(machine, handler.EnqueueRequestsFromMapFunc(poolOfLabel)).
		Watches(&v1alpha1.EnsembleMember{}, handler.EnqueueRequestsFromMapFunc(poolsOfMember)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.poolOfPod)).
		Complete(r)
}

// Reconcile implements reconcile.Reconciler: observe, plan, apply.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var pool v1alpha1.NodePool
	if err := r.Client.Get(ctx, request.NamespacedName, &pool); err != nil {
		if apierrors.IsNotFound(err) {
			r.Metrics.forget(request.Name)
			delete(r.written, request.Name)
			delete(r.rested, request.Name)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if r.behind(&pool) {
		// What would be planned from it the API server would refuse. The event of the write brings the next pass.
		return ctrl.Result{RequeueAfter: staleRetry}, nil
	}
	begun := r.Clock.Now()
	if wait := r.rested[pool.Name].Sub(begun); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	group, err := r.Observer.Observe(ctx, &pool)
	if err != nil {
		return ctrl.Result{}, err
	}
	now := r.Clock.Now()
	r.Metrics.Observe(group, now)
	decisions := nodegroup.Plan(group, r.AnnounceTimeout, now)
	planned := r.Clock.Now()
	r.rested[pool.Name] = planned.Add(restFactor * planned.Sub(begun))
	switch err := r.apply(ctx, &pool, group, &decisions); {
	case errors.Is(err, errStale), apierrors.IsConflict(err):
		return ctrl.Result{RequeueAfter: staleRetry}, nil
	case err != nil:
		return ctrl.Result{}, err
	case !decisions.Next.IsZero():
		return ctrl.Result{RequeueAfter: decisions.Next.Sub(now)}, nil
	}
	return ctrl.Result{}, nil
}

// wrote remembers a write of the NodePool.
func (r *Reconciler) wrote(pool *v1alpha1.NodePool) { r.written[pool.Name] = pool.ResourceVersion }

// behind reports whether the cache has an older version of the NodePool than this process has written.
func (r *Reconciler) behind(pool *v1alpha1.NodePool) bool {
	version, has := r.written[pool.Name]
	if !has {
		return false
	}
	if order, err := resourceversion.CompareResourceVersion(pool.ResourceVersion, version); err == nil && order < 0 {
		return true
	}
	delete(r.written, pool.Name)
	return false
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

// poolOfPod is the pool of the node that the pod is on.
func (r *Reconciler) poolOfPod(ctx context.Context, object client.Object) []reconcile.Request {
	pod, ok := object.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" {
		return nil
	}
	var node corev1.Node
	if err := r.Client.Get(ctx, client.ObjectKey{Name: pod.Spec.NodeName}, &node); err != nil {
		return nil
	}
	return poolOfLabel(ctx, &node)
}

func requestFor(pool string) []reconcile.Request {
	if pool == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: pool}}}
}

// StripPod keeps of a pod in the cache what the observer reads.
func StripPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	stripped := &corev1.Pod{ObjectMeta: pod.ObjectMeta}
	stripped.ManagedFields = nil
	stripped.Labels = nil
	stripped.Annotations = nil
	if mirror, is := pod.Annotations[corev1.MirrorPodAnnotationKey]; is {
		stripped.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: mirror}
	}
	stripped.Spec.NodeName = pod.Spec.NodeName
	stripped.Status.Phase = pod.Status.Phase
	return stripped, nil
}

// StripNode keeps of a node in the cache what is read or patched.
func StripNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	node.ManagedFields = nil
	node.Status.Images = nil
	node.Status.VolumesInUse, node.Status.VolumesAttached = nil, nil
	return node, nil
}
