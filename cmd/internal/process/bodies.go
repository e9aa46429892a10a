package process

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/utils/lru"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/inbound"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/budget"
)

// bodies bounds the bytes of the bodies of requests under way: whoever reaches a port may send some, and their handlers read them whole.
// Where there are too many, the largest one of the address that has most is given up, so that a flood from one address is a matter of that
// address: nothing more is read of it, and the context of its request ends. What it takes counts until its handler has ended, which is soon
// after that.
type bodies struct {
	most   int
	turned *inbound.Turned

	mu sync.Mutex
	// total is what all bodies have, kept what those have that were not given up, and of that of each address.
	total, kept int
	open        map[*body]struct{}
	of          map[string]int
}

func newBodies(most int, turned *inbound.Turned) *bodies {
	return &bodies{most: most, turned: turned, open: map[*body]struct{}{}, of: map[string]int{}}
}

// errTooMuch is what a handler gets that reads a body which was given up.
var errTooMuch = errors.New("requests under way have more bytes than they may (--max-http-body-bytes)")

// limit counts the body of each request until its handler has ended.
func (b *bodies) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, end := context.WithCancelCause(r.Context())
		defer end(nil)
		one := &body{ReadCloser: r.Body, bodies: b, source: host(r.RemoteAddr), end: func() {
			end(errTooMuch)
			// Whoever reads of it waits no more for what its client may never send. Not every writer can do that; then the server's own
			// deadline holds.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now())
		}}
		b.mu.Lock()
		b.open[one] = struct{}{}
		b.mu.Unlock()
		defer one.forget()
		r = r.WithContext(ctx)
		r.Body = one
		next.ServeHTTP(w, r)
	})
}

// body is that of one request.
type body struct {
	io.ReadCloser
	bodies *bodies
	source string
	// end has the handler end.
	end     func()
	bytes   int
	givenUp bool
}

// Read implements io.Reader.
func (o *body) Read(into []byte) (int, error) {
	n, err := o.ReadCloser.Read(into)
	if !o.bodies.more(o, n) {
		return 0, errTooMuch
	}
	return n, err //nolint:wrapcheck // A reader's end has to be io.EOF itself.
}

// more counts what has come, and reports whether the request may go on.
func (b *bodies) more(of *body, count int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if of.givenUp {
		return false
	}
	of.bytes += count
	b.of[of.source] += count
	b.total += count
	b.kept += count
	for b.kept > b.most {
		b.giveUp(b.largest())
	}
	if b.total > 2*b.most && !of.givenUp {
		// Others were given up, and their handlers have not ended yet.
		b.giveUp(of)
	}
	return !of.givenUp
}

// giveUp has a handler end; the lock is held.
func (b *bodies) giveUp(one *body) {
	one.givenUp = true
	b.keepNot(one)
	b.turned.Count(inbound.BodyBytes)
	one.end()
}

// largest is the largest body of the address that has most, of those that were not given up, of which there is one at least; the lock is
// held.
func (b *bodies) largest() (found *body) {
	for one := range b.open {
		if one.givenUp {
			continue
		}
		if found == nil {
			found = one
			continue
		}
		if mine, theirs := b.of[one.source], b.of[found.source]; mine > theirs || (mine == theirs && one.bytes > found.bytes) {
			found = one
		}
	}
	return found
}

// keepNot counts a body no more among those that are kept; the lock is held.
func (b *bodies) keepNot(one *body) {
	b.kept -= one.bytes
	if b.of[one.source] -= one.bytes; b.of[one.source] <= 0 {
		delete(b.of, one.source)
	}
}

// forget takes a body out of the books when its handler has ended.
func (o *body) forget() {
	b := o.bodies
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, o)
	b.total -= o.bytes
	if !o.givenUp {
		b.keepNot(o)
	}
}

// rated bounds how often one address asks.
type rated struct {
	flag      string
	perSecond rate.Limit
	burst     int
	turned    *inbound.Turned

	mu    sync.Mutex
	peers *lru.Cache
}

// ratedPeers is how many addresses have a rate of their own. When there are more, the one that has not been heard of for longest is
// forgotten.
const ratedPeers = 4096

func newRated(flag string, perSecond float64, burst int, turned *inbound.Turned) *rated {
	return &rated{flag: flag, perSecond: rate.Limit(perSecond), burst: burst, turned: turned, peers: lru.New(ratedPeers)}
}

func (r *rated) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if !r.of(host(request.RemoteAddr)).Allow() {
			r.turned.Count(inbound.Rate)
			http.Error(w, "this address asks too often (--"+r.flag+")", http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, request)
	})
}

func (r *rated) of(address string) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, ok := r.peers.Get(address); ok {
		if limiter, ok := known.(*rate.Limiter); ok {
			return limiter
		}
	}
	limiter := rate.NewLimiter(r.perSecond, r.burst)
	r.peers.Add(address, limiter)
	return limiter
}

// host is whom the address of a peer counts for.
func host(address string) string { return budget.Source(address) }
