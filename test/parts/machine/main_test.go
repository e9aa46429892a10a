package machine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// cluster is the API server of all tests here, with kwok for kubelets. TestMain sets it once.
var cluster inprocess.Cluster

func TestMain(m *testing.M) { inprocess.Main(m, &cluster, controlplane.Kwok) }

// process is a provider that runs in this process.
type process struct {
	*inprocess.Mortal
	*inprocess.Provider
}

// start starts a provider that dies when it is about to make the write after so many; a negative number is none.
func start(t *testing.T, most int64, options inprocess.ProviderOptions) *process {
	t.Helper()
	mgr := cluster.NewMortal(t, most, manager.Options{})
	provider := inprocess.AddProvider(t, mgr, options)
	mgr.Run(t, provider.Server.Announce)
	return &process{Mortal: mgr, Provider: provider}
}

// poolOf is a NodePool of at most 8 machines that boot at once, and that Cluster Autoscaler decides on.
func poolOf(name string, change ...func(*v1alpha1.NodePool)) *v1alpha1.NodePool {
	p := &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.NodePoolSpec{
			MaxSize: 8, Autoscaler: v1alpha1.AutoscalerClusterAutoscaler, ProvisionTimeout: metav1.Duration{Duration: time.Hour},
			Template: v1alpha1.NodeTemplate{Capacity: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
				corev1.ResourcePods: resource.MustParse("110"),
			}},
			Machines: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
		},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

// create creates objects, each with its status where it has one.
func create[T client.Object](t *testing.T, object T) T {
	t.Helper()
	wanted, _ := object.DeepCopyObject().(client.Object)
	if err := cluster.Client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	if _, is := wanted.(*v1alpha1.KwokInstance); is {
		wanted.SetResourceVersion(object.GetResourceVersion())
		if err := cluster.Client.Status().Update(t.Context(), wanted); err != nil {
			t.Fatal(err)
		}
	}
	return object
}

// newPool declares a NodePool.
func newPool(t *testing.T, name string, change ...func(*v1alpha1.NodePool)) *v1alpha1.NodePool {
	t.Helper()
	return create(t, poolOf(name, change...))
}

func target(n int32) func(*v1alpha1.NodePool) {
	return func(p *v1alpha1.NodePool) { p.Spec.Replicas = n }
}

func alone(p *v1alpha1.NodePool) { p.Spec.Autoscaler = v1alpha1.AutoscalerNone }

// role makes a pool's cloud behave worse.
func role(change func(*v1alpha1.KwokMachines)) func(*v1alpha1.NodePool) {
	return func(p *v1alpha1.NodePool) { change(p.Spec.Machines.Kwok) }
}

func after(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

// occupy puts a pod on a node; leave takes it away.
func occupy(t *testing.T, node string) (leave func()) {
	t.Helper()
	p := create(t, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceDefault, Name: "on-" + node},
		Spec: corev1.PodSpec{
			NodeName: node, Containers: []corev1.Container{{Name: "c",
				Image: "i"}}, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		},
	})
	return func() {
		t.Helper()
		if err := client.IgnoreNotFound(cluster.Client.Delete(t.Context(), p, client.GracePeriodSeconds(0))); err != nil {
			t.Fatal(err)
		}
	}
}

// increase is what Cluster Autoscaler asks for.
func (p *process) increase(t *testing.T, pool string, delta int32) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		// A pool that was made a moment ago may not be known yet.
		_, err := p.Server.NodeGroupTargetSize(ctx, &externalgrpc.NodeGroupTargetSizeRequest{Id: pool})
		return text(err), nil
	})
	if _, err := p.Server.NodeGroupIncreaseSize(t.Context(), &externalgrpc.NodeGroupIncreaseSizeRequest{Id: pool, Delta: delta}); err != nil {
		t.Fatal(err)
	}
}

// deleteNodes is what Cluster Autoscaler asks for, by provider ids or placeholders.
func (p *process) deleteNodes(ctx context.Context, pool string, ids ...string) error {
	request := &externalgrpc.NodeGroupDeleteNodesRequest{Id: pool}
	for _, id := range ids {
		request.Nodes = append(request.Nodes, &externalgrpc.ExternalGrpcNode{Name: id, ProviderID: id})
	}
	_, err := p.Server.NodeGroupDeleteNodes(ctx, request)
	return err
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// state is what a user sees of a pool.
type state struct {
	pool v1alpha1.NodePool
	// machines and instances are by their names, nodes by theirs.
	machines  map[string]*v1alpha1.PoolMachine
	instances map[string]*v1alpha1.KwokInstance
	nodes     map[string]*corev1.Node
	ready     []string
}

// look has what remains of a pool also where the error is that there is none.
func look(ctx context.Context, name string) (*state, error) {
	s := &state{machines: map[string]*v1alpha1.PoolMachine{}, instances: map[string]*v1alpha1.KwokInstance{}, nodes: map[string]*corev1.Node{}}
	labels := client.MatchingLabels{v1alpha1.LabelNodePool: name}
	var machines v1alpha1.PoolMachineList
	var instances v1alpha1.KwokInstanceList
	var nodes corev1.NodeList
	if err := errors.Join(
		cluster.Client.List(ctx, &instances, labels), cluster.Client.List(ctx, &machines, labels), cluster.Client.List(ctx, &nodes, labels),
	); err != nil {
		return nil, err
	}
	for i := range machines.Items {
		s.machines[machines.Items[i].Name] = &machines.Items[i]
	}
	for i := range instances.Items {
		s.instances[instances.Items[i].Name] = &instances.Items[i]
	}
	for i := range nodes.Items {
		node := &nodes.Items[i]
		s.nodes[node.Name] = node
		if slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		}) {
			s.ready = append(s.ready, node.Name)
		}
	}
	slices.Sort(s.ready)
	return s, cluster.Client.Get(ctx, client.ObjectKey{Name: name}, &s.pool)
}

// lacksNodes says what keeps a pool from having so many Ready nodes, and nothing on its way.
func (s *state) lacksNodes(nodes int) string {
	spec, status := &s.pool.Spec, &s.pool.Status
	if len(s.ready) != nodes || len(s.nodes) != nodes || len(s.machines) != nodes || len(s.instances) != nodes ||
		int(spec.Replicas) != nodes ||
		len(spec.MachinesToDelete) > 0 || int(status.Ready) != nodes || int(status.Replicas) != nodes {
		return fmt.Sprintf("%d nodes are expected: Ready %v, %d nodes, %d machines, %d instances, target %d, to delete %v, status %d Ready of %d",
			nodes, s.ready, len(s.nodes), len(s.machines), len(s.instances), spec.Replicas, spec.MachinesToDelete, status.Ready, status.Replicas)
	}
	return ""
}

// await waits until nothing is missing of what is seen of a pool.
func await(t *testing.T, name string, missing func(*state) string) *state {
	t.Helper()
	var s *state
	inprocess.Until(t, func(ctx context.Context) (_ string, err error) {
		if s, err = look(ctx, name); err != nil {
			return "", err
		}
		return missing(s), nil
	})
	return s
}

// hasNodes waits until a pool has so many Ready nodes, and nothing on its way.
func hasNodes(t *testing.T, name string, nodes int) *state {
	t.Helper()
	return await(t, name, func(s *state) string { return s.lacksNodes(nodes) })
}

// edit changes a NodePool as a user does.
func edit(t *testing.T, name string, change func(*v1alpha1.NodePool)) {
	t.Helper()
	var p v1alpha1.NodePool
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Name: name}, &p); err != nil {
		t.Fatal(err)
	}
	patch := client.MergeFrom(p.DeepCopy())
	change(&p)
	if err := cluster.Client.Patch(t.Context(), &p, patch); err != nil {
		t.Fatal(err)
	}
}

// purge removes all that tests have left, as it is.
func purge(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, list := range []client.ObjectList{
		&v1alpha1.EnsembleMemberList{}, &corev1.PodList{}, &v1alpha1.NodePoolList{},
		&v1alpha1.PoolMachineList{}, &v1alpha1.KwokInstanceList{}, &corev1.NodeList{},
	} {
		if err := cluster.Client.List(ctx, list); err != nil {
			t.Fatal(err)
		}
		for _, object := range objectsOf(list) {
			err := cluster.Client.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))
			if err = errors.Join(client.IgnoreNotFound(err),
				client.IgnoreNotFound(cluster.Client.Delete(ctx, object, client.GracePeriodSeconds(0)))); err != nil {
				t.Error(err)
			}
		}
	}
}

func objectsOf(list client.ObjectList) []client.Object {
	var out []client.Object
	_ = meta.EachListItem(list, func(object runtime.Object) error {
		if of, is := object.(client.Object); is {
			out = append(out, of)
		}
		return nil
	})
	return out
}
