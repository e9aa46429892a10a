package cli

import (
	"context"

	"github.com/spf13/cobra"
)

// Names lists names that an argument may be.
type Names func(ctx context.Context, env *Environment) []string

// Complete completes the first argument with names of the cluster. Where they cannot be read nothing is offered.
func (e *Environment) Complete(lists ...Names) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, list := range lists {
			names = append(names, list(cmd.Context(), e)...)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// Members are the names of the members in the namespace.
func Members(ctx context.Context, env *Environment) []string {
	reader, err := env.Cluster()
	if err != nil {
		return nil
	}
	namespace, err := env.Namespace()
	if err != nil {
		return nil
	}
	members, err := reader.EnsembleMembers(ctx, namespace)
	if err != nil {
		return nil
	}
	names := make([]string, len(members))
	for i := range members {
		names[i] = members[i].Name
	}
	return names
}

// Pools are the names of the pools.
func Pools(ctx context.Context, env *Environment) []string {
	reader, err := env.Cluster()
	if err != nil {
		return nil
	}
	pools, err := reader.NodePools(ctx)
	if err != nil {
		return nil
	}
	names := make([]string, len(pools))
	for i := range pools {
		names[i] = pools[i].Name
	}
	return names
}
