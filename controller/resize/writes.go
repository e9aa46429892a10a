package resize

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// writes has the resource version of each object that this process has written and not yet seen in its cache.
type writes struct {
	mu       sync.Mutex
	versions map[written]string
}

func newWrites() *writes { return &writes{versions: map[written]string{}} }

type written struct {
	kind string
	key  types.NamespacedName
}

const (
	kindMember      = "EnsembleMember"
	kindMiniCluster = "MiniCluster"
	kindPod         = "Pod"
)

// note remembers a write.
func (w *writes) note(kind string, object client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.versions[written{kind, client.ObjectKeyFromObject(object)}] = object.GetResourceVersion()
}

// behind names an object of which the cache has an older version than the one written, empty for none.
// What the cache has caught up with is forgotten, and so is what exists no more.
func (w *writes) behind(seen *seen) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if pod := w.behindPods(seen.podVersions); pod != "" {
		return pod
	}
	for object, version := range w.versions {
		entry := seen.entries[object.key]
		if entry == nil {
			delete(w.versions, object)
			continue
		}
		var cached string
		switch {
		case object.kind == kindMember && entry.member != nil:
			cached = entry.member.ResourceVersion
		case object.kind == kindMiniCluster && entry.cluster != nil:
			cached = entry.cluster.ResourceVersion
		default:
			// The object was deleted, or it was created and is not in the cache yet. Members are created
			// under the name of their MiniCluster, so a second creation fails and does no harm.
			delete(w.versions, object)
			continue
		}
		if order, err := resourceversion.CompareResourceVersion(cached, version); err == nil && order < 0 {
			return object.kind + " " + object.key.String()
		}
		delete(w.versions, object)
	}
	return ""
}

// pods are those that were written and may not be seen yet.
func (w *writes) pods() []types.NamespacedName {
	w.mu.Lock()
	defer w.mu.Unlock()
	var keys []types.NamespacedName
	for object := range w.versions {
		if object.kind == kindPod {
			keys = append(keys, object.key)
		}
	}
	return keys
}

// behindPods is behind for pods, of which it is the ledger that has to have caught up: when it was read, and not by now. A pass that
// has not seen which node a pod was released for would give that node to another one.
func (w *writes) behindPods(seen map[types.NamespacedName]string) string {
	for object, written := range w.versions {
		if object.kind != kindPod {
			continue
		}
		// A pod that is not there was there when it was written: it is gone.
		version, was := seen[object.key]
		if order, err := resourceversion.CompareResourceVersion(version, written); !was || (err == nil && order < 0) {
			return object.kind + " " + object.key.String()
		}
		delete(w.versions, object)
	}
	return ""
}
