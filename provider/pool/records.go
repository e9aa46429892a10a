package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
)

// claim chooses the numbers of the machines to be ordered. They are recorded with the status, before the first record is made: a
// kill after it loses names, which costs nothing, and a plan made from stale values ends with its conflict.
func (r *Reconciler) claim(ctx context.Context, p *pass) ([]int64, error) {
	count := nodegroup.Count(p.Order)
	if count == 0 {
		return nil, nil
	}
	if err := r.seesAll(ctx, p.group); err != nil {
		return nil, err
	}
	return p.group.NextNumbers(count), nil
}

// orderMachines makes a record of each machine that is ordered, all of an order alike in what it says of the order. When one is
// missing at the end, nothing of its order is launched, and a later pass takes it back.
func (r *Reconciler) orderMachines(ctx context.Context, p *pass) error {
	if len(p.numbers) == 0 {
		return nil
	}
	pool := p.pool
	hash, err := pool.Spec.Template.Hash()
	if err != nil {
		return fmt.Errorf("order machines of NodePool %s: %w", pool.Name, err)
	}
	now := metav1.NewMicroTime(r.Clock.Now())
	records := make([]*v1alpha1.PoolMachine, 0, len(p.numbers))
	next := p.numbers
	for i := range p.Order {
		order := &p.Order[i]
		of := next[:order.Count]
		next = next[order.Count:]
		for _, n := range of {
			m := &v1alpha1.PoolMachine{
				ObjectMeta: metav1.ObjectMeta{Name: nodegroup.MachineName(pool.Name, n), Labels: map[string]string{v1alpha1.LabelNodePool: pool.Name}},
				Spec: v1alpha1.PoolMachineSpec{
					NodePool: pool.Name, Purpose: order.Purpose, OrderedAt: now, TemplateHash: hash,
					Order:    order.Record(of),
					Template: pool.Spec.Template, Machines: pool.Spec.Machines,
				},
			}
			controllerutil.AddFinalizer(m, v1alpha1.FinalizerMachine)
			records = append(records, m)
		}
	}
	failures := inParallel(len(records), func(i int) error {
		if err := r.Client.Create(ctx, records[i]); err != nil {
			return fmt.Errorf("create PoolMachine %s: %w", records[i].Name, err)
		}
		return nil
	})
	if err := firstOf(failures); err != nil {
		r.tell(ctx, pool, corev1.EventTypeWarning, v1alpha1.ReasonMachineFailed, "cannot order a machine: %v", err)
		return errors.Join(failures...)
	}
	r.tell(ctx, pool, corev1.EventTypeNormal, "Ordered", "ordered %s: the target is %d",
		nodegroup.Pluralize(len(records), "%d machine", "%d machines"), pool.Spec.Replicas)
	return nil
}

// deleteMachines deletes the records of what spec.machinesToDelete named when the pass began; the machine loop looks at each node
// once more before it ends the machine. The error is errStale when a machine has to be looked at again.
func (r *Reconciler) deleteMachines(ctx context.Context, p *pass) error {
	if err := r.knowsFailures(ctx, p.group, p.Delete); err != nil {
		return err
	}
	failures := inParallel(len(p.Delete), func(i int) error { return r.deleteRecord(ctx, p.Delete[i], false) })
	if err := firstOf(failures); err != nil {
		r.tell(ctx, p.pool, corev1.EventTypeWarning, v1alpha1.ReasonMachineFailed, "cannot delete machines: %v", err)
		return errors.Join(failures...)
	}
	return nil
}

// deleteRecord deletes the record of a machine. One that must be asSeen is deleted only if it has not changed: then the error is a
// conflict.
func (r *Reconciler) deleteRecord(ctx context.Context, name string, asSeen bool) error {
	m, err := r.Observer.Store.Named(name)
	if err != nil || m == nil || m.DeletionTimestamp != nil || r.deleted.Lately(string(m.UID)) {
		return err
	}
	preconditions := client.Preconditions{UID: &m.UID}
	if asSeen {
		preconditions.ResourceVersion = &m.ResourceVersion
	}
	if err := client.IgnoreNotFound(r.Client.Delete(ctx, m, preconditions)); err != nil {
		return err
	}
	r.deleted.Note(string(m.UID))
	return nil
}

// knowsFailures makes sure that the failures of machines that are about to be deleted have been observed, and so
// recorded: Cluster Autoscaler deletes a machine milliseconds after it was told of its failure, perhaps by another
// replica. The error is errStale when the cache is behind.
func (r *Reconciler) knowsFailures(ctx context.Context, group *nodegroup.Group, names []string) error {
	unclear := setOf(names)
	for i := range group.Machines {
		if m := &group.Machines[i]; m.Failure != nil || m.Registered {
			delete(unclear, m.Name)
		}
	}
	if len(unclear) == 0 {
		return nil
	}
	fresh, err := r.Observer.Store.List(ctx, group.Name, record.Live)
	if err != nil {
		return err
	}
	for i := range fresh {
		if unclear[fresh[i].Name] && fresh[i].Failure != nil {
			return errStale
		}
	}
	return nil
}

// cancelMachines deletes the records of machines that have not registered, and of orders that have launched nothing.
func (r *Reconciler) cancelMachines(ctx context.Context, p *pass) error {
	if len(p.Abandon) > 0 {
		// Those that seem to be missing may have been made a moment ago.
		if err := r.seesAll(ctx, p.group); err != nil {
			return err
		}
	}
	var gone []string
	names := slices.Concat(p.Cancel, p.Abandon)
	failures := inParallel(len(names), func(i int) error { return r.deleteRecord(ctx, names[i], true) })
	for i, err := range failures {
		switch {
		case apierrors.IsConflict(err):
			// Something has become of it. It is looked at again.
			failures[i] = nil
		case err != nil:
			failures[i] = fmt.Errorf("cancel machine %s: %w", names[i], err)
		case i < len(p.Cancel):
			gone = append(gone, names[i])
		}
	}
	if len(gone) > 0 {
		r.tell(
			ctx, p.pool, corev1.EventTypeNormal, "Cancelled", "cancelled %s, which had not registered: the target is %d", nodegroup.Listed(gone),
			p.pool.Spec.Replicas,
		)
	}
	if len(p.Abandon) > 0 {
		log.FromContext(ctx).Info(
			"Took back an order of which records are missing; nothing of it was launched", "nodePool", p.pool.Name, "machines",
			nodegroup.Listed(p.Abandon),
		)
	}
	return errors.Join(failures...)
}

// seesAll makes sure that no record exists that was not observed. The error is errStale when the cache is behind; the
// events that it has yet to see bring the next pass. Their number says nothing: while one comes, another may have gone.
func (r *Reconciler) seesAll(ctx context.Context, group *nodegroup.Group) error {
	fresh, err := r.Observer.Store.List(ctx, group.Name, record.Live)
	if err != nil {
		return err
	}
	observed := make(map[string]bool, len(group.Machines))
	for i := range group.Machines {
		observed[group.Machines[i].Name] = true
	}
	for i := range fresh {
		if !observed[fresh[i].Name] {
			log.FromContext(ctx).V(1).Info("Put off a pass until the cache has caught up", "nodePool", group.Name, "machine", fresh[i].Name)
			return errStale
		}
	}
	return nil
}
