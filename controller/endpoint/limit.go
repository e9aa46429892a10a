package endpoint

import (
	"sync"

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

// limiter gives each member a rate of its own, from however many pods it asks.
type limiter struct {
	rate Rate

	mu      sync.Mutex
	members *lru.Cache
}

func newLimiter(r Rate) *limiter { return &limiter{rate: r, members: lru.New(rememberedMembers)} }

// allow takes one request of a member into account. The error says how many there may be.
func (l *limiter) allow(member types.NamespacedName) error {
	if l.rate.PerSecond <= 0 || l.of(member).Allow() {
		return nil
	}
	return deny("MiniCluster %s asks more often than %g times a second, %d at once (--max-member-requests-per-second, --max-member-request-burst); ask again later",
		member, l.rate.PerSecond, l.rate.Burst)
}

func (l *limiter) of(member types.NamespacedName) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.members.Get(member); ok {
		if limiter, ok := known.(*rate.Limiter); ok {
			return limiter
		}
	}
	limiter := rate.NewLimiter(rate.Limit(l.rate.PerSecond), l.rate.Burst)
	l.members.Add(member, limiter)
	return limiter
}
