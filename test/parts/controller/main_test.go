package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/endpoint"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// cluster is what all tests here run on. TestMain sets it once.
var cluster inprocess.Cluster

func TestMain(m *testing.M) { inprocess.Main(m, &cluster, controlplane.All) }

// process is a controller that runs in this process.
type process struct {
	*inprocess.Mortal
	server  *endpoint.Server
	metrics *prometheus.Registry
}

// audience is the one that tokens have to be for.
const audience = "ensemble-autoscaler-test"

// start starts a controller that dies when it is about to make the write after so many; a negative number is none.
func start(t *testing.T, most int64) *process {
	t.Helper()
	return startWith(t, most, endpoint.Rate{})
}

func startWith(t *testing.T, most int64, rate endpoint.Rate) *process {
	t.Helper()
	return startKinds(t, most, rate, member.Kinds{minicluster.Kind{}})
}

// startKinds starts one that manages workloads of some kinds.
func startKinds(t *testing.T, most int64, rate endpoint.Rate, kinds member.Kinds) *process {
	t.Helper()
	c := cluster.StartController(t, most, inprocess.ControllerOptions{
		Kinds: kinds, Rate: rate, Audience: audience,
	})
	return &process{Mortal: c.Mortal, server: c.Server, metrics: c.Metrics}
}

// scene is a MiniCluster with a pool of its own, and what the provider and the Flux Operator do for it.
type scene struct {
	*testing.T
	key types.NamespacedName
	// outOfStock is set while no nodes can be had.
	outOfStock bool
	// podCPU is what a pod requests; empty is 3 of the 4 cores of a node.
	podCPU string
	// unnamed is set while the provider has not written which node a machine has, but its provider id.
	unnamed bool
}

func newScene(t *testing.T, name string, size int) *scene {
	t.Helper()
	x := &scene{T: t, key: types.NamespacedName{Namespace: corev1.NamespaceDefault, Name: name}}
	pool := &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.NodePoolSpec{
			MaxSize: 8, ProvisionTimeout: metav1.Duration{Duration: time.Hour},
			Template: v1alpha1.NodeTemplate{Capacity: capacity()},
			Machines: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
		},
	}
	if err := cluster.Client.Create(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	x.create(size)
	return x
}

// create creates the MiniCluster.
func (x *scene) create(size int) {
	x.Helper()
	object := x.object()
	object.SetAnnotations(map[string]string{v1alpha1.AnnotationNodePools: x.key.Name})
	object.Object["spec"] = map[string]any{
		"size": int64(size), "minSize": int64(1), "maxSize": int64(6),
		"containers": []any{map[string]any{"image": "i", "runFlux": true}},
	}
	if err := cluster.Client.Create(x.Context(), object); err != nil {
		x.Fatal(err)
	}
}

// object is the MiniCluster without what is in it.
func (x *scene) object() *unstructured.Unstructured {
	object := minicluster.New()
	object.SetNamespace(x.key.Namespace)
	object.SetName(x.key.Name)
	return object
}

func capacity() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
		corev1.ResourcePods: resource.MustParse("110"),
	}
}

// seen is what a user sees of a scene.
type seen struct {
	cluster *unstructured.Unstructured
	size    int
	member  *v1alpha1.EnsembleMember
	running int
	pods    int
}

// look reads everything, and does what the provider and the Flux Operator do: as many nodes as are reserved, and
// a Job of the size of the MiniCluster.
func (x *scene) look(ctx context.Context) (*seen, error) {
	s := &seen{cluster: minicluster.New(), member: &v1alpha1.EnsembleMember{}}
	switch err := cluster.Client.Get(ctx, x.key, s.cluster); {
	case apierrors.IsNotFound(err):
		s.cluster = nil
	case err != nil:
		return nil, err
	default:
		size, _, err := unstructured.NestedInt64(s.cluster.Object, "spec", "size")
		if err != nil {
			return nil, err
		}
		s.size = int(size)
	}
	switch err := cluster.Client.Get(ctx, x.key, s.member); {
	case apierrors.IsNotFound(err):
		s.member = nil
	case err != nil:
		return nil, err
	}
	if err := errors.Join(x.provide(ctx, s), x.operate(ctx, s)); err != nil {
		return nil, err
	}
	var pods corev1.PodList
	if err := cluster.Client.List(
		ctx, &pods, client.InNamespace(x.key.Namespace), client.MatchingLabels{batchv1.JobNameLabel: x.key.Name},
	); err != nil {
		return nil, err
	}
	for i := range pods.Items {
		s.pods++
		if pods.Items[i].Status.Phase == corev1.PodRunning && pods.Items[i].DeletionTimestamp == nil {
			s.running++
		}
	}
	return s, nil
}

func (x *scene) provide(ctx context.Context, s *seen) error {
	if s.member == nil || x.outOfStock {
		return nil
	}
	for n := range int(s.member.Status.Reserved) {
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{
				Name: x.key.Name + "-" + strconv.Itoa(n),
				Labels: map[string]string{
					v1alpha1.LabelNodePool: x.key.Name, corev1.LabelHostname: x.key.Name + "-" + strconv.Itoa(n),
				},
				Annotations: map[string]string{controlplane.NodeAnnotation: controlplane.NodeAnnotationValue},
			},
			Spec:   corev1.NodeSpec{ProviderID: providerID(x.key.Name + "-" + strconv.Itoa(n))},
			Status: corev1.NodeStatus{Capacity: capacity(), Allocatable: capacity()},
		}
		if err := cluster.Client.Create(ctx, node); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		if err := x.vouch(ctx, node.Name); err != nil {
			return err
		}
	}
	return nil
}

func providerID(node string) string { return "test://" + node }

// vouch makes the record of a machine whose node that is, as the provider has one for each.
func (x *scene) vouch(ctx context.Context, node string) error {
	machine := &v1alpha1.PoolMachine{
		ObjectMeta: metav1.ObjectMeta{Name: node, Labels: map[string]string{v1alpha1.LabelNodePool: x.key.Name}},
		Spec: v1alpha1.PoolMachineSpec{
			NodePool: x.key.Name, Purpose: v1alpha1.PurposeReservation, Order: v1alpha1.MachineOrder{ID: "floor", Size: 1},
			OrderedAt: metav1.NowMicro(), TemplateHash: "0", Template: v1alpha1.NodeTemplate{Capacity: capacity()},
			Machines: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
		},
	}
	if err := cluster.Client.Create(ctx, machine); err != nil {
		return client.IgnoreAlreadyExists(err)
	}
	machine.Status.ProviderID = providerID(node)
	if !x.unnamed {
		machine.Status.NodeName = node
	}
	return cluster.Client.Status().Update(ctx, machine)
}

func (x *scene) operate(ctx context.Context, s *seen) error {
	if s.cluster == nil {
		return nil
	}
	size := int32(s.size)
	job := &batchv1.Job{}
	err := cluster.Client.Get(ctx, x.key, job)
	switch {
	case apierrors.IsNotFound(err):
		job = &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: x.key.Namespace, Name: x.key.Name,
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s.cluster, minicluster.GroupVersionKind)},
			},
			Spec: batchv1.JobSpec{
				CompletionMode: new(batchv1.IndexedCompletion), Completions: &size, Parallelism: &size,
				// The gate is what the policy of manifests/controller/gates.yaml adds.
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{
					Labels: map[string]string{v1alpha1.LabelMember: x.key.Name},
				}, Spec: corev1.PodSpec{
					SchedulingGates: []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}},
					RestartPolicy:   corev1.RestartPolicyNever,
					NodeSelector:    map[string]string{v1alpha1.LabelNodePool: x.key.Name},
					Containers: []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{
						Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cmp.Or(x.podCPU, "3"))},
					}}},
				}},
			},
		}
		err := cluster.Client.Create(ctx, job)
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	case err != nil:
		return err
	case *job.Spec.Parallelism != size && job.DeletionTimestamp == nil:
		job.Spec.Parallelism, job.Spec.Completions = &size, &size
		err := cluster.Client.Update(ctx, job)
		if apierrors.IsConflict(err) {
			return nil
		}
		return err
	}
	return nil
}

// until waits until nothing is missing. alive, where it is not nil, is called before each look.
func (x *scene) until(missing func(*seen) string, alive func()) {
	x.Helper()
	inprocess.Until(x.T, func(ctx context.Context) (string, error) {
		if alive != nil {
			alive()
		}
		s, err := x.look(ctx)
		if err != nil {
			return "", err
		}
		return missing(s), nil
	})
}

// notAtSize says what keeps a scene from having a size and nothing left to do.
func notAtSize(s *seen, size int) string {
	switch {
	case s.member == nil:
		return "there is no member"
	case s.size != size || s.pods != size || s.running != size:
		return fmt.Sprintf(
			"the MiniCluster has size %d and %d of %d pods Running, not %d: %s", s.size, s.running, s.pods, size, message(s.member),
		)
	case int(s.member.Spec.Size) != size || int(s.member.Status.Reserved) != size || held(s.member) != size || s.member.Status.Growth != nil:
		return fmt.Sprintf("the member wants %d, has reserved %d and holds %d, not %d: %s",
			s.member.Spec.Size, s.member.Status.Reserved, held(s.member), size, message(s.member))
	case !ready(s.member):
		return "the member is not Ready: " + message(s.member)
	}
	return ""
}

func held(m *v1alpha1.EnsembleMember) int {
	count := 0
	for i := range m.Status.Reservations {
		count += len(m.Status.Reservations[i].Held)
	}
	return count
}

func ready(m *v1alpha1.EnsembleMember) bool {
	for _, c := range m.Status.Conditions {
		if c.Type == v1alpha1.ConditionReady {
			return c.Status == metav1.ConditionTrue && c.ObservedGeneration == m.Generation
		}
	}
	return false
}

func message(m *v1alpha1.EnsembleMember) string {
	for _, c := range m.Status.Conditions {
		if c.Type == v1alpha1.ConditionReady {
			return c.Message
		}
	}
	return ""
}
