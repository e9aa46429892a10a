package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/types/known/anypb"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// recentPools reads NodePools from the cache, except those that this process has written and the cache has
// not seen yet: what a reply promised is true for the very next call.
type recentPools struct {
	store toolscache.Store
	// version is raised with every change.
	version atomic.Int64

	mu      sync.Mutex
	written map[string]*v1alpha1.NodePool
	all     *allPools
}

// allPools is what is answered of all pools together. It is prepared when a pool has changed, and not for each
// question, so that an answer costs what its bytes cost. Nothing of it is changed.
type allPools struct {
	version int64
	groups  *externalgrpc.NodeGroupsResponse
	// byPool has the pools and their parts of groups, to be used again for those that stay as they are.
	byPool map[string]poolGroup
	// untold are those whose minimum size has to be recorded when Cluster Autoscaler is told of it.
	untold []announcement
	gpus   *externalgrpc.GetAvailableGPUTypesResponse
	prices *nodegroup.PriceList
}

type poolGroup struct {
	pool  *v1alpha1.NodePool
	group *externalgrpc.NodeGroup
}

// newRecentPools watches the NodePools of a cache that has not been started yet.
func newRecentPools(ctx context.Context, c cache.Cache) (*recentPools, error) {
	informer, err := c.GetInformer(ctx, &v1alpha1.NodePool{})
	if err != nil {
		return nil, fmt.Errorf("watch NodePools: %w", err)
	}
	shared, ok := informer.(toolscache.SharedInformer)
	if !ok {
		return nil, fmt.Errorf("watch NodePools: the cache has a %T, which has no store", informer)
	}
	r := &recentPools{store: shared.GetStore(), written: map[string]*v1alpha1.NodePool{}}
	changed := func() { r.version.Add(1) }
	if _, err := shared.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { changed() }, UpdateFunc: func(any, any) { changed() }, DeleteFunc: func(any) { changed() },
	}); err != nil {
		return nil, fmt.Errorf("watch NodePools: %w", err)
	}
	return r, nil
}

// remember keeps a pool as the API server returned it, until the cache has it.
func (r *recentPools) remember(p *v1alpha1.NodePool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.written[p.Name]; known == nil || known.UID != p.UID || known.Generation <= p.Generation {
		r.written[p.Name] = p
		r.version.Add(1)
	}
}

// get returns a pool, which must not be changed, or a NotFound error.
func (r *recentPools) get(name string) (*v1alpha1.NodePool, error) {
	object, exists, err := r.store.GetByKey(name)
	if err != nil {
		return nil, fmt.Errorf("look up NodePool %s: %w", name, err)
	}
	p, ok := object.(*v1alpha1.NodePool)
	if !exists || !ok {
		return nil, apierrors.NewNotFound(v1alpha1.GroupVersion.WithResource("nodepools").GroupResource(), name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.newest(p), nil
}

// newest is the cached pool or the one that this process wrote, whichever has the newer spec. The
// generation counts the changes of spec. The lock is held.
func (r *recentPools) newest(cached *v1alpha1.NodePool) *v1alpha1.NodePool {
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

// list returns what is answered of all pools, in the order of their names.
func (r *recentPools) list() *allPools {
	r.mu.Lock()
	defer r.mu.Unlock()
	// A change that comes while the pools are read raises the version again, and the next call reads again.
	version := r.version.Load()
	if r.all != nil && r.all.version == version {
		return r.all
	}
	objects := r.store.List()
	pools := make([]*v1alpha1.NodePool, 0, len(objects))
	for _, object := range objects {
		if p, ok := object.(*v1alpha1.NodePool); ok {
			pools = append(pools, r.newest(p))
		}
	}
	slices.SortFunc(pools, func(a, b *v1alpha1.NodePool) int { return cmp.Compare(a.Name, b.Name) })
	before := r.all
	r.all = &allPools{
		version: version, groups: &externalgrpc.NodeGroupsResponse{}, gpus: &externalgrpc.GetAvailableGPUTypesResponse{},
		byPool: make(map[string]poolGroup, len(pools)), prices: nodegroup.NewPriceList(pools),
	}
	for _, p := range pools {
		r.all.add(p, before)
	}
	return r.all
}

func (a *allPools) add(p *v1alpha1.NodePool, before *allPools) {
	if kind := p.Spec.Template.Labels[gpuLabel]; kind != "" {
		if a.gpus.GpuTypes == nil {
			a.gpus.GpuTypes = map[string]*anypb.Any{}
		}
		a.gpus.GpuTypes[kind] = &anypb.Any{}
	}
	if !decided(p) {
		return
	}
	group := poolGroup{pool: p}
	if before != nil && before.byPool[p.Name].pool == p {
		group = before.byPool[p.Name]
	} else {
		group.group = nodeGroup(p)
	}
	a.byPool[p.Name] = group
	a.groups.NodeGroups = append(a.groups.NodeGroups, group.group)
	if size := group.group.GetMinSize(); p.Status.AnnouncedFloor != size {
		a.untold = append(a.untold, announcement{p.Name, size})
	}
}
