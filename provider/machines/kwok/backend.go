// Package kwok makes simulated machines. A KwokMachine object stands for an instance of a cloud: it exists
// from the order on, so that a machine that is booting survives a restart of the provider. When its boot
// delay is over the machine registers, which is to say that its Node is created; the kwok controller, a
// program of its own, then keeps that node Ready.
package kwok

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machines"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// Indexes of the cache over KwokMachines.
const (
	indexPool       = "spec.nodePool"
	indexProviderID = "spec.providerID"
)

// Backend makes simulated machines.
type Backend struct {
	cached client.Client
	live   client.Reader
	clock  clock.PassiveClock

	mu     sync.Mutex
	stocks map[string]stock
}

var _ machines.Backend = (*Backend)(nil)

// New returns a backend that reads from a cache and, where it must not be mistaken, from the API server.
// The cache needs the indexes of AddIndexes.
func New(cached client.Client, live client.Reader) *Backend {
	return &Backend{cached: cached, live: live, clock: clock.RealClock{}, stocks: map[string]stock{}}
}

// AddIndexes prepares a cache for the backend.
func AddIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	for field, value := range map[string]func(*v1alpha1.KwokMachine) string{
		indexPool:       func(m *v1alpha1.KwokMachine) string { return m.Spec.NodePool },
		indexProviderID: func(m *v1alpha1.KwokMachine) string { return m.Spec.ProviderID },
	} {
		extract := func(object client.Object) []string {
			machine, ok := object.(*v1alpha1.KwokMachine)
			if !ok {
				return nil
			}
			return []string{value(machine)}
		}
		if err := indexer.IndexField(ctx, &v1alpha1.KwokMachine{}, field, extract); err != nil {
			return fmt.Errorf("index KwokMachines by %s: %w", field, err)
		}
	}
	return nil
}

// List implements machines.Backend.
func (b *Backend) List(ctx context.Context, pool string, freshness machines.Freshness) ([]nodegroup.Machine, error) {
	var list v1alpha1.KwokMachineList
	var err error
	if freshness == machines.Live {
		err = b.live.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelNodePool: pool})
	} else {
		err = b.cached.List(ctx, &list, client.MatchingFields{indexPool: pool}, client.UnsafeDisableDeepCopy)
	}
	if err != nil {
		return nil, fmt.Errorf("list the KwokMachines of NodePool %s: %w", pool, err)
	}
	out := make([]nodegroup.Machine, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, machineOf(&list.Items[i]))
	}
	return out, nil
}

// Find implements machines.Backend.
func (b *Backend) Find(ctx context.Context, providerID string) (*nodegroup.Machine, string, error) {
	var list v1alpha1.KwokMachineList
	if err := b.cached.List(ctx, &list, client.MatchingFields{indexProviderID: providerID}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, "", fmt.Errorf("find the KwokMachine with provider id %s: %w", providerID, err)
	}
	if len(list.Items) == 0 {
		return nil, "", nil
	}
	machine := machineOf(&list.Items[0])
	return &machine, list.Items[0].Spec.NodePool, nil
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
	if err := b.cached.Create(ctx, machine); err != nil && !apierrors.IsAlreadyExists(err) {
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
	return deletion(b.cached.Delete(ctx, &machine, client.Preconditions{UID: &machine.UID, ResourceVersion: &machine.ResourceVersion}))
}

// Delete implements machines.Backend. The node goes first: without its machine it would be nobody's.
func (b *Backend) Delete(ctx context.Context, name string) error {
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
		if err := deletion(b.cached.Delete(ctx, &node, client.Preconditions{UID: &node.UID})); err != nil {
			return fmt.Errorf("delete Node %s: %w", name, err)
		}
	}
	if err := deletion(b.cached.Delete(ctx, &machine, client.Preconditions{UID: &machine.UID})); err != nil {
		return fmt.Errorf("delete KwokMachine %s: %w", name, err)
	}
	return nil
}

// deletion is the error of a deletion, nil when the object is gone.
func deletion(err error) error { return client.IgnoreNotFound(err) }

// ProviderID implements machines.Backend.
func (b *Backend) ProviderID(pool, name string) string { return "kwok://" + pool + "/" + name }

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
