package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machines/kwok"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/pool"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/controlplane"
)

// cluster is the API server of all tests here, with kwok for kubelets. TestMain sets it once.
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
		fmt.Fprintln(os.Stderr, "provider:", err)
		code = 1
	}
	os.Exit(code)
}

func withCluster(run func() int) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	plane, err := controlplane.Start(ctx, controlplane.Options{Parts: controlplane.Kwok, Progress: os.Stderr})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, plane.Stop()) }()
	cluster.config = plane.AdminConfig()
	cluster.config.QPS = -1
	if _, err := envtest.InstallCRDs(cluster.config, envtest.CRDInstallOptions{
		Paths: []string{filepath.Join("..", "..", "manifests", "crd")}, ErrorIfPathMissing: true,
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

// until waits until nothing is missing, and says what is when it has waited long enough.
func until(t *testing.T, missing func(context.Context) (string, error)) {
	t.Helper()
	last := ""
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, patience, true, func(ctx context.Context) (done bool, err error) {
		last, err = missing(ctx)
		return last == "", err
	})
	if err != nil {
		t.Fatalf("%v: %s", err, last)
	}
}

// errKilled is what every write after the last returns.
var errKilled = errors.New("the provider was killed")

// process is a provider that runs in this process.
type process struct {
	server  *server.CloudProvider
	backend *kwok.Backend
	client  client.Client
	// writes counts its writes, and dead is closed when the last one that it may make was made.
	writes atomic.Int64
	dead   chan struct{}
	stop   func()
}

// start starts a provider that dies when it is about to make the write after so many; a negative number is none.
func start(t *testing.T, most int64) *process {
	t.Helper()
	return startParts(t, most, true)
}

// startParts is start with or without the reconciler of pools.
func startParts(t *testing.T, most int64, reconciles bool) *process {
	t.Helper()
	p := &process{dead: make(chan struct{})}
	skip := true
	mgr, err := ctrl.NewManager(cluster.config, ctrl.Options{
		Scheme: cluster.scheme, Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: ctrlconfig.Controller{SkipNameValidation: &skip},
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
	if err := errors.Join(pool.AddIndexes(ctx, mgr.GetFieldIndexer()), kwok.AddIndexes(ctx, mgr.GetFieldIndexer())); err != nil {
		t.Fatal(err)
	}
	p.client = mgr.GetClient()
	backend := kwok.New(mgr.GetClient(), mgr.GetAPIReader())
	observer := &pool.Observer{Cached: mgr.GetClient(), Live: mgr.GetAPIReader(), Backend: backend}
	recorder := mgr.GetEventRecorder("provider-test")
	reconciler := &pool.Reconciler{
		Client: mgr.GetClient(), Observer: observer, Backend: backend, Events: recorder, Clock: clock.RealClock{}, AnnounceTimeout: time.Hour,
	}
	boot := &kwok.Boot{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Clock: clock.RealClock{}}
	if reconciles {
		if err := reconciler.SetupWithManager(mgr, &v1alpha1.KwokMachine{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := boot.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	p.backend = backend
	p.server = server.New(server.Options{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Observer: observer, Backend: backend, Events: recorder, Log: logr.Discard(),
		Synced: func() bool { return true },
	})
	var running sync.WaitGroup
	running.Go(func() {
		if err := mgr.Start(ctx); err != nil {
			t.Errorf("the manager ended with %v", err)
		}
	})
	running.Go(func() {
		if err := p.server.Announce(ctx); err != nil {
			t.Errorf("the announcer ended with %v", err)
		}
	})
	p.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(p.stop)
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
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			return may(func() error { return c.SubResource(sub).Patch(ctx, o, patch, opts...) })
		},
	}
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
	if err := cluster.client.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p
}

// newMember makes an EnsembleMember without reservations.
func newMember(t *testing.T, name string) *v1alpha1.EnsembleMember {
	t.Helper()
	m := &v1alpha1.EnsembleMember{
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceDefault, Name: name},
		Spec:       v1alpha1.EnsembleMemberSpec{Size: 1, MinSize: 1, MaxSize: 10, NodePools: []string{name}},
	}
	if err := cluster.client.Create(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// reserve is what the controller does: it claims nodes and says which ones are held.
func reserve(t *testing.T, m *v1alpha1.EnsembleMember, nodePool string, nodes int32, held ...string) {
	t.Helper()
	fresh := &v1alpha1.EnsembleMember{}
	if err := cluster.client.Get(t.Context(), client.ObjectKeyFromObject(m), fresh); err != nil {
		t.Fatal(err)
	}
	fresh.Status.Reservations = nil
	if nodes > 0 || len(held) > 0 {
		fresh.Status.Reservations = []v1alpha1.Reservation{{NodePool: nodePool, Nodes: nodes, Held: held}}
	}
	if err := cluster.client.Status().Update(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
}

// settle puts a pod on a node.
func settle(t *testing.T, name, node string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceDefault, Name: name},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}},
	}
	if err := cluster.client.Create(t.Context(), p); err != nil {
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
	if err := cluster.client.Get(ctx, client.ObjectKey{Name: name}, &s.pool); err != nil {
		return nil, err
	}
	labels := client.MatchingLabels{v1alpha1.LabelNodePool: name}
	var machines v1alpha1.KwokMachineList
	if err := cluster.client.List(ctx, &machines, labels); err != nil {
		return nil, err
	}
	for i := range machines.Items {
		s.machines = append(s.machines, machines.Items[i].Name)
	}
	var nodes corev1.NodeList
	if err := cluster.client.List(ctx, &nodes, labels); err != nil {
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

// unsettled says what keeps a pool from having so many Ready nodes and nothing on its way.
func (s *state) unsettled(nodes int) string {
	spec, status := &s.pool.Spec, &s.pool.Status
	if len(s.ready) != nodes || len(s.nodes) != nodes || len(s.machines) != nodes || int(spec.Replicas) != nodes ||
		len(spec.MachinesToDelete) > 0 || int(status.Ready) != nodes || int(status.Replicas) != nodes {
		return fmt.Sprintf("%d nodes are expected: Ready %v, machines %v, target %d, to delete %v, status %d Ready of %d",
			nodes, s.ready, s.machines, spec.Replicas, spec.MachinesToDelete, status.Ready, status.Replicas)
	}
	return ""
}
