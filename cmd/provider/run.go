package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/mutualtls"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/process"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/serving"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/tracing"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/expander"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machine"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/pool"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server/wire"
)

// name is that of the lease and of the events.
const name = "ensemble-autoscaler-provider"

func run(ctx context.Context, config *Config) error {
	options := manager.Options{
		// Whoever manages which field is of no interest here, and is a large part of an object. A write without it changes
		// nothing of it.
		Cache: cache.Options{DefaultTransform: cache.TransformStripManagedFields(), ByObject: map[client.Object]cache.ByObject{
			&corev1.Node{}: {Transform: pool.StripNode},
		}},
		// Pods are known by a watch of their own: the cache must never begin to hold them all.
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Pod{}}}},
	}
	if err := config.Backends.extend(&options); err != nil {
		return err
	}
	mgr, watches, err := process.NewManager(&config.Config, name, version, options)
	if err != nil {
		return config.Backends.missing(err)
	}
	if err := pool.AddIndexes(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	if err := oldMachines(ctx, mgr.GetAPIReader()); err != nil {
		return err
	}
	observer, err := observe(ctx, mgr, config)
	if err != nil {
		return err
	}
	if err := metrics.Registry.Register(&pool.Collector{
		Pools: mgr.GetClient(), Machines: observer.Store, Log: mgr.GetLogger(), Alarm: config.Waits.EndAlarm, Clock: clock.RealClock{},
	}); err != nil {
		return fmt.Errorf("register the metrics of NodePools: %w", err)
	}
	measures, err := pool.NewMetrics(metrics.Registry)
	if err != nil {
		return fmt.Errorf("register the metrics of machines: %w", err)
	}
	if err := watches.Register(metrics.Registry); err != nil {
		return err
	}
	if err := reconcile(mgr, config, observer, measures); err != nil {
		return err
	}
	if err := serve(ctx, mgr, watches, config, observer, measures); err != nil {
		return err
	}
	mgr.GetLogger().Info("Starting", "version", version, "leaderElection", config.LeaderElect)
	return mgr.Start(ctx)
}

// observe is what the reconcilers and the server look at.
func observe(ctx context.Context, mgr manager.Manager, config *Config) (*pool.Observer, error) {
	store, err := record.New(ctx, mgr)
	if err != nil {
		return nil, err
	}
	// Instances are marked with it, so that two clusters that have a pool of one name in one account do not take each other's.
	var system corev1.Namespace
	if err := mgr.GetAPIReader().Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, &system); err != nil {
		return nil, fmt.Errorf("get the namespace %s, whose UID tells clusters apart: %w", metav1.NamespaceSystem, err)
	}
	cluster := string(system.UID)
	launchers, err := launchers(ctx, mgr, &config.Backends, cluster)
	if err != nil {
		return nil, err
	}
	tenants := pool.NewTenants()
	if err := tenants.Follow(mgr); err != nil {
		return nil, err
	}
	return &pool.Observer{
		Tenants: tenants, Cached: mgr.GetClient(), Live: mgr.GetAPIReader(), Store: store, Launchers: launchers, Cluster: cluster,
	}, nil
}

// reconcile adds the loops to the manager.
func reconcile(mgr manager.Manager, config *Config, observer *pool.Observer, measures *pool.Metrics) error {
	recorder := mgr.GetEventRecorder(name)
	if err := (&pool.Reconciler{
		Client: mgr.GetClient(), Observer: observer, Events: recorder,
		Clock: clock.RealClock{}, AnnounceTimeout: config.AnnounceTimeout, Metrics: measures,
	}).SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up the NodePool controller: %w", err)
	}
	if err := (&machine.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Store: observer.Store, Launchers: observer.Launchers, Events: recorder,
		Clock: clock.RealClock{}, Cluster: observer.Cluster, Waits: config.Waits, Log: mgr.GetLogger().WithName("machine"),
	}).SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up the PoolMachine controller: %w", err)
	}
	return nil
}

// oldMachines refuses to run beside machines of the kind that PoolMachine has taken the place of: nothing real stands behind them,
// so that there is nothing to convert, and their nodes would be nobody's.
func oldMachines(ctx context.Context, live client.Reader) error {
	old := &metav1.PartialObjectMetadataList{}
	old.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("KwokMachineList"))
	switch err := live.List(ctx, old, client.Limit(1)); {
	case meta.IsNoMatchError(err), apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		return nil
	case err != nil:
		return fmt.Errorf("look for KwokMachines: %w", err)
	case len(old.Items) == 0:
		return nil
	}
	return errors.New("there are KwokMachines, the simulated machines of an earlier version, which this one does not take over: " +
		"delete the NodePools with that version first, then the CustomResourceDefinition kwokmachines.autoscaling.flux-framework.org")
}

// serve adds the gRPC server and the probes to the manager.
func serve(
	ctx context.Context, mgr manager.Manager, watches *process.Watches, config *Config, observer *pool.Observer, measures *pool.Metrics,
) error {
	log := mgr.GetLogger()
	kinds := []client.Object{&v1alpha1.NodePool{}, &v1alpha1.EnsembleMember{}, &v1alpha1.PoolMachine{}, &corev1.Node{}}
	if config.Backends.Kwok {
		kinds = append(kinds, &v1alpha1.KwokInstance{})
	}
	synced := process.NewSynced(mgr.GetCache(), kinds...)
	synced.And(observer.Tenants.Filled())
	// Often enough that one lost answer does not count.
	contact, err := process.NewContact(mgr, config.MaxStaleness/3, metrics.Registry)
	if err != nil {
		return err
	}
	trust := func() error {
		if !synced.Is() {
			return errors.New("the caches of the provider are not filled yet")
		}
		return cmp.Or(contact.Check(config.MaxStaleness), watches.Check(config.MaxStaleness))
	}
	provider, err := server.New(ctx, server.Options{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Cache: mgr.GetCache(), Observer: observer,
		Events: mgr.GetEventRecorder(name), Log: log.WithName("cloudprovider"), Clock: clock.RealClock{}, Metrics: measures, Trust: trust,
	})
	if err != nil {
		return err
	}
	// Ready is who can answer: a Service sends new connections there. Where no replica reaches the API server nobody tells the Services
	// so, and if it were told, a connection refused is to Cluster Autoscaler what an answer refused is: its loop is tried again.
	if err := mgr.AddReadyzCheck("trust", func(*http.Request) error { return trust() }); err != nil {
		return fmt.Errorf("add the readiness probe of trust: %w", err)
	}
	security, err := secure(mgr, config, log)
	if err != nil {
		return err
	}
	traces, err := tracing.New(ctx, &config.Tracing, name, version, log.WithName("tracing"))
	if err != nil {
		return err
	}
	if traces != nil {
		if err := mgr.Add(traces); err != nil {
			return err
		}
	}
	expanding, err := serveExpander(config, provider, security, traces, synced, log)
	if err != nil {
		return err
	}
	if expanding != nil {
		expanding.Trusted, expanding.UntrustedFor = trust, config.MaxStaleness
		if err := mgr.Add(expanding); err != nil {
			return err
		}
	}
	options := []grpc.ServerOption{grpc.ForceServerCodecV2(wire.NewAnswers())}
	if security != nil {
		options = append(options, security.ServerOptions()...)
	}
	return process.Add(mgr, synced, contact, process.Everywhere(provider.Announce), &serving.Server{
		Name:     "CloudProvider",
		Address:  config.GRPCAddress,
		Register: func(r grpc.ServiceRegistrar) { externalgrpc.RegisterCloudProviderServer(r, provider) },
		Limits:   config.Limits,
		Options:  slices.Concat(options, traces.ServerOptions()),
		Ready:    synced.Wait,
		Trusted:  trust, UntrustedFor: config.MaxStaleness,
		Metrics: metrics.Registry,
		Log:     log, ShutdownTimeout: process.ShutdownTimeout,
	})
}

const (
	// expanderRate is how often one address may ask the expander in a second, expanderBurst how often at once, unless the flags
	// allow less or set no limit. Cluster Autoscaler asks once in a loop.
	expanderRate, expanderBurst = 5, 20
	// expanderStreams is how many requests one connection may have under way. Cluster Autoscaler waits for the answer to one request
	// before it has another.
	expanderStreams = 1
	// expanderHandshake and expanderRead are how long a handshake and the message of a request may take, unless the flags allow less.
	// Cluster Autoscaler waits for an answer for 5 seconds.
	expanderHandshake, expanderRead = 2 * time.Second, 5 * time.Second
)

// serveExpander is the server of the expander, nil for none. It has a port of its own: Cluster Autoscaler shows no
// certificate to an expander, and its requests are large.
func serveExpander(
	config *Config, provider *server.CloudProvider, security *mutualtls.Security, traces *tracing.Tracing, synced *process.Synced,
	log logr.Logger,
) (*serving.Server, error) {
	if config.ExpanderAddress == "" {
		return nil, nil
	}
	expanding, err := server.NewExpander(provider, config.Questions, metrics.Registry, log.WithName("expander"))
	if err != nil {
		return nil, err
	}
	limits := config.Limits
	limits.RequestsPerSecond, limits.Burst = min(expanderRate, limits.RequestsPerSecond), min(expanderBurst, limits.Burst)
	limits.RequestBytes, limits.Streams = config.ExpanderBytes, expanderStreams
	limits.Connections, limits.ConnectionsPerAddress = config.Expander.Connections, config.Expander.ConnectionsPerAddress
	limits.Unfinished, limits.UntilAnswered = config.Expander.Unfinished, true
	limits.HandshakeWithin, limits.ReadWithin = min(expanderHandshake, limits.HandshakeWithin), min(expanderRead, limits.ReadWithin)
	options := append(traces.ServerOptions(), expanding.ServerOptions()...)
	if security != nil {
		options = append(options, security.ServerTLS())
	}
	return &serving.Server{
		Name:     "Expander",
		Address:  config.ExpanderAddress,
		Register: func(r grpc.ServiceRegistrar) { expander.RegisterExpanderServer(r, expanding) },
		Limits:   limits,
		Options:  options,
		Ready:    synced.Wait,
		Metrics:  metrics.Registry,
		Log:      log, ShutdownTimeout: process.ShutdownTimeout,
	}, nil
}
