package planned_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/planned"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/whatif"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane/controlplanetest"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/fluxoperator/crd"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/estate"
)

// What BenchmarkOfMember fills a cluster with: ten nodes for each member, of which it is on nine.
const (
	benchPools   = 100
	benchSize    = 9
	perMember    = 10
	answerWithin = 5 * time.Second
)

// BenchmarkOfMember answers from a real API server, of which the larger has 1,000 members, 100 pools and 10,000 nodes: what is read,
// decoded and planned. An answer within five seconds is what is promised on idle cores. Filling the larger takes some minutes and is not
// counted:
//
//	go test ./cmd/kubectl-ensemble/internal/planned -run '^$' -bench OfMember -benchtime 5x
func BenchmarkOfMember(b *testing.B) {
	for _, members := range []int{100, 1000} {
		b.Run(fmt.Sprintf("members=%d/nodes=%d", members, members*perMember), func(b *testing.B) { benchmarkOfMember(b, members) })
	}
}

func benchmarkOfMember(b *testing.B, members int) {
	b.Helper()
	c := newServer(b)("")
	fill(b, c, members)
	key := types.NamespacedName{Namespace: "default", Name: "m-50"}
	for b.Loop() {
		answer, err := planned.OfMember(b.Context(), c, clock.RealClock{}, key, whatif.Change{Grow: 6})
		if err != nil {
			b.Fatal(err)
		}
		if answer.Outcome != whatif.Granted || answer.Pools[0].Before != benchSize || answer.Pools[0].After != benchSize+6 {
			b.Fatalf("%+v", answer)
		}
	}
	if each := b.Elapsed() / time.Duration(b.N); each > answerWithin {
		b.Errorf("an answer takes %s, want at most %s", each, answerWithin)
	}
}

// newServer starts an API server that knows our kinds and MiniClusters. It returns what makes clients of it: of a user, or of the
// administrator with "".
func newServer(t testing.TB) (as func(user string) client.Client) {
	t.Helper()
	plane := controlplanetest.Start(t, controlplane.Options{})
	admin := plane.AdminConfig()
	admin.QPS = -1
	definition, scheme := &apiextensionsv1.CustomResourceDefinition{}, runtime.NewScheme()
	if err := errors.Join(
		yaml.UnmarshalStrict(crd.MiniClusters, definition), clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme),
	); err != nil {
		t.Fatal(err)
	}
	if _, err := envtest.InstallCRDs(admin, envtest.CRDInstallOptions{
		MaxTime: time.Minute,
		Paths:   []string{"../../../../manifests/crd"}, CRDs: []*apiextensionsv1.CustomResourceDefinition{definition}, ErrorIfPathMissing: true,
	}); err != nil {
		t.Fatal(err)
	}
	return func(user string) client.Client {
		t.Helper()
		config := rest.CopyConfig(admin)
		config.Impersonate.UserName = user
		transport, err := rest.HTTPClientFor(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(transport.CloseIdleConnections)
		c, err := client.New(config, client.Options{HTTPClient: transport, Scheme: scheme})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// written creates an object, and writes its status.
func written[T client.Object](ctx context.Context, c client.Client, object T, status func(T)) error {
	if err := c.Create(ctx, object); err != nil {
		return err
	}
	if status == nil {
		return nil
	}
	status(object)
	return c.Status().Update(ctx, object)
}

func fill(b *testing.B, c client.Client, members int) {
	b.Helper()
	filler := &estate.Filler{Client: c, Progress: os.Stderr}
	poolName := func(n int) string { return fmt.Sprintf("pool-%d", n%benchPools) }
	nodeName := func(n int) string { return fmt.Sprintf("node-%d", n) }
	// A node n below members × size is one of member n / size.
	poolOf := func(n int) string {
		if n < members*benchSize {
			return poolName(n / benchSize)
		}
		return poolName(n)
	}
	ctx := b.Context()
	for _, step := range []struct {
		what  string
		count int
		do    func(context.Context, int) error
	}{
		{"pools", benchPools, func(ctx context.Context, n int) error {
			return c.Create(ctx, &v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: poolName(n)}, Spec: v1alpha1.NodePoolSpec{
				MaxSize: 1000, Replicas: 100, Template: v1alpha1.NodeTemplate{Capacity: capacity()},
				ProvisionTimeout: metav1.Duration{Duration: 15 * time.Minute},
				PricePerHour:     new(resource.MustParse("1.50")), Machines: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
			}})
		}},
		{"nodes", members * perMember, func(ctx context.Context, n int) error { return createNode(ctx, c, nodeName(n), poolOf(n), "") }},
		{"members", members, func(ctx context.Context, n int) error { return fillMember(ctx, c, n, poolName(n), nodeName) }},
	} {
		if err := filler.Each(ctx, step.what, step.count, step.do); err != nil {
			b.Fatal(err)
		}
	}
}

// capacity is that of every node.
func capacity() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
		corev1.ResourcePods: resource.MustParse("110"),
	}
}

// createNode creates a Ready node of a pool, with the record of its machine, which has the same name. A member holds it; empty for none.
func createNode(ctx context.Context, c client.Client, name, pool, holder string) error {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.LabelNodePool: pool, corev1.LabelHostname: name}},
		Spec:       corev1.NodeSpec{ProviderID: "kwok://" + name},
	}
	if err := written(ctx, c, node, func(node *corev1.Node) {
		node.Status = corev1.NodeStatus{Capacity: capacity(), Allocatable: capacity(), Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue},
		}}
	}); err != nil {
		return err
	}
	// The API server gives each new node the taint of one that is not Ready; somebody else takes it off.
	node.Spec.Taints = nil
	if holder != "" {
		node.Annotations = map[string]string{v1alpha1.AnnotationHeldBy: holder}
	}
	if err := c.Update(ctx, node); err != nil {
		return err
	}
	machine := &v1alpha1.PoolMachine{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PoolMachineSpec{
		NodePool: pool, Purpose: v1alpha1.PurposeReservation, Order: v1alpha1.MachineOrder{ID: "floor", Size: 1},
		OrderedAt: metav1.NowMicro(),
		Template:  v1alpha1.NodeTemplate{Capacity: capacity()}, Machines: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
	}}
	return written(ctx, c, machine, func(m *v1alpha1.PoolMachine) {
		m.Status = v1alpha1.PoolMachineStatus{ProviderID: "kwok://" + name, NodeName: name, Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Ready", LastTransitionTime: metav1.Now()},
		}}
	})
}

// createMember creates a MiniCluster of a size with its member, which has a reservation. It returns the metadata that the Job would have.
func createMember(
	ctx context.Context, c client.Client, key types.NamespacedName, size int32, reserved v1alpha1.Reservation,
) (metav1.ObjectMeta, error) {
	meta := metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}
	cluster := minicluster.New()
	cluster.SetNamespace(meta.Namespace)
	cluster.SetName(meta.Name)
	cluster.SetAnnotations(
		map[string]string{v1alpha1.AnnotationNodePools: reserved.NodePool, v1alpha1.AnnotationAppliedSize: fmt.Sprint(size)},
	)
	cluster.Object["spec"] = map[string]any{"size": int64(size), "maxSize": int64(100), "containers": []any{
		map[string]any{"image": "flux", "resources": map[string]any{"requests": map[string]any{"cpu": "3"}}},
	}}
	if err := c.Create(ctx, cluster); err != nil {
		return meta, err
	}
	meta.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(cluster, minicluster.GroupVersionKind)}
	member := &v1alpha1.EnsembleMember{
		ObjectMeta: meta, Spec: v1alpha1.EnsembleMemberSpec{Size: size, MinSize: 1, MaxSize: 100, NodePools: []string{reserved.NodePool}},
	}
	return meta, written(ctx, c, member, func(m *v1alpha1.EnsembleMember) {
		m.Status = v1alpha1.EnsembleMemberStatus{
			Size: size, Reserved: reserved.Nodes, Nodes: reserved.Nodes, Reservations: []v1alpha1.Reservation{reserved},
		}
	})
}

// fillMember creates a MiniCluster with its member, its Job and its pods.
func fillMember(ctx context.Context, c client.Client, n int, pool string, nodeName func(int) string) error {
	var held []string
	for rank := range benchSize {
		held = append(held, nodeName(n*benchSize+rank))
	}
	key := types.NamespacedName{Namespace: "default", Name: fmt.Sprintf("m-%d", n)}
	meta, err := createMember(ctx, c, key, benchSize, v1alpha1.Reservation{NodePool: pool, Nodes: benchSize, Held: held})
	if err != nil {
		return err
	}
	return createPods(ctx, c, meta, held)
}

// createPods creates the Job of a member, and a pod that runs on each of some nodes. meta is the Job's.
func createPods(ctx context.Context, c client.Client, meta metav1.ObjectMeta, nodes []string) error {
	containers := []corev1.Container{
		{
			Name: "flux", Image: "flux",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}},
		},
	}
	size := int32(len(nodes))
	job := &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{
		Completions: &size, Parallelism: &size, CompletionMode: ptr.To(batchv1.IndexedCompletion),
		Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: containers, RestartPolicy: corev1.RestartPolicyNever}},
	}}
	if err := c.Create(ctx, job); err != nil {
		return err
	}
	for rank, node := range nodes {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: meta.Namespace, Name: fmt.Sprintf("%s-%d", meta.Name, rank),
				Labels:          map[string]string{batchv1.JobCompletionIndexAnnotation: fmt.Sprint(rank), v1alpha1.LabelMember: meta.Name},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))},
			},
			Spec: corev1.PodSpec{Containers: containers, NodeName: node, RestartPolicy: corev1.RestartPolicyNever},
		}
		if err := written(ctx, c, pod, func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Conditions = corev1.PodRunning, []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}); err != nil {
			return err
		}
	}
	return nil
}
