// Command provider is the external gRPC cloud provider of Cluster Autoscaler. It answers Cluster
// Autoscaler, keeps the machines of NodePools at their targets, and releases the nodes that ensemble
// members give up.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

// Config is everything that the provider can be told.
type Config struct {
	Kubeconfig              string
	GRPCAddress             string
	TLSCertFile, TLSKeyFile string
	ClientCAFile            string
	Insecure                bool
	MetricsAddress          string
	HealthAddress           string
	LeaderElect             bool
	LeaderElectionNamespace string
	AnnounceTimeout         time.Duration
	Verbosity               int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "provider:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var config Config
	cmd := &cobra.Command{
		Use:           "provider",
		Short:         "External gRPC cloud provider of Cluster Autoscaler for HPC ensembles",
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.validate(); err != nil {
				return err
			}
			return run(cmd.Context(), config)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&config.Kubeconfig, "kubeconfig", "", "path of a kubeconfig; without it the ServiceAccount of the pod is used")
	flags.StringVar(&config.GRPCAddress, "grpc-address", ":8086", "address to serve Cluster Autoscaler on")
	flags.StringVar(&config.TLSCertFile, "tls-cert-file", "", "certificate of the server, PEM; read anew when it changes")
	flags.StringVar(&config.TLSKeyFile, "tls-key-file", "", "private key of the server, PEM; read anew when it changes")
	flags.StringVar(&config.ClientCAFile, "client-ca-file", "", "certificates, PEM, one of which has to have signed the certificate of Cluster Autoscaler")
	flags.BoolVar(&config.Insecure, "insecure", false, "serve without TLS: whoever reaches the port may order and delete machines")
	flags.StringVar(&config.MetricsAddress, "metrics-address", ":8080", "address to serve Prometheus metrics on; 0 for none")
	flags.StringVar(&config.HealthAddress, "health-address", ":8081", "address to serve /healthz and /readyz on; 0 for none")
	flags.BoolVar(&config.LeaderElect, "leader-elect", true, "let one of several replicas reconcile; all of them serve gRPC")
	flags.StringVar(&config.LeaderElectionNamespace, "leader-election-namespace", "", "namespace of the lease; without it that of the pod")
	flags.DurationVar(&config.AnnounceTimeout, "release-announce-timeout", 15*time.Second,
		"how long a release waits for Cluster Autoscaler to ask for the lowered least size, before it is taken not to be running")
	flags.IntVarP(&config.Verbosity, "verbosity", "v", 0, "0 for what happens, 1 for why nothing does")
	return cmd
}

func (c *Config) validate() error {
	files := 0
	for _, file := range []string{c.TLSCertFile, c.TLSKeyFile, c.ClientCAFile} {
		if file != "" {
			files++
		}
	}
	switch {
	case c.Insecure && files > 0:
		return fmt.Errorf("--insecure and --tls-cert-file, --tls-key-file or --client-ca-file contradict each other: give the one or the others")
	case !c.Insecure && files < 3:
		return fmt.Errorf("--tls-cert-file, --tls-key-file and --client-ca-file are needed for mutual TLS with Cluster Autoscaler (--insecure serves without)")
	case c.AnnounceTimeout < 0:
		return fmt.Errorf("--release-announce-timeout is %s; it must not be negative", c.AnnounceTimeout)
	}
	return nil
}
