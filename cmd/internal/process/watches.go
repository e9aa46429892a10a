package process

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// Watches knows which watches of the API server are open. The caches live on them, and a watch that was interrupted is
// tried again ever more rarely: after an outage of a minute that takes half a minute or more, in which the API server
// can be reached and what is known of the cluster is old.
type Watches struct {
	clock clock.PassiveClock

	mu sync.Mutex
	// open is the number of open streams by what they watch; since is when the last one ended that had lasted.
	open  map[string]int
	since map[string]time.Time
}

// NewWatches follows the watches that are made with a configuration.
func NewWatches(config *rest.Config, clock clock.PassiveClock) *Watches {
	w := &Watches{clock: clock, open: map[string]int{}, since: map[string]time.Time{}}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &watchTripper{next, w} })
	return w
}

// Register adds the metric to those of the process.
func (w *Watches) Register(registerer prometheus.Registerer) error {
	age := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ensemble_autoscaler_cache_age_seconds",
		Help: "How old the oldest cache may be: the time since its watch of the API server was interrupted, 0 while all are open.",
	}, func() float64 {
		_, age := w.oldest()
		return age.Seconds()
	})
	if err := registerer.Register(age); err != nil {
		return fmt.Errorf("register the metric of caches: %w", err)
	}
	return nil
}

// Interrupted is an error while one of some watches is interrupted, those of the API server's paths of collections.
func (w *Watches) Interrupted(paths map[string]bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for path, since := range w.since {
		if paths[path] && w.open[path] <= 0 {
			return fmt.Errorf(
				"the watch of %s has been interrupted since %s; what is known of the cluster may be out of date", path,
				since.UTC().Format(time.RFC3339),
			)
		}
	}
	return nil
}

// WatchPaths are the paths of the API server by which kinds are watched in all namespaces.
func WatchPaths(mgr manager.Manager, kinds ...client.Object) (map[string]bool, error) {
	paths := map[string]bool{}
	for _, kind := range kinds {
		gvk, err := apiutil.GVKForObject(kind, mgr.GetScheme())
		if err != nil {
			return nil, fmt.Errorf("find the kind of %T: %w", kind, err)
		}
		mapping, err := mgr.GetRESTMapper().RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			return nil, fmt.Errorf("find the resource of %s: %w", gvk, err)
		}
		prefix := "/apis/" + gvk.Group + "/"
		if gvk.Group == "" {
			prefix = "/api/"
		}
		paths[prefix+gvk.Version+"/"+mapping.Resource.Resource] = true
	}
	return paths, nil
}

// oldest is the watch that has been interrupted for longest; the age is 0 when none is.
func (w *Watches) oldest() (what string, age time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for path, since := range w.since {
		if w.open[path] > 0 {
			continue
		}
		if a := w.clock.Since(since); a > age {
			what, age = path, a
		}
	}
	return what, age
}

// Check is an error when a watch has been interrupted for longer than a bound.
func (w *Watches) Check(bound time.Duration) error {
	if what, age := w.oldest(); age > bound {
		return fmt.Errorf(
			"the watch of %s has been interrupted for %s; what is known of the cluster may be out of date", what, age.Round(time.Second),
		)
	}
	return nil
}

// CutOff is an error when every watch has been interrupted for longer than a bound: this replica does not hear of the cluster any
// more, and another may. A single watch that is interrupted is no reason: what the API server does not serve to one replica it
// serves to none, and where all of them stopped to be ready for that, its writes would wait for webhooks of which none is left.
func (w *Watches) CutOff(bound time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var latest time.Time
	for path, open := range w.open {
		if open > 0 {
			return nil
		}
		if since := w.since[path]; since.After(latest) {
			latest = since
		}
	}
	if age := w.clock.Since(latest); !latest.IsZero() && age > bound {
		return fmt.Errorf("all watches of the API server have been interrupted for %s; what is known of the cluster may be out of date",
			age.Round(time.Second))
	}
	return nil
}

// lasting is how long a watch lasts at least that has brought its cache up to date. An API server that has just been
// started ends some at once, with an error that the HTTP status does not tell.
const lasting = 10 * time.Second

func (w *Watches) opened(path string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[path]++
	return w.clock.Now()
}

func (w *Watches) ended(path string, opened time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[path]--
	if _, before := w.since[path]; !before || w.clock.Since(opened) >= lasting {
		w.since[path] = w.clock.Now()
	}
}

type watchTripper struct {
	next    http.RoundTripper
	watches *Watches
}

// RoundTrip implements http.RoundTripper.
func (t *watchTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(request)
	query := request.URL.Query()
	if err != nil || response.StatusCode != http.StatusOK || query.Get("watch") != "true" {
		return response, err
	}
	// Two watches of one kind may differ in what they select.
	path := request.URL.Path
	if selectors := cmp.Or(query.Get("fieldSelector"), query.Get("labelSelector")); selectors != "" {
		path += " (" + selectors + ")"
	}
	opened := t.watches.opened(path)
	response.Body = &watchBody{ReadCloser: response.Body, ended: sync.OnceFunc(func() { t.watches.ended(path, opened) })}
	return response, nil
}

// WrappedRoundTripper lets client-go close connections that are idle.
func (t *watchTripper) WrappedRoundTripper() http.RoundTripper { return t.next }

// watchBody tells when a watch ends: at an error or at the end of the stream, or when it is closed here.
type watchBody struct {
	io.ReadCloser
	ended func()
}

func (b *watchBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.ended()
	}
	return n, err //nolint:wrapcheck // A reader's end has to be io.EOF itself.
}

func (b *watchBody) Close() error {
	b.ended()
	return b.ReadCloser.Close()
}
