package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"google.golang.org/grpc"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	ensemblev1alpha1 "github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/kinds"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/mutualtls"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/process"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/serving"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/tracing"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/admission"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/budget"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/endpoint"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemble"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/jobset"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/reading"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/resize"
)

// name is that of the lease and of the events.
const name = "ensemble-autoscaler-controller"

func run(ctx context.Context, config *Config) error {
	workloads, err := kinds.Of(config.Kinds)
	if err != nil {
		return err
	}
	mgr, watches, err := process.NewManager(&config.Config, name, version, manager.Options{
		// Whoever manages which field is of no interest here, and is a large part of an object. A write without it changes
		// nothing of it.
		Cache: cache.Options{DefaultTransform: cache.TransformStripManagedFields(), ByObject: cached(workloads)},
		// Pods are known by a watch of their own: the cache must never begin to hold them all.
		Client: client.Options{Cache: &client.CacheOptions{Unstructured: true, DisableFor: []client.Object{&corev1.Pod{}}}},
	})
	if unknown, is := errors.AsType[*meta.NoKindMatchError](err); is {
		return fmt.Errorf("the cluster does not know %s, which --kinds names: install what makes its pods first", unknown.GroupKind)
	}
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
	store := pods.New(workloads.PodLabels()...)
	measures, err := resize.NewMetrics(metrics.Registry, clock.RealClock{})
	if err != nil {
		return err
	}
	recorder := mgr.GetEventRecorder(name)
	paths, err := process.WatchPaths(mgr, append(resize.Watched(workloads), &corev1.Pod{})...)
	if err != nil {
		return err
	}
	if err := (&resize.Reconciler{
		Kinds:  workloads,
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: recorder, Clock: clock.RealClock{}, Metrics: measures, Pods: store,
		Interrupted: func() error { return watches.Interrupted(paths) },
	}).SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up the resize controller: %w", err)
	}

	if err := pods.Follow(mgr, workloads, store); err != nil {
		return err
	}
	log := mgr.GetLogger()
	security, err := secure(mgr, &config.TLS, workloads, log)
	if err != nil {
		return err
	}
	budgets, err := budget.NewMetrics(metrics.Registry)
	if err != nil {
		return err
	}
	synced := process.NewSynced(mgr.GetCache(), slices.Concat(resize.Watched(workloads), ensemble.Kinds(), endpoint.Kinds())...)
	synced.And(store.Filled())
	trust, err := reached(mgr, watches, synced, config)
	if err != nil {
		return err
	}
	if err := runEnsembles(ctx, mgr, config, security, budgets, trust); err != nil {
		return err
	}
	if err := serve(ctx, mgr, &known{workloads, synced, store, trust}, config, security, budgets); err != nil {
		return err
	}
	log.Info("Starting", "version", version, "leaderElection", config.LeaderElect)
	return mgr.Start(ctx)
}

// cached is what is kept in the caches.
func cached(workloads member.Kinds) map[client.Object]cache.ByObject {
	of := map[client.Object]cache.ByObject{
		&corev1.Node{}: {Transform: resize.StripNode},
		&batchv1.Job{}: {Transform: resize.StripJob(workloads)},

		minicluster.New(): {Transform: minicluster.Strip},

		&appsv1.DaemonSet{}: {Transform: reading.StripDaemonSet},

		&corev1.Namespace{}: {Transform: resize.StripNamespace},

		&v1alpha1.PoolMachine{}: {Transform: resize.StripMachine},
		// Of all the ConfigMaps of a cluster only those of Ensembles are of interest.
		&corev1.ConfigMap{}: {Label: ofEnsembles, Transform: ensemble.StripConfigMap},
	}
	// Of a kind that the cluster does not know nothing can be said.
	if sets := (jobset.Kind{}); slices.Contains(workloads, member.Kind(sets)) {
		of[sets.New()] = cache.ByObject{Transform: jobset.Strip}
	}
	return of
}

// reached is an error while this replica does not hear of the cluster: it cannot reach the API server, or all of its watches are
// interrupted. It is then not ready, so that members and the API server's webhooks find another one. While no replica can reach
// the API server none of its writes waits for a webhook, and members are refused as before: their requests are written there.
func reached(mgr manager.Manager, watches *process.Watches, synced *process.Synced, config *Config) (trust func() error, err error) {
	// Often enough that one lost answer does not count.
	contact, err := process.NewContact(mgr, config.MaxStaleness/3, metrics.Registry)
	if err != nil {
		return nil, err
	}
	if err := mgr.Add(contact); err != nil {
		return nil, fmt.Errorf("add the look for the API server to the manager: %w", err)
	}
	trust = func() error {
		if !synced.Is() {
			return errors.New("the caches of the controller are not filled yet")
		}
		return cmp.Or(contact.Check(config.MaxStaleness), watches.CutOff(config.MaxStaleness))
	}
	if err := mgr.AddReadyzCheck("trust", func(*http.Request) error { return trust() }); err != nil {
		return nil, fmt.Errorf("add the readiness probe of trust: %w", err)
	}
	return trust, nil
}

// ofEnsembles selects what Ensembles are made of.
var ofEnsembles = func() labels.Selector {
	is, err := labels.NewRequirement(ensemblev1alpha1.LabelEnsemble, selection.Exists, nil)
	if err != nil {
		panic(err)
	}
	return labels.NewSelector().Add(*is)
}()

// runEnsembles adds the controller of Ensembles to the manager, and the webhooks.
func runEnsembles(
	ctx context.Context, mgr manager.Manager, config *Config, security *mutualtls.Security, budgets *budget.Metrics, trust func() error,
) error {
	kind := ensemblev1alpha1.GroupVersion.WithKind("Ensemble")
	if _, err := mgr.GetRESTMapper().RESTMapping(kind.GroupKind(), kind.Version); meta.IsNoMatchError(err) {
		return fmt.Errorf("the cluster does not know %s %s: install manifests/crd first", kind.GroupVersion(), kind.Kind)
	}
	settings := ensemble.Settings{Endpoint: config.MemberEndpoint, DefaultNodePools: config.DefaultNodePools}
	if settings.Endpoint == "" {
		namespace, err := process.Namespace(config.TLS.Namespace)
		if err != nil {
			return err
		}
		settings.Endpoint = fmt.Sprintf("ensemble-autoscaler.%s.svc:50051", namespace)
	}
	if err := (&ensemble.Reconciler{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: mgr.GetEventRecorder(name), Clock: clock.RealClock{}, Settings: settings,
	}).SetupWithManager(ctx, mgr); err != nil {
		return fmt.Errorf("set up the Ensemble controller: %w", err)
	}
	if security == nil {
		return nil
	}
	server := process.NewWebhookServer(config.WebhookAddress, &config.HTTP, security.GetCertificate, metrics.Registry, mgr.GetLogger())
	server.Trusted, server.UntrustedFor = trust, config.MaxStaleness
	counts, err := admission.NewMetrics(metrics.Registry)
	if err != nil {
		return err
	}
	doors, err := admission.NewDoors(config.Reviews, metrics.Registry)
	if err != nil {
		return err
	}
	lookup := &admission.Lookup{
		Cached: mgr.GetClient(), Live: mgr.GetAPIReader(), Budget: budget.New(admissionReads, config.AdmissionReads, budgets),
	}
	for path, hook := range admission.Webhooks(mgr.GetScheme(), lookup, counts) {
		server.Register(path, doors.Guard(hook))
	}
	server.Register(ensemble.WebhookPath, doors.Guard(ensemble.NewWebhook(mgr.GetScheme(), settings, mgr.GetClient(), lookup, counts)))
	if err := mgr.Add(server); err != nil {
		return fmt.Errorf("add the webhooks to the manager: %w", err)
	}
	return nil
}

// refusedTokens is how often requests with a token may be refused to one address. Whoever has the right one does not need as
// many, and each costs the API server one review or two.
var refusedTokens = endpoint.Rate{PerSecond: 1, Burst: 20}

// known is what is known of the cluster, and whether it is to be trusted.
type known struct {
	kinds  member.Kinds
	synced *process.Synced
	store  *pods.Store
	trust  func() error
}

// serve adds the ensemble endpoint to the manager.
func serve(
	ctx context.Context, mgr manager.Manager, cluster *known, config *Config, security *mutualtls.Security, budgets *budget.Metrics,
) error {
	log := mgr.GetLogger()
	counts, err := endpoint.NewMetrics(metrics.Registry)
	if err != nil {
		return err
	}
	if err := metrics.Registry.Register(&endpoint.Collector{Members: mgr.GetClient(), Clock: clock.RealClock{}, Log: log}); err != nil {
		return fmt.Errorf("register the metrics of queues: %w", err)
	}
	if config.Insecure {
		log.Info(
			"WARNING: believing callers whom nothing identifies: a stranger at the port may resize every member", "address", config.GRPCAddress,
		)
	}
	members := endpoint.New(endpoint.Options{
		Kinds: cluster.kinds, Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Pods: cluster.store, Events: mgr.GetEventRecorder(name),
		Log: log.WithName("endpoint"), Clock: clock.RealClock{},
		Metrics: counts, Rate: config.Member, RefusedTokens: refusedTokens, Reads: budget.New(memberReads, config.MemberReads, budgets),
		Reviews: budget.New(tokenReviews, config.TokenReviews, budgets),
		Sizes:   budget.New(memberSizes, config.MemberSizes, budgets), Writes: budget.New(memberWrites, config.MemberWrites, budgets),
		Audience: config.TokenAudience, TrustUnknown: config.Insecure,
	})
	if err := mgr.Add(process.Everywhere(members.Run)); err != nil {
		return fmt.Errorf("add the queues of members to the manager: %w", err)
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
	return process.Add(mgr, cluster.synced, &serving.Server{
		Name:     "EnsembleOperator",
		Address:  config.GRPCAddress,
		Register: members.Register,
		Limits:   config.Limits,
		Options:  slices.Concat(options, traces.ServerOptions()),
		Ready:    cluster.synced.Wait,
		Trusted:  cluster.trust, UntrustedFor: config.MaxStaleness,
		Metrics: metrics.Registry,
		Log:     log, ShutdownTimeout: process.ShutdownTimeout,
	})
}
