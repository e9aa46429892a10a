package pool

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
)

// TestStripNode: what is read of a node in the cache, and what is written to it, is the same as of the whole node.
func TestStripNode(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	whole := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: "n", UID: "u", ResourceVersion: "7", Labels: map[string]string{v1alpha1.LabelNodePool: "p", "other": strings.Repeat("x", 63)},
			Annotations:     map[string]string{"long": strings.Repeat("x", 300), "short": "x", v1alpha1.AnnotationHeldBy: strings.Repeat("y", 100)},
			OwnerReferences: []metav1.OwnerReference{{Kind: "KwokInstance", Name: "n", Controller: new(true)}},
			ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "kubelet"}},
		},
		Spec: corev1.NodeSpec{
			ProviderID: "cloud://n", Unschedulable: true, PodCIDR: "10.0.0.0/24",
			Taints: []corev1.Taint{
				{Key: "other", Effect: corev1.TaintEffectNoSchedule}, {Key: v1alpha1.TaintRegistration, Effect: corev1.TaintEffectNoSchedule},
			},
		},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}, Images: []corev1.ContainerImage{{SizeBytes: 1}},
			Conditions: []corev1.NodeCondition{
				{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse},
				{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", LastTransitionTime: metav1.NewTime(now)},
			},
		},
	}
	object, err := StripNode(whole.DeepCopy())
	if err != nil {
		t.Fatal(err)
	}
	stripped, is := object.(*corev1.Node)
	if !is {
		t.Fatalf("a node became a %T", object)
	}
	if size := stripped.Size(); size > 600 {
		t.Errorf("%d bytes are left of %d", size, whole.Size())
	}
	if diff := cmp.Diff(nodeOf(whole, 2), nodeOf(stripped, 2)); diff != "" {
		t.Errorf("what is read (-whole +stripped):\n%s", diff)
	}
	for name, mark := range map[string]*nodegroup.Mark{
		"held": {
			Node: "n", HeldBy: "default/m",
		}, "free": {Node: "n"}, "releasing": {Node: "n", Releasing: true}, "warm": {Node: "n", Warm: true},
		"reserved": {Node: "n", Reserved: true},
	} {
		var patches []string
		for _, node := range []*corev1.Node{whole, stripped} {
			changed := node.DeepCopy()
			markObject(changed, mark, now)
			patch, err := record.NodePatch(node, changed)
			if err != nil {
				t.Fatal(err)
			}
			text := []byte("none")
			if patch != nil {
				if text, err = patch.Data(changed); err != nil {
					t.Fatal(err)
				}
			}
			patches = append(patches, string(text))
		}
		if patches[0] != patches[1] {
			t.Errorf("%s: the patch of the whole node is %s, that of the stripped one %s", name, patches[0], patches[1])
		}
	}
}
