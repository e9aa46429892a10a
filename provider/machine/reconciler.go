package machine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
)

const (
	// workers is how many machines are looked at side by side. They wait for the API server alone.
	workers = 16
	// staleRetry is how long a look that found the cache behind waits if no event comes first.
	staleRetry = 100 * time.Millisecond
)

// discardAgain is how often it is asked for again that a cloud lets go what it keeps of a failed machine.
const discardAgain = 5 * time.Second

// Waits are the times that the loops wait. The zero value of each means its default.
type Waits struct {
	// Call bounds one call of a launcher; five minutes by default.
	Call time.Duration
	// Consistency is how long what is not in a listing may exist all the same, besides the lag of the launcher; five minutes.
	Consistency time.Duration
	// EndAgain is how long after a machine was told to go it is told again; two minutes.
	EndAgain time.Duration
	// EndAlarm is how long after that somebody is told that it hangs; ten minutes.
	EndAlarm time.Duration
	// Sweep is how often instances are looked for that no record tells of; ten minutes.
	Sweep time.Duration
}

// withDefaults fills in what is not set.
func (w *Waits) withDefaults() {
	for _, wait := range []struct {
		value *time.Duration
		is    time.Duration
	}{
		{&w.Call, 5 * time.Minute}, {&w.Consistency, 5 * time.Minute}, {&w.EndAgain, 2 * time.Minute},
		{&w.EndAlarm, 10 * time.Minute}, {&w.Sweep, 10 * time.Minute},
	} {
		if *wait.value == 0 {
			*wait.value = wait.is
		}
	}
}

// Shortest is the shortest of them.
func (w *Waits) Shortest() time.Duration {
	return min(w.Call, w.Consistency, w.EndAgain, w.EndAlarm, w.Sweep)
}

// Reconciler brings to pass what PoolMachines say.
type Reconciler struct {
	Client client.Client
	// Live reads from the API server.
	Live      client.Reader
	Store     *record.Store
	Launchers *launch.Launchers
	Events    events.EventRecorder
	Clock     clock.PassiveClock
	// Cluster is the UID of the namespace kube-system, with which instances are marked.
	Cluster string
	Waits   Waits
	Log     logr.Logger

	calls     *calls
	listings  listings
	nodes     freshNodes
	written   record.Written
	adopted   record.Written
	finished  record.Asked
	machines  chan event.GenericEvent
	pools     chan event.GenericEvent
	orders    chan event.GenericEvent
	mu        sync.Mutex
	outcomes  map[string]outcome
	endings   map[string]*ending
	refusals  map[string]refusal
	hung      map[string]bool
	throttles map[string]time.Time
}

// queueLength is how many keys may wait to be looked at again. Calls that end wait for room.
const queueLength = 4096

// newLimiter says how soon what has failed is tried again. A failure that could not be written during an outage is written soon after
// it: until then nothing lets go what the cloud keeps of the machine.
func newLimiter() workqueue.TypedRateLimiter[ctrl.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[ctrl.Request](20*time.Millisecond, 10*time.Second)
}

// SetupWithManager starts the loops with a manager.
func (r *Reconciler) SetupWithManager(mgr manager.Manager) error {
	r.Waits.withDefaults()
	r.calls = newCalls(r.Waits.Call)
	r.machines, r.pools, r.orders = make(
		chan event.GenericEvent, queueLength,
	), make(chan event.GenericEvent, queueLength), make(chan event.GenericEvent, queueLength)
	r.outcomes, r.endings, r.refusals = map[string]outcome{}, map[string]*ending{}, map[string]refusal{}
	r.hung, r.throttles = map[string]bool{}, map[string]time.Time{}
	err := errors.Join(mgr.Add(r.calls), mgr.Add(&sweep{Reconciler: r}))
	err = errors.Join(err, ctrl.NewControllerManagedBy(mgr).
		Named("poolmachine").
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, RateLimiter: newLimiter()}).
		For(&v1alpha1.PoolMachine{}).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.machineOfNode)).
		WatchesRawSource(source.Channel(r.machines, &handler.EnqueueRequestForObject{})).
		Complete(r))
	err = errors.Join(err, ctrl.NewControllerManagedBy(mgr).
		Named("machineorder").
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, RateLimiter: newLimiter()}).
		Watches(&v1alpha1.PoolMachine{}, handler.EnqueueRequestsFromMapFunc(openOrder)).
		Watches(&v1alpha1.NodePool{}, handler.EnqueueRequestsFromMapFunc(r.ordersOfPool)).
		WatchesRawSource(source.Channel(r.orders, &handler.EnqueueRequestForObject{})).
		Complete(launching{r}))
	listing := ctrl.NewControllerManagedBy(mgr).
		Named("machinelisting").
		WithOptions(controller.Options{RateLimiter: newLimiter()}).
		Watches(&v1alpha1.PoolMachine{}, handler.EnqueueRequestsFromMapFunc(poolOfNew)).
		WatchesRawSource(source.Channel(r.pools, &handler.EnqueueRequestForObject{}))
	for _, watch := range r.Launchers.Watches() {
		if watch.Cache == nil {
			watch.Cache = mgr.GetCache()
		}
		listing = listing.WatchesRawSource(source.Kind(watch.Cache, watch.Object, handler.EnqueueRequestsFromMapFunc(poolOfLabel)))
	}
	return errors.Join(err, listing.Complete(lister{r}))
}

// Reconcile implements reconcile.Reconciler: it looks at one machine.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	// 1. Its record, as this process has written it last.
	m, err := r.Store.Named(request.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	if m == nil {
		r.forget(request)
		return ctrl.Result{}, nil
	}
	if r.written.Behind(m) {
		return ctrl.Result{RequeueAfter: staleRetry}, nil
	}
	// 2. What has become of it: the outcome of its order, the newest listing, its node.
	seen, err := r.observe(ctx, m)
	if err != nil {
		return ctrl.Result{}, err
	}
	now := r.Clock.Now()
	// 3. Its status.
	status, due := next(m, seen, r.Waits.Consistency, now)
	if !equality.Semantic.DeepEqual(&m.Status, status) {
		if wait := due.Sub(now); !due.IsZero() && wait > 0 && onlyRegistration(&m.Status, status) {
			// What comes together is written together.
			return ctrl.Result{RequeueAfter: wait}, r.adopt(ctx, m, seen)
		}
		return ctrl.Result{}, r.write(ctx, m, status, seen)
	}
	r.settle(m)
	// 4. What the cloud keeps of one that has failed. Mostly write has begun that.
	if r.discard(m, seen) {
		due = now.Add(discardAgain)
	}
	// 5. Its end.
	if m.DeletionTimestamp != nil {
		result, err := r.end(ctx, m, seen)
		if wait := due.Sub(now); !due.IsZero() && result.RequeueAfter > wait {
			// Its status is due before that.
			result.RequeueAfter = max(wait, staleRetry)
		}
		return result, err
	}
	// 6. Its node.
	if err := r.adopt(ctx, m, seen); err != nil {
		return ctrl.Result{}, err
	}
	if due.IsZero() {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: max(due.Sub(now), staleRetry)}, nil
}

// seen is what is known of a machine besides its record.
type seen struct {
	sighting
	// outcome is that of its order, nil while it has none that is not written yet.
	outcome *outcome
	// node is its node, nil when there is none; nodeGone is set where the API server itself says that a node that
	// was recorded is gone.
	node     *corev1.Node
	nodeGone bool
	// lag is how far listings may be behind.
	lag time.Duration
	// why is what is in the way of its end, empty for nothing that is known.
	why string
}

func (r *Reconciler) observe(ctx context.Context, m *v1alpha1.PoolMachine) (*seen, error) {
	out := &seen{sighting: r.see(m)}
	if foreign(m) {
		out.instance = nil
	}
	if launcher, err := r.Launchers.For(&m.Spec.Machines); err == nil {
		out.lag = launcher.Traits(r.poolOf(m)).Lag
	}
	r.mu.Lock()
	if o, is := r.outcomes[m.Name]; is {
		out.outcome = &o
	}
	if e := r.endings[m.Name]; e != nil {
		out.why = e.why
	}
	r.mu.Unlock()
	if id := m.Annotations[v1alpha1.AnnotationAdopted]; id != "" && m.Status.ProviderID == "" {
		out.outcome = &outcome{launch.Outcome{Kind: launch.Accepted, ProviderID: id}}
	}
	machine := record.Of(m)
	if machine.ProviderID == "" && out.outcome != nil {
		machine.ProviderID = out.outcome.ProviderID
	}
	if machine.ProviderID == "" && out.instance != nil {
		machine.ProviderID = out.instance.ProviderID
	}
	var err error
	if out.node, err = r.Store.NodeOf(&machine); err != nil || out.node != nil {
		return out, err
	}
	if machine.ProviderID == "" && out.instance != nil && out.instance.NodeName != "" {
		if out.node, err = r.Store.NodeNamed(out.instance.NodeName); err != nil || out.node != nil {
			return out, err
		}
	}
	if m.Status.NodeName == "" || m.Status.Failure != nil || m.DeletionTimestamp != nil {
		return out, nil
	}
	var node corev1.Node
	switch err := r.Live.Get(ctx, client.ObjectKey{Name: m.Status.NodeName}, &node); {
	case apierrors.IsNotFound(err):
		out.nodeGone = true
	case err != nil:
		return nil, fmt.Errorf("get Node %s: %w", m.Status.NodeName, err)
	default:
		out.nodeGone = node.Spec.ProviderID != m.Status.ProviderID
	}
	return out, nil
}

// foreign reports whether what the cloud has by the name of a machine is not that machine.
func foreign(m *v1alpha1.PoolMachine) bool {
	return m.Status.Failure != nil && m.Status.Failure.Code == launch.CodeNameTaken
}

// write writes a status, and tells what people have to hear of.
func (r *Reconciler) write(ctx context.Context, m *v1alpha1.PoolMachine, status *v1alpha1.PoolMachineStatus, seen *seen) error {
	updated := m.DeepCopy()
	updated.Status = *status
	patch := client.MergeFromWithOptions(m, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, updated, patch); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			// The event that the cache has yet to see brings the next look.
			return nil
		}
		return fmt.Errorf("write the status of PoolMachine %s: %w", m.Name, err)
	}
	r.written.Wrote(updated)
	// At once: some clouds make nothing else while they keep it.
	r.discard(updated, seen)
	r.tellOf(ctx, m, status)
	if status.Failure == nil && m.DeletionTimestamp == nil {
		return r.adopt(ctx, updated, seen)
	}
	return nil
}

// tellOf logs what has become of a machine, and makes an event about its pool of what nobody asked for.
func (r *Reconciler) tellOf(ctx context.Context, m *v1alpha1.PoolMachine, status *v1alpha1.PoolMachineStatus) {
	logger := log.FromContext(ctx).WithValues("nodePool", m.Spec.NodePool)
	switch {
	case status.Failure != nil && m.Status.Failure == nil:
		logger.Info("Machine failed", "code", status.Failure.Code, "why", status.Failure.Message)
		if m.Status.NodeName != "" {
			r.warn(ctx, m, v1alpha1.ReasonMachineVanished, "machine %s is no more: %s: %s", m.Name, status.Failure.Code, status.Failure.Message)
		}
	case status.NodeName != "" && m.Status.NodeName == "":
		logger.Info("Machine registered its node", "node", status.NodeName, "afterSeconds", r.Clock.Since(m.Spec.OrderedAt.Time).Seconds())
	}
	if status.LeavingAt != nil && m.Status.LeavingAt == nil {
		r.warn(ctx, m, v1alpha1.ReasonMachineLeaves, "the cloud takes machine %s, node %s, away at %s; its replacement is ordered first",
			m.Name, status.NodeName, status.LeavingAt.UTC().Format(time.RFC3339))
	}
}

// warn makes an event about the pool of a machine.
func (r *Reconciler) warn(ctx context.Context, m *v1alpha1.PoolMachine, reason, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	log.FromContext(ctx).Info(message, "nodePool", m.Spec.NodePool, "reason", reason)
	var pool v1alpha1.NodePool
	if err := r.Client.Get(ctx, client.ObjectKey{Name: m.Spec.NodePool}, &pool); err != nil {
		return // There is nobody to tell.
	}
	r.Events.Eventf(&pool, m, corev1.EventTypeWarning, reason, reason, "%s", message)
}

// settle forgets the outcome of a machine that is written.
func (r *Reconciler) settle(m *v1alpha1.PoolMachine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o, is := r.outcomes[m.Name]; is && o.final() {
		delete(r.outcomes, m.Name)
	}
}

func (r *Reconciler) forget(request ctrl.Request) {
	r.written.Forget(request.NamespacedName)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.outcomes, request.Name)
	delete(r.endings, request.Name)
	delete(r.hung, request.Name)
}

// poolOf is what the launcher has to know of the pool of a machine.
func (r *Reconciler) poolOf(m *v1alpha1.PoolMachine) *launch.Pool {
	return &launch.Pool{Cluster: r.Cluster, Name: m.Spec.NodePool, Machines: m.Spec.Machines}
}

func named(name string) event.GenericEvent {
	object := &v1alpha1.PoolMachine{}
	object.Name = name
	return event.GenericEvent{Object: object}
}

// What wakes a loop is a call that has ended, or another loop. When the process ends nobody listens.
func (r *Reconciler) wakeMachine(name string) { r.calls.wake(r.machines, named(name)) }
func (r *Reconciler) wakePool(name string)    { r.calls.wake(r.pools, named(name)) }
func (r *Reconciler) wakeOrder(key string)    { r.calls.wake(r.orders, named(key)) }

func (r *Reconciler) machineOfNode(_ context.Context, object client.Object) []reconcile.Request {
	node, ok := object.(*corev1.Node)
	if !ok {
		return nil
	}
	m, err := r.Store.OfNode(node.Spec.ProviderID, node.Name)
	if err != nil || m == nil {
		return nil
	}
	return requestFor(m.Name)
}

// poolOfNew is the pool of a machine of whose instance nothing is known, so that it is listed.
func poolOfNew(_ context.Context, object client.Object) []reconcile.Request {
	m, ok := object.(*v1alpha1.PoolMachine)
	if !ok || (m.Status.ProviderID != "" && m.DeletionTimestamp == nil) {
		return nil
	}
	return requestFor(m.Spec.NodePool)
}

func poolOfLabel(_ context.Context, object client.Object) []reconcile.Request {
	return requestFor(object.GetLabels()[v1alpha1.LabelNodePool])
}

func requestFor(name string) []reconcile.Request {
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: name}}}
}
