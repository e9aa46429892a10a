// Package kwok makes simulated machines. A KwokMachine object stands for an instance of a cloud: it exists
// from the order on, so that a machine that is booting survives a restart of the provider. When its boot
// delay is over the machine registers, which is to say that its Node is created; the kwok controller, a
// program of its own, then keeps that node Ready.
package kwok

import (
	"context"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machines"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// Indexes of the cache over KwokMachines.
const (
	indexPool       = "kwokmachines-by-pool"
	indexProviderID = "kwokmachines-by-provider-id"
)

// Backend makes simulated machines.
type Backend struct {
	machines toolscache.Indexer
	client   client.Client
	live     client.Reader
	clock    clock.PassiveClock

	mu     sync.Mutex
	stocks map[string]stock
}

var _ machines.Backend = (*Backend)(nil)

// New returns a backend of a manager that has not been started yet. Where it must not be mistaken it reads from the API
// server, else from the manager's cache: from its index directly, because Cluster Autoscaler asks thousands of times.
func New(ctx context.Context, mgr manager.Manager) (*Backend, error) {
	informer, err := mgr.GetCache().GetInformer(ctx, &v1alpha1.KwokMachine{})
	if err != nil {
		return nil, fmt.Errorf("watch KwokMachines: %w", err)
	}
	shared, ok := informer.(toolscache.SharedIndexInformer)
	if !ok {
		return nil, fmt.Errorf("watch KwokMachines: the cache has a %T, which has no index", informer)
	}
	err = shared.AddIndexers(toolscache.Indexers{
		indexPool:       by(func(m *v1alpha1.KwokMachine) string { return m.Spec.NodePool }),
		indexProviderID: by(func(m *v1alpha1.KwokMachine) string { return m.Spec.ProviderID }),
	})
	if err != nil {
		return nil, fmt.Errorf("index KwokMachines: %w", err)
	}
	return &Backend{
		machines: shared.GetIndexer(), client: mgr.GetClient(), live: mgr.GetAPIReader(), clock: clock.RealClock{}, stocks: map[string]stock{},
	}, nil
}

func by(value func(*v1alpha1.KwokMachine) string) toolscache.IndexFunc {
	return func(object any) ([]string, error) {
		machine, ok := object.(*v1alpha1.KwokMachine)
		if !ok {
			return nil, nil
		}
		return []string{value(machine)}, nil
	}
}

// cached are the machines with a value in an index. They must not be changed.
func (b *Backend) cached(index, value string) ([]*v1alpha1.KwokMachine, error) {
	objects, err := b.machines.ByIndex(index, value)
	if err != nil {
		return nil, fmt.Errorf("look up KwokMachines: %w", err)
	}
	out := make([]*v1alpha1.KwokMachine, 0, len(objects))
	for _, object := range objects {
		if machine, ok := object.(*v1alpha1.KwokMachine); ok {
			out = append(out, machine)
		}
	}
	return out, nil
}

// List implements machines.Backend.
func (b *Backend) List(ctx context.Context, pool string, freshness machines.Freshness) ([]nodegroup.Machine, error) {
	if freshness == machines.Cached {
		cached, err := b.cached(indexPool, pool)
		if err != nil {
			return nil, err
		}
		out := make([]nodegroup.Machine, 0, len(cached))
		for _, machine := range cached {
			out = append(out, machineOf(machine))
		}
		return out, nil
	}
	var list v1alpha1.KwokMachineList
	if err := b.live.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelNodePool: pool}); err != nil {
		return nil, fmt.Errorf("list the KwokMachines of NodePool %s: %w", pool, err)
	}
	out := make([]nodegroup.Machine, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, machineOf(&list.Items[i]))
	}
	return out, nil
}

// Find implements machines.Backend.
func (b *Backend) Find(_ context.Context, providerID string) (*nodegroup.Machine, string, error) {
	cached, err := b.cached(indexProviderID, providerID)
	if err != nil || len(cached) == 0 {
		return nil, "", err
	}
	machine := machineOf(cached[0])
	return &machine, cached[0].Spec.NodePool, nil
}

// Order implements machines.Backend.
func (b *Backend) Order(ctx context.Context, pool *v1alpha1.NodePool, name string, purpose v1alpha1.MachinePurpose) error {
	hash, err := pool.Spec.Template.Hash()
	if err != nil {
		return fmt.Errorf("order machine %s: %w", name, err)
	}
	fate, bootDelay, err := b.draw(ctx, pool, name)
	if err != nil {
		return err
	}
	machine := &v1alpha1.KwokMachine{
		ObjectMeta: metav1.ObjectMeta{
			Name:   name,
			Labels: map[string]string{v1alpha1.LabelNodePool: pool.Name, v1alpha1.LabelTemplateHash: hash},
		},
		Spec: v1alpha1.KwokMachineSpec{
			NodePool:   pool.Name,
			ProviderID: b.ProviderID(pool.Name, name),
			Purpose:    purpose,
			OrderedAt:  metav1.NewMicroTime(b.clock.Now()),
			BootDelay:  metav1.Duration{Duration: bootDelay},
			Fate:       fate,
			Template:   *pool.Spec.Template.DeepCopy(),
		},
	}
	if err := b.client.Create(ctx, machine); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create KwokMachine %s: %w", name, err)
	}
	return nil
}

// Cancel implements machines.Backend.
func (b *Backend) Cancel(ctx context.Context, name string) error {
	var machine v1alpha1.KwokMachine
	if err := b.live.Get(ctx, client.ObjectKey{Name: name}, &machine); err != nil {
		return client.IgnoreNotFound(err)
	}
	if machine.Status.RegisteredAt != nil {
		return machines.ErrRegistered
	}
	// The precondition makes the deletion fail when the machine registers in between.
	return deletion(b.client.Delete(ctx, &machine, client.Preconditions{UID: &machine.UID, ResourceVersion: &machine.ResourceVersion}))
}

// Delete implements machines.Backend.
func (b *Backend) Delete(ctx context.Context, name string) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error { return b.deleteAsSeen(ctx, name) })
}

// deleteAsSeen deletes a machine and its node. The node goes first: without its machine it would be nobody's. The error is a
// conflict when the machine has registered in between, and may have a node that was not seen.
func (b *Backend) deleteAsSeen(ctx context.Context, name string) error {
	var machine v1alpha1.KwokMachine
	if err := b.live.Get(ctx, client.ObjectKey{Name: name}, &machine); err != nil {
		return client.IgnoreNotFound(err)
	}
	var node corev1.Node
	switch err := b.live.Get(ctx, client.ObjectKey{Name: name}, &node); {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("get Node %s: %w", name, err)
	case node.Spec.ProviderID == machine.Spec.ProviderID:
		if err := deletion(b.client.Delete(ctx, &node, client.Preconditions{UID: &node.UID})); err != nil {
			return fmt.Errorf("delete Node %s: %w", name, err)
		}
	}
	if err := deletion(b.client.Delete(ctx, &machine, client.Preconditions{UID: &machine.UID, ResourceVersion: &machine.ResourceVersion})); err != nil {
		return fmt.Errorf("delete KwokMachine %s: %w", name, err)
	}
	return nil
}

// deletion is the error of a deletion, nil when the object is gone.
func deletion(err error) error { return client.IgnoreNotFound(err) }

// scheme begins the provider ids of simulated machines.
const scheme = "kwok://"

// ProviderID implements machines.Backend.
func (b *Backend) ProviderID(pool, name string) string { return ProviderID(pool, name) }

// ProviderID is spec.providerID of a simulated machine's node.
func ProviderID(pool, name string) string { return scheme + pool + "/" + name }

// Parse implements machines.Backend.
func (b *Backend) Parse(providerID string) (pool, name string, ok bool) {
	rest, ours := strings.CutPrefix(providerID, scheme)
	pool, name, whole := strings.Cut(rest, "/")
	if !ours || !whole || pool == "" || name == "" || strings.Contains(name, "/") {
		return "", "", false
	}
	return pool, name, true
}

func machineOf(m *v1alpha1.KwokMachine) nodegroup.Machine {
	out := nodegroup.Machine{
		Name:         m.Name,
		ProviderID:   m.Spec.ProviderID,
		Purpose:      m.Spec.Purpose,
		OrderedAt:    m.Spec.OrderedAt.Time,
		TemplateHash: m.Labels[v1alpha1.LabelTemplateHash],
		Registered:   m.Status.RegisteredAt != nil,
	}
	if f := m.Status.Failure; f != nil {
		out.Failure = &nodegroup.Failure{At: f.Time.Time, Class: f.Class, Code: f.Code, Message: f.Message}
	}
	return out
}
