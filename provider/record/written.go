package record

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Written remembers the version of each object that this process has written and not yet seen in its cache: what would be
// planned from an older one the API server would refuse. Its zero value is ready.
type Written struct {
	mu       sync.Mutex
	versions map[types.NamespacedName]string
}

// Wrote remembers a write. The object is as the API server returned it.
func (w *Written) Wrote(object client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.versions == nil {
		w.versions = map[types.NamespacedName]string{}
	}
	w.versions[client.ObjectKeyFromObject(object)] = object.GetResourceVersion()
}

// Behind reports whether an object from the cache is older than what this process has written. The event of the write
// tells when it is not any more.
func (w *Written) Behind(object client.Object) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := client.ObjectKeyFromObject(object)
	version, has := w.versions[key]
	if !has {
		return false
	}
	if order, err := resourceversion.CompareResourceVersion(object.GetResourceVersion(), version); err == nil && order < 0 {
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
