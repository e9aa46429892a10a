// Command fluxoperator stands in for the Flux Operator in tests and in the demo. The real one is not on
// the Go module proxy; its binary takes this one's place wherever FLUX_OPERATOR is set.
//
// It turns each MiniCluster (flux-framework.org/v1alpha2) into what Cluster Autoscaler, the scheduler and
// this project see of the real one's work: an elastic Indexed Job of the same name and size, whose pods
// carry the same labels, node selector, affinity and tolerations, a headless service, and the status of
// the MiniCluster. It follows changes of spec.size in both directions with the rules of the real one,
// the odd ones included: a size that fails validation is ignored without a sign in the API; one above
// status.maximumSize is written back; status.size stays 0 until the first resize; every pod of the
// namespace gets a label job-index; JobFinished never becomes True; spec.cleanup deletes the MiniCluster
// when the pod of the lead broker has ended.
//
// It leaves out all that needs Flux itself: the init container with Flux, the broker's configuration and
// entrypoint scripts, certificates, bursting, volumes, service containers, security contexts and pod
// overhead. It reconciles on events, while the real one does so without pause.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "fluxoperator:", err)
		os.Exit(1)
	}
}

// run serves MiniClusters until ctx ends. It takes the flags of the real operator that a harness needs.
func run(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("fluxoperator", flag.ContinueOnError)
	flags.SetOutput(stderr)
	kubeconfig := flags.String("kubeconfig", "", "path of the kubeconfig; empty: $KUBECONFIG, or the service account of the pod")
	metrics := flags.String("metrics-bind-address", "0", "address that metrics are served on; 0: not served")
	probes := flags.String("health-probe-bind-address", "0", "address that healthz and readyz are served on; 0: not served")
	elect := flags.Bool("leader-elect", false, "accepted for the sake of the real operator; true is refused: one replica is enough here")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *elect {
		return errors.New("--leader-elect=true is not supported, run one replica with --leader-elect=false")
	}
	log := logr.FromSlogHandler(slog.NewTextHandler(stderr, nil))
	ctrl.SetLogger(log)

	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = *kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return fmt.Errorf("--kubeconfig %q: %w", *kubeconfig, err)
	}
	// A stand-in must not be the bottleneck of what is measured.
	config.QPS, config.Burst = -1, -1

	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return fmt.Errorf("building the scheme: %w", err)
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                 scheme,
		Logger:                 log,
		Metrics:                metricsserver.Options{BindAddress: *metrics},
		HealthProbeBindAddress: *probes,
	})
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", config.Host, err)
	}
	if err := manager.AddHealthzCheck("healthz", healthz.Ping); err != nil {
		return fmt.Errorf("adding the health check: %w", err)
	}
	if err := manager.AddReadyzCheck("readyz", healthz.Ping); err != nil {
		return fmt.Errorf("adding the readiness check: %w", err)
	}
	if err := (&reconciler{client: manager.GetClient()}).register(manager); err != nil {
		return err
	}
	if err := manager.Start(ctx); err != nil {
		return fmt.Errorf("serving MiniClusters: %w", err)
	}
	return nil
}
