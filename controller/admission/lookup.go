package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/budget"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/reading"
)

// Lookup finds what MiniClusters are judged by.
type Lookup struct {
	// Cached is the cache, which may be behind or, at the start of the process, empty. Live is the API server.
	Cached, Live client.Reader
	// Budget bounds what is read of the API server because of what the users of a namespace write; nil for no bound.
	Budget *budget.Budget
	// Clock is that of the budget; nil for the real one.
	Clock clock.PassiveClock

	fresh freshPools
}

// Review is what is found for one object that is being written, of one namespace. Nothing is read twice for it.
type Review struct {
	*Lookup
	namespace string
	began     uint64

	pools map[string]*v1alpha1.NodePool
	// live is whether the API server has been asked for the NodePools.
	live        bool
	allowed     []string
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
	return &Review{Lookup: l, namespace: namespace, began: l.fresh.now(), pools: map[string]*v1alpha1.NodePool{}}
}

// Find finds NodePools by their names, and what else there is to know of them. What the cache does not have is asked of the API server
// before it is called missing: it may have been created a moment ago, in the same kubectl apply. However many are missing, they are
// asked for once.
func (r *Review) Find(ctx context.Context, names []string) (*Pools, error) {
	pools := &Pools{Named: map[string]*v1alpha1.NodePool{}, Namespace: r.namespace}
	if len(names) == 0 {
		return pools, nil
	}
	missing, err := r.read(ctx, names)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		pool := r.pools[name]
		if pool == nil {
			continue
		}
		pools.Named[name] = pool
		if pool.Spec.AllowedNamespaces != nil {
			if pools.NamespaceLabels, err = r.namespaceLabels(ctx); err != nil {
				return nil, err
			}
		}
	}
	if missing {
		// It is refused for that, and nothing else is looked at.
		pools.Allowed, err = r.mayName(ctx)
		return pools, err
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

// read reads NodePools, and says whether there are some that do not exist.
func (r *Review) read(ctx context.Context, names []string) (missing bool, err error) {
	for _, name := range names {
		if r.pools[name] != nil || r.live {
			missing = missing || r.pools[name] == nil
			continue
		}
		pool := &v1alpha1.NodePool{}
		if err := r.Cached.Get(ctx, types.NamespacedName{Name: name}, pool); err == nil {
			r.pools[name] = pool
			continue
		}
		if err := r.askForPools(ctx); err != nil {
			return false, err
		}
		missing = missing || r.pools[name] == nil
	}
	return missing, nil
}

// askForPools reads all NodePools of the API server.
func (r *Review) askForPools(ctx context.Context) error {
	all, err := r.fresh.list(ctx, r.began, r.Live, func() error { return r.take() })
	if err != nil {
		if _, turnedAway := errors.AsType[*budget.Exceeded](err); turnedAway {
			return apierrors.NewTooManyRequests(
				"to know whether the NodePools exist that are named here the API server has to be asked: "+err.Error(), 1,
			)
		}
		return apierrors.NewInternalError(fmt.Errorf("list NodePools: %w", err))
	}
	for i := range all {
		r.pools[all[i].Name] = &all[i]
	}
	r.live = true
	return nil
}

// mayName are the names of the NodePools that may be named in the namespace, in order. The others are not told: they may be another
// tenant's. It is a help for whoever has misspelled one, and not worth a question to the API server.
func (r *Review) mayName(ctx context.Context) ([]string, error) {
	if r.allowed != nil {
		return r.allowed, nil
	}
	namespace := &corev1.Namespace{}
	if err := r.Cached.Get(ctx, types.NamespacedName{Name: r.namespace}, namespace); client.IgnoreNotFound(err) != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("read Namespace %s: %w", r.namespace, err))
	}
	r.allowed = []string{}
	for name, pool := range r.pools {
		if selector := reading.Labels(pool.Spec.AllowedNamespaces); selector == nil || selector.Matches(r.namespace, namespace.Labels) {
			r.allowed = append(r.allowed, name)
		}
	}
	slices.Sort(r.allowed)
	return r.allowed, nil
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
	if err != nil {
		if err = r.take(); err == nil {
			err = r.Live.Get(ctx, key, namespace)
		}
	}
	if _, turnedAway := errors.AsType[*budget.Exceeded](err); turnedAway {
		return nil, apierrors.NewTooManyRequests("the labels of the namespace say which NodePools its workloads may name: "+err.Error(), 1)
	}
	if err != nil {
		return nil, apierrors.NewInternalError(
			fmt.Errorf("read Namespace %s, whose labels say which NodePools its workloads may name: %w", r.namespace, err),
		)
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
	if err := r.take(); err != nil {
		log.FromContext(ctx).V(1).Info("Not looking at the LimitRanges of a namespace", "namespace", r.namespace, "why", err.Error())
		return nil
	}
	var list corev1.LimitRangeList
	if err := r.Live.List(ctx, &list, client.InNamespace(r.namespace)); err != nil {
		log.FromContext(ctx).Error(
			err, "Cannot read the LimitRanges of a namespace: what they add to pods is known when these are there", "namespace", r.namespace,
		)
		return nil
	}
	return list.Items
}

// take uses up one read of the namespace's.
func (r *Review) take() error {
	now := time.Now
	if r.Clock != nil {
		now = r.Clock.Now
	}
	return r.Budget.Take(r.namespace, now())
}
