// Command kubectl-ensemble is the plugin behind `kubectl ensemble`: it shows pools and members, says why one of them waits, and changes
// sizes. It reads and writes with the rights of its user, and changes nothing unless the verb says so.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/check"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cli"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/pause"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/planned"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/size"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/status"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/why"
)

// version is set by the linker.
var version = "dev"

func main() {
	// Nobody reads a log of a command; without this controller-runtime complains after half a minute that there is none.
	log.SetLogger(logr.Discard())
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(streams).ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	code := 1
	if exit, is := errors.AsType[*cli.ExitError](err); is {
		code = exit.Code
	}
	if message := err.Error(); message != "" {
		_, _ = fmt.Fprintln(os.Stderr, "error:", message)
	}
	os.Exit(code)
}

// command is the root command.
func command(streams genericiooptions.IOStreams) *cobra.Command {
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
