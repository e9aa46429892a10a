package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/flaggroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/broker"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// statusTimeout bounds the whole command.
const statusTimeout = 30 * time.Second

func statusCommand() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use: "status", Short: "Show the queue, the nodes, and what was asked for", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), statusTimeout)
			defer cancel()
			return c.status(ctx, cmd.OutOrStdout())
		},
	}
	sets := flaggroup.New(groupQueue)
	c.addQueue(sets.Of(groupQueue))
	sets.Of(groupQueue).StringVar(
		&c.progress, "progress-file", "", "file that agent run was given; without it agent-progress.json beside the socket of the broker",
	)
	sets.AddTo(cmd, false)
	return cmd
}

func (c *config) status(ctx context.Context, out io.Writer) (err error) {
	client, err := c.connect()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	is, err := client.Broker(ctx)
	if err != nil {
		return err
	}
	resources, err := client.ResourceStatus(ctx)
	if err != nil {
		return err
	}
	queue := &broker.Queue{Client: client}
	nodes, err := queue.Nodes(ctx)
	if err != nil {
		return err
	}
	report, err := queueReport(ctx, queue)
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "broker   rank %d of %d, flux-core %s\n", is.Rank, is.Size, is.Version)
	fmt.Fprintf(&text, "nodes    %d up, %d free, %d of these above the highest that is busy\n", nodes.Up, nodes.Free, nodes.IdleTail)
	for _, drain := range resources.Drains {
		fmt.Fprintf(&text, "drained  %s: %s\n", drain.Ranks, drain.Reason)
	}
	var counts []string
	for _, state := range []string{"new", "depend", "priority", "sched", "run", "cleanup", "inactive"} {
		counts = append(counts, fmt.Sprintf("%s %d", state, report.Queue[state]))
	}
	fmt.Fprintf(&text, "jobs     %s\n", strings.Join(counts, ", "))
	for _, nodes := range slices.Sorted(maps.Keys(report.Waiting)) {
		fmt.Fprintf(&text, "waiting  %d for %d nodes\n", report.Waiting[nodes], nodes)
	}
	kept, err := agent.FileStore{Path: c.progressFile(client)}.Load(is.Instance)
	if err != nil {
		return err
	}
	for _, rule := range slices.Sorted(maps.Keys(kept.Granted)) {
		fmt.Fprintf(&text, "granted  rule %s: %d times\n", rule, kept.Granted[rule])
	}
	for _, id := range slices.Sorted(maps.Keys(kept.Asked)) {
		fmt.Fprintf(&text, "asked    %s, and no answer came yet\n", id)
	}
	_, err = io.WriteString(out, text.String())
	return err
}

// queueReport reads the journal up to now.
func queueReport(ctx context.Context, queue *broker.Queue) (rules.Report, error) {
	state := rules.New(&ensemblefile.File{}, rules.Options{CannotResize: true})
	err := queue.Follow(ctx, agent.Listener{
		Opened: func(context.Context) error { return nil },
		Events: func(_ context.Context, events []rules.Event) error {
			for _, event := range events {
				state.Apply(event, time.Now())
			}
			if state.CaughtUp() {
				return io.EOF
			}
			return nil
		},
	})
	if errors.Is(err, io.EOF) && state.CaughtUp() {
		return state.Report(), nil
	}
	return rules.Report{}, err
}
