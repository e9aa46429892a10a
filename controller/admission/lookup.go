package admission

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Lookup finds NodePools.
type Lookup struct {
	// Cached is the cache, which may be behind or, at the start of the process, empty. Live is the API server.
	Cached, Live client.Reader
}

// Find finds NodePools by their names. What the cache does not have is asked of the API server before it is called missing:
// it may have been created a moment ago, in the same kubectl apply.
func (l *Lookup) Find(ctx context.Context, names []string) (*Pools, error) {
	pools := &Pools{Named: map[string]*v1alpha1.NodePool{}}
	missing := false
	for _, name := range names {
		key, pool := types.NamespacedName{Name: name}, &v1alpha1.NodePool{}
		err := l.Cached.Get(ctx, key, pool)
		if err != nil {
			err = l.Live.Get(ctx, key, pool)
		}
		switch {
		case err == nil:
			pools.Named[name] = pool
		case apierrors.IsNotFound(err):
			missing = true
		default:
			return nil, apierrors.NewInternalError(fmt.Errorf("read NodePool %s: %w", name, err))
		}
	}
	if !missing {
		return pools, nil
	}
	var all v1alpha1.NodePoolList
	if err := l.Cached.List(ctx, &all); err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("list NodePools: %w", err))
	}
	for i := range all.Items {
		pools.Existing = append(pools.Existing, all.Items[i].Name)
	}
	slices.Sort(pools.Existing)
	return pools, nil
}
