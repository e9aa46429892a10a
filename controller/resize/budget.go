package resize

import (
	"time"

	"golang.org/x/time/rate"
)

// budget bounds what a pass asks of the API server itself, in all and for each object.
type budget[K comparable] struct {
	limit *rate.Limiter
	// every is how long one object is left alone.
	every time.Duration
	asked map[K]time.Time
}

// The bound on live reads, in all.
const (
	readsPerSecond = 5
	readsAtOnce    = 10
)

func newBudget[K comparable](every time.Duration) *budget[K] {
	return &budget[K]{limit: rate.NewLimiter(readsPerSecond, readsAtOnce), every: every, asked: map[K]time.Time{}}
}

// allow reports whether an object may be asked for now, and counts that. due is when to come again where it may not.
func (b *budget[K]) allow(key K, now time.Time) (may, spent bool, due time.Time) {
	if last, asked := b.asked[key]; asked && now.Before(last.Add(b.every)) {
		return false, false, last.Add(b.every)
	}
	if !b.limit.AllowN(now, 1) {
		return false, true, now.Add(time.Second / readsPerSecond)
	}
	b.asked[key] = now
	return true, false, now.Add(b.every)
}

// keep forgets the objects that nobody asks for any more.
func (b *budget[K]) keep(which map[K]bool) {
	for key := range b.asked {
		if !which[key] {
			delete(b.asked, key)
		}
	}
}
