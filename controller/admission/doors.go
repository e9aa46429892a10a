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
	// Bytes is how large one may be.
	Bytes int64
	// Decoded is what those that are looked at together may take when they are decoded, in bytes as weigh estimates them. One that takes
	// more by itself is looked at alone.
	Decoded int64
	// Patience is how long a review waits for its turn, and how long the last byte of one may take. It is below the timeout of the webhooks,
	// so that the API server hears why.
	Patience time.Duration
}

// ShippedBounds do for an API server that creates some hundred objects in a second. An AdmissionReview has an object twice, each of which
// has at most 1.5 MiB in etcd.
var ShippedBounds = Bounds{Reviews: 64, PerAddress: 16, Bytes: 4 << 20, Decoded: 64 << 20, Patience: 3 * time.Second}

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
	if b.Decoded < 1 {
		faults = append(faults, fmt.Errorf("--max-decoded-review-bytes is %d; it must be at least 1", b.Decoded))
	}
	return errors.Join(faults...)
}

// A review takes more when it is decoded than it has bytes: two of them, {}, are a struct of some hundred, or a map; a comma is one more
// value of a list. It counts as what it will take. A Pod of 20 KiB with 300 objects counts as 400 KiB.
const objectBytes, valueBytes = 1 << 10, 64

// weigh is what a review will take when it is decoded.
func weigh(content []byte) int64 {
	return int64(len(content) + objectBytes*bytes.Count(content, []byte{'{'}) +
		valueBytes*(bytes.Count(content, []byte{','})+bytes.Count(content, []byte{'['})))
}

// The bounds by which a review is turned away, as the metric tells them.
const (
	boundReviews = "reviews"
	boundDecoded = "decoded"
	boundAddress = "address"
	boundBytes   = "bytes"
	boundTime    = "time"
)

// Doors let as many reviews in at once as the bounds have. The others wait for a while.
type Doors struct {
	bounds     Bounds
	turnedAway *prometheus.CounterVec

	mu  sync.Mutex
	all int
	// decoded is what those within take.
	decoded int64
	from    map[string]int
	// waiting are those that wait for a place, in the order in which they came.
	waiting []*waiter
}

// waiter is a review that waits for a place.
type waiter struct {
	address string
	// decoded is what it will take.
	decoded int64
	// enters is closed when it has one.
	enters chan struct{}
}

// NewDoors registers the metric of what is turned away.
func NewDoors(bounds Bounds, registerer prometheus.Registerer) (*Doors, error) {
	d := &Doors{bounds: bounds, from: map[string]int{}, turnedAway: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ensemble_autoscaler_admission_turned_away_total",
		Help: "Reviews that the webhooks did not look at, by bound: too many at once in all (reviews) or from one address (address), too much " +
			"when decoded (decoded), too large (bytes), or not there in time (time).",
	}, []string{"bound"})}
	for _, bound := range []string{boundReviews, boundDecoded, boundAddress, boundBytes, boundTime} {
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
			d.refuse(
				rw, http.StatusRequestEntityTooLarge, boundBytes,
				fmt.Sprintf("the review has %d bytes; at most %d are read (--max-review-bytes)", r.ContentLength, d.bounds.Bytes),
			)
			return
		}
		// It is read before it has a place: one whose end does not come is not to keep another out. What all of them take that are read is
		// bounded by the server.
		content, ok := d.read(rw, r)
		if !ok {
			return
		}
		one := &waiter{address: budget.Source(r.RemoteAddr), decoded: weigh(content), enters: make(chan struct{})}
		if !d.enter(one) {
			full := d.wait(r.Context(), one)
			switch {
			case full == "":
			case r.Context().Err() != nil:
				return
			default:
				d.refuse(rw, http.StatusTooManyRequests, full, d.words(full))
				return
			}
		}
		defer d.leave(one)
		r.Body = io.NopCloser(bytes.NewReader(content))
		hook.ServeHTTP(rw, r)
	})
}

func (d *Doors) words(bound string) string {
	switch bound {
	case boundDecoded:
		return fmt.Sprintf(
			"the reviews that are looked at take %d bytes already (--max-decoded-review-bytes); try again in a moment", d.bounds.Decoded,
		)
	case boundAddress:
		return fmt.Sprintf(
			"%d reviews of your address are looked at already (--max-reviews-per-address); try again in a moment", d.bounds.PerAddress,
		)
	}
	return fmt.Sprintf("%d reviews are looked at already (--max-reviews); try again in a moment", d.bounds.Reviews)
}

// enter lets one in, or has it wait for a place.
func (d *Doors) enter(one *waiter) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full(one) == "" {
		d.take(one)
		return true
	}
	d.waiting = append(d.waiting, one)
	return false
}

// full is the bound by which there is no room for one, empty where there is some. The doors are locked.
func (d *Doors) full(one *waiter) string {
	switch {
	case d.from[one.address] >= d.bounds.PerAddress:
		return boundAddress
	case d.all >= d.bounds.Reviews:
		return boundReviews
	case d.all > 0 && d.decoded+one.decoded > d.bounds.Decoded:
		return boundDecoded
	}
	return ""
}

// take gives one a place. The doors are locked.
func (d *Doors) take(one *waiter) {
	d.all++
	d.decoded += one.decoded
	d.from[one.address]++
}

// wait waits until there is a place, and returns the bound by which there was none until patience or the context has ended, empty for a
// place.
func (d *Doors) wait(ctx context.Context, one *waiter) (full string) {
	late := time.NewTimer(d.bounds.Patience)
	defer late.Stop()
	select {
	case <-one.enters:
		return ""
	case <-late.C:
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	at := slices.Index(d.waiting, one)
	if at < 0 {
		// It got a place meanwhile.
		return ""
	}
	d.waiting = slices.Delete(d.waiting, at, at+1)
	return cmp.Or(d.full(one), boundReviews)
}

// leave gives a place to others: of those that wait and fit, to one of the address that has fewest, and of that to the one that has waited
// for longest. However many strangers wait, whoever has none within is next.
func (d *Doors) leave(one *waiter) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all--
	d.decoded -= one.decoded
	if d.from[one.address]--; d.from[one.address] == 0 {
		delete(d.from, one.address)
	}
	for {
		next := -1
		for i, w := range d.waiting {
			if d.full(w) == "" && (next < 0 || d.from[w.address] < d.from[d.waiting[next].address]) {
				next = i
			}
		}
		if next < 0 {
			return
		}
		w := d.waiting[next]
		d.waiting = slices.Delete(d.waiting, next, next+1)
		d.take(w)
		close(w.enters)
	}
}

// read reads what one has sent, before anything of it is decoded.
func (d *Doors) read(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	// Not every writer can: where it cannot, the server's own bounds hold.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(d.bounds.Patience))
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, d.bounds.Bytes))
	if err == nil {
		_ = control.SetReadDeadline(time.Time{})
		return content, true
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		d.refuse(
			w, http.StatusRequestEntityTooLarge, boundBytes,
			fmt.Sprintf("the review has more than %d bytes (--max-review-bytes)", d.bounds.Bytes),
		)
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
