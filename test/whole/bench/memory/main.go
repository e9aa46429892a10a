// Command memory measures what provider and controller occupy and compute in a large cluster: the real binaries, with the environment and
// the arguments of manifests, on an embedded control plane. A third of the nodes are in pools and have their records, all others and all
// pods are somebody else's. It prints, for each program,
//
//   - the peak of its resident memory from its start on, and what is resident at rest, and
//   - the part of a core that it uses at rest, and while foreign pods change, come and go,
//
// once with pods that are in the API server, and once with many more, which a proxy between the programs and the API server makes up while
// it tells of them: an API server that holds half a million pods has no room on the machine of a contributor.
//
// Tables go to standard output, progress to standard error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

// options are what the user can choose.
type options struct {
	nodes, pools, jobs int
	// stored is the number of pods in the API server, pods that of those that the proxy tells of.
	stored, pods int
	// events is how many pods change in a second.
	events int
	// window is how long processor time is counted, at rest and under events each.
	window       time.Duration
	quick, check bool
	logs         string
}

// The targets of -check.
const (
	maxBytes = 512 << 20
	// maxRest and maxEvents are parts of a core.
	maxRest   = 0.01
	maxEvents = 0.05
)

func main() { harness.Main("memory", dispatch) }

func dispatch(ctx context.Context, arguments []string, out, progress io.Writer) error {
	o, err := parse(arguments, progress)
	if err != nil {
		return err
	}
	return run(ctx, o, out, progress)
}

func parse(arguments []string, output io.Writer) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("memory", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.IntVar(&o.nodes, "nodes", 15_000, "number of nodes, a third of them in pools")
	flags.IntVar(&o.pools, "pools", 50, "number of pools")
	flags.IntVar(&o.jobs, "jobs", 1000, "number of Jobs that a third of the pods are of")
	flags.IntVar(&o.stored, "stored-pods", 30_000, "number of foreign pods in the API server; 0 leaves that measurement out")
	flags.IntVar(&o.pods, "pods", 450_000, "number of foreign pods that the proxy tells of; 0 leaves that measurement out")
	flags.IntVar(&o.events, "events", 100, "foreign pods that change, come or go in a second")
	flags.DurationVar(&o.window, "window", 30*time.Second, "how long processor time is counted, at rest and under events each")
	flags.BoolVar(&o.quick, "quick", false, "small and short: whether it works, not what is occupied")
	flags.BoolVar(&o.check, "check", false, fmt.Sprintf("fail when more than %d MiB are resident at any time, or more than %g of a core is "+
		"used at rest or %g under events",
		maxBytes>>20, maxRest, maxEvents))
	flags.StringVar(&o.logs, "logs", "", "directory for the logs of all processes; without it they go away at the end")
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	if o.quick {
		given := map[string]bool{}
		flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
		for name, small := range map[string]string{
			"nodes": "60", "pools": "4", "jobs": "10", "stored-pods": "120", "pods": "3000", "window": "2s",
		} {
			if !given[name] {
				if err := flags.Set(name, small); err != nil {
					return nil, err
				}
			}
		}
	}
	switch {
	case flags.NArg() > 0:
		return nil, fmt.Errorf("unknown argument %q", flags.Arg(0))
	case o.pools < 1 || o.nodes < 3*o.pools:
		return nil, fmt.Errorf("--pools is %d and --nodes %d; there must be a pool at least, and three nodes for each", o.pools, o.nodes)
	case o.jobs < 1:
		return nil, fmt.Errorf("--jobs is %d; it must be at least 1", o.jobs)
	case o.stored < 0 || o.pods < 0 || o.stored+o.pods == 0:
		return nil, fmt.Errorf("--stored-pods is %d and --pods %d; neither may be negative, and one must be positive", o.stored, o.pods)
	case o.events < 1:
		return nil, fmt.Errorf("--events is %d; it must be at least 1", o.events)
	case o.window < time.Second:
		return nil, fmt.Errorf("--window is %s; it must be at least 1s", o.window)
	}
	return o, nil
}

func run(ctx context.Context, o *options, out, progress io.Writer) (err error) {
	started := time.Now()
	b := &bench{options: o, progress: progress, programs: map[string]string{}}
	if b.root, err = harness.Root(ctx); err != nil {
		return err
	}
	for _, program := range []string{provider, controller} {
		b.say("building the %s", program)
		if b.programs[program], err = harness.Build(ctx, b.root, program); err != nil {
			return err
		}
	}
	b.say("starting etcd and kube-apiserver")
	if b.plane, err = controlplane.Start(ctx, controlplane.Options{Progress: progress, LogDir: o.logs}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	r := &report{options: o}
	if err := b.measure(ctx, r); err != nil {
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
