package job

import (
	"fmt"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// notToBeEvicted is the value of AnnotationSafeToEvict that keeps a pod where it is.
const notToBeEvicted = "false"

// Read reads a Job that comes as it was written.
func Read(u *unstructured.Unstructured) (*batchv1.Job, error) {
	job := &batchv1.Job{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, job); err != nil {
		return nil, fmt.Errorf("read the Job: %w", err)
	}
	return job, nil
}

// Marks are what a Job that is to be managed lacks: the label by which its pods get their scheduling gate, the annotation that keeps
// Cluster Autoscaler from moving them, and its maximum size. Empty values are those that it does not lack.
type Marks struct{ PodLabel, PodSafeToEvict, MaxSize string }

// MarksOfNew are those that a Job lacks which is being created. The label is not the user's to choose; what the user says of the others
// stays.
func MarksOfNew(job *batchv1.Job) Marks {
	marks := Marks{}
	if !workload(job) {
		return marks
	}
	if name := memberOf(job); job.Name != "" && job.Spec.Template.Labels[v1alpha1.LabelMember] != name {
		// One that is to be named by the API server has no name yet, and is refused.
		marks.PodLabel = name
	}
	if _, said := job.Spec.Template.Annotations[v1alpha1.AnnotationSafeToEvict]; !said {
		marks.PodSafeToEvict = notToBeEvicted
	}
	if _, said := job.Annotations[v1alpha1.AnnotationMaxSize]; !said {
		marks.MaxSize = strconv.Itoa(int(ptr.Deref(job.Spec.Parallelism, 1)))
	}
	return marks
}

// MarksOfUpdate are those that an update takes away, as when a file that has none of them is applied again. A Job whose pods are without
// does not get them later: the template of a Job does not change. The maximum is given to one that is managed from now on.
func MarksOfUpdate(before, after *batchv1.Job) Marks {
	marks := MarksOfNew(after)
	if before.Spec.Template.Labels[v1alpha1.LabelMember] != memberOf(after) {
		marks.PodLabel = ""
	}
	if before.Spec.Template.Annotations[v1alpha1.AnnotationSafeToEvict] != notToBeEvicted {
		marks.PodSafeToEvict = ""
	}
	if had, is := before.Annotations[v1alpha1.AnnotationMaxSize]; is && marks.MaxSize != "" {
		marks.MaxSize = had
	}
	return marks
}

func memberOf(job *batchv1.Job) string { return member.Name(Kind{}, job.Name) }

// AddTo writes marks into a Job. Nothing else in it changes.
func (m Marks) AddTo(u *unstructured.Unstructured) error {
	for _, mark := range []struct {
		value string
		at    []string
	}{
		{m.PodLabel, []string{"spec", "template", "metadata", "labels", v1alpha1.LabelMember}},
		{m.PodSafeToEvict, []string{"spec", "template", "metadata", "annotations", v1alpha1.AnnotationSafeToEvict}},
		{m.MaxSize, []string{"metadata", "annotations", v1alpha1.AnnotationMaxSize}},
	} {
		if mark.value == "" {
			continue
		}
		if err := unstructured.SetNestedField(u.Object, mark.value, mark.at...); err != nil {
			return fmt.Errorf("add to the Job: %w", err)
		}
	}
	return nil
}
