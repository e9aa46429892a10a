// Command writes counts what a node costs the API server: the real binaries of provider and controller, with stand-ins for
// Cluster Autoscaler and the Flux Operator, on an embedded control plane that keeps an audit log. A MiniCluster of one grows by so many
// nodes and shrinks by them again, for several numbers of nodes. It prints
//
//   - how many writes each node costs, of the provider, of the controller and of the simulated cloud, and how many of them were in
//     vain because the object had changed meanwhile, and
//   - what they write.
//
// The simulated cloud is a part of the provider, and what it writes is what a real cloud keeps in its own memory: KwokInstances, and
// the nodes that kubelets register. So it is counted for itself.
//
// Tables go to standard output, progress to standard error. They count, and do not depend on how fast the machine is, but for what
// is written together because it has come together.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/growth"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

// options are what the user can choose.
type options struct {
	sizes     []int
	bootDelay time.Duration
	check     bool
	logs      string
}

// What -check allows at checkedSize: writes for each node, and conflicts for each hundred writes.
const (
	checkedSize         = 50
	maxProviderGrown    = 5.2
	maxProviderReleased = 4.3
	maxController       = 1.2
	maxConflictPercent  = 2
)

func main() { harness.Main("writes", dispatch) }

func dispatch(ctx context.Context, arguments []string, out, progress io.Writer) error {
	o := options{sizes: []int{8, 50, 200}}
	flags := flag.NewFlagSet("writes", flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.Func("sizes", "comma-separated numbers of nodes to grow and to shrink by; without it 8,50,200", func(text string) error {
		o.sizes = nil
		for part := range strings.SplitSeq(text, ",") {
			size, err := strconv.Atoi(part)
			if err != nil || size < 1 || size > maxNodes {
				return fmt.Errorf("%q is no number from 1 to %d", part, maxNodes)
			}
			o.sizes = append(o.sizes, size)
		}
		return nil
	})
	flags.DurationVar(&o.bootDelay, "boot-delay", 5*time.Second, "how long a machine takes to boot")
	flags.StringVar(&o.logs, "logs", "", "directory for the logs of all processes and the audit log; without it they go away at the end")
	flags.BoolVar(&o.check, "check", false, fmt.Sprintf("fail when at %d nodes the provider writes more than %g times for a node that comes "+
		"or %g times for one that goes, the controller more than %g times, or more than %d %% in vain",
		checkedSize, maxProviderGrown, maxProviderReleased, maxController, maxConflictPercent))
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	return run(ctx, &o, out, progress)
}

func run(ctx context.Context, o *options, out, progress io.Writer) (err error) {
	started := time.Now()
	b, err := growth.Start(ctx, growth.Options{Logs: o.logs, Policy: auditPolicy, Scan: time.Second, Progress: progress})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Stop()) }()
	steps, err := (&bench{options: o, Bench: b}).measure(ctx)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, `Writes for each node of a growth or a shrink, all in one step, from the request until all is at rest. The simulated cloud's are
KwokInstances and the nodes that its machines register. In vain are those that the API server refused because the object had changed.

%s
What is written for each node

%s
`, summary(steps), breakdown(steps)); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(progress, "done after %s\n", time.Since(started).Round(time.Second)) // Progress that nobody reads is no error.
	if missed := missed(steps); o.check && len(missed) > 0 {
		return fmt.Errorf("targets were missed:\n  %s", strings.Join(missed, "\n  "))
	}
	return nil
}
