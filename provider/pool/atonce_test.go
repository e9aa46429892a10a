package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
)

// meeting answers a call when as many as may be made at a time are under way, so that calls one by one never get an answer.
type meeting struct {
	mu    sync.Mutex
	calls []string
	full  chan struct{}
}

func newMeeting() *meeting { return &meeting{full: make(chan struct{})} }

func (m *meeting) call(ctx context.Context, what string) error {
	m.mu.Lock()
	m.calls = append(m.calls, what)
	if len(m.calls) == writesAtOnce {
		close(m.full)
	}
	m.mu.Unlock()
	select {
	case <-m.full:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: no others are under way: %w", what, ctx.Err())
	}
}

// sociable is an API server that answers several questions at a time.
type sociable struct {
	client.WithWatch
	*meeting
}

func (s *sociable) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if err := s.call(ctx, key.Name); err != nil {
		return err
	}
	return s.WithWatch.Get(ctx, key, object, options...)
}

func (s *sociable) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	if _, is := list.(*corev1.PodList); is {
		return nil
	}
	return s.WithWatch.List(ctx, list, options...)
}

// estate are machines, each with a node that nobody uses, in memory and on an API server that is asked together.
type estate struct {
	group *nodegroup.Group
	names []string
	store *record.Store
	live  client.WithWatch
}

func newEstate(t *testing.T, count int) *estate {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), clientgoscheme.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_800_000_000, 0)
	ofMachines, ofNodes := record.Indexers()
	machines, nodes := toolscache.NewIndexer(
		toolscache.MetaNamespaceKeyFunc, ofMachines,
	), toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, ofNodes)
	e := &estate{group: &nodegroup.Group{Name: "hpc"}}
	pool := &v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "hpc"}}
	objects := []client.Object{pool}
	for n := range count {
		name := nodegroup.MachineName("hpc", int64(n))
		e.names = append(e.names, name)
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-of-" + name}, Spec: corev1.NodeSpec{ProviderID: "cloud://" + name}}
		markObject(node, &nodegroup.Mark{Reserved: true, Releasing: true}, at)
		machine := &v1alpha1.PoolMachine{
			ObjectMeta: metav1.ObjectMeta{
				Name: name, UID: types.UID(name), ResourceVersion: "999", Labels: map[string]string{v1alpha1.LabelNodePool: "hpc"},
			},
		}
		machine.Spec.NodePool, machine.Status.ProviderID, machine.Status.NodeName = "hpc", node.Spec.ProviderID, node.Name
		if err := errors.Join(machines.Add(machine), nodes.Add(node)); err != nil {
			t.Fatal(err)
		}
		of := record.Of(machine)
		of.Node = nodeOf(node, 0)
		e.group.Machines = append(e.group.Machines, of)
		objects = append(objects, node, machine)
	}
	e.live = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(pool).Build()
	e.store = record.Over(machines, nodes, e.live)
	return e
}

// TestSeveralAtOnce: records are made and deleted, and nodes are looked at before their release, several at a time: a pool of
// thousands would take too long.
func TestSeveralAtOnce(t *testing.T) {
	t.Parallel()
	const count = 3 * writesAtOnce
	e := newEstate(t, count)
	var numbers []int64
	for n := range count {
		numbers = append(numbers, int64(count+n))
	}
	order := &nodegroup.Decisions{Order: []nodegroup.Order{{ID: "claim", Purpose: v1alpha1.PurposeReservation, Count: count}}}
	for _, row := range []struct {
		name string
		do   func(context.Context, *Reconciler, *v1alpha1.NodePool) error
	}{
		{"ordered", func(ctx context.Context, r *Reconciler, pool *v1alpha1.NodePool) error {
			return r.orderMachines(ctx, &pass{pool: pool, group: e.group, Decisions: order, numbers: numbers})
		}},
		{"cancelled", func(ctx context.Context, r *Reconciler, pool *v1alpha1.NodePool) error {
			return r.cancelMachines(ctx, &pass{pool: pool, group: e.group, Decisions: &nodegroup.Decisions{Cancel: e.names}})
		}},
		{"deleted", func(ctx context.Context, r *Reconciler, pool *v1alpha1.NodePool) error {
			return r.deleteMachines(ctx, &pass{pool: pool, group: e.group, Decisions: &nodegroup.Decisions{Delete: e.names}})
		}},
		{"looked at", func(ctx context.Context, r *Reconciler, _ *v1alpha1.NodePool) error {
			free, err := r.Observer.StillReleasable(ctx, e.group, e.names)
			if err == nil && !slices.Equal(free, e.names) {
				return fmt.Errorf("of %v, which nobody uses, %v may go", e.names, free)
			}
			return err
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			pool := &v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "hpc"}}
			meeting := newMeeting()
			r := &Reconciler{
				Client: interceptor.NewClient(e.live, interceptor.Funcs{
					Create: func(ctx context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
						return meeting.call(ctx, o.GetName())
					},
					Delete: func(ctx context.Context, _ client.WithWatch, o client.Object, _ ...client.DeleteOption) error {
						return meeting.call(ctx, o.GetName())
					},
				}),
				Observer: &Observer{Live: &sociable{e.live, meeting}, Store: e.store},
				Events:   events.NewFakeRecorder(count), Clock: clock.RealClock{},
			}
			if err := row.do(ctx, r, pool); err != nil {
				t.Error(err)
			}
			if made := len(meeting.calls); made != count {
				t.Errorf("%d calls were made, want %d", made, count)
			}
		})
	}
}

// TestUnknownIsNotFree: what the API server does not say of a node is never taken to mean that nobody uses it.
func TestUnknownIsNotFree(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*testing.T, *estate){
		"its node is not there": func(t *testing.T, e *estate) {
			t.Helper()
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: e.group.Machines[0].NodeName}}
			if err := e.live.Delete(t.Context(), node); err != nil {
				t.Fatal(err)
			}
		},
		"it has registered, and its node is not seen": func(_ *testing.T, e *estate) { e.group.Machines[0].Node = nil },
		"a node of its name is another machine's": func(t *testing.T, e *estate) {
			t.Helper()
			node := &corev1.Node{}
			if err := e.live.Get(t.Context(), client.ObjectKey{Name: e.group.Machines[0].NodeName}, node); err != nil {
				t.Fatal(err)
			}
			node.Spec.ProviderID = "cloud://another"
			if err := e.live.Update(t.Context(), node); err != nil {
				t.Fatal(err)
			}
		},
		"a member holds its node, by the name of the node": func(_ *testing.T, e *estate) {
			e.group.Reservations = []nodegroup.Reservation{{Member: "ns/m", Nodes: 1, Held: []string{e.group.Machines[0].NodeName}}}
		},
		"nobody knows the machine": func(_ *testing.T, e *estate) { e.group.Machines = e.group.Machines[1:] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEstate(t, 2)
			change(t, e)
			observer := &Observer{Live: &sociable{e.live, &meeting{full: closed()}}, Store: e.store}
			free, err := observer.StillReleasable(t.Context(), e.group, e.names)
			if err != nil || !slices.Equal(free, e.names[1:]) {
				t.Errorf("%v may go (%v), and only %v may", free, err, e.names[1:])
			}
		})
	}
}

// closed is a channel that nobody waits for.
func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
