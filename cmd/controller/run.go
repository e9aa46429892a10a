package main

import (
	"context"
	"fmt"

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
	members := endpoint.New(endpoint.Options{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: recorder, Log: log.WithName("endpoint"), Clock: clock.RealClock{},
	})
	traces, err := tracing.New(ctx, &config.Tracing, name, version, log.WithName("tracing"))
	if err != nil {
		return err
	}
	if traces != nil {
		if err := mgr.Add(traces); err != nil {
			return err
		}
	}
	if err := process.Add(mgr, synced, &serving.Server{
		Name:     "EnsembleOperator",
		Address:  config.GRPCAddress,
		Register: members.Register,
		Limits:   config.Limits,
		Options:  traces.ServerOptions(),
		Ready:    synced.Wait,
		Metrics:  metrics.Registry,
		Log:      log, ShutdownTimeout: process.ShutdownTimeout,
	}); err != nil {
		return err
	}
	log.Info("Starting", "version", version, "leaderElection", config.LeaderElect)
	return mgr.Start(ctx)
}
