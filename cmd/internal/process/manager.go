package process

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	ensemblev1alpha1 "github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/flaggroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/metricsauth"
)

// ShutdownTimeout bounds the end of a process.
const ShutdownTimeout = 10 * time.Second

// The times of leader election. A leader that is cut off from the API server has to end before another one may lead.
// On a network that loses everything it notices after retryPeriod and renewDeadline, and then tries to release its lease
// for half a renewDeadline, which is the timeout that controller-runtime gives the election's client: 12.5 s in all. With
// client-go's usual 10 s for renewDeadline that would be 17 s, and two would lead.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 7 * time.Second
	retryPeriod   = 2 * time.Second
)

// syncWithin is how long the caches of a process may take to be filled. In a cluster of half a million pods that is a minute or two of
// a core; a process that gave up before would begin again, and never be there.
const syncWithin = 15 * time.Minute

// Config is what both binaries can be told.
type Config struct {
	Kubeconfig              string
	GRPCAddress             string
	MetricsAddress          string
	HealthAddress           string
	LeaderElect             bool
	LeaderElectionNamespace string
	Verbosity               int
	// HTTP are the limits of the ports of metrics, probes and webhooks.
	HTTP HTTPLimits
	// Metrics says who may read the metrics.
	Metrics metricsauth.Authorization
}

// AddFlags declares the flags, that of the address of the gRPC server apart, and those that cobra would add.
func (c *Config) AddFlags(groups *flaggroup.Sets, program string) {
	general := groups.Of(flaggroup.General)
	AddKubeconfig(general, &c.Kubeconfig)
	general.IntVarP(&c.Verbosity, "verbosity", "v", 0, "0 for what happens, 1 for why nothing does")
	general.BoolP("help", "h", false, "help for "+program)
	general.Bool("version", false, "version of "+program)
	election := groups.Of(flaggroup.LeaderElection)
	election.BoolVar(&c.LeaderElect, "leader-elect", true, "let one of several replicas reconcile; all of them serve gRPC")
	election.StringVar(&c.LeaderElectionNamespace, "leader-election-namespace", "", "namespace of the lease; without it that of the pod")
	observability := groups.Of(flaggroup.Observability)
	observability.StringVar(&c.MetricsAddress, "metrics-address", ":8080", "address to serve Prometheus metrics on; 0 for none")
	observability.StringVar(&c.HealthAddress, "health-address", ":8081", "address to serve /healthz and /readyz on; 0 for none")
	c.Metrics.AddFlags(observability)
	// The API servers of a cluster, Prometheus' replicas and the kubelet are few, and have a connection or two each.
	c.HTTP = HTTPLimits{Connections: 256, PerAddress: 16, BodyBytes: 64 << 20, MetricsPerSecond: 2}
	c.HTTP.AddFlags(groups.Of(flaggroup.HTTPLimits))
}

// AddKubeconfig declares the one flag of all commands.
func AddKubeconfig(flags *pflag.FlagSet, path *string) {
	flags.StringVar(path, "kubeconfig", "", "path of a kubeconfig; without it the ServiceAccount of the pod is used")
}

// Main runs a command until it ends or the process is told to, and exits.
func Main(command *cobra.Command) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command.ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", command.Name(), err)
		os.Exit(1)
	}
}

// NewManager sets up what a binary runs in. name is that of its lease and of its events; options are what is
// special about it. It also returns what knows of the watches that the manager's caches live on.
func NewManager(config *Config, name, version string, options manager.Options) (manager.Manager, *Watches, error) {
	log := Logger(config.Verbosity)
	ctrl.SetLogger(log)
	restConfig, err := RESTConfig("kubeconfig", config.Kubeconfig, name+"/"+version)
	if err != nil {
		return nil, nil, err
	}
	if options.Scheme == nil {
		options.Scheme = runtime.NewScheme()
	}
	if err := clientgoscheme.AddToScheme(options.Scheme); err != nil {
		return nil, nil, fmt.Errorf("register the kinds of Kubernetes: %w", err)
	}
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, ensemblev1alpha1.AddToScheme} {
		if err := add(options.Scheme); err != nil {
			return nil, nil, fmt.Errorf("register our kinds: %w", err)
		}
	}
	options.Logger = log
	// Both are served here, within limits.
	options.Metrics = metricsserver.Options{BindAddress: none}
	options.HealthProbeBindAddress = none
	options.LeaderElection = config.LeaderElect
	options.LeaderElectionID = name
	options.LeaderElectionNamespace = config.LeaderElectionNamespace
	options.LeaderElectionReleaseOnCancel = true
	options.LeaseDuration, options.RenewDeadline, options.RetryPeriod = new(leaseDuration), new(renewDeadline), new(retryPeriod)
	options.GracefulShutdownTimeout = new(ShutdownTimeout)
	options.Controller.CacheSyncTimeout = syncWithin
	watches := NewWatches(restConfig, clock.RealClock{})
	mgr, err := manager.New(restConfig, options)
	if err != nil {
		return nil, nil, fmt.Errorf("set up the manager: %w", err)
	}
	own := newManaged(mgr)
	if config.MetricsAddress != none {
		if err := serveMetrics(mgr, config, metrics.Registry, log); err != nil {
			return nil, nil, err
		}
	}
	if config.HealthAddress != none {
		if err := serveHTTP(mgr, &config.HTTP, "Probes", config.HealthAddress, nil, own.probes.handler, metrics.Registry); err != nil {
			return nil, nil, err
		}
	}
	return own, watches, nil
}

// none is the address of a port that is not to be.
const none = "0"

// Add adds runnables to a manager, and the probes, of which the one for readiness waits for the caches.
func Add(mgr manager.Manager, synced *Synced, runnables ...manager.Runnable) error {
	for _, runnable := range append([]manager.Runnable{synced}, runnables...) {
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
	return nil
}
