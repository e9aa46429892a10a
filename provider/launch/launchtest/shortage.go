package launchtest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// stockoutOfPart: of too few machines the first ones of an order get theirs, or none where it is all or none.
func stockoutOfPart(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "part", Fast)
	s.SetStock(t, pool, 2)
	order := s.order(t, pool, 0, 3)
	outcomes := s.launch(t, pool, order)
	served := 2
	if order.Atomic {
		served = 0
	}
	for i, outcome := range outcomes {
		if i < served {
			s.registered(t, pool, order.Machines[i].Name)
			continue
		}
		s.refused(t, pool, order.Machines[i].Name, outcome)
	}
	// What was refused is let go, and does not count.
	s.clear(t, pool, order)
	next := s.order(t, pool, 4, 5)
	s.accepted(t, pool, next)
	for _, machine := range next.Machines {
		s.registered(t, pool, machine.Name)
	}
	s.clear(t, pool, next)
}

// stockoutOfAll: of no machines nobody gets one, until there are some.
func stockoutOfAll(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "none", Fast)
	s.SetStock(t, pool, 0)
	order := s.order(t, pool, 0, 1)
	for i, outcome := range s.launch(t, pool, order) {
		s.refused(t, pool, order.Machines[i].Name, outcome)
	}
	s.clear(t, pool, order)
	s.SetStock(t, pool, 1)
	next := s.order(t, pool, 2, 2)
	s.accepted(t, pool, next)
	s.registered(t, pool, next.Machines[0].Name)
	s.clear(t, pool, next)
}

// refused requires that a machine is told to be out of resources: in the reply, or by the instance.
func (s *Subject) refused(t *testing.T, pool *launch.Pool, machine string, outcome launch.Outcome) {
	t.Helper()
	code, message := outcome.Code, outcome.Message
	switch outcome.Kind {
	case launch.OutOfResources:
		if found := of(s.upToDate(t, pool), machine); len(found) != 0 {
			t.Errorf("%s was refused, and is %+v", machine, found)
		}
	case launch.Accepted:
		instance := s.instance(t, pool, machine, func(i *launch.Instance) string {
			if i.Failure == nil {
				return machine + " has not failed"
			}
			return ""
		})
		if instance.Failure.Class != v1alpha1.FailureOutOfResources || instance.NodeName != "" {
			t.Errorf("there is no machine left, and %s is %+v with %+v", machine, *instance, *instance.Failure)
		}
		code, message = instance.Failure.Code, instance.Failure.Message
	default:
		t.Errorf("there is no machine left, and the outcome of %s is %+v", machine, outcome)
	}
	if code == "" || message == "" {
		t.Errorf("%s is refused with the code %q and the message %q", machine, code, message)
	}
}

// throttling: a call that is throttled does nothing, says when to ask again, and is carried out later.
func throttling(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "throttled", Throttled)
	first := int64(0)
	var order *launch.Order
	s.until(t, func(ctx context.Context) (string, error) {
		order = s.order(t, pool, first, first+1)
		outcomes, err := s.Launcher.Launch(ctx, pool, order)
		switch first += 2; {
		case err != nil:
			return err.Error(), ctx.Err()
		case throttled(outcomes) == "":
			return "no launch is throttled", nil
		}
		for _, outcome := range outcomes {
			if outcome.Kind == launch.Throttled && outcome.After <= 0 {
				return "", fmt.Errorf("it is to be repeated after %s", outcome.After)
			}
		}
		return "", nil
	})
	if found := of(s.upToDate(t, pool), order.Machines[0].Name); len(found) != 0 {
		t.Errorf("the launch was throttled, and made %+v", found)
	}
	s.accepted(t, pool, order)
	s.single(t, pool, order)
	s.throttles(t, "listing", func(ctx context.Context) error {
		_, err := s.Launcher.List(ctx, pool)
		return err
	})
	victim := launch.Instance{Machine: order.Machines[0].Name}
	s.throttles(t, "termination", func(ctx context.Context) error {
		return errors.Join(s.Launcher.Terminate(ctx, pool, []launch.Instance{victim})...)
	})
	s.clear(t, pool, order)
}

// throttles repeats a call until it is throttled.
func (s *Subject) throttles(t *testing.T, what string, call func(context.Context) error) {
	t.Helper()
	s.until(t, func(ctx context.Context) (string, error) {
		if told, ok := errors.AsType[*launch.ThrottledError](call(ctx)); !ok || told.After <= 0 {
			return "no " + what + " is throttled", ctx.Err()
		}
		return "", nil
	})
}
