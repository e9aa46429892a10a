package resize

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// writes has the resource version of each object that this process has written and not yet seen in its cache.
type writes struct {
	mu       sync.Mutex
	versions map[written]string
}

func newWrites() *writes { return &writes{versions: map[written]string{}} }

// written is what was written: a pod by its own name, anything else by the name of its member.
type written struct {
	what writtenKind
	key  types.NamespacedName
}

// writtenKind is the kind of an object that was written.
type writtenKind int

const (
	writtenMember writtenKind = iota
	writtenWorkload
	writtenPod
)

func memberWritten(member *v1alpha1.EnsembleMember) written {
	return written{writtenMember, client.ObjectKeyFromObject(member)}
}

func podWritten(pod *corev1.Pod) written { return written{writtenPod, client.ObjectKeyFromObject(pod)} }

// workloadWritten is a write of the workload of an entry.
func (e *entry) workloadWritten() written { return written{writtenWorkload, e.key} }

// note remembers a write, after which the object has the version that it was given.
func (w *writes) note(what written, object client.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.versions[what] = object.GetResourceVersion()
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
		case object.what == writtenMember && entry.member != nil:
			cached = entry.member.ResourceVersion
		case object.what == writtenWorkload && entry.workload != nil:
			cached = entry.workload.ResourceVersion
		default:
			// The object was deleted, or it was created and is not in the cache yet. Members are created
			// under the name of their workload, so a second creation fails and does no harm.
			delete(w.versions, object)
			continue
		}
		if order, err := resourceversion.CompareResourceVersion(cached, version); err == nil && order < 0 {
			return object.words(entry)
		}
		delete(w.versions, object)
	}
	return ""
}

// words name what was written of an entry.
func (w *written) words(e *entry) string {
	if w.what == writtenWorkload {
		return e.kind.Words().Kind + " " + e.workload.Key.String()
	}
	return "EnsembleMember " + w.key.String()
}

// pods are those that were written and may not be seen yet.
func (w *writes) pods() []types.NamespacedName {
	w.mu.Lock()
	defer w.mu.Unlock()
	var keys []types.NamespacedName
	for object := range w.versions {
		if object.what == writtenPod {
			keys = append(keys, object.key)
		}
	}
	return keys
}

// behindPods is behind for pods, of which it is the ledger that has to have caught up: when it was read, and not by now. A pass that
// has not seen which node a pod was released for would give that node to another one.
func (w *writes) behindPods(seen map[types.NamespacedName]string) string {
	for object, written := range w.versions {
		if object.what != writtenPod {
			continue
		}
		// A pod that is not there was there when it was written: it is gone.
		version, was := seen[object.key]
		if order, err := resourceversion.CompareResourceVersion(version, written); !was || (err == nil && order < 0) {
			return "Pod " + object.key.String()
		}
		delete(w.versions, object)
	}
	return ""
}
