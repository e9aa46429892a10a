// Command controller serves ensemble members, which ask it to grow and shrink, and resizes their
// MiniClusters: nodes exist before pods are added, and pods are gone before their nodes are given back.
package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/process"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/serving"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/tracing"
)

// version is set by the linker.
var version = "dev"

// Config is everything that the controller can be told.
type Config struct {
	process.Config
	Limits  serving.Limits
	Tracing tracing.Config
}

func main() { process.Main(command()) }

func command() *cobra.Command {
	// A member asks when its queue changes. Its requests have a few hundred bytes.
	config := Config{Limits: serving.Limits{RequestsPerSecond: 100, Burst: 200, RequestBytes: 64 << 10, Streams: 32}}
	cmd := &cobra.Command{
		Use:           "controller",
		Short:         "Resizes the MiniClusters of HPC ensembles, nodes first",
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(config.Limits.Validate(), config.Tracing.Validate()); err != nil {
				return err
			}
			return run(cmd.Context(), &config)
		},
	}
	config.AddFlags(cmd.Flags(), ":50051", "ensemble members")
	config.Limits.AddFlags(cmd.Flags())
	config.Tracing.AddFlags(cmd.Flags())
	return cmd
}
