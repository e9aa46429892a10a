package admission

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/reading"
)

// Lookup finds what MiniClusters are judged by.
type Lookup struct {
	// Cached is the cache, which may be behind or, at the start of the process, empty. Live is the API server.
	Cached, Live client.Reader
	// Budget bounds what is read of the API server that can be done without; nil for no bound.
	Budget interface{ TryAccept() bool }
}

// Review is what is found for one object that is being written, of one namespace. Nothing is read twice for it.
type Review struct {
	*Lookup
	namespace string

	pools       map[string]*v1alpha1.NodePool
	absent      map[string]bool
	existing    []string
	surrounding *surrounding
	labels      map[string]string
}

// surrounding is what other objects add to pods, or take of nodes.
type surrounding struct {
	daemonSets []reading.DaemonSet
	limits     []corev1.LimitRange
}

// Review begins one, for an object of a namespace.
func (l *Lookup) Review(namespace string) *Review {
	return &Review{Lookup: l, namespace: namespace, pools: map[string]*v1alpha1.NodePool{}, absent: map[string]bool{}}
}

// Find finds NodePools by their names, and what else there is to know of them. What the cache does not have is asked of the API server
// before it is called missing: it may have been created a moment ago, in the same kubectl apply.
func (r *Review) Find(ctx context.Context, names []string) (*Pools, error) {
	pools := &Pools{Named: map[string]*v1alpha1.NodePool{}, Namespace: r.namespace}
	if len(names) == 0 {
		return pools, nil
	}
	for _, name := range names {
		pool, err := r.pool(ctx, name)
		if err != nil {
			return nil, err
		}
		if pool == nil {
			if pools.Existing, err = r.all(ctx); err != nil {
				return nil, err
			}
			continue
		}
		pools.Named[name] = pool
		if pool.Spec.AllowedNamespaces != nil {
			if pools.NamespaceLabels, err = r.namespaceLabels(ctx); err != nil {
				return nil, err
			}
		}
	}
	if r.surrounding == nil {
		var sets appsv1.DaemonSetList
		if err := r.Cached.List(ctx, &sets, client.UnsafeDisableDeepCopy); err != nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("list DaemonSets: %w", err))
		}
		r.surrounding = &surrounding{daemonSets: reading.DaemonSets(sets.Items), limits: r.limitRanges(ctx)}
	}
	pools.DaemonSets, pools.Limits = r.surrounding.daemonSets, r.surrounding.limits
	return pools, nil
}

// pool is a NodePool, nil where there is none of the name.
func (r *Review) pool(ctx context.Context, name string) (*v1alpha1.NodePool, error) {
	if pool := r.pools[name]; pool != nil || r.absent[name] {
		return pool, nil
	}
	key, pool := types.NamespacedName{Name: name}, &v1alpha1.NodePool{}
	err := r.Cached.Get(ctx, key, pool)
	if err != nil {
		err = r.Live.Get(ctx, key, pool)
	}
	switch {
	case err == nil:
		r.pools[name] = pool
		return pool, nil
	case apierrors.IsNotFound(err):
		r.absent[name] = true
		return nil, nil
	default:
		return nil, apierrors.NewInternalError(fmt.Errorf("read NodePool %s: %w", name, err))
	}
}

// all are the names of the NodePools that there are.
func (r *Review) all(ctx context.Context) ([]string, error) {
	if r.existing != nil {
		return r.existing, nil
	}
	var all v1alpha1.NodePoolList
	if err := r.Cached.List(ctx, &all); err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("list NodePools: %w", err))
	}
	r.existing = make([]string, 0, len(all.Items))
	for i := range all.Items {
		r.existing = append(r.existing, all.Items[i].Name)
	}
	slices.Sort(r.existing)
	return r.existing, nil
}

// namespaceLabels are those of the namespace. It may have been created a moment ago, so what the cache does not have is asked of the
// API server.
func (r *Review) namespaceLabels(ctx context.Context) (map[string]string, error) {
	if r.labels != nil {
		return r.labels, nil
	}
	namespace := &corev1.Namespace{}
	key := types.NamespacedName{Name: r.namespace}
	err := r.Cached.Get(ctx, key, namespace)
	if err != nil && r.affords() {
		err = r.Live.Get(ctx, key, namespace)
	}
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("read Namespace %s, whose labels say which NodePools its MiniClusters may name: %w", r.namespace, err))
	}
	r.labels = namespace.GetLabels()
	if r.labels == nil {
		r.labels = map[string]string{}
	}
	return r.labels, nil
}

// limitRanges are those of the namespace, none where they cannot be read or too much is read already: the pods will show what they
// request when they are there, and only the refusal comes later.
func (r *Review) limitRanges(ctx context.Context) []corev1.LimitRange {
	if !r.affords() {
		log.FromContext(ctx).V(1).Info("Not looking at the LimitRanges of a namespace: many MiniClusters are being written", "namespace", r.namespace)
		return nil
	}
	var list corev1.LimitRangeList
	if err := r.Live.List(ctx, &list, client.InNamespace(r.namespace)); err != nil {
		log.FromContext(ctx).Error(err, "Cannot read the LimitRanges of a namespace: what they add to pods is known when these are there", "namespace", r.namespace)
		return nil
	}
	return list.Items
}

func (r *Review) affords() bool { return r.Budget == nil || r.Budget.TryAccept() }
