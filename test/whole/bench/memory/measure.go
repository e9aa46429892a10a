package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/figures"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

const (
	// readyWithin bounds the wait for a program that has just been started, quietWithin that for it to have done what there was to do; then
	// it is measured all the same.
	readyWithin, quietWithin = 10 * time.Minute, 3 * time.Minute
	poll                     = 500 * time.Millisecond
	// quiet is the part of a core below which a program has come to rest, for quietFor.
	quiet, quietFor = 0.02, 5 * time.Second
	stopWithin      = 20 * time.Second
	// changers is how many changes of pods in the API server may be under way.
	changers = 64
)

// source tells the programs of pods.
type source struct {
	// name says which pods they are.
	name      string
	apiServer string // a URL, empty for that of the control plane
	pods      int
	// during has pods change as often as the options say while a function runs, and returns how many have.
	during func(ctx context.Context, run func(context.Context) error) (int, error)
}

// measure fills the cluster and measures both programs with each source of pods.
func (b *bench) measure(ctx context.Context, r *report) error {
	for _, prepare := range []func(context.Context) error{b.connect, b.install, b.certificates, b.fill} {
		if err := prepare(ctx); err != nil {
			return err
		}
	}
	if b.stored > 0 {
		if err := b.measureWith(ctx, r, &source{name: "in the API server", pods: b.stored, during: b.changing}); err != nil {
			return err
		}
	}
	if b.pods == 0 {
		return nil
	}
	p, err := b.startProxy()
	if err != nil {
		return err
	}
	err = b.measureWith(ctx, r, &source{name: "made up by a proxy", apiServer: p.url, pods: b.pods, during: func(
		ctx context.Context, run func(context.Context) error,
	) (int, error) {
		before := p.told.Load()
		p.rate.Store(int64(b.events))
		err := run(ctx)
		p.rate.Store(0)
		// Each of the programs has a watch.
		return int(p.told.Load()-before) / len(b.programs), err
	}})
	return errors.Join(err, p.stop())
}

// measureWith measures both programs, which run beside each other as they do in a cluster.
func (b *bench) measureWith(ctx context.Context, r *report, s *source) (err error) {
	load := harness.LoadAverage()
	began := time.Now()
	var rows []*row
	var running []*program
	defer func() {
		for _, p := range running {
			err = errors.Join(err, p.Stop(stopWithin))
		}
	}()
	for _, name := range []string{provider, controller} {
		p, err := b.start(ctx, name, s.apiServer)
		if err != nil {
			return err
		}
		running = append(running, p)
		rows = append(rows, &row{program: name, source: s.name, pods: s.pods, nodes: b.options.nodes, load: load})
	}
	for i, p := range running {
		b.say("%s pods %s: waiting until the %s is ready", fmt.Sprint(s.pods), s.name, p.Name())
		if err := p.ready(ctx); err != nil {
			return err
		}
		rows[i].ready = time.Since(began)
	}
	b.say("waiting until they are at rest")
	if err := b.settle(ctx, running); err != nil {
		return err
	}
	rest, err := b.count(ctx, running, b.window)
	if err != nil {
		return err
	}
	for i, p := range running {
		memory, err := harness.MemoryOf(p.Pid())
		if err != nil {
			return err
		}
		rows[i].rest, rows[i].processorAtRest = memory.Resident, rest[i]
	}
	b.say("having pods change")
	var under []float64
	changes, err := s.during(ctx, func(ctx context.Context) (err error) {
		under, err = b.count(ctx, running, b.window)
		return err
	})
	if err != nil {
		return err
	}
	for i, p := range running {
		memory, err := harness.MemoryOf(p.Pid())
		if err != nil {
			return err
		}
		rows[i].peak, rows[i].processorUnderEvents, rows[i].events = memory.Peak, under[i], float64(changes)/b.window.Seconds()
	}
	r.rows = append(r.rows, rows...)
	for _, x := range rows {
		// What comes next may take long, or fail.
		b.say("%s: peak %s MiB, at rest %s MiB; %s %% of a core at rest, %s %% under %.0f events a second", x.program,
			figures.Mebibytes(x.peak), figures.Mebibytes(x.rest), percent(x.processorAtRest), percent(x.processorUnderEvents), x.events)
	}
	return nil
}

// settle waits until programs use little of a core for some time.
func (b *bench) settle(ctx context.Context, running []*program) error {
	ctx, cancel := context.WithTimeout(ctx, quietWithin)
	defer cancel()
	for {
		used, err := b.count(ctx, running, quietFor)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			b.say("they are not at rest after %s; measuring all the same", quietWithin)
			return nil
		case err != nil:
			return err
		case used[0] <= quiet && used[1] <= quiet:
			return nil
		}
	}
}

// count is which part of a core programs use in a time from now on.
func (b *bench) count(ctx context.Context, running []*program, window time.Duration) ([]float64, error) {
	before, err := spent(running)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	timer := time.NewTimer(window)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
	}
	took := time.Since(began)
	after, err := spent(running)
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(running))
	for i := range out {
		out[i] = (after[i] - before[i]).Seconds() / took.Seconds()
	}
	return out, nil
}

func spent(running []*program) ([]time.Duration, error) {
	out := make([]time.Duration, len(running))
	for i, p := range running {
		var err error
		if out[i], err = harness.ProcessorTime(p.Pid()); err != nil {
			return nil, fmt.Errorf("the %s has ended: %s: %w", p.Name(), harness.LastLine(p.LogFile()), err)
		}
	}
	return out, nil
}

// changing has pods in the API server change while a function runs.
func (b *bench) changing(ctx context.Context, run func(context.Context) error) (int, error) {
	changing, end := context.WithCancel(ctx)
	defer end()
	var done atomic.Int64
	ended := make(chan error, 1)
	go func() {
		pods := newMaker(b.nodes, b.jobs)
		group, changing := errgroup.WithContext(changing)
		group.SetLimit(changers)
		ticker := time.NewTicker(time.Second / time.Duration(b.events))
		defer ticker.Stop()
		for n := 0; changing.Err() == nil; n++ {
			select {
			case <-changing.Done():
			case <-ticker.C:
				group.Go(func() error {
					if err := b.change(changing, pods, n); err != nil && changing.Err() == nil {
						return err
					}
					done.Add(1)
					return nil
				})
			}
		}
		ended <- group.Wait()
	}()
	err := run(ctx)
	counted := done.Load()
	end()
	return int(counted), errors.Join(err, <-ended)
}
