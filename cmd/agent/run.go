package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func runCommand() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "run FILE [-- COMMAND [ARGUMENT...]]",
		Short: "Run the rules until one of them terminates the ensemble",
		Long: "Run the rules of an ensemble.yaml until one of them terminates the ensemble. With a command, run that beside them, and\n" +
			"end with it too: a script that submits jobs of its own, for instance.",
		Example: "  agent run ensemble.yaml --endpoint ensemble-autoscaler:50051 --name my-ensemble\n" +
			"  agent run ensemble.yaml -- ./submit-jobs.sh",
		Args: func(cmd *cobra.Command, args []string) error {
			if before := cmd.ArgsLenAtDash(); before == 1 && len(args) > 1 || before < 0 && len(args) == 1 {
				return nil
			}
			return errors.New("one file of rules is needed, and a command to run beside them goes after --")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.check(); err != nil {
				return err
			}
			// What is wrong from the beginning is said once, and not by a child that is started again and again.
			if _, err := readFile(args[0]); err != nil {
				return err
			}
			client, err := c.connect()
			if err != nil {
				return err
			}
			if err := client.Close(); err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			child := []string{self, "rules", args[0], "--" + supervisedFlag}
			cmd.Flags().Visit(func(flag *pflag.Flag) { child = append(child, "--"+flag.Name+"="+flag.Value.String()) })
			s := &supervisor{rules: child, beside: args[1:], log: logger(cmd.ErrOrStderr(), c.verbosity), pause: minRestart}
			return s.run(cmd.Context())
		},
	}
	c.addFlags(cmd)
	return cmd
}

const (
	// minRestart and maxRestart are between the end of the rules and their next start, healthy how long they have to run for the first.
	minRestart = 200 * time.Millisecond
	maxRestart = 5 * time.Second
	healthy    = time.Minute
	// grace is how long a child has to end when it is told to.
	grace = 5 * time.Second
)

// supervisor runs the rules in a child, and a command beside it.
type supervisor struct {
	rules, beside []string
	log           logr.Logger
	pause         time.Duration
}

// run returns when the rules terminate the ensemble, with nil, when the command ends, as that did, or when the context ends.
func (s *supervisor) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ends := make(chan error, 2)
	running := 1
	go func() { ends <- s.keepRules(ctx) }()
	if len(s.beside) > 0 {
		running++
		go func() { ends <- s.runBeside(ctx) }()
	}
	err := <-ends
	cancel()
	for range running - 1 {
		if other := <-ends; other != nil {
			s.log.V(1).Info("Ended with the other one", "how", other.Error())
		}
	}
	return err
}

// keepRules runs the rules until they terminate the ensemble.
func (s *supervisor) keepRules(ctx context.Context) error {
	// The kernel closes this end when this process ends, however it does, and then the child ends too.
	theirs, ours, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the rules: %w", err)
	}
	defer closeAnd(s.log, "the pipe to the rules", func() error { return errors.Join(theirs.Close(), ours.Close()) })
	pause := s.pause
	for {
		begun := time.Now()
		child := start(ctx, s.rules)
		child.ExtraFiles = []*os.File{theirs}
		err := child.Run()
		switch {
		case err == nil:
			s.log.Info("The rules have terminated the ensemble")
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if time.Since(begun) > healthy {
			pause = s.pause
		}
		s.log.Error(err, "The rules have ended and are started again", "after", pause.String())
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		pause = min(2*pause, maxRestart)
	}
}

func (s *supervisor) runBeside(ctx context.Context) error {
	err := start(ctx, s.beside).Run()
	if ended, is := errors.AsType[*exec.ExitError](err); is {
		code := ended.ExitCode()
		if status, is := ended.Sys().(syscall.WaitStatus); is && status.Signaled() {
			// As shells have it.
			code = 128 + int(status.Signal())
		}
		return &exitError{code: code}
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", s.beside[0], err)
	}
	return nil
}

// start prepares a child that is told to end with the context, and has this process's files.
func start(ctx context.Context, words []string) *exec.Cmd {
	child := exec.CommandContext(ctx, words[0], words[1:]...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
	child.WaitDelay = grace
	return child
}
