package kwok

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// writes are those of a client: each by its verb and object, and from a certain one on they fail.
type writes struct {
	mu      sync.Mutex
	seen    []string
	allowed int // negative for no bound
}

var errKilled = errors.New("killed")

func (w *writes) write(verb string, object client.Object, carryOut func() error) error {
	w.mu.Lock()
	if w.allowed >= 0 && len(w.seen) >= w.allowed {
		w.mu.Unlock()
		return errKilled
	}
	w.seen = append(w.seen, fmt.Sprintf("%s %T %s", verb, object, object.GetName()))
	w.mu.Unlock()
	return carryOut()
}

// newLauncher is a launcher of a simulated API server that has some objects.
func newLauncher(t *testing.T, allowed int, objects ...client.Object) (*Launcher, *writes) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	inner := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.KwokInstance{}).Build()
	w := &writes{allowed: allowed}
	c := interceptor.NewClient(inner, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
			return w.write("create", o, func() error { return c.Create(ctx, o, options...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.DeleteOption) error {
			return w.write("delete", o, func() error { return c.Delete(ctx, o, options...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, options ...client.PatchOption) error {
			return w.write("patch", o, func() error { return c.Patch(ctx, o, patch, options...) })
		},
		SubResourcePatch: func(
			ctx context.Context, c client.Client, sub string, o client.Object, patch client.Patch, options ...client.SubResourcePatchOption,
		) error {
			return w.write("patch "+sub, o, func() error { return c.SubResource(sub).Patch(ctx, o, patch, options...) })
		},
	})
	return &Launcher{client: c, live: inner, clock: clock.RealClock{}}, w
}

// instances are those that exist, as name=fate.
func (l *Launcher) names(t *testing.T) []string {
	t.Helper()
	var list v1alpha1.KwokInstanceList
	if err := l.live.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	var out []string
	for i := range list.Items {
		out = append(out, list.Items[i].Name)
	}
	slices.Sort(out)
	return out
}

func kinds(outcomes []launch.Outcome) string {
	var out []string
	for _, outcome := range outcomes {
		out = append(out, []string{"Accepted", "OutOfResources", "Throttled", "Invalid"}[outcome.Kind]+outcome.Code)
	}
	return strings.Join(out, ",")
}

// TestLaunchAfterAKill: an order that was killed before any of its writes comes to the same end when it is repeated, also when
// the stock was sold meanwhile where it is all or none.
func TestLaunchAfterAKill(t *testing.T) {
	t.Parallel()
	names := []string{"hpc-0", "hpc-1", "hpc-2"}
	for _, test := range []struct {
		name string
		pool *launch.Pool
		want string
		left []string
	}{
		{"each for itself", poolOf(2), "Accepted,Accepted,OutOfResourcesOutOfStock", names[:2]},
		{"vanishing", poolOf(2, vanishing), "Accepted,Accepted,Accepted", names},
		{"all or none, enough", poolOf(3, allOrNone), "Accepted,Accepted,Accepted", names},
		{"all or none, too few", poolOf(2, allOrNone), strings.TrimSuffix(strings.Repeat("OutOfResourcesOutOfStock,", 3), ","), nil},
		{"with names of their own", poolOf(-1, ownNames), "Accepted,Accepted,Accepted", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			order := orderOf(test.pool, "t", names...)
			for allowed := range 4 {
				l, w := newLauncher(t, allowed)
				outcomes, err := l.Launch(t.Context(), test.pool, order)
				if err == nil && len(w.seen) < allowed && kinds(outcomes) != test.want {
					t.Errorf("%d writes: %s", allowed, kinds(outcomes))
				}
				w.allowed = -1
				for range 2 {
					outcomes, err := l.Launch(t.Context(), test.pool, order)
					if err != nil || kinds(outcomes) != test.want {
						t.Errorf("killed before write %d, and repeated: %s, %v; not %s", allowed, kinds(outcomes), err, test.want)
					}
				}
				if got := l.names(t); test.left != nil && !slices.Equal(got, test.left) {
					t.Errorf("killed before write %d: there are %v, not %v", allowed, got, test.left)
				}
			}
		})
	}
}

// TestLaunchTwiceKeepsWhatThereIs: what an order has made is accepted again, with the same id; what another order, or another
// cluster, has made is not.
func TestLaunchTwiceKeepsWhatThereIs(t *testing.T) {
	t.Parallel()
	pool := poolOf(-1)
	l, w := newLauncher(t, -1)
	first, err := l.Launch(t.Context(), pool, orderOf(pool, "t", "hpc-0"))
	if err != nil || kinds(first) != "Accepted" || first[0].ProviderID != "kwok://hpc/hpc-0" {
		t.Fatalf("the outcome is %+v, %v", first, err)
	}
	again, err := l.Launch(t.Context(), pool, orderOf(pool, "t", "hpc-0", "hpc-1"))
	if err != nil || kinds(again) != "Accepted,Accepted" || again[0] != first[0] {
		t.Errorf("the outcomes are %+v, %v", again, err)
	}
	other := *pool
	other.Cluster = "elsewhere"
	for _, foreign := range []struct {
		pool  *launch.Pool
		token string
	}{{pool, "another"}, {&other, "t"}} {
		outcomes, err := l.Launch(t.Context(), foreign.pool, orderOf(foreign.pool, foreign.token, "hpc-0"))
		if err != nil || kinds(outcomes) != "InvalidNameTaken" {
			t.Errorf("in cluster %s with the token %s the outcome is %+v, %v", foreign.pool.Cluster, foreign.token, outcomes, err)
		}
	}
	for _, foreign := range []launch.Instance{{Machine: "hpc-0"}, {Key: "hpc-0"}} {
		w.seen = nil
		err := l.Terminate(t.Context(), &other, []launch.Instance{foreign})[0]
		if !errors.Is(err, launch.ErrGone) || len(w.seen) > 0 {
			t.Errorf("another cluster ends %+v: %v, %v", foreign, err, w.seen)
		}
	}
}

// TestEndOfWhatWasFound: an instance that was found and not ordered is not called as its record, and is known by its provider id before it
// is listed.
func TestEndOfWhatWasFound(t *testing.T) {
	t.Parallel()
	pool := poolOf(-1)
	l, _ := newLauncher(t, -1)
	if _, err := l.Launch(t.Context(), pool, orderOf(pool, "t", "hpc-0", "hpc-1")); err != nil {
		t.Fatal(err)
	}
	other := *pool
	other.Cluster = "elsewhere"
	for _, row := range []struct {
		pool     *launch.Pool
		instance launch.Instance
		left     []string
	}{
		{pool, launch.Instance{Machine: "hpc-7"}, []string{"hpc-0", "hpc-1"}},
		{pool, launch.Instance{Machine: "hpc-7", ProviderID: "kwok://hpc/hpc-7"}, []string{"hpc-0", "hpc-1"}},
		{&other, launch.Instance{Machine: "hpc-7", ProviderID: "kwok://hpc/hpc-1"}, []string{"hpc-0", "hpc-1"}},
		{pool, launch.Instance{Machine: "hpc-7", ProviderID: "kwok://hpc/hpc-1"}, []string{"hpc-0"}},
	} {
		err := l.Terminate(t.Context(), row.pool, []launch.Instance{row.instance})[0]
		if !errors.Is(err, launch.ErrGone) || !slices.Equal(l.names(t), row.left) {
			t.Errorf("the end of %+v in cluster %s: %v, and there are %v", row.instance, row.pool.Cluster, err, l.names(t))
		}
	}
}

// TestReplyIsLostOnce: a reply is lost when something was made, and the repetition gets through.
func TestReplyIsLostOnce(t *testing.T) {
	t.Parallel()
	lost := 0
	for n := range 40 {
		pool := poolOf(-1, func(k *v1alpha1.KwokMachines) { k.LostReplyPercent = 50 })
		l, _ := newLauncher(t, -1)
		order := orderOf(pool, "t", fmt.Sprintf("hpc-%d", n), fmt.Sprintf("hpc-%d", n+1))
		if _, err := l.Launch(t.Context(), pool, order); errors.Is(err, errReplyLost) {
			lost++
		} else if err != nil {
			t.Fatal(err)
		}
		if outcomes, err := l.Launch(t.Context(), pool, order); err != nil || kinds(outcomes) != "Accepted,Accepted" || len(l.names(t)) != 2 {
			t.Errorf("repeated: %s, %v", kinds(outcomes), err)
		}
	}
	if lost < 10 || lost > 30 {
		t.Errorf("%d of 40 replies are lost, at 50%%", lost)
	}
}

// TestDomain: a machine is put into the domain that is asked for, unless its template says otherwise.
func TestDomain(t *testing.T) {
	t.Parallel()
	pool := poolOf(-1)
	l, _ := newLauncher(t, -1)
	order := orderOf(pool, "t", "hpc-0", "hpc-1")
	order.Domain = "example.com/rack=r1"
	order.Machines[1].Spec.Template.Labels = map[string]string{"example.com/rack": "r2"}
	outcomes, err := l.Launch(t.Context(), pool, order)
	if err != nil || kinds(outcomes) != "Accepted,InvalidDomainUnknown" || outcomes[0].Domain != order.Domain {
		t.Fatalf("the outcomes are %+v, %v", outcomes, err)
	}
	var instance v1alpha1.KwokInstance
	if err := l.live.Get(t.Context(), client.ObjectKey{Name: "hpc-0"}, &instance); err != nil {
		t.Fatal(err)
	}
	if node := nodeOf(&instance); node.Labels["example.com/rack"] != "r1" || seen(&instance).Domain != order.Domain {
		t.Errorf("the node has the labels %v, and the instance is in %q", node.Labels, seen(&instance).Domain)
	}
}
