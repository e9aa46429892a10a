package launchtest

import (
	"context"
	"errors"
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// orderTwice: the same order has the same outcomes, and makes nothing twice.
func orderTwice(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "twice", Slow)
	order := s.order(t, pool, 0, 2)
	first := s.accepted(t, pool, order)
	s.same(t, pool, order, first)
	s.single(t, pool, order)
	// Some have had their outcome, and are not asked for again.
	fewer := *order
	fewer.Machines = order.Machines[1:]
	s.same(t, pool, &fewer, first[1:])
	s.single(t, pool, order)
	s.clear(t, pool, order)
}

// same requires that an order that is repeated has the outcomes that it had.
func (s *Subject) same(t *testing.T, pool *launch.Pool, order *launch.Order, first []launch.Outcome) {
	t.Helper()
	for i, again := range s.accepted(t, pool, order) {
		if again != first[i] {
			t.Errorf("the outcome of %s was %+v and is %+v", order.Machines[i].Name, first[i], again)
		}
	}
}

// clear ends the machines of an order.
func (s *Subject) clear(t *testing.T, pool *launch.Pool, order *launch.Order) {
	t.Helper()
	var instances []launch.Instance
	for _, machine := range order.Machines {
		instances = append(instances, launch.Instance{Machine: machine.Name})
	}
	s.ended(t, pool, instances...)
	for _, machine := range order.Machines {
		s.machineGone(t, pool, machine.Name)
	}
}

// neverCalled: a record for which no call was made has nothing, which can be deleted, and can be launched later.
func neverCalled(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "never", Fast)
	order := s.order(t, pool, 0, 1)
	if found := s.upToDate(t, pool); len(of(found, order.Machines[0].Name)) != 0 {
		t.Errorf("before the order there are %+v", found)
	}
	s.ended(t, pool, launch.Instance{Machine: order.Machines[0].Name})
	s.accepted(t, pool, order)
	for _, machine := range order.Machines {
		s.registered(t, pool, machine.Name)
	}
	s.clear(t, pool, order)
}

// replyLost: a call that is carried out and whose reply is lost is repeated, and makes nothing twice.
func replyLost(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "lost", Slow)
	order := s.order(t, pool, 0, 0)
	s.failing(t, pool, order, AfterIt)
	s.accepted(t, pool, order)
	s.single(t, pool, order)
	s.clear(t, pool, order)
}

// halfAnOrder: an order that ended half way goes on from where it was.
func halfAnOrder(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "half", Slow)
	if s.SetStock != nil {
		// What exists of the order must not count against it.
		s.SetStock(t, pool, 4)
	}
	order := s.order(t, pool, 0, 3)
	s.failing(t, pool, order, BeforeIt)
	s.accepted(t, pool, order)
	s.single(t, pool, order)
	s.clear(t, pool, order)
}

// failing launches an order whose call fails.
func (s *Subject) failing(t *testing.T, pool *launch.Pool, order *launch.Order, when Moment) {
	t.Helper()
	s.FailNextCall(t, pool, when)
	s.until(t, func(ctx context.Context) (string, error) {
		outcomes, err := s.Launcher.Launch(ctx, pool, order)
		switch {
		case err != nil:
			return "", ctx.Err()
		case throttled(outcomes) != "":
			return throttled(outcomes), nil
		}
		t.Errorf("the call failed %s, and the outcomes are %+v", when, outcomes)
		return "", nil
	})
}

// cancelled: a call that its caller has given up is repeated, and makes nothing twice.
func cancelled(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "cancelled", Slow)
	order := s.order(t, pool, 0, 3)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := s.Launcher.Launch(ctx, pool, order)
		ended <- err
	}()
	cancel()
	// It may have been carried out before.
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Logf("the call that was cancelled ended with %v", err)
	}
	if _, err := s.Launcher.Launch(ctx, pool, order); err == nil {
		t.Log("a call under a context that is over was carried out")
	}
	s.accepted(t, pool, order)
	s.single(t, pool, order)
	s.clear(t, pool, order)
}
