package member

import (
	batchv1 "k8s.io/api/batch/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// Indexed is what is the same for all kinds whose pods are those of one Indexed Job: they are in one group, and the completion index of a
// pod is its rank. Those with the highest indexes leave first.
type Indexed struct{}

// MaxIndexedPods is how many pods at the same time the API server lets an Indexed Job have (maxParallelismForIndexedJob of Kubernetes). A
// larger size is never that of pods, and what counts ranks would count for nothing.
const MaxIndexedPods = 100_000

// Leaves is one of the methods of Kind.
func (Indexed) Leaves() plan.Leaves { return plan.Highest }

// PodLabels is one of the methods of Kind.
func (Indexed) PodLabels() []string { return nil }

// Place is one of the methods of Kind.
func (Indexed) Place(_ map[string]string, index int32) (group string, rank int32) { return "", index }

// SelectorOfJob selects the pods of a Job, as a text.
func SelectorOfJob(name string) string { return batchv1.JobNameLabel + "=" + name }
