package jobset

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// What the JobSet controller looks at (sigs.k8s.io/jobset v0.12.0, api/jobset/v1alpha2/jobset_types.go).
const (
	// ownController is what spec.managedBy may say, and stands for saying nothing.
	ownController = "jobset.sigs.k8s.io/jobset-controller"
	// exclusiveTopology has the pods of each Job in a domain of their own.
	exclusiveTopology = "alpha.jobset.sigs.k8s.io/exclusive-topology"
	// completed and failed are the conditions of a JobSet that has ended.
	completed, failed = "Completed", "Failed"
	// dependencyReady waits until the pods of a replicatedJob are ready, the other status until its Jobs are complete.
	dependencyReady = "Ready"
)

// maxPods is how many pods a replicatedJob may have in all its Jobs: as many as Kubernetes is built for in a whole cluster.
const maxPods = 150_000

// tooMany reports whether a number of pods is more than all Jobs of a replicatedJob can have.
func (j *ReplicatedJob) tooMany(pods int32) bool {
	return int64(pods) > min(int64(max(j.Replicas, 1))*member.MaxIndexedPods, maxPods)
}

// most says how many pods all Jobs of a replicatedJob can have.
func (j *ReplicatedJob) most() string {
	return fmt.Sprintf("each of the %d Jobs of %s can have %d pods, and all of them together %d: it has to be at most %d for a Job",
		max(j.Replicas, 1), j.Name, member.MaxIndexedPods, maxPods, min(maxPods/max(j.Replicas, 1), member.MaxIndexedPods))
}

// tooLarge says which of the sizes is one that no replicatedJob can have, nil for none. Nothing is made of such a JobSet: what is read of
// each rank would take the memory of the controller.
func (s *JobSet) tooLarge() *member.Fault {
	for i := range s.Jobs {
		job := &s.Jobs[i]
		switch {
		case job.tooMany(job.size()):
			return &member.Fault{Field: at(i, "template.spec.parallelism"), Value: job.Each(), Why: job.most()}
		case job.tooMany(s.given[job.Name]):
			return &member.Fault{
				Annotation: v1alpha1.AnnotationJobSizes, Value: s.Annotations[v1alpha1.AnnotationJobSizes], Why: job.most() + itsOwn,
			}
		}
	}
	return nil
}

// youngest is why a Job that is not elastic will not do.
const youngest = ": of any other Job the youngest pod would leave at a shrink, and not the one with the highest index"

// at is the path of a field of a replicatedJob.
func at(i int, path string) string { return fmt.Sprintf("spec.replicatedJobs[%d].%s", i, path) }

// Check says what keeps a JobSet from being one whose sizes can change pod by pod, nil for nothing.
func (s *JobSet) Check() *member.Fault {
	switch {
	case len(s.Jobs) == 0:
		return &member.Fault{Field: "spec.replicatedJobs", Why: "there has to be at least one"}
	case len(s.Jobs) > v1alpha1.MaxGroups:
		return &member.Fault{
			Field: "spec.replicatedJobs", Value: fmt.Sprintf("%d of them", len(s.Jobs)), Why: fmt.Sprintf("there may be %d", v1alpha1.MaxGroups),
		}
	case s.ManagedBy != "":
		return &member.Fault{
			Field: "spec.managedBy", Value: s.ManagedBy, Why: "it has to be unset: another controller makes the pods, or none here",
		}
	case s.Annotations[exclusiveTopology] != "":
		return &member.Fault{Annotation: exclusiveTopology, Value: s.Annotations[exclusiveTopology], Why: exclusive}
	}
	for i := range s.Jobs {
		if fault := s.Jobs[i].check(i); fault != nil {
			return fault
		}
	}
	return nil
}

// exclusive is why the placement of JobSets will not do.
const exclusive = "it must not be there: which domain the pods of a Job go to is decided when the first of them is on a node, and nodes " +
	"are had before; the annotation " + v1alpha1.AnnotationTopologyKey + " has all nodes in one domain"

// check says what is wrong with the replicatedJob at a place of the list.
func (j *ReplicatedJob) check(i int) *member.Fault {
	spec := &j.Template.Spec
	mode := ptr.Deref(spec.CompletionMode, batchv1.IndexedCompletion)
	switch {
	case j.Replicas < 1:
		return &member.Fault{Field: at(i, "replicas"), Value: j.Replicas, Why: "it has to be at least 1"}
	case mode != batchv1.IndexedCompletion:
		return &member.Fault{
			Field: at(i, "template.spec.completionMode"), Value: string(mode), Why: "it has to be " + string(batchv1.IndexedCompletion) + youngest,
		}
	case j.Each() < 1:
		return &member.Fault{
			Field: at(i, "template.spec.parallelism"), Value: j.Each(), Why: "it has to be at least 1; spec.suspend stops a JobSet",
		}
	case spec.Completions == nil:
		return &member.Fault{
			Field: at(i, "template.spec.completions"), Why: fmt.Sprintf("it has to be parallelism, which is %d"+youngest, j.Each()),
		}
	case *spec.Completions != j.Each():
		return &member.Fault{
			Field: at(i, "template.spec.completions"), Value: *spec.Completions,
			Why: fmt.Sprintf("it has to be parallelism, which is %d"+youngest, j.Each()),
		}
	case j.tooMany(j.size()):
		return &member.Fault{Field: at(i, "template.spec.parallelism"), Value: j.Each(), Why: j.most()}
	case j.Template.Annotations[exclusiveTopology] != "":
		return &member.Fault{
			Field: at(i, "template.metadata.annotations["+exclusiveTopology+"]"), Value: j.Template.Annotations[exclusiveTopology], Why: exclusive,
		}
	}
	for d := range j.DependsOn {
		if status := j.DependsOn[d].Status; status != dependencyReady {
			return &member.Fault{
				Field: at(i, fmt.Sprintf("dependsOn[%d].status", d)), Value: status,
				Why: "it has to be " + dependencyReady + ": the nodes of all replicatedJobs are had together, and these would wait without " +
					"pods until the other Jobs have ended",
			}
		}
	}
	return nil
}

// CheckName says what keeps the pods of a JobSet from being known by its name, or the JobSet controller from making them at the maximum
// sizes, empty for nothing. Pods carry the name of the member in a label, and have a host name of the name of their Job and their index.
func (s *JobSet) CheckName(bounds map[string]Bounds) string {
	label := member.Name(Kind{}, s.Name)
	if over := len(label) - validation.LabelValueMaxLength; over > 0 {
		return fmt.Sprintf(
			"has %d characters; it has to have at most %d: the pods carry %s in a label", len(s.Name), len(s.Name)-over, words.Prefix+"NAME",
		)
	}
	most, why := 0, ""
	for i := range s.Jobs {
		job := &s.Jobs[i]
		last := max(bounds[job.Name].Max/max(job.Replicas, 1), job.Each(), 1) - 1
		host := fmt.Sprintf("%s-%d", ChildName("", job.Name, job.Replicas-1), last)
		if over := len(s.Name) + len(host) - validation.DNS1123LabelMaxLength; over > most {
			most, why = over, fmt.Sprintf("has %d characters; it has to have at most %d: at its maximum size the last pod of %s has the host name "+
				"NAME%s", len(s.Name), len(s.Name)-over, job.Name, host)
		}
	}
	return why
}
