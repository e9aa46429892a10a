package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/figures"
)

const (
	// besideFlood is how many requests of the others are under way at any time.
	besideFlood = 4
	// floodCallers is how many requests the one that floods has under way.
	floodCallers = 16
)

// flooded measures what the members are answered before and while one of them, the last, asks without pause.
func (e *ensembles) flooded(ctx context.Context) ([]timing, error) {
	if len(e.members) < 2 {
		return nil, nil
	}
	quiet := *e
	quiet.options = &options{members: len(e.members) - 1, connections: besideFlood}
	quiet.members = e.members[:len(e.members)-1]
	calls := min(e.calls, callsOfMember*len(quiet.members)) / 2
	measure := func(when string) ([]timing, error) {
		e.say("measuring requests %s", when)
		read, err := quiet.time(
			ctx, "RequestStatus, "+when, calls, func(ctx context.Context, m *member) (*ensemble.Response, error) { return m.status(ctx) },
		)
		if err != nil {
			return nil, err
		}
		refused, err := quiet.timeAnswered(ctx, "RequestAction, shrink below minSize, "+when, min(calls, len(quiet.members)),
			ensemble.Response_DENIED,
			func(ctx context.Context, m *member) (*ensemble.Response, error) { return m.act(ctx, "shrink") })
		return []timing{read, refused}, err
	}
	before, err := measure("before")
	if err != nil {
		return nil, err
	}

	flooding, stop := context.WithCancel(ctx)
	defer stop()
	var asked, denied atomic.Int64
	var flood sync.WaitGroup
	started := time.Now()
	for range floodCallers {
		flood.Go(func() {
			for flooding.Err() == nil {
				// What is beyond the rate of a member is DENIED, what is beyond that of an address has no answer at all.
				response, err := e.members[len(e.members)-1].act(flooding, "shrink")
				asked.Add(1)
				if response.GetStatus() == ensemble.Response_DENIED || status.Code(err) == codes.ResourceExhausted {
					denied.Add(1)
				}
			}
		})
	}
	meanwhile, err := measure("in the flood")
	took := time.Since(started)
	stop()
	flood.Wait()
	if err != nil {
		return nil, err
	}
	e.say("the flood: %s requests, %s a second, %s of them refused", figures.Thousands(int(asked.Load())),
		figures.Rate(float64(asked.Load())/took.Seconds()), figures.Thousands(int(denied.Load())))
	if asked.Load()-denied.Load() > floodCallers {
		return nil, fmt.Errorf("of %d requests of the member that floods only %d were refused", asked.Load(), denied.Load())
	}
	return append(before, meanwhile...), nil
}
