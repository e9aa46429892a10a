package machine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// AdoptedOrder is the id of the order of a machine that was found, and not ordered.
const AdoptedOrder = "adopted"

// sweep looks now and then for instances that no record tells of, as a record that was deleted by force leaves them, an etcd that
// was restored, or a cloud that makes more than it says. The first sweep after a start only tells.
type sweep struct {
	*Reconciler
	swept bool
}

// Start implements manager.Runnable.
func (s *sweep) Start(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.calls.started:
	}
	for {
		if err := s.all(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error(err, "Cannot look for machines that no record tells of")
		}
		timer := time.NewTimer(s.Waits.Sweep)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// all sweeps every pool, each beside the others: a cloud that is slow delays its own alone.
func (s *sweep) all(ctx context.Context) error {
	var pools v1alpha1.NodePoolList
	if err := s.Live.List(ctx, &pools); err != nil {
		return fmt.Errorf("list NodePools: %w", err)
	}
	onlyTell := !s.swept
	s.swept = true
	for i := range pools.Items {
		pool := &pools.Items[i]
		if pool.Spec.Paused {
			continue // Nothing of it is ended, nor taken in.
		}
		s.calls.begin(pool.Name, pending{key: "sweep/" + pool.Name, done: func() {}, do: func(ctx context.Context) {
			if err := s.one(ctx, pool, onlyTell); err != nil {
				s.Log.Info("Cannot sweep a pool", "nodePool", pool.Name, "why", err.Error())
			}
		}})
	}
	return nil
}

// one sweeps a pool.
func (s *sweep) one(ctx context.Context, pool *v1alpha1.NodePool, onlyTell bool) error {
	launcher, err := s.Launchers.For(&pool.Spec.Machines)
	if err != nil {
		return err
	}
	of := &launch.Pool{Cluster: s.Cluster, Name: pool.Name, Machines: pool.Spec.Machines}
	instances, err := launcher.List(ctx, of)
	if err != nil {
		return fmt.Errorf("list the instances: %w", err)
	}
	now := s.Clock.Now()
	var failures []error
	for i := range instances {
		instance := &instances[i]
		if instance.Going || now.Sub(instance.CreatedAt) < s.Waits.Consistency {
			continue
		}
		if known, err := s.known(ctx, instance); err != nil || known {
			failures = append(failures, err)
			continue
		}
		failures = append(failures, s.orphan(ctx, pool, launcher, of, instance, onlyTell))
	}
	return errors.Join(failures...)
}

// known reports whether a record tells of an instance, as the API server itself says.
func (s *sweep) known(ctx context.Context, instance *launch.Instance) (bool, error) {
	if instance.ProviderID != "" {
		if m, err := s.Store.OfNode(instance.ProviderID, ""); err != nil || m != nil {
			return m != nil, err
		}
	}
	if instance.Machine == "" {
		return false, nil
	}
	// A list of one, so that the provider needs no right to get records.
	var list v1alpha1.PoolMachineList
	named := client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", instance.Machine)}
	if err := s.Live.List(ctx, &list, named); err != nil {
		return false, fmt.Errorf("look for the record of machine %s: %w", instance.Machine, err)
	}
	// The record of another instance of that name is not this one's.
	return slices.ContainsFunc(list.Items, func(m v1alpha1.PoolMachine) bool {
		return m.Status.ProviderID == "" || instance.ProviderID == "" || m.Status.ProviderID == instance.ProviderID
	}), nil
}

// orphan deals with an instance that no record tells of: it is ended where no node has its provider id, and adopted where one has.
func (s *sweep) orphan(ctx context.Context, pool *v1alpha1.NodePool, launcher launch.Launcher, of *launch.Pool, instance *launch.Instance, onlyTell bool) error {
	node, err := s.nodes.withProviderID(ctx, s.Live, instance.ProviderID)
	if err != nil {
		return err
	}
	if instance.ProviderID == "" {
		node = nil
	}
	what := "it is ended, since no node is its"
	if node != nil {
		what = "it is adopted, since node " + node.Name + " is its"
	}
	if onlyTell {
		what += ", with the next look in " + s.Waits.Sweep.String()
	}
	s.Log.Info("The cloud has a machine that no record tells of", "nodePool", pool.Name, "instance", instance.Key, "what", what)
	s.Events.Eventf(pool, nil, corev1.EventTypeWarning, v1alpha1.ReasonOrphan, v1alpha1.ReasonOrphan,
		"the cloud has the machine %s, which no record tells of; %s", instance.Key, what)
	switch {
	case onlyTell:
		return nil
	case node != nil:
		return s.takeIn(ctx, pool, instance, node)
	}
	if err := launcher.Terminate(ctx, of, []launch.Instance{*instance})[0]; err != nil && !errors.Is(err, launch.ErrGone) {
		return fmt.Errorf("end the instance %s: %w", instance.Key, err)
	}
	return nil
}

// takeIn makes a record of an instance that has a node: it may be a member's, and nobody's pods are killed because a record was
// lost. The number is claimed first, as for an order.
func (s *sweep) takeIn(ctx context.Context, pool *v1alpha1.NodePool, instance *launch.Instance, node *corev1.Node) error {
	var fresh v1alpha1.NodePool
	if err := s.Live.Get(ctx, client.ObjectKeyFromObject(pool), &fresh); err != nil {
		return client.IgnoreNotFound(err)
	}
	if fresh.UID != pool.UID || fresh.DeletionTimestamp != nil {
		return nil
	}
	number := fresh.Status.MachinesOrdered
	claimed := fresh.DeepCopy()
	claimed.Status.MachinesOrdered = number + 1
	if err := s.Client.Status().Patch(ctx, claimed, client.MergeFromWithOptions(&fresh, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("claim a name for the instance %s: %w", instance.Key, err)
	}
	hash, err := fresh.Spec.Template.Hash()
	if err != nil {
		return err
	}
	purpose := v1alpha1.PurposeAutoscaler
	if node.Annotations[v1alpha1.AnnotationReserved] != "" {
		purpose = v1alpha1.PurposeReservation
	}
	m := &v1alpha1.PoolMachine{
		ObjectMeta: metav1.ObjectMeta{
			Name:        nodegroup.MachineName(pool.Name, number),
			Labels:      map[string]string{v1alpha1.LabelNodePool: pool.Name},
			Annotations: map[string]string{v1alpha1.AnnotationAdopted: instance.ProviderID},
		},
		Spec: v1alpha1.PoolMachineSpec{
			// As of now: by the time of its making it would be late, and cancelled before its node is recorded.
			NodePool: pool.Name, Purpose: purpose, OrderedAt: metav1.NewMicroTime(s.Clock.Now()), TemplateHash: hash,
			Order:    v1alpha1.MachineOrder{ID: AdoptedOrder, Size: 1, First: number, Last: number},
			Template: fresh.Spec.Template, Machines: fresh.Spec.Machines,
		},
	}
	controllerutil.AddFinalizer(m, v1alpha1.FinalizerMachine)
	if err := s.Client.Create(ctx, m); err != nil {
		return fmt.Errorf("make a record of the instance %s: %w", instance.Key, err)
	}
	return s.count(ctx, claimed)
}

// count raises the target of a pool by the machine that was found, where the target counts fewer than there are: else there would be
// one more than it says for good, since each deletion by Cluster Autoscaler lowers it. Where no autoscaler decides, the target follows the
// floor, and what is idle above it goes.
func (s *sweep) count(ctx context.Context, pool *v1alpha1.NodePool) error {
	records, err := s.Store.OfPool(pool.Name)
	if err != nil || pool.Spec.Autoscaler == v1alpha1.AutoscalerNone {
		return err
	}
	live := int32(1) // The one that was found; the cache may not have its record yet.
	for _, m := range records {
		if m.DeletionTimestamp == nil && !slices.Contains(pool.Spec.MachinesToDelete, m.Name) && m.Spec.Order.First != pool.Status.MachinesOrdered-1 {
			live++
		}
	}
	if live <= pool.Spec.Replicas || pool.Spec.Replicas >= pool.Spec.MaxSize {
		return nil
	}
	raised := pool.DeepCopy()
	raised.Spec.Replicas++
	if err := s.Client.Patch(ctx, raised, client.MergeFromWithOptions(pool, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("count the machine that was found in NodePool %s: %w", pool.Name, err)
	}
	return nil
}
