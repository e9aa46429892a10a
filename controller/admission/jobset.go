package admission

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/jobset"
)

// ofReplicatedJob is the place of the parts of a JobSet: Spec is that of the pods of one of its replicatedJobs.
func ofReplicatedJob(i int) Place {
	place := Itself()
	place.Spec = templateOf(i).Child("spec", "template", "spec")
	return place
}

// templateOf is the path of the template of the Jobs of a replicatedJob.
func templateOf(i int) *field.Path {
	return field.NewPath("spec", "replicatedJobs").Index(i).Child("template")
}

// markJobSet adds the marks of its pods, and its maximum sizes, to a JobSet that is created, and those that it has lost to one that is
// updated. Being asked twice does no harm.
func markJobSet(_ *webhook.Request, before, after *unstructured.Unstructured) (webhook.Warnings, error) {
	if len(jobset.Pools(after)) == 0 {
		// The annotation is malformed, and the JobSet will be refused.
		return nil, nil
	}
	now, err := jobset.Read(after)
	if err != nil {
		return nil, err
	}
	marks := now.MarksOfNew()
	if before != nil {
		was, err := jobset.Read(before)
		if err != nil {
			return nil, err
		}
		marks = now.MarksOfUpdate(was)
	}
	return nil, marks.AddTo(after)
}

// jobSetValidator judges JobSets that are to be managed.
type jobSetValidator struct{ lookup *Lookup }

var _ webhook.Validator[*unstructured.Unstructured] = (*jobSetValidator)(nil)

// ValidateCreate implements webhook.Validator.
func (v *jobSetValidator) ValidateCreate(ctx context.Context, u *unstructured.Unstructured) (webhook.Warnings, error) {
	pools, err := v.lookup.Review(u.GetNamespace()).Find(ctx, jobset.Pools(u))
	if err != nil {
		return nil, err
	}
	return ExamineNewJobSet(u, pools).Answer(jobset.GroupVersionKind, u.GetName())
}

// ValidateUpdate implements webhook.Validator.
func (v *jobSetValidator) ValidateUpdate(ctx context.Context, before, after *unstructured.Unstructured) (webhook.Warnings, error) {
	pools, err := v.lookup.Review(after.GetNamespace()).Find(ctx, newPoolsOfJobSet(before, after))
	if err != nil {
		return nil, err
	}
	return ExamineJobSetUpdate(before, after, pools).Answer(jobset.GroupVersionKind, after.GetName())
}

// ValidateDelete implements webhook.Validator. It is not asked.
func (*jobSetValidator) ValidateDelete(context.Context, *unstructured.Unstructured) (webhook.Warnings, error) {
	return nil, nil
}

// newPoolsOfJobSet are the NodePools that an update names and that were not named before.
func newPoolsOfJobSet(before, after *unstructured.Unstructured) []string {
	known := jobset.Pools(before)
	return slices.DeleteFunc(jobset.Pools(after), func(name string) bool { return slices.Contains(known, name) })
}

// ExamineNewJobSet looks at a JobSet that is to be managed from its creation on, with the marks that it was given. pools are those that it
// names.
func ExamineNewJobSet(u *unstructured.Unstructured, pools *Pools) *Findings {
	f, at := &Findings{}, Itself()
	js, err := jobset.Read(u)
	if err != nil {
		f.refuse(unreadable(err, at))
		return f
	}
	for _, key := range slices.Sorted(maps.Keys(js.Annotations)) {
		f.annotation(key, js.Annotations[key], at)
	}
	if _, has := js.Annotations[v1alpha1.AnnotationJobSizes]; has {
		f.refuse(field.Forbidden(at.Annotation(v1alpha1.AnnotationJobSizes), "it is the controller's own"))
	}
	bounds := f.jobSetSizes(js, at)
	if len(f.Faults) == 0 {
		f.aboveMinimum(js, bounds)
	}
	f.nameOfJobSet(u, js, bounds, at)
	names := jobset.Pools(u)
	if missing := pools.missing(names); missing != "" {
		f.refuse(field.Invalid(at.pools(), js.Annotations[v1alpha1.AnnotationNodePools], missing))
	}
	if len(f.Faults) > 0 {
		// What is wrong already would be told again in other words.
		return f
	}
	w, err := jobset.Kind{}.Parse(u)
	if err != nil {
		f.refuse(unreadable(err, at))
		return f
	}
	f.growthOfJobSet(js, bounds, at)
	f.allowed(names, pools, at)
	f.states(names, pools, at)
	for i := range w.Groups {
		f.movable(js.Jobs[i].Template.Spec.Template.Annotations, templateOf(i).Child("spec", "template", "metadata", "annotations"))
		f.roomOfGroup(w, i, names, pools)
	}
	if len(f.Faults) == 0 {
		f.roomOfAll(w, names, pools)
	}
	return f
}

// ExamineJobSetUpdate looks at an update of a JobSet that is managed, or is to be from now on. pools are those that were not named before.
func ExamineJobSetUpdate(before, after *unstructured.Unstructured, pools *Pools) *Findings {
	f, at := &Findings{}, Itself()
	if !jobset.Manages(after) || after.GetDeletionTimestamp() != nil {
		return f
	}
	js, err := jobset.Read(after)
	if err != nil {
		f.refuse(unreadable(err, at))
		return f
	}
	fresh, had := !jobset.Manages(before), before.GetAnnotations()
	for _, key := range slices.Sorted(maps.Keys(js.Annotations)) {
		if value, has := had[key]; fresh || !has || value != js.Annotations[key] {
			f.annotation(key, js.Annotations[key], at)
		}
	}
	// The webhook is not asked about what the controller itself writes.
	if sizes, has := js.Annotations[v1alpha1.AnnotationJobSizes]; has && (fresh || had[v1alpha1.AnnotationJobSizes] != sizes) {
		f.refuse(field.Forbidden(at.Annotation(v1alpha1.AnnotationJobSizes), "it is the controller's own"))
	}
	f.nameOfJobSet(after, js, f.jobSetSizes(js, at), at)
	names := newPoolsOfJobSet(before, after)
	if missing := pools.missing(names); missing != "" {
		f.refuse(field.Invalid(at.pools(), js.Annotations[v1alpha1.AnnotationNodePools], missing))
	}
	if len(f.Faults) > 0 {
		return f
	}
	f.allowed(names, pools, at)
	f.states(names, pools, at)
	if w, _ := (jobset.Kind{}).Parse(after); w != nil && len(names) > 0 {
		for i := range w.Groups {
			group, place := &w.Groups[i], ofReplicatedJob(i)
			pod, added := limited(&group.Pod, pools.Limits)
			f.fits(memberOf(w, pod, names, pools), poolsOf(names, pools), because(added)+fixedInJobSet, place)
			f.selects(&group.Pod, names, pools, place)
		}
	}
	if fresh && !marked(js) {
		f.warn(at.pools(),
			"the pods are made without our label: no pod waits for its node, and none is kept on the nodes of the NodePools"+fixedInJobSet)
	}
	return f
}

// fixedInJobSet is what to do about pods.
const fixedInJobSet = "; the template of a JobSet changes only while it is suspended, so it has to be recreated, or suspended, for that"

// marked reports whether all pods of a JobSet carry the name of its member.
func marked(js *jobset.JobSet) bool {
	return !slices.ContainsFunc(js.Jobs, func(job jobset.ReplicatedJob) bool {
		return job.Template.Spec.Template.Labels[v1alpha1.LabelMember] != member.Name(jobset.Kind{}, js.Name)
	})
}

// jobSetSizes judges what keeps the sizes of a JobSet from changing pod by pod, and its bounds, which it returns.
func (f *Findings) jobSetSizes(js *jobset.JobSet, at Place) map[string]jobset.Bounds {
	bounds, fault := js.Bounds()
	// The bounds of sizes that will not do say nothing.
	f.refuseFirst(at, js.Check(), fault)
	return bounds
}

// aboveMinimum judges the first sizes by the minimum ones.
func (f *Findings) aboveMinimum(js *jobset.JobSet, bounds map[string]jobset.Bounds) {
	for i := range js.Jobs {
		job := &js.Jobs[i]
		if size, least := js.Size(job), bounds[job.Name].Min; size < least {
			f.refuse(field.Invalid(templateOf(i).Child("spec", "parallelism"), job.Each(), fmt.Sprintf(
				"with %d replicas that is %d pods; must be at least the annotation %s, which is %d for %s", job.Replicas, size,
				v1alpha1.AnnotationMinSize, least, job.Name)))
		}
	}
}

// nameOfJobSet judges the name, which its pods carry in a label and in their host names.
func (f *Findings) nameOfJobSet(u *unstructured.Unstructured, js *jobset.JobSet, bounds map[string]jobset.Bounds, at Place) {
	if u.GetGenerateName() != "" && !marked(js) {
		f.refuse(field.Forbidden(at.Metadata.Child("generateName"),
			"a JobSet that is to be managed needs metadata.name: its pods carry the name in a label, which is written before the API server "+
				"makes one up"))
		return
	}
	if why := js.CheckName(bounds); why != "" {
		f.refuse(field.Invalid(at.Metadata.Child("name"), js.Name, why))
	}
}

// growthOfJobSet warns of a JobSet that may shrink to nothing that its user has thought of, or that cannot grow.
func (f *Findings) growthOfJobSet(js *jobset.JobSet, bounds map[string]jobset.Bounds, at Place) {
	grows, shrinks := false, false
	for i := range js.Jobs {
		size, of := js.Size(&js.Jobs[i]), bounds[js.Jobs[i].Name]
		grows, shrinks = grows || of.Max > size, shrinks || of.Max > of.Min
	}
	if _, said := js.Annotations[v1alpha1.AnnotationMinSize]; !said && shrinks {
		f.warn(at.Annotation(v1alpha1.AnnotationMinSize), "is not set: requests may shrink each Job of the JobSet to 1 pod")
	}
	if !grows {
		f.warn(at.Annotation(v1alpha1.AnnotationMaxSize),
			"is the first sizes, %s: the JobSet cannot grow above them, and requests to grow will be DENIED",
			js.Annotations[v1alpha1.AnnotationMaxSize])
	}
}

// roomOfGroup judges whether a pod of a group fits a node, whether nodes match what it asks of them, and whether there can ever be as many
// as its first size wants.
func (f *Findings) roomOfGroup(w *member.Workload, i int, names []string, pools *Pools) {
	group, at := &w.Groups[i], ofReplicatedJob(i)
	pod, added := limited(&group.Pod, pools.Limits)
	before := len(f.Faults)
	f.limits(pod, pools.Limits, at)
	if len(f.Faults) == before {
		m := memberOf(w, pod, names, pools)
		m.Size = group.Size
		f.roomOfPods(m, templateOf(i).Child("spec", "parallelism"), group.MaxSize, added, pools, at)
	}
	f.selects(&group.Pod, names, pools, at)
}

// roomOfAll judges whether there can ever be as many nodes as all groups together want, where each pod has one of its own.
func (f *Findings) roomOfAll(w *member.Workload, names []string, pools *Pools) {
	var most int64
	for _, pool := range poolsOf(names, pools) {
		most += int64(pool.MaxSize)
	}
	if size := int64(w.Size()); w.PodsPerNode.IntValue() == 1 && size > most {
		f.refuse(field.Invalid(field.NewPath("spec", "replicatedJobs"), w.Sizes().String(), fmt.Sprintf(
			"the pods of all of them, %d, must be at most what its NodePools hold together, %d", size, most)))
	}
}
