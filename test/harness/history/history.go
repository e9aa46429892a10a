// Package history records every version of the objects that matter, in the order in which the API server
// stored them, and checks the project's promises on that record. All kinds share one sequence of resource
// versions, so the record says what was true of everything at each moment, however late it was heard of.
package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	watchtools "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// Event is one version of an object.
type Event struct {
	// Version is the resource version, At the time when it was heard of.
	Version uint64
	At      time.Time
	// Object is a *corev1.Node, *corev1.Pod, *v1alpha1.NodePool, *v1alpha1.PoolMachine, *v1alpha1.KwokInstance,
	// *v1alpha1.EnsembleMember or a MiniCluster as *unstructured.Unstructured; of a deletion it is the last version.
	Object client.Object
	// Before is the version before, nil of a new object.
	Before client.Object
	// Deleted is set when the object is gone.
	Deleted bool
	// Listed is set of what was there when the record began: its version may be younger than that of what came after it.
	Listed bool
}

// Recorder records versions until it is stopped.
type Recorder struct {
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	events  []Event
	state   *State
	changed chan struct{} // closed and replaced at each event
	errs    []error
	notify  func(Event)
}

// kind is one kind that is recorded.
type kind struct {
	name string
	list func() client.ObjectList
}

func kinds() []kind {
	return []kind{
		{"Node", func() client.ObjectList { return &corev1.NodeList{} }},
		{"Pod", func() client.ObjectList { return &corev1.PodList{} }},
		{"NodePool", func() client.ObjectList { return &v1alpha1.NodePoolList{} }},
		{"PoolMachine", func() client.ObjectList { return &v1alpha1.PoolMachineList{} }},
		{"KwokInstance", func() client.ObjectList { return &v1alpha1.KwokInstanceList{} }},
		{"EnsembleMember", func() client.ObjectList { return &v1alpha1.EnsembleMemberList{} }},
		{"MiniCluster", func() client.ObjectList { return minicluster.NewList() }},
	}
}

// Start records from now on. notify, where it is not nil, is called for each event, one at a time.
func Start(ctx context.Context, c client.WithWatch, notify func(Event)) (*Recorder, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &Recorder{cancel: cancel, state: newState(), changed: make(chan struct{}), notify: notify}
	for _, k := range kinds() {
		list := k.list()
		if err := c.List(ctx, list); err != nil {
			return nil, errors.Join(fmt.Errorf("list %ss: %w", k.name, err), r.Stop())
		}
		objects, err := itemsOf(list)
		if err != nil {
			return nil, errors.Join(err, r.Stop())
		}
		for _, object := range objects {
			r.listed(object)
		}
		watcher, err := watchtools.NewRetryWatcherWithContext(ctx, list.GetResourceVersion(), &listWatch{c, k})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("watch %ss: %w", k.name, err), r.Stop())
		}
		r.running.Go(func() { r.follow(ctx, k, watcher) })
	}
	return r, nil
}

// listWatch watches one kind from a version on.
type listWatch struct {
	client client.WithWatch
	kind   kind
}

// WatchWithContext implements cache.WatcherWithContext.
func (w *listWatch) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	return w.client.Watch(ctx, w.kind.list(), &client.ListOptions{Raw: &options})
}

func (r *Recorder) follow(ctx context.Context, k kind, watcher *watchtools.RetryWatcher) {
	defer watcher.Stop()
	for event := range watcher.ResultChan() {
		switch object, ok := event.Object.(client.Object); {
		case event.Type == watch.Error || !ok:
			r.fail(fmt.Errorf("watch %ss: %v", k.name, event.Object))
		case event.Type == watch.Added, event.Type == watch.Modified:
			r.record(object, false)
		case event.Type == watch.Deleted:
			r.record(object, true)
		}
	}
	if ctx.Err() == nil {
		r.fail(fmt.Errorf("the watch of %ss has ended", k.name))
	}
}

func (r *Recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

// record records a version that was heard of, or the end of an object.
func (r *Recorder) record(object client.Object, deleted bool) {
	r.add(Event{Object: object, Deleted: deleted})
}

// listed records what was there when the record began.
func (r *Recorder) listed(object client.Object) { r.add(Event{Object: object, Listed: true}) }

func (r *Recorder) add(event Event) {
	object := event.Object
	version, err := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("resource version of %T %s: %w", object, object.GetName(), err))
		return
	}
	object.SetManagedFields(nil)
	event.Version, event.At, event.Before = version, time.Now(), r.state.put(object, event.Deleted)
	r.events = append(r.events, event)
	if r.notify != nil {
		r.notify(event)
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// Events are the events so far, in the order in which the API server stored them.
func (r *Recorder) Events() []Event {
	r.mu.Lock()
	events := slices.Clone(r.events)
	r.mu.Unlock()
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.Version, b.Version) })
	return events
}

// Until waits until the state is as wanted. unmet says what is missing, in words, and is empty when nothing
// is; it must not keep the state.
func (r *Recorder) Until(ctx context.Context, unmet func(*State) string) error {
	for {
		missing, changed, err := r.look(unmet)
		switch {
		case err != nil:
			return err
		case missing == "":
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), missing)
		}
	}
}

// look asks once what is missing, and returns what is closed when there may be another answer. unmet may end its goroutine, as
// a test does that fails.
func (r *Recorder) look(unmet func(*State) string) (missing string, changed <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return unmet(r.state), r.changed, errors.Join(r.errs...)
}

// Stop ends the recording and returns what went wrong with it.
func (r *Recorder) Stop() error {
	r.cancel()
	r.running.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.errs...)
}

func itemsOf(list client.ObjectList) ([]client.Object, error) {
	var out []client.Object
	err := meta.EachListItem(list, func(item runtime.Object) error {
		object, ok := item.(client.Object)
		if !ok {
			return fmt.Errorf("a list has an item of kind %T", item)
		}
		out = append(out, object)
		return nil
	})
	return out, err
}
