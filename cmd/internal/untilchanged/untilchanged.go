// Package untilchanged runs a program for as long as a file stays as it is. Cluster Autoscaler reads the certificate that it shows the
// provider at its start and never again, and its image has no shell: run by this it ends when the certificate was renewed, and the kubelet
// starts it again with the new one.
package untilchanged

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
)

// Options say what runs, and until when.
type Options struct {
	// File is looked at every Period.
	File   string
	Period time.Duration
	// Grace is how long the program has to end by itself.
	Grace time.Duration
	// Command is the program with its arguments.
	Command        []string
	Stdout, Stderr io.Writer
	Log            logr.Logger
}

// Run runs the program until the file has other content, the context ends, or the program does, whose error it returns. A file that
// cannot be read for a while has not changed; one that cannot be read at the start is an error.
func Run(ctx context.Context, o *Options) error {
	before, err := sum(o.File)
	if err != nil {
		return err
	}
	running, end := context.WithCancel(ctx)
	defer end()
	program := exec.CommandContext(running, o.Command[0], o.Command[1:]...)
	program.Stdout, program.Stderr = o.Stdout, o.Stderr
	program.Cancel = func() error { return program.Process.Signal(syscall.SIGTERM) }
	program.WaitDelay = o.Grace
	if err := program.Start(); err != nil {
		return fmt.Errorf("start %s: %w", o.Command[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- program.Wait() }()
	ticker := time.NewTicker(o.Period)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s ended: %w", o.Command[0], err)
			}
			return nil
		case <-ctx.Done():
			o.tell(<-ended)
			return nil
		case <-ticker.C:
		}
		switch now, err := sum(o.File); {
		case err != nil:
			o.Log.Error(err, "Cannot see whether the file has changed")
		case now != before:
			o.Log.Info("The file has changed; ending the program, to be started again with it", "file", o.File)
			end()
			o.tell(<-ended)
			return nil
		}
	}
}

// tell tells how a program ended that was told to: most of them with the signal, which is no failure.
func (o *Options) tell(err error) {
	if err != nil {
		o.Log.V(1).Info("The program has ended as it was told", "how", err.Error())
	}
}

func sum(file string) ([sha256.Size]byte, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("read the file that is looked at: %w", err)
	}
	return sha256.Sum256(content), nil
}

// Command is the subcommand that runs a program so.
func Command(log func() logr.Logger) *cobra.Command {
	o := Options{}
	cmd := &cobra.Command{
		Use:   "until-changed --file FILE -- PROGRAM [ARGUMENT...]",
		Short: "Runs a program that reads a file once, at its start, and ends it when that changes",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Period <= 0 {
				return fmt.Errorf("--period is %s; it must be positive", o.Period)
			}
			o.Command, o.Stdout, o.Stderr, o.Log = args, cmd.OutOrStdout(), cmd.ErrOrStderr(), log()
			return Run(cmd.Context(), &o)
		},
	}
	cmd.Flags().StringVar(&o.File, "file", "", "the file; a Secret that is mounted is one for each of its keys")
	cmd.Flags().DurationVar(&o.Period, "period", 10*time.Second, "how often the file is looked at")
	cmd.Flags().DurationVar(&o.Grace, "grace", 20*time.Second, "how long the program may take to end when it is told to")
	if err := cmd.MarkFlagRequired("file"); err != nil {
		panic(err) // There is no such flag.
	}
	return cmd
}

// Install is the subcommand that copies the running program to a file, for containers whose image does not have it.
func Install() *cobra.Command {
	return &cobra.Command{
		Use:   "install FILE",
		Short: "Copies this program to a file, for a container with another image",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			from, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			return install(from, args[0])
		},
	}
}

// install copies a program. Whoever starts the copy finds it whole or not at all.
func install(from, to string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("open this program: %w", err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	part, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+".*")
	if err != nil {
		return fmt.Errorf("create the copy: %w", err)
	}
	_, err = io.Copy(part, source)
	if err := errors.Join(err, part.Chmod(0o755), part.Close()); err != nil {
		return fmt.Errorf("copy this program: %w", errors.Join(err, os.Remove(part.Name())))
	}
	if err := os.Rename(part.Name(), to); err != nil {
		return fmt.Errorf("name the copy: %w", err)
	}
	return nil
}
