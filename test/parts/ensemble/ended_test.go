package ensemble

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// TestEndedOnce: an ensemble that has ended and whose MiniCluster was cleaned up does not run again, also when its spec was not
// valid for a while.
func TestEndedOnce(t *testing.T) {
	m := start(t, -1)
	defer m.Stop()
	of := func(spec string) v1alpha1.Member {
		return v1alpha1.Member{MiniCluster: runtime.RawExtension{Raw: []byte(spec)}, Ensemble: text("hello")}
	}
	valid := of(`{"spec": {"size": 2, "cleanup": true, "containers": [{"image": "i"}]}}`)
	word := valid
	word.Ensemble = strings.Replace(text("hello"), "label: say", "label: sya", 1)
	for i, row := range []struct {
		name   string
		broken v1alpha1.Member
		// later is set for what is broken only after the end: until then nobody could know that there is one.
		later bool
	}{
		{"another text", word, false},
		{"another container", of(`{"spec": {"size": 2, "cleanup": true, "containers": [{"name": "i"}]}}`), false},
		{"not to be read", of(`{"spec": 1}`), true},
		{"no cleanup", of(`{"spec": {"size": 2, "containers": [{"name": "i"}]}}`), true},
	} {
		for _, first := range []string{"broken", "ended"} {
			if first == "broken" && row.later {
				continue
			}
			t.Run(row.name+", first "+first, func(t *testing.T) {
				at := fmt.Sprintf("ended-once-%d-%s", i, first)
				place(t, at)
				has := func(state string) {
					t.Helper()
					until(t, at, func(s *seen) string {
						if s.Status.ObservedGeneration != s.Generation || len(s.Status.Members) != 1 || s.Status.Members[0].State != state {
							return fmt.Sprintf("of generation %d the status is %+v, not %s", s.Generation, s.Status, state)
						}
						if is := len(s.clusters) > 0; is != (state == "Unmanaged") {
							return fmt.Sprintf("there is a MiniCluster: %t", is)
						}
						return ""
					})
				}
				breaks := func() { change(t, at, func(e *v1alpha1.Ensemble) { e.Spec.Members[0] = row.broken }) }
				// The Flux Operator deletes it at its end.
				ends := func() {
					object := minicluster.New()
					object.SetNamespace(at)
					object.SetName("demo-0")
					if err := cluster.Client.Delete(t.Context(), object); err != nil {
						t.Fatal(err)
					}
				}
				create(t, newEnsemble(at, valid))
				has("Unmanaged")
				if first == "broken" {
					breaks()
					has("Unmanaged")
					ends()
				} else {
					ends()
					has("Ended")
					breaks()
				}
				has("Ended")
				change(t, at, func(e *v1alpha1.Ensemble) { e.Spec.Members[0] = valid })
				has("Ended")
			})
		}
	}
}

// late reads an older Ensemble for as long as it has one, as a cache does that has yet to hear of what is new.
type late struct {
	client.Client
	old   atomic.Pointer[v1alpha1.Ensemble]
	reads atomic.Int32 // of the older one
}

// Get implements client.Client.
func (l *late) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	e, is := object.(*v1alpha1.Ensemble)
	if old := l.old.Load(); is && old != nil && key == client.ObjectKeyFromObject(old) {
		l.reads.Add(1)
		old.DeepCopyInto(e)
		return nil
	}
	return l.Client.Get(ctx, key, object, options...)
}

// TestEndedOnceThoughLate: an ensemble that has ended and whose MiniCluster was cleaned up does not run again either when the
// controller has yet to hear of the status in which it wrote that there was one.
func TestEndedOnceThoughLate(t *testing.T) {
	const at = "ended-once-late"
	place(t, at)
	reader := &late{}
	m := startWith(t, -1, func(c client.Client) client.Client { reader.Client = c; return reader })
	defer m.Stop()
	e := newEnsemble(at, v1alpha1.Member{
		MiniCluster: runtime.RawExtension{
			Raw: []byte(`{"spec": {"size": 2, "cleanup": true, "containers": [{"image": "i"}]}}`),
		}, Ensemble: text("hello"),
	})
	create(t, e)
	states := func(s *seen) string {
		if len(s.Status.Members) != 1 {
			return "none"
		}
		return s.Status.Members[0].State
	}
	until(t, at, func(s *seen) string {
		if got := states(s); got != "Unmanaged" || len(s.clusters) != 1 {
			return fmt.Sprintf("there are %d MiniClusters, in the state %s", len(s.clusters), got)
		}
		return ""
	})

	// It begins to lag behind.
	reader.old.Store(e)
	object := minicluster.New()
	object.SetNamespace(at)
	object.SetName("demo-0")
	if err := cluster.Client.Delete(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		if err := m.GetClient().Get(ctx, client.ObjectKeyFromObject(object), object); !apierrors.IsNotFound(err) {
			return "the controller has not heard of the end", err
		}
		return "", nil
	})
	passes := reader.reads.Load()
	until(t, at, func(s *seen) string {
		if len(s.clusters) > 0 {
			t.Fatal("the ensemble runs again")
		}
		if n := reader.reads.Load() - passes; n < 3 {
			return fmt.Sprintf("%d passes with the older Ensemble", n)
		}
		return ""
	})

	// It has heard.
	reader.old.Store(nil)
	until(t, at, func(s *seen) string {
		if got := states(s); got != "Ended" || len(s.clusters) > 0 {
			return fmt.Sprintf("there are %d MiniClusters, in the state %s", len(s.clusters), got)
		}
		return ""
	})
}
