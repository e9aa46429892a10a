package ensemble

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// whole says what is missing of an Ensemble whose members have these sizes.
func whole(s *seen, sizes ...int32) string {
	if len(s.clusters) != len(sizes) || len(s.configMaps) != len(sizes) {
		return fmt.Sprintf("there are %d MiniClusters and %d ConfigMaps, not %d of each", len(s.clusters), len(s.configMaps), len(sizes))
	}
	for i, size := range sizes {
		name := fmt.Sprintf("demo-%d", i)
		if m := s.clusters[name]; m == nil || m.Size() != size || m.MaxSize() != 2*size {
			return fmt.Sprintf("%s is %+v, not of size %d", name, m, size)
		}
		if s.configMaps[name] != s.Spec.Members[i].Ensemble {
			return fmt.Sprintf("ConfigMap %s has %q", name, s.configMaps[name])
		}
	}
	if said := s.says(
		v1alpha1.ConditionMembersCreated,
	); !strings.HasPrefix(said, "True") || s.Status.ObservedGeneration != s.Generation || len(s.Status.Members) != len(sizes) {
		return fmt.Sprintf("MembersCreated is %s; %d members are in the status", said, len(s.Status.Members))
	}
	return ""
}

func create(t *testing.T, e *v1alpha1.Ensemble) {
	t.Helper()
	if err := cluster.Client.Create(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

// change edits an Ensemble as kubectl edit does.
func change(t *testing.T, namespace string, edit func(*v1alpha1.Ensemble)) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		s, err := look(ctx, namespace)
		if err != nil {
			return "", err
		}
		edit(s.Ensemble)
		err = cluster.Client.Update(ctx, s.Ensemble)
		if apierrors.IsConflict(err) {
			return "another was first", nil
		}
		return "", err
	})
}

// TestLife: an Ensemble from its creation over what can and what cannot change to its end.
func TestLife(t *testing.T) {
	const at = "life"
	place(t, at)
	m := start(t, -1)
	defer m.Stop()
	e := newEnsemble(at, beginning(2, "hpc-a", "hpc-b"), beginning(3))
	e.Spec.Sidecar = &v1alpha1.Sidecar{Image: "sidecar", PullAlways: new(true)}
	create(t, e)
	until(t, at, func(s *seen) string { return whole(s, 2, 3) })
	until(t, at, func(s *seen) string {
		if pools := s.clusters["demo-0"].NodePools; !slices.Equal(pools, []string{"hpc-a", "hpc-b"}) || s.clusters["demo-1"].Managed() {
			return fmt.Sprintf("demo-0 has the pools %v, demo-1 %v", pools, s.clusters["demo-1"].NodePools)
		}
		for kind, want := range map[string]string{
			v1alpha1.ConditionAccepted: "True Valid: nothing is wrong with the spec",
			v1alpha1.ConditionFieldsUsed: "False Unused: without effect, because one endpoint serves all Ensembles and starts their members: " +
				"spec.sidecar.image; spec.sidecar.pullAlways",
			v1alpha1.ConditionMembersReady: "False Waiting: waiting for demo-0 (Waiting)",
			v1alpha1.ConditionUpToDate:     "True UpToDate: every MiniCluster is as the spec has it",
		} {
			if said := s.says(kind); said != want {
				return fmt.Sprintf("%s is %q, not %q", kind, said, want)
			}
		}
		if s.Status.MembersReady != "1/2" || s.Status.Members[1].State != "Unmanaged" || s.Status.Size != 5 {
			return fmt.Sprintf("the status is %+v", s.Status)
		}
		return ""
	})

	// What can change does; what cannot is shown, for nobody has refused it here.
	change(t, at, func(e *v1alpha1.Ensemble) {
		e.Spec.Members[0].Ensemble, e.Spec.Members[0].NodePools, e.Spec.Members[0].RequestPolicy = text("goodbye"), []string{"hpc-c"}, "Coalesce"
		e.Spec.Members[0].MiniCluster = runtime.RawExtension{
			Raw: []byte(`{"spec": {"size": 2, "minSize": 2, "maxSize": 4, "containers": [{"image": "another"}]}}`),
		}
	})
	until(t, at, func(s *seen) string {
		if missing := whole(s, 2, 3); missing != "" {
			return missing
		}
		m := s.clusters["demo-0"]
		if m.MinSize() != 2 || !slices.Equal(m.NodePools, []string{"hpc-c"}) || m.RequestPolicy != "Coalesce" {
			return fmt.Sprintf("demo-0 is %+v", m)
		}
		if said, want := s.says(v1alpha1.ConditionUpToDate), "False SpecChanged: changed since the MiniClusters were created, which keep what "+
			"they were created with: demo-0: minicluster.spec.containers"; said != want {
			return fmt.Sprintf("UpToDate is %q, not %q", said, want)
		}
		return ""
	})
	hasEvent(t, at, "SpecChanged", "demo-0: minicluster.spec.containers")

	// Members come and go at the end.
	change(t, at, func(e *v1alpha1.Ensemble) { e.Spec.Members = append(e.Spec.Members, beginning(4)) })
	until(t, at, func(s *seen) string { return whole(s, 2, 3, 4) })
	change(t, at, func(e *v1alpha1.Ensemble) { e.Spec.Members = e.Spec.Members[:1] })
	until(t, at, func(s *seen) string { return whole(s, 2) })
	hasEvent(t, at, "MemberRemoved", "deleted MiniCluster demo-1")

	// What is deleted by hand comes again.
	gone := minicluster.New()
	gone.SetNamespace(at)
	gone.SetName("demo-0")
	before := ""
	until(t, at, func(s *seen) string { before = string(s.clusters["demo-0"].UID); return "" })
	if err := cluster.Client.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	until(t, at, func(s *seen) string {
		if m := s.clusters["demo-0"]; m == nil || string(m.UID) == before {
			return "the MiniCluster has not come again"
		}
		return whole(s, 2)
	})

	if err := cluster.Client.Delete(t.Context(), newEnsemble(at)); err != nil {
		t.Fatal(err)
	}
	// The garbage collector looks for new kinds every 30 s only.
	until(t, at, func(s *seen) string {
		if len(s.clusters)+len(s.configMaps) > 0 {
			return fmt.Sprintf("there are %d MiniClusters and %d ConfigMaps left", len(s.clusters), len(s.configMaps))
		}
		return ""
	})
}

// hasEvent waits until an event of the Ensemble has the reason and the words.
func hasEvent(t *testing.T, namespace, reason, words string) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		var events eventsv1.EventList
		if err := cluster.Client.List(ctx, &events, client.InNamespace(namespace)); err != nil {
			return "", err
		}
		for i := range events.Items {
			if events.Items[i].Reason == reason && strings.Contains(events.Items[i].Note, words) {
				return "", nil
			}
		}
		return fmt.Sprintf("no event %s tells of %q", reason, words), nil
	})
}

// TestInvalid: of an Ensemble with a fault nothing is created, its status names the fault, and when it is repaired
// everything is.
func TestInvalid(t *testing.T) {
	const at = "invalid"
	place(t, at)
	m := start(t, -1)
	defer m.Stop()
	e := newEnsemble(at, beginning(2), beginning(2))
	e.Spec.Members[1].Ensemble = strings.Replace(text("hello"), "label: say", "label: sya", 1)
	create(t, e)
	until(t, at, func(s *seen) string {
		if said, want := s.says(v1alpha1.ConditionAccepted), "False Invalid: nothing is created or changed: "+
			"spec.members[1].ensemble.rules[0].action.label"; !strings.HasPrefix(said, want) {
			return fmt.Sprintf("Accepted is %q, not %q", said, want)
		}
		if len(s.clusters)+len(s.configMaps) > 0 {
			t.Errorf("there are %d MiniClusters and %d ConfigMaps of an Ensemble with a fault", len(s.clusters), len(s.configMaps))
		}
		return ""
	})
	hasEvent(t, at, "Invalid", "rules[0].action.label")
	change(t, at, func(e *v1alpha1.Ensemble) { e.Spec.Members[1].Ensemble = text("hello") })
	until(t, at, func(s *seen) string { return whole(s, 2, 2) })
}

// TestNameTaken: what belongs to another is left alone and named; the other members are made.
func TestNameTaken(t *testing.T) {
	const at = "taken"
	place(t, at)
	foreignMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: at, Name: "demo-0"}, Data: map[string]string{"mine": "1"}}
	foreign := minicluster.New()
	foreign.SetNamespace(at)
	foreign.SetName("demo-1")
	foreign.Object["spec"] = map[string]any{"size": int64(7), "containers": []any{map[string]any{"image": "theirs"}}}
	for _, o := range []client.Object{foreignMap, foreign} {
		if err := cluster.Client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	m := start(t, -1)
	defer m.Stop()
	create(t, newEnsemble(at, beginning(2), beginning(2), beginning(2)))
	until(t, at, func(s *seen) string {
		want := "False NameTaken: ConfigMap demo-0 is there and belongs to another; it is left alone; MiniCluster demo-1 is there and " +
			"belongs to another; it is left alone"
		if said := s.says(v1alpha1.ConditionMembersCreated); said != want {
			return fmt.Sprintf("MembersCreated is %q, not %q", said, want)
		}
		if s.clusters["demo-2"] == nil || s.clusters["demo-0"] != nil {
			return fmt.Sprintf("the MiniClusters are %v", s.clusters)
		}
		return ""
	})
	until(t, at, func(s *seen) string {
		if s.clusters["demo-1"].Size() != 7 || s.configMaps["demo-0"] != "" {
			t.Error("what belongs to another was changed")
		}
		return ""
	})
}

// TestKills: a controller that is killed before any of its writes leaves what the next one goes on from.
func TestKills(t *testing.T) {
	for n := int64(0); ; n++ {
		at := fmt.Sprintf("kill-%d", n)
		place(t, at)
		create(t, newEnsemble(at, beginning(2, "hpc-a"), beginning(3)))
		first := start(t, n)
		inprocess.Until(t, func(ctx context.Context) (string, error) {
			s, err := look(ctx, at)
			if err != nil || first.Killed() {
				return "", err
			}
			return whole(s, 2, 3), nil
		})
		killed := first.Killed()
		first.Stop()
		if !killed {
			if n < 5 {
				t.Errorf("it was all there after %d writes; a ConfigMap and a MiniCluster for two members, and a status, are five", n)
			}
			return
		}
		second := start(t, -1)
		until(t, at, func(s *seen) string { return whole(s, 2, 3) })
		second.Stop()
	}
}
