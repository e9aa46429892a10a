package server

import (
	"context"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// recentPools reads NodePools from the cache, except those that this process has written and the cache has
// not seen yet: what a reply promised is true for the very next call.
type recentPools struct {
	cached client.Reader

	mu      sync.Mutex
	written map[string]*v1alpha1.NodePool
}

func newRecentPools(cached client.Reader) *recentPools {
	return &recentPools{cached: cached, written: map[string]*v1alpha1.NodePool{}}
}

// remember keeps a pool as the API server returned it, until the cache has it.
func (r *recentPools) remember(p *v1alpha1.NodePool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.written[p.Name]; known == nil || known.UID != p.UID || known.Generation <= p.Generation {
		r.written[p.Name] = p
	}
}

func (r *recentPools) get(ctx context.Context, name string) (*v1alpha1.NodePool, error) {
	p := &v1alpha1.NodePool{}
	if err := r.cached.Get(ctx, types.NamespacedName{Name: name}, p, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	return r.newest(p), nil
}

// list returns all pools. They must not be changed.
func (r *recentPools) list(ctx context.Context) ([]*v1alpha1.NodePool, error) {
	var pools v1alpha1.NodePoolList
	if err := r.cached.List(ctx, &pools, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list the NodePools: %w", err)
	}
	out := make([]*v1alpha1.NodePool, 0, len(pools.Items))
	for i := range pools.Items {
		out = append(out, r.newest(&pools.Items[i]))
	}
	return out, nil
}

// newest is the cached pool or the one that this process wrote, whichever has the newer spec. The
// generation counts the changes of spec.
func (r *recentPools) newest(cached *v1alpha1.NodePool) *v1alpha1.NodePool {
	r.mu.Lock()
	defer r.mu.Unlock()
	written := r.written[cached.Name]
	if written == nil {
		return cached
	}
	if written.UID != cached.UID || written.Generation <= cached.Generation {
		delete(r.written, cached.Name)
		return cached
	}
	return written
}
