// Command members measures what ensemble members see of the controller: the real binaries of provider and controller, on
// an embedded API server, with 1,000 MiniClusters of one node each and as many nodes that are free, asked from the
// addresses of the members' pods. It prints
//
//   - what a request costs, with 64 of them under way at any time,
//   - how many accepted requests become MiniClusters of another size in a second, nodes first, and
//   - what requests cost the others while one member asks without pause.
//
// Tables go to standard output, progress to standard error. Run it on a machine that does nothing else: all processes
// share its cores.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/figures"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

// options are what the user can choose.
type options struct {
	members, connections, calls int
	check                       bool
	logs                        string
}

// callsOfMember is how many calls in a row a member may make without being limited.
const callsOfMember = 10

// minDecisions is how many resizes in a second are the target.
const minDecisions = 100

func main() { harness.Main("members", dispatch) }

func dispatch(ctx context.Context, arguments []string, out, progress io.Writer) error {
	var o options
	flags := flag.NewFlagSet("members", flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.IntVar(&o.members, "members", 1000, "number of MiniClusters, each with a node to begin with")
	flags.IntVar(&o.connections, "connections", 64, "number of requests under way at any time, each on a connection of its own")
	flags.IntVar(&o.calls, "calls", 5000, "number of calls that change nothing")
	flags.StringVar(&o.logs, "logs", "", "directory for the logs of all processes; without it they go away at the end")
	flags.BoolVar(&o.check, "check", false, fmt.Sprintf("fail when fewer than %d requests become another size in a second", minDecisions))
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unknown argument %q", flags.Arg(0))
	case o.members < 1 || o.members > 10_000:
		return fmt.Errorf("--members is %d; it must be from 1 to 10000", o.members)
	case o.connections < 1 || o.calls < 1:
		return fmt.Errorf("--connections is %d and --calls %d; both must be at least 1", o.connections, o.calls)
	case o.calls > callsOfMember*o.members:
		return fmt.Errorf(
			"--calls is %d; it must be at most %d for each of %s: a member that asks more often is denied", o.calls, callsOfMember,
			figures.Counted(o.members, "member"),
		)
	}
	return run(ctx, &o, out, progress)
}

func run(ctx context.Context, o *options, out, progress io.Writer) (err error) {
	started := time.Now()
	s, err := system.Start(ctx, system.Options{
		Progress: progress, LogDir: o.logs, WithoutPods: true,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	e, err := settle(ctx, s, o, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	calls, resizes, err := e.measure(ctx)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "Requests of %s, %d under way at any time, each from the address of a pod of the member\n\n%s\n",
		figures.Counted(o.members, "member"), o.connections, callTable(calls)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, `From the first request to the last MiniCluster of another size, each with its nodes reserved, held and found Ready
first. No pods come or go: a Job controller, a scheduler and kubelets would need the same cores.

%s
`, resizeTable(resizes))
	if err != nil {
		return err
	}
	flood, err := e.flooded(ctx)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, `Requests of the other members, %d under way at any time, before and while one member asks without pause. The member that
floods is a client on the same cores.

%s
`, besideFlood, callTable(flood)); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(progress, "done after %s\n", time.Since(started).Round(time.Second)) // Progress that nobody reads is no error.
	for i := range resizes {
		if perSecond := resizes[i].perSecond(); o.check && perSecond < minDecisions {
			return fmt.Errorf("%s: %.0f MiniClusters in a second were resized; the target is %d", resizes[i].name, perSecond, minDecisions)
		}
	}
	return nil
}

func callTable(calls []timing) *figures.Table {
	t := figures.NewTable("request", "answered", "calls", "p50 ms", "p99 ms", "per second")
	for i := range calls {
		c := &calls[i]
		t.Add(c.name, c.status, figures.Thousands(len(c.durations)), figures.Milliseconds(figures.Percentile(c.durations, 50)),
			figures.Milliseconds(figures.Percentile(c.durations, 99)), figures.Rate(float64(len(c.durations))/c.all.Seconds()))
	}
	return t
}

func resizeTable(resizes []resize) *figures.Table {
	t := figures.NewTable("resize", "MiniClusters", "nodes before", "after", "resized s", "per second", "at rest s")
	for i := range resizes {
		r := &resizes[i]
		t.Add(
			r.name, figures.Thousands(r.members), figures.Thousands(r.before), figures.Thousands(r.after), fmt.Sprintf("%.2f", r.took.Seconds()),
			figures.Rate(r.perSecond()), fmt.Sprintf("%.2f", r.atRest.Seconds()),
		)
	}
	return t
}
