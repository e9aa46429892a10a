package pool

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// TestMarkReleasing: taint and annotation of a release come and go together, a taint of Cluster Autoscaler stays, and nothing
// of ours is left when it has taken the taint off alone, as it does when it starts.
func TestMarkReleasing(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name                       string
		annotated, tainted         bool
		mark                       nodegroup.Mark
		wantAnnotated, wantTainted bool
	}{
		{"a node to be released", false, false, nodegroup.Mark{Releasing: true}, true, true},
		{"a node that is being released", true, true, nodegroup.Mark{Releasing: true}, true, true},
		{"a node that is handed over", true, true, nodegroup.Mark{HeldBy: "ns/m", Reserved: true}, false, false},
		{"a node that Cluster Autoscaler removes", false, true, nodegroup.Mark{HeldBy: "ns/m", Reserved: true}, false, true},
		{"a node whose taint Cluster Autoscaler has taken off", true, false, nodegroup.Mark{HeldBy: "ns/m", Reserved: true}, false, false},
		{"such a node that is to be released all the same", true, false, nodegroup.Mark{Releasing: true}, true, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
			if row.annotated {
				node.Annotations = map[string]string{v1alpha1.AnnotationReleasing: "2026-11-25T12:00:00Z"}
			}
			if row.tainted {
				node.Spec.Taints = []corev1.Taint{{Key: v1alpha1.TaintToBeDeleted, Effect: corev1.TaintEffectNoSchedule}}
			}
			markObject(node, &row.mark, time.Now())
			if _, annotated := node.Annotations[v1alpha1.AnnotationReleasing]; annotated != row.wantAnnotated || toBeDeleted(node) != row.wantTainted {
				t.Errorf("the node bears %v and the taints %v", node.Annotations, node.Spec.Taints)
			}
		})
	}
}
