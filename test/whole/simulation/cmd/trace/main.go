// Command trace replays a CSV of requests to grow and to shrink with three strategies and prints what each makes of it:
// nodes first; patch first, with Cluster Autoscaler following at its defaults; and all nodes always on. Package simulation
// says what the figures are.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/simulation"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "trace:", err)
		os.Exit(1)
	}
}

func run(arguments []string, out io.Writer) error {
	flags := flag.NewFlagSet("trace", flag.ContinueOnError)
	path := flags.String(
		"csv", "test/whole/simulation/testdata/trace.csv",
		"the trace: time,member,action,amount and, if wanted, work; times in seconds, work in pod-seconds",
	)
	nodes := flags.Int("nodes", 16, "the greatest number of nodes")
	boot := flags.Duration("boot", 90*time.Second, "how long a machine takes to boot at least")
	jitter := flags.Duration("jitter", 30*time.Second, "up to how much longer it takes")
	seed := flags.Uint64("seed", 1, "where the draws begin")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *nodes < 1 || *nodes > 10000 {
		return fmt.Errorf("-nodes is %d; it must be from 1 to 10000", *nodes)
	}
	if *boot < 0 || *jitter < 0 || *boot+*jitter > 10*time.Minute {
		return fmt.Errorf("-boot is %s and -jitter %s; they must not be negative, and at most 10m together", *boot, *jitter)
	}
	file, err := os.Open(*path)
	if err != nil {
		return fmt.Errorf("open the trace: %w", err)
	}
	defer func() { _ = file.Close() }() // It was only read.
	requests, err := simulation.ReadRequests(file)
	if err != nil {
		return fmt.Errorf("%s: %w", *path, err)
	}
	outcomes, err := simulation.Replay(requests, simulation.Cloud{Nodes: int32(*nodes), Boot: *boot, Jitter: *jitter, Seed: *seed})
	if err != nil {
		return fmt.Errorf("%s: %w", *path, err)
	}
	return simulation.WriteTable(out, outcomes)
}
