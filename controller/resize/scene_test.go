package resize

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/jobset"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/crew"
)

// scene is a MiniCluster m with a NodePool p, the reconciler, and what everybody else does, by hand.
type scene struct {
	*testing.T
	*Reconciler
	// world is the API server as the others see it: what they write does not count.
	world  client.WithWatch
	clock  *clocktesting.FakePassiveClock
	events *events.FakeRecorder
	told   []string
	// writes counts those of the reconciler without its events, status those of the member's status.
	writes, status atomic.Int64
	// due is when the reconciler has asked for its next pass; zero for not at all.
	due time.Time
}

var mine = types.NamespacedName{Namespace: "ns", Name: "m"}

func newScene(t *testing.T, size int) *scene {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	kind := minicluster.GroupVersionKind
	for _, of := range []schema.GroupVersionKind{kind, crew.GroupVersionKind, jobset.GroupVersionKind} {
		scheme.AddKnownTypeWithName(of, &unstructured.Unstructured{})
		scheme.AddKnownTypeWithName(of.GroupVersion().WithKind(of.Kind+"List"), &unstructured.UnstructuredList{})
	}
	s := &scene{T: t, clock: atNoon(), events: events.NewFakeRecorder(1000)}
	field := func(of func(*corev1.Event) string) client.IndexerFunc {
		return func(o client.Object) []string {
			e, is := o.(*corev1.Event)
			if !is {
				return nil
			}
			return []string{of(e)}
		}
	}
	world := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.EnsembleMember{}).
		WithIndex(&corev1.Event{}, "involvedObject.uid", field(func(e *corev1.Event) string { return string(e.InvolvedObject.UID) })).
		WithIndex(&corev1.Event{}, "reason", field(func(e *corev1.Event) string { return e.Reason })).Build()
	s.world = world
	metrics, err := NewMetrics(prometheus.NewRegistry(), s.clock)
	if err != nil {
		t.Fatal(err)
	}
	s.Reconciler = &Reconciler{
		Kinds:  member.Kinds{minicluster.Kind{}},
		Client: interceptor.NewClient(world, s.counting()), Live: world, Events: s.events, Clock: s.clock, Metrics: metrics,
		Pods: pods.New(crew.Kind{}.PodLabels()...),
	}
	s.begin()

	capacity := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourcePods: resource.MustParse("110")}
	s.create(&v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: v1alpha1.NodePoolSpec{
		MaxSize: 100, ProvisionTimeout: metav1.Duration{Duration: time.Hour}, Template: v1alpha1.NodeTemplate{Capacity: capacity},
	}})
	cluster := minicluster.New()
	cluster.SetNamespace(mine.Namespace)
	cluster.SetName(mine.Name)
	cluster.SetAnnotations(map[string]string{v1alpha1.AnnotationNodePools: "p"})
	cluster.Object["spec"] = map[string]any{"size": int64(size), "maxSize": int64(100), "containers": []any{
		map[string]any{"image": "i", "resources": map[string]any{"requests": map[string]any{"cpu": "3"}}},
	}}
	s.create(cluster)
	s.create(&batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: mine.Namespace, Name: mine.Name, OwnerReferences: []metav1.OwnerReference{
		*metav1.NewControllerRef(cluster, kind),
	}}, Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: containers()}}}})
	return s
}

func (s *scene) counting() interceptor.Funcs {
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			s.writes.Add(1)
			return c.Create(ctx, o, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			s.writes.Add(1)
			return c.Update(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			s.writes.Add(1)
			return c.Patch(ctx, o, p, opts...)
		},
		SubResourcePatch: func(
			ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption,
		) error {
			s.writes.Add(1)
			s.status.Add(1)
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	}
}

func containers() []corev1.Container {
	requests := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}
	return []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: requests}}}
}

func (s *scene) create(o client.Object) {
	s.Helper()
	o.SetUID(types.UID(fmt.Sprintf("%T/%s", o, o.GetName())))
	if err := s.world.Create(s.Context(), o); err != nil {
		s.Fatal(err)
	}
}

// hear lets the reconciler hear of all pods.
func (s *scene) hear() {
	s.Helper()
	var list corev1.PodList
	if err := s.world.List(s.Context(), &list); err != nil {
		s.Fatal(err)
	}
	catchUp(s.observer.ledger.store, list.Items)
}

// sees is what a pass would plan with for the member.
func (s *scene) sees() *plan.Member {
	s.Helper()
	s.hear()
	seen, err := s.observer.observe(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	observed := seen.values()
	for i := range observed.Members {
		if observed.Members[i].Key == mine {
			return &observed.Members[i]
		}
	}
	s.Fatal("there is no member")
	return nil
}

// pass lets the reconciler run once.
func (s *scene) pass() {
	s.Helper()
	s.hear()
	result, err := s.Reconcile(s.Context(), everything)
	if err != nil {
		s.Fatal(err)
	}
	s.due = time.Time{}
	if result.RequeueAfter > 0 {
		s.due = s.clock.Now().Add(result.RequeueAfter)
	}
	for len(s.events.Events) > 0 {
		s.told = append(s.told, <-s.events.Events)
	}
}

// settle lets it run until it has nothing to write.
func (s *scene) settle() {
	s.Helper()
	for before := int64(-1); s.writes.Load() != before; {
		before = s.writes.Load()
		s.pass()
	}
}

// after lets time pass without an event, and then the reconciler run if it has asked for that.
func (s *scene) after(d time.Duration) {
	s.Helper()
	s.clock.SetTime(s.clock.Now().Add(d))
	if !s.due.IsZero() && !s.clock.Now().Before(s.due) {
		s.pass()
	}
}

// node makes a Ready node that says of itself that it is of the pool.
func (s *scene) node(n int) *corev1.Node {
	s.Helper()
	name := fmt.Sprintf("n-%d", n)
	capacity := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourcePods: resource.MustParse("110")}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, CreationTimestamp: metav1.NewTime(s.clock.Now()),
			Labels: map[string]string{v1alpha1.LabelNodePool: "p", corev1.LabelHostname: name},
		},
		Spec: corev1.NodeSpec{ProviderID: "cloud://" + name},
		Status: corev1.NodeStatus{
			Capacity: capacity, Allocatable: capacity, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
	s.create(node)
	return node
}

// provide makes nodes with their machines.
func (s *scene) provide(from, to int) {
	s.Helper()
	for n := from; n < to; n++ {
		machine := machineOf(s.node(n))
		machine.ResourceVersion = ""
		s.create(&machine)
	}
}

// machine changes the machine of a node.
func (s *scene) machine(n int, change func(*v1alpha1.PoolMachine)) {
	s.Helper()
	machine := &v1alpha1.PoolMachine{}
	if err := s.world.Get(s.Context(), types.NamespacedName{Name: fmt.Sprintf("machine-of-n-%d", n)}, machine); err != nil {
		s.Fatal(err)
	}
	change(machine)
	if err := s.world.Update(s.Context(), machine); err != nil {
		s.Fatal(err)
	}
}

// pods makes gated pods with the ranks, as their Job does.
func (s *scene) pods(from, to int) {
	s.Helper()
	job := &batchv1.Job{}
	if err := s.world.Get(s.Context(), mine, job); err != nil {
		s.Fatal(err)
	}
	for rank := from; rank < to; rank++ {
		s.create(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: mine.Namespace, Name: fmt.Sprintf("m-%d", rank),
				Labels:          map[string]string{batchv1.JobCompletionIndexAnnotation: fmt.Sprint(rank), v1alpha1.LabelMember: mine.Name},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))},
			},
			Spec: corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}}, Containers: containers()},
		})
	}
}

// bind is the scheduler: released pods go to their nodes. It returns how many.
func (s *scene) bind() int {
	s.Helper()
	var pods corev1.PodList
	if err := s.world.List(s.Context(), &pods); err != nil {
		s.Fatal(err)
	}
	bound := 0
	for i := range pods.Items {
		pod := &pods.Items[i]
		if len(pod.Spec.SchedulingGates) > 0 || pod.Spec.NodeName != "" {
			continue
		}
		pod.Spec.NodeName, pod.Status.Phase = pod.Annotations[v1alpha1.AnnotationNode], corev1.PodRunning
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		s.update(pod)
		bound++
	}
	return bound
}

// update writes an object and its status.
func (s *scene) update(o client.Object) {
	s.Helper()
	status, is := o.DeepCopyObject().(client.Object)
	if !is {
		s.Fatalf("%T is no object", o)
	}
	if err := s.world.Update(s.Context(), o); err != nil {
		s.Fatal(err)
	}
	status.SetResourceVersion(o.GetResourceVersion())
	if err := s.world.Status().Update(s.Context(), status); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) remove(o client.Object) {
	s.Helper()
	if err := s.world.Delete(s.Context(), o); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) desire(size int32) {
	s.Helper()
	m := s.member()
	m.Spec.Size = size
	m.Generation++
	if err := s.world.Update(s.Context(), m); err != nil {
		s.Fatal(err)
	}
}

func (s *scene) member() *v1alpha1.EnsembleMember {
	s.Helper()
	m := &v1alpha1.EnsembleMember{}
	if err := s.world.Get(s.Context(), mine, m); err != nil {
		s.Fatal(err)
	}
	return m
}

func (s *scene) size() int64 {
	s.Helper()
	cluster := minicluster.New()
	if err := s.world.Get(s.Context(), mine, cluster); err != nil {
		s.Fatal(err)
	}
	size, _, err := unstructured.NestedInt64(cluster.Object, "spec", "size")
	if err != nil {
		s.Fatal(err)
	}
	return size
}

// held names the nodes that the member's status lists.
func (s *scene) held() []string {
	s.Helper()
	var held []string
	for _, r := range s.member().Status.Reservations {
		held = append(held, r.Held...)
	}
	return held
}

// ready is what the member's Ready condition says.
func (s *scene) ready() string {
	s.Helper()
	c := meta.FindStatusCondition(s.member().Status.Conditions, v1alpha1.ConditionReady)
	if c == nil {
		return ""
	}
	return string(c.Status) + ": " + c.Message
}

// toldOf are the events of a reason so far.
func (s *scene) toldOf(reason string) []string {
	return slices.DeleteFunc(slices.Clone(s.told), func(e string) bool { return !strings.Contains(e, " "+reason+" ") })
}

// run brings a new scene to where its pods run on as many nodes.
func (s *scene) run(size int) {
	s.Helper()
	s.pods(0, size)
	s.settle()
	s.provide(0, size)
	s.settle()
	if bound := s.bind(); bound != size {
		s.Fatalf("%d of %d pods were released: %s", bound, size, s.ready())
	}
	s.settle()
	if got, want := s.ready(), fmt.Sprintf("True: at size %d", size); got != want {
		s.Fatalf("Ready is %q, not %q", got, want)
	}
}

// edit writes a size into the MiniCluster, as its user does.
func (s *scene) edit(size int64) {
	s.Helper()
	cluster := minicluster.New()
	if err := s.world.Get(s.Context(), mine, cluster); err != nil {
		s.Fatal(err)
	}
	if err := unstructured.SetNestedField(cluster.Object, size, "spec", "size"); err != nil {
		s.Fatal(err)
	}
	cluster.SetGeneration(cluster.GetGeneration() + 1)
	if err := s.world.Update(s.Context(), cluster); err != nil {
		s.Fatal(err)
	}
}

func metaOf(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

// metaIn is that of an object in the namespace of the scene.
func metaIn(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: mine.Namespace, Name: name}
}
