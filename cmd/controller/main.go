// Command controller serves ensemble members, which ask it to grow and shrink, and resizes their
// MiniClusters: nodes exist before pods are added, and pods are gone before their nodes are given back.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

// Config is everything that the controller can be told.
type Config struct {
	Kubeconfig              string
	GRPCAddress             string
	MetricsAddress          string
	HealthAddress           string
	LeaderElect             bool
	LeaderElectionNamespace string
	Verbosity               int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "controller:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var config Config
	cmd := &cobra.Command{
		Use:           "controller",
		Short:         "Resizes the MiniClusters of HPC ensembles, nodes first",
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), config)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&config.Kubeconfig, "kubeconfig", "", "path of a kubeconfig; without it the ServiceAccount of the pod is used")
	flags.StringVar(&config.GRPCAddress, "grpc-address", ":50051", "address to serve ensemble members on")
	flags.StringVar(&config.MetricsAddress, "metrics-address", ":8080", "address to serve Prometheus metrics on; 0 for none")
	flags.StringVar(&config.HealthAddress, "health-address", ":8081", "address to serve /healthz and /readyz on; 0 for none")
	flags.BoolVar(&config.LeaderElect, "leader-elect", true, "let one of several replicas reconcile; all of them serve gRPC")
	flags.StringVar(&config.LeaderElectionNamespace, "leader-election-namespace", "", "namespace of the lease; without it that of the pod")
	flags.IntVarP(&config.Verbosity, "verbosity", "v", 0, "0 for what happens, 1 for why nothing does")
	return cmd
}
