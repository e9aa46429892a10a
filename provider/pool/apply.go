package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machines"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// apply carries out the decisions of a pass, one step after the other. A step that fails ends the pass;
// the next one observes anew. Each write of the NodePool carries the resource version that was observed,
// so a plan that was made from stale values is refused by the API server.
func (r *Reconciler) apply(ctx context.Context, pool *v1alpha1.NodePool, group *nodegroup.Group, d *nodegroup.Decisions) error {
	pool = pool.DeepCopy()
	for _, step := range []func(context.Context, *v1alpha1.NodePool, *nodegroup.Group, *nodegroup.Decisions) error{
		r.keep, r.recordStatus, r.mark, r.setTarget, r.deleteMachines, r.cancelMachines, r.orderMachines, r.finish,
	} {
		if err := step(ctx, pool, group, d); err != nil {
			return err
		}
	}
	return nil
}

// keep makes sure that the NodePool outlives its machines. It comes before the first of them is ordered.
func (r *Reconciler) keep(ctx context.Context, pool *v1alpha1.NodePool, _ *nodegroup.Group, _ *nodegroup.Decisions) error {
	if pool.DeletionTimestamp != nil || !controllerutil.AddFinalizer(pool, v1alpha1.FinalizerMachines) {
		return nil
	}
	if err := r.Client.Update(ctx, pool); err != nil {
		return fmt.Errorf("add the finalizer to NodePool %s: %w", pool.Name, err)
	}
	r.wrote(pool)
	return nil
}

// finish lets a NodePool go that is being deleted, when nothing of it is left.
func (r *Reconciler) finish(ctx context.Context, pool *v1alpha1.NodePool, group *nodegroup.Group, d *nodegroup.Decisions) error {
	if !d.Finish {
		return nil
	}
	if err := r.seesAll(ctx, pool, group); err != nil {
		return err
	}
	if !controllerutil.RemoveFinalizer(pool, v1alpha1.FinalizerMachines) {
		return nil
	}
	if err := client.IgnoreNotFound(r.Client.Update(ctx, pool)); err != nil {
		return fmt.Errorf("remove the finalizer from NodePool %s: %w", pool.Name, err)
	}
	log.FromContext(ctx).Info("The NodePool is deleted; its machines are gone", "nodePool", pool.Name)
	return nil
}

// recordStatus writes the status when it differs. The floor is in it, so this comes before anything that
// lowers the target; and so are the failures, so it comes before anything is deleted.
func (r *Reconciler) recordStatus(ctx context.Context, pool *v1alpha1.NodePool, group *nodegroup.Group, d *nodegroup.Decisions) error {
	before := pool.Status.DeepCopy()
	status := &pool.Status
	now := r.Clock.Now()
	if status.Floor != d.Floor {
		changed := metav1.NewMicroTime(now)
		status.Floor, status.FloorChangedAt = d.Floor, &changed
	}
	status.ObservedGeneration = pool.Generation
	status.OrderedFrom = d.OrderedFrom
	status.Reserved, status.Replicas, status.Ready = d.Reserved, d.Replicas, d.Ready
	status.Selector = v1alpha1.LabelNodePool + "=" + pool.Name
	status.FailedMachines = d.Failed
	if d.LastFailure != nil {
		status.LastFailure = &v1alpha1.MachineFailure{
			Machine: d.LastFailed, Time: metav1.NewMicroTime(d.LastFailure.At),
			Class: d.LastFailure.Class, Code: d.LastFailure.Code, Message: d.LastFailure.Message,
		}
	}
	v1alpha1.SetConditions(&status.Conditions, pool.Generation, metav1.NewTime(now), d.WhenReady, d.Conditions...)
	for _, note := range d.Notes {
		note.ObservedGeneration, note.LastTransitionTime = pool.Generation, metav1.NewTime(now)
		meta.SetStatusCondition(&status.Conditions, note)
	}
	if equality.Semantic.DeepEqual(before, status) {
		return nil
	}
	if err := r.Client.Status().Update(ctx, pool); err != nil {
		return fmt.Errorf("write the status of NodePool %s: %w", pool.Name, err)
	}
	r.wrote(pool)
	r.Metrics.failed(group, d)
	if before.Floor != d.Floor {
		r.tell(ctx, pool, corev1.EventTypeNormal, "FloorChanged", "floor %d -> %d: %d nodes are reserved", before.Floor, d.Floor, d.Reserved)
	}
	if len(d.NewlyFailed) > 0 {
		r.tell(ctx, pool, corev1.EventTypeWarning, v1alpha1.ReasonMachineFailed, "%d machines failed: %s; the last one, %s: %s",
			len(d.NewlyFailed), nodegroup.Listed(d.NewlyFailed), d.LastFailed, d.LastFailure)
	}
	if allReady(before.Ready, d.Ready, pool.Spec.Replicas) {
		r.tell(ctx, pool, corev1.EventTypeNormal, "NodesReady", "%d of %d nodes are Ready", d.Ready, pool.Spec.Replicas)
	}
	return nil
}

// allReady reports whether the number of Ready nodes has risen to the target. A pool that shrinks has at least as many
// Ready nodes all the while, which is no news.
func allReady(before, now, target int32) bool { return before < target && now >= target }

// mark makes nodes say who holds them, that they are ours to release, and that they are being released.
func (r *Reconciler) mark(ctx context.Context, pool *v1alpha1.NodePool, _ *nodegroup.Group, d *nodegroup.Decisions) error {
	// One event tells of all nodes of a pass: of several with the same reason the API shows only the first.
	var releasing []string
	var why string
	defer func() {
		if len(releasing) > 0 {
			r.tell(ctx, pool, corev1.EventTypeNormal, "ReleasingNodes", "%s are tainted so that no pod comes any more: %s", nodegroup.Listed(releasing), why)
		}
	}()
	failures := atOnce(len(d.Marks), func(i int) error { return r.markNode(ctx, &d.Marks[i]) })
	for i := range d.Marks {
		if mark := &d.Marks[i]; mark.Releasing && failures[i] == nil {
			releasing, why = append(releasing, mark.Node), mark.Why
		}
	}
	return errors.Join(failures...)
}

// writesAtOnce is how many nodes or machines are written at a time, or looked at before they are. A write takes milliseconds,
// of which the API server spends most on waiting for etcd.
const writesAtOnce = 16

// atOnce does something for each number below count, several at a time, and returns how each ended.
func atOnce(count int, do func(int) error) []error {
	failures := make([]error, count)
	// Nothing that is done here is given up because something else failed, nor because the process is told to end: each
	// write notices by itself.
	workqueue.ParallelizeUntil(context.Background(), writesAtOnce, count, func(i int) { failures[i] = do(i) })
	return failures
}

// firstOf is the first of several failures, nil when there is none: an event has no room for all.
func firstOf(failures []error) error {
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) markNode(ctx context.Context, mark *nodegroup.Mark) error {
	var node corev1.Node
	if err := r.Client.Get(ctx, client.ObjectKey{Name: mark.Node}, &node); err != nil {
		return client.IgnoreNotFound(err)
	}
	changed := node.DeepCopy()
	markObject(changed, mark, r.Clock.Now())
	// Taints are a list that the patch replaces, so the version has to be the one that was read.
	patch := client.MergeFromWithOptions(&node, client.MergeFromWithOptimisticLock{})
	if err := client.IgnoreNotFound(r.Client.Patch(ctx, changed, patch)); err != nil {
		return fmt.Errorf("mark node %s: %w", mark.Node, err)
	}
	log.FromContext(ctx).Info("Marked node", "node", mark.Node, "heldBy", mark.HeldBy, "releasing", mark.Releasing, "why", mark.Why)
	return nil
}

// markObject changes a node so that it says what the mark says.
func markObject(node *corev1.Node, mark *nodegroup.Mark, now time.Time) {
	if node.Annotations == nil {
		node.Annotations = map[string]string{}
	}
	set := func(key, value string) {
		if value == "" {
			delete(node.Annotations, key)
		} else {
			node.Annotations[key] = value
		}
	}
	wasHeld, stayed := node.Annotations[v1alpha1.AnnotationHeldBy] != "", node.Annotations[v1alpha1.AnnotationGivenUp] != ""
	if wasHeld != (mark.HeldBy != "") || (stayed && !mark.Warm) {
		// Nobody else's wish is undone: it is removed only where it was set with held-by, and kept with given-up.
		disabled, givenUp := "", ""
		if mark.HeldBy != "" || mark.Warm {
			disabled = "true"
		}
		if mark.Warm {
			givenUp = now.UTC().Format(time.RFC3339Nano)
		}
		set(v1alpha1.AnnotationScaleDownDisabled, disabled)
		set(v1alpha1.AnnotationGivenUp, givenUp)
	}
	set(v1alpha1.AnnotationHeldBy, mark.HeldBy)
	if mark.Reserved {
		set(v1alpha1.AnnotationReserved, "true")
	}
	if releasing(node) == mark.Releasing {
		if !mark.Releasing {
			// Cluster Autoscaler takes the taint off when it starts, and leaves the annotation.
			set(v1alpha1.AnnotationReleasing, "")
		}
		return
	}
	node.Spec.Taints = slices.DeleteFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintToBeDeleted })
	if !mark.Releasing {
		set(v1alpha1.AnnotationReleasing, "")
		return
	}
	set(v1alpha1.AnnotationReleasing, now.UTC().Format(time.RFC3339))
	node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{
		Key: v1alpha1.TaintToBeDeleted, Value: toBeDeletedValue(now), Effect: corev1.TaintEffectNoSchedule,
	})
}

// setTarget is the one write of spec: the machines to release together with the target that is lower by
// their number, those that go without being counted, the target that follows the floor, and names of machines that
// are gone.
func (r *Reconciler) setTarget(ctx context.Context, pool *v1alpha1.NodePool, group *nodegroup.Group, d *nodegroup.Decisions) error {
	release, retire := d.Release, d.Retire
	if len(release)+len(retire) > 0 {
		registered := map[string]bool{}
		for i := range group.Machines {
			registered[group.Machines[i].Name] = group.Machines[i].Node != nil
		}
		free, err := r.Observer.StillReleasable(ctx, pool.Name, slices.Concat(release, retire), registered)
		if err != nil {
			return err
		}
		may := setOf(free)
		isNot := func(name string) bool { return !may[name] }
		release, retire = slices.DeleteFunc(slices.Clone(release), isNot), slices.DeleteFunc(slices.Clone(retire), isNot)
	}
	if len(release) == 0 && len(retire) == 0 && len(d.Gone) == 0 && d.Raise == 0 && d.GiveUp == 0 {
		return nil
	}
	if d.GiveUp > 0 || d.LookForGone {
		if err := r.seesAll(ctx, pool, group); err != nil {
			return err
		}
	}
	spec := &pool.Spec
	before := spec.Replicas
	gone := setOf(d.Gone)
	spec.MachinesToDelete = slices.DeleteFunc(slices.Clone(spec.MachinesToDelete), func(name string) bool { return gone[name] })
	spec.MachinesToDelete = slices.Concat(spec.MachinesToDelete, release, retire)
	if d.Raise > spec.Replicas {
		spec.Replicas, spec.ReplicasForMembers = d.Raise, d.RaisedForMembers
	}
	fewer := int32(len(release)) + d.GiveUp //nolint:gosec // At most maxSize.
	if fewer > spec.Replicas {
		// The API server would refuse it, and not say why it was tried.
		return fmt.Errorf("lower the target of NodePool %s: it is %d, and %d machines (%s) and %d orders are to go that it does not count",
			pool.Name, spec.Replicas, len(release), nodegroup.Listed(release), d.GiveUp)
	}
	spec.Replicas -= fewer
	spec.ReplicasForMembers = min(spec.ReplicasForMembers, spec.Replicas)
	if err := r.Client.Update(ctx, pool); err != nil {
		return fmt.Errorf("write the target of NodePool %s: %w", pool.Name, err)
	}
	r.wrote(pool)
	if len(release) > 0 {
		by := ByMember
		if pool.DeletionTimestamp != nil {
			by = ByDeletion
		}
		r.Metrics.Released(pool.Name, by, len(release))
		r.tell(ctx, pool, corev1.EventTypeNormal, "Released", "target %d -> %d: released %s", before, spec.Replicas, nodegroup.Listed(release))
	}
	if len(retire) > 0 {
		r.tell(ctx, pool, corev1.EventTypeNormal, "Retired", "deleting %s, which the target of %d does not count or which are replaced", nodegroup.Listed(retire), spec.Replicas)
	}
	if d.GiveUp > 0 {
		r.tell(ctx, pool, corev1.EventTypeNormal, "GaveUpOrders", "target %d -> %d: %d machines were to be ordered that nobody wants any more, or that maxSize %d does not allow", before, spec.Replicas, d.GiveUp, spec.MaxSize)
	}
	if d.Raise > 0 {
		r.tell(ctx, pool, corev1.EventTypeNormal, "FollowedFloor", "target %d -> %d: minSize is %d, the floor is %d, and no autoscaler decides", before, spec.Replicas, spec.MinSize, d.Floor)
	}
	return nil
}

// deleteMachines deletes what spec.machinesToDelete named when the pass began. The error is errStale when a machine has to be
// looked at again.
func (r *Reconciler) deleteMachines(ctx context.Context, pool *v1alpha1.NodePool, group *nodegroup.Group, d *nodegroup.Decisions) error {
	if err := r.knowsFailures(ctx, pool, group, d.Delete); err != nil {
		return err
	}
	observed := make(map[string]*nodegroup.Machine, len(d.Delete))
	for i := range group.Machines {
		observed[group.Machines[i].Name] = &group.Machines[i]
	}
	stale := false
	failures := atOnce(len(d.Delete), func(i int) error { return r.deleteMachine(ctx, observed[d.Delete[i]]) })
	failures = slices.DeleteFunc(failures, func(err error) bool {
		again := errors.Is(err, errStale)
		stale = stale || again
		return again
	})
	if err := firstOf(failures); err != nil {
		r.tell(ctx, pool, corev1.EventTypeWarning, v1alpha1.ReasonMachineFailed, "cannot delete machines: %v", err)
		return errors.Join(failures...)
	}
	if stale {
		return errStale
	}
	return nil
}

// deleteMachine deletes a machine that is as it was observed. One that has registered since has a node that pods may come to, and
// a pod may have come to a node before its taint that the cache does not show: errStale.
func (r *Reconciler) deleteMachine(ctx context.Context, m *nodegroup.Machine) error {
	again := func(why string) error {
		log.FromContext(ctx).V(1).Info("Put off the deletion of a machine until the cache has caught up", "machine", m.Name, "why", why)
		return errStale
	}
	if m.Node == nil && !m.Registered {
		err := r.Backend.Cancel(ctx, m.Name)
		if errors.Is(err, machines.ErrRegistered) || apierrors.IsConflict(err) {
			return again("it has registered since; its node is tainted first")
		}
		return err
	}
	if m.Node != nil && !m.Node.Leaving {
		switch used, err := r.Observer.used(ctx, m.Node.Name); {
		case err != nil:
			return err
		case used:
			return again("a pod has come to its node before the taint; the node goes when the pod has left")
		}
	}
	return r.Backend.Delete(ctx, m.Name)
}

// knowsFailures makes sure that the failures of machines that are about to be deleted have been observed, and so
// recorded: Cluster Autoscaler deletes a machine milliseconds after it was told of its failure, perhaps by another
// replica. The error is errStale when the cache is behind.
func (r *Reconciler) knowsFailures(ctx context.Context, pool *v1alpha1.NodePool, group *nodegroup.Group, names []string) error {
	unclear := setOf(names)
	for i := range group.Machines {
		if m := &group.Machines[i]; m.Failure != nil || m.Registered {
			delete(unclear, m.Name)
		}
	}
	if len(unclear) == 0 {
		return nil
	}
	fresh, err := r.Backend.List(ctx, pool.Name, machines.Live)
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

func (r *Reconciler) cancelMachines(ctx context.Context, pool *v1alpha1.NodePool, _ *nodegroup.Group, d *nodegroup.Decisions) error {
	var cancelled []string
	defer func() {
		if len(cancelled) > 0 {
			r.tell(ctx, pool, corev1.EventTypeNormal, "Cancelled", "cancelled %s, which had not registered: the target is %d", nodegroup.Listed(cancelled), pool.Spec.Replicas)
		}
	}()
	failures := atOnce(len(d.Cancel), func(i int) error { return r.Backend.Cancel(ctx, d.Cancel[i]) })
	for i, err := range failures {
		switch {
		case errors.Is(err, machines.ErrRegistered), apierrors.IsConflict(err):
			// It came after all. It is a machine like any other now.
			failures[i] = nil
		case err != nil:
			failures[i] = fmt.Errorf("cancel machine %s: %w", d.Cancel[i], err)
		default:
			cancelled = append(cancelled, d.Cancel[i])
		}
	}
	return errors.Join(failures...)
}

// orderMachines claims names and then orders a machine of each. The claim is recorded first: a kill after
// it loses names, which costs nothing, and a plan made from stale values ends with its conflict.
func (r *Reconciler) orderMachines(ctx context.Context, pool *v1alpha1.NodePool, group *nodegroup.Group, d *nodegroup.Decisions) error {
	if len(d.Order) == 0 {
		return nil
	}
	if err := r.seesAll(ctx, pool, group); err != nil {
		return err
	}
	numbers := group.NextNumbers(len(d.Order))
	pool.Status.OrderedFrom, pool.Status.MachinesOrdered = numbers[0], numbers[len(numbers)-1]+1
	if err := r.Client.Status().Update(ctx, pool); err != nil {
		return fmt.Errorf("claim machine names of NodePool %s: %w", pool.Name, err)
	}
	r.wrote(pool)
	// Where one cannot be ordered, the others cannot be either: what has not been asked for yet is not.
	var refused atomic.Bool
	failures := atOnce(len(d.Order), func(i int) error {
		if refused.Load() {
			return nil
		}
		err := r.Backend.Order(ctx, pool, nodegroup.MachineName(pool.Name, numbers[i]), d.Order[i])
		if err != nil {
			refused.Store(true)
		}
		return err
	})
	if err := firstOf(failures); err != nil {
		r.tell(ctx, pool, corev1.EventTypeWarning, v1alpha1.ReasonMachineFailed, "cannot order a machine: %v", err)
		return errors.Join(failures...)
	}
	r.tell(ctx, pool, corev1.EventTypeNormal, "Ordered", "ordered %d machines: the target is %d", len(d.Order), pool.Spec.Replicas)
	return nil
}

// seesAll makes sure that no machine exists that was not observed. The error is errStale when the cache is behind; the
// events that it has yet to see bring the next pass. Their number says nothing: while one comes, another may have gone.
func (r *Reconciler) seesAll(ctx context.Context, pool *v1alpha1.NodePool, group *nodegroup.Group) error {
	fresh, err := r.Backend.List(ctx, pool.Name, machines.Live)
	if err != nil {
		return err
	}
	observed := make(map[string]bool, len(group.Machines))
	for i := range group.Machines {
		observed[group.Machines[i].Name] = true
	}
	for i := range fresh {
		if !observed[fresh[i].Name] {
			log.FromContext(ctx).V(1).Info("Put off a pass until the cache has caught up", "nodePool", pool.Name, "machine", fresh[i].Name)
			return errStale
		}
	}
	return nil
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}
