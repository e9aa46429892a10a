// Package minicluster is the only one that knows the Flux Operator's MiniCluster. It reads what matters of
// one into a plain value and builds the one patch by which its size is changed. The upstream Go types are
// not imported: they would bring old releases of Kubernetes with them.
package minicluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/component-helpers/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// GroupVersionKind is that of a MiniCluster.
var GroupVersionKind = schema.GroupVersionKind{Group: "flux-framework.org", Version: "v1alpha2", Kind: "MiniCluster"}

// LabelJobName is the label by which the Job controller marks the pods of a Job. The Flux Operator gives
// the Job the name of its MiniCluster.
const LabelJobName = batchv1.JobNameLabel

// MiniCluster is what matters of a MiniCluster.
type MiniCluster struct {
	Key             types.NamespacedName
	UID             types.UID
	Generation      int64
	ResourceVersion string
	// Deleting is set when the object has a deletion timestamp.
	Deleting bool

	// Size, MinSize and MaxSize are those of the spec, with the Flux Operator's meaning of 0: a size or
	// minSize of 0 is 1. MaxSize is status.maximumSize once it is known: it is fixed at creation.
	Size, MinSize, MaxSize int32

	// NodePools are those of the annotation, nil for a MiniCluster that is not managed.
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

	// Pod is what one pod needs of a node, as the spec lets expect it: containers with their resources, and nothing else of them, node
	// selector, affinity and tolerations.
	Pod corev1.PodSpec
	// PodRequests and Tolerations are those of that pod.
	PodRequests corev1.ResourceList
	Tolerations []corev1.Toleration
}

// Managed reports whether the user has asked for the MiniCluster to be managed.
func (m *MiniCluster) Managed() bool { return m.NodePools != nil }

// SizeEditsFollow is the one value of the annotation v1alpha1.AnnotationSizeEdits.
const SizeEditsFollow = "Follow"

// New returns an empty object to read a MiniCluster into.
func New() *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(GroupVersionKind)
	return u
}

// Reference is an object that tells which MiniCluster it is, and nothing else. Events are about it.
func Reference(key types.NamespacedName, uid types.UID) client.Object {
	u := New()
	u.SetNamespace(key.Namespace)
	u.SetName(key.Name)
	u.SetUID(uid)
	return u
}

// NewList returns an empty list to read MiniClusters into.
func NewList() *unstructured.UnstructuredList {
	u := &unstructured.UnstructuredList{}
	u.SetGroupVersionKind(GroupVersionKind.GroupVersion().WithKind(GroupVersionKind.Kind + "List"))
	return u
}

// Managed reports whether an object has the annotation that makes a MiniCluster managed.
func Managed(o client.Object) bool {
	_, has := o.GetAnnotations()[v1alpha1.AnnotationNodePools]
	return has
}

// Is reports whether a reference is to a MiniCluster.
func Is(owner *metav1.OwnerReference) bool {
	if owner == nil || owner.Kind != GroupVersionKind.Kind {
		return false
	}
	group, err := schema.ParseGroupVersion(owner.APIVersion)
	return err == nil && group.Group == GroupVersionKind.Group
}

// Unreadable is a MiniCluster that cannot be read, as it could be read last; and where nobody has, as its member has recorded it. Either
// may be nil. What does not need its fields to be read is as it is now.
func Unreadable(u *unstructured.Unstructured, last *MiniCluster, member *v1alpha1.EnsembleMember) *MiniCluster {
	m := &MiniCluster{}
	switch {
	case last != nil:
		*m = *last
	case member != nil:
		spec := &member.Spec
		m.Generation = u.GetGeneration()
		m.Size, m.MinSize, m.MaxSize = max(member.Status.Size, 1), spec.MinSize, spec.MaxSize
		m.NodePools, m.TopologyKey, m.GiveUpAfter = spec.NodePools, spec.TopologyKey, spec.GiveUpAfter
		m.GrowthPolicy, m.Placement, m.RequestPolicy = spec.GrowthPolicy, spec.Placement, spec.RequestPolicy
		if spec.PodsPerNode != nil {
			m.PodsPerNode = *spec.PodsPerNode
		}
	}
	m.Key, m.UID = client.ObjectKeyFromObject(u), u.GetUID()
	m.ResourceVersion, m.Deleting = u.GetResourceVersion(), u.GetDeletionTimestamp() != nil
	return m
}

// Parse reads a MiniCluster. An error names the field, its value and what would be right. With an error
// of one of our annotations the rest is returned all the same, so that what is managed already stays so.
func Parse(u *unstructured.Unstructured) (*MiniCluster, error) {
	var spec miniClusterSpec
	if err := readField(u, "spec", &spec); err != nil {
		return nil, err
	}
	var status struct {
		MaximumSize int32 `json:"maximumSize"`
	}
	if err := readField(u, "status", &status); err != nil {
		return nil, err
	}
	m := &MiniCluster{
		Key:             client.ObjectKeyFromObject(u),
		UID:             u.GetUID(),
		Generation:      u.GetGeneration(),
		ResourceVersion: u.GetResourceVersion(),
		Deleting:        u.GetDeletionTimestamp() != nil,
		Size:            max(spec.Size, 1),
		MinSize:         max(spec.MinSize, 1),
		Tolerations:     spec.Pod.Tolerations,
	}
	m.MaxSize = max(m.Size, spec.MaxSize)
	if status.MaximumSize > 0 {
		m.MaxSize = status.MaximumSize
	}
	m.Pod = spec.podSpec()
	m.PodRequests, _ = PodNeeds(&m.Pod)
	if err := m.readAnnotations(u.GetAnnotations()); err != nil {
		return m, err
	}
	switch {
	case m.Size > m.MaxSize:
		return m, fmt.Errorf(
			"spec.size is %d; it must not exceed the maximum size, which is %d and fixed when the MiniCluster is created", m.Size, m.MaxSize,
		)
	case m.MinSize > m.MaxSize:
		return m, fmt.Errorf("spec.minSize is %d; it must not exceed the maximum size, which is %d", m.MinSize, m.MaxSize)
	}
	return m, nil
}

// miniClusterSpec are the fields that matter. A container of a MiniCluster is not that of a pod, but
// writes in the same way what it requests.
type miniClusterSpec struct {
	Size       int32       `json:"size"`
	MinSize    int32       `json:"minSize"`
	MaxSize    int32       `json:"maxSize"`
	Containers []container `json:"containers"`
	Flux       struct {
		// Container brings Flux along, as an init container.
		Container container `json:"container"`
	} `json:"flux"`
	Pod struct {
		Tolerations  []corev1.Toleration `json:"tolerations"`
		NodeSelector map[string]string   `json:"nodeSelector"`
		NodeAffinity map[string][]string `json:"nodeAffinity"`
		// Resources become the overhead of the pod.
		Resources corev1.ResourceList `json:"resources"`
	} `json:"pod"`
}

type container struct {
	Resources corev1.ResourceRequirements `json:"resources"`
}

// podSpec is what a pod needs of a node, as the Flux Operator makes it.
func (s *miniClusterSpec) podSpec() corev1.PodSpec {
	pod := corev1.PodSpec{
		InitContainers: []corev1.Container{{Resources: s.Flux.Container.Resources}}, Overhead: s.Pod.Resources,
		NodeSelector: s.Pod.NodeSelector, Affinity: affinity(s.Pod.NodeAffinity), Tolerations: s.Pod.Tolerations,
	}
	for i := range s.Containers {
		pod.Containers = append(pod.Containers, corev1.Container{Resources: s.Containers[i].Resources})
	}
	return pod
}

// affinity is what the Flux Operator makes of nodeAffinity: a label has to have one of the values, for each key.
func affinity(values map[string][]string) *corev1.Affinity {
	if len(values) == 0 {
		return nil
	}
	var term corev1.NodeSelectorTerm
	for _, key := range slices.Sorted(maps.Keys(values)) {
		term.MatchExpressions = append(
			term.MatchExpressions, corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values[key]},
		)
	}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}},
	}}
}

func readField(u *unstructured.Unstructured, name string, into any) error {
	value, found, err := unstructured.NestedMap(u.Object, name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !found {
		return nil
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	// As the API server reads it: a field that is written in another case is another field.
	if err := utiljson.Unmarshal(encoded, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (m *MiniCluster) readAnnotations(annotations map[string]string) (err error) {
	if list, has := annotations[v1alpha1.AnnotationNodePools]; has {
		if m.NodePools, err = ParseNodePools(list); err != nil {
			return err
		}
	}
	m.GrowthPolicy = v1alpha1.GrowthAllOrNothing
	m.Placement, m.RequestPolicy = v1alpha1.PlacementSpan, v1alpha1.RequestAccumulate
	m.PodsPerNode = intstr.FromInt32(1)
	var sizeEdits string
	if err := errors.Join(
		m.readShare(annotations),
		m.readGiveUp(annotations),
		m.readTopology(annotations),
		choose(
			annotations, v1alpha1.AnnotationGrowthPolicy, &m.GrowthPolicy, v1alpha1.GrowthAllOrNothing, v1alpha1.GrowthBestEffort,
			v1alpha1.GrowthGreedy,
		),
		choose(annotations, v1alpha1.AnnotationPlacement, &m.Placement, v1alpha1.PlacementSpan, v1alpha1.PlacementSingle),
		choose(annotations, v1alpha1.AnnotationRequestPolicy, &m.RequestPolicy, v1alpha1.RequestAccumulate, v1alpha1.RequestCoalesce),
		// Admission reads it by itself.
		choose(annotations, v1alpha1.AnnotationSizeEdits, &sizeEdits, SizeEditsFollow),
	); err != nil {
		return err
	}
	if text, has := annotations[v1alpha1.AnnotationAppliedSize]; has {
		size, err := strconv.ParseInt(text, 10, 32)
		if err != nil || size < 1 {
			return fmt.Errorf("annotation %s is %q; it is the controller's own and holds a size of at least 1", v1alpha1.AnnotationAppliedSize, text)
		}
		applied := int32(size)
		m.AppliedSize = &applied
	}
	return nil
}

// readShare reads how many pods are to share a node.
func (m *MiniCluster) readShare(annotations map[string]string) error {
	text, has := annotations[v1alpha1.AnnotationPodsPerNode]
	if !has {
		return nil
	}
	if !IsPodsPerNode(text) {
		return fmt.Errorf(
			"annotation %s is %q; it has to be a number from 1 to %d, or %s", v1alpha1.AnnotationPodsPerNode, text, v1alpha1.MaxPodsPerNode,
			v1alpha1.PodsPerNodeAuto,
		)
	}
	m.PodsPerNode = intstr.Parse(text)
	return nil
}

// IsPodsPerNode reports whether a text says how many pods can share a node.
func IsPodsPerNode(text string) bool {
	number, err := strconv.ParseInt(text, 10, 32)
	return text == v1alpha1.PodsPerNodeAuto || (err == nil && number >= 1 && number <= v1alpha1.MaxPodsPerNode)
}

// readGiveUp reads how often a growth may fail.
func (m *MiniCluster) readGiveUp(annotations map[string]string) error {
	text, has := annotations[v1alpha1.AnnotationGiveUpAfter]
	if !has {
		return nil
	}
	number, err := strconv.ParseInt(text, 10, 32)
	if err != nil || number < 1 {
		return fmt.Errorf("annotation %s is %q; it has to be a number of attempts, at least 1", v1alpha1.AnnotationGiveUpAfter, text)
	}
	attempts := int32(number)
	m.GiveUpAfter = &attempts
	return nil
}

// readTopology reads the key of the label that all nodes have in common.
func (m *MiniCluster) readTopology(annotations map[string]string) error {
	text, has := annotations[v1alpha1.AnnotationTopologyKey]
	if !has {
		return nil
	}
	if !IsTopologyKey(text) {
		return fmt.Errorf(
			"annotation %s is %q; it has to be the key of a label of nodes, such as %s", v1alpha1.AnnotationTopologyKey, text,
			corev1.LabelTopologyZone,
		)
	}
	m.TopologyKey = text
	return nil
}

// IsTopologyKey reports whether a text can be the key of a label.
func IsTopologyKey(text string) bool { return len(validation.IsQualifiedName(text)) == 0 }

// choose reads an annotation that has one of a few values. Without the annotation nothing changes.
func choose[T ~string](annotations map[string]string, name string, into *T, values ...T) error {
	text, has := annotations[name]
	if !has {
		return nil
	}
	if !slices.Contains(values, T(text)) {
		words := make([]string, len(values))
		for i, value := range values {
			words[i] = string(value)
		}
		if len(words) == 1 {
			return fmt.Errorf("annotation %s is %q; it has to be %s, or not there", name, text, words[0])
		}
		return fmt.Errorf("annotation %s is %q; it has to be one of %s", name, text, strings.Join(words, ", "))
	}
	*into = T(text)
	return nil
}

// ParseNodePools reads the list of pools that a user has put into the annotation.
func ParseNodePools(list string) ([]string, error) {
	const most = 16
	var pools []string
	seen := map[string]bool{}
	for part := range strings.SplitSeq(list, ",") {
		name := strings.TrimSpace(part)
		wrong := func(why string) error {
			return fmt.Errorf(
				"annotation %s is %q: %s; it has to be a comma-separated list of NodePool names", v1alpha1.AnnotationNodePools, list, why,
			)
		}
		switch problems := validation.IsDNS1123Subdomain(name); {
		case name == "":
			return nil, wrong("a name is empty")
		case len(problems) > 0 || len(name) > 50:
			return nil, wrong(fmt.Sprintf("%q cannot be the name of a NodePool", name))
		case seen[name]:
			return nil, wrong(fmt.Sprintf("%q is named twice", name))
		}
		seen[name] = true
		pools = append(pools, name)
	}
	if len(pools) > most {
		return nil, fmt.Errorf("annotation %s names %d pools; at most %d can be given", v1alpha1.AnnotationNodePools, len(pools), most)
	}
	return pools, nil
}

// PodNeeds is what a pod requests and tolerates. A limit counts where a request is missing, as the API
// server has it.
func PodNeeds(spec *corev1.PodSpec) (corev1.ResourceList, []corev1.Toleration) {
	spec = spec.DeepCopy()
	for _, containers := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for i := range containers {
			r := &containers[i].Resources
			for name, limit := range r.Limits {
				if _, has := r.Requests[name]; !has {
					if r.Requests == nil {
						r.Requests = corev1.ResourceList{}
					}
					r.Requests[name] = limit
				}
			}
		}
	}
	return resource.PodRequests(&corev1.Pod{Spec: *spec}, resource.PodResourcesOptions{}), spec.Tolerations
}

// SizePatch changes the size of a MiniCluster and records that it was the controller who did, in one write.
// It fails with a conflict when somebody else has written since the MiniCluster was read.
func (m *MiniCluster) SizePatch(size int32) (object client.Object, patch client.Patch, err error) {
	return m.patch(map[string]any{
		"metadata": map[string]any{
			"resourceVersion": m.ResourceVersion,
			"annotations":     map[string]any{v1alpha1.AnnotationAppliedSize: strconv.Itoa(int(size))},
		},
		"spec": map[string]any{"size": size},
	})
}

// AppliedSizePatch records that the present size is known to the controller.
func (m *MiniCluster) AppliedSizePatch() (object client.Object, patch client.Patch, err error) {
	return m.patch(map[string]any{
		"metadata": map[string]any{
			"resourceVersion": m.ResourceVersion,
			"annotations":     map[string]any{v1alpha1.AnnotationAppliedSize: strconv.Itoa(int(m.Size))},
		},
	})
}

func (m *MiniCluster) patch(content map[string]any) (client.Object, client.Patch, error) {
	encoded, err := json.Marshal(content)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the patch of MiniCluster %s: %w", m.Key, err)
	}
	u := New()
	u.SetNamespace(m.Key.Namespace)
	u.SetName(m.Key.Name)
	return u, client.RawPatch(types.MergePatchType, encoded), nil
}
