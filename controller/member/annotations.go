package member

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// SizeEditsFollow is the one value of the annotation v1alpha1.AnnotationSizeEdits.
const SizeEditsFollow = "Follow"

// ReadAnnotations reads what annotations say of a workload of any kind. An error names the annotation, its value and what would be right.
func (w *Workload) ReadAnnotations(annotations map[string]string) (err error) {
	if list, has := annotations[v1alpha1.AnnotationNodePools]; has {
		if w.NodePools, err = ParseNodePools(list); err != nil {
			return err
		}
	}
	w.GrowthPolicy = v1alpha1.GrowthAllOrNothing
	w.Placement, w.RequestPolicy = v1alpha1.PlacementSpan, v1alpha1.RequestAccumulate
	w.PodsPerNode = intstr.FromInt32(1)
	var sizeEdits string
	if err := errors.Join(
		w.readShare(annotations),
		w.readGiveUp(annotations),
		w.readTopology(annotations),
		choose(
			annotations, v1alpha1.AnnotationGrowthPolicy, &w.GrowthPolicy, v1alpha1.GrowthAllOrNothing, v1alpha1.GrowthBestEffort,
			v1alpha1.GrowthGreedy,
		),
		choose(annotations, v1alpha1.AnnotationPlacement, &w.Placement, v1alpha1.PlacementSpan, v1alpha1.PlacementSingle),
		choose(annotations, v1alpha1.AnnotationRequestPolicy, &w.RequestPolicy, v1alpha1.RequestAccumulate, v1alpha1.RequestCoalesce),
		// Admission reads it by itself.
		choose(annotations, v1alpha1.AnnotationSizeEdits, &sizeEdits, SizeEditsFollow),
	); err != nil {
		return err
	}
	if text, has := annotations[v1alpha1.AnnotationAppliedSize]; has {
		applied, err := ParseSizes(text)
		if err != nil {
			return fmt.Errorf("annotation %s is %q; it is the controller's own and holds a size of at least 1", v1alpha1.AnnotationAppliedSize, text)
		}
		w.Applied = applied
	}
	return nil
}

// readShare reads how many pods are to share a node.
func (w *Workload) readShare(annotations map[string]string) error {
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
	w.PodsPerNode = intstr.Parse(text)
	return nil
}

// IsPodsPerNode reports whether a text says how many pods can share a node.
func IsPodsPerNode(text string) bool {
	number, err := strconv.ParseInt(text, 10, 32)
	return text == v1alpha1.PodsPerNodeAuto || (err == nil && number >= 1 && number <= v1alpha1.MaxPodsPerNode)
}

// readGiveUp reads how often a growth may fail.
func (w *Workload) readGiveUp(annotations map[string]string) error {
	text, has := annotations[v1alpha1.AnnotationGiveUpAfter]
	if !has {
		return nil
	}
	number, err := strconv.ParseInt(text, 10, 32)
	if err != nil || number < 1 {
		return fmt.Errorf("annotation %s is %q; it has to be a number of attempts, at least 1", v1alpha1.AnnotationGiveUpAfter, text)
	}
	attempts := int32(number)
	w.GiveUpAfter = &attempts
	return nil
}

// readTopology reads the key of the label that all nodes have in common.
func (w *Workload) readTopology(annotations map[string]string) error {
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
	w.TopologyKey = text
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
