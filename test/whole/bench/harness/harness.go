// Package harness is what the commands of the benchmarks share: how they begin and end, and how they wait.
package harness

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Main runs a command until it ends or is interrupted. Its tables go to standard output, and progress and the error that it
// fails with to standard error.
func Main(name string, run func(ctx context.Context, arguments []string, out, progress io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %s\n", name, err)
		os.Exit(1)
	}
}

// Poll asks in every period until nothing is missing. When patience is at its end the error says what is.
func Poll(ctx context.Context, period, patience time.Duration, missing func() string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		what := missing()
		if what == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", ctx.Err(), what)
		case <-ticker.C:
		}
	}
}
