// Command growths measures where the time goes from the request of a growth to its last pod: the real binaries of provider and
// controller, with the Flux Operator and Cluster Autoscaler, real or stand-ins, on an embedded control plane that keeps an audit
// log. A MiniCluster grows from one pod to a size
//
//   - grown: by a request of its lead broker,
//   - patched: as a MiniCluster that nobody manages, which is patched to the size first, while Cluster Autoscaler buys nodes for the
//     pods that are Pending, and
//   - made: as a MiniCluster that nobody manages and that is made with the size, on nodes that are Ready already.
//
// It prints how long each takes, when each step was reached, and who has written how often and for how long. Medians are those of
// all rounds. Cluster Autoscaler is the real one where CLUSTER_AUTOSCALER names its binary.
//
// Tables go to standard output, progress to standard error. Times depend on the machine: to be compared are those of one run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/growth"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

// A way is how a MiniCluster comes to its size.
type way string

const (
	grown   way = "grown"
	patched way = "patched"
	made    way = "made"
)

var allWays = []way{grown, patched, made}

// options are what the user can choose.
type options struct {
	sizes     []int
	ways      []way
	rounds    int
	bootDelay time.Duration
	check     bool
	logs      string
}

// maxSize is how many pods a MiniCluster may have, maxRounds how often it may be measured.
const (
	maxSize   = 1000
	maxRounds = 100
)

// What -check allows: by size, the time from the request to all Running as a multiple of that of the MiniCluster that is patched first; and
// for all sizes that from the last node Ready to the last pod Running as a multiple of that of the MiniCluster that is made on Ready nodes.
var maxOfPatched = map[int]float64{50: 0.9, 200: 0.95, 500: 0.9}

const maxOfMade = 1.25

func main() { harness.Main("growths", dispatch) }

func parse(arguments []string, progress io.Writer) (*options, error) {
	o := &options{sizes: []int{50, 200, 500}, ways: allWays, rounds: 3}
	quick := false
	flags := flag.NewFlagSet("growths", flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.Func("sizes", "comma-separated numbers of pods to grow to; without it 50,200,500", func(text string) error {
		o.sizes = nil
		for part := range strings.SplitSeq(text, ",") {
			size, err := strconv.Atoi(part)
			if err != nil || size < 2 || size > maxSize {
				return fmt.Errorf("%q is no number from 2 to %d", part, maxSize)
			}
			o.sizes = append(o.sizes, size)
		}
		return nil
	})
	flags.Func("ways", "comma-separated ways to a size; without it grown,patched,made", func(text string) error {
		o.ways = nil
		for part := range strings.SplitSeq(text, ",") {
			if !slices.Contains(allWays, way(part)) {
				return fmt.Errorf("there is no way %q; there are grown, patched, made", part)
			}
			o.ways = append(o.ways, way(part))
		}
		return nil
	})
	flags.IntVar(&o.rounds, "rounds", o.rounds, "how often each is measured; figures are medians")
	flags.DurationVar(&o.bootDelay, "boot-delay", 10*time.Second, "how long a machine takes to boot")
	flags.StringVar(&o.logs, "logs", "", "directory for the logs of all processes and the audit log; without it they go away at the end")
	flags.BoolVar(
		&quick, "quick", false, "one round of a growth to 8 with a boot delay of a second, in place of -sizes, -rounds and -boot-delay",
	)
	flags.BoolVar(&o.check, "check", false, fmt.Sprintf("fail when a growth to 50, 200 or 500 takes more than %g, %g or %g of the "+
		"time of the one that is patched first, when from its last node to its last pod it takes more than %g of the time of the one that is "+
		"made on Ready nodes, or when a pod is Pending for want of a node",
		maxOfPatched[50], maxOfPatched[200], maxOfPatched[500], maxOfMade))
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	if quick {
		o.sizes, o.rounds, o.bootDelay = []int{8}, 1, time.Second
	}
	switch {
	case flags.NArg() > 0:
		return nil, fmt.Errorf("unknown argument %q", flags.Arg(0))
	case o.rounds < 1 || o.rounds > maxRounds:
		return nil, fmt.Errorf("-rounds is %d; it must be from 1 to %d", o.rounds, maxRounds)
	case o.bootDelay < 0:
		return nil, fmt.Errorf("-boot-delay is %s; it must not be less than 0", o.bootDelay)
	}
	return o, nil
}

func dispatch(ctx context.Context, arguments []string, out, progress io.Writer) (err error) {
	o, err := parse(arguments, progress)
	if err != nil {
		return err
	}
	started := time.Now()
	g, err := growth.Start(ctx, growth.Options{Logs: o.logs, Policy: auditPolicy, Scan: time.Second, Progress: progress})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Stop()) }()
	b := &bench{options: o, Bench: g}
	courses, err := b.measure(ctx)
	if err != nil {
		return err
	}
	autoscaler := "a stand-in for Cluster Autoscaler"
	if os.Getenv(system.ClusterAutoscalerVariable) != "" {
		autoscaler = "the real Cluster Autoscaler"
	}
	if _, err := fmt.Fprintf(out, `Growths with machines that boot in %s, %s with a scan interval of 1 s, medians of %d. Seconds.

%s
When each step was reached, in seconds from the request

%s
Who has written from the request to the last pod Running: writes for each pod, milliseconds that the API server had each, and how many it had at a time

%s
The same since the last node was Ready, or since the request where all nodes were

%s
`, o.bootDelay, autoscaler, o.rounds, summary(courses), steps(courses), writing(courses, all), writing(courses, last)); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(progress, "done after %s\n", time.Since(started).Round(time.Second)) // Progress that nobody reads is no error.
	if missed := missed(courses); o.check && len(missed) > 0 {
		return fmt.Errorf("targets were missed:\n  %s", strings.Join(missed, "\n  "))
	}
	return nil
}
