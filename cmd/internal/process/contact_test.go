package process

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	clocktesting "k8s.io/utils/clock/testing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestContact: the age grows while the API server cannot be reached, and only then.
func TestContact(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))
	answers := make(chan error)
	contact := newContact(func(ctx context.Context) error {
		select {
		case err := <-answers:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}, time.Minute, clock)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- contact.Start(ctx) }()

	if err := contact.Check(time.Hour); err == nil || err.Error() != "the API server has not been reached yet" {
		t.Errorf("before the first answer: %v", err)
	}
	// The answer to the second question is taken after the first has been noted.
	ask := func(err error) {
		answers <- err
		clock.Step(time.Minute)
	}
	ask(nil)
	ask(errors.New("connection refused"))
	answers <- errors.New("connection refused")
	if age := contact.Age(); age != 2*time.Minute {
		t.Errorf("two minutes after the last answer the age is %s", age)
	}
	if err := contact.Check(2 * time.Minute); err != nil {
		t.Errorf("within the bound: %v", err)
	}
	if err := contact.Check(time.Minute); err == nil || !strings.HasPrefix(err.Error(), "the API server has not been reached for 2m0s") {
		t.Errorf("beyond the bound: %v", err)
	}
	clock.Step(time.Minute)
	answers <- nil
	clock.Step(time.Minute)
	answers <- errors.New("connection refused")
	if age := contact.Age(); age != time.Minute {
		t.Errorf("a minute after it was reached again the age is %s", age)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
