package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machines"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
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

// sociable is a backend that answers several calls at a time.
type sociable struct {
	machines.Backend
	*meeting
	fails error
}

func (s *sociable) List(context.Context, string, machines.Freshness) ([]nodegroup.Machine, error) {
	return nil, nil
}

func (s *sociable) Order(ctx context.Context, _ *v1alpha1.NodePool, name string, _ v1alpha1.MachinePurpose) error {
	return errors.Join(s.call(ctx, name), s.fails)
}

func (s *sociable) Cancel(ctx context.Context, name string) error {
	return errors.Join(s.call(ctx, name), s.fails)
}

// nodeless is an API server without nodes and members that answers several questions at a time.
type nodeless struct {
	client.Reader
	*meeting
}

func (n *nodeless) List(context.Context, client.ObjectList, ...client.ListOption) error { return nil }

func (n *nodeless) Get(ctx context.Context, key client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
	if err := n.call(ctx, key.Name); err != nil {
		return err
	}
	return apierrors.NewNotFound(schema.GroupResource{Resource: "nodes"}, key.Name)
}

// TestSeveralAtOnce: machines are ordered, cancelled and looked at before their release several at a time: a pool of thousands
// would keep all others waiting.
func TestSeveralAtOnce(t *testing.T) {
	t.Parallel()
	const count = 3 * writesAtOnce
	var names []string
	for n := range count {
		names = append(names, nodegroup.MachineName("hpc", int64(n)))
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("there is no quota")
	for _, row := range []struct {
		name  string
		fails error
		do    func(context.Context, *Reconciler, *v1alpha1.NodePool) error
		// most is how many calls there are at most; without a failure there are as many as machines.
		most int
	}{
		{"ordered", nil, func(ctx context.Context, r *Reconciler, pool *v1alpha1.NodePool) error {
			return r.orderMachines(ctx, pool, &nodegroup.Group{Name: "hpc"}, &nodegroup.Decisions{Order: make([]v1alpha1.MachinePurpose, count)})
		}, count},
		{"ordered, which is refused: the others are not asked for", refused, func(ctx context.Context, r *Reconciler, pool *v1alpha1.NodePool) error {
			return r.orderMachines(ctx, pool, &nodegroup.Group{Name: "hpc"}, &nodegroup.Decisions{Order: make([]v1alpha1.MachinePurpose, count)})
		}, 2*writesAtOnce - 1},
		{"cancelled", nil, func(ctx context.Context, r *Reconciler, pool *v1alpha1.NodePool) error {
			return r.cancelMachines(ctx, pool, nil, &nodegroup.Decisions{Cancel: names})
		}, count},
		{"cancelled, and have come after all", machines.ErrRegistered, func(ctx context.Context, r *Reconciler, pool *v1alpha1.NodePool) error {
			return r.cancelMachines(ctx, pool, nil, &nodegroup.Decisions{Cancel: names})
		}, count},
		{"looked at", nil, func(ctx context.Context, r *Reconciler, _ *v1alpha1.NodePool) error {
			free, err := r.Observer.StillReleasable(ctx, "hpc", names, nil)
			if err == nil && !slices.Equal(free, names) {
				return fmt.Errorf("of %v without a node %v may go", names, free)
			}
			return err
		}, count},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			pool := &v1alpha1.NodePool{}
			pool.Name = "hpc"
			meeting := newMeeting()
			r := &Reconciler{
				Client:   fake.NewClientBuilder().WithScheme(scheme).WithObjects(pool).WithStatusSubresource(pool).Build(),
				Observer: &Observer{Live: &nodeless{meeting: meeting}}, Backend: &sociable{meeting: meeting, fails: row.fails},
				Events: events.NewFakeRecorder(count), written: map[string]string{},
			}
			if err := r.Client.Get(ctx, client.ObjectKeyFromObject(pool), pool); err != nil {
				t.Fatal(err)
			}
			wantsError := row.fails != nil && !errors.Is(row.fails, machines.ErrRegistered)
			if err := row.do(ctx, r, pool); errors.Is(err, context.DeadlineExceeded) || (err != nil) != wantsError {
				t.Errorf("it ended with %v, an error is wanted: %t", err, wantsError)
			}
			if made := len(meeting.calls); made > row.most || (row.fails == nil && made != row.most) {
				t.Errorf("%d calls were made, want %d", made, row.most)
			}
		})
	}
}
