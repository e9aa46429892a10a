package machine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
)

// cloud has instances by the name of their pool.
type cloud struct {
	launch.Launcher

	machines v1alpha1.MachinesSpec

	mu        sync.Mutex
	instances map[string][]launch.Instance
	// errs are those of listings, by pool; listing is called before each.
	errs    map[string]error
	listing func(pool string)
	ended   []string
}

func (c *cloud) List(_ context.Context, pool *launch.Pool) ([]launch.Instance, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listing != nil {
		c.listing(pool.Name)
	}
	return slices.Clone(c.instances[pool.Name]), c.errs[pool.Name]
}

func (c *cloud) Terminate(_ context.Context, pool *launch.Pool, instances []launch.Instance) []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range instances {
		c.ended = append(c.ended, instances[i].Key)
		c.instances[pool.Name] = slices.DeleteFunc(c.instances[pool.Name], func(is launch.Instance) bool { return is.Key == instances[i].Key })
	}
	return make([]error, len(instances))
}

func (c *cloud) Pools(_ context.Context, cluster string) ([]launch.Pool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []launch.Pool
	for name := range c.instances {
		out = append(out, launch.Pool{Cluster: cluster, Name: name, Machines: c.machines})
	}
	return out, nil
}

// taken are the keys of what was ended since it was asked last.
func (c *cloud) taken() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.ended)
	out := strings.Join(c.ended, " ")
	c.ended = nil
	return out
}

var (
	byKarpenter  = v1alpha1.MachinesSpec{Karpenter: &v1alpha1.KarpenterMachines{}}
	byClusterAPI = v1alpha1.MachinesSpec{ClusterAPI: &v1alpha1.ClusterAPIMachines{Namespace: "a"}}
)

// sweepOf sweeps two clouds, with an API server that has some objects. told are its events.
func sweepOf(t *testing.T, karpenter, clusterAPI *cloud, objects ...client.Object) (s *sweep, told func() string) {
	t.Helper()
	karpenter.machines, clusterAPI.machines = byKarpenter, byClusterAPI
	c := fakeOf(t, objects...)
	ofMachines, ofNodes := record.Indexers()
	machines := toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, ofMachines)
	for _, object := range objects {
		if m, is := object.(*v1alpha1.PoolMachine); is {
			if err := machines.Add(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	recorder := events.NewFakeRecorder(100)
	r := &Reconciler{
		Client: c, Live: c, Store: record.Over(machines, toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, ofNodes), c),
		Launchers: &launch.Launchers{Karpenter: karpenter, ClusterAPI: clusterAPI}, Events: recorder,
		Clock: clocktesting.NewFakePassiveClock(noon), Cluster: "id", Log: logr.Discard(), calls: newCalls(time.Minute),
	}
	r.Waits.withDefaults()
	r.calls.ctx = t.Context()
	r.machines, r.pools = make(chan event.GenericEvent, queueLength), make(chan event.GenericEvent, queueLength)
	return &sweep{Reconciler: r}, func() string {
		var out []string
		for len(recorder.Events) > 0 {
			out = append(out, <-recorder.Events)
		}
		slices.Sort(out)
		return strings.Join(out, "\n")
	}
}

// look sweeps everything once.
func (s *sweep) look(t *testing.T) {
	t.Helper()
	if err := s.all(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.calls.wait.Wait()
}

func nodePool(name string, machines v1alpha1.MachinesSpec) *v1alpha1.NodePool {
	return &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid of " + name)}, Spec: v1alpha1.NodePoolSpec{Machines: machines},
	}
}

// old is an instance that no record tells of, and that has been there for an hour.
func old(key string, change ...func(*launch.Instance)) launch.Instance {
	out := launch.Instance{Key: key, Machine: key, CreatedAt: noon.Add(-time.Hour)}
	for _, c := range change {
		c(&out)
	}
	return out
}

// TestLeftOfPoolsThatAreNoMore: what a cloud has of a pool that was deleted is told of and then ended, unless a node is its.
func TestLeftOfPoolsThatAreNoMore(t *testing.T) {
	t.Parallel()
	karpenter := &cloud{instances: map[string][]launch.Instance{
		"gone": {
			old("gone-0"), old("gone-1", func(i *launch.Instance) { i.ProviderID = "cloud://1" }),
			old("gone-2", func(i *launch.Instance) { i.ProviderID = "cloud://0" }),
			old("gone-3", func(i *launch.Instance) { i.Failure = &v1alpha1.MachineFailure{Code: "X"} }),
			old("gone-4", func(i *launch.Instance) { i.Going = true }),
			old("gone-5", func(i *launch.Instance) { i.CreatedAt = noon.Add(-time.Minute) }),
			old("gone-6"),
		},
		"moved": {old("moved-0")}, "held": {old("held-0")}, "here": {},
	}}
	clusterAPI := &cloud{instances: map[string][]launch.Instance{"gone": {old("a-0")}, "moved": {}}}
	held := nodePool("held", byClusterAPI)
	held.Spec.Paused = true
	recorded := machineOf(func(m *v1alpha1.PoolMachine) { m.Name, m.Spec.NodePool = "gone-6", "gone" })
	s, told := sweepOf(t, karpenter, clusterAPI, nodePool("moved", byClusterAPI), nodePool("here", byKarpenter), held, recorded,
		nodeOf(time.Hour, corev1.ConditionTrue))
	const mine = "node n is its, and no NodePool gone has machines there"
	s.look(t)
	if ended := karpenter.taken() + clusterAPI.taken(); ended != "gone-3" {
		t.Errorf("the first look has ended %q", ended)
	}
	if got := told(); strings.Count(got, "\n") != 4 || !strings.Contains(got, mine) ||
		!strings.Contains(got, "machine gone-0, which no record tells of; it is ended, since no node is its and no NodePool gone has machines "+
			"there, "+
			"with the next look in 10m0s") {
		t.Errorf("the first look has told\n%s", got)
	}
	s.look(t)
	if ended := karpenter.taken() + " " + clusterAPI.taken(); ended != "gone-0 gone-1 moved-0 a-0" {
		t.Errorf("the second look has ended %q", ended)
	}
	told()
	s.look(t)
	if got := told(); karpenter.taken()+clusterAPI.taken() != "" || strings.Contains(got, "\n") || !strings.Contains(got, mine) {
		t.Errorf("the third look has told\n%s", got)
	}
}

// TestPoolThatComesBack: while it is swept, a pool that was deleted may be created again: then nothing of it is ended for that.
func TestPoolThatComesBack(t *testing.T) {
	t.Parallel()
	karpenter := &cloud{instances: map[string][]launch.Instance{"gone": {old("gone-0")}}}
	s, told := sweepOf(t, karpenter, &cloud{})
	s.look(t)
	karpenter.listing = func(string) {
		if err := s.Client.Create(t.Context(), nodePool("gone", byKarpenter)); err != nil {
			t.Error(err)
		}
	}
	s.look(t)
	karpenter.listing = nil
	told()
	s.look(t)
	if ended, got := karpenter.taken(), told(); ended != "" || !strings.Contains(got, "with the next look") {
		t.Errorf("ended are %q; the first look at the pool has told\n%s", ended, got)
	}
	s.look(t)
	if ended := karpenter.taken(); ended != "gone-0" {
		t.Errorf("the second look at the pool has ended %q", ended)
	}
}

// TestEachPoolIsToldOfFirst: the first look at each pool only tells, also where it could not be looked at for a time: it was paused, or
// its cloud was away.
func TestEachPoolIsToldOfFirst(t *testing.T) {
	t.Parallel()
	karpenter := &cloud{
		instances: map[string][]launch.Instance{"a": {old("a-0")}, "away": {old("away-0")}, "paused": {old("paused-0")}},
		errs:      map[string]error{"away": errors.New("the cloud is away")},
	}
	paused := nodePool("paused", byKarpenter)
	paused.Spec.Paused = true
	s, told := sweepOf(t, karpenter, &cloud{}, nodePool("a", byKarpenter), nodePool("away", byKarpenter), paused)
	looks := []struct{ ended, told string }{{"", "a-0"}, {"a-0", "away-0 paused-0"}, {"away-0 paused-0", ""}}
	for i, want := range looks {
		s.look(t)
		var first []string
		for line := range strings.Lines(told()) {
			if strings.Contains(line, "with the next look") {
				first = append(first, strings.TrimSuffix(strings.Fields(line)[7], ","))
			}
		}
		if got := strings.Join(first, " "); got != want.told {
			t.Errorf("look %d has told of %q for the first time", i, got)
		}
		if ended := karpenter.taken(); ended != want.ended {
			t.Errorf("look %d has ended %q", i, ended)
		}
		karpenter.errs = nil
		patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"paused":false}}`))
		if err := s.Client.Patch(t.Context(), paused, patch); err != nil {
			t.Fatal(err)
		}
	}
}
