// Command pods measures what creating a pod costs in a cluster that we are installed in: the real binaries of provider and
// controller, on an embedded control plane with a scheduler. It prints how long the API server takes to create a pod, one at a
// time and several under way, and how long it takes until a pod that a free node has room for is bound,
//
//   - without us: nothing that is ours is installed in admission,
//   - with us: all of it is, and the pods do not carry our label,
//   - with us and pods that do, of a Job: the API server adds the scheduling gate to them, and
//   - with us and the controller stopped, so that nobody answers for its webhooks.
//
// They take turns, in one order and then in the other, so that what becomes of the machine in the meantime counts for all.
// The controller tells how many objects the API server had it look at: no pod is among them.
//
// Tables go to standard output, progress to standard error. Run it on a machine that does nothing else: all processes share
// its cores.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

// options are what the user can choose.
type options struct {
	creates, binds, rounds, callers int
	check                           bool
	logs                            string
}

// What -check allows pods without our label, as ratios to the same without us. Two equal things differ by that much on a
// machine that does other things as well; a call to a webhook would all but double p50, and one that nobody answers takes
// seconds.
const (
	maxP50 = 1.25
	maxP99 = 3
)

func main() { harness.Main("pods", dispatch) }

func dispatch(ctx context.Context, arguments []string, out, progress io.Writer) error {
	var o options
	flags := flag.NewFlagSet("pods", flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.IntVar(&o.creates, "creates", 1000, "number of pods to create in each way, one at a time, and again with several under way")
	flags.IntVar(&o.binds, "binds", 320, "number of pods whose binding is waited for, in each way")
	flags.IntVar(&o.rounds, "rounds", 8, "number of turns that these are spread over")
	flags.IntVar(&o.callers, "callers", 8, "number of pods being created at any time, where it is several")
	flags.StringVar(&o.logs, "logs", "", "directory for the logs of all processes; without it they go away at the end")
	flags.BoolVar(
		&o.check, "check", false,
		fmt.Sprintf(
			"fail when pods without our label take more than %g times as long as without us (p99: %d times), or reach the controller", maxP50,
			maxP99,
		),
	)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unknown argument %q", flags.Arg(0))
	case o.rounds < 2 || o.rounds%2 != 0:
		return fmt.Errorf("--rounds is %d; it must be even, and 2 at least: every other round goes the other way", o.rounds)
	case o.creates < o.rounds || o.binds < o.rounds:
		return fmt.Errorf("--creates is %d and --binds %d; both must be at least --rounds, which is %d", o.creates, o.binds, o.rounds)
	case o.callers < 1:
		return fmt.Errorf("--callers is %d; it must be at least 1", o.callers)
	}
	return run(ctx, &o, out, progress)
}

func run(ctx context.Context, o *options, out, progress io.Writer) (err error) {
	started := time.Now()
	s, err := system.Start(ctx, system.Options{
		Progress: progress, LogDir: o.logs,
		// Most of the time would be spent on deleting the pods of one turn before the next.
		APIServerArguments: []string{"--delete-collection-workers=8"},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	b := &bench{options: o, system: s, progress: progress}
	if err := b.settle(ctx); err != nil {
		return err
	}
	r, err := b.measure(ctx)
	if err != nil {
		return err
	}
	if err := r.print(out); err != nil {
		return err
	}
	b.say("done after %s", time.Since(started).Round(time.Second))
	if missed := r.missed(); o.check && len(missed) > 0 {
		return fmt.Errorf("targets were missed:\n  %s", strings.Join(missed, "\n  "))
	}
	return nil
}
