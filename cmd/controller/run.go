package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/process"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/serving"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/endpoint"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/resize"
)

const (
	// shutdownTimeout bounds the end of the process.
	shutdownTimeout = 10 * time.Second
	// maxRequestBytes bounds a member's request. Real ones have a few hundred bytes.
	maxRequestBytes = 64 << 10
)

func run(ctx context.Context, config Config) error {
	log := process.Logger(config.Verbosity)
	ctrl.SetLogger(log)

	restConfig, err := process.RESTConfig(config.Kubeconfig, "ensemble-autoscaler-controller/"+version)
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return fmt.Errorf("register the kinds of Kubernetes: %w", err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return fmt.Errorf("register our kinds: %w", err)
	}
	grace := shutdownTimeout
	mgr, err := ctrl.NewManager(restConfig, ctrl.Options{
		Scheme: scheme,
		Logger: log,
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			minicluster.New(): {Transform: minicluster.Strip},
			&corev1.Pod{}:     {Transform: resize.StripPod},
			&corev1.Node{}:    {Transform: resize.StripNode},
			&batchv1.Job{}:    {Transform: cache.TransformStripManagedFields()},
		}},
		Client:                        client.Options{Cache: &client.CacheOptions{Unstructured: true}},
		Metrics:                       metricsserver.Options{BindAddress: config.MetricsAddress},
		HealthProbeBindAddress:        config.HealthAddress,
		LeaderElection:                config.LeaderElect,
		LeaderElectionID:              "ensemble-autoscaler-controller",
		LeaderElectionNamespace:       config.LeaderElectionNamespace,
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       &grace,
	})
	if err != nil {
		return fmt.Errorf("set up the manager: %w", err)
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
	recorder := mgr.GetEventRecorder("ensemble-autoscaler-controller")
	if err := (&resize.Reconciler{Client: mgr.GetClient(), Events: recorder, Clock: clock.RealClock{}, Metrics: measures}).SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up the resize controller: %w", err)
	}

	synced := process.NewSynced(mgr.GetCache(), resize.Kinds()...)
	members := endpoint.New(endpoint.Options{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: recorder, Log: log.WithName("endpoint"), Clock: clock.RealClock{},
	})
	runnables := []manager.Runnable{synced, &serving.Server{
		Name:     "EnsembleOperator",
		Address:  config.GRPCAddress,
		Register: members.Register,
		Options:  []grpc.ServerOption{grpc.MaxRecvMsgSize(maxRequestBytes)},
		Ready:    synced.Wait,
		Log:      log, ShutdownTimeout: shutdownTimeout,
	}}
	for _, runnable := range runnables {
		if err := mgr.Add(runnable); err != nil {
			return fmt.Errorf("add %T to the manager: %w", runnable, err)
		}
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("add the liveness probe: %w", err)
	}
	if err := mgr.AddReadyzCheck("caches", synced.Check); err != nil {
		return fmt.Errorf("add the readiness probe: %w", err)
	}
	log.Info("Starting", "version", version, "leaderElection", config.LeaderElect)
	return mgr.Start(ctx)
}
