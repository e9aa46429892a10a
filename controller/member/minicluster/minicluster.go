// Package minicluster is the only one that knows the Flux Operator's MiniCluster: it reads what matters of one into a plain value, and says
// which fields give it a size. The upstream Go types are not imported: they would bring old releases of Kubernetes with them.
package minicluster

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// GroupVersionKind is that of a MiniCluster.
var GroupVersionKind = schema.GroupVersionKind{Group: "flux-framework.org", Version: "v1alpha2", Kind: "MiniCluster"}

// Kind is the kind of MiniClusters.
type Kind struct{ member.Indexed }

var _ member.Kind = Kind{}

var words = member.Words{
	Kind: "MiniCluster", Kinds: "MiniClusters", Size: "spec.size", MinSize: "spec.minSize", MaxSize: "spec.maxSize",
	MaxFixed: "; that is fixed when it is created, and without it a MiniCluster cannot grow",
	Job:      "Job of the MiniCluster",
	NoJob:    "the MiniCluster has no Job; the Flux Operator makes it", Callers: []string{"minicluster", "miniclusters"},
}

// GroupVersionKind implements member.Kind.
func (Kind) GroupVersionKind() schema.GroupVersionKind { return GroupVersionKind }

// Words implements member.Kind.
func (Kind) Words() *member.Words { return &words }

// New implements member.Kind.
func (Kind) New() client.Object { return New() }

// NewList implements member.Kind.
func (Kind) NewList() client.ObjectList { return NewList() }

// Parse implements member.Kind.
func (Kind) Parse(object client.Object) (*member.Workload, error) {
	u, is := object.(*unstructured.Unstructured)
	if !is {
		return nil, fmt.Errorf("a %T is no MiniCluster", object)
	}
	return Parse(u)
}

// SizeFields implements member.Kind.
func (Kind) SizeFields(_ *member.Workload, change *member.Change) []member.Field {
	return []member.Field{{Path: "/spec/size", Value: change.Sizes.Sum()}}
}

// Owner implements member.Kind.
func (Kind) Owner(job metav1.Object) *member.Owner {
	of := metav1.GetControllerOfNoCopy(job)
	if !Is(of) {
		return nil
	}
	return &member.Owner{Name: of.Name, UID: of.UID, Job: of.Name}
}

// JobOf implements member.Kind: the Flux Operator calls the Job as the MiniCluster is called.
func (Kind) JobOf(name, _ string) string { return name }

// Selector implements member.Kind.
func (Kind) Selector(name, _ string) string { return member.SelectorOfJob(name) }

// New returns an empty object to read a MiniCluster into.
func New() *unstructured.Unstructured {
	return member.NewObject(GroupVersionKind)
}

// NewList returns an empty list to read MiniClusters into.
func NewList() *unstructured.UnstructuredList {
	return member.NewObjectList(GroupVersionKind)
}

// Is reports whether a reference is to a MiniCluster.
func Is(owner *metav1.OwnerReference) bool {
	return member.RefersTo(owner, GroupVersionKind)
}

// Parse reads a MiniCluster. An error names the field, its value and what would be right. With an error
// of one of our annotations the rest is returned all the same, so that what is managed already stays so.
func Parse(u *unstructured.Unstructured) (*member.Workload, error) {
	var spec miniClusterSpec
	if err := member.ReadField(u, "spec", &spec); err != nil {
		return nil, err
	}
	var status struct {
		MaximumSize int32 `json:"maximumSize"`
	}
	if err := member.ReadField(u, "status", &status); err != nil {
		return nil, err
	}
	if spec.Size > member.MaxIndexedPods {
		// Nothing counts its ranks: they would fill the memory.
		return nil, fmt.Errorf("spec.size is %d; it has to be at most %d, as many pods as its Job can have", spec.Size, member.MaxIndexedPods)
	}
	m := &member.Workload{
		Kind:            Kind{},
		Key:             client.ObjectKeyFromObject(u),
		UID:             u.GetUID(),
		Generation:      u.GetGeneration(),
		ResourceVersion: u.GetResourceVersion(),
		Deleting:        u.GetDeletionTimestamp() != nil,
		Groups:          []member.Group{spec.group(status.MaximumSize)},
	}
	if err := m.ReadAnnotations(u.GetAnnotations()); err != nil {
		return m, err
	}
	switch pods := m.Only(); {
	case pods.Size > pods.MaxSize:
		return m, fmt.Errorf(
			"spec.size is %d; it must not exceed the maximum size, which is %d and fixed when the MiniCluster is created", pods.Size, pods.MaxSize,
		)
	case pods.MinSize > pods.MaxSize:
		return m, fmt.Errorf("spec.minSize is %d; it must not exceed the maximum size, which is %d", pods.MinSize, pods.MaxSize)
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

// group are the pods of a MiniCluster, whose maximum is fixed when it is created: a status has it from then on, 0 before.
func (s *miniClusterSpec) group(fixed int32) member.Group {
	// A size or minSize of 0 is 1 to the Flux Operator.
	group := member.Group{Size: max(s.Size, 1), MinSize: max(s.MinSize, 1), Pod: s.podSpec(), Tolerations: s.Pod.Tolerations}
	if group.MaxSize = max(group.Size, s.MaxSize); fixed > 0 {
		group.MaxSize = fixed
	}
	group.PodRequests, _ = member.PodNeeds(&group.Pod)
	return group
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
