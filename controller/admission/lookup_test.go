package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/budget"
)

// counted counts what is read of the API server.
func counted(reads *atomic.Int64) interceptor.Funcs {
	return interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			reads.Add(1)
			return c.Get(ctx, key, o, options...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			reads.Add(1)
			return c.List(ctx, list, options...)
		},
	}
}

// unknown are the names of n NodePools that do not exist.
func unknown(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("unknown-%d", i))
	}
	return names
}

// TestOneRead: however many NodePools a review names that do not exist, the API server is asked once.
func TestOneRead(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	_, lookup := reads(t, counted(&asked), "a")
	review := lookup.Review("ns")
	for i := range 256 {
		names := unknown(16)
		for n := range names {
			names[n] += fmt.Sprintf("-of-%d", i)
		}
		pools, err := review.Find(t.Context(), names)
		if err != nil {
			t.Fatal(err)
		}
		if text := pools.missing(names); strings.Count(text, "unknown-") != 8 || !strings.HasSuffix(
			text, "and 8 more; those that can be named here are a",
		) {
			t.Fatal(text)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("the API server was asked %d times", asked.Load())
	}
}

// TestOnlyWhatMayBeNamed: whoever misspells a NodePool is told of those that his namespace may name, and of no other tenant's.
func TestOnlyWhatMayBeNamed(t *testing.T) {
	t.Parallel()
	_, lookup := reads(t, interceptor.Funcs{}, "everybodys")
	for name, labels := range map[string]string{"ours": "team: a", "theirs": "team: b"} {
		if err := clientOf(t, lookup.Live).Create(t.Context(), pool(t, name, "{allowedNamespaces: {matchLabels: {"+labels+"}}}")); err != nil {
			t.Fatal(err)
		}
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: map[string]string{"team": "a"}}}
	if err := clientOf(t, lookup.Cached).Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	pools, err := lookup.Review("ns").Find(t.Context(), []string{"misspelled"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(
		`there is no NodePool "misspelled"; those that can be named here are everybodys, ours`, pools.missing([]string{"misspelled"}),
	); diff != "" {
		t.Error(diff)
	}
}

// TestBudgetOfReviews: a namespace that floods is turned away, with the status by which clients try again, and another one is answered.
func TestBudgetOfReviews(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	_, lookup := reads(t, counted(&asked), "a")
	m, err := budget.NewMetrics(prometheus.NewPedanticRegistry())
	if err != nil {
		t.Fatal(err)
	}
	lookup.Clock = clocktesting.NewFakePassiveClock(time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC))
	lookup.Budget = budget.New("admission-reads", budget.Rate{PerNamespace: 20, Total: 40}, m)
	turnedAway := 0
	for range 100 {
		_, err := lookup.Review("flood").Find(t.Context(), unknown(16))
		if err == nil {
			continue
		}
		if _, after := apierrors.SuggestsClientDelay(err); !apierrors.IsTooManyRequests(err) || !after ||
			!strings.Contains(err.Error(), "namespace flood causes more than 20 admission reads in a second (--admission-reads-per-second)") {
			t.Fatal(err)
		}
		turnedAway++
	}
	if turnedAway != 80 || asked.Load() != 20 {
		t.Errorf("%d reviews were turned away, %d reads were made", turnedAway, asked.Load())
	}
	if _, err := lookup.Review("other").Find(t.Context(), unknown(1)); err != nil {
		t.Errorf("another namespace: %v", err)
	}
}

// TestSharedReads: reviews that ask at the same time share an answer, and none gets one that is older than itself.
func TestSharedReads(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	begun, goOn := make(chan struct{}), make(chan struct{})
	funcs := interceptor.Funcs{List: func(
		ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption,
	) error {
		if _, is := list.(*v1alpha1.NodePoolList); is {
			err := c.List(ctx, list, options...)
			if asked.Add(1) == 1 {
				close(begun)
				<-goOn
			}
			return err
		}
		return c.List(ctx, list, options...)
	}}
	_, lookup := reads(t, funcs, "a")
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := lookup.Review("ns").Find(t.Context(), []string{"late"}); err != nil {
			t.Error(err)
		}
	})
	<-begun
	// The first question has its answer, which does not have this one.
	if err := clientOf(t, lookup.Live).Create(t.Context(), pool(t, "late", "{}")); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		review := lookup.Review("ns")
		all.Go(func() {
			pools, err := review.Find(t.Context(), []string{"late"})
			if err != nil || pools.Named["late"] == nil {
				t.Errorf("not found: %v", err)
			}
		})
	}
	if err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		return lookup.fresh.waits() == 50, nil
	}); err != nil {
		t.Error(err)
	}
	close(goOn)
	all.Wait()
	// One that comes when the others have gone on asks for itself.
	if n := asked.Load(); n < 2 || n > 5 {
		t.Errorf("51 reviews asked %d times", n)
	}
	if lookup.fresh.answer != nil {
		t.Error("an answer is kept that nobody waits for")
	}
}

// clientOf is a reader that writes too, as the fake ones do.
func clientOf(t *testing.T, reader client.Reader) client.Client {
	t.Helper()
	c, is := reader.(client.Client)
	if !is {
		t.Fatalf("%T is no client", reader)
	}
	return c
}

func (f *freshPools) waits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waiting
}

// TestAllInOrder: what is told of NodePools is in order.
func TestAllInOrder(t *testing.T) {
	t.Parallel()
	_, lookup := reads(t, interceptor.Funcs{}, "c", "a", "b")
	pools, err := lookup.Review("ns").Find(t.Context(), []string{"x"})
	if err != nil || !slices.Equal(pools.Allowed, []string{"a", "b", "c"}) {
		t.Errorf("%v, %v", pools, err)
	}
}
