// Command controller serves ensemble members, which ask it to grow and shrink, and resizes their
// MiniClusters: nodes exist before pods are added, and pods are gone before their nodes are given back.
package main

import (
	"github.com/spf13/cobra"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/process"
)

// version is set by the linker.
var version = "dev"

func main() { process.Main(command()) }

func command() *cobra.Command {
	var config process.Config
	cmd := &cobra.Command{
		Use:           "controller",
		Short:         "Resizes the MiniClusters of HPC ensembles, nodes first",
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), &config) },
	}
	config.AddFlags(cmd.Flags(), ":50051", "ensemble members")
	return cmd
}
