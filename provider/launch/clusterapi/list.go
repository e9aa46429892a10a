package clusterapi

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// List implements launch.Launcher. It reads the cache, and waits for it where it is not filled yet: Traits.Lag covers that it may be
// behind. An infrastructure object without a Machine is not listed: it costs nothing.
func (l *Launcher) List(ctx context.Context, pool *launch.Pool) ([]launch.Instance, error) {
	config, err := l.config(pool)
	if err != nil {
		return nil, err
	}
	list := newMachines()
	// They are read and not changed.
	if err := l.cache.List(ctx, list, client.InNamespace(config.Namespace), client.MatchingLabels{v1alpha1.LabelNodePool: pool.Name},
		client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list the Machines of NodePool %s: %w", pool.Name, err)
	}
	out := make([]launch.Instance, 0, len(list.Items))
	for i := range list.Items {
		if isOfPool(pool, &list.Items[i]) {
			out = append(out, seen(&list.Items[i]))
		}
	}
	return out, nil
}

// Pools implements launch.Finder. Each namespace that the provider was told of is a place. What a Machine was cloned from is not said:
// the clones of a Machine that is there go with it.
func (l *Launcher) Pools(ctx context.Context, id string) ([]launch.Pool, error) {
	var out []launch.Pool
	for _, namespace := range l.namespaces {
		list, found := newMachines(), map[string]bool{}
		if err := l.cache.List(ctx, list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("list the Machines in namespace %s: %w", namespace, err)
		}
		for i := range list.Items {
			pool := launch.Pool{Cluster: id, Name: list.Items[i].GetLabels()[v1alpha1.LabelNodePool]}
			if pool.Name == "" || found[pool.Name] || !isOfPool(&pool, &list.Items[i]) {
				continue
			}
			found[pool.Name] = true
			pool.Machines.ClusterAPI = &v1alpha1.ClusterAPIMachines{
				Namespace: namespace, ClusterName: text(&list.Items[i], "spec", "clusterName"),
			}
			out = append(out, pool)
		}
	}
	return out, nil
}

// seen is a Machine as Cluster API tells of it.
func seen(machine *unstructured.Unstructured) launch.Instance {
	return launch.Instance{
		Key:        machine.GetName(),
		Machine:    machine.GetLabels()[v1alpha1.LabelMachine],
		ProviderID: text(machine, "spec", "providerID"),
		NodeName:   text(machine, "status", "nodeRef", "name"),
		Domain:     machine.GetAnnotations()[annotationDomain],
		CreatedAt:  machine.GetCreationTimestamp().Time,
		Going:      machine.GetDeletionTimestamp() != nil,
		Failure:    failureOf(machine),
	}
}

// text is a field of an object, empty where it is none.
func text(object *unstructured.Unstructured, path ...string) string {
	value, _, err := unstructured.NestedString(object.Object, path...)
	if err != nil {
		return ""
	}
	return value
}
