package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"google.golang.org/grpc"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/figures"
)

// loopWarmUp is the number of loops of each server before the first that is measured.
const loopWarmUp = 3

// loops are the times that loops took.
type loops struct {
	Calls              int // in one loop
	Provider, Constant []time.Duration
}

func newAutoscaler(connection grpc.ClientConnInterface) autoscaler {
	return externalgrpc.NewCloudProviderClient(connection)
}

// step is a call that is made so many times.
type step struct {
	call  *call
	times int
}

// loop is what Cluster Autoscaler asks in one pass, in its order. The numbers are those that were counted at 1,000
// nodes in 10 groups: 1,800 times NodeGroupForNode, 1,860 times NodeGroupGetOptions, 30 times NodeGroupTargetSize.
func (c *calls) loop(s size) []step {
	return []step{
		{&c.refresh, 1},
		{&c.nodeGroups, 1},
		{&c.template, s.Groups},
		{&c.targetSize, 3 * s.Groups},
		{&c.nodes, s.Groups},
		{&c.nodeGroupForNode, s.Nodes * 180 / 100},
		{&c.options, s.Nodes * 186 / 100},
	}
}

// loops lets the provider and the server of constants take turns, so that whatever else the machine does concerns
// both. Who comes first changes from round to round.
func (p *player) loops(ctx context.Context, provider autoscaler) (out loops, err error) {
	connection, constant, err := p.connect(ctx, p.order.Constant)
	if err != nil {
		return loops{}, err
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	steps := p.calls.loop(p.order.Size)
	for _, s := range steps {
		out.Calls += s.times
		if _, err := s.call.verify(ctx, provider, 0); err != nil {
			return loops{}, err
		}
	}
	rounds := loopWarmUp + p.order.Effort.Loops
	for round := range rounds {
		if round%10 == 0 {
			_, _ = fmt.Fprintf(
				p.progress, "replaying loops of %s calls … %d of %d\n", figures.Thousands(out.Calls), round, rounds,
			) // Progress that nobody reads is no error.
		}
		turns := []struct {
			server autoscaler
			times  *[]time.Duration
		}{{provider, &out.Provider}, {constant, &out.Constant}}
		if round%2 == 1 {
			turns[0], turns[1] = turns[1], turns[0]
		}
		for _, turn := range turns {
			took, err := replay(ctx, turn.server, steps)
			if err != nil {
				return loops{}, err
			}
			if round >= loopWarmUp {
				*turn.times = append(*turn.times, took)
			}
		}
	}
	return out, nil
}

func replay(ctx context.Context, server autoscaler, steps []step) (time.Duration, error) {
	runtime.GC()
	started := time.Now()
	for _, s := range steps {
		for i := range s.times {
			if err := s.call.ask(ctx, server, i); err != nil {
				return 0, err
			}
		}
	}
	return time.Since(started), nil
}
