package pool

import (
	"maps"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// TestMarkReleasing: taint and annotation of a release come and go together, a taint of Cluster Autoscaler stays, and nothing
// that is ours is left when it has taken the taint off alone, as it does when it starts.
func TestMarkReleasing(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	none, ours, others := "", v1alpha1.ToBeDeletedValue(at), v1alpha1.ToBeDeletedValue(at.Add(time.Minute))
	for _, row := range []struct {
		name                       string
		annotated                  bool
		tainted                    string
		mark                       nodegroup.Mark
		wantAnnotated, wantTainted bool
	}{
		{"a node to be released", false, none, nodegroup.Mark{Releasing: true}, true, true},
		{"a node that is being released", true, ours, nodegroup.Mark{Releasing: true}, true, true},
		{"a node that is handed over", true, ours, nodegroup.Mark{HeldBy: "ns/m", Reserved: true}, false, false},
		{"a node that Cluster Autoscaler removes", false, others, nodegroup.Mark{HeldBy: "ns/m", Reserved: true}, false, true},
		{"a node whose taint Cluster Autoscaler has taken off", true, none, nodegroup.Mark{HeldBy: "ns/m", Reserved: true}, false, false},
		{"such a node that is not needed", true, none, nodegroup.Mark{}, false, false},
		{"such a node that Cluster Autoscaler removes later", true, others, nodegroup.Mark{HeldBy: "ns/m", Reserved: true}, false, true},
		{"such a node that is to be released all the same", true, none, nodegroup.Mark{Releasing: true}, true, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
			if row.annotated {
				node.Annotations = map[string]string{v1alpha1.AnnotationReleasing: at.Format(time.RFC3339)}
			}
			if row.tainted != none {
				node.Spec.Taints = []corev1.Taint{{Key: v1alpha1.TaintToBeDeleted, Value: row.tainted, Effect: corev1.TaintEffectNoSchedule}}
			}
			if seen := nodeOf(node, 0); seen.Releasing != (row.annotated && row.tainted == ours) || seen.Leaving != (row.tainted == others) ||
				seen.Untainted != (row.annotated && row.tainted != ours) {
				t.Errorf("it is seen as %+v", seen)
			}
			markObject(node, &row.mark, time.Now())
			if _, annotated := node.Annotations[v1alpha1.AnnotationReleasing]; annotated != row.wantAnnotated ||
				len(node.Spec.Taints) > 0 != row.wantTainted {
				t.Errorf("the node bears %v and the taints %v", node.Annotations, node.Spec.Taints)
			}
		})
	}
}

// TestMarkWarm: Cluster Autoscaler is kept from a node for as long as a member holds it or it stays for the next growth, and not
// longer. What somebody else has asked of it stays.
func TestMarkWarm(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 5, time.UTC)
	const said, before = "2026-11-25T12:00:00.000000005Z", "2026-11-25T11:00:00Z"
	held := map[string]string{
		v1alpha1.AnnotationHeldBy: "ns/m", v1alpha1.AnnotationScaleDownDisabled: "true", v1alpha1.AnnotationReserved: "true",
	}
	free := map[string]string{v1alpha1.AnnotationReserved: "true"}
	warm := func(since string) map[string]string {
		return map[string]string{
			v1alpha1.AnnotationGivenUp: since, v1alpha1.AnnotationScaleDownDisabled: "true", v1alpha1.AnnotationReserved: "true",
		}
	}
	others := map[string]string{v1alpha1.AnnotationScaleDownDisabled: "true"}
	// A user's own annotation, on a node that a member holds, and after that.
	users := map[string]string{
		v1alpha1.AnnotationHeldBy: "ns/m", v1alpha1.AnnotationScaleDownDisabled: "true", v1alpha1.AnnotationReserved: "true",
		v1alpha1.AnnotationScaleDownDisabledByUser: "true",
	}
	usersFree := map[string]string{v1alpha1.AnnotationReserved: "true", v1alpha1.AnnotationScaleDownDisabled: "true"}
	for _, row := range []struct {
		name   string
		before map[string]string
		mark   nodegroup.Mark
		want   map[string]string
	}{
		{"a node that a member takes", nil, nodegroup.Mark{HeldBy: "ns/m", Reserved: true}, held},
		{"one that it gives up", held, nodegroup.Mark{Reserved: true}, free},
		{"one that it gives up and that stays", held, nodegroup.Mark{Reserved: true, Warm: true}, warm(said)},
		{"one that has stayed and stays", warm(before), nodegroup.Mark{Reserved: true, Warm: true}, warm(before)},
		{"one that has stayed and is taken", warm(before), nodegroup.Mark{HeldBy: "ns/m", Reserved: true}, held},
		{"one that has stayed and does not any more", warm(before), nodegroup.Mark{Reserved: true}, free},
		{"one that an administrator wants to stay", others, nodegroup.Mark{}, others},
		{"such a one that a member takes", others, nodegroup.Mark{HeldBy: "ns/m", Reserved: true}, users},
		{"such a one that a member gives up", users, nodegroup.Mark{Reserved: true}, usersFree},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: maps.Clone(row.before)}}
			if markObject(node, &row.mark, now); !maps.Equal(node.Annotations, row.want) {
				t.Errorf("the node bears %v, want %v", node.Annotations, row.want)
			}
		})
	}
}

// TestNodesReady: it is told when all nodes of the target have become Ready, and not while they become fewer.
func TestNodesReady(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name                string
		before, now, target int32
		told                bool
	}{
		{"the last node becomes Ready", 3, 4, 4, true},
		{"all become so at once", 0, 4, 4, true},
		{"the last but one", 2, 3, 4, false},
		{"nothing changes", 4, 4, 4, false},
		{"the pool shrinks", 8, 7, 2, false},
		{"it has shrunk", 3, 2, 2, false},
		{"a node above the target becomes Ready", 4, 5, 4, false},
		{"the last one leaves", 1, 0, 0, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if told := allReady(row.before, row.now, row.target); told != row.told {
				t.Errorf("with %d Ready nodes, then %d, and a target of %d it is told: %t, want %t", row.before, row.now, row.target, told, row.told)
			}
		})
	}
}

// TestOneMachineIsToldOfInTheSingular: events about one machine do not speak of several.
func TestOneMachineIsToldOfInTheSingular(t *testing.T) {
	t.Parallel()
	one, two := []string{"p-1"}, []string{"p-1", "p-2"}
	for _, row := range []struct {
		name  string
		write nodegroup.TargetWrite
		want  string
	}{
		{"released", nodegroup.TargetWrite{Release: one}, "Normal Released target 5 -> 3: released p-1"},
		{"retired", nodegroup.TargetWrite{Retire: one}, "Normal Retired deleting p-1, which the target of 3 does not count, or which is replaced"},
		{
			"several retired", nodegroup.TargetWrite{Retire: two},
			"Normal Retired deleting p-1, p-2, which the target of 3 does not count, or which are replaced",
		},
		{"lost", nodegroup.TargetWrite{Lost: one}, "Normal Lost target 5 -> 3: p-1 is no more"},
		{"several lost", nodegroup.TargetWrite{Lost: two}, "Normal Lost target 5 -> 3: p-1, p-2 are no more"},
		{"leaving", nodegroup.TargetWrite{Leave: one}, "Normal Leaving p-1 is on its way out; the target of 3 does not count it"},
		{
			"several leaving", nodegroup.TargetWrite{Leave: two},
			"Normal Leaving p-1, p-2 are on their way out; the target of 3 does not count them",
		},
		{
			"an order given up", nodegroup.TargetWrite{GiveUp: 1},
			"Normal GaveUpOrders target 5 -> 3: 1 machine was to be ordered that nobody wants any more, or that maxSize 9 does not allow",
		},
		{
			"orders given up", nodegroup.TargetWrite{GiveUp: 2},
			"Normal GaveUpOrders target 5 -> 3: 2 machines were to be ordered that nobody wants any more, or that maxSize 9 does not allow",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			recorder := events.NewFakeRecorder(1)
			r := &Reconciler{Events: recorder}
			pool := &v1alpha1.NodePool{Spec: v1alpha1.NodePoolSpec{Replicas: 3, MaxSize: 9}}
			r.tellOfTarget(t.Context(), &pass{pool: pool, Decisions: &nodegroup.Decisions{}}, 5, &row.write)
			if got := <-recorder.Events; got != row.want || len(recorder.Events) > 0 {
				t.Errorf("it is told as %q, want %q, with %d more", got, row.want, len(recorder.Events))
			}
		})
	}
}
