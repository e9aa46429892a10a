// Command agent runs the rules of an ensemble.yaml beside the lead broker of an ensemble member, in place of ensemble-python.
//
// As the command of the lead it ends the Flux instance, and all jobs, by ending. So it ends by the rule terminate, with the command that
// it was given, or when it is told to, and what runs the rules is a child that is started again.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(os.Stdout, os.Stderr).ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	code := 1
	if ended, is := errors.AsType[*exitError](err); is {
		code = ended.code
	} else {
		_, _ = fmt.Fprintln(os.Stderr, "error:", err)
	}
	os.Exit(code)
}

// exitError ends this process as a command ended, without a word.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

func command(out, errOut io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "agent",
		Short: "Run the rules of an ensemble.yaml on a Flux queue",
		Long: "Run the rules of an ensemble.yaml beside the lead broker of an ensemble member: submit jobs, ask for more or fewer\n" +
			"nodes, and report the state of the queue.",
		Version: version, SilenceUsage: true, SilenceErrors: true,
	}
	root.SetOut(out)
	root.SetErr(errOut)
	root.AddCommand(runCommand(), rulesCommand(), statusCommand(), checkCommand())
	return root
}

// readFile reads an ensemble.yaml for the agent. The error has all its faults.
func readFile(path string) (*ensemblefile.File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	base := field.NewPath("ensemble")
	file, faults := ensemblefile.ParseFor(ensemblefile.Agent, string(text), base)
	if len(faults) == 0 {
		return file, nil
	}
	return nil, &faultsError{path: path, base: base.String() + ".", faults: faults}
}

// logger writes a line of JSON for each message.
func logger(to io.Writer, verbosity int) logr.Logger {
	return funcr.NewJSON(func(line string) { _, _ = fmt.Fprintln(to, line) }, funcr.Options{
		LogTimestamp: true, TimestampFormat: time.RFC3339Nano, Verbosity: verbosity,
	})
}
