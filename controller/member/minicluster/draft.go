package minicluster

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// Draft is what a user has written into a MiniCluster of its size, of where its pods may go, and of what the Flux Operator
// wants to be right: Parse has what the Flux Operator makes of a size, and nothing of the rest.
type Draft struct {
	// Size, MinSize and MaxSize are those of the spec. A size that is left out is 1; the others are 0 where there is none.
	Size, MinSize, MaxSize int32
	// MaximumSize is status.maximumSize, 0 while the Flux Operator has not fixed it.
	MaximumSize int32

	// PodLabels and the others are those of spec.pod, which the Flux Operator reads once, when it creates the Job.
	PodLabels, PodAnnotations map[string]string
	NodeSelector              map[string]string
	NodeAffinity              map[string][]string
	Tolerations               []corev1.Toleration
	// Overhead is spec.pod.resources, which the Flux Operator makes the overhead of the pods; RuntimeClass is the name of theirs.
	Overhead     corev1.ResourceList
	RuntimeClass string
	// AffinityDisabled is spec.network.disableAffinity, with which NodeAffinity has no effect.
	AffinityDisabled bool
	// HeadlessName is spec.network.headlessName, the name of the Service by which the pods find each other; empty for that of
	// the MiniCluster.
	HeadlessName string

	// Containers are those of the spec.
	Containers []DraftContainer
}

// DraftContainer is of a container what the Flux Operator looks at before it makes anything of a MiniCluster.
type DraftContainer struct {
	Name string `json:"name"`
	// RunFlux marks the container that Flux runs in. Where there is one container alone, the Flux Operator marks it.
	RunFlux bool `json:"runFlux"`
	// Launcher and Batch are two ways to run Command.
	Launcher bool   `json:"launcher"`
	Batch    bool   `json:"batch"`
	Command  string `json:"command"`
	Commands struct {
		// Script takes the place of Command.
		Script string `json:"script"`
	} `json:"commands"`
}

// ReadDraft reads what a user has written.
func ReadDraft(u *unstructured.Unstructured) (*Draft, error) {
	var spec struct {
		Size    *int32 `json:"size"`
		MinSize int32  `json:"minSize"`
		MaxSize int32  `json:"maxSize"`
		Network struct {
			DisableAffinity bool   `json:"disableAffinity"`
			HeadlessName    string `json:"headlessName"`
		} `json:"network"`
		Containers []DraftContainer `json:"containers"`
		Pod        struct {
			Labels       map[string]string   `json:"labels"`
			Annotations  map[string]string   `json:"annotations"`
			NodeSelector map[string]string   `json:"nodeSelector"`
			NodeAffinity map[string][]string `json:"nodeAffinity"`
			Tolerations  []corev1.Toleration `json:"tolerations"`
			Resources    corev1.ResourceList `json:"resources"`
			RuntimeClass string              `json:"runtimeClassName"`
		} `json:"pod"`
	}
	if err := member.ReadField(u, "spec", &spec); err != nil {
		return nil, err
	}
	var status struct {
		MaximumSize int32 `json:"maximumSize"`
	}
	if err := member.ReadField(u, "status", &status); err != nil {
		return nil, err
	}
	size := int32(1)
	if spec.Size != nil {
		size = *spec.Size
	}
	return &Draft{
		Size: size, MinSize: spec.MinSize, MaxSize: spec.MaxSize, MaximumSize: status.MaximumSize,
		PodLabels: spec.Pod.Labels, PodAnnotations: spec.Pod.Annotations,
		NodeSelector: spec.Pod.NodeSelector, NodeAffinity: spec.Pod.NodeAffinity, Tolerations: spec.Pod.Tolerations,
		Overhead: spec.Pod.Resources, RuntimeClass: spec.Pod.RuntimeClass,
		AffinityDisabled: spec.Network.DisableAffinity, HeadlessName: spec.Network.HeadlessName, Containers: spec.Containers,
	}, nil
}

// Additions are the labels and annotations that its pods get beside what its user has written into a MiniCluster. They are entries of
// maps: a file that is applied again, which does not have them, does not take them away.
type Additions struct{ PodLabels, PodAnnotations map[string]string }

// AddTo writes the additions into a MiniCluster. Nothing else in it changes.
func (a *Additions) AddTo(u *unstructured.Unstructured) error {
	for name, entries := range map[string]map[string]string{"labels": a.PodLabels, "annotations": a.PodAnnotations} {
		for key, value := range entries {
			if err := unstructured.SetNestedField(u.Object, value, "spec", "pod", name, key); err != nil {
				return fmt.Errorf("add to spec.pod.%s: %w", name, err)
			}
		}
	}
	return nil
}
