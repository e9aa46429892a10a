package endpoint

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/lru"
)

// remembered is how many members, and how many addresses, have a rate of their own. When there are more, the one that has
// not been heard of for longest is forgotten, and begins again.
const remembered = 16384

// Rate is how often one member may ask, or one address fail.
type Rate struct {
	// PerSecond is how many requests there may be in the long run, Burst how many at once. 0 a second means no limit.
	PerSecond float64
	Burst     int
}

// tellEvery is how often the log tells that a member asks, or an address fails, too often. The metrics count every time.
const tellEvery = 10 * time.Second

// limiter gives each member a rate of its own, from however many pods it asks; or each address.
type limiter struct {
	rate Rate

	mu    sync.Mutex
	known *lru.Cache
}

// allowance is what one of them may.
type allowance struct {
	*rate.Limiter
	refusals rate.Sometimes
}

func newLimiter(r Rate) *limiter { return &limiter{rate: r, known: lru.New(remembered)} }

// allow takes one request of a member into account. The error says of its workload, as that is called, how many there may be.
func (l *limiter) allow(member types.NamespacedName, workload string) error {
	if l.rate.PerSecond <= 0 {
		return nil
	}
	its := l.of(member)
	if its.Allow() {
		return nil
	}
	refused := &denied{repeated: true, reason: fmt.Sprintf("%s asks more often than %g times a second, %d at once "+
		"(--max-member-requests-per-second, --max-member-request-burst); ask again later",
		workload, l.rate.PerSecond, l.rate.Burst)}
	its.refusals.Do(func() { refused.repeated = false })
	return refused
}

func (l *limiter) of(key lru.Key) *allowance {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.known.Get(key); ok {
		if its, ok := known.(*allowance); ok {
			return its
		}
	}
	its := &allowance{
		Limiter: rate.NewLimiter(rate.Limit(l.rate.PerSecond), l.rate.Burst), refusals: rate.Sometimes{First: 1, Interval: tellEvery},
	}
	l.known.Add(key, its)
	return its
}

// attempts bounds how often the API server is asked in vain about the tokens that come from one address. One that it
// accepts takes nothing away.
type attempts struct{ *limiter }

// left says with an error that too many requests with a token have been refused to an address.
func (a attempts) left(host string) error {
	if a.rate.PerSecond <= 0 {
		return nil
	}
	its := a.of(host)
	if its.Tokens() >= 1 {
		return nil
	}
	refused := &denied{repeated: true, reason: fmt.Sprintf("requests with a token were refused to the address %s too often; %d may be at "+
		"once, and then %g in a second: ask again later",
		host, a.rate.Burst, a.rate.PerSecond)}
	its.refusals.Do(func() { refused.repeated = false })
	return refused
}

// failed takes a refusal into account. Requests that were under way when the last one was left find none to take, which is
// all the same.
func (a attempts) failed(host string) {
	if a.rate.PerSecond > 0 {
		a.of(host).Allow()
	}
}
