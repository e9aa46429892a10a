package jobset

import (
	"cmp"
	"fmt"
	"math"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// JobSet is what is read of a JobSet.
type JobSet struct {
	// Name is empty for one that the API server is to name.
	Name        string
	Annotations map[string]string
	// Suspended is set while it is to have no pods.
	Suspended bool
	// Finished says how it has ended, empty for not.
	Finished string
	// ManagedBy is the controller that it is left to, empty for that of JobSets.
	ManagedBy string
	// Coordinator is the pod that the others find by the name of its host, nil for none.
	Coordinator *Coordinator
	// Jobs are its replicatedJobs.
	Jobs []ReplicatedJob

	// given are the sizes that the controller gives to the Jobs, where the JobSet itself does not take them; wrong is what is wrong with the
	// annotation that has them.
	given member.Sizes
	wrong *member.Fault
}

// Coordinator is a pod of a JobSet: spec.coordinator.
type Coordinator struct {
	ReplicatedJob string `json:"replicatedJob"`
	JobIndex      int32  `json:"jobIndex"`
	PodIndex      int32  `json:"podIndex"`
}

// ReplicatedJob is one of the replicatedJobs of a JobSet: so many Jobs of one template.
type ReplicatedJob struct {
	Name string
	// Replicas is the number of Jobs, which never changes.
	Replicas int32
	// Template is that of the Jobs.
	Template batchv1.JobTemplateSpec
	// DependsOn are those that come first.
	DependsOn []DependsOn
}

// DependsOn is a replicatedJob that another one waits for.
type DependsOn struct {
	Name   string `json:"name"`
	Status string `json:"status"`
}

// Each is the number of pods of each Job.
func (j *ReplicatedJob) Each() int32 { return ptr.Deref(j.Template.Spec.Parallelism, 1) }

// size is the number of pods of all Jobs, as the template has it.
func (j *ReplicatedJob) size() int32 {
	return int32(min(int64(j.Replicas)*int64(j.Each()), math.MaxInt32)) //nolint:gosec // Bounded by that.
}

// Size is the number of pods of all Jobs of a replicatedJob.
func (s *JobSet) Size(job *ReplicatedJob) int32 {
	return cmp.Or(s.given[job.Name], job.size())
}

// Read reads a JobSet that comes as it was written, or from a cache.
func Read(u *unstructured.Unstructured) (*JobSet, error) {
	var spec struct {
		Suspend        bool         `json:"suspend"`
		ManagedBy      string       `json:"managedBy"`
		Coordinator    *Coordinator `json:"coordinator"`
		ReplicatedJobs []struct {
			Name string `json:"name"`
			// The API server writes 1 where a user says nothing.
			Replicas  *int32                  `json:"replicas"`
			Template  batchv1.JobTemplateSpec `json:"template"`
			DependsOn []DependsOn             `json:"dependsOn"`
		} `json:"replicatedJobs"`
	}
	if err := member.ReadField(u, "spec", &spec); err != nil {
		return nil, err
	}
	var status struct {
		TerminalState string `json:"terminalState"`
		Conditions    []struct {
			Type   string                 `json:"type"`
			Status corev1.ConditionStatus `json:"status"`
		} `json:"conditions"`
	}
	if err := member.ReadField(u, "status", &status); err != nil {
		return nil, err
	}
	js := &JobSet{
		Name: u.GetName(), Annotations: u.GetAnnotations(), Suspended: spec.Suspend, ManagedBy: spec.ManagedBy, Coordinator: spec.Coordinator,
		Finished: status.TerminalState,
	}
	if js.ManagedBy == ownController {
		js.ManagedBy = ""
	}
	for i := range status.Conditions {
		if c := &status.Conditions[i]; (c.Type == completed || c.Type == failed) && c.Status == corev1.ConditionTrue {
			js.Finished = c.Type
		}
	}
	for i := range spec.ReplicatedJobs {
		from := &spec.ReplicatedJobs[i]
		js.Jobs = append(js.Jobs, ReplicatedJob{from.Name, ptr.Deref(from.Replicas, 1), from.Template, from.DependsOn})
	}
	js.readGiven()
	return js, nil
}

// itsOwn is what to know of an annotation that no user writes.
const itsOwn = "; it is the controller's own"

// readGiven reads the sizes that the controller has given to the Jobs.
func (s *JobSet) readGiven() {
	text, has := s.Annotations[v1alpha1.AnnotationJobSizes]
	if !has {
		return
	}
	sizes, fault := s.ParseSizes(v1alpha1.AnnotationJobSizes, text)
	if fault == nil && len(sizes) != len(s.Jobs) {
		fault = &member.Fault{Annotation: v1alpha1.AnnotationJobSizes, Value: text, Why: "it has to have a size for each replicatedJob"}
	}
	if fault != nil {
		fault.Why += itsOwn
		s.wrong = fault
		return
	}
	s.given = sizes
}

// own are the sizes of the templates, where the Jobs have been given others, and nil otherwise.
func (s *JobSet) own() member.Sizes {
	if s.given == nil {
		return nil
	}
	return s.templateSizes()
}

// templateSizes are the sizes of the templates.
func (s *JobSet) templateSizes() member.Sizes {
	sizes := make(member.Sizes, len(s.Jobs))
	for i := range s.Jobs {
		sizes[s.Jobs[i].Name] = s.Jobs[i].size()
	}
	return sizes
}

// Job is the replicatedJob of a name, nil for none.
func (s *JobSet) Job(name string) *ReplicatedJob {
	for i := range s.Jobs {
		if s.Jobs[i].Name == name {
			return &s.Jobs[i]
		}
	}
	return nil
}

// ChildName is the name of one of the Jobs of a JobSet.
func ChildName(name, replicatedJob string, index int32) string {
	return fmt.Sprintf("%s-%s-%d", name, replicatedJob, index)
}
