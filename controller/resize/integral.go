package resize

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// integral sums a number over time: nodes become node-seconds. Its value goes on between two passes, so a cluster in which
// nothing happens needs no pass to be told of.
type integral struct {
	clock clock.PassiveClock

	mu    sync.Mutex
	sum   float64
	rate  float64
	since time.Time
}

// goOn makes rate the number from now on.
func (i *integral) goOn(rate float64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.clock.Now()
	i.sum += i.rate * now.Sub(i.since).Seconds()
	i.rate, i.since = rate, now
}

func (i *integral) value() float64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.sum + i.rate*i.clock.Since(i.since).Seconds()
}
