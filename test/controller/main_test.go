package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/endpoint"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/resize"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/fluxoperator/crd"
)

// cluster is what all tests here run on. TestMain sets it once.
var cluster struct {
	config *rest.Config
	client client.Client
	scheme *runtime.Scheme
}

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	code, err := withCluster(m.Run)
	if err == nil && code == 0 {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "controller:", err)
		code = 1
	}
	os.Exit(code)
}

func withCluster(run func() int) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	plane, err := controlplane.Start(ctx, controlplane.Options{Parts: controlplane.All, Progress: os.Stderr})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, plane.Stop()) }()
	cluster.config = plane.AdminConfig()
	cluster.config.QPS = -1
	definition := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(crd.MiniClusters, definition); err != nil {
		return 1, err
	}
	if _, err := envtest.InstallCRDs(cluster.config, envtest.CRDInstallOptions{
		Paths: []string{filepath.Join("..", "..", "manifests", "crd")}, ErrorIfPathMissing: true,
		CRDs: []*apiextensionsv1.CustomResourceDefinition{definition},
	}); err != nil {
		return 1, err
	}
	cluster.scheme = runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(cluster.scheme), v1alpha1.AddToScheme(cluster.scheme)); err != nil {
		return 1, err
	}
	transport, err := rest.HTTPClientFor(cluster.config)
	if err != nil {
		return 1, err
	}
	defer transport.CloseIdleConnections()
	if cluster.client, err = client.New(cluster.config, client.Options{Scheme: cluster.scheme, HTTPClient: transport}); err != nil {
		return 1, err
	}
	return run(), nil
}

// patience is how long anything may take on a busy machine.
const patience = time.Minute

// errKilled is what every write after the last returns.
var errKilled = errors.New("the controller was killed")

// process is a controller that runs in this process.
type process struct {
	server *endpoint.Server
	// writes counts its writes, and dead is closed when the last one that it may make was made.
	writes atomic.Int64
	dead   chan struct{}
	stop   func()
}

// start starts a controller that dies when it is about to make the write after so many; a negative number is none.
func start(t *testing.T, most int64) *process {
	t.Helper()
	p := &process{dead: make(chan struct{})}
	mgr, err := ctrl.NewManager(cluster.config, ctrl.Options{
		Scheme: cluster.scheme, Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: ctrlconfig.Controller{SkipNameValidation: new(true)},
		Client:     client.Options{Cache: &client.CacheOptions{Unstructured: true}},
		NewClient: func(config *rest.Config, options client.Options) (client.Client, error) {
			inner, err := client.NewWithWatch(config, options)
			if err != nil {
				return nil, err
			}
			return interceptor.NewClient(inner, p.limit(most)), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := endpoint.AddIndexes(ctx, mgr.GetFieldIndexer()); err != nil {
		t.Fatal(err)
	}
	metrics, err := resize.NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	recorder := mgr.GetEventRecorder("controller-test")
	reconciler := &resize.Reconciler{Client: mgr.GetClient(), Events: recorder, Clock: clock.RealClock{}, Metrics: metrics}
	if err := reconciler.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	p.server = endpoint.New(endpoint.Options{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: recorder, Log: logr.Discard(), Clock: clock.RealClock{},
	})
	var running sync.WaitGroup
	running.Go(func() {
		if err := mgr.Start(ctx); err != nil {
			t.Errorf("the manager ended with %v", err)
		}
	})
	p.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(p.stop)
	for _, kind := range resize.Kinds() {
		if _, err := mgr.GetCache().GetInformer(ctx, kind); err != nil {
			t.Fatal(err)
		}
	}
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		t.Fatal("the caches were not filled")
	}
	return p
}

// limit makes every write after so many fail, as if it had never been made.
func (p *process) limit(most int64) interceptor.Funcs {
	var once sync.Once
	may := func(write func() error) error {
		if n := p.writes.Add(1); most >= 0 && n > most {
			once.Do(func() { close(p.dead) })
			return errKilled
		}
		return write()
	}
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return may(func() error { return c.Create(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return may(func() error { return c.Update(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, opts ...client.PatchOption) error {
			return may(func() error { return c.Patch(ctx, o, patch, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return may(func() error { return c.Delete(ctx, o, opts...) })
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			return may(func() error { return c.SubResource(sub).Update(ctx, o, opts...) })
		},
	}
}

// scene is a MiniCluster with a pool of its own, and what the provider and the Flux Operator do for it.
type scene struct {
	*testing.T
	key types.NamespacedName
	// outOfStock is set while no nodes can be had.
	outOfStock bool
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
	if err := cluster.client.Create(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	object := minicluster.New()
	object.SetNamespace(x.key.Namespace)
	object.SetName(name)
	object.SetAnnotations(map[string]string{v1alpha1.AnnotationNodePools: name})
	object.Object["spec"] = map[string]any{
		"size": int64(size), "minSize": int64(1), "maxSize": int64(6),
		"containers": []any{map[string]any{"image": "i", "runFlux": true}},
	}
	if err := cluster.client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	return x
}

func capacity() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"), corev1.ResourcePods: resource.MustParse("110"),
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
	switch err := cluster.client.Get(ctx, x.key, s.cluster); {
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
	switch err := cluster.client.Get(ctx, x.key, s.member); {
	case apierrors.IsNotFound(err):
		s.member = nil
	case err != nil:
		return nil, err
	}
	if err := errors.Join(x.provide(ctx, s), x.operate(ctx, s)); err != nil {
		return nil, err
	}
	var pods corev1.PodList
	if err := cluster.client.List(ctx, &pods, client.InNamespace(x.key.Namespace), client.MatchingLabels{batchv1.JobNameLabel: x.key.Name}); err != nil {
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
			Status: corev1.NodeStatus{Capacity: capacity(), Allocatable: capacity()},
		}
		if err := cluster.client.Create(ctx, node); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return nil
}

func (x *scene) operate(ctx context.Context, s *seen) error {
	if s.cluster == nil {
		return nil
	}
	size := int32(s.size)
	job := &batchv1.Job{}
	err := cluster.client.Get(ctx, x.key, job)
	switch {
	case apierrors.IsNotFound(err):
		job = &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: x.key.Namespace, Name: x.key.Name,
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s.cluster, minicluster.GroupVersionKind)},
			},
			Spec: batchv1.JobSpec{
				CompletionMode: ptr.To(batchv1.IndexedCompletion), Completions: &size, Parallelism: &size,
				Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
					RestartPolicy: corev1.RestartPolicyNever,
					NodeSelector:  map[string]string{v1alpha1.LabelNodePool: x.key.Name},
					Containers: []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{
						Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")},
					}}},
				}},
			},
		}
		err := cluster.client.Create(ctx, job)
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	case err != nil:
		return err
	case *job.Spec.Parallelism != size && job.DeletionTimestamp == nil:
		job.Spec.Parallelism, job.Spec.Completions = &size, &size
		err := cluster.client.Update(ctx, job)
		if apierrors.IsConflict(err) {
			return nil
		}
		return err
	}
	return nil
}

// until waits until nothing is missing, and says what is when it has waited long enough.
func (x *scene) until(missing func(*seen) string, alive func()) {
	x.Helper()
	last := ""
	err := wait.PollUntilContextTimeout(x.Context(), 20*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		if alive != nil {
			alive()
		}
		s, err := x.look(ctx)
		if err != nil {
			return false, err
		}
		last = missing(s)
		return last == "", nil
	})
	if err != nil {
		x.Fatalf("%v: %s", err, last)
	}
}

// unsettled says what keeps a scene from having a size and nothing left to do.
func unsettled(s *seen, size int) string {
	switch {
	case s.member == nil:
		return "there is no member"
	case s.size != size || s.pods != size || s.running != size:
		return fmt.Sprintf("the MiniCluster has size %d and %d of %d pods Running, not %d: %s", s.size, s.running, s.pods, size, message(s.member))
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
