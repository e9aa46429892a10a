package faults

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// cluster is the API server of the tests that run the provider in this process, with kwok for kubelets. TestMain sets
// it once.
var cluster inprocess.Cluster

// sideBySide is how many tests run at a time unless -parallel says otherwise. They wait more than they compute.
const sideBySide = "8"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", sideBySide); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	inprocess.Main(m, &cluster, controlplane.Kwok)
}

// provider is a provider that runs in this process and knows of one NodePool only, so that many can run side by side.
type provider struct {
	*inprocess.Mortal
	server *server.CloudProvider
}

// settings say how a provider runs. The zero value is one that never dies, reconciles, and has a good network.
type settings struct {
	// kill is the number of writes after which it dies, where dies is set.
	kill int64
	dies bool
	// follower does not lead: it serves, and reconciles nothing.
	follower bool
	// network is between the provider and the API server, nil for a good one.
	network *lag
}

// start starts a provider for the pool of that name.
func start(t *testing.T, name string, s settings) *provider {
	t.Helper()
	most := int64(-1)
	if s.dies {
		most = s.kill
	}
	c := cluster
	if s.network != nil {
		c.Config = rest.CopyConfig(c.Config)
		c.Config.Wrap(s.network.wrap)
	}
	ofPool := labels.SelectorFromSet(labels.Set{v1alpha1.LabelNodePool: name})
	mgr := c.NewMortal(t, most, manager.Options{Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
		&v1alpha1.NodePool{}:     {Field: fields.OneTermEqualSelector("metadata.name", name)},
		&v1alpha1.PoolMachine{}:  {Label: ofPool},
		&v1alpha1.KwokInstance{}: {Label: ofPool},
		&corev1.Node{}:           {Label: ofPool},
		// What uses the pool is in the namespace of its name.
		&corev1.Pod{}:              {Namespaces: map[string]cache.Config{name: {}}},
		&v1alpha1.EnsembleMember{}: {Namespaces: map[string]cache.Config{name: {}}},
	}}})
	made := inprocess.AddProvider(t, mgr, inprocess.ProviderOptions{ServesAlone: s.follower})
	mgr.Run(
		t, made.Server.Announce, &v1alpha1.NodePool{}, &v1alpha1.PoolMachine{}, &v1alpha1.KwokInstance{}, &v1alpha1.EnsembleMember{},
		&corev1.Node{}, &corev1.Pod{},
	)
	return &provider{Mortal: mgr, server: made.Server}
}

// target is the target size that the provider tells Cluster Autoscaler.
func (p *provider) target(ctx context.Context, name string) (int32, error) {
	answer, err := p.server.NodeGroupTargetSize(ctx, &externalgrpc.NodeGroupTargetSizeRequest{Id: name})
	return answer.GetTargetSize(), err
}

func (p *provider) increase(ctx context.Context, name string, delta int32) error {
	_, err := p.server.NodeGroupIncreaseSize(ctx, &externalgrpc.NodeGroupIncreaseSizeRequest{Id: name, Delta: delta})
	return err
}

func (p *provider) decrease(ctx context.Context, name string, delta int32) error {
	_, err := p.server.NodeGroupDecreaseTargetSize(ctx, &externalgrpc.NodeGroupDecreaseTargetSizeRequest{Id: name, Delta: delta})
	return err
}

func (p *provider) deleteNodes(ctx context.Context, name string, nodes ...string) error {
	request := deletionOf(name, nodes...)
	// It names what never registered as it was listed: by a placeholder, while nothing else is known.
	answer, err := p.server.NodeGroupNodes(ctx, &externalgrpc.NodeGroupNodesRequest{Id: name})
	if err != nil {
		return err
	}
	for _, node := range request.GetNodes() {
		placeholder := nodegroup.Placeholder(name, node.GetName())
		if slices.ContainsFunc(answer.GetInstances(), func(i *externalgrpc.Instance) bool { return i.GetId() == placeholder }) {
			node.ProviderID = placeholder
		}
	}
	_, err = p.server.NodeGroupDeleteNodes(ctx, request)
	return err
}

// deletionOf is how Cluster Autoscaler asks for a deletion.
func deletionOf(name string, nodes ...string) *externalgrpc.NodeGroupDeleteNodesRequest {
	request := &externalgrpc.NodeGroupDeleteNodesRequest{Id: name}
	for _, node := range nodes {
		request.Nodes = append(request.Nodes, &externalgrpc.ExternalGrpcNode{
			Name: node, ProviderID: "kwok://" + name + "/" + node, Labels: map[string]string{v1alpha1.LabelNodePool: name},
		})
	}
	return request
}

// instances are the states of the machines, by machine, as the provider lists them for Cluster Autoscaler.
func (p *provider) instances(ctx context.Context, name string) (map[externalgrpc.InstanceStatus_InstanceState]int, error) {
	answer, err := p.server.NodeGroupNodes(ctx, &externalgrpc.NodeGroupNodesRequest{Id: name})
	if err != nil {
		return nil, err
	}
	count := map[externalgrpc.InstanceStatus_InstanceState]int{}
	for _, instance := range answer.GetInstances() {
		count[instance.GetStatus().GetInstanceState()]++
	}
	return count, nil
}

// nodePool is a pool of Cluster Autoscaler with at most 6 machines that boot at once.
func nodePool(name string) *v1alpha1.NodePool {
	return &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.NodePoolSpec{
			MaxSize: 6, Autoscaler: v1alpha1.AutoscalerClusterAutoscaler, ProvisionTimeout: metav1.Duration{Duration: time.Hour},
			Template: v1alpha1.NodeTemplate{Capacity: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
				corev1.ResourcePods: resource.MustParse("110"),
			}},
			Machines: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
		},
	}
}

// newPool creates a pool, and a namespace of its name for what uses it.
func newPool(t *testing.T, p *v1alpha1.NodePool) {
	t.Helper()
	create(t, p)
	create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: p.Name}})
}

func create(t *testing.T, object client.Object) {
	t.Helper()
	if err := cluster.Client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

// newMember makes a member without reservations that uses a pool.
func newMember(t *testing.T, nodePool, name string) *v1alpha1.EnsembleMember {
	t.Helper()
	m := &v1alpha1.EnsembleMember{
		// The controller marks a member with its pools.
		ObjectMeta: metav1.ObjectMeta{Namespace: nodePool, Name: name, Labels: map[string]string{v1alpha1.MemberPoolLabel(nodePool): ""}},
		Spec:       v1alpha1.EnsembleMemberSpec{Size: 1, MinSize: 1, MaxSize: 10, NodePools: []string{nodePool}},
	}
	create(t, m)
	return m
}

// reserve is what the controller does: it claims nodes of a pool and says which ones are held.
func reserve(t *testing.T, m *v1alpha1.EnsembleMember, nodes int32, held ...string) {
	t.Helper()
	m.Status.Reservations = nil
	if nodes > 0 {
		m.Status.Reservations = []v1alpha1.Reservation{{NodePool: m.Spec.NodePools[0], Nodes: nodes, Held: held}}
	}
	if err := cluster.Client.Status().Update(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// newPod puts a pod on a node, taints or not, as a scheduler that has decided a moment ago.
func newPod(t *testing.T, nodePool, name, node string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: nodePool, Name: name},
		Spec: corev1.PodSpec{
			NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}, Tolerations: []corev1.Toleration{
				{Operator: corev1.TolerationOpExists},
			},
		},
	}
	create(t, p)
	return p
}

// edit changes a pool as a user does, again when somebody else was faster.
func edit(ctx context.Context, c client.Client, name string, change func(*v1alpha1.NodePool)) error {
	for {
		var p v1alpha1.NodePool
		if err := c.Get(ctx, client.ObjectKey{Name: name}, &p); err != nil {
			return err
		}
		change(&p)
		if err := c.Update(ctx, &p); !apierrors.IsConflict(err) {
			return err
		}
	}
}

// sight is what a user sees of a pool.
type sight struct {
	pool     v1alpha1.NodePool
	machines map[string]*v1alpha1.PoolMachine
	nodes    map[string]*corev1.Node
	ready    []string
}

func look(ctx context.Context, c client.Client, name string) (*sight, error) {
	s := &sight{machines: map[string]*v1alpha1.PoolMachine{}, nodes: map[string]*corev1.Node{}}
	if err := c.Get(ctx, client.ObjectKey{Name: name}, &s.pool); err != nil {
		return nil, err
	}
	var machines v1alpha1.PoolMachineList
	var nodes corev1.NodeList
	ofPool := client.MatchingLabels{v1alpha1.LabelNodePool: name}
	if err := errors.Join(c.List(ctx, &machines, ofPool), c.List(ctx, &nodes, ofPool)); err != nil {
		return nil, err
	}
	for i := range machines.Items {
		s.machines[machines.Items[i].Name] = &machines.Items[i]
	}
	for i := range nodes.Items {
		s.nodes[nodes.Items[i].Name] = &nodes.Items[i]
		if history.Ready(&nodes.Items[i]) {
			s.ready = append(s.ready, nodes.Items[i].Name)
		}
	}
	slices.Sort(s.ready)
	return s, nil
}

// lacksNodes says what keeps a pool from having so many Ready nodes and nothing on its way.
func (s *sight) lacksNodes(nodes int) string {
	spec, status := &s.pool.Spec, &s.pool.Status
	if len(s.ready) != nodes || len(s.nodes) != nodes || len(s.machines) != nodes || int(spec.Replicas) != nodes ||
		len(spec.MachinesToDelete) > 0 || int(status.Ready) != nodes || int(status.Replicas) != nodes {
		return fmt.Sprintf("%d nodes are expected: Ready %v, machines %d, target %d, to delete %v, status %d Ready of %d",
			nodes, s.ready, len(s.machines), spec.Replicas, spec.MachinesToDelete, status.Ready, status.Replicas)
	}
	return ""
}

// hasNodes waits until a pool has so many Ready nodes and nothing on its way.
func hasNodes(t *testing.T, c client.Client, name string, nodes int) (s *sight) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (missing string, err error) {
		if s, err = look(ctx, c, name); err != nil {
			return "", err
		}
		return s.lacksNodes(nodes), nil
	})
	return s
}

// record records what happens from now until the end of the test, and checks the promises on what concerns the pools
// whose names begin with a word. Other tests go on beside it.
func record(t *testing.T, c client.WithWatch, pools string) {
	t.Helper()
	recorder, err := history.Start(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := recorder.Stop(); err != nil {
			t.Error(err)
		}
		events := slices.DeleteFunc(recorder.Events(), func(event history.Event) bool {
			return !strings.HasPrefix(poolOf(event.Object), pools)
		})
		if len(events) == 0 {
			t.Errorf("nothing was recorded of %s", pools)
		}
		for _, broken := range slices.Concat(history.Broken(events), history.Lost(events)) {
			t.Error(broken)
		}
	})
}

// poolOf is the pool that an object concerns, which the namespace is called after where it is in one.
func poolOf(object client.Object) string {
	if object.GetNamespace() != "" {
		return object.GetNamespace()
	}
	if pool := object.GetLabels()[v1alpha1.LabelNodePool]; pool != "" {
		return pool
	}
	return object.GetName()
}
