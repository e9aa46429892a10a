package machine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
)

// ending is how far the end of a machine is. It is not written down: after a restart the machine is told again.
type ending struct {
	// asked is when the machine was told to go last, zero for never; gone is set when the cloud has said that it is gone.
	asked time.Time
	gone  bool
	// after is when it may be told again, and why what is in the way of it.
	after time.Time
	why   string
	tries int
}

// usedRetry is how long a machine waits for the pods on its node.
const usedRetry = time.Second

// errUsed is a node that pods are on, so that its machine cannot go.
var errUsed = errors.New("a pod is on its node; it goes when the pod has left")

// end ends a machine whose record is deleted, and lets the record go when the cloud says that the machine is gone.
func (r *Reconciler) end(ctx context.Context, m *v1alpha1.PoolMachine, seen *seen) (ctrl.Result, error) {
	if !controllerutil.ContainsFinalizer(m, v1alpha1.FinalizerMachine) {
		return ctrl.Result{}, nil
	}
	r.mu.Lock()
	e := r.endings[m.Name]
	if e == nil {
		e = &ending{}
		r.endings[m.Name] = e
	}
	state := *e
	r.mu.Unlock()
	if state.gone || foreign(m) {
		if r.finished.Lately(string(m.UID)) {
			return ctrl.Result{}, nil // The cache has yet to see that the record is gone.
		}
		waits, err := r.finish(ctx, m, seen)
		if err != nil || waits == "" {
			return ctrl.Result{}, err
		}
		state.why = waits
		r.alarm(ctx, m, &state)
		return ctrl.Result{RequeueAfter: usedRetry}, nil
	}
	r.alarm(ctx, m, &state)
	order := record.OrderKey(m)
	if r.calls.underWay(launchKey(order)) || r.calls.underWay(endKey(m.Name)) {
		// What comes of that wakes this loop.
		return ctrl.Result{RequeueAfter: r.Waits.EndAgain}, nil
	}
	unknown := m.Status.ProviderID == "" && m.Status.Failure == nil && !isLaunched(&m.Status) && seen.outcome == nil && seen.instance == nil
	if m.Status.LaunchingAt != nil && unknown {
		// The cloud may have made it and cannot be asked by its name: the order is repeated first, which tells.
		r.wakeOrder(order)
		return ctrl.Result{RequeueAfter: usedRetry}, nil
	}
	now := r.Clock.Now()
	if wait := state.after.Sub(now); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	if again := state.asked.Add(r.Waits.EndAgain); !state.asked.IsZero() && now.Before(again) &&
		(seen.instance != nil || !seen.listed.After(state.asked)) {
		return ctrl.Result{RequeueAfter: again.Sub(now)}, nil
	}
	launcher, missing := r.Launchers.For(&m.Spec.Machines)
	if missing != nil {
		r.ended(m, missing) // The alarm tells.
		return ctrl.Result{RequeueAfter: retryMost}, nil
	}
	r.calls.begin(m.Spec.NodePool, pending{
		key: endKey(m.Name),
		do: func(ctx context.Context) {
			// The call may have waited for its turn: what a listing has told since counts.
			now := *seen
			if newest := r.see(m); newest.instance != nil {
				now.instance = newest.instance
			}
			r.ended(m, r.terminate(ctx, launcher, m, &now))
		},
		done: func() { r.wakeMachine(m.Name) },
	})
	return ctrl.Result{RequeueAfter: r.Waits.EndAgain}, nil
}

// terminate tells a machine to go, after a look at the API server itself that nobody uses its node.
func (r *Reconciler) terminate(ctx context.Context, launcher launch.Launcher, m *v1alpha1.PoolMachine, seen *seen) error {
	pool := r.poolOf(m)
	if err := r.unused(ctx, m, seen, launcher.Traits(pool)); err != nil {
		return err
	}
	instance := launch.Instance{Machine: m.Name, ProviderID: m.Status.ProviderID}
	if seen.instance != nil {
		instance = *seen.instance
	}
	return launcher.Terminate(ctx, pool, []launch.Instance{instance})[0]
}

// unused reports nil when no pod is on the node of a machine, as the API server itself says. The error is errUsed when one is. What
// has failed has no pods, whatever its node shows. A node that somebody else is removing is Cluster Autoscaler's to empty.
func (r *Reconciler) unused(ctx context.Context, m *v1alpha1.PoolMachine, seen *seen, traits launch.Traits) error {
	if m.Status.Failure != nil {
		return nil
	}
	node, err := r.liveNode(ctx, m, seen, traits)
	if err != nil || node == nil {
		return err
	}
	var list corev1.PodList
	if err := r.Live.List(
		ctx, &list, client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("spec.nodeName", node.Name)},
	); err != nil {
		return fmt.Errorf("list the pods on node %s: %w", node.Name, err)
	}
	if record.CountPods(list.Items) > 0 && !record.Leaving(node) {
		return errUsed
	}
	return nil
}

// liveNode is the node of a machine as the API server itself has it, nil where there is none: by the name that is known, else by
// its provider id among all nodes, unless nodes of the pool register with a taint that is taken off by this process alone.
func (r *Reconciler) liveNode(ctx context.Context, m *v1alpha1.PoolMachine, seen *seen, traits launch.Traits) (*corev1.Node, error) {
	name := m.Status.NodeName
	if name == "" && seen.node != nil {
		name = seen.node.Name
	}
	if name == "" && seen.instance != nil {
		name = seen.instance.NodeName
	}
	if name != "" {
		node := &corev1.Node{}
		switch err := r.Live.Get(ctx, client.ObjectKey{Name: name}, node); {
		case apierrors.IsNotFound(err):
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("get Node %s: %w", name, err)
		}
		return node, nil
	}
	id := m.Status.ProviderID
	if id == "" && seen.instance != nil {
		// Of a record that is being deleted nothing new is written.
		id = seen.instance.ProviderID
	}
	if traits.Tainted || id == "" {
		return nil, nil
	}
	return r.nodes.withProviderID(ctx, r.Live, id)
}

// freshNodes lists all nodes from the API server for those who have to know of one by its provider id, which the API server
// cannot select by: those who ask while it is being listed share the next listing.
type freshNodes struct {
	asking sync.Mutex
	mu     sync.Mutex
	begun  uint64
	counts uint64
	nodes  map[string]*corev1.Node
}

func (f *freshNodes) withProviderID(ctx context.Context, live client.Reader, id string) (*corev1.Node, error) {
	f.mu.Lock()
	f.counts++
	mine := f.counts
	f.mu.Unlock()
	f.asking.Lock()
	defer f.asking.Unlock()
	if f.begun < mine {
		f.mu.Lock()
		begun := f.counts
		f.mu.Unlock()
		var list corev1.NodeList
		if err := live.List(ctx, &list); err != nil {
			return nil, fmt.Errorf("list Nodes: %w", err)
		}
		f.begun, f.nodes = begun, make(map[string]*corev1.Node, len(list.Items))
		for i := range list.Items {
			f.nodes[list.Items[i].Spec.ProviderID] = &list.Items[i]
		}
	}
	return f.nodes[id], nil
}

// ended notes how the end of a machine went.
func (r *Reconciler) ended(m *v1alpha1.PoolMachine, err error) {
	now := r.Clock.Now()
	var throttled *launch.ThrottledError
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.endings[m.Name]
	if e == nil {
		return
	}
	switch {
	case errors.Is(err, launch.ErrGone):
		e.gone, e.why = true, ""
	case errors.Is(err, errUsed):
		e.after, e.why = now.Add(usedRetry), err.Error()
	case errors.As(err, &throttled):
		e.after, e.why = now.Add(max(throttled.After, retryFirst)), err.Error()
	case err != nil:
		e.after, e.why = now.Add(min(retryFirst<<min(e.tries, 10), retryMost)), err.Error()
		e.tries++
		r.Log.Info("Cannot end a machine; it is tried again", "nodePool", m.Spec.NodePool, "machine", m.Name, "why", err.Error())
	default:
		e.asked, e.why, e.tries = now, "", 0
	}
}

// finish deletes the node where its cloud leaves it, and lets the record go when the node is no more. It says what it waits for: a
// finalizer, such as Karpenter's, keeps a node until whoever has put it there takes it off.
func (r *Reconciler) finish(ctx context.Context, m *v1alpha1.PoolMachine, seen *seen) (waits string, err error) {
	name := m.Status.NodeName
	if name == "" && seen.node != nil {
		name = seen.node.Name
	}
	if seen.node != nil {
		var node corev1.Node
		switch err := r.Live.Get(ctx, client.ObjectKey{Name: name}, &node); {
		case apierrors.IsNotFound(err):
		case err != nil:
			return "", fmt.Errorf("get Node %s: %w", name, err)
		case node.Spec.ProviderID == seen.node.Spec.ProviderID:
			if node.DeletionTimestamp == nil {
				if err := client.IgnoreNotFound(r.label(ctx, m, &node)); err != nil {
					return "", err
				}
				if err := client.IgnoreNotFound(r.Client.Delete(ctx, &node, client.Preconditions{UID: &node.UID})); err != nil {
					return "", fmt.Errorf("delete Node %s, whose machine is gone: %w", name, err)
				}
			}
			if len(node.Finalizers) > 0 {
				return fmt.Sprintf("its node %s is being deleted, and kept by %s", name, strings.Join(node.Finalizers, ", ")), nil
			}
		}
	}
	updated := m.DeepCopy()
	controllerutil.RemoveFinalizer(updated, v1alpha1.FinalizerMachine)
	if err := r.Client.Patch(ctx, updated, client.MergeFromWithOptions(m, client.MergeFromWithOptimisticLock{})); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return "", nil
		}
		return "", fmt.Errorf("let the record of machine %s go: %w", m.Name, err)
	}
	r.finished.Note(string(m.UID))
	log.FromContext(ctx).Info("Machine is gone", "nodePool", m.Spec.NodePool, "node", name)
	return "", nil
}

// discard lets go what the cloud keeps of a machine whose failure is written: for some, nothing else is made while it is there. It reports
// whether there is anything.
func (r *Reconciler) discard(m *v1alpha1.PoolMachine, seen *seen) bool {
	if m.DeletionTimestamp != nil || m.Status.Failure == nil || seen.instance == nil || seen.instance.Failure == nil {
		return false
	}
	launcher, err := r.Launchers.For(&m.Spec.Machines)
	if err != nil {
		return false
	}
	instance := *seen.instance
	r.calls.begin(m.Spec.NodePool, pending{key: endKey(m.Name), done: func() {}, do: func(ctx context.Context) {
		if err := launcher.Terminate(ctx, r.poolOf(m), []launch.Instance{instance})[0]; err != nil && !errors.Is(err, launch.ErrGone) {
			r.Log.Info("Cannot let go what the cloud keeps of a failed machine", "nodePool", m.Spec.NodePool, "machine", m.Name, "why", err.Error())
		}
	}})
	return true
}

// alarm tells of a machine that was told to go long ago and is still there.
func (r *Reconciler) alarm(ctx context.Context, m *v1alpha1.PoolMachine, e *ending) {
	since := r.Clock.Since(m.DeletionTimestamp.Time)
	if since < r.Waits.EndAlarm {
		return
	}
	r.mu.Lock()
	told := r.hung[m.Name]
	r.hung[m.Name] = true
	r.mu.Unlock()
	if told {
		return
	}
	why := e.why
	if why == "" {
		why = "the cloud was told to end it and still has it"
	}
	r.warn(ctx, m, v1alpha1.ReasonDeletionHangs, "machine %s was told to go %s ago and is still there, and paid for: %s",
		m.Name, since.Round(time.Second), why)
}

func endKey(machine string) string { return "end/" + machine }
