package main

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
	"k8s.io/utils/clock"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/broker"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/program"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/report"
)

// gcPercent is how much garbage there may be beside what is in use. With 10,000 jobs in the queue the program has less than 30 MiB.
const gcPercent = 40

// rulesCommand runs the rules in this process: it is what run starts, and starts again.
func rulesCommand() *cobra.Command {
	var c config
	supervised := false
	cmd := &cobra.Command{
		Use: "rules FILE", Short: "Run the rules in this process, once", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ctx := cmd.Context()
			if supervised {
				var end func() error
				ctx, end = whileSupervised(ctx)
				defer func() { err = errors.Join(err, end()) }()
			}
			return c.runRules(ctx, cmd.ErrOrStderr(), args[0])
		},
	}
	c.addFlags(cmd)
	cmd.Flags().BoolVar(&supervised, supervisedFlag, false, "end when the other end of file 3, a pipe, is closed")
	return cmd
}

// supervisedFlag is what run tells its child.
const supervisedFlag = "supervised"

func (c *config) runRules(ctx context.Context, errOut io.Writer, path string) error {
	if err := c.check(); err != nil {
		return err
	}
	// The pod is its user's: memory counts for more than the little time that it takes to free it.
	debug.SetGCPercent(gcPercent)
	file, err := readFile(path)
	if err != nil {
		return err
	}
	log := logger(errOut, c.verbosity)
	client, err := c.connect()
	if err != nil {
		return err
	}
	defer closeAnd(log, "the connection to the broker", client.Close)
	progress := c.progressFile(client)
	directory, err := os.Getwd()
	if err != nil {
		return err
	}
	made := agent.Config{
		File:  file,
		Queue: &broker.Queue{Client: client, Log: log, Environment: broker.Environment(), Directory: directory},
		Programs: &program.Runner{
			Python: file.Custom, Deadline: c.programDeadline, Errors: errOut,
		},
		Store: agent.FileStore{Path: progress}, Log: log, Clock: clock.RealClock{},
	}
	if c.endpoint.Address != "" {
		operator, err := report.New(c.endpoint)
		if err != nil {
			return err
		}
		defer closeAnd(log, "the connection to the endpoint", operator.Close)
		made.Operator = operator
	}
	unlock, err := lock(ctx, log, progress+".lock")
	if err != nil {
		return err
	}
	defer closeAnd(log, "the lock of the rules", unlock)
	log.Info("Running", "version", version, "file", path, "endpoint", c.endpoint.Address, "broker", client.Path())
	return agent.Run(ctx, made)
}
