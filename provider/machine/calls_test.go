package machine

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/event"
)

// startCalls lets calls be made until stop is called, which waits for their end. It is for a synctest bubble, which fails when a
// goroutine is left.
func startCalls(t *testing.T, timeout time.Duration) (c *calls, stop func()) {
	t.Helper()
	c = newCalls(timeout)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.Start(ctx) }()
	synctest.Wait()
	return c, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestCallsOfAPool: so many are under way at a time, the others wait for their turn, and another pool does not wait with them.
func TestCallsOfAPool(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, stop := startCalls(t, time.Hour)
		defer stop()
		var now, most, ended atomic.Int32
		for i := range 3 * callsPerPool {
			key := fmt.Sprint("slow/", i)
			if !c.begin("slow", pending{key: key, do: func(context.Context) {
				for n := now.Add(1); ; {
					if before := most.Load(); n <= before || most.CompareAndSwap(before, n) {
						break
					}
				}
				<-time.After(time.Minute)
				now.Add(-1)
			}, done: func() { ended.Add(1) }}) {
				t.Errorf("%s is not made", key)
			}
			if !c.underWay(key) || c.begin("slow", pending{key: key}) {
				t.Errorf("%s is made twice at a time", key)
			}
		}
		synctest.Wait()
		if n := now.Load(); n != callsPerPool {
			t.Errorf("%d calls are under way, want %d", n, callsPerPool)
		}
		began, took := time.Now(), make(chan time.Duration, 1)
		c.begin("other", pending{key: "other/0", do: func(context.Context) {}, done: func() { took <- time.Since(began) }})
		if after := <-took; after > 0 {
			t.Errorf("the call of another pool has waited for %s", after)
		}
		<-time.After(3*time.Minute + time.Second)
		if ended.Load() != 3*callsPerPool || most.Load() != callsPerPool {
			t.Errorf("%d calls have ended, at most %d at a time; want %d and %d", ended.Load(), most.Load(), 3*callsPerPool, callsPerPool)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.under)+len(c.byPool)+len(c.waiting) > 0 {
			t.Errorf("something of calls that have ended is kept: %v, %v, %v", c.under, c.byPool, c.waiting)
		}
	})
}

// TestCallIsDone: who is told that a call has ended can make the next one with the same key.
func TestCallIsDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, stop := startCalls(t, time.Hour)
		defer stop()
		told, again := make(chan bool), make(chan bool)
		c.begin("p", pending{key: "k", do: func(context.Context) {}, done: func() {
			told <- c.underWay("k")
			again <- c.begin("p", pending{key: "k", do: func(context.Context) {}, done: func() { told <- true }})
		}})
		if <-told {
			t.Error("a call that has ended is under way")
		}
		if !<-again || !<-told {
			t.Error("the next call is not made")
		}
	})
}

// TestCallsAreBounded: a call ends with its timeout.
func TestCallsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, stop := startCalls(t, time.Minute)
		defer stop()
		began, took := time.Now(), make(chan time.Duration, 1)
		c.begin("p", pending{key: "k", do: func(ctx context.Context) { <-ctx.Done() }, done: func() { took <- time.Since(began) }})
		if after := <-took; after != time.Minute {
			t.Errorf("the call has ended after %s", after)
		}
	})
}

// TestCallsEnd: with the process end the calls that are under way, and those that wait are not made. Who tells a loop that
// does not listen any more is not stuck.
func TestCallsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, stop := startCalls(t, time.Hour)
		var made atomic.Int32
		loop := make(chan event.GenericEvent)
		for i := range 2 * callsPerPool {
			c.begin("p", pending{
				key:  fmt.Sprint(i),
				do:   func(ctx context.Context) { made.Add(1); <-ctx.Done() },
				done: func() { c.wake(loop, named("p-0")) },
			})
		}
		synctest.Wait()
		stop()
		if n := made.Load(); n != callsPerPool {
			t.Errorf("%d calls were made, want %d", n, callsPerPool)
		}
		if c.begin("p", pending{key: "late"}) {
			t.Error("a call is made after the end")
		}
	})
}

// TestCallsBeforeTheBegin: a process that does not lead makes no call, and tells no loop.
func TestCallsBeforeTheBegin(t *testing.T) {
	t.Parallel()
	c := newCalls(time.Hour)
	if c.begin("p", pending{key: "early"}) || c.underWay("early") {
		t.Error("a call is made before the begin")
	}
	c.wake(make(chan event.GenericEvent), named("p-0"))
}
