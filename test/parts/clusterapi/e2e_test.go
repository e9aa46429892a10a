package clusterapi

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	watchtools "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// TestGrowAndShrink: machines come when a member grows, and those that it gives up go, no others.
func TestGrowAndShrink(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	p := x.pool("p", 10, Template{BootDelay: "1s"})
	m := x.miniCluster("m", 2, p)
	x.atSize(m, 2)
	x.grant(m, "grow", 3)
	x.atSize(m, 5)
	x.machines(p, 5)
	before, nodes := x.of("Machine", p), x.held(m)
	x.grant(m, "shrink", 2)
	x.atSize(m, 3)
	x.machines(p, 3)
	after := x.of("Machine", p)
	for name, uid := range after {
		if before[name] != uid {
			t.Errorf("Machine %s is not one that was there before", name)
		}
	}
	// The Machines that are left are those of the nodes that the member has kept.
	kept := x.held(m)
	for _, machine := range x.objects("Machine") {
		node, _, _ := nestedString(machine.Object, "status", "nodeRef", "name")
		if machine.GetLabels()[v1alpha1.LabelNodePool] == p && (!slices.Contains(kept, node) || !slices.Contains(nodes, node)) {
			t.Errorf("Machine %s has node %s, and the member holds %v of %v", machine.GetName(), node, kept, nodes)
		}
	}
	x.end(m)
}

// TestTwoGrowths: two members grow in a pool that has no room for both at once.
func TestTwoGrowths(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	p := x.pool("p", 6, Template{BootDelay: "1s"})
	a, b := x.miniCluster("a", 1, p), x.miniCluster("b", 1, p)
	x.atSize(a, 1)
	x.atSize(b, 1)
	x.grant(a, "grow", 4)
	x.atSize(a, 5)
	x.grant(b, "grow", 4)
	x.until(func(s *history.State) string {
		if s.Members[b] == nil || s.Members[b].Status.Reserved != 1 {
			return "b has more than one node"
		}
		for _, c := range s.Members[b].Status.Conditions {
			if c.Type == v1alpha1.ConditionCapacityReserved && c.Reason == v1alpha1.ReasonPoolFull {
				return ""
			}
		}
		return "b does not say that the pool is full: " + words(s.Members[b])
	})
	x.grant(a, "shrink", 4)
	x.atSize(a, 1)
	x.atSize(b, 5)
	x.machines(p, 6)
	x.end(a, b)
}

// TestStockout: Cluster API tries for ever to make what there is no stock for. The member falls back to its second pool, and what was
// tried is deleted.
func TestStockout(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	p, q := x.pool("p", 10, Template{Stock: new(int64(1))}), x.pool("q", 10, Template{})
	m := x.miniCluster("m", 1, p, q)
	x.atSize(m, 1)
	x.machines(p, 1)
	x.grant(m, "grow", 3)
	x.atSize(m, 4)
	x.machines(p, 1)
	x.machines(q, 3)
	x.fails(p, v1alpha1.FailureOutOfResources, "InsufficientInstanceCapacity")
	x.end(m)
}

// TestLaunchFailure: the infrastructure provider says that it cannot make a machine. When it can, the member gets it.
func TestLaunchFailure(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	p := x.pool("p", 10, Template{Fail: "{reason: InstanceProvisionFailed, message: 'no such image'}"})
	m := x.miniCluster("m", 1, p)
	x.fails(p, v1alpha1.FailureOther, "InstanceProvisionFailed")
	if err := x.capi.Apply(t.Context(), p, &Template{Node: node}); err != nil {
		t.Fatal(err)
	}
	x.atSize(m, 1)
	x.machines(p, 1)
	x.end(m)
}

// TestRightThatIsMissing: a kind that the provider may not read fails machines, and says what right that takes.
func TestRightThatIsMissing(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	name := x.namespace + "-p"
	x.poolOf(name, 10, "{apiGroup: resource.k8s.io, kind: ResourceClaimTemplate, name: any}")
	m := x.miniCluster("m", 1, name)
	x.fails(name, v1alpha1.FailureOther, "Forbidden")
	x.until(func(s *history.State) string {
		if f := s.Pools[name].Status.LastFailure; f == nil || !strings.Contains(f.Message, `cannot get resource "resourceclaimtemplates"`) ||
			!strings.Contains(f.Message, "docs/cluster-api.md") {
			return fmt.Sprintf("the failure is %+v", f)
		}
		return ""
	})
	x.end(m)
}

// fails waits until a pool has told of a failure.
func (x *tenant) fails(pool string, class v1alpha1.FailureClass, code string) {
	x.Helper()
	x.until(func(s *history.State) string {
		if s.Pools[pool] == nil {
			return "there is no NodePool " + pool
		}
		if f := s.Pools[pool].Status.LastFailure; f == nil || f.Class != class || f.Code != code {
			return fmt.Sprintf("the last failure of %s is %+v", pool, f)
		}
		return ""
	})
}

// TestKills: the provider and the core controllers are killed at random moments, while a member grows and shrinks. No machine is made
// twice, and none is left.
func TestKills(t *testing.T) {
	for seed := range *seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			x := newTenant(t)
			p := x.pool("p", 10, Template{BootDelay: "500ms"})
			made := x.making(p)
			stop := x.killing(uint64(seed))
			m := x.miniCluster("m", 1, p)
			x.atSize(m, 1)
			x.grant(m, "grow", 4)
			x.atSize(m, 5)
			x.grant(m, "shrink", 3)
			x.atSize(m, 2)
			x.grant(m, "grow", 2)
			x.atSize(m, 4)
			stop()
			x.machines(p, 4)
			x.whole(p)
			x.end(m)
			made.once()
		})
	}
}

// killing kills programs at random moments until it is told to stop.
func (x *tenant) killing(seed uint64) (stop func()) {
	ctx, cancel := context.WithCancel(x.Context())
	var running sync.WaitGroup
	running.Go(func() {
		random := rand.New(rand.NewPCG(seed, 1))
		for {
			timer := time.NewTimer(100*time.Millisecond + time.Duration(random.Int64N(int64(4*time.Second))))
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			kill := func() error { return x.system.RestartProvider(context.WithoutCancel(ctx)) }
			if random.IntN(2) == 0 {
				kill = x.capi.Core.Restart
			}
			if err := kill(); err != nil {
				x.Errorf("kill: %v", err)
				return
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	x.Cleanup(stop)
	return stop
}

// making is a record of the Machines of a pool that were ever made.
type making struct {
	*tenant
	watcher *watchtools.RetryWatcher
	pool    string
	// named has the UIDs of the Machines of each name, of those of each record.
	named, of map[string]map[types.UID]bool
	stop      func()
}

// machineWatch watches the Machines of a tenant's pool.
type machineWatch struct {
	*tenant
	pool string
}

func (w *machineWatch) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	list := machineList()
	return w.capi.Client.Watch(ctx, list, &client.ListOptions{
		Namespace: w.capi.Namespace, LabelSelector: labels.SelectorFromSet(labels.Set{v1alpha1.LabelNodePool: w.pool}), Raw: &options,
	})
}

func machineList() *unstructured.UnstructuredList {
	out := &unstructured.UnstructuredList{}
	out.SetAPIVersion("cluster.x-k8s.io/v1beta2")
	out.SetKind("MachineList")
	return out
}

// making begins to record the Machines of a pool that has none yet.
func (x *tenant) making(pool string) *making {
	x.Helper()
	m := &making{tenant: x, pool: pool, named: map[string]map[types.UID]bool{}, of: map[string]map[types.UID]bool{}}
	list := machineList()
	if err := x.capi.Client.List(x.Context(), list, client.InNamespace(x.capi.Namespace)); err != nil {
		x.Fatal(err)
	}
	var err error
	if m.watcher, err = watchtools.NewRetryWatcherWithContext(
		context.WithoutCancel(x.Context()), list.GetResourceVersion(), &machineWatch{x, pool},
	); err != nil {
		x.Fatal(err)
	}
	var following sync.WaitGroup
	following.Go(m.follow)
	stop := sync.OnceFunc(func() { m.watcher.Stop(); following.Wait() })
	m.stop = stop
	x.Cleanup(stop)
	return m
}

func (m *making) follow() {
	for event := range m.watcher.ResultChan() {
		machine, ok := event.Object.(*unstructured.Unstructured)
		if event.Type == watch.Error || !ok {
			m.Errorf("the watch of Machines: %v", event.Object)
			return
		}
		note(m.named, machine.GetName(), machine.GetUID())
		note(m.of, machine.GetLabels()[v1alpha1.LabelMachine], machine.GetUID())
	}
}

func note(all map[string]map[types.UID]bool, key string, uid types.UID) {
	if all[key] == nil {
		all[key] = map[types.UID]bool{}
	}
	all[key][uid] = true
}

// once checks, when all is over, that no Machine was made, deleted and made again by one name, and that no record has had two: names of
// records are given once.
func (m *making) once() {
	m.Helper()
	m.stop()
	if len(m.named) < 5 {
		m.Errorf("5 machines were there at a time, and the Machines %v were seen", slices.Sorted(maps.Keys(m.named)))
	}
	for what, all := range map[string]map[string]map[types.UID]bool{"name": m.named, "record": m.of} {
		for key, uids := range all {
			if len(uids) != 1 {
				m.Errorf("the %s %s has had the Machines %v", what, key, slices.Collect(maps.Keys(uids)))
			}
		}
	}
	records := map[string]types.UID{}
	for _, event := range m.recorder.Events() {
		record, ok := event.Object.(*v1alpha1.PoolMachine)
		if !ok || record.Spec.NodePool != m.pool {
			continue
		}
		if uid, is := records[record.Name]; is && uid != record.UID {
			m.Errorf("there were two records %s", record.Name)
		}
		records[record.Name] = record.UID
	}
	for name := range m.of {
		if records[name] == "" {
			m.Errorf("a Machine was made for %s, which no record has been called", name)
		}
	}
}

// whole checks that each machine of a pool has what it is to have: each Machine a record, each infrastructure object a Machine.
func (x *tenant) whole(pool string) {
	x.Helper()
	machines := slices.Sorted(maps.Keys(x.of("Machine", pool)))
	x.until(func(s *history.State) string {
		for _, name := range machines {
			if s.Machines[name] == nil {
				return "Machine " + name + " has no record"
			}
		}
		return ""
	})
	if infrastructure := slices.Sorted(maps.Keys(x.of("TinyMachine", pool))); !slices.Equal(machines, infrastructure) {
		x.Errorf("the Machines are %v, and the infrastructure objects %v", machines, infrastructure)
	}
}

// TestBesideMachineDeployment: a MachineDeployment of the user's goes on to scale, and nothing of it concerns our machines.
func TestBesideMachineDeployment(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	p := x.pool("p", 10, Template{})
	m := x.miniCluster("m", 2, p)
	x.atSize(m, 2)
	ours := x.of("Machine", p)
	deployment, err := parse(fmt.Sprintf(`
apiVersion: cluster.x-k8s.io/v1beta2
kind: MachineDeployment
metadata: {name: users, namespace: %[1]s, labels: {cluster.x-k8s.io/cluster-name: %[2]s}}
spec:
  clusterName: %[2]s
  replicas: 1
  # What the webhooks of Cluster API would fill in.
  rollout: {strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}}
  selector: {matchLabels: {example.com/of: users, cluster.x-k8s.io/cluster-name: %[2]s, cluster.x-k8s.io/deployment-name: users}}
  template:
    metadata: {labels: {example.com/of: users, cluster.x-k8s.io/cluster-name: %[2]s, cluster.x-k8s.io/deployment-name: users}}
    spec:
      clusterName: %[2]s
      bootstrap: {dataSecretName: any}
      infrastructureRef: {apiGroup: tiny.example.com, kind: TinyMachineTemplate, name: %[3]s}
`, x.capi.Namespace, ClusterName, p))
	if err != nil {
		t.Fatal(err)
	}
	if err := x.capi.Client.Create(t.Context(), deployment); err != nil {
		t.Fatal(err)
	}
	for _, replicas := range []int{3, 1, 2, 0} {
		patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas))
		if err := x.capi.Client.Patch(t.Context(), deployment, patch); err != nil {
			t.Fatal(err)
		}
		x.poll(fmt.Sprintf("the user's MachineDeployment does not get to %d", replicas), func(context.Context) (bool, error) {
			there := 0
			for _, machine := range x.objects("Machine") {
				_, up, _ := nestedString(machine.Object, "status", "nodeRef", "name")
				if machine.GetLabels()["example.com/of"] == "users" && (up || machine.GetDeletionTimestamp() != nil) {
					there++
				}
			}
			return there == replicas, nil
		})
		if now := x.of("Machine", p); !maps.Equal(ours, now) {
			t.Errorf("with %d replicas of the user's ours are %v, and were %v", replicas, now, ours)
		}
	}
	x.grant(m, "grow", 1)
	x.atSize(m, 3)
	if err := x.capi.Client.Delete(t.Context(), deployment); err != nil {
		t.Fatal(err)
	}
	x.end(m)
}
