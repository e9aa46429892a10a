// Command clusterautoscaler stands in for Cluster Autoscaler 1.36 in tests and in the demo. The real one
// is not on the Go module proxy; its binary takes this one's place, with the same flags, wherever
// CLUSTER_AUTOSCALER is set.
//
// It speaks to an external gRPC cloud provider in the order, with the caches and with the timeouts of the
// real one, one loop each --scan-interval: NodeGroupForNode of each node from the last loop's cache,
// Refresh, NodeGroups, TemplateNodeInfo, TargetSize, Nodes, NodeGroupForNode and GetOptions of each node,
// deletion of machines that never registered and of failed ones, correction of target sizes, scale-up for
// unschedulable pods, scale-down of unneeded nodes, and last the enforcement of minimum sizes. It keeps the
// same books (readiness, upcoming nodes, scale-up requests with their timeout, backoff) and makes the same
// known mistake with an answer to GetOptions: the answer cannot carry MaxNodeStartupTime, which becomes
// zero, so that fresh nodes count as unready.
//
// What it leaves out: draining (only nodes empty but for DaemonSet and mirror pods are removed), pod
// affinity, topology spread, volumes and DaemonSet overhead in the simulation of pods, expanders other
// than grpc and random, balancing of similar groups, resource limits, priorities, ProvisioningRequests, GPUs,
// events, the status ConfigMap, metrics and leader election. Unlike the real one it asks for the template
// of every group in every loop.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "clusterautoscaler:", err)
		os.Exit(1)
	}
}

// run autoscales until ctx ends.
func run(ctx context.Context, args []string, stderr io.Writer) error {
	options, ignored, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	for _, argument := range ignored {
		log.Info("flag has no effect here", "flag", argument)
	}

	connection, timeout, err := dial(options.cloudConfig)
	if err != nil {
		return fmt.Errorf("--cloud-config %q: %w", options.cloudConfig, err)
	}
	defer func() {
		if err := connection.Close(); err != nil {
			log.Warn("closing the connection to the provider", "error", err)
		}
	}()

	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = options.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return fmt.Errorf("--kubeconfig %q: %w", options.kubeconfig, err)
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", config.Host, err)
	}
	kube, stop, err := watchCluster(ctx, clients)
	if err != nil {
		return err
	}
	defer stop()

	a := newAutoscaler(options, newProvider(connection, timeout, log), kube, log)
	a.choose = func(options []expansion) int { return rand.IntN(len(options)) }
	if options.expanderURL != "" {
		asked, connection, err := dialExpander(options.expanderURL, options.expanderCert, log)
		if err != nil {
			return err
		}
		defer func() {
			if err := connection.Close(); err != nil {
				log.Warn("closing the connection to the expander", "error", err)
			}
		}()
		a.expander = asked
	}
	log.Info("autoscaling", "scanInterval", options.scanInterval, "enforceNodeGroupMinSize", options.enforceMinSize)
	defer a.provider.cleanup()
	return a.loop(ctx)
}

// loop runs one pass after the other, with the scan interval between the end of one and the start of the
// next, until ctx ends.
func (a *autoscaler) loop(ctx context.Context) error {
	for {
		if err := a.runOnce(ctx, time.Now()); err != nil && ctx.Err() == nil {
			a.log.Error("loop failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(a.options.scanInterval):
		}
	}
}
