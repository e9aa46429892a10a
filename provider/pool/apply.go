package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
)

// pass is a pass over a pool that has been planned, on its way through the steps of package nodegroup.
type pass struct {
	pool  *v1alpha1.NodePool
	group *nodegroup.Group
	*nodegroup.Decisions
	// numbers are those of the machines to be ordered, chosen in the first step.
	numbers []int64
	// later is when a pass is due for what was held back, zero for nothing.
	later time.Time
}

// apply carries out the decisions of a pass, one step after the other. A step that fails ends the pass;
// the next one observes again. Each write of the NodePool is a patch of what differs, so that fields which this version does not know
// stay, and carries the resource version that was observed, so that a plan which was made from stale values is refused by the API
// server. later is when a pass is due for what was held back.
func (r *Reconciler) apply(
	ctx context.Context, pool *v1alpha1.NodePool, group *nodegroup.Group, d *nodegroup.Decisions,
) (later time.Time, err error) {
	p := &pass{pool: pool.DeepCopy(), group: group, Decisions: d}
	if err := r.keep(ctx, p.pool); err != nil {
		return later, err
	}
	for _, step := range nodegroup.Steps() {
		if err := r.take(ctx, step, p); err != nil {
			return p.later, err
		}
	}
	return p.later, nil
}

// take takes one step. What has to be so before it is said where the step is declared.
func (r *Reconciler) take(ctx context.Context, step nodegroup.Step, p *pass) error {
	switch step {
	case nodegroup.StepStatus:
		return r.recordStatus(ctx, p)
	case nodegroup.StepMark:
		return r.mark(ctx, p)
	case nodegroup.StepTarget:
		return r.setTarget(ctx, p)
	case nodegroup.StepDelete:
		return r.deleteMachines(ctx, p)
	case nodegroup.StepCancel:
		return r.cancelMachines(ctx, p)
	case nodegroup.StepOrder:
		return r.orderMachines(ctx, p)
	case nodegroup.StepFinish:
		return r.finish(ctx, p)
	default:
		return fmt.Errorf("package pool knows no step %d of package nodegroup", step)
	}
}

// patched writes what differs between two versions of a NodePool, of the object or of its status.
func (r *Reconciler) patched(ctx context.Context, writer client.SubResourceWriter, before, after *v1alpha1.NodePool) error {
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if len(before.Status.Conditions) == 0 && writer != nil {
		// There is no status yet: what differs from nothing would lack the numbers that are zero.
		whole, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": before.ResourceVersion}, "status": after.Status})
		if err != nil {
			return fmt.Errorf("encode the status: %w", err)
		}
		patch = client.RawPatch(types.MergePatchType, whole)
	}
	var err error
	if writer != nil {
		err = writer.Patch(ctx, after, patch)
	} else {
		err = r.Client.Patch(ctx, after, patch)
	}
	if err == nil {
		r.written.Wrote(after)
	}
	return err
}

// keep makes sure that the NodePool outlives its machines. It comes before the first of them is ordered.
func (r *Reconciler) keep(ctx context.Context, pool *v1alpha1.NodePool) error {
	before := pool.DeepCopy()
	if pool.DeletionTimestamp != nil || !controllerutil.AddFinalizer(pool, v1alpha1.FinalizerMachines) {
		return nil
	}
	if err := r.patched(ctx, nil, before, pool); err != nil {
		return fmt.Errorf("add the finalizer to NodePool %s: %w", pool.Name, err)
	}
	return nil
}

// finish lets a NodePool go that is being deleted, when nothing of it is left.
func (r *Reconciler) finish(ctx context.Context, p *pass) error {
	if !p.Finish {
		return nil
	}
	if err := r.seesAll(ctx, p.group); err != nil {
		return err
	}
	pool, before := p.pool, p.pool.DeepCopy()
	if !controllerutil.RemoveFinalizer(pool, v1alpha1.FinalizerMachines) {
		return nil
	}
	if err := client.IgnoreNotFound(r.patched(ctx, nil, before, pool)); err != nil {
		return fmt.Errorf("remove the finalizer from NodePool %s: %w", pool.Name, err)
	}
	log.FromContext(ctx).Info("The NodePool is deleted; its machines are gone", "nodePool", pool.Name)
	return nil
}

// recordStatus writes the status when it differs, with the numbers of the machines that are about to be ordered. When these cannot be
// chosen yet, the rest is written all the same, and nothing follows. What only people read is held back for a moment.
func (r *Reconciler) recordStatus(ctx context.Context, p *pass) error {
	var unclaimed error
	p.numbers, unclaimed = r.claim(ctx, p)
	before, pool := p.pool.DeepCopy(), p.pool
	now := r.Clock.Now()
	setStatus(pool, p.Decisions, p.numbers, now)
	if equality.Semantic.DeepEqual(before.Status, pool.Status) {
		return unclaimed
	}
	reached := allReady(before.Status.Ready, p.Ready, pool.Spec.Replicas)
	if wait := heldBack(&before.Status, &pool.Status); !reached && wait > 0 {
		r.mu.Lock()
		due := r.told[pool.Name].Add(wait)
		r.mu.Unlock()
		if now.Before(due) {
			before.DeepCopyInto(pool)
			p.later = due
			return unclaimed
		}
	}
	if err := r.patched(ctx, r.Client.Status(), before, pool); err != nil {
		return fmt.Errorf("write the status of NodePool %s: %w", pool.Name, err)
	}
	r.mu.Lock()
	r.told[pool.Name] = now
	r.mu.Unlock()
	r.tellOfStatus(ctx, p, before.Status.Floor, reached)
	return unclaimed
}

// tellOfStatus tells what is in a status that was not in the one before. reached is set where all nodes are Ready now.
func (r *Reconciler) tellOfStatus(ctx context.Context, p *pass, floor int32, reached bool) {
	r.Metrics.failed(p.group, p.Decisions)
	if floor != p.Floor {
		// No event: the members' own tell of what they reserve, and those of orders and releases of what comes of it.
		log.FromContext(ctx).Info("Floor changed", "nodePool", p.pool.Name, "from", floor, "to", p.Floor, "reserved", p.Reserved)
	}
	if len(p.NewlyFailed) > 0 {
		r.tell(ctx, p.pool, corev1.EventTypeWarning, v1alpha1.ReasonMachineFailed, "%s: %s", nodegroup.Pluralize(len(p.NewlyFailed),
			"machine "+p.LastFailed+" failed", "%d machines failed: "+nodegroup.Listed(p.NewlyFailed)+"; the last one, "+p.LastFailed),
			p.LastFailure)
	}
	if reached {
		r.tell(ctx, p.pool, corev1.EventTypeNormal, "NodesReady", "%d of %d nodes are Ready", p.Ready, p.pool.Spec.Replicas)
	}
}

// setStatus is the status as it is to be.
func setStatus(pool *v1alpha1.NodePool, d *nodegroup.Decisions, numbers []int64, now time.Time) {
	status := &pool.Status
	if status.Floor != d.Floor {
		changed := metav1.NewMicroTime(now)
		status.Floor, status.FloorChangedAt = d.Floor, &changed
	}
	status.ObservedGeneration = pool.Generation
	status.OrderedFrom = d.OrderedFrom
	if len(numbers) > 0 {
		status.OrderedFrom, status.MachinesOrdered = numbers[0], numbers[len(numbers)-1]+1
	}
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
}

// heldBack is how long after the last one a write of the status may wait for more to come: zero for one that somebody waits for. How
// many machines there are and what is said of them decides nothing; a floor that sinks releases nodes, of which more may follow.
func heldBack(before, after *v1alpha1.NodePoolStatus) time.Duration {
	same := after.DeepCopy()
	same.Replicas, same.Ready, same.Conditions, same.OrderedFrom = before.Replicas, before.Ready, before.Conditions, before.OrderedFrom
	wait := growsWithin
	if after.Ready < before.Ready || after.Replicas < before.Replicas {
		wait = shrinksWithin
	}
	lowers := after.Floor < before.Floor
	if lowers {
		same.Floor, same.FloorChangedAt, same.Reserved = before.Floor, before.FloorChangedAt, before.Reserved
		wait = lowerWithin
	}
	if !equality.Semantic.DeepEqual(before, same) {
		return 0
	}
	// That something has become true or ceased to be is told at once.
	if slices.ContainsFunc(after.Conditions, func(c metav1.Condition) bool {
		was := meta.FindStatusCondition(before.Conditions, c.Type)
		return was == nil || was.Status != c.Status || (was.Reason != c.Reason && !lowers)
	}) {
		return 0
	}
	return wait
}

// allReady reports whether the number of Ready nodes has risen to the target. A pool that shrinks has at least as many
// Ready nodes all the while, which is no news.
func allReady(before, now, target int32) bool { return before < target && now >= target }

// mark makes nodes say who holds them, that they are ours to release, and that they are being released.
func (r *Reconciler) mark(ctx context.Context, p *pass) error {
	// The event Released tells of them a moment later. A second one for each step of a shrink would be a write in ten.
	var releasing []string
	var why string
	defer func() {
		if len(releasing) > 0 {
			log.FromContext(ctx).Info(
				"nodes are tainted so that no pod comes any more", "nodePool", p.pool.Name, "nodes", nodegroup.Listed(releasing), "why", why,
			)
		}
	}()
	tainted := make([]bool, len(p.Marks))
	failures := inParallel(len(p.Marks), func(i int) (err error) {
		tainted[i], err = r.markNode(ctx, p.pool.Name, &p.Marks[i])
		return err
	})
	for i := range p.Marks {
		if mark := &p.Marks[i]; tainted[i] {
			releasing, why = append(releasing, mark.Node), mark.Why
		}
	}
	return errors.Join(failures...)
}

// writesAtOnce is how many nodes or machines are written at a time, or looked at before they are. A write takes milliseconds,
// of which the API server spends most on waiting for etcd.
const writesAtOnce = 16

// inParallel does something for each number below count, several at a time, and returns how each ended.
func inParallel(count int, do func(int) error) []error {
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

// markNode makes a node of a pool say what it is to say, and reports whether it was tainted for that. A node that registered without the
// label of its pool gets it in the same write: a policy of the API server lets the provider write no others.
func (r *Reconciler) markNode(ctx context.Context, pool string, mark *nodegroup.Mark) (bool, error) {
	node, err := r.Observer.Store.NodeNamed(mark.Node)
	if err != nil || node == nil || r.nodes.Behind(node) {
		// The event of what this process has written last brings the next pass.
		return false, err
	}
	changed := &corev1.Node{ObjectMeta: *node.ObjectMeta.DeepCopy()}
	changed.Spec.Taints = slices.Clone(node.Spec.Taints)
	if changed.Labels[v1alpha1.LabelNodePool] == "" {
		changed.Labels = record.WithPool(changed.Labels, pool)
	}
	markObject(changed, mark, r.Clock.Now())
	patch, err := record.NodePatch(node, changed)
	if err != nil || patch == nil {
		return false, err
	}
	written := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name}}
	switch err := r.Client.Patch(ctx, written, patch); {
	case apierrors.IsNotFound(err):
		return false, nil
	case apierrors.IsInvalid(err):
		// The node has changed meanwhile.
		return false, errStale
	case err != nil:
		return false, fmt.Errorf("mark node %s: %w", mark.Node, err)
	}
	r.nodes.Wrote(written)
	log.FromContext(ctx).Info("Marked node", "node", mark.Node, "heldBy", mark.HeldBy, "releasing", mark.Releasing, "why", mark.Why)
	return mark.Releasing && !v1alpha1.Releasing(node), nil
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
		givenUp := ""
		if mark.Warm {
			givenUp = now.UTC().Format(time.RFC3339Nano)
		}
		keepFromScaleDown(node, mark.HeldBy != "" || mark.Warm, wasHeld || stayed)
		set(v1alpha1.AnnotationGivenUp, givenUp)
	}
	set(v1alpha1.AnnotationHeldBy, mark.HeldBy)
	if mark.Reserved {
		set(v1alpha1.AnnotationReserved, "true")
	}
	if v1alpha1.Releasing(node) == mark.Releasing {
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
		Key: v1alpha1.TaintToBeDeleted, Value: v1alpha1.ToBeDeletedValue(now), Effect: corev1.TaintEffectNoSchedule,
	})
}

// keepFromScaleDown sets or takes off the annotation by which Cluster Autoscaler leaves a node alone. What somebody else had set
// before stays when we have no more use for it.
func keepFromScaleDown(node *corev1.Node, keep, kept bool) {
	switch theirs := node.Annotations[v1alpha1.AnnotationScaleDownDisabled] == "true"; {
	case keep && kept:
	case keep && theirs:
		node.Annotations[v1alpha1.AnnotationScaleDownDisabledByUser] = "true"
	case keep:
		node.Annotations[v1alpha1.AnnotationScaleDownDisabled] = "true"
	case kept && node.Annotations[v1alpha1.AnnotationScaleDownDisabledByUser] != "":
		delete(node.Annotations, v1alpha1.AnnotationScaleDownDisabledByUser)
	case kept:
		delete(node.Annotations, v1alpha1.AnnotationScaleDownDisabled)
	}
}

// setTarget is the one write of spec: the machines to release together with the target that is lower by
// their number, those that go without being counted, the target that follows the floor, and names of machines that
// are gone.
func (r *Reconciler) setTarget(ctx context.Context, p *pass) error {
	write, err := r.mayGo(ctx, p)
	if err != nil || !write.ChangesSpec() {
		return err
	}
	if write.GiveUp > 0 || write.LookForGone {
		if err := r.seesAll(ctx, p.group); err != nil {
			return err
		}
	}
	pool, before := p.pool, p.pool.DeepCopy()
	spec := &pool.Spec
	gone := setOf(write.Gone)
	spec.MachinesToDelete = slices.DeleteFunc(slices.Clone(spec.MachinesToDelete), func(name string) bool { return gone[name] })
	spec.MachinesToDelete = slices.Concat(spec.MachinesToDelete, write.Release, write.Retire, write.Lost, write.Leave)
	if write.Raise > spec.Replicas {
		spec.Replicas, spec.ReplicasForMembers = write.Raise, write.RaisedForMembers
	}
	if write.Fewer() > spec.Replicas {
		// The API server would refuse it, and not say why it was tried.
		counted := slices.Concat(write.Release, write.Lost)
		return fmt.Errorf("lower the target of NodePool %s: it is %d, which does not count all that is to go: %s (%s) and %s",
			pool.Name, spec.Replicas, nodegroup.Pluralize(len(counted), "%d machine", "%d machines"),
			nodegroup.Listed(counted), nodegroup.Pluralize(int(write.GiveUp), "%d order", "%d orders"))
	}
	spec.Replicas -= write.Fewer()
	spec.ReplicasForMembers = min(spec.ReplicasForMembers, spec.Replicas)
	if err := r.patched(ctx, nil, before, pool); err != nil {
		return fmt.Errorf("write the target of NodePool %s: %w", pool.Name, err)
	}
	r.mu.Lock()
	r.aimed[pool.Name] = r.Clock.Now()
	r.mu.Unlock()
	r.tellOfTarget(ctx, p, before.Spec.Replicas, &write)
	return nil
}

// mayGo is the write of spec without the machines that a live look finds in use, and without what can wait.
func (r *Reconciler) mayGo(ctx context.Context, p *pass) (nodegroup.TargetWrite, error) {
	write := p.TargetWrite
	if due := r.tidies(p.pool, &write); !due.IsZero() {
		p.later = earlier(p.later, due)
		write.Gone, write.LookForGone = nil, false
	}
	if len(write.Release)+len(write.Retire) == 0 {
		return write, nil
	}
	free, err := r.Observer.StillReleasable(ctx, p.group, slices.Concat(write.Release, write.Retire))
	if err != nil {
		return write, err
	}
	may := setOf(free)
	isNot := func(name string) bool { return !may[name] }
	write.Release = slices.DeleteFunc(slices.Clone(write.Release), isNot)
	write.Retire = slices.DeleteFunc(slices.Clone(write.Retire), isNot)
	return write, nil
}

// tidies is when names of machines that are gone are to be taken away at the latest, zero for now: they stay when nothing else is to be
// written and something was a moment ago. Then more follows, mostly.
func (r *Reconciler) tidies(pool *v1alpha1.NodePool, write *nodegroup.TargetWrite) time.Time {
	if len(write.Gone) == 0 || pool.DeletionTimestamp != nil || write.MovesTarget() {
		return time.Time{}
	}
	r.mu.Lock()
	due := r.aimed[pool.Name].Add(tidyWithin)
	r.mu.Unlock()
	if !r.Clock.Now().Before(due) {
		return time.Time{}
	}
	return due
}

// tellOfTarget tells why the target, or what it counts, is another one than before.
func (r *Reconciler) tellOfTarget(ctx context.Context, p *pass, before int32, write *nodegroup.TargetWrite) {
	pool, spec := p.pool, &p.pool.Spec
	if len(write.Release) > 0 {
		by := ByMember
		if pool.DeletionTimestamp != nil {
			by = ByDeletion
		}
		r.Metrics.Released(pool.Name, by, len(write.Release))
	}
	for _, say := range []struct {
		count        int
		reason, text string
	}{
		{len(write.Release), "Released", fmt.Sprintf("target %d -> %d: released %s", before, spec.Replicas, nodegroup.Listed(write.Release))},
		{len(write.Retire), "Retired", fmt.Sprintf("deleting %s, which the target of %d does not count, or which %s replaced",
			nodegroup.Listed(write.Retire), spec.Replicas, nodegroup.Pluralize(len(write.Retire), "is", "are"))},
		{len(write.Lost), "Lost", fmt.Sprintf("target %d -> %d: %s %s no more",
			before, spec.Replicas, nodegroup.Listed(write.Lost), nodegroup.Pluralize(len(write.Lost), "is", "are"))},
		{len(write.Leave), "Leaving", nodegroup.Listed(write.Leave) + nodegroup.Pluralize(len(write.Leave),
			fmt.Sprintf(" is on its way out; the target of %d does not count it", spec.Replicas),
			fmt.Sprintf(" are on their way out; the target of %d does not count them", spec.Replicas))},
		{int(write.GiveUp), "GaveUpOrders", fmt.Sprintf(
			"target %d -> %d: %s to be ordered that nobody wants any more, or that maxSize %d does not allow",
			before, spec.Replicas, nodegroup.Pluralize(int(write.GiveUp), "%d machine was", "%d machines were"), spec.MaxSize)},
		{int(write.Raise), "FollowedFloor", fmt.Sprintf("target %d -> %d: minSize is %d, the floor is %d, and no autoscaler decides",
			before, spec.Replicas, spec.MinSize, p.Floor)},
	} {
		if say.count > 0 {
			r.tell(ctx, pool, corev1.EventTypeNormal, say.reason, "%s", say.text)
		}
	}
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}
