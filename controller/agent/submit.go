package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
)

const (
	// parallel is how many of the same jobs are submitted at a time: Flux takes what comes within a few milliseconds together.
	parallel = 16
	// settle is how long a job may take to show in the journal when it is not known whether it was submitted.
	settle = 2 * time.Second
)

// submitter submits jobs in the order in which they come. Its methods are for all goroutines.
type submitter struct {
	Config
	refused func(order *rules.Order)

	mu     sync.Mutex
	orders []rules.Order
	// present are the jobs that were submitted or seen in the journal.
	present map[rules.Tag]bool
	// gone are those that the journal has rejected since it was opened: they are counted.
	gone    map[rules.Tag]bool
	wake    chan struct{}
	end     context.CancelFunc
	running sync.WaitGroup
}

func newSubmitter(c Config) *submitter {
	return &submitter{Config: c, present: map[rules.Tag]bool{}, gone: map[rules.Tag]bool{}, wake: make(chan struct{}, 1)}
}

// start begins to submit what is added from then on, after stop, and returns the jobs that are known to be submitted: none in another
// instance.
func (s *submitter) start(ctx context.Context, sameInstance bool) []rules.Tag {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Who wanted these does so no more, or wants them again.
	s.orders = nil
	clear(s.gone)
	if !sameInstance {
		clear(s.present)
	}
	var known []rules.Tag
	for tag := range s.present {
		known = append(known, tag)
	}
	ctx, s.end = context.WithCancel(ctx)
	s.running.Go(func() { s.run(ctx) })
	return known
}

// stop ends submitting when the calls that are under way have ended, and forgets what is left.
func (s *submitter) stop() {
	s.mu.Lock()
	end := s.end
	s.end, s.orders = nil, nil
	s.mu.Unlock()
	if end != nil {
		end()
		s.running.Wait()
	}
}

func (s *submitter) add(orders []rules.Order) {
	s.mu.Lock()
	s.orders = append(s.orders, orders...)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// saw is that a job is in the journal.
func (s *submitter) saw(tag rules.Tag) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.present[tag] = true
}

func (s *submitter) has(tag rules.Tag) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.present[tag] || s.gone[tag]
}

// rejected is that the queue has thrown a job out that it had taken in.
func (s *submitter) rejected(tag rules.Tag) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.present, tag)
	s.gone[tag] = true
}

func (s *submitter) run(ctx context.Context) {
	for {
		s.mu.Lock()
		orders := s.orders
		s.orders = nil
		s.mu.Unlock()
		for len(orders) > 0 {
			// Which of the same jobs comes first is the same; others wait for them.
			same := 1
			for same < len(orders) && orders[same].Job == orders[0].Job {
				same++
			}
			var group errgroup.Group
			group.SetLimit(parallel)
			for i := range same {
				group.Go(func() error {
					s.submit(ctx, &orders[i])
					return nil
				})
			}
			// None of them returns an error: each is tried until it succeeds or is refused.
			_ = group.Wait()
			orders = orders[same:]
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
	}
}

// submit tries until the job is in the queue or refused.
func (s *submitter) submit(ctx context.Context, order *rules.Order) {
	for pause := minPause; ctx.Err() == nil && !s.has(order.Tag); pause = min(2*pause, maxPause) {
		// The end of this submitter does not end a call: whether the job is in the queue would not be known.
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		err := s.Queue.Submit(call, *order)
		cancel()
		if err == nil {
			s.saw(order.Tag)
			return
		}
		if refused, is := errors.AsType[*RefusedError](err); is {
			s.Log.Error(refused, "A job is refused and counts as failed", "name", order.Job.Name)
			s.refused(order)
			return
		}
		s.Log.Info("A job could not be submitted; it is tried again", "name", order.Job.Name, "reason", err.Error())
		wait(ctx, s.Clock, max(pause, settle))
	}
}
