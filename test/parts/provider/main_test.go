package provider

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server"
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
	server *server.CloudProvider
}

// start starts a provider that dies when it is about to make the write after so many; a negative number is none.
func start(t *testing.T, most int64) *process {
	t.Helper()
	return startParts(t, most, inprocess.ProviderOptions{})
}

// startParts is start with options.
func startParts(t *testing.T, most int64, options inprocess.ProviderOptions) *process {
	t.Helper()
	mgr := cluster.NewMortal(t, most, manager.Options{})
	provider := inprocess.AddProvider(t, mgr, options)
	mgr.Run(t, provider.Server.Announce)
	return &process{Mortal: mgr, Provider: provider, server: provider.Server}
}

// newPool declares a NodePool of at most 5 machines that boot at once.
func newPool(t *testing.T, name string, autoscaler v1alpha1.Autoscaler, change ...func(*v1alpha1.NodePool)) *v1alpha1.NodePool {
	t.Helper()
	p := &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.NodePoolSpec{
			MaxSize: 5, Autoscaler: autoscaler, ProvisionTimeout: metav1.Duration{Duration: time.Minute},
			Template: v1alpha1.NodeTemplate{Capacity: resources("4", "16Gi", "110")},
			Machines: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
		},
	}
	for _, c := range change {
		c(p)
	}
	if err := cluster.Client.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p
}

// newMember makes an EnsembleMember without reservations.
func newMember(t *testing.T, name string) *v1alpha1.EnsembleMember {
	t.Helper()
	m := &v1alpha1.EnsembleMember{
		// The controller marks a member with its pools.
		ObjectMeta: metav1.ObjectMeta{
			Namespace: corev1.NamespaceDefault, Name: name, Labels: map[string]string{v1alpha1.MemberPoolLabel(name): ""},
		},
		Spec: v1alpha1.EnsembleMemberSpec{Size: 1, MinSize: 1, MaxSize: 10, NodePools: []string{name}},
	}
	if err := cluster.Client.Create(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// reserve is what the controller does: it claims nodes and says which ones are held.
func reserve(t *testing.T, m *v1alpha1.EnsembleMember, nodePool string, nodes int32, held ...string) {
	t.Helper()
	fresh := &v1alpha1.EnsembleMember{}
	if err := cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(m), fresh); err != nil {
		t.Fatal(err)
	}
	fresh.Status.Reservations = nil
	if nodes > 0 || len(held) > 0 {
		fresh.Status.Reservations = []v1alpha1.Reservation{{NodePool: nodePool, Nodes: nodes, Held: held}}
	}
	if err := cluster.Client.Status().Update(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
}

// settle puts a pod on a node.
func settle(t *testing.T, name, node string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceDefault, Name: name},
		Spec: corev1.PodSpec{
			NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}},
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		},
	}
	if err := cluster.Client.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p
}

// state is what a user sees of a pool.
type state struct {
	pool     v1alpha1.NodePool
	machines []string
	nodes    map[string]*corev1.Node
	ready    []string
}

func look(ctx context.Context, name string) (*state, error) {
	s := &state{nodes: map[string]*corev1.Node{}}
	if err := cluster.Client.Get(ctx, client.ObjectKey{Name: name}, &s.pool); err != nil {
		return nil, err
	}
	labels := client.MatchingLabels{v1alpha1.LabelNodePool: name}
	var machines v1alpha1.PoolMachineList
	if err := cluster.Client.List(ctx, &machines, labels); err != nil {
		return nil, err
	}
	for i := range machines.Items {
		s.machines = append(s.machines, machines.Items[i].Name)
	}
	var nodes corev1.NodeList
	if err := cluster.Client.List(ctx, &nodes, labels); err != nil {
		return nil, err
	}
	for i := range nodes.Items {
		node := &nodes.Items[i]
		s.nodes[node.Name] = node
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				s.ready = append(s.ready, node.Name)
			}
		}
	}
	return s, nil
}

// lacksNodes says what keeps a pool from having so many Ready nodes and nothing on its way.
func (s *state) lacksNodes(nodes int) string {
	spec, status := &s.pool.Spec, &s.pool.Status
	if len(s.ready) != nodes || len(s.nodes) != nodes || len(s.machines) != nodes || int(spec.Replicas) != nodes ||
		len(spec.MachinesToDelete) > 0 || int(status.Ready) != nodes || int(status.Replicas) != nodes {
		return fmt.Sprintf("%d nodes are expected: Ready %v, machines %v, target %d, to delete %v, status %d Ready of %d",
			nodes, s.ready, s.machines, spec.Replicas, spec.MachinesToDelete, status.Ready, status.Replicas)
	}
	return ""
}
