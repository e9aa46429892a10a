package record

import (
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Written remembers the version of each object that this process has written and not yet seen in its cache: what would be
// planned from an older one the API server would refuse. Its zero value is ready.
type Written struct {
	mu       sync.Mutex
	versions map[types.NamespacedName]version
}

// version is one that was written, and when.
type version struct {
	resource string
	at       time.Time
}

const (
	// maxWritten is how many objects are remembered before those are looked for that nobody will ask for again, since they are gone.
	maxWritten = 1024
	// writtenFor is how long a write is remembered at least: a cache that is further behind is not used at all.
	writtenFor = 5 * time.Minute
)

// Wrote remembers a write. The object is as the API server returned it.
func (w *Written) Wrote(object client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if len(w.versions) >= maxWritten {
		maps.DeleteFunc(w.versions, func(_ types.NamespacedName, v version) bool { return now.Sub(v.at) > writtenFor })
	}
	if w.versions == nil {
		w.versions = map[types.NamespacedName]version{}
	}
	w.versions[client.ObjectKeyFromObject(object)] = version{object.GetResourceVersion(), now}
}

// Behind reports whether an object from the cache is older than what this process has written. The event of the write
// tells when it is not any more.
func (w *Written) Behind(object client.Object) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := client.ObjectKeyFromObject(object)
	written, has := w.versions[key]
	if !has {
		return false
	}
	if order, err := resourceversion.CompareResourceVersion(object.GetResourceVersion(), written.resource); err == nil && order < 0 {
		return true
	}
	delete(w.versions, key)
	return false
}

// Forget drops an object that is gone.
func (w *Written) Forget(key types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.versions, key)
}

// Asked remembers what was asked of the API server and cannot be seen in the cache yet, by any key. Its zero value is ready.
type Asked struct {
	mu sync.Mutex
	at map[string]time.Time
}

// askedFor is how long something counts as asked: a deletion that is not to be seen by then is asked for again.
const askedFor = 10 * time.Second

// Note remembers that something was asked.
func (a *Asked) Note(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if len(a.at) >= maxWritten {
		maps.DeleteFunc(a.at, func(_ string, at time.Time) bool { return now.Sub(at) > askedFor })
	}
	if a.at == nil {
		a.at = map[string]time.Time{}
	}
	a.at[key] = now
}

// Lately reports whether something was asked a moment ago.
func (a *Asked) Lately(key string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, is := a.at[key]
	return is && time.Since(at) <= askedFor
}
