package conformance_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machines"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machines/kwok"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/pool"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/conformance"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/inprocess"
)

// backend is one way for our server to get machines.
type backend struct {
	// machine is an object of the backend's kind.
	machine client.Object
	// start adds the backend to a manager.
	start func(context.Context, manager.Manager) (machines.Backend, error)
	// fast and slow are machines that run at once, and not before the cases have ended.
	fast, slow v1alpha1.MachinesSpec
}

// backends are all of them, by name.
var backends = map[string]backend{
	"kwok": {
		machine: &v1alpha1.KwokMachine{},
		start: func(ctx context.Context, mgr manager.Manager) (machines.Backend, error) {
			boot := &kwok.Boot{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: mgr.GetEventRecorder("kwok-boot"), Clock: clock.RealClock{}}
			made, err := kwok.New(ctx, mgr)
			return made, errors.Join(err, boot.SetupWithManager(mgr))
		},
		fast: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
		slow: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{BootDelay: metav1.Duration{Duration: time.Hour}}},
	},
}

// TestOurs runs the cases against our own server over mutual TLS, with each backend.
// It is not parallel: two providers would do each other's work.
func TestOurs(t *testing.T) {
	if cluster.Client == nil {
		t.Skip("CLOUD_PROVIDER_ADDRESS is set, so there is no control plane")
	}
	for name, b := range backends {
		t.Run(name, func(t *testing.T) {
			target := &conformance.Target{Group: name + "-fast", Second: name + "-slow", Patience: inprocess.Patience}
			newPool(t, target.Group, b.fast)
			newPool(t, target.Second, b.slow)
			provider := start(t, b)
			serverKeys, clientKeys := mutual(t)
			address := serve(t, serverKeys, func(r grpc.ServiceRegistrar) { externalgrpc.RegisterCloudProviderServer(r, provider) })
			target.Conn = dial(t, address, clientKeys)
			known(t, provider, target.Group, target.Second)
			for _, c := range conformance.Cases() {
				t.Run(c.Name, func(t *testing.T) {
					if err := c.Run(t.Context(), target); err != nil {
						t.Errorf("%v\nThe rule: %s", err, c.Rule)
					}
				})
			}
		})
	}
}

// start starts our provider in this process, until the test ends.
func start(t testing.TB, b backend) *server.CloudProvider {
	t.Helper()
	mgr := cluster.NewMortal(t, -1, manager.Options{})
	source, err := b.start(t.Context(), mgr)
	if err := errors.Join(err, pool.AddIndexes(t.Context(), mgr.GetFieldIndexer())); err != nil {
		t.Fatal(err)
	}
	observer := &pool.Observer{Cached: mgr.GetClient(), Live: mgr.GetAPIReader(), Backend: source}
	recorder := mgr.GetEventRecorder("conformance-test")
	reconciler := &pool.Reconciler{
		Client: mgr.GetClient(), Observer: observer, Backend: source, Events: recorder, Clock: clock.RealClock{}, AnnounceTimeout: time.Hour,
	}
	if err := reconciler.SetupWithManager(mgr, b.machine); err != nil {
		t.Fatal(err)
	}
	provider, err := server.New(t.Context(), server.Options{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Cache: mgr.GetCache(), Observer: observer, Backend: source, Events: recorder, Log: logr.Discard(), Clock: clock.RealClock{},
		Trust: func() error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	mgr.Run(t, provider.Announce)
	return provider
}

// newPool declares a NodePool of at most 5 machines, with a price.
func newPool(t testing.TB, name string, machines v1alpha1.MachinesSpec) {
	t.Helper()
	price := resource.MustParse("0.50")
	if err := cluster.Client.Create(t.Context(), &v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.NodePoolSpec{
			MaxSize: 5, Autoscaler: v1alpha1.AutoscalerClusterAutoscaler, ProvisionTimeout: metav1.Duration{Duration: time.Minute},
			PricePerHour: &price, Machines: machines,
			Template: v1alpha1.NodeTemplate{Capacity: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"), corev1.ResourcePods: resource.MustParse("110"),
			}},
		},
	}); err != nil {
		t.Fatal(err)
	}
}

// known waits until a provider knows pools that were made a moment ago.
func known(t testing.TB, provider *server.CloudProvider, pools ...string) {
	t.Helper()
	for _, name := range pools {
		inprocess.Until(t, func(ctx context.Context) (string, error) {
			_, err := provider.NodeGroupTargetSize(ctx, &externalgrpc.NodeGroupTargetSizeRequest{Id: name})
			if status.Code(err) == codes.NotFound {
				return name + " is not known", nil
			}
			return "", err
		})
	}
}
