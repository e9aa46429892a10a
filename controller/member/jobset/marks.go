package jobset

import (
	"fmt"
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// notToBeEvicted is the value of AnnotationSafeToEvict that keeps a pod where it is.
const notToBeEvicted = "false"

// Marks are what a JobSet that is to be managed lacks. Empty values are those that it does not lack.
type Marks struct {
	// Pods are for the templates of the pods, one for each replicatedJob.
	Pods []PodMarks
	// MaxSize is the maximum sizes.
	MaxSize string
	// JobSizes are those that the controller gives to the Jobs.
	JobSizes string
}

// PodMarks are the label by which pods get their scheduling gate, and the annotation that keeps Cluster Autoscaler from moving them.
type PodMarks struct{ Label, SafeToEvict string }

// MarksOfNew are those that a JobSet lacks which is being created. The label is not the user's to choose; what the user says of the others
// stays.
func (s *JobSet) MarksOfNew() Marks {
	marks := Marks{Pods: make([]PodMarks, len(s.Jobs)), MaxSize: s.lackingMaxSize()}
	for i := range s.Jobs {
		pod := &s.Jobs[i].Template.Spec.Template
		if name := member.Name(Kind{}, s.Name); s.Name != "" && pod.Labels[v1alpha1.LabelMember] != name {
			// One that is to be named by the API server has no name yet, and is refused.
			marks.Pods[i].Label = name
		}
		if _, said := pod.Annotations[v1alpha1.AnnotationSafeToEvict]; !said {
			marks.Pods[i].SafeToEvict = notToBeEvicted
		}
	}
	return marks
}

// lackingMaxSize is the annotation of the maximum sizes with those that it lacks, the first sizes; empty when it lacks none, or cannot be
// read.
func (s *JobSet) lackingMaxSize() string {
	sizes, complete := member.Sizes{}, true
	if text, has := s.Annotations[v1alpha1.AnnotationMaxSize]; has {
		var fault *member.Fault
		if sizes, fault = s.ParseSizes(v1alpha1.AnnotationMaxSize, text); fault != nil {
			return ""
		}
	}
	for i := range s.Jobs {
		if job := &s.Jobs[i]; sizes[job.Name] == 0 {
			sizes[job.Name], complete = s.Size(job), false
		}
	}
	if complete {
		return ""
	}
	return sizes.String()
}

// MarksOfUpdate are those that an update takes away, as when a file that has none of them is applied again, and those of a replicatedJob
// whose template may change because the JobSet is suspended. The maximum sizes are given to one that is managed from now on. The sizes that
// the controller gives to the Jobs stay while the JobSet has its own: with others it takes sizes itself.
func (s *JobSet) MarksOfUpdate(before *JobSet) Marks {
	marks := s.MarksOfNew()
	for i := range marks.Pods {
		was := before.Job(s.Jobs[i].Name)
		if was == nil {
			continue
		}
		pod := &was.Template.Spec.Template
		if pod.Labels[v1alpha1.LabelMember] != member.Name(Kind{}, s.Name) && !before.Suspended && !s.Suspended {
			marks.Pods[i].Label = ""
		}
		if pod.Annotations[v1alpha1.AnnotationSafeToEvict] != notToBeEvicted {
			marks.Pods[i].SafeToEvict = ""
		}
	}
	if had, is := before.Annotations[v1alpha1.AnnotationMaxSize]; is && marks.MaxSize != "" {
		marks.MaxSize = had
	}
	if _, has := s.Annotations[v1alpha1.AnnotationJobSizes]; !has && maps.Equal(s.templateSizes(), before.templateSizes()) {
		marks.JobSizes = before.Annotations[v1alpha1.AnnotationJobSizes]
	}
	return marks
}

// AddTo writes marks into a JobSet. Nothing else in it changes.
func (m *Marks) AddTo(u *unstructured.Unstructured) error {
	for key, value := range map[string]string{v1alpha1.AnnotationMaxSize: m.MaxSize, v1alpha1.AnnotationJobSizes: m.JobSizes} {
		if value == "" {
			continue
		}
		if err := unstructured.SetNestedField(u.Object, value, "metadata", "annotations", key); err != nil {
			return fmt.Errorf("add to the JobSet: %w", err)
		}
	}
	jobs, has, err := unstructured.NestedSlice(u.Object, "spec", "replicatedJobs")
	if err != nil || !has {
		return err
	}
	for i := range jobs {
		job, is := jobs[i].(map[string]any)
		if !is || i >= len(m.Pods) {
			return fmt.Errorf("add to the JobSet: spec.replicatedJobs[%d] is a %T", i, jobs[i])
		}
		if err := m.Pods[i].addTo(job); err != nil {
			return err
		}
	}
	if err := unstructured.SetNestedSlice(u.Object, jobs, "spec", "replicatedJobs"); err != nil {
		return fmt.Errorf("add to the JobSet: %w", err)
	}
	return nil
}

func (m *PodMarks) addTo(job map[string]any) error {
	for _, mark := range []struct {
		value string
		at    []string
	}{{m.Label, []string{"labels", v1alpha1.LabelMember}}, {m.SafeToEvict, []string{"annotations", v1alpha1.AnnotationSafeToEvict}}} {
		if mark.value == "" {
			continue
		}
		path := append([]string{"template", "spec", "template", "metadata"}, mark.at...)
		if err := unstructured.SetNestedField(job, mark.value, path...); err != nil {
			return fmt.Errorf("add to a replicatedJob: %w", err)
		}
	}
	return nil
}
