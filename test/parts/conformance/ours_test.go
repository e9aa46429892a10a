package conformance_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/parts/conformance"
)

// backend is one way for our server to get machines.
type backend struct {
	// fast and slow are machines that run at once, and not before the cases have ended.
	fast, slow v1alpha1.MachinesSpec
}

// backends are all of them, by name: the simulated cloud as it is by default, and as one whose names, ids and replies are its own.
var backends = map[string]backend{
	"kwok": {
		fast: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{}},
		slow: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{BootDelay: metav1.Duration{Duration: time.Hour}}},
	},
	"strange": {
		fast: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{
			NodeNames: v1alpha1.KwokNodeNamesOwn, ProviderIDs: v1alpha1.KwokProviderIDsAtRegistration, Registration: v1alpha1.KwokRegistrationBare,
		}},
		slow: v1alpha1.MachinesSpec{Kwok: &v1alpha1.KwokMachines{
			BootDelay: metav1.Duration{Duration: time.Hour}, NodeNames: v1alpha1.KwokNodeNamesOwn,
			ProviderIDs: v1alpha1.KwokProviderIDsAtRegistration,
		}},
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
			provider := start(t)
			troubled(t, provider, name, b.fast)
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

// troubled declares two groups of which two of four machines cannot be had, and pauses one of them: what is listed of them must not
// freeze Cluster Autoscaler either.
func troubled(t testing.TB, provider *server.CloudProvider, prefix string, machines v1alpha1.MachinesSpec) {
	t.Helper()
	machines = *machines.DeepCopy()
	machines.Kwok.Stock = ptr.To[int32](2)
	for _, name := range []string{prefix + "-short", prefix + "-paused"} {
		newPool(t, name, machines)
		known(t, provider, name)
		if _, err := provider.NodeGroupIncreaseSize(t.Context(), &externalgrpc.NodeGroupIncreaseSizeRequest{Id: name, Delta: 4}); err != nil {
			t.Fatal(err)
		}
		inprocess.Until(t, func(ctx context.Context) (string, error) {
			answer, err := provider.NodeGroupNodes(ctx, &externalgrpc.NodeGroupNodesRequest{Id: name})
			failed, runs := 0, 0
			for _, i := range answer.GetInstances() {
				if i.GetStatus().GetErrorInfo() != nil {
					failed++
				}
				if i.GetStatus().GetInstanceState() == externalgrpc.InstanceStatus_instanceRunning {
					runs++
				}
			}
			if err != nil || (failed == 2 && runs == 2) {
				return "", err
			}
			return fmt.Sprintf("of %s 2 machines are to run and 2 to fail: %v", name, answer.GetInstances()), nil
		})
	}
	paused := &v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: prefix + "-paused"}}
	if err := cluster.Client.Patch(
		t.Context(), paused, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"paused":true}}`)),
	); err != nil {
		t.Fatal(err)
	}
}

// start starts our provider in this process, until the test ends.
func start(t testing.TB) *server.CloudProvider {
	t.Helper()
	mgr := cluster.NewMortal(t, -1, manager.Options{})
	provider := inprocess.AddProvider(t, mgr, inprocess.ProviderOptions{})
	mgr.Run(t, provider.Server.Announce)
	return provider.Server
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
				corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
				corev1.ResourcePods: resource.MustParse("110"),
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
