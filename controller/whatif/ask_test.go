package whatif_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/whatif"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

var mine = types.NamespacedName{Namespace: "ns", Name: "m"}

// node is one of four CPUs, empty or filled with one pod of three.
func node(name, pool string, filled bool) plan.Node {
	n := plan.Node{Name: name, Pool: pool, Ready: true, Allocatable: plan.Resources{corev1.ResourceCPU: 4000, corev1.ResourcePods: 110}}
	if filled {
		n.Reserved, n.Requested = true, plan.Resources{corev1.ResourceCPU: 3000, corev1.ResourcePods: 1}
	}
	return n
}

func pool(name string, maxSize int32) plan.Pool {
	return plan.Pool{
		Name: name, MaxSize: maxSize, ProvisionTimeout: 15 * time.Minute, Allocatable: plan.Resources{
			corev1.ResourceCPU: 4000, corev1.ResourcePods: 110,
		},
	}
}

// member has all its nodes in the first of its pools.
func member(key types.NamespacedName, size int32, pools ...string) (plan.Member, []plan.Node) {
	m := plan.Member{
		Kind: "MiniCluster", Job: "Job of the MiniCluster",
		Key: key, Wants: size, Size: size, FormerSize: size, MinSize: 1, NodePools: pools, Running: size,
		PodRequests: plan.Resources{corev1.ResourceCPU: 3000, corev1.ResourcePods: 1},
	}
	var held []string
	var nodes []plan.Node
	for i := range size {
		name := fmt.Sprintf("%s-%s-%d", key.Name, pools[0], i)
		held, nodes = append(held, name), append(nodes, node(name, pools[0], true))
		m.Pods = append(m.Pods, plan.Pod{Index: i, Node: name})
	}
	m.Reservations = []v1alpha1.Reservation{{NodePool: pools[0], Nodes: size, Held: held}}
	return m, nodes
}

// world has the member ns/m of size 2 in hpc-a, which takes 4 nodes, has 2 and costs 3.06; hpc-b takes 10, has none and says no price.
func world() *whatif.World {
	m, nodes := member(mine, 2, "hpc-a", "hpc-b")
	price := resource.MustParse("3.06")
	return &whatif.World{
		Now: noon,
		Observed: plan.Observed{
			Members: []plan.Member{m}, Nodes: nodes, Pools: []plan.Pool{pool("hpc-a", 4), pool("hpc-b", 10)},
		},
		Pools: map[string]whatif.Pool{
			"hpc-a": {Replicas: 2, PricePerHour: &price, ProvisionTimeout: 15 * time.Minute, Measured: whatif.Measured{
				Machines: 2, Median: metav1.Duration{Duration: 42 * time.Second}, Slowest: metav1.Duration{Duration: 58 * time.Second},
			}},
			"hpc-b": {ProvisionTimeout: 10 * time.Minute},
		},
	}
}

var bounds = whatif.Bounds{Min: 1, Max: 8}

func ask(t *testing.T, w *whatif.World, change whatif.Change) *whatif.Answer {
	t.Helper()
	a, err := w.Ask(mine, change, bounds)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestAsk asks about sizes and reads what is printed.
func TestAsk(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		world  func(*whatif.World)
		change whatif.Change
		want   string
	}{
		"one pool has room": {nil, whatif.Change{Grow: 2}, `
ns/m would get size 4: 4 nodes are reserved in hpc-a; Ready about 42s, up to 58s, as the last 2 machines of the pool

POOL    NOW   THEN   THERE   TO ORDER   PRICE/HOUR      READY
hpc-a   2     4      2       2          3.06            about 42s, up to 58s, as the last 2 machines of the pool
hpc-b   0     0      0       0          none declared   -

Its nodes then cost 6.12 more an hour.
`},
		"another pool has, and one says no price": {nil, whatif.Change{Grow: 6}, `
ns/m would get size 8: 8 nodes are reserved in hpc-a, hpc-b; Ready not measured yet, at most 10m0s by the pool's provisionTimeout

POOL    NOW   THEN   THERE   TO ORDER   PRICE/HOUR      READY
hpc-a   2     2      2       0          3.06            -
hpc-b   0     6      0       6          none declared   not measured yet, at most 10m0s by the pool's provisionTimeout

hpc-a alone does not grant it: 8 nodes are needed and hpc-a has maxSize 4

No price is declared for hpc-b (spec.pricePerHour of the NodePool).
`},
		"limited": {nil, whatif.Change{To: 20}, `
limited to 8 by spec.maxSize; ns/m would get size 8: 8 nodes are reserved in hpc-a, hpc-b; Ready not measured yet, at most 10m0s by the pool's provisionTimeout

POOL    NOW   THEN   THERE   TO ORDER   PRICE/HOUR      READY
hpc-a   2     2      2       0          3.06            -
hpc-b   0     6      0       6          none declared   not measured yet, at most 10m0s by the pool's provisionTimeout

hpc-a alone does not grant it: 8 nodes are needed and hpc-a has maxSize 4

No price is declared for hpc-b (spec.pricePerHour of the NodePool).
`},
		"refused by all": {func(w *whatif.World) { w.Observed.Pools[1].Paused = true }, whatif.Change{Grow: 6}, `
ns/m would wait for size 8 (PoolTooSmall): 8 nodes are needed and hpc-a has maxSize 4; NodePool "hpc-b" is paused

POOL    NOW   THEN   THERE   TO ORDER   PRICE/HOUR      READY
hpc-a   2     2      2       0          3.06            -
hpc-b   0     0      0       0          none declared   -

hpc-a alone does not grant it: 8 nodes are needed and hpc-a has maxSize 4

hpc-b alone does not grant it: NodePool "hpc-b" is paused
`},
		"shrinks": {nil, whatif.Change{Shrink: 1}, `
ns/m would shrink from 2 to 1; the highest ranks leave

POOL    NOW   THEN   THERE   TO ORDER   PRICE/HOUR      READY
hpc-a   2     1      1       0          3.06            -
hpc-b   0     0      0       0          none declared   -

Its nodes then cost 3.06 less an hour.

Ranks that leave: 1 on m-hpc-a-1
`},
		"limited to what it is": {func(w *whatif.World) { w.Observed.Members[0].Wants = 2 }, whatif.Change{To: 2}, `
nothing would change for ns/m: the member wants size 2 already

POOL    NOW   THEN   THERE   TO ORDER   PRICE/HOUR      READY
hpc-a   2     2      2       0          3.06            -
hpc-b   0     0      0       0          none declared   -
`},
		"has ended": {func(w *whatif.World) {
			w.Observed.Members[0].Lifecycle, w.Observed.Members[0].Pods = plan.Finished, nil
		}, whatif.Change{Shrink: 1}, `
nothing would change for ns/m: the MiniCluster has finished; its nodes are given back

POOL    NOW   THEN   THERE   TO ORDER   PRICE/HOUR      READY
hpc-a   0     0      0       0          3.06            -
hpc-b   0     0      0       0          none declared   -
`},
		"nodes are there": {func(w *whatif.World) {
			w.Observed.Nodes = append(w.Observed.Nodes, node("free-0", "hpc-a", false), node("free-1", "hpc-a", false))
			pool := w.Pools["hpc-a"]
			pool.Replicas = 4
			w.Pools["hpc-a"] = pool
		}, whatif.Change{Grow: 2}, `
ns/m would get size 4: 4 nodes are reserved in hpc-a; Ready at once: all nodes are there

POOL    NOW   THEN   THERE   TO ORDER   PRICE/HOUR      READY
hpc-a   2     4      4       0          3.06            at once: all nodes are there
hpc-b   0     0      0       0          none declared   -

Its nodes then cost 6.12 more an hour.
`},
		"another was first": {func(w *whatif.World) {
			other, nodes := member(types.NamespacedName{Namespace: "ns", Name: "a"}, 1, "hpc-a")
			other.Wants = 2
			w.Observed.Members = append(w.Observed.Members, other)
			w.Observed.Members[0].NodePools = []string{"hpc-a"}
			w.Observed.Nodes = append(w.Observed.Nodes, nodes...)
		}, whatif.Change{Grow: 2}, `
ns/m would wait for size 4 (PoolFull): 2 more nodes are needed and hpc-a has room for 0: maxSize 4, 4 reserved, 0 occupied by other workloads

POOL    NOW   THEN   THERE   TO ORDER   PRICE/HOUR   READY
hpc-a   2     2      2       0          3.06         -

hpc-a alone does not grant it: 2 more nodes are needed and hpc-a has room for 0: maxSize 4, 4 reserved, 0 occupied by other workloads
`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world()
			if row.world != nil {
				row.world(w)
			}
			var out strings.Builder
			if err := whatif.Write(&out, ask(t, w, row.change), false); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimPrefix(row.want, "\n"), out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAskChangesNothing: the world is the same after a question, so that the next one has the same answer.
func TestAskChangesNothing(t *testing.T) {
	t.Parallel()
	w, untouched := world(), world()
	for _, change := range []whatif.Change{{Grow: 6}, {Shrink: 1}, {To: 4}} {
		ask(t, w, change)
	}
	if diff := cmp.Diff(untouched.Observed, w.Observed); diff != "" {
		t.Error(diff)
	}
}

// TestWhomItConcerns: a growth that takes the last room makes another member wait.
func TestWhomItConcerns(t *testing.T) {
	t.Parallel()
	w := world()
	other, nodes := member(types.NamespacedName{Namespace: "ns", Name: "z"}, 1, "hpc-a")
	other.Wants = 2
	w.Observed.Members, w.Observed.Nodes = append(w.Observed.Members, other), append(w.Observed.Nodes, nodes...)
	a := ask(t, w, whatif.Change{Grow: 1})
	if len(a.Others) != 1 || a.Others[0].Member != "ns/z" || !strings.Contains(a.Others[0].Message, "hpc-a has room for 0") {
		t.Errorf("it concerns %+v", a.Others)
	}
}

func TestNoSuchMember(t *testing.T) {
	t.Parallel()
	_, err := world().Ask(types.NamespacedName{Namespace: "ns", Name: "x"}, whatif.Change{Grow: 1}, bounds)
	if err == nil || !strings.Contains(err.Error(), "there is no member ns/x") {
		t.Errorf("%v", err)
	}
}

// TestMeasure: of a pool the machines that are Ready and were ordered tell how long they took, from their order on.
func TestMeasure(t *testing.T) {
	t.Parallel()
	machine := func(pool, order string, took time.Duration) v1alpha1.PoolMachine {
		m := v1alpha1.PoolMachine{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(noon.Add(20 * time.Second))}}
		m.Spec.NodePool, m.Spec.Order.ID, m.Spec.OrderedAt = pool, order, metav1.NewMicroTime(noon.Add(100*time.Millisecond))
		if took > 0 {
			m.Status.Conditions = []metav1.Condition{
				{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, LastTransitionTime: metav1.NewTime(noon.Add(took))},
			}
		}
		return m
	}
	pool := v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: v1alpha1.NodePoolSpec{ProvisionTimeout: metav1.Duration{Duration: 15 * time.Minute}},
	}
	got := whatif.Measure([]v1alpha1.NodePool{pool}, []v1alpha1.PoolMachine{
		// Of two nodes that were not Ready for a while it is known since when they are, and not how long they took.
		machine("a", "floor", 3*time.Hour), machine("a", "floor", 16*time.Minute),
		machine("a", "floor", 30*time.Second), machine("a", "floor", 50*time.Second), machine("a", "floor", 40*time.Second),
		machine("a", "adopted", time.Second), machine("b", "floor", 0),
	})
	want := map[string]whatif.Measured{
		"a": {Machines: 3, Median: metav1.Duration{Duration: 40 * time.Second}, Slowest: metav1.Duration{Duration: 50 * time.Second}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestHideRoom: what members have reserved who may not be read is taken from the room.
func TestHideRoom(t *testing.T) {
	t.Parallel()
	w := world()
	hidden := whatif.HideRoom(
		&w.Observed, []v1alpha1.NodePool{{ObjectMeta: metav1.ObjectMeta{Name: "hpc-a"}, Status: v1alpha1.NodePoolStatus{Reserved: 3}}},
	)
	if hidden["hpc-a"] != 1 || w.Observed.Pools[0].MaxSize != 3 || w.Observed.Pools[1].MaxSize != 10 {
		t.Errorf("%v is hidden, and the pools are %+v", hidden, w.Observed.Pools)
	}
}

// BenchmarkAsk answers with 1,000 members, 100 pools and 10,000 nodes. The target is below 5 s with what is read; see
// BenchmarkOfMember of kubectl ensemble plan.
func BenchmarkAsk(b *testing.B) {
	w := &whatif.World{Now: noon, Pools: map[string]whatif.Pool{}}
	for i := range 100 {
		w.Observed.Pools = append(w.Observed.Pools, pool(fmt.Sprintf("pool-%d", i), 1000))
	}
	for i := range 1000 {
		m, nodes := member(
			types.NamespacedName{Namespace: "ns", Name: fmt.Sprintf("m-%d", i)}, 9, fmt.Sprintf("pool-%d", i%100),
			fmt.Sprintf("pool-%d", (i+1)%100),
		)
		if i%10 == 0 {
			m.Wants += 5
		}
		w.Observed.Members, w.Observed.Nodes = append(w.Observed.Members, m), append(w.Observed.Nodes, nodes...)
	}
	for i := len(w.Observed.Nodes); i < 10_000; i++ {
		w.Observed.Nodes = append(w.Observed.Nodes, node(fmt.Sprintf("free-%d", i), fmt.Sprintf("pool-%d", i%100), false))
	}
	for b.Loop() {
		if _, err := w.Ask(
			types.NamespacedName{Namespace: "ns", Name: "m-500"}, whatif.Change{Grow: 6}, whatif.Bounds{Min: 1, Max: 100},
		); err != nil {
			b.Fatal(err)
		}
	}
}
