package check

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"k8s.io/client-go/discovery"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cli"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/manifests"
)

// exitFaults is the exit code when there are findings of severity Error. Where the check could not be made it is 1.
const exitFaults = 2

// New is the command check.
func New(env *cli.Environment) *cobra.Command {
	var namespace string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Find what is wrong with an installation, or in the way of one",
		Long: `Find what is wrong with an installation, or in the way of one, and say what to do.

It looks at versions, at the flags of Cluster Autoscaler as its pod has them and for a second one, at certificates and their ends, at labels
and NetworkPolicies, webhooks, admission policies and the rights of the programs. It changes nothing: to have the API server ask the
webhooks it creates a NodePool, a MiniCluster and an Ensemble as a dry run. Of Secrets it looks at certificates alone. What you may not read
is UNKNOWN.

The exit code is 0 without findings of severity Error, 2 with some, and 1 when the check could not be made.`,
		Example: `  kubectl ensemble check
  kubectl ensemble check --system-namespace hpc-system --output json`,
		GroupID: cli.GroupRead,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), env, namespace) },
	}
	cmd.Flags().StringVar(&namespace, "system-namespace", "",
		"namespace of provider and controller; without it "+Namespace+", or where no pod of theirs is in that the one that has some")
	return cmd
}

func run(ctx context.Context, env *cli.Environment, namespace string) error {
	shipped, err := ReadShipped(manifests.Files)
	if err != nil {
		return err
	}
	reader, err := env.Cluster()
	if err != nil {
		return err
	}
	d, err := discovery.NewDiscoveryClientForConfig(reader.Config)
	if err != nil {
		return fmt.Errorf("reach the API server: %w", err)
	}
	facts, err := Gather(ctx, reader.Client, d, shipped, namespace, env.Now())
	if err != nil {
		return err
	}
	report := Find(facts, shipped)
	if err := env.Print(report, func(w io.Writer) error { return Write(w, report, painter(env)) }); err != nil {
		return err
	}
	if report.Failed() {
		return &cli.ExitError{Code: exitFaults}
	}
	return nil
}

// painter colours severities where standard output is a terminal.
func painter(env *cli.Environment) Paint {
	colours := map[Severity]cli.Colour{Error: cli.Bad, Warning: cli.Wait, Note: cli.Faint}
	return func(severity Severity, text string) string { return env.Paint(colours[severity], text) }
}
