package member

import (
	"strconv"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// Indexed is what is the same for all kinds whose pods are those of one Indexed Job: they are in one group, and the completion index of a
// pod is its rank. Those with the highest indexes leave first.
type Indexed struct{}

// Leaves is one of the methods of Kind.
func (Indexed) Leaves() plan.Leaves { return plan.Highest }

// PodLabels is one of the methods of Kind.
func (Indexed) PodLabels() []string { return nil }

// Place is one of the methods of Kind.
func (Indexed) Place(labels map[string]string) (group string, rank int32) { return "", IndexOf(labels) }

// IndexOf is the completion index that labels say a pod of an Indexed Job has, 0 for none. Caches keep that label of every pod.
func IndexOf(labels map[string]string) int32 {
	index, err := strconv.ParseInt(labels[batchv1.JobCompletionIndexAnnotation], 10, 32)
	if err != nil || index < 0 {
		return 0
	}
	return int32(index)
}

// SelectorOfJob selects the pods of a Job, as a text.
func SelectorOfJob(name string) string { return batchv1.JobNameLabel + "=" + name }
