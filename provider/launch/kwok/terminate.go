package kwok

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// Terminate implements launch.Launcher. It asks the API server, and not the cache, whether an instance is gone.
func (l *Launcher) Terminate(ctx context.Context, pool *launch.Pool, instances []launch.Instance) []error {
	errs := make([]error, len(instances))
	if _, err := l.begin(ctx, pool); err != nil {
		for i := range errs {
			errs[i] = fmt.Errorf("terminate %s: %w", nameOf(&instances[i]), err)
		}
		return errs
	}
	var group errgroup.Group
	group.SetLimit(inParallel)
	for i := range instances {
		group.Go(func() error {
			if err := retry.RetryOnConflict(retry.DefaultRetry, func() error { return l.terminate(ctx, pool, &instances[i]) }); err != nil {
				errs[i] = fmt.Errorf("terminate %s: %w", nameOf(&instances[i]), err)
			}
			return nil
		})
	}
	_ = group.Wait() // Each has its own error.
	return errs
}

func nameOf(instance *launch.Instance) string {
	if instance.Key != "" {
		return "instance " + instance.Key
	}
	return "the instance of machine " + instance.Machine
}

// terminate ends an instance, or has Boot end it where that takes its time: then the error is nil until it is gone.
func (l *Launcher) terminate(ctx context.Context, pool *launch.Pool, wanted *launch.Instance) error {
	instance, err := l.find(ctx, pool, wanted)
	if err != nil {
		return err
	}
	if instance == nil {
		return launch.ErrGone
	}
	failed := instance.Status.Failure != nil || instance.Spec.Fate == v1alpha1.FateOutOfStock
	if failed || orZero(instance.Spec.Machines.TerminationDelay) == 0 {
		if err := end(ctx, l.client, l.live, instance); err != nil {
			return err
		}
		return launch.ErrGone
	}
	if instance.Status.TerminatingAt != nil {
		return nil
	}
	updated := instance.DeepCopy()
	now := metav1.NewMicroTime(l.clock.Now())
	updated.Status.TerminatingAt = &now
	if err := l.client.Status().Patch(ctx, updated, client.MergeFrom(instance)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("record the end of KwokInstance %s: %w", instance.Name, err)
	}
	return nil
}

// find is the instance that is meant, nil where there is none, or none of the pool's. One that was found and not ordered is not called
// as its record: it is known by its provider id where a listing has not told its name.
func (l *Launcher) find(ctx context.Context, pool *launch.Pool, wanted *launch.Instance) (*v1alpha1.KwokInstance, error) {
	names := []string{wanted.Key}
	if wanted.Key == "" {
		// The pool may name instances otherwise than it did when this one was made.
		names = []string{wanted.Machine, ownName(pool, "machine", wanted.Machine)}
	}
	for _, name := range names {
		instance := &v1alpha1.KwokInstance{}
		switch err := l.live.Get(ctx, client.ObjectKey{Name: name}, instance); {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, fmt.Errorf("get KwokInstance %s: %w", name, err)
		case isOfPool(pool, instance) && (wanted.Key != "" || instance.Spec.Machine == wanted.Machine):
			return instance, nil
		}
	}
	if wanted.ProviderID == "" {
		return nil, nil
	}
	var list v1alpha1.KwokInstanceList
	if err := l.live.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelNodePool: pool.Name}); err != nil {
		return nil, fmt.Errorf("list the instances of NodePool %s: %w", pool.Name, err)
	}
	for i := range list.Items {
		if instance := &list.Items[i]; isOfPool(pool, instance) && instance.Spec.ProviderID == wanted.ProviderID {
			return instance, nil
		}
	}
	return nil, nil
}

// end removes an instance and its node. The node goes first: without its instance it would be nobody's. The error is a conflict
// when the instance has registered in between, and may have a node that was not seen.
func end(ctx context.Context, writer client.Client, live client.Reader, instance *v1alpha1.KwokInstance) error {
	if err := endNode(ctx, writer, live, instance); err != nil {
		return err
	}
	if instance.DeletionTimestamp == nil {
		preconditions := client.Preconditions{UID: &instance.UID, ResourceVersion: &instance.ResourceVersion}
		if err := client.IgnoreNotFound(writer.Delete(ctx, instance, preconditions)); err != nil {
			return fmt.Errorf("delete KwokInstance %s: %w", instance.Name, err)
		}
	}
	if !controllerutil.ContainsFinalizer(instance, finalizer) {
		return nil
	}
	updated := instance.DeepCopy()
	controllerutil.RemoveFinalizer(updated, finalizer)
	if err := client.IgnoreNotFound(writer.Patch(ctx, updated, client.MergeFrom(instance))); err != nil {
		return fmt.Errorf("let KwokInstance %s go: %w", instance.Name, err)
	}
	return nil
}

// endNode deletes the node of an instance, where it has one.
func endNode(ctx context.Context, writer client.Client, reader client.Reader, instance *v1alpha1.KwokInstance) error {
	var node corev1.Node
	switch err := reader.Get(ctx, client.ObjectKey{Name: instance.Spec.NodeName}, &node); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("get Node %s: %w", instance.Spec.NodeName, err)
	case !metav1.IsControlledBy(&node, instance):
		return nil
	}
	if err := client.IgnoreNotFound(writer.Delete(ctx, &node, client.Preconditions{UID: &node.UID})); err != nil {
		return fmt.Errorf("delete Node %s: %w", node.Name, err)
	}
	return nil
}
