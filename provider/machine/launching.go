package machine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
)

// outcome is what a cloud has answered for a machine and is not written yet.
type outcome struct {
	launch.Outcome
}

// final reports whether the machine is not asked for again.
func (o *outcome) final() bool { return o.Kind != launch.Throttled }

// refusal is how often in a row an order had no answer, and when it is repeated.
type refusal struct {
	times int
	until time.Time
}

// Orders that have no answer are repeated after retryFirst, then twice that, up to retryMost: with the same token, so that nothing
// is made twice. That ends when the machines are late and go.
const (
	retryFirst = time.Second
	retryMost  = time.Minute
)

// launching is the loop that asks for the machines of orders, keyed by order.
type launching struct{ *Reconciler }

// Reconcile implements reconcile.Reconciler.
func (l launching) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	key := request.Name
	records, err := l.Store.OfOrder(key)
	if err != nil {
		return ctrl.Result{}, err
	}
	if l.behind(records) {
		return ctrl.Result{RequeueAfter: staleRetry}, nil
	}
	open, whole := l.open(records)
	if len(open) == 0 {
		l.drop(key)
		return ctrl.Result{}, nil
	}
	if !whole {
		// Records are missing, and nothing was launched: the pool's pass abandons the order, or has yet to write the others.
		return ctrl.Result{}, nil
	}
	var pool v1alpha1.NodePool
	if err := l.Client.Get(ctx, client.ObjectKey{Name: open[0].Spec.NodePool}, &pool); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if pool.Spec.Paused {
		return ctrl.Result{}, nil
	}
	if wait := l.wait(key, open); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	launcher, err := l.Launchers.For(&open[0].Spec.Machines)
	if err != nil {
		for _, m := range open {
			l.learn(m, &outcome{launch.Outcome{Kind: launch.Invalid, Code: "NoLauncher", Message: err.Error()}})
		}
		return ctrl.Result{}, nil
	}
	if !launcher.Traits(l.poolOf(open[0])).ByName {
		if done, err := l.recordLaunching(ctx, open); err != nil || !done {
			return ctrl.Result{RequeueAfter: staleRetry}, err
		}
	}
	if !l.calls.begin(pool.Name, pending{
		key: launchKey(key),
		do:  func(ctx context.Context) { l.launch(ctx, key, launcher, open) },
		done: func() {
			l.wakeOrder(key)
			// One that was deleted meanwhile waits for the end of this call.
			for _, m := range open {
				l.wakeMachine(m.Name)
			}
		},
	}) {
		// It is being asked for already, or calls are not made yet.
		return ctrl.Result{RequeueAfter: retryFirst}, nil
	}
	return ctrl.Result{}, nil
}

// behind reports whether the cache has not what was written of a machine of an order. What is to be asked for together is not asked for
// by those that the cache happens to have.
func (l launching) behind(records []*v1alpha1.PoolMachine) bool {
	return slices.ContainsFunc(records, func(m *v1alpha1.PoolMachine) bool { return l.written.Behind(m) })
}

// open are the machines of an order that have no outcome, by number; whole is set unless records of the order are missing and
// none of its machines was asked for.
func (l launching) open(records []*v1alpha1.PoolMachine) (open []*v1alpha1.PoolMachine, whole bool) {
	asked, going := false, 0
	for _, m := range records {
		of := record.Of(m)
		l.mu.Lock()
		known, answered := l.outcomes[m.Name]
		l.mu.Unlock()
		asked = asked || of.Asked || (answered && known.final())
		switch {
		case m.Spec.Order.ID == AdoptedOrder:
		case m.Status.Failure != nil, of.ProviderID != "", isLaunched(&m.Status), answered && known.final():
		case m.DeletionTimestamp != nil && m.Status.LaunchingAt == nil:
			// Nobody has asked for it, or by its name alone: it need not be learnt what came of that.
			going++
		default:
			open = append(open, m)
		}
	}
	slices.SortFunc(open, func(a, b *v1alpha1.PoolMachine) int {
		return int(nodegroup.Number(a.Spec.NodePool, a.Name) - nodegroup.Number(b.Spec.NodePool, b.Name))
	})
	return open, asked || (going == 0 && len(records) > 0 && len(records) >= int(records[0].Spec.Order.Size))
}

// wait is how long the cloud wants to be left alone.
func (l launching) wait(key string, open []*v1alpha1.PoolMachine) time.Duration {
	now := l.Clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	until := l.refusals[key].until
	for _, m := range open {
		if at := l.throttles[m.Spec.NodePool]; at.After(until) {
			until = at
		}
	}
	return until.Sub(now)
}

// recordLaunching writes down that machines are being asked for, and reports whether the cache has all of it.
func (l launching) recordLaunching(ctx context.Context, open []*v1alpha1.PoolMachine) (bool, error) {
	done := true
	now := metav1.NewMicroTime(l.Clock.Now())
	for _, m := range open {
		if m.Status.LaunchingAt != nil {
			continue
		}
		done = false
		updated := m.DeepCopy()
		updated.Status.LaunchingAt = &now
		err := l.Client.Status().Patch(ctx, updated, client.MergeFromWithOptions(m, client.MergeFromWithOptimisticLock{}))
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return false, fmt.Errorf("write that PoolMachine %s is being launched: %w", m.Name, err)
		}
		if err == nil {
			l.written.Wrote(updated)
		}
	}
	return done, nil
}

// launch asks for machines, and keeps what is answered until it is written.
func (l launching) launch(ctx context.Context, key string, launcher launch.Launcher, open []*v1alpha1.PoolMachine) {
	open, err := l.stillOrdered(ctx, open)
	if err != nil {
		l.refused(ctx, key, open[0], err)
		return
	}
	if len(open) == 0 {
		return
	}
	first := open[0]
	outcomes, err := launcher.Launch(ctx, l.poolOf(first), &launch.Order{
		Token: Token(l.Cluster, first), Atomic: first.Spec.Order.Atomic, Domain: first.Spec.Order.Domain, Machines: open,
	})
	if err == nil && len(outcomes) != len(open) {
		err = fmt.Errorf("the launcher has %d outcomes for %d machines", len(outcomes), len(open))
	}
	if err != nil {
		l.refused(ctx, key, first, err)
		return
	}
	l.drop(key)
	for i, m := range open {
		l.learn(m, &outcome{outcomes[i]})
	}
}

// stillOrdered are those of the machines that the API server itself still has on order, without an outcome: a record that was deleted
// meanwhile may be gone in a moment, and what was launched for it then would have none; one that has failed would be made all the same.
// One that is deleted from now on waits for this call to end. With an error they are as they were.
func (l launching) stillOrdered(ctx context.Context, open []*v1alpha1.PoolMachine) ([]*v1alpha1.PoolMachine, error) {
	var list v1alpha1.PoolMachineList
	if err := l.Live.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelNodePool: open[0].Spec.NodePool}); err != nil {
		return open, fmt.Errorf("list the PoolMachines of NodePool %s: %w", open[0].Spec.NodePool, err)
	}
	ordered := make(map[types.UID]bool, len(list.Items))
	for i := range list.Items {
		m := &list.Items[i]
		// What another process has written meanwhile, which the cache may not have: it has its outcome.
		answered := m.Status.Failure != nil || m.Status.ProviderID != "" || isLaunched(&m.Status)
		ordered[m.UID] = !answered && (m.DeletionTimestamp == nil || m.Status.LaunchingAt != nil)
	}
	return slices.DeleteFunc(slices.Clone(open), func(m *v1alpha1.PoolMachine) bool { return !ordered[m.UID] }), nil
}

// learn keeps an outcome and lets it be written.
func (l launching) learn(m *v1alpha1.PoolMachine, o *outcome) {
	l.mu.Lock()
	l.outcomes[m.Name] = *o
	if o.Kind == launch.Throttled {
		l.throttles[m.Spec.NodePool] = l.Clock.Now().Add(max(o.After, retryFirst))
	}
	l.mu.Unlock()
	l.wakeMachine(m.Name)
}

// refused notes that an order had no answer, and tells of it for the first time in a row.
func (l launching) refused(ctx context.Context, key string, m *v1alpha1.PoolMachine, err error) {
	now := l.Clock.Now()
	var throttled *launch.ThrottledError
	l.mu.Lock()
	before := l.refusals[key]
	wait := min(retryFirst<<min(before.times, 10), retryMost)
	if errors.As(err, &throttled) {
		wait = max(wait, throttled.After)
	}
	l.refusals[key] = refusal{times: before.times + 1, until: now.Add(wait)}
	l.mu.Unlock()
	if before.times == 0 && throttled == nil && ctx.Err() == nil {
		l.warn(ctx, m, v1alpha1.ReasonNoAnswer, "no answer to an order of %s, which is repeated: %v",
			nodegroup.Pluralize(int(m.Spec.Order.Size), "%d machine", "%d machines"), err)
		return
	}
	l.Log.V(1).Info("No answer to an order", "nodePool", m.Spec.NodePool, "order", key, "times", before.times+1, "why", err.Error())
}

func (l launching) drop(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.refusals, key)
}

// Token is that of the order of a machine: the same for all of the order, whoever asks and however often, and no other order's.
func Token(cluster string, m *v1alpha1.PoolMachine) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{cluster, record.OrderKey(m), m.Spec.OrderedAt.UTC().Format(time.RFC3339Nano)}, "\n")))
	return hex.EncodeToString(sum[:16])
}

func launchKey(order string) string { return "launch/" + order }

// openOrder is the order of a machine, unless it has its outcome.
func openOrder(_ context.Context, object client.Object) []reconcile.Request {
	m, ok := object.(*v1alpha1.PoolMachine)
	if !ok || m.Status.Failure != nil || m.Status.ProviderID != "" || m.Spec.Order.ID == AdoptedOrder {
		return nil
	}
	return requestFor(record.OrderKey(m))
}

// ordersOfPool are the orders of a pool that are open: they wait while it is paused.
func (r *Reconciler) ordersOfPool(ctx context.Context, object client.Object) []reconcile.Request {
	records, err := r.Store.OfPool(object.GetName())
	if err != nil {
		return nil
	}
	seen := map[string]bool{}
	var out []reconcile.Request
	for _, m := range records {
		if key := record.OrderKey(m); !seen[key] {
			seen[key] = true
			out = append(out, openOrder(ctx, m)...)
		}
	}
	return out
}
