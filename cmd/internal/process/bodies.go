package process

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"

	"golang.org/x/time/rate"
	"k8s.io/utils/lru"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/inbound"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/budget"
)

// bodies bounds what the bodies of requests under way take in all: whoever reaches a port may send some, and their handlers read
// them whole and decode them. Where there is too much, the largest one of the address that has most is given up, so that a flood from
// one address is a matter of that address. Of one that has come whole nothing can be given up: its handler decodes it already. And what was
// given up is there until its handler has ended, so that all bodies together may take twice as much, and no more.
type bodies struct {
	most   int
	turned *inbound.Turned

	mu sync.Mutex
	// total is what all bodies take, kept what those take that were not given up, and of that of each address.
	total, kept int
	open        map[*body]struct{}
	of          map[string]int
}

func newBodies(most int, turned *inbound.Turned) *bodies {
	return &bodies{most: most, turned: turned, open: map[*body]struct{}{}, of: map[string]int{}}
}

// A body of JSON takes more when it is decoded than it has bytes: two of them, {}, are a struct of some hundred, or a map; a comma
// is one more value of a list. It counts as what it will take, before it is decoded. A Pod of 20 KiB with 300 objects counts as 400 KiB.
const objectBytes, valueBytes = 1 << 10, 64

// weigh is what a part of a body will take.
func weigh(part []byte) int {
	return len(part) + objectBytes*bytes.Count(part, []byte{'{'}) + valueBytes*(bytes.Count(part, []byte{','})+bytes.Count(part, []byte{'['}))
}

// errTooMuch is what a handler gets that reads a body which was given up.
var errTooMuch = errors.New("requests under way take more memory than they may (--max-http-body-bytes)")

// limit counts the body of each request until its handler has ended.
func (b *bodies) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		one := &body{ReadCloser: r.Body, bodies: b, source: host(r.RemoteAddr)}
		b.mu.Lock()
		b.open[one] = struct{}{}
		b.mu.Unlock()
		defer one.forget()
		r.Body = one
		next.ServeHTTP(w, r)
	})
}

// body is that of one request.
type body struct {
	io.ReadCloser
	bodies *bodies
	source string
	weight int
	// whole is set when nothing more comes of it, givenUp when nothing more is read of it.
	whole, givenUp bool
}

// Read implements io.Reader.
func (o *body) Read(into []byte) (int, error) {
	n, err := o.ReadCloser.Read(into)
	if !o.bodies.more(o, weigh(into[:n]), err != nil) {
		return 0, errTooMuch
	}
	return n, err //nolint:wrapcheck // A reader's end has to be io.EOF itself.
}

// more counts what has come, and whether that is all, and reports whether the request may go on.
func (b *bodies) more(of *body, weight int, whole bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if of.givenUp {
		return false
	}
	of.weight += weight
	b.of[of.source] += weight
	b.total += weight
	b.kept += weight
	for b.kept > b.most && !of.givenUp {
		loses := b.largest()
		if loses == nil {
			loses = of
		}
		b.giveUp(loses)
	}
	if b.total > 2*b.most && !of.givenUp {
		// Others were given up for it, and are there still.
		b.giveUp(of)
	}
	of.whole = whole
	return !of.givenUp
}

// giveUp has nothing more read of a body; the lock is held.
func (b *bodies) giveUp(one *body) {
	one.givenUp = true
	b.keepNot(one)
	b.turned.Count(inbound.BodyBytes)
}

// largest is the largest body of the address that has most, of those that can be given up; nil when there is none. The lock is held.
func (b *bodies) largest() (found *body) {
	for one := range b.open {
		if one.whole || one.givenUp {
			continue
		}
		if found == nil {
			found = one
			continue
		}
		if mine, theirs := b.of[one.source], b.of[found.source]; mine > theirs || (mine == theirs && one.weight > found.weight) {
			found = one
		}
	}
	return found
}

// keepNot counts a body no more among those that are kept; the lock is held.
func (b *bodies) keepNot(one *body) {
	b.kept -= one.weight
	if b.of[one.source] -= one.weight; b.of[one.source] <= 0 {
		delete(b.of, one.source)
	}
}

// forget takes a body out of the books when its handler has ended.
func (o *body) forget() {
	b := o.bodies
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, o)
	b.total -= o.weight
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
