// Package record reads what is written down of machines: the PoolMachines, from memory or from the API server, as the plain
// values that package nodegroup plans with, and the nodes that are theirs.
package record

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// Indexes of the caches over PoolMachines and Nodes.
const (
	indexPool       = "machines-by-pool"
	indexProviderID = "by-provider-id"
	indexOrder      = "machines-by-order"
	indexNodeName   = "machines-by-node"
)

// Freshness says how current an answer has to be.
type Freshness int

const (
	// Cached answers come from memory and may be a little old.
	Cached Freshness = iota
	// Live answers come from the API server. They are needed before an order is made.
	Live
)

// Store has the PoolMachines and the nodes. What it returns from memory must not be changed.
type Store struct {
	machines, nodes toolscache.Indexer
	live            client.Reader
	gone            gone
}

// New returns a store of a manager that has not been started yet. It reads the indexes of the manager's caches directly, because
// Cluster Autoscaler asks thousands of times.
func New(ctx context.Context, mgr manager.Manager) (*Store, error) {
	ofMachines, ofNodes := Indexers()
	machines, err := indexed(ctx, mgr, &v1alpha1.PoolMachine{}, ofMachines)
	if err != nil {
		return nil, err
	}
	nodes, err := indexed(ctx, mgr, &corev1.Node{}, ofNodes)
	if err != nil {
		return nil, err
	}
	store := Over(machines, nodes, mgr.GetAPIReader())
	return store, store.gone.watch(ctx, mgr)
}

// Indexers are the indexes that a store needs of PoolMachines and of nodes.
func Indexers() (machines, nodes toolscache.Indexers) {
	return toolscache.Indexers{
			indexPool:       by(func(m *v1alpha1.PoolMachine) string { return m.Spec.NodePool }),
			indexProviderID: by(providerID),
			indexOrder:      by(OrderKey),
			indexNodeName:   by(func(m *v1alpha1.PoolMachine) string { return m.Status.NodeName }),
		}, toolscache.Indexers{
			indexProviderID: by(func(n *corev1.Node) string { return n.Spec.ProviderID }),
		}
}

// Over is a store over memory that has the indexes of Indexers, and an API server.
func Over(machines, nodes toolscache.Indexer, live client.Reader) *Store {
	return &Store{machines: machines, nodes: nodes, live: live}
}

func indexed(ctx context.Context, mgr manager.Manager, kind client.Object, indexers toolscache.Indexers) (toolscache.Indexer, error) {
	informer, err := mgr.GetCache().GetInformer(ctx, kind)
	if err != nil {
		return nil, fmt.Errorf("watch %T: %w", kind, err)
	}
	shared, ok := informer.(toolscache.SharedIndexInformer)
	if !ok {
		return nil, fmt.Errorf("watch %T: the cache has a %T, which has no index", kind, informer)
	}
	if err := shared.AddIndexers(indexers); err != nil {
		return nil, fmt.Errorf("index %T: %w", kind, err)
	}
	return shared.GetIndexer(), nil
}

// by indexes objects of one kind by a value, those without it not at all.
func by[T any](value func(T) string) toolscache.IndexFunc {
	return func(object any) ([]string, error) {
		of, ok := object.(T)
		if !ok {
			return nil, nil
		}
		if v := value(of); v != "" {
			return []string{v}, nil
		}
		return nil, nil
	}
}

func lookUp[T any](indexer toolscache.Indexer, index, value string) ([]T, error) {
	objects, err := indexer.ByIndex(index, value)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", index, err)
	}
	out := make([]T, 0, len(objects))
	for _, object := range objects {
		if of, ok := object.(T); ok {
			out = append(out, of)
		}
	}
	return out, nil
}

// providerID is that of a machine. Of one that was found, and not ordered, it is known before its status is written: from the
// first moment its node is its own, so that nobody takes it for a machine that has not come.
func providerID(m *v1alpha1.PoolMachine) string {
	if id := m.Status.ProviderID; id != "" {
		return id
	}
	return m.Annotations[v1alpha1.AnnotationAdopted]
}

// OrderKey tells the orders of a pool apart.
func OrderKey(m *v1alpha1.PoolMachine) string {
	return m.Spec.NodePool + "/" + m.Spec.Order.ID + "/" + strconv.FormatInt(m.Spec.Order.First, 10)
}

// OfPool are the records of a pool, from memory.
func (s *Store) OfPool(pool string) ([]*v1alpha1.PoolMachine, error) {
	return lookUp[*v1alpha1.PoolMachine](s.machines, indexPool, pool)
}

// OfOrder are the records of an order, by its OrderKey, from memory.
func (s *Store) OfOrder(key string) ([]*v1alpha1.PoolMachine, error) {
	return lookUp[*v1alpha1.PoolMachine](s.machines, indexOrder, key)
}

// Named is the record of that name, from memory, nil where there is none.
func (s *Store) Named(name string) (*v1alpha1.PoolMachine, error) {
	object, exists, err := s.machines.GetByKey(name)
	if err != nil {
		return nil, fmt.Errorf("look up PoolMachine %s: %w", name, err)
	}
	if m, ok := object.(*v1alpha1.PoolMachine); exists && ok {
		return m, nil
	}
	return nil, nil
}

// OfNode is the record of a machine whose node that is or may be, nil where there is none: by the provider id, else by the
// name that was recorded.
func (s *Store) OfNode(providerID, name string) (*v1alpha1.PoolMachine, error) {
	for _, key := range [][2]string{{indexProviderID, providerID}, {indexNodeName, name}} {
		if key[1] == "" {
			continue
		}
		found, err := lookUp[*v1alpha1.PoolMachine](s.machines, key[0], key[1])
		if err != nil {
			return nil, err
		}
		if len(found) > 0 {
			return found[0], nil
		}
	}
	return nil, nil
}

// List is what is known of the machines of a pool, without their nodes.
func (s *Store) List(ctx context.Context, pool string, freshness Freshness) ([]nodegroup.Machine, error) {
	if freshness == Cached {
		records, err := s.OfPool(pool)
		if err != nil {
			return nil, err
		}
		out := make([]nodegroup.Machine, 0, len(records))
		for _, m := range records {
			out = append(out, Of(m))
		}
		return out, nil
	}
	var list v1alpha1.PoolMachineList
	if err := s.live.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelNodePool: pool}); err != nil {
		return nil, fmt.Errorf("list the PoolMachines of NodePool %s: %w", pool, err)
	}
	out := make([]nodegroup.Machine, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, Of(&list.Items[i]))
	}
	return out, nil
}

// Find is the machine that Cluster Autoscaler means by a provider id or by a placeholder, with the name of its pool, from
// memory. Where the machine is nil and the pool is not empty, it was one of the pool and is gone. One that is not ours has neither.
// Of one that is on order and has no record yet the placeholder is understood
// by nodegroup.ParsePlaceholder.
func (s *Store) Find(id string) (machine *nodegroup.Machine, pool string, err error) {
	if _, name, is := nodegroup.ParsePlaceholder(id); is {
		record, err := s.Named(name)
		if err != nil || record == nil {
			return nil, "", err
		}
		found := Of(record)
		return &found, record.Spec.NodePool, nil
	}
	found, err := lookUp[*v1alpha1.PoolMachine](s.machines, indexProviderID, id)
	if err != nil {
		return nil, "", err
	}
	if len(found) == 0 {
		return nil, s.gone.pool(id), nil
	}
	out := Of(found[0])
	return &out, found[0].Spec.NodePool, nil
}

// NodeOf is the node of a machine, from memory, nil where there is none: its record, its provider id and its name agree. Where
// no name is recorded yet, the oldest node with the provider id is it: a copy of a node is younger.
func (s *Store) NodeOf(m *nodegroup.Machine) (*corev1.Node, error) {
	if m.ProviderID == "" {
		return nil, nil
	}
	nodes, err := lookUp[*corev1.Node](s.nodes, indexProviderID, m.ProviderID)
	if err != nil {
		return nil, err
	}
	var found *corev1.Node
	for _, node := range nodes {
		switch {
		case m.NodeName != "" && node.Name != m.NodeName:
		case found == nil || node.CreationTimestamp.Before(&found.CreationTimestamp) ||
			(node.CreationTimestamp.Equal(&found.CreationTimestamp) && node.Name < found.Name):
			found = node
		}
	}
	return found, nil
}

// NodeNamed is the node of that name, from memory, nil where there is none.
func (s *Store) NodeNamed(name string) (*corev1.Node, error) {
	object, exists, err := s.nodes.GetByKey(name)
	if err != nil {
		return nil, fmt.Errorf("look up Node %s: %w", name, err)
	}
	if node, ok := object.(*corev1.Node); exists && ok {
		return node, nil
	}
	return nil, nil
}

// Of is what a record says of its machine.
func Of(m *v1alpha1.PoolMachine) nodegroup.Machine {
	out := nodegroup.Machine{
		Name:         m.Name,
		NodeName:     m.Status.NodeName,
		ProviderID:   providerID(m),
		Order:        m.Spec.Order,
		Purpose:      m.Spec.Purpose,
		OrderedAt:    m.Spec.OrderedAt.Time,
		TemplateHash: m.Spec.TemplateHash,
		Registered:   m.Status.NodeName != "",
		Asked:        m.Status.LaunchingAt != nil || providerID(m) != "" || m.Status.Failure != nil,
	}
	if f := m.Status.Failure; f != nil {
		out.Failure = &nodegroup.Failure{At: f.Time.Time, Class: f.Class, Code: f.Code, Message: f.Message}
	}
	if m.Status.LeavingAt != nil {
		out.LeavingAt = m.Status.LeavingAt.Time
	}
	if m.DeletionTimestamp != nil {
		out.Going = m.DeletionTimestamp.Time
	}
	for i := range m.Status.Conditions {
		if c := &m.Status.Conditions[i]; c.Type == v1alpha1.ConditionLaunched {
			out.Asked = out.Asked || c.Status == "True"
			if c.Reason == v1alpha1.ReasonMachineThrottled {
				out.Throttled = c.Message
			}
		}
	}
	return out
}
