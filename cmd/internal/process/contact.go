package process

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/discovery"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// Contact knows how long ago the API server was last reached. Caches go on answering when it cannot be, and grow
// stale in silence; watches notice only when they next hear something.
type Contact struct {
	ping  func(context.Context) error
	every time.Duration
	clock clock.WithTicker
	last  atomic.Int64 // unix nanoseconds; 0 for never
}

// NewContact asks the API server of a manager every so often. It has to be added to the manager.
func NewContact(mgr manager.Manager, every time.Duration, registerer prometheus.Registerer) (*Contact, error) {
	client, err := discovery.NewDiscoveryClientForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	c := newContact(func(ctx context.Context) error {
		return client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	}, every, clock.RealClock{})
	age := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ensemble_autoscaler_api_contact_age_seconds", Help: "Time since the API server was last reached.",
	}, func() float64 { return c.Age().Seconds() })
	if err := registerer.Register(age); err != nil {
		return nil, fmt.Errorf("register the metric of contact: %w", err)
	}
	return c, nil
}

func newContact(ping func(context.Context) error, every time.Duration, clock clock.WithTicker) *Contact {
	return &Contact{ping: ping, every: every, clock: clock}
}

// Start implements manager.Runnable.
func (c *Contact) Start(ctx context.Context) error {
	ticker := c.clock.NewTicker(c.every)
	defer ticker.Stop()
	for {
		c.try(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
	}
}

func (c *Contact) try(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.every)
	defer cancel()
	asked := c.clock.Now()
	if c.ping(ctx) == nil {
		c.last.Store(asked.UnixNano())
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (*Contact) NeedLeaderElection() bool { return false }

// never is the age before the first answer, longer than any bound.
const never time.Duration = 1<<63 - 1

// Age is how long ago the API server was last reached, at the start of a question that it answered.
func (c *Contact) Age() time.Duration {
	last := c.last.Load()
	if last == 0 {
		return never
	}
	return c.clock.Since(time.Unix(0, last))
}

// Check is an error when the API server was not reached for longer than a bound.
func (c *Contact) Check(bound time.Duration) error {
	switch age := c.Age(); {
	case age == never:
		return errors.New("the API server has not been reached yet")
	case age > bound:
		return fmt.Errorf("the API server has not been reached for %s; what is known of the cluster may be out of date", age.Round(time.Second))
	}
	return nil
}
