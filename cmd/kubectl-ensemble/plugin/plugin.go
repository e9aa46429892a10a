// Package plugin is the command line of kubectl ensemble, for its main function, and for programs that ask it what a person would.
package plugin

import (
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/check"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cli"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/pause"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/planned"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/size"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/status"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/why"
)

// New is the root command, which reads and prints by streams. version is that of the program.
func New(streams genericiooptions.IOStreams, version string) *cobra.Command {
	env := &cli.Environment{
		Flags:   genericclioptions.NewConfigFlags(true),
		Streams: streams,
		Version: version,
		Now:     time.Now,
	}
	cmd := &cobra.Command{
		Use:   "kubectl-ensemble",
		Short: "Show, explain and resize the members of HPC ensembles",
		Long: `Show, explain and resize the members of HPC ensembles, and the pools of nodes below them.

It reads with your rights and changes nothing unless the verb says so. What your rights do not let it read is named.`,
		Version:       version,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl ensemble"},
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.SetIn(streams.In)
	cmd.SetOut(streams.Out)
	cmd.SetErr(streams.ErrOut)
	env.AddFlags(cmd)
	cmd.AddGroup(
		&cobra.Group{ID: cli.GroupRead, Title: "Commands that change nothing:"},
		&cobra.Group{ID: cli.GroupWrite, Title: "Commands that change what they are told:"},
	)
	cmd.AddCommand(status.New(env), why.New(env))
	cmd.AddCommand(size.New(env)...)
	cmd.AddCommand(pause.New(env)...)
	cmd.AddCommand(planned.New(env), check.New(env))
	return cmd
}
