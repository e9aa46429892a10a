package admission

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/reading"
)

// Findings are what there is to say about an object.
type Findings struct {
	// Faults are why it is refused; none where it is not.
	Faults field.ErrorList
	// Warnings tell what will not work as the user may want.
	Warnings []string
}

func (f *Findings) refuse(faults ...*field.Error) { f.Faults = append(f.Faults, faults...) }

func (f *Findings) warn(at *field.Path, format string, arguments ...any) {
	f.Warnings = append(f.Warnings, at.String()+": "+fmt.Sprintf(format, arguments...))
}

// Place says where a user finds the parts of a MiniCluster in what he has written.
type Place struct {
	// Metadata and Spec are their paths.
	Metadata, Spec *field.Path
	// Annotation is the path of what sets one of our annotations.
	Annotation func(key string) *field.Path
}

// Itself is the place of the parts of a MiniCluster that is written as one.
func Itself() Place {
	metadata := field.NewPath("metadata")
	return Place{Metadata: metadata, Spec: field.NewPath("spec"), Annotation: metadata.Child("annotations").Key}
}

func (p *Place) pod(name string) *field.Path { return p.Spec.Child("pod", name) }

func (p *Place) pools() *field.Path { return p.Annotation(v1alpha1.AnnotationNodePools) }

// unreadable is the fault of a spec that is not as the definition has it.
func unreadable(err error, at Place) *field.Error {
	return field.Invalid(at.Spec, field.OmitValueType{}, strings.TrimPrefix(err.Error(), "spec: "))
}

// Pools are the NodePools that somebody has named.
type Pools struct {
	// Named are those of the names that exist.
	Named map[string]*v1alpha1.NodePool
	// Allowed are the names of the NodePools that may be named, in order. They are only of interest where a named one does not exist.
	Allowed []string

	// Namespace is that of the MiniCluster, NamespaceLabels are its labels: read only where a named NodePool asks for some.
	Namespace       string
	NamespaceLabels map[string]string
	// Limits are the LimitRanges of the namespace, as far as they could be read.
	Limits []corev1.LimitRange
	// DaemonSets are those of the cluster.
	DaemonSets []reading.DaemonSet
}

// missing says of names which NodePools do not exist, and which could be named. It is empty when none is missing.
func (p *Pools) missing(names []string) string {
	var unknown []string
	for _, name := range names {
		if p.Named[name] == nil {
			unknown = append(unknown, fmt.Sprintf("%q", name))
		}
	}
	if len(unknown) == 0 {
		return ""
	}
	there := "there is none that could be named here: create it first"
	if len(p.Allowed) > 0 {
		there = "those that can be named here are " + listed(p.Allowed)
	}
	return fmt.Sprintf("there is no NodePool %s; %s", listed(unknown), there)
}

// maxFaults is how many faults a refusal tells. Each has the field and its value; the next attempt tells the others.
const maxFaults = 20

// Told are the faults that a refusal tells, the last of which says how many more there are.
func Told(faults field.ErrorList) field.ErrorList {
	if len(faults) <= maxFaults {
		return faults
	}
	more := field.Invalid(field.NewPath("spec"), field.OmitValueType{}, fmt.Sprintf("%d more faults are not listed", len(faults)-maxFaults))
	return append(faults[:maxFaults:maxFaults], more)
}

// listed names the first few of a list and counts the rest.
func listed(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
