// Package jobset is the only one that knows JobSets (sigs.k8s.io/jobset): several replicatedJobs, each of which is a number of Jobs of one
// template. A replicatedJob is a group of pods. Its Jobs are Indexed and have the same number of pods, which is what changes: so the pods
// of a group come and go by as many as it has Jobs, the highest indexes of each Job first. The number of Jobs never changes. The upstream
// Go types are not imported: they would bring the versions of Kubernetes with them that JobSet is built with.
package jobset

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// GroupVersionKind is that of a JobSet.
var GroupVersionKind = schema.GroupVersionKind{Group: "jobset.x-k8s.io", Version: "v1alpha2", Kind: "JobSet"}

// Labels of the pods of a JobSet, which their Jobs have too.
const (
	labelName          = "jobset.sigs.k8s.io/jobset-name"
	labelReplicatedJob = "jobset.sigs.k8s.io/replicatedjob-name"
	labelReplicas      = "jobset.sigs.k8s.io/replicatedjob-replicas"
	labelJobIndex      = "jobset.sigs.k8s.io/job-index"
)

// Kind is the kind of JobSets.
type Kind struct{}

var (
	_ member.Kind     = Kind{}
	_ member.JobSizer = Kind{}
)

var words = member.Words{
	Kind: "JobSet", Kinds: "JobSets", Size: "parallelism",
	MinSize: "the annotation " + v1alpha1.AnnotationMinSize, MaxSize: "the annotation " + v1alpha1.AnnotationMaxSize,
	MaxFixed: "; without it a JobSet cannot grow above its first sizes",
	Job:      "Jobs of the JobSet", NoJob: "the JobSet has no Jobs; the JobSet controller makes them",
	Callers: []string{"jobset", "jobsets"}, Prefix: "jobset.",
}

// GroupVersionKind implements member.Kind.
func (Kind) GroupVersionKind() schema.GroupVersionKind { return GroupVersionKind }

// Words implements member.Kind.
func (Kind) Words() *member.Words { return &words }

// New implements member.Kind.
func (Kind) New() client.Object { return member.NewObject(GroupVersionKind) }

// NewList implements member.Kind.
func (Kind) NewList() client.ObjectList { return member.NewObjectList(GroupVersionKind) }

// Parse implements member.Kind. A JobSet that something else controls, as a training job does, is never managed, whatever its annotations
// say: what made it says how large it is.
func (Kind) Parse(object client.Object) (*member.Workload, error) {
	u, is := object.(*unstructured.Unstructured)
	if !is {
		return nil, fmt.Errorf("a %T is no JobSet", object)
	}
	js, err := Read(u)
	if err != nil {
		return nil, err
	}
	if len(js.Jobs) == 0 {
		return nil, js.Check()
	}
	if fault := js.tooLarge(); fault != nil {
		return nil, fault
	}
	w := &member.Workload{
		Kind: Kind{}, Key: client.ObjectKeyFromObject(u), UID: u.GetUID(), Generation: u.GetGeneration(), ResourceVersion: u.GetResourceVersion(),
		Deleting: u.GetDeletionTimestamp() != nil, Life: &member.Life{Suspended: js.Suspended, Finished: js.Finished != ""},
		Own: js.own(),
	}
	for i := range js.Jobs {
		w.Groups = append(w.Groups, js.group(&js.Jobs[i]))
	}
	if !Manages(u) {
		return w, nil
	}
	if err := w.ReadAnnotations(u.GetAnnotations()); err != nil {
		return w, err
	}
	if fault := js.Check(); fault != nil {
		return w, fault
	}
	bounds, fault := js.Bounds()
	for i := range w.Groups {
		group := &w.Groups[i]
		if group.MinSize = bounds[group.Name].Min; bounds[group.Name].Max > 0 {
			group.MaxSize = bounds[group.Name].Max
		}
	}
	if fault != nil {
		return w, fault
	}
	return w, nil
}

// group is a replicatedJob as a group of pods, with the bounds of one that nothing is said of.
func (s *JobSet) group(job *ReplicatedJob) member.Group {
	unit := max(job.Replicas, 1)
	size := max(s.Size(job), unit)
	group := member.Group{
		Name: job.Name, Size: size, MinSize: unit, MaxSize: size, Unit: unit, Pod: member.PodShape(&job.Template.Spec.Template.Spec),
	}
	group.PodRequests, group.Tolerations = member.PodNeeds(&group.Pod)
	return group
}

// Manages reports whether a JobSet is one that is to be managed: it has the annotation, and nothing else controls it.
func Manages(u metav1.Object) bool {
	_, has := u.GetAnnotations()[v1alpha1.AnnotationNodePools]
	return has && metav1.GetControllerOfNoCopy(u) == nil
}

// SizeFields implements member.Kind. Without the feature gate ElasticJobSet the JobSet controller refuses them; then the sizes are those of
// its Jobs.
func (Kind) SizeFields(w *member.Workload, change *member.Change) []member.Field {
	var fields []member.Field
	for i := range w.Groups {
		group := &w.Groups[i]
		each := Kind{}.JobSize(&member.Group{Size: change.Of(w, group), Unit: group.Unit})
		path := fmt.Sprintf("/spec/replicatedJobs/%d/template/spec/", i)
		fields = append(fields, member.Field{Path: path + "completions", Value: each}, member.Field{Path: path + "parallelism", Value: each})
	}
	return fields
}

// JobSize implements member.JobSizer.
func (Kind) JobSize(group *member.Group) int32 { return group.Size / max(group.Unit, 1) }

// Refuses implements member.JobSizer. The webhook of JobSets says that the field is immutable, as one of the causes of a status with the
// reason Invalid. A policy of an administrator may have the same reason, and names no field.
func (Kind) Refuses(err error) bool {
	var refusal apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &refusal) {
		return false
	}
	details := refusal.Status().Details
	return details != nil && slices.ContainsFunc(details.Causes, func(cause metav1.StatusCause) bool {
		return strings.HasPrefix(cause.Field, "spec.replicatedJobs")
	})
}

// Leaves implements member.Kind.
func (Kind) Leaves() plan.Leaves { return plan.Highest }

// PodLabels implements member.Kind.
func (Kind) PodLabels() []string { return []string{labelReplicatedJob, labelReplicas, labelJobIndex} }

// Place implements member.Kind. The pods of one index, one of each Job, have ranks next to each other: they come and go together.
func (Kind) Place(labels map[string]string, index int32) (group string, rank int32) {
	replicas, job := max(number(labels[labelReplicas]), 1), number(labels[labelJobIndex])
	return labels[labelReplicatedJob], int32(min(int64(max(index, 0))*replicas+job, math.MaxInt32)) //nolint:gosec // Bounded by that.
}

// number is what a label says, 0 for what is none.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// Selector implements member.Kind.
func (Kind) Selector(name, group string) string {
	if group == "" {
		return labelName + "=" + name
	}
	return labelName + "=" + name + "," + labelReplicatedJob + "=" + group
}

// Owner implements member.Kind. Which replicatedJob a Job is of is in its name.
func (Kind) Owner(job metav1.Object) *member.Owner {
	of := metav1.GetControllerOfNoCopy(job)
	if !member.RefersTo(of, GroupVersionKind) {
		return nil
	}
	owner := &member.Owner{Name: of.Name, UID: of.UID}
	rest, begins := strings.CutPrefix(job.GetName(), of.Name+"-")
	at := strings.LastIndexByte(rest, '-')
	if begins && at > 0 {
		if index, err := strconv.ParseInt(rest[at+1:], 10, 32); err == nil {
			owner.Group, owner.Index = rest[:at], int32(index)
			owner.Job = ChildName(of.Name, owner.Group, owner.Index)
		}
	}
	return owner
}

// JobOf implements member.Kind.
func (Kind) JobOf(name, group string) string { return ChildName(name, group, 0) }

// Pools are the names of the annotation of a JobSet that is to be managed, nil where it is none or the annotation is malformed.
func Pools(u metav1.Object) []string {
	if !Manages(u) {
		return nil
	}
	names, err := member.ParseNodePools(u.GetAnnotations()[v1alpha1.AnnotationNodePools])
	if err != nil {
		return nil
	}
	return slices.Clip(names)
}
