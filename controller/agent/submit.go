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
	// settle is how long a job may take to show in the journal when it is not known whether it was submitted, and how long a call may take
	// yet when the program ends.
	settle = 2 * time.Second
)

// submitter submits jobs in the order in which they come. It lives longer than a stream of the journal: what was ordered, or is under way,
// stays so as long as the instance is the same. Its methods are for all goroutines.
type submitter struct {
	Config
	refused func(order *rules.Order)
	// reopen has the journal read again from its beginning.
	reopen func()

	mu     sync.Mutex
	orders []rules.Order
	// wanted are the jobs that were ordered and are not submitted yet, present those that were submitted or seen in the journal.
	wanted, present map[rules.Tag]bool
	// gone are those that the journal has rejected since it was opened: they are counted.
	gone map[rules.Tag]bool
	// instances counts the instances, streams how often the journal was opened. opening is closed when it is the next time, and complete when
	// this stream has caught up.
	instances, streams int
	opening, complete  chan struct{}
	wake               chan struct{}
}

func newSubmitter(c Config) *submitter {
	return &submitter{
		Config: c, wanted: map[rules.Tag]bool{}, present: map[rules.Tag]bool{}, gone: map[rules.Tag]bool{},
		opening: make(chan struct{}), complete: make(chan struct{}), wake: make(chan struct{}, 1),
	}
}

// opened is that the journal is read from its beginning. It returns the jobs that are submitted, or will be without a further order: none
// in another instance.
func (s *submitter) opened(sameInstance bool) []rules.Tag {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.gone)
	s.streams++
	close(s.opening)
	s.opening, s.complete = make(chan struct{}), make(chan struct{})
	if !sameInstance {
		s.instances++
		s.orders = nil
		clear(s.wanted)
		clear(s.present)
	}
	var known []rules.Tag
	for _, tags := range []map[rules.Tag]bool{s.wanted, s.present} {
		for tag := range tags {
			known = append(known, tag)
		}
	}
	return known
}

// caughtUp is that all which had happened when the journal was opened was told.
func (s *submitter) caughtUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.complete:
	default:
		close(s.complete)
	}
}

func (s *submitter) add(orders []rules.Order) {
	s.mu.Lock()
	for i := range orders {
		s.wanted[orders[i].Tag] = true
	}
	s.orders = append(s.orders, orders...)
	s.mu.Unlock()
	poke(s.wake)
}

// saw is that a job is in the journal.
func (s *submitter) saw(tag rules.Tag) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.present[tag] = true
}

// rejected is that the queue has thrown a job out that it had taken in.
func (s *submitter) rejected(tag rules.Tag) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.present, tag)
	s.gone[tag] = true
}

// next takes the same jobs from the head of the queue: which of them comes first is the same, and others wait for them.
func (s *submitter) next() (orders []rules.Order, instance int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := 0
	for same < len(s.orders) && s.orders[same].Job == s.orders[0].Job {
		same++
	}
	orders, s.orders = s.orders[:same], s.orders[same:]
	return orders, s.instances
}

func (s *submitter) run(ctx context.Context) {
	for {
		for orders, instance := s.next(); len(orders) > 0 && ctx.Err() == nil; orders, instance = s.next() {
			var group errgroup.Group
			group.SetLimit(parallel)
			for i := range orders {
				group.Go(func() error {
					s.submit(ctx, &orders[i], instance)
					return nil
				})
			}
			// None of them returns an error: each is tried until it succeeds or is refused.
			_ = group.Wait()
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
	}
}

// due says whether a job of an instance is still to be submitted.
func (s *submitter) due(tag rules.Tag, instance int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.instances == instance && !s.present[tag] && !s.gone[tag]
}

// done is what has become of an order.
func (s *submitter) done(tag rules.Tag, instance int, present bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.instances != instance {
		return
	}
	delete(s.wanted, tag)
	if present {
		s.present[tag] = true
	}
}

// submit tries until the job is in the queue or refused, or its instance is over.
func (s *submitter) submit(ctx context.Context, order *rules.Order, instance int) {
	for pause := minPause; ctx.Err() == nil && s.due(order.Tag, instance); pause = min(2*pause, maxPause) {
		err := s.call(ctx, order)
		if err == nil {
			s.done(order.Tag, instance, true)
			return
		}
		if refused, is := errors.AsType[*RefusedError](err); is {
			s.Log.Error(refused, "A job is refused and counts as failed", "name", order.Job.Name)
			s.done(order.Tag, instance, false)
			s.refused(order)
			return
		}
		s.Log.Info("A job could not be submitted; it is tried again", "name", order.Job.Name, "reason", err.Error())
		wait(ctx, s.Clock, max(pause, settle))
		if _, is := errors.AsType[*NotNowError](err); !is && s.due(order.Tag, instance) {
			s.readAgain(ctx)
		}
	}
	s.done(order.Tag, instance, false)
}

// call submits a job. It has no deadline: a submission that was given up may be carried out yet. When the program ends, it has a moment.
func (s *submitter) call(ctx context.Context, order *rules.Order) error {
	call, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		wait(call, s.Clock, settle)
		cancel()
	})
	defer stop()
	return s.Queue.Submit(call, *order)
}

// readAgain returns when the journal has been read again from its beginning, all which had happened included.
func (s *submitter) readAgain(ctx context.Context) {
	s.mu.Lock()
	before := s.streams
	s.mu.Unlock()
	s.reopen()
	for {
		s.mu.Lock()
		opening, complete := s.opening, s.complete
		if s.streams == before {
			complete = nil
		}
		s.mu.Unlock()
		select {
		case <-complete:
			return
		case <-opening:
		case <-ctx.Done():
			return
		}
	}
}
