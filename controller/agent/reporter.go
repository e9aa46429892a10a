package agent

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
)

// reportInterval is between two reports.
const reportInterval = 2 * time.Second

// repeatInterval is after how long a report that has not changed is sent again: its age tells whether the member still speaks.
const repeatInterval = 4 * time.Minute

// reporter tells the operator the state of the queue when it has changed, and once in a while. Set and look are for all goroutines.
type reporter struct {
	Config
	mu      sync.Mutex
	latest  rules.Report
	changed chan struct{}
}

func newReporter(c Config) *reporter { return &reporter{Config: c, changed: make(chan struct{}, 1)} }

func (r *reporter) set(report rules.Report) {
	r.mu.Lock()
	same := reflect.DeepEqual(r.latest, report)
	r.latest = report
	r.mu.Unlock()
	if !same {
		r.look()
	}
}

// look has the nodes counted again.
func (r *reporter) look() { poke(r.changed) }

// followNodes looks when nodes come or go.
func (r *reporter) followNodes(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.Queue.FollowNodes(ctx, r.look)
		if ctx.Err() == nil {
			r.Log.Info("Nodes that come and go cannot be followed; it is tried again", "reason", fmt.Sprint(err))
			wait(ctx, r.Clock, repeatInterval)
		}
	}
}

func (r *reporter) run(ctx context.Context) {
	var sent *Report
	reachable := true
	for {
		repeat := r.Clock.NewTimer(repeatInterval)
		select {
		case <-r.changed:
		case <-repeat.C():
			sent = nil
		case <-ctx.Done():
			repeat.Stop()
			return
		}
		repeat.Stop()
		for pause := reportInterval; ctx.Err() == nil; pause = min(2*pause, maxPause) {
			report, err := r.now(ctx)
			if err == nil && (sent == nil || !reflect.DeepEqual(*sent, report)) {
				call, cancel := context.WithTimeout(ctx, callTimeout)
				err = r.Operator.Report(call, report)
				cancel()
			}
			if err == nil {
				sent = &report
			} else if reachable && ctx.Err() == nil {
				r.Log.Info("The state of the queue cannot be reported", "error", err.Error())
			}
			reachable = err == nil
			if !wait(ctx, r.Clock, pause) || err == nil {
				break
			}
		}
	}
}

func (r *reporter) now(ctx context.Context) (Report, error) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	nodes, err := r.Queue.Nodes(call)
	if err != nil {
		return Report{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return Report{Report: r.latest, Nodes: nodes}, nil
}
