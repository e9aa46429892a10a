package admission

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/budget"
)

// Bounds are what the webhooks take at once. Whoever reaches their port may send them reviews; the API server, which is to be answered,
// shows no certificate that would tell it apart.
type Bounds struct {
	// Reviews is how many are looked at together, PerAddress how many of them may come from one address.
	Reviews, PerAddress int
	// Bytes is how large one may be. What is looked at is as large as all of them at once together, and some times that when it is decoded.
	Bytes int64
	// Patience is how long a review waits for its turn, and how long the last byte of one may take. It is below the timeout of the webhooks,
	// so that the API server hears why.
	Patience time.Duration
}

// ShippedBounds do for an API server that creates some hundred objects in a second. An AdmissionReview has an object twice, each of which
// has at most 1.5 MiB in etcd.
var ShippedBounds = Bounds{Reviews: 64, PerAddress: 16, Bytes: 4 << 20, Patience: 3 * time.Second}

// Validate says which flag has a value that it cannot have.
func (b *Bounds) Validate() error {
	var faults []error
	if b.Reviews < 1 {
		faults = append(faults, fmt.Errorf("--max-reviews is %d; it must be at least 1", b.Reviews))
	}
	if b.PerAddress < 1 {
		faults = append(faults, fmt.Errorf("--max-reviews-per-address is %d; it must be at least 1", b.PerAddress))
	}
	if b.Bytes < 1 {
		faults = append(faults, fmt.Errorf("--max-review-bytes is %d; it must be at least 1", b.Bytes))
	}
	return errors.Join(faults...)
}

// The bounds by which a review is turned away, as the metric tells them.
const (
	boundReviews = "reviews"
	boundAddress = "address"
	boundBytes   = "bytes"
	boundTime    = "time"
)

// Doors let as many reviews in at once as the bounds have. The others wait for a while.
type Doors struct {
	bounds     Bounds
	turnedAway *prometheus.CounterVec

	mu   sync.Mutex
	all  int
	from map[string]int
	// waiting are those that wait for a place, in the order in which they came.
	waiting []*waiter
}

// waiter is a review that waits for a place.
type waiter struct {
	address string
	// enters is closed when it has one.
	enters chan struct{}
}

// NewDoors registers the metric of what is turned away.
func NewDoors(bounds Bounds, registerer prometheus.Registerer) (*Doors, error) {
	d := &Doors{bounds: bounds, from: map[string]int{}, turnedAway: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ensemble_autoscaler_admission_turned_away_total",
		Help: "Reviews that the webhooks did not look at, by bound: too many at once in all (reviews) or from one address (address), too large (bytes), or not there in time (time).",
	}, []string{"bound"})}
	for _, bound := range []string{boundReviews, boundAddress, boundBytes, boundTime} {
		d.turnedAway.WithLabelValues(bound)
	}
	if err := registerer.Register(d.turnedAway); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return d, nil
}

// Guard puts the doors before a webhook.
func (d *Doors) Guard(hook http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.ContentLength > d.bounds.Bytes {
			d.refuse(rw, http.StatusRequestEntityTooLarge, boundBytes, fmt.Sprintf("the review has %d bytes; at most %d are read (--max-review-bytes)", r.ContentLength, d.bounds.Bytes))
			return
		}
		// It is read before it has a place: one whose end does not come is not to keep another out. What all of them take that are read is
		// bounded by the server.
		body, ok := d.read(rw, r)
		if !ok {
			return
		}
		address := budget.Source(r.RemoteAddr)
		if w := d.enter(address); w != nil {
			full := d.wait(r.Context(), w)
			switch {
			case full == "":
			case r.Context().Err() != nil:
				return
			default:
				d.refuse(rw, http.StatusTooManyRequests, full, d.words(full))
				return
			}
		}
		defer d.leave(address)
		r.Body = body
		hook.ServeHTTP(rw, r)
	})
}

func (d *Doors) words(bound string) string {
	if bound == boundAddress {
		return fmt.Sprintf("%d reviews of your address are looked at already (--max-reviews-per-address); try again in a moment", d.bounds.PerAddress)
	}
	return fmt.Sprintf("%d reviews are looked at already (--max-reviews); try again in a moment", d.bounds.Reviews)
}

// enter lets one in, or has it wait for a place.
func (d *Doors) enter(address string) *waiter {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full(address) == "" {
		d.all++
		d.from[address]++
		return nil
	}
	w := &waiter{address: address, enters: make(chan struct{})}
	d.waiting = append(d.waiting, w)
	return w
}

// full is the bound by which there is no room for one of an address, empty where there is some. The doors are locked.
func (d *Doors) full(address string) string {
	switch {
	case d.from[address] >= d.bounds.PerAddress:
		return boundAddress
	case d.all >= d.bounds.Reviews:
		return boundReviews
	}
	return ""
}

// wait waits until there is a place, and returns the bound by which there was none until patience or the context has ended, empty for a
// place.
func (d *Doors) wait(ctx context.Context, w *waiter) (full string) {
	late := time.NewTimer(d.bounds.Patience)
	defer late.Stop()
	select {
	case <-w.enters:
		return ""
	case <-late.C:
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	at := slices.Index(d.waiting, w)
	if at < 0 {
		// It got a place meanwhile.
		return ""
	}
	d.waiting = slices.Delete(d.waiting, at, at+1)
	return cmp.Or(d.full(w.address), boundReviews)
}

// leave gives a place to another one: of those that wait, to one of the address that has fewest, and of that to the one that has waited for
// longest. However many strangers wait, whoever has none within is next.
func (d *Doors) leave(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all--
	if d.from[address]--; d.from[address] == 0 {
		delete(d.from, address)
	}
	next := -1
	for i, w := range d.waiting {
		if d.full(w.address) == "" && (next < 0 || d.from[w.address] < d.from[d.waiting[next].address]) {
			next = i
		}
	}
	if next < 0 {
		return
	}
	w := d.waiting[next]
	d.waiting = slices.Delete(d.waiting, next, next+1)
	d.all++
	d.from[w.address]++
	close(w.enters)
}

// read reads what one has sent, before anything of it is decoded.
func (d *Doors) read(w http.ResponseWriter, r *http.Request) (io.ReadCloser, bool) {
	// Not every writer can: where it cannot, the server's own bounds hold.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(d.bounds.Patience))
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, d.bounds.Bytes))
	if err == nil {
		_ = control.SetReadDeadline(time.Time{})
		return io.NopCloser(bytes.NewReader(content)), true
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		d.refuse(w, http.StatusRequestEntityTooLarge, boundBytes, fmt.Sprintf("the review has more than %d bytes (--max-review-bytes)", d.bounds.Bytes))
		return nil, false
	}
	// The deadline stays, so that nobody waits for the rest; the connection ends with it.
	w.Header().Set("Connection", "close")
	d.refuse(w, http.StatusRequestTimeout, boundTime, fmt.Sprintf("the review was not there within %s", d.bounds.Patience))
	return nil, false
}

func (d *Doors) refuse(w http.ResponseWriter, status int, bound, why string) {
	d.turnedAway.WithLabelValues(bound).Inc()
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, why, status)
}
