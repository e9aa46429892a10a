package main

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/process"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/serving"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/tracing"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/endpoint"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/resize"
)

// name is that of the lease and of the events.
const name = "ensemble-autoscaler-controller"

func run(ctx context.Context, config *Config) error {
	mgr, watches, err := process.NewManager(&config.Config, name, version, manager.Options{
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			minicluster.New(): {Transform: minicluster.Strip},
			&corev1.Pod{}:     {Transform: resize.StripPod},
			&corev1.Node{}:    {Transform: resize.StripNode},
			&batchv1.Job{}:    {Transform: cache.TransformStripManagedFields()},
		}},
		Client: client.Options{Cache: &client.CacheOptions{Unstructured: true}},
	})
	if err != nil {
		return err
	}
	if err := watches.Register(metrics.Registry); err != nil {
		return err
	}
	kind := minicluster.GroupVersionKind
	if _, err := mgr.GetRESTMapper().RESTMapping(kind.GroupKind(), kind.Version); meta.IsNoMatchError(err) {
		return fmt.Errorf("the cluster does not know %s %s: install the Flux Operator first", kind.GroupVersion(), kind.Kind)
	}
	if err := endpoint.AddIndexes(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	measures, err := resize.NewMetrics(metrics.Registry)
	if err != nil {
		return err
	}
	recorder := mgr.GetEventRecorder(name)
	if err := (&resize.Reconciler{Client: mgr.GetClient(), Events: recorder, Clock: clock.RealClock{}, Metrics: measures}).SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up the resize controller: %w", err)
	}

	log := mgr.GetLogger()
	synced := process.NewSynced(mgr.GetCache(), resize.Kinds()...)
	if err := serve(ctx, mgr, synced, config); err != nil {
		return err
	}
	log.Info("Starting", "version", version, "leaderElection", config.LeaderElect)
	return mgr.Start(ctx)
}

// serve adds the ensemble endpoint to the manager.
func serve(ctx context.Context, mgr manager.Manager, synced *process.Synced, config *Config) error {
	log := mgr.GetLogger()
	counts, err := endpoint.NewMetrics(metrics.Registry)
	if err != nil {
		return err
	}
	if err := metrics.Registry.Register(&endpoint.Collector{Members: mgr.GetClient(), Clock: clock.RealClock{}, Log: log}); err != nil {
		return fmt.Errorf("register the metrics of queues: %w", err)
	}
	if config.Insecure {
		log.Info("WARNING: believing callers whom nothing identifies: whoever reaches the port may resize every member", "address", config.GRPCAddress)
	}
	members := endpoint.New(endpoint.Options{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: mgr.GetEventRecorder(name), Log: log.WithName("endpoint"), Clock: clock.RealClock{},
		Metrics: counts, Rate: config.Member, Audience: config.TokenAudience, TrustUnknown: config.Insecure,
	})
	security, err := secure(mgr, &config.TLS, log)
	if err != nil {
		return err
	}
	var options []grpc.ServerOption
	if security != nil {
		options = append(options, security.OfferTLS())
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
	return process.Add(mgr, synced, &serving.Server{
		Name:     "EnsembleOperator",
		Address:  config.GRPCAddress,
		Register: members.Register,
		Limits:   config.Limits,
		Options:  slices.Concat(options, traces.ServerOptions()),
		Ready:    synced.Wait,
		Metrics:  metrics.Registry,
		Log:      log, ShutdownTimeout: process.ShutdownTimeout,
	})
}
