package main

import (
	"context"
	"errors"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

// measure does what is to be done in a cluster of one size.
func (b *bench) measure(ctx context.Context, j *job, r *report) (err error) {
	c, err := b.startCluster(ctx, j.size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if j.wants(tableCalls) || j.wants(tableSizes) {
		if err := c.measureCalls(ctx, j, r); err != nil {
			return err
		}
	}
	if j.wants(tableExpander) {
		load := harness.LoadAverage()
		answer, err := c.ask(ctx, &clientOrder{Task: taskExpand})
		if err != nil {
			return err
		}
		after, err := harness.MemoryOf(c.provider.Pid())
		if err != nil {
			return err
		}
		r.expander = &expanderResult{load: load, after: after, timings: answer.Expands}
	}
	if j.wants(tableLoop) {
		load := harness.LoadAverage()
		constant, err := c.startConstant(ctx)
		if err != nil {
			return err
		}
		answer, err := c.ask(ctx, &clientOrder{Task: taskLoop, Constant: constant})
		if err != nil {
			return err
		}
		r.loop = &loopResult{size: j.size, load: load, loops: answer.Loops}
	}
	if j.wants(tableCalls) {
		// Last, because the cluster is at rest no more.
		answer, err := c.ask(ctx, &clientOrder{Task: taskWrites})
		if err != nil {
			return err
		}
		r.writes = answer.Timings
	}
	return nil
}

// measureCalls measures the calls that read, and the memory before and after them.
func (c *cluster) measureCalls(ctx context.Context, j *job, r *report) error {
	result := &callsResult{size: j.size, load: harness.LoadAverage()}
	var err error
	if result.rest, err = harness.MemoryOf(c.provider.Pid()); err != nil {
		return err
	}
	order := &clientOrder{Task: taskBySize}
	if j.wants(tableCalls) {
		order.Task = taskReads
	}
	answer, err := c.ask(ctx, order)
	if err != nil {
		return err
	}
	result.timings = answer.Timings
	if result.after, err = harness.MemoryOf(c.provider.Pid()); err != nil {
		return err
	}
	r.results = append(r.results, result)
	return nil
}
