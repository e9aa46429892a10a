package resize

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// stores are where the cache has the objects of which there are as many as nodes. A list that the cache is asked for has copies of all of
// them, some twenty megabytes for each pass over a large cluster.
type stores struct{ nodes, machines toolscache.Store }

// storesOf are those of a cache; nil where it has no such store.
func storesOf(ctx context.Context, from cache.Cache) (*stores, error) {
	s := &stores{}
	for kind, store := range map[client.Object]*toolscache.Store{&corev1.Node{}: &s.nodes, &v1alpha1.PoolMachine{}: &s.machines} {
		informer, err := from.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("watch %T: %w", kind, err)
		}
		shared, is := informer.(toolscache.SharedInformer)
		if !is {
			return nil, nil
		}
		*store = shared.GetStore()
	}
	return s, nil
}

// those are the objects of a store. Nobody may change them.
func those[T any](store toolscache.Store) []*T {
	objects := store.List()
	out := make([]*T, 0, len(objects))
	for _, object := range objects {
		if o, is := object.(*T); is {
			out = append(out, o)
		}
	}
	return out
}

// listNodes are the nodes of the cluster.
func (o *observer) listNodes(ctx context.Context) ([]*corev1.Node, error) {
	if o.stores != nil {
		return those[corev1.Node](o.stores.nodes), nil
	}
	var list corev1.NodeList
	if err := o.reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list Nodes: %w", err)
	}
	return pointers(list.Items), nil
}

// listMachines are the PoolMachines.
func (o *observer) listMachines(ctx context.Context) ([]*v1alpha1.PoolMachine, error) {
	if o.stores != nil {
		return those[v1alpha1.PoolMachine](o.stores.machines), nil
	}
	var list v1alpha1.PoolMachineList
	if err := o.reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list PoolMachines: %w", err)
	}
	return pointers(list.Items), nil
}

func pointers[T any](items []T) []*T {
	out := make([]*T, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	return out
}
