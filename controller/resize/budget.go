package resize

import (
	"time"

	"golang.org/x/time/rate"
	"k8s.io/utils/lru"
)

// budget bounds what a pass asks of the API server itself: in all, for each namespace and for each object.
type budget[K comparable] struct {
	limit *rate.Limiter
	// namespaces has a *rate.Limiter for each namespace that was asked for lately.
	namespaces *lru.Cache
	// every is how long one object is left alone.
	every time.Duration
	asked map[K]time.Time
}

// The bounds on live reads, in all and for one namespace: a tenant whose pods all wait leaves the others more than half.
const (
	readsPerSecond      = 5
	readsAtOnce         = 10
	readsOfOnePerSecond = 2
	readsOfOneAtOnce    = 4
	namespacesWithARate = 4096
)

func newBudget[K comparable](every time.Duration) *budget[K] {
	return &budget[K]{
		limit: rate.NewLimiter(readsPerSecond, readsAtOnce), namespaces: lru.New(namespacesWithARate), every: every, asked: map[K]time.Time{},
	}
}

// allow reports whether an object in a namespace may be asked for now, and counts that. due is when to come again where it may not.
func (b *budget[K]) allow(namespace string, key K, now time.Time) (may, spent bool, due time.Time) {
	if last, asked := b.asked[key]; asked && now.Before(last.Add(b.every)) {
		return false, false, last.Add(b.every)
	}
	its := b.of(namespace)
	// A namespace that has used up its own part takes nothing of what the others may use.
	if its.TokensAt(now) < 1 {
		return false, true, now.Add(time.Second / readsOfOnePerSecond)
	}
	if !b.limit.AllowN(now, 1) {
		return false, true, now.Add(time.Second / readsPerSecond)
	}
	its.AllowN(now, 1)
	b.asked[key] = now
	return true, false, now.Add(b.every)
}

func (b *budget[K]) of(namespace string) *rate.Limiter {
	if known, there := b.namespaces.Get(namespace); there {
		if its, is := known.(*rate.Limiter); is {
			return its
		}
	}
	its := rate.NewLimiter(readsOfOnePerSecond, readsOfOneAtOnce)
	b.namespaces.Add(namespace, its)
	return its
}

// keep forgets the objects that nobody asks for any more.
func (b *budget[K]) keep(which map[K]bool) {
	for key := range b.asked {
		if !which[key] {
			delete(b.asked, key)
		}
	}
}
