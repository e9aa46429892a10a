// Package pause has the commands `kubectl ensemble pause` and `resume`: they set spec.paused of a NodePool, which stops everything that
// would change the pool, and take it away again.
package pause

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cli"
)

// New returns the commands pause and resume.
func New(env *cli.Environment) []*cobra.Command {
	return []*cobra.Command{{
		Use:   "pause POOL",
		Short: "Stop everything that would change a pool",
		Long: `Stop everything that would change a pool: no machine is ordered, deleted or released, and no member is granted nodes that it has
not yet. What members hold they keep.`,
		Example:           "  kubectl ensemble pause hpc-a",
		GroupID:           cli.GroupWrite,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: env.Complete(cli.Pools),
		RunE:              func(cmd *cobra.Command, args []string) error { return set(cmd.Context(), env, args[0], true) },
	}, {
		Use:               "resume POOL",
		Short:             "Let a paused pool go on",
		Example:           "  kubectl ensemble resume hpc-a",
		GroupID:           cli.GroupWrite,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: env.Complete(cli.Pools),
		RunE:              func(cmd *cobra.Command, args []string) error { return set(cmd.Context(), env, args[0], false) },
	}}
}

// set writes spec.paused and says what has changed.
func set(ctx context.Context, env *cli.Environment, name string, paused bool) error {
	reader, err := env.Cluster()
	if err != nil {
		return err
	}
	word := map[bool]string{true: "paused", false: "resumed"}[paused]
	before, err := reader.NodePool(ctx, name)
	if err != nil {
		return err
	}
	if before != nil && before.Spec.Paused == paused {
		_, err := fmt.Fprintf(env.Streams.Out, "nodepool/%s is %s already\n", name, word)
		return err
	}
	pool := &v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"paused":%t}}`, paused))
	err = reader.Client.Patch(ctx, pool, patch, client.FieldOwner("kubectl-ensemble"))
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("there is no NodePool %s", name)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("you have no right to patch nodepools.%s: %w", v1alpha1.Group, err)
	case err != nil:
		return err
	}
	_, err = fmt.Fprintf(env.Streams.Out, "nodepool/%s %s\n", name, word)
	return err
}
