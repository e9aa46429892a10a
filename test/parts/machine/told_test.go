package machine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// eventsOf are the events of a NodePool, each as its reason and note.
func eventsOf(ctx context.Context, pool string) ([]string, error) {
	var all eventsv1.EventList
	if err := cluster.Client.List(ctx, &all); err != nil {
		return nil, err
	}
	var out []string
	for i := range all.Items {
		if e := &all.Items[i]; e.Regarding.Kind == "NodePool" && e.Regarding.Name == pool {
			out = append(out, e.Type+" "+e.Reason+": "+e.Note)
		}
	}
	return out, nil
}

// saw waits until an event of a NodePool has the reason and the words.
func saw(t *testing.T, pool, reason, words string) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		all, err := eventsOf(ctx, pool)
		if err != nil || slices.ContainsFunc(all, func(e string) bool {
			return strings.Contains(e, " "+reason+": ") && strings.Contains(e,
				words)
		}) {
			return "", err
		}
		return fmt.Sprintf("no event %s of %s says %q; others do: %q", reason, pool, words, all), nil
	})
}

// warnings are the events of a pool that are no news of every day.
func warnings(t *testing.T, pool string) []string {
	t.Helper()
	all, err := eventsOf(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(e string) bool { return !strings.HasPrefix(e, "Warning") })
}

// says waits until a condition of a NodePool has the status and the words.
func says(t *testing.T, pool, condition string, status metav1.ConditionStatus, words string) {
	t.Helper()
	await(t, pool, func(s *state) string {
		c := meta.FindStatusCondition(s.pool.Status.Conditions, condition)
		if c == nil || c.Status != status || !strings.Contains(c.Message, words) {
			return fmt.Sprintf("%s is %+v and not %s with %q", condition, c, status, words)
		}
		return ""
	})
}

// listed is what Cluster Autoscaler is told of a pool's instances: by id, the state and the code of the error.
func (p *process) listed(ctx context.Context, pool string) (map[string]string, error) {
	response, err := p.Server.NodeGroupNodes(ctx, &externalgrpc.NodeGroupNodesRequest{Id: pool})
	if err != nil {
		return nil, err
	}
	got := map[string]string{}
	for _, i := range response.GetInstances() {
		got[i.GetId()] = strings.TrimPrefix(i.GetStatus().GetInstanceState().String(), "instance")
		if info := i.GetStatus().GetErrorInfo(); info != nil {
			got[i.GetId()] += " " + info.GetErrorCode()
		}
	}
	return got, nil
}

// lists waits until Cluster Autoscaler is told of exactly those instances.
func (p *process) lists(t *testing.T, pool string, want map[string]string) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		got, err := p.listed(ctx, pool)
		if status.Code(err) == codes.NotFound {
			return "the pool is not known yet", nil
		}
		if err != nil || maps.Equal(got, want) {
			return "", err
		}
		return fmt.Sprintf("the instances are %v, want %v", got, want), nil
	})
}

// cloud is the simulated cloud, which notes how often it is told to end machines, and can be made to wait or to throttle, by pool.
type cloud struct {
	launch.Launcher
	mu    sync.Mutex
	ended map[string][]time.Time
	held  map[string]chan struct{}
	busy  map[string]bool
	tries map[string]int
}

func newCloud(of launch.Launcher) *cloud {
	return &cloud{Launcher: of, ended: map[string][]time.Time{}, held: map[string]chan struct{}{}, busy: map[string]bool{},
		tries: map[string]int{}}
}

// hold makes the cloud wait before it ends machines of a pool.
func (c *cloud) hold(pool string) (goOn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	held := make(chan struct{})
	c.held[pool] = held
	return sync.OnceFunc(func() { close(held) })
}

// throttle makes the cloud refuse the orders of a pool for now.
func (c *cloud) throttle(pool string, is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy[pool] = is
}

// launches is how often machines of a pool were asked for, terminations when they were told to go.
func (c *cloud) launches(pool string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tries[pool]
}

func (c *cloud) terminations(pool string) []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.ended[pool])
}

// Pools implements launch.Finder.
func (c *cloud) Pools(ctx context.Context, cluster string) ([]launch.Pool, error) {
	finder, is := c.Launcher.(launch.Finder)
	if !is {
		return nil, nil
	}
	return finder.Pools(ctx, cluster)
}

// Launch implements launch.Launcher.
func (c *cloud) Launch(ctx context.Context, pool *launch.Pool, order *launch.Order) ([]launch.Outcome, error) {
	c.mu.Lock()
	c.tries[pool.Name]++
	busy := c.busy[pool.Name]
	c.mu.Unlock()
	if busy {
		return slices.Repeat([]launch.Outcome{{Kind: launch.Throttled, After: time.Second / 5, Code: "Busy", Message: "the cloud is busy"}},
			len(order.Machines)), nil
	}
	return c.Launcher.Launch(ctx, pool, order)
}

// Terminate implements launch.Launcher.
func (c *cloud) Terminate(ctx context.Context, pool *launch.Pool, instances []launch.Instance) []error {
	c.mu.Lock()
	c.ended[pool.Name] = append(c.ended[pool.Name], time.Now())
	held := c.held[pool.Name]
	c.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
		}
	}
	return c.Launcher.Terminate(ctx, pool, instances)
}

// Traits implements launch.Launcher.
func (c *cloud) Traits(pool *launch.Pool) launch.Traits {
	traits := c.Launcher.Traits(pool)
	traits.ReplaceAfter = time.Second
	return traits
}

// idOf is the provider id of a machine whose instance and node have its name.
func idOf(pool string, n int) string { return fmt.Sprintf("kwok://%s/%s-%d", pool, pool, n) }

// placeholder is what stands for the provider id of a machine until that is known.
func placeholder(pool string, n int) string { return fmt.Sprintf("ensemble://%s/%s-%d", pool, pool, n) }

// machine is the name of a machine.
func machine(pool string, n int) string { return fmt.Sprintf("%s-%d", pool, n) }

var _ launch.Launcher = (*cloud)(nil)

// isTainted reports whether no pod comes to a node any more, because its machine goes.
func (s *state) isTainted(node string) bool {
	n := s.nodes[node]
	if n == nil {
		return false
	}
	for i := range n.Spec.Taints {
		if n.Spec.Taints[i].Key == v1alpha1.TaintToBeDeleted {
			return true
		}
	}
	return false
}
