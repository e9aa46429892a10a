package pool

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
)

// Tenants counts the pods that keep each node of the cluster from being empty. That is all that is asked of pods here, so of each only
// its name and its node are kept, some 150 bytes: a cluster may have half a million of them. It has a watch of its own, which leaves out
// what has ended, and runs on every replica, so that another one can lead at once.
type Tenants struct {
	mu sync.Mutex
	// on is the node that each pod is on, of those that count.
	on     map[tenant]unique.Handle[string]
	counts map[string]int
	queue  atomic.Pointer[func(node string)]
	filled chan struct{}
	once   sync.Once
}

var (
	_ toolscache.TransformingStore   = (*Tenants)(nil)
	_ manager.LeaderElectionRunnable = (*watchOfTenants)(nil)
)

// tenant is the name of a pod.
type tenant struct {
	namespace unique.Handle[string]
	name      string
}

// placed is what is kept of a pod while it is being told of.
type placed struct {
	tenant
	node   unique.Handle[string]
	counts bool
}

// GetObjectMeta implements metav1.ObjectMetaAccessor, for the stores of client-go.
func (p *placed) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: p.namespace.Value(), Name: p.name}
}

// NewTenants returns one that knows no pod.
func NewTenants() *Tenants {
	return &Tenants{on: map[tenant]unique.Handle[string]{}, counts: map[string]int{}, filled: make(chan struct{})}
}

// Filled is closed when all pods are known.
func (t *Tenants) Filled() <-chan struct{} { return t.filled }

// Count is the number of pods that keep a node from being empty.
func (t *Tenants) Count(node string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts[node]
}

// Transformer implements toolscache.TransformingStore: pods that wait to be told of are kept as small as the others.
func (t *Tenants) Transformer() toolscache.TransformFunc {
	return func(object any) (any, error) { return place(object) }
}

func place(object any) (*placed, error) {
	switch object := object.(type) {
	case *placed:
		return object, nil
	case *corev1.Pod:
		return &placed{
			tenant: tenant{unique.Make(object.Namespace), object.Name}, node: unique.Make(object.Spec.NodeName),
			counts: object.Spec.NodeName != "" && record.Counts(object),
		}, nil
	default:
		return nil, fmt.Errorf("the watch of pods tells of a %T", object)
	}
}

// Add implements toolscache.ReflectorStore.
func (t *Tenants) Add(object any) error {
	pod, err := place(object)
	if err != nil {
		return err
	}
	t.put(pod.tenant, pod.node, pod.counts)
	return nil
}

// Update implements toolscache.ReflectorStore.
func (t *Tenants) Update(object any) error { return t.Add(object) }

// Delete implements toolscache.ReflectorStore.
func (t *Tenants) Delete(object any) error {
	pod, err := place(object)
	if err != nil {
		return err
	}
	t.put(pod.tenant, pod.node, false)
	return nil
}

// Replace implements toolscache.ReflectorStore: these are all pods that there are.
func (t *Tenants) Replace(objects []any, _ string) error {
	// The first time there is nobody who could have gone, and memory is scarcest.
	var left map[tenant]bool
	if t.knowsAny() {
		left = make(map[tenant]bool, len(objects))
	}
	for _, object := range objects {
		pod, err := place(object)
		if err != nil {
			return err
		}
		if left != nil {
			left[pod.tenant] = true
		}
		t.put(pod.tenant, pod.node, pod.counts)
	}
	if left != nil {
		for _, pod := range t.missing(left) {
			t.put(pod, unique.Handle[string]{}, false)
		}
	}
	t.once.Do(func() { close(t.filled) })
	return nil
}

func (t *Tenants) knowsAny() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.on) > 0
}

func (t *Tenants) missing(left map[tenant]bool) []tenant {
	t.mu.Lock()
	defer t.mu.Unlock()
	var gone []tenant
	for pod := range t.on {
		if !left[pod] {
			gone = append(gone, pod)
		}
	}
	return gone
}

// Resync implements toolscache.ReflectorStore. There is nothing to be told again.
func (*Tenants) Resync() error { return nil }

// put notes where a pod is now, and asks for a pass over the pools whose nodes have more or fewer pods by that.
func (t *Tenants) put(pod tenant, node unique.Handle[string], counts bool) {
	var changed []string
	t.mu.Lock()
	before, was := t.on[pod]
	if was && (!counts || before != node) {
		delete(t.on, pod)
		name := before.Value()
		if t.counts[name]--; t.counts[name] == 0 {
			delete(t.counts, name)
		}
		changed = append(changed, name)
	}
	if counts && (!was || before != node) {
		t.on[pod] = node
		t.counts[node.Value()]++
		changed = append(changed, node.Value())
	}
	t.mu.Unlock()
	if ask := t.queue.Load(); ask != nil {
		for _, name := range changed {
			(*ask)(name)
		}
	}
}

// Follow has a manager keep it up to date, from its start on.
func (t *Tenants) Follow(mgr manager.Manager) error {
	config := rest.CopyConfig(mgr.GetConfig())
	config.ContentType = runtime.ContentTypeProtobuf
	clients, err := kubernetes.NewForConfigAndClient(config, mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("make a client for pods: %w", err)
	}
	alive := fields.ParseSelectorOrDie(
		"spec.nodeName!=,status.phase!=" + string(corev1.PodSucceeded) + ",status.phase!=" + string(corev1.PodFailed),
	)
	watch := toolscache.NewListWatchFromClient(clients.CoreV1().RESTClient(), "pods", metav1.NamespaceAll, alive)
	if err := mgr.Add(&watchOfTenants{t, watch}); err != nil {
		return fmt.Errorf("add the watch of pods to the manager: %w", err)
	}
	return nil
}

type watchOfTenants struct {
	tenants *Tenants
	pods    toolscache.ListerWatcher
}

// Start implements manager.Runnable.
func (w *watchOfTenants) Start(ctx context.Context) error {
	toolscache.NewReflectorWithOptions(w.pods, &corev1.Pod{}, w.tenants, toolscache.ReflectorOptions{Name: "pods"}).RunWithContext(ctx)
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (*watchOfTenants) NeedLeaderElection() bool { return false }

// tenantsSource asks for a pass over the pool of each node that has more or fewer pods.
type tenantsSource struct {
	tenants *Tenants
	poolOf  func(node string) []reconcile.Request
}

var _ source.SyncingSource = (*tenantsSource)(nil)

// Start implements source.Source.
func (s *tenantsSource) Start(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	ask := func(node string) {
		for _, request := range s.poolOf(node) {
			queue.Add(request)
		}
	}
	s.tenants.queue.Store(&ask)
	return nil
}

// WaitForSync implements source.SyncingSource.
func (s *tenantsSource) WaitForSync(ctx context.Context) error {
	select {
	case <-s.tenants.Filled():
		return nil
	case <-ctx.Done():
		return ctx.Err() //nolint:wrapcheck // The controller says what it waits for.
	}
}
