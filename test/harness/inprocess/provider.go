package inprocess

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/kwok"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machine"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/pool"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server"
)

// ProviderOptions say what of the provider runs, and how.
type ProviderOptions struct {
	// Serves alone is set for a replica that does not lead: it reconciles nothing.
	ServesAlone bool
	// Trust is that of the server; everything is trusted without it.
	Trust func() error
	// Waits are those of the loop of machines.
	Waits machine.Waits
	// Launcher takes the place of the simulated cloud's.
	Launcher func(*kwok.Launcher) launch.Launcher
	// Launchers adds launchers of other clouds.
	Launchers func(*launch.Launchers) error
	// AnnounceTimeout is an hour by default.
	AnnounceTimeout time.Duration
}

// Provider is the provider as the command wires it, in this process.
type Provider struct {
	Server   *server.CloudProvider
	Observer *pool.Observer
}

// AddProvider wires a provider with a manager that has not been started yet. Its server's Announce has to run beside it.
func AddProvider(t testing.TB, mgr manager.Manager, o ProviderOptions) *Provider {
	t.Helper()
	store, err := record.New(t.Context(), mgr)
	simulated, failed := kwok.New(t.Context(), mgr)
	if err := errors.Join(err, failed, pool.AddIndexes(t.Context(), mgr.GetFieldIndexer())); err != nil {
		t.Fatal(err)
	}
	var launcher launch.Launcher = simulated
	if o.Launcher != nil {
		launcher = o.Launcher(simulated)
	}
	launchers := &launch.Launchers{Kwok: launcher}
	if o.Launchers != nil {
		if err := o.Launchers(launchers); err != nil {
			t.Fatal(err)
		}
	}
	var system corev1.Namespace
	if err := mgr.GetAPIReader().Get(t.Context(), client.ObjectKey{Name: "kube-system"}, &system); err != nil {
		t.Fatal(err)
	}
	tenants := pool.NewTenants()
	if err := tenants.Follow(mgr); err != nil {
		t.Fatal(err)
	}
	p := &Provider{Observer: &pool.Observer{
		Tenants: tenants, Cached: mgr.GetClient(), Live: mgr.GetAPIReader(), Store: store, Launchers: launchers, Cluster: string(system.UID),
	}}
	recorder := mgr.GetEventRecorder("provider-test")
	if !o.ServesAlone {
		if o.AnnounceTimeout == 0 {
			o.AnnounceTimeout = time.Hour
		}
		pools := &pool.Reconciler{
			Client: mgr.GetClient(), Observer: p.Observer, Events: recorder, Clock: clock.RealClock{}, AnnounceTimeout: o.AnnounceTimeout,
		}
		machines := &machine.Reconciler{
			Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Store: store, Launchers: p.Observer.Launchers, Events: recorder,
			Clock: clock.RealClock{}, Cluster: p.Observer.Cluster, Waits: o.Waits, Log: Log(),
		}
		boot := &kwok.Boot{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: recorder, Clock: clock.RealClock{}}
		if err := errors.Join(pools.SetupWithManager(mgr), machines.SetupWithManager(mgr), boot.SetupWithManager(mgr)); err != nil {
			t.Fatal(err)
		}
	}
	if o.Trust == nil {
		o.Trust = func() error { return nil }
	}
	if p.Server, err = server.New(t.Context(), server.Options{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Cache: mgr.GetCache(), Observer: p.Observer, Events: recorder,
		Log: Log(), Clock: clock.RealClock{}, Trust: o.Trust,
	}); err != nil {
		t.Fatal(err)
	}
	return p
}
