// Command bench measures the provider as Cluster Autoscaler sees it: the real binary, on an embedded control
// plane that holds up to 1,000 node groups and 10,000 nodes, asked over loopback with mutual TLS by a process
// of its own. It prints
//
//   - what each call costs,
//   - what a question to the expander costs,
//   - what the calls of one loop of Cluster Autoscaler cost, beside a server that computes nothing, and
//   - how cost and memory depend on the size of the cluster.
//
// Tables go to standard output, progress to standard error. Run it on a machine that does nothing else: all
// processes share its cores, and the load average is printed with the tables.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

// options are what the user can choose.
type options struct {
	full    size
	quick   bool
	check   bool
	tables  []string
	effort  effort
	program string // this one, which the other processes are started from
}

// effort is how long things are measured.
type effort struct {
	// Spend bounds the time for one call, serial and concurrent each, and Calls the number of serial calls.
	Spend time.Duration
	Calls int
	// Loops is the number of measured loops of each server.
	Loops int
	// Writes is the number of writes, serial and concurrent each.
	Writes int
}

func main() { harness.Main("bench", dispatch) }

// dispatch runs the benchmark or, where the benchmark has started it, one of the processes that take part in it.
func dispatch(ctx context.Context, arguments []string, out, progress io.Writer) error {
	if len(arguments) == 2 {
		switch arguments[0] {
		case clientRole:
			return runClient(ctx, arguments[1], out, progress)
		case constantRole:
			return runConstant(ctx, arguments[1])
		}
	}
	o, err := parse(arguments, progress)
	if err != nil {
		return err
	}
	if o.program, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	err = run(ctx, o, out, progress)
	if ctx.Err() != nil {
		return errors.Join(errors.New("interrupted; everything is stopped"), err)
	}
	return err
}

func parse(arguments []string, output io.Writer) (*options, error) {
	o := &options{effort: effort{Spend: 3 * time.Second, Calls: 5000, Loops: 31, Writes: 50}}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.IntVar(&o.full.Groups, "groups", 1000, "number of node groups at full size; smaller sizes are tenths and hundredths of it")
	flags.IntVar(&o.full.Nodes, "nodes", 10000, "number of nodes at full size; smaller sizes are tenths of it")
	flags.BoolVar(&o.quick, "quick", false, "small and short: whether it works, not how fast it is")
	flags.BoolVar(&o.check, "check", false, fmt.Sprintf("fail when p99 of a read is above %s or the ratio above %g", maxP99, maxRatio))
	only := flags.String("only", "", "comma-separated tables, of "+strings.Join(allTables, ", ")+"; without it all")
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	o.tables = allTables
	if *only != "" {
		o.tables = strings.Split(*only, ",")
	}
	for _, table := range o.tables {
		if !slices.Contains(allTables, table) {
			return nil, fmt.Errorf("--only has no table %q; there are %s", table, strings.Join(allTables, ", "))
		}
	}
	if o.quick {
		o.effort = effort{Spend: 300 * time.Millisecond, Calls: 500, Loops: 5, Writes: 5}
		given := map[string]bool{}
		flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
		if !given["groups"] {
			o.full.Groups = 100
		}
		if !given["nodes"] {
			o.full.Nodes = 1000
		}
	}
	if o.full.Groups < 1 || o.full.Nodes < o.full.Groups {
		return nil, fmt.Errorf("--groups is %d and --nodes %d; there must be a group at least, and a node for each", o.full.Groups, o.full.Nodes)
	}
	return o, nil
}

// run measures and prints one size after the other. A table is printed when its last row is there.
func run(ctx context.Context, o *options, out, progress io.Writer) error {
	started := time.Now()
	// controller-runtime would complain that nobody reads its log.
	ctrllog.SetLogger(logr.Discard())
	b := &bench{options: o, progress: progress}
	var err error
	if b.root, err = harness.Root(ctx); err != nil {
		return err
	}
	b.say("building the provider")
	if b.provider, err = harness.Build(ctx, b.root, "provider"); err != nil {
		return err
	}
	if b.binaries, err = controlplane.Build(ctx, progress); err != nil {
		return err
	}
	r := &report{sizes: sizesOf(o.full)}
	if err := r.header(out); err != nil {
		return err
	}
	for _, j := range jobs(o.full, o.tables) {
		if err := b.measure(ctx, &j, r); err != nil {
			return fmt.Errorf("%s: %w", j.size, err)
		}
		if err := r.print(out, &j); err != nil {
			return err
		}
	}
	if slices.Contains(o.tables, tableSizes) {
		if err := r.printSizes(out); err != nil {
			return err
		}
	}
	b.say("done after %s", time.Since(started).Round(time.Second))
	if missed := r.missed(); o.check && len(missed) > 0 {
		return fmt.Errorf("targets were missed:\n  %s", strings.Join(missed, "\n  "))
	}
	return nil
}

// bench is what stays the same from size to size.
type bench struct {
	options  *options
	progress io.Writer
	root     string
	provider string // the binary
	binaries controlplane.Binaries
}

func (b *bench) say(format string, arguments ...any) {
	_, _ = fmt.Fprintf(b.progress, format+"\n", arguments...) // Progress that nobody reads is no error.
}
