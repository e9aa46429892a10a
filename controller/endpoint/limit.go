package endpoint

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/lru"
)

// rememberedMembers is how many members have a rate of their own. When there are more, the one that has not been heard of
// for longest is forgotten, and begins anew.
const rememberedMembers = 16384

// Rate is how often one member may ask.
type Rate struct {
	// PerSecond is how many requests there may be in the long run, Burst how many at once. 0 a second means no limit.
	PerSecond float64
	Burst     int
}

// tellEvery is how often the log tells that a member asks too often. The metrics count every time.
const tellEvery = 10 * time.Second

// limiter gives each member a rate of its own, from however many pods it asks.
type limiter struct {
	rate Rate

	mu      sync.Mutex
	members *lru.Cache
}

// allowance is what one member may ask.
type allowance struct {
	*rate.Limiter
	refusals rate.Sometimes
}

func newLimiter(r Rate) *limiter { return &limiter{rate: r, members: lru.New(rememberedMembers)} }

// allow takes one request of a member into account. The error says how many there may be.
func (l *limiter) allow(member types.NamespacedName) error {
	if l.rate.PerSecond <= 0 {
		return nil
	}
	its := l.of(member)
	if its.Allow() {
		return nil
	}
	refused := &denied{repeated: true, reason: fmt.Sprintf("MiniCluster %s asks more often than %g times a second, %d at once (--max-member-requests-per-second, --max-member-request-burst); ask again later",
		member, l.rate.PerSecond, l.rate.Burst)}
	its.refusals.Do(func() { refused.repeated = false })
	return refused
}

func (l *limiter) of(member types.NamespacedName) *allowance {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.members.Get(member); ok {
		if its, ok := known.(*allowance); ok {
			return its
		}
	}
	its := &allowance{Limiter: rate.NewLimiter(rate.Limit(l.rate.PerSecond), l.rate.Burst), refusals: rate.Sometimes{First: 1, Interval: tellEvery}}
	l.members.Add(member, its)
	return its
}
