package kwok

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// emptyOutOf is how many failing listings there are to one that is empty instead.
const emptyOutOf = 5

// errListing is the error of a listing that fails.
var errListing = errors.New("the listing failed (spec.machines.kwok.listingFailurePercent)")

// List implements launch.Launcher. It reads the cache: Traits.Lag covers that it may be behind.
func (l *Launcher) List(ctx context.Context, pool *launch.Pool) ([]launch.Instance, error) {
	config, err := l.begin(ctx, pool)
	if err != nil {
		return nil, fmt.Errorf("list the instances of NodePool %s: %w", pool.Name, err)
	}
	if config.ListingFailurePercent > 0 && l.luck(config, "listing") < config.ListingFailurePercent {
		if l.luck(config, "empty")%emptyOutOf == 0 {
			return nil, nil
		}
		return nil, fmt.Errorf("list the instances of NodePool %s: %w", pool.Name, errListing)
	}
	objects, err := l.instances.ByIndex(indexPool, pool.Name)
	if err != nil {
		return nil, fmt.Errorf("list the instances of NodePool %s: %w", pool.Name, err)
	}
	seenUntil := l.clock.Now().Add(-orZero(config.ListingLag))
	out := make([]launch.Instance, 0, len(objects))
	for _, object := range objects {
		instance, ok := object.(*v1alpha1.KwokInstance)
		if ok && isOfPool(pool, instance) && !instance.Spec.LaunchedAt.After(seenUntil) {
			out = append(out, seen(instance))
		}
	}
	return out, nil
}

// Pools implements launch.Finder. Nobody is left to say how the cloud of a pool without NodePool behaves: it behaves well.
func (l *Launcher) Pools(_ context.Context, cluster string) ([]launch.Pool, error) {
	var out []launch.Pool
	for _, name := range l.instances.ListIndexFuncValues(indexPool) {
		objects, err := l.instances.ByIndex(indexPool, name)
		if err != nil {
			return nil, fmt.Errorf("list the instances of NodePool %s: %w", name, err)
		}
		pool := launch.Pool{Cluster: cluster, Name: name, Machines: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}}}
		if slices.ContainsFunc(objects, func(object any) bool {
			instance, ok := object.(*v1alpha1.KwokInstance)
			return ok && isOfPool(&pool, instance)
		}) {
			out = append(out, pool)
		}
	}
	return out, nil
}

// seen is an instance as the cloud tells of it.
func seen(instance *v1alpha1.KwokInstance) launch.Instance {
	status := &instance.Status
	out := launch.Instance{
		Key:        instance.Name,
		Machine:    instance.Spec.Machine,
		ProviderID: knownProviderID(instance),
		Domain:     instance.Annotations[annotationDomain],
		CreatedAt:  instance.Spec.LaunchedAt.Time,
		// What the cloud has removed by itself has failed, and was not told to end.
		Going:   status.TerminatingAt != nil || (instance.DeletionTimestamp != nil && status.Failure == nil),
		Failure: status.Failure.DeepCopy(),
	}
	if status.RegisteredAt != nil {
		out.NodeName = instance.Spec.NodeName
	}
	if status.LeavingAt != nil {
		out.LeavingAt = status.LeavingAt.Time
	}
	return out
}
