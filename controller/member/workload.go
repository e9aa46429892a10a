package member

import (
	"encoding/json"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Workload is what matters of an object that may be a member, whatever its kind.
type Workload struct {
	// Kind is what it is.
	Kind Kind

	Key             types.NamespacedName
	UID             types.UID
	Generation      int64
	ResourceVersion string
	// Deleting is set when the object has a deletion timestamp.
	Deleting bool

	// Size, MinSize and MaxSize are numbers of pods, each at least 1.
	Size, MinSize, MaxSize int32

	// NodePools are those of the annotation, nil for a workload that is not managed.
	NodePools []string
	// GrowthPolicy is that of the annotation, or the default.
	GrowthPolicy v1alpha1.GrowthPolicy
	// Placement is that of the annotation, or the default.
	Placement v1alpha1.Placement
	// RequestPolicy is that of the annotation, or the default.
	RequestPolicy v1alpha1.RequestPolicy
	// PodsPerNode is that of the annotation, or 1.
	PodsPerNode intstr.IntOrString
	// GiveUpAfter is that of the annotation, nil for never.
	GiveUpAfter *int32
	// TopologyKey is that of the annotation, empty for none.
	TopologyKey string
	// AppliedSize is the size that the controller last wrote, nil when it has written none.
	AppliedSize *int32

	// Pod is what one pod needs of a node, as the object lets expect it: containers with their resources, and nothing else of them, node
	// selector, affinity and tolerations.
	Pod corev1.PodSpec
	// PodRequests and Tolerations are those of that pod.
	PodRequests corev1.ResourceList
	Tolerations []corev1.Toleration
}

// Managed reports whether the user has asked for it to be managed.
func (w *Workload) Managed() bool { return w.NodePools != nil }

// Managed reports whether an object has the annotation that makes it managed.
func Managed(o client.Object) bool {
	_, has := o.GetAnnotations()[v1alpha1.AnnotationNodePools]
	return has
}

// Unreadable is a workload of a kind that cannot be read, as it could be read last; and where nobody has, as its member has recorded it.
// Either may be nil. What does not need its fields to be read is as it is now.
func Unreadable(kind Kind, object client.Object, last *Workload, member *v1alpha1.EnsembleMember) *Workload {
	w := &Workload{}
	switch {
	case last != nil:
		*w = *last
	case member != nil:
		spec := &member.Spec
		w.Generation = object.GetGeneration()
		w.Size, w.MinSize, w.MaxSize = max(member.Status.Size, 1), spec.MinSize, spec.MaxSize
		w.NodePools, w.TopologyKey, w.GiveUpAfter = spec.NodePools, spec.TopologyKey, spec.GiveUpAfter
		w.GrowthPolicy, w.Placement, w.RequestPolicy = spec.GrowthPolicy, spec.Placement, spec.RequestPolicy
		if spec.PodsPerNode != nil {
			w.PodsPerNode = *spec.PodsPerNode
		}
	}
	w.Kind, w.Key, w.UID = kind, client.ObjectKeyFromObject(object), object.GetUID()
	w.ResourceVersion, w.Deleting = object.GetResourceVersion(), object.GetDeletionTimestamp() != nil
	return w
}

// SizePatch changes the size of a workload and records that it was the controller who did, in one write.
// It fails with a conflict when somebody else has written since it was read.
func (w *Workload) SizePatch(size int32) (object client.Object, patch client.Patch, err error) {
	return w.patch(map[string]any{
		"metadata": map[string]any{
			"resourceVersion": w.ResourceVersion,
			"annotations":     map[string]any{v1alpha1.AnnotationAppliedSize: strconv.Itoa(int(size))},
		},
		"spec": w.Kind.SizeFields(size),
	})
}

// AppliedSizePatch records that the present size is known to the controller.
func (w *Workload) AppliedSizePatch() (object client.Object, patch client.Patch, err error) {
	return w.patch(map[string]any{
		"metadata": map[string]any{
			"resourceVersion": w.ResourceVersion,
			"annotations":     map[string]any{v1alpha1.AnnotationAppliedSize: strconv.Itoa(int(w.Size))},
		},
	})
}

func (w *Workload) patch(content map[string]any) (client.Object, client.Patch, error) {
	encoded, err := json.Marshal(content)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the patch of %s %s: %w", w.Kind.Words().Kind, w.Key, err)
	}
	return Reference(w.Kind, w.Key, ""), client.RawPatch(types.MergePatchType, encoded), nil
}
