// Package job is the only one that knows Indexed Jobs as workloads: Jobs of batch/v1 whose completionMode is Indexed and whose parallelism
// and completions are the same number. Of these the pods with the highest indexes leave first when both are lowered together; of any other
// Job the youngest pod would leave, whatever its node.
package job

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// Kind is the kind of Indexed Jobs.
type Kind struct{ member.Indexed }

var _ member.Kind = Kind{}

var words = member.Words{
	Kind: "Job", Kinds: "Jobs", Size: "spec.parallelism",
	MinSize: "the annotation " + v1alpha1.AnnotationMinSize, MaxSize: "the annotation " + v1alpha1.AnnotationMaxSize,
	MaxFixed: "; without it a Job cannot grow above its first size",
	Job:      "Job", NoJob: "the Job is gone", Callers: []string{"job", "jobs"}, Prefix: "job.",
}

// GroupVersionKind is that of a Job.
var GroupVersionKind = batchv1.SchemeGroupVersion.WithKind("Job")

// GroupVersionKind implements member.Kind.
func (Kind) GroupVersionKind() schema.GroupVersionKind { return GroupVersionKind }

// Words implements member.Kind.
func (Kind) Words() *member.Words { return &words }

// New implements member.Kind.
func (Kind) New() client.Object { return &batchv1.Job{} }

// NewList implements member.Kind.
func (Kind) NewList() client.ObjectList { return &batchv1.JobList{} }

// Parse implements member.Kind. A Job that something else controls is never managed, whatever its annotations say: what made it says how
// large it is.
func (Kind) Parse(object client.Object) (*member.Workload, error) {
	job, is := object.(*batchv1.Job)
	if !is {
		return nil, fmt.Errorf("a %T is no Job", object)
	}
	size := max(ptr.Deref(job.Spec.Parallelism, 1), 1)
	w := &member.Workload{
		Kind: Kind{}, Key: client.ObjectKeyFromObject(job), UID: job.UID, Generation: job.Generation, ResourceVersion: job.ResourceVersion,
		Deleting: job.DeletionTimestamp != nil,
		Groups:   []member.Group{{Size: size, MinSize: 1, MaxSize: size, Pod: member.PodShape(&job.Spec.Template.Spec)}},
	}
	pods := w.Only()
	pods.PodRequests, pods.Tolerations = member.PodNeeds(&pods.Pod)
	if !workload(job) {
		return w, nil
	}
	if err := w.ReadAnnotations(job.Annotations); err != nil {
		return w, err
	}
	if fault := Check(&job.Spec); fault != nil {
		return w, fault
	}
	bounds, fault := BoundsOf(job)
	if pods.MinSize = bounds.Min; bounds.Max > 0 {
		pods.MaxSize = bounds.Max
	}
	if fault != nil {
		return w, fault
	}
	return w, nil
}

// workload reports whether a Job is one that is to be managed: it has the annotation, and nothing else controls it.
func workload(job metav1.Object) bool {
	_, has := job.GetAnnotations()[v1alpha1.AnnotationNodePools]
	return has && metav1.GetControllerOfNoCopy(job) == nil
}

// SizeFields implements member.Kind: the API server takes a change of completions only together with the same of parallelism.
func (Kind) SizeFields(_ *member.Workload, change *member.Change) []member.Field {
	size := change.Sizes.Sum()
	return []member.Field{{Path: "/spec/completions", Value: size}, {Path: "/spec/parallelism", Value: size}}
}

// Owner implements member.Kind: a Job that is to be managed owns its pods by itself.
func (Kind) Owner(job metav1.Object) *member.Owner {
	if !workload(job) {
		return nil
	}
	return &member.Owner{Name: job.GetName(), UID: job.GetUID(), Job: job.GetName()}
}

// JobOf implements member.Kind.
func (Kind) JobOf(name, _ string) string { return name }

// Selector implements member.Kind.
func (Kind) Selector(name, _ string) string { return member.SelectorOfJob(name) }
