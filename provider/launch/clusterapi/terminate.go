package clusterapi

import (
	"cmp"
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// Terminate implements launch.Launcher. It asks the API server, and not the cache, whether a Machine is gone. With a Machine go its
// infrastructure and its bootstrap object, which Cluster API deletes. The Node is Cluster API's to delete where the Cluster has
// control-plane Machines or a control plane that says it is managed externally; everywhere else it is left, and package machine
// deletes it when the Machine is gone.
func (l *Launcher) Terminate(ctx context.Context, pool *launch.Pool, instances []launch.Instance) []error {
	errs := make([]error, len(instances))
	config, err := l.config(pool)
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	var group errgroup.Group
	group.SetLimit(inParallel)
	for i := range instances {
		group.Go(func() error {
			name := cmp.Or(instances[i].Key, instances[i].Machine)
			err := l.terminate(ctx, pool, config, &instances[i])
			if apierrors.IsTooManyRequests(err) {
				err = &launch.ThrottledError{After: waitOf(err)}
			}
			if err != nil {
				errs[i] = fmt.Errorf("terminate Machine %s/%s: %w", config.Namespace, name, err)
			}
			return nil
		})
	}
	_ = group.Wait() // Each has its own error.
	return errs
}

// terminate ends a Machine, or what there is of one that was never made whole.
func (l *Launcher) terminate(ctx context.Context, pool *launch.Pool, config *v1alpha1.ClusterAPIMachines, wanted *launch.Instance) error {
	there, err := l.find(ctx, pool, config, wanted)
	if err != nil {
		return err
	}
	if there != nil {
		if err := unnamed(there, wanted); err != nil {
			return err
		}
		return l.remove(ctx, there)
	}
	machine := cmp.Or(wanted.Key, wanted.Machine)
	left, err := l.removeClones(ctx, pool, machine, func(clone metav1.Object) bool { return isMachines(pool, machine, clone) })
	if err != nil || left {
		return err
	}
	if err := l.clusterIsThere(ctx, config); err != nil {
		return err
	}
	return launch.ErrGone
}

// unnamed is an error where a Machine has got an instance or a node that its caller does not know of: whoever asks for its end has looked
// for pods where it knew to look, and has to look again. One who names a provider id and has not listed the Machine has looked for the
// node of that.
func unnamed(there *unstructured.Unstructured, wanted *launch.Instance) error {
	id, node := text(there, "spec", "providerID"), text(there, "status", "nodeRef", "name")
	looked := wanted.Key == "" && wanted.ProviderID != ""
	switch {
	case there.GetDeletionTimestamp() != nil:
		return nil
	case id != "" && id != wanted.ProviderID:
		return fmt.Errorf("it has the provider id %s, which was not known when its end was asked for: it is looked at again", id)
	case node != "" && node != wanted.NodeName && !looked:
		return fmt.Errorf("it has node %s, which was not known when its end was asked for: it is looked at again", node)
	}
	return nil
}

// find is the Machine that is meant, nil where there is none, or none of the pool's. One that was found and not ordered is not called as
// its record: it is known by its provider id where a listing has not told its name.
func (l *Launcher) find(
	ctx context.Context, pool *launch.Pool, config *v1alpha1.ClusterAPIMachines, wanted *launch.Instance,
) (*unstructured.Unstructured, error) {
	there, err := l.get(ctx, machineKind, config.Namespace, cmp.Or(wanted.Key, wanted.Machine))
	switch {
	case err != nil:
		return nil, err
	case there != nil && isOfPool(pool, there) && (wanted.Key != "" || isMachines(pool, wanted.Machine, there)):
		return there, nil
	case wanted.ProviderID == "":
		return nil, nil
	}
	list, marked := newMachines(), client.MatchingLabels{v1alpha1.LabelNodePool: pool.Name}
	if err := l.live.List(ctx, list, client.InNamespace(config.Namespace), marked); err != nil {
		return nil, fmt.Errorf("list the Machines of NodePool %s: %w", pool.Name, err)
	}
	for i := range list.Items {
		if machine := &list.Items[i]; isOfPool(pool, machine) && text(machine, "spec", "providerID") == wanted.ProviderID {
			return machine, nil
		}
	}
	return nil, nil
}

// removeClones deletes what was made of a machine before its Machine and is meant, and reports whether some of it is still there. What
// has a Machine for its owner goes with that.
func (l *Launcher) removeClones(
	ctx context.Context, pool *launch.Pool, machine string, meant func(metav1.Object) bool,
) (left bool, err error) {
	config := pool.Machines.ClusterAPI
	for _, ref := range []*v1alpha1.ClusterAPITemplate{&config.InfrastructureTemplateRef, config.Bootstrap.TemplateRef} {
		if ref == nil {
			continue
		}
		still, err := l.removeClone(ctx, config.Namespace, ref, machine, meant)
		if err != nil {
			return false, err
		}
		left = left || still
	}
	return left, nil
}

func (l *Launcher) removeClone(
	ctx context.Context, namespace string, ref *v1alpha1.ClusterAPITemplate, machine string, meant func(metav1.Object) bool,
) (left bool, err error) {
	object, err := l.objectOf(ref, templateSuffix)
	if meta.IsNoMatchError(err) {
		return false, nil // What has no kind is not there.
	}
	if err != nil {
		return false, err
	}
	kind := object.GroupVersionKind()
	there, err := l.get(ctx, kind, namespace, machine)
	switch {
	case apierrors.IsForbidden(err):
		// A launch looks before it makes: it has made none of a kind that may not be read. The machine has failed for that reason, and
		// must not stay because of it.
		return false, nil
	case err != nil:
		return false, err
	case there == nil || !meant(there):
		return false, nil
	}
	if err := l.remove(ctx, there); err != nil {
		return false, err
	}
	there, err = l.get(ctx, kind, namespace, machine)
	return there != nil && meant(there), err
}
