package karpenter

import (
	"cmp"
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// Terminate implements launch.Launcher. It asks the API server, and not the cache, whether a claim is gone.
func (l *Launcher) Terminate(ctx context.Context, pool *launch.Pool, instances []launch.Instance) []error {
	errs := make([]error, len(instances))
	var group errgroup.Group
	group.SetLimit(inParallel)
	for i := range instances {
		group.Go(func() error {
			err := retry.RetryOnConflict(retry.DefaultBackoff, func() error { return l.terminate(ctx, pool, &instances[i]) })
			if err != nil {
				errs[i] = fmt.Errorf("terminate NodeClaim %s: %w", nameOf(&instances[i]), err)
			}
			return nil
		})
	}
	_ = group.Wait() // Each has its own error.
	return errs
}

// terminate deletes a claim. The finalizer goes first: nothing more is to be learnt of a claim that was told to go, and from then on its
// end is Karpenter's alone, whatever becomes of this program.
func (l *Launcher) terminate(ctx context.Context, pool *launch.Pool, instance *launch.Instance) error {
	claim, err := l.find(ctx, pool, instance)
	switch {
	case err != nil:
		return err
	case claim == nil:
		return launch.ErrGone
	}
	if controllerutil.ContainsFinalizer(claim, Finalizer) {
		updated := claim.DeepCopy()
		controllerutil.RemoveFinalizer(updated, Finalizer)
		switch err := l.client.Patch(ctx, updated, client.MergeFromWithOptions(claim, client.MergeFromWithOptimisticLock{})); {
		case apierrors.IsNotFound(err):
			return launch.ErrGone
		case err != nil:
			return err
		}
		claim = updated
	}
	if claim.DeletionTimestamp != nil {
		if len(claim.Finalizers) == 0 {
			return launch.ErrGone
		}
		return nil
	}
	// A conflict means that Karpenter has written meanwhile, and may be at work for it.
	err = l.client.Delete(ctx, claim, client.Preconditions{UID: &claim.UID, ResourceVersion: &claim.ResourceVersion})
	if apierrors.IsNotFound(err) {
		return launch.ErrGone
	}
	if err != nil {
		return fmt.Errorf("delete it: %w", err)
	}
	if len(claim.Finalizers) == 0 {
		// Karpenter has not seen it yet: nothing was made.
		return launch.ErrGone
	}
	return nil
}

// nameOf is the name of the claim of an instance: that of its machine, where no listing has told another one.
func nameOf(instance *launch.Instance) string { return cmp.Or(instance.Key, instance.Machine) }

// find is the claim that is meant, nil where there is none, or none of the pool's. One that was found and not ordered is not called as its
// record: it is known by its provider id where a listing has not told its name.
func (l *Launcher) find(ctx context.Context, pool *launch.Pool, instance *launch.Instance) (*NodeClaim, error) {
	claim := &NodeClaim{}
	switch err := l.live.Get(ctx, client.ObjectKey{Name: nameOf(instance)}, claim); {
	case err == nil && isOfPool(pool, claim):
		return claim, nil
	case err != nil && !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("get it: %w", err)
	case instance.ProviderID == "":
		// It is gone, or somebody else's.
		return nil, nil
	}
	var list NodeClaimList
	if err := l.live.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelNodePool: pool.Name}); err != nil {
		return nil, fmt.Errorf("list the NodeClaims of NodePool %s: %w", pool.Name, err)
	}
	for i := range list.Items {
		if claim := &list.Items[i]; isOfPool(pool, claim) && claim.Status.ProviderID == instance.ProviderID {
			return claim, nil
		}
	}
	return nil, nil
}
