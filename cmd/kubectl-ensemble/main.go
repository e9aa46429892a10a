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

	"github.com/go-logr/logr"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/internal/cli"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/kubectl-ensemble/plugin"
)

// version is set by the linker.
var version = "dev"

func main() {
	// Nobody reads a log of a command; without this controller-runtime complains after half a minute that there is none.
	log.SetLogger(logr.Discard())
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := plugin.New(streams, version).ExecuteContext(ctx)
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
