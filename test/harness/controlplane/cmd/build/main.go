// Command build makes the binaries of the control plane that tests and the demo run, and kubectl, ahead of the first use,
// and prints the directory that holds them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	binaries, err := controlplane.Build(ctx, os.Stderr)
	if err != nil {
		return err
	}
	if _, err := controlplane.BuildKubectl(ctx, os.Stderr); err != nil {
		return err
	}
	_, err = fmt.Println(binaries.Directory())
	return err
}
