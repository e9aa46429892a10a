package job

import (
	"fmt"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// youngest is why a Job that is not elastic will not do.
const youngest = ": of any other Job the youngest pod would leave at a shrink, and not the one with the highest index"

// Check says what keeps a Job from being one whose size can change rank by rank, nil for nothing.
func Check(spec *batchv1.JobSpec) *member.Fault {
	size := ptr.Deref(spec.Parallelism, 1)
	mode := ptr.Deref(spec.CompletionMode, batchv1.NonIndexedCompletion)
	switch {
	case mode != batchv1.IndexedCompletion:
		return &member.Fault{
			Field: "spec.completionMode", Value: string(mode), Why: "it has to be " + string(batchv1.IndexedCompletion) + youngest,
		}
	case size < 1:
		return &member.Fault{Field: "spec.parallelism", Value: size, Why: "it has to be at least 1; spec.suspend stops a Job"}
	case spec.Completions == nil:
		return &member.Fault{Field: "spec.completions", Why: fmt.Sprintf("it has to be spec.parallelism, which is %d"+youngest, size)}
	case *spec.Completions != size:
		return &member.Fault{
			Field: "spec.completions", Value: *spec.Completions, Why: fmt.Sprintf("it has to be spec.parallelism, which is %d"+youngest, size),
		}
	}
	return nil
}

// Bounds are the minimum and maximum size of a Job, in pods. Max is 0 where nothing says so.
type Bounds struct{ Min, Max int32 }

// BoundsOf reads the bounds of the annotations, and what is wrong with them or with the size of the Job by them. The minimum is 1 where
// there is none; the maximum has to be there, as the webhook writes it into a Job that is created.
func BoundsOf(job *batchv1.Job) (Bounds, *member.Fault) {
	bounds := Bounds{Min: 1}
	for _, bound := range []struct {
		key  string
		into *int32
	}{{v1alpha1.AnnotationMinSize, &bounds.Min}, {v1alpha1.AnnotationMaxSize, &bounds.Max}} {
		text, has := job.Annotations[bound.key]
		if !has {
			continue
		}
		size, err := strconv.ParseInt(text, 10, 32)
		if err != nil || size < 1 {
			return bounds, &member.Fault{Annotation: bound.key, Value: text, Why: "it has to be a number of pods, at least 1"}
		}
		*bound.into = int32(size)
	}
	size := ptr.Deref(job.Spec.Parallelism, 1)
	switch {
	case bounds.Max == 0:
		return bounds, &member.Fault{Annotation: v1alpha1.AnnotationMaxSize, Why: fmt.Sprintf("it has to be the maximum size, at least %d", size)}
	case bounds.Min > bounds.Max:
		return bounds, &member.Fault{
			Annotation: v1alpha1.AnnotationMinSize, Value: job.Annotations[v1alpha1.AnnotationMinSize],
			Why: fmt.Sprintf("it must not exceed the annotation %s, which is %d", v1alpha1.AnnotationMaxSize, bounds.Max),
		}
	case size > bounds.Max:
		return bounds, &member.Fault{
			Field: "spec.parallelism", Value: size,
			Why: fmt.Sprintf("it must not exceed the annotation %s, which is %d", v1alpha1.AnnotationMaxSize, bounds.Max),
		}
	}
	return bounds, nil
}

// CheckName says what keeps the pods of a Job of a name from being known by it, empty for nothing. They carry the name of the member in a
// label, and have a host name of the name of the Job and their index.
func CheckName(name string, maxSize int32) string {
	label := member.Name(Kind{}, name)
	if over := len(label) - validation.LabelValueMaxLength; over > 0 {
		return fmt.Sprintf(
			"has %d characters; it has to have at most %d: the pods carry %s in a label", len(name), len(name)-over, words.Prefix+"NAME",
		)
	}
	host := name + "-" + strconv.Itoa(int(max(maxSize, 1))-1)
	if over := len(host) - validation.DNS1123LabelMaxLength; over > 0 {
		return fmt.Sprintf("has %d characters; it has to have at most %d: with the maximum size %d the last pod has the host name NAME-%d",
			len(name), len(name)-over, maxSize, maxSize-1)
	}
	return ""
}
