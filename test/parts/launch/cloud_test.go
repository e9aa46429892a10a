package launch

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/kwok"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/launchtest"
)

// clusterID stands for the UID of the namespace kube-system.
const clusterID = "3f1c7f6e-0000-4000-8000-000000000001"

// cloud is the simulated cloud and its launcher, in this process.
type cloud struct {
	launcher *kwok.Launcher
	// failing has, by the name of a pool, how the next creation of one of its instances fails.
	failing sync.Map
}

var errInjected = errors.New("the call failed")

func startCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{}
	var direct client.Client
	mgr, err := ctrl.NewManager(cluster.Config, manager.Options{
		Scheme: cluster.Scheme, Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: new(true)},
		NewClient: func(config *rest.Config, options client.Options) (client.Client, error) {
			inner, err := client.NewWithWatch(config, options)
			direct = inner
			if err != nil {
				return nil, err
			}
			return interceptor.NewClient(inner, failingCreate(&c.failing)), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.launcher, err = kwok.New(t.Context(), mgr); err != nil {
		t.Fatal(err)
	}
	boot := &kwok.Boot{Client: direct, Live: mgr.GetAPIReader(), Events: mgr.GetEventRecorder("kwok-boot"), Clock: clock.RealClock{}}
	if err := boot.SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the manager ended with %v", err)
		}
	})
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		t.Fatal("the caches were not filled")
	}
	return c
}

// failingCreate lets the next creation of an instance fail, where it is to: failing has how, by the name of the pool.
func failingCreate(failing *sync.Map) interceptor.Funcs {
	return interceptor.Funcs{
		Create: func(ctx context.Context, inner client.WithWatch, object client.Object, options ...client.CreateOption) error {
			when, fails := failing.LoadAndDelete(object.GetLabels()[v1alpha1.LabelNodePool])
			if fails && when == launchtest.BeforeIt {
				return errInjected
			}
			err := inner.Create(ctx, object, options...)
			if fails {
				return errors.Join(err, errInjected)
			}
			return err
		},
	}
}

func template() v1alpha1.NodeTemplate {
	return v1alpha1.NodeTemplate{
		Labels: map[string]string{"example.com/kind": "fast"},
		Taints: []corev1.Taint{{Key: "example.com/dedicated", Value: "hpc", Effect: corev1.TaintEffectNoSchedule}},
		Capacity: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
			corev1.ResourcePods: resource.MustParse("110"),
		},
		Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3800m")},
	}
}

// subject is a cloud that behaves as a change of its configuration says, for the suite.
func (c *cloud) subject(prefix string, change func(*v1alpha1.KwokMachines)) *launchtest.Subject {
	return &launchtest.Subject{
		Launcher: c.launcher, Nodes: cluster.Client, Template: template(), Patience: time.Minute, Lag: 2 * time.Second,
		Pool: func(_ *testing.T, name string, role launchtest.Role) *launch.Pool {
			settings := ofRole(role)
			change(settings)
			return &launch.Pool{Cluster: clusterID, Name: prefix + "-" + name, Machines: v1alpha1.MachinesSpec{Kwok: settings}}
		},
		SetStock:    func(_ *testing.T, pool *launch.Pool, machines int32) { pool.Machines.Kwok.Stock = &machines },
		MakeForeign: makeForeign,
		MakeOrphan:  makeOrphan,
		KillNode: func(t *testing.T, node *corev1.Node) {
			t.Helper()
			if err := cluster.Client.Delete(t.Context(), node); err != nil {
				t.Fatal(err)
			}
		},
		FailNextCall: func(_ *testing.T, pool *launch.Pool, when launchtest.Moment) { c.failing.Store(pool.Name, when) },
	}
}

// ofRole are machines that behave as a role says.
func ofRole(role launchtest.Role) *v1alpha1.KwokMachines {
	out := &v1alpha1.KwokMachines{Seed: 7}
	switch role {
	case launchtest.Fast:
	case launchtest.Slow:
		out.BootDelay.Duration = time.Hour
	case launchtest.Throttled:
		out.ThrottlePercent = 50
	case launchtest.Spot:
		// Long enough for a listing that is behind to show it.
		out.SpotPercent, out.SpotNotice = 100, &metav1.Duration{Duration: 4 * time.Second}
	case launchtest.Crashing:
		out.CrashPercent, out.FateWithin = 100, &metav1.Duration{Duration: time.Second}
	}
	return out
}

// makeForeign makes an instance of another cluster of the same account.
func makeForeign(t *testing.T, pool *launch.Pool, machine string) func(context.Context) (bool, error) {
	t.Helper()
	other := instance(pool, kwok.InstanceName(pool, machine))
	other.Spec.Cluster, other.Spec.Machine, other.Spec.Token = "another", machine, "another"
	create(t, other)
	return func(ctx context.Context) (bool, error) {
		err := cluster.Client.Get(ctx, client.ObjectKeyFromObject(other), &v1alpha1.KwokInstance{})
		return err == nil, client.IgnoreNotFound(err)
	}
}

func makeOrphan(t *testing.T, pool *launch.Pool, withNode bool) (key string) {
	t.Helper()
	orphan := instance(pool, "i-"+pool.Name)
	if !withNode {
		orphan.Spec.BootDelay.Duration = time.Hour
	}
	create(t, orphan)
	return orphan.Name
}

// instance is one that bears the mark of a pool alone.
func instance(pool *launch.Pool, name string) *v1alpha1.KwokInstance {
	return &v1alpha1.KwokInstance{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.LabelNodePool: pool.Name}},
		Spec: v1alpha1.KwokInstanceSpec{
			Cluster: pool.Cluster, NodePool: pool.Name, ProviderID: kwok.ProviderID(pool.Name, name), NodeName: kwok.NodeName(name),
			LaunchedAt: metav1.NowMicro(), Fate: v1alpha1.FateReady, Template: template(), Machines: *pool.Machines.Kwok.DeepCopy(),
		},
	}
}

// create makes an instance, and removes it when the test ends.
func create(t *testing.T, instance *v1alpha1.KwokInstance) {
	t.Helper()
	if err := cluster.Client.Create(t.Context(), instance); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Client.Delete(context.WithoutCancel(t.Context()), instance); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
}
