package machine

import (
	"context"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/event"
)

// callsPerPool is how many calls of launchers may be under way for one pool.
const callsPerPool = 8

// calls are the calls of launchers that are under way, each by a key. They run beside the loops, which look again when told.
type calls struct {
	// timeout bounds a call.
	timeout time.Duration
	// started is closed when calls are made.
	started chan struct{}

	mu      sync.Mutex
	ctx     context.Context //nolint:containedctx // That of the process: calls outlive the passes that make them.
	under   map[string]bool
	byPool  map[string]int
	waiting map[string][]pending
	wait    sync.WaitGroup
}

// pending is a call. done runs after it, when the call is not under way any more: it tells the loops to look again.
type pending struct {
	key  string
	do   func(context.Context)
	done func()
}

func newCalls(timeout time.Duration) *calls {
	return &calls{
		timeout: timeout, started: make(chan struct{}), under: map[string]bool{}, byPool: map[string]int{}, waiting: map[string][]pending{},
	}
}

// Start implements manager.Runnable: calls are made until the context ends, and it waits for those under way.
func (c *calls) Start(ctx context.Context) error {
	c.mu.Lock()
	c.ctx = ctx
	c.mu.Unlock()
	close(c.started)
	<-ctx.Done()
	// Who has found the context open has counted its call by now; nobody after it begins one.
	c.mu.Lock()
	c.mu.Unlock() //nolint:staticcheck // It is held for a moment, to let others out.
	c.wait.Wait()
	return nil
}

// wake tells a loop to look at something again, unless the process ends.
func (c *calls) wake(loop chan<- event.GenericEvent, what event.GenericEvent) {
	c.mu.Lock()
	ctx := c.ctx
	c.mu.Unlock()
	if ctx == nil {
		return // Nothing has begun; each loop looks at everything then.
	}
	select {
	case loop <- what:
	case <-ctx.Done():
	}
}

// underWay reports whether the call with that key is being made, or waits for its turn.
func (c *calls) underWay(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.under[key]
}

// begin makes a call, or lets it wait for its turn, and reports whether it does: not when one with that key is under way, nor
// before the process leads or when it ends.
func (c *calls) begin(pool string, call pending) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.under[call.key] || c.ctx == nil || c.ctx.Err() != nil {
		return false
	}
	c.under[call.key] = true
	if c.byPool[pool] >= callsPerPool {
		c.waiting[pool] = append(c.waiting[pool], call)
		return true
	}
	c.byPool[pool]++
	c.wait.Add(1)
	go c.run(pool, call)
	return true
}

// run makes a call, and then those of its pool that have waited.
func (c *calls) run(pool string, next pending) {
	defer c.wait.Done()
	for {
		ctx, cancel := context.WithTimeout(c.ctx, c.timeout)
		next.do(ctx)
		cancel()
		c.mu.Lock()
		delete(c.under, next.key)
		done := next.done
		c.mu.Unlock()
		done()
		c.mu.Lock()
		if len(c.waiting[pool]) == 0 || c.ctx.Err() != nil {
			delete(c.waiting, pool)
			if c.byPool[pool]--; c.byPool[pool] == 0 {
				delete(c.byPool, pool)
			}
			c.mu.Unlock()
			return
		}
		next, c.waiting[pool] = c.waiting[pool][0], c.waiting[pool][1:]
		c.mu.Unlock()
	}
}
