package admission

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/job"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/reading"
)

// ofJob is the place of the parts of a Job: Spec is that of its pods.
func ofJob() Place {
	place := Itself()
	place.Spec = field.NewPath("spec", "template", "spec")
	return place
}

// markJob adds the marks of its pods, and its maximum size, to a Job that is created, and those that it has lost to one that is updated.
// Being asked twice does no harm.
func markJob(_ *webhook.Request, before, after *unstructured.Unstructured) (webhook.Warnings, error) {
	now, err := job.Read(after)
	if err != nil {
		return nil, err
	}
	if len(PoolsOf(after)) == 0 {
		// The annotation is malformed, and the Job will be refused.
		return nil, nil
	}
	if before == nil {
		return nil, job.MarksOfNew(now).AddTo(after)
	}
	was, err := job.Read(before)
	if err != nil {
		return nil, err
	}
	return nil, job.MarksOfUpdate(was, now).AddTo(after)
}

// jobValidator judges Jobs that are to be managed.
type jobValidator struct{ lookup *Lookup }

var _ webhook.Validator[*batchv1.Job] = (*jobValidator)(nil)

// ValidateCreate implements webhook.Validator.
func (v *jobValidator) ValidateCreate(ctx context.Context, j *batchv1.Job) (webhook.Warnings, error) {
	pools, err := v.lookup.Review(j.Namespace).Find(ctx, poolsOfJob(j))
	if err != nil {
		return nil, err
	}
	return ExamineNewJob(j, pools).Answer(job.GroupVersionKind, j.Name)
}

// ValidateUpdate implements webhook.Validator.
func (v *jobValidator) ValidateUpdate(ctx context.Context, before, after *batchv1.Job) (webhook.Warnings, error) {
	pools, err := v.lookup.Review(after.Namespace).Find(ctx, newPoolsOfJob(before, after))
	if err != nil {
		return nil, err
	}
	return ExamineJobUpdate(before, after, pools).Answer(job.GroupVersionKind, after.Name)
}

// ValidateDelete implements webhook.Validator. It is not asked.
func (*jobValidator) ValidateDelete(context.Context, *batchv1.Job) (webhook.Warnings, error) {
	return nil, nil
}

// poolsOfJob are the names in the annotation of a Job, nil where it has none or a malformed one.
func poolsOfJob(j *batchv1.Job) []string {
	list, has := j.Annotations[v1alpha1.AnnotationNodePools]
	if !has {
		return nil
	}
	names, err := member.ParseNodePools(list)
	if err != nil {
		return nil
	}
	return names
}

// newPoolsOfJob are the NodePools that an update names and that were not named before.
func newPoolsOfJob(before, after *batchv1.Job) []string {
	known := poolsOfJob(before)
	return slices.DeleteFunc(poolsOfJob(after), func(name string) bool { return slices.Contains(known, name) })
}

// ExamineNewJob looks at a Job that is to be managed from its creation on, with the marks that it was given. pools are those that it names.
func ExamineNewJob(j *batchv1.Job, pools *Pools) *Findings {
	f, at := &Findings{}, ofJob()
	for _, key := range slices.Sorted(maps.Keys(j.Annotations)) {
		f.annotation(key, j.Annotations[key], at)
	}
	bounds := f.elastic(j, at)
	if size := ptr.Deref(j.Spec.Parallelism, 1); size < bounds.Min {
		f.refuse(field.Invalid(field.NewPath("spec", "parallelism"), size,
			fmt.Sprintf("must be at least the annotation %s, which is %d", v1alpha1.AnnotationMinSize, bounds.Min)))
	}
	f.nameOfJob(j, bounds.Max, at)
	names := poolsOfJob(j)
	if missing := pools.missing(names); missing != "" {
		f.refuse(field.Invalid(at.pools(), j.Annotations[v1alpha1.AnnotationNodePools], missing))
	}
	if len(f.Faults) > 0 {
		// What is wrong already would be told again in other words.
		return f
	}
	w, err := job.Kind{}.Parse(j)
	if err != nil {
		f.refuse(unreadable(err, at))
		return f
	}
	f.movable(j.Spec.Template.Annotations, field.NewPath("spec", "template", "metadata", "annotations"))
	if _, said := j.Annotations[v1alpha1.AnnotationMinSize]; !said && bounds.Max > 1 {
		f.warn(at.Annotation(v1alpha1.AnnotationMinSize), "is not set: requests may shrink the Job to 1")
	}
	if bounds.Max == w.Size() {
		f.warn(
			at.Annotation(v1alpha1.AnnotationMaxSize), "is the first size, %d: the Job cannot grow above it, and requests to grow will be DENIED",
			w.Size(),
		)
	}
	f.allowed(names, pools, at)
	f.states(names, pools, at)
	pod, added := limited(&w.Only().Pod, pools.Limits)
	f.limits(pod, pools.Limits, at)
	if len(f.Faults) == 0 {
		f.roomOfPods(memberOf(w, pod, names, pools), field.NewPath("spec", "parallelism"), bounds.Max, added, pools, at)
	}
	f.selects(&w.Only().Pod, names, pools, at)
	return f
}

// ExamineJobUpdate looks at an update of a Job that is managed, or is to be from now on. pools are those that were not named before.
func ExamineJobUpdate(before, after *batchv1.Job, pools *Pools) *Findings {
	f, at := &Findings{}, ofJob()
	if !member.Managed(after) || after.DeletionTimestamp != nil {
		return f
	}
	fresh := !member.Managed(before)
	for _, key := range slices.Sorted(maps.Keys(after.Annotations)) {
		if value, had := before.Annotations[key]; fresh || !had || value != after.Annotations[key] {
			f.annotation(key, after.Annotations[key], at)
		}
	}
	bounds := f.elastic(after, at)
	f.nameOfJob(after, bounds.Max, at)
	names := newPoolsOfJob(before, after)
	if missing := pools.missing(names); missing != "" {
		f.refuse(field.Invalid(at.pools(), after.Annotations[v1alpha1.AnnotationNodePools], missing))
	}
	if len(f.Faults) > 0 {
		return f
	}
	f.allowed(names, pools, at)
	f.states(names, pools, at)
	if w, _ := (job.Kind{}).Parse(after); w != nil && len(names) > 0 {
		pod, added := limited(&w.Only().Pod, pools.Limits)
		f.fits(memberOf(w, pod, names, pools), poolsOf(names, pools), because(added)+fixedInJob, at)
		f.selects(&w.Only().Pod, names, pools, at)
	}
	if fresh && after.Spec.Template.Labels[v1alpha1.LabelMember] != member.Name(job.Kind{}, after.Name) {
		f.warn(at.pools(),
			"the pods are made without our label: no pod waits for its node, and none is kept on the nodes of the NodePools"+fixedInJob)
	}
	return f
}

// fixedInJob is what to do about pods.
const fixedInJob = "; the template of a Job does not change, so it has to be recreated for that"

// elastic judges what keeps the size of a Job from changing rank by rank, and its bounds, which it returns.
func (f *Findings) elastic(j *batchv1.Job, at Place) job.Bounds {
	bounds, fault := job.BoundsOf(j)
	// The bounds of a size that will not do say nothing.
	f.refuseFirst(at, job.Check(&j.Spec), fault)
	return bounds
}

// refuseFirst refuses for the first of some faults that is one.
func (f *Findings) refuseFirst(at Place, faults ...*member.Fault) {
	for _, fault := range faults {
		if fault == nil {
			continue
		}
		path := at.Metadata.Child("annotations").Key(fault.Annotation)
		if fault.Field != "" {
			parts := strings.Split(fault.Field, ".")
			path = field.NewPath(parts[0], parts[1:]...)
		}
		if fault.Value == nil {
			f.refuse(field.Required(path, fault.Why))
		} else {
			f.refuse(field.Invalid(path, fault.Value, fault.Why))
		}
		return
	}
}

// nameOfJob judges the name, which its pods carry in a label and in their host names.
func (f *Findings) nameOfJob(j *batchv1.Job, maxSize int32, at Place) {
	if j.GenerateName != "" && j.Spec.Template.Labels[v1alpha1.LabelMember] != member.Name(job.Kind{}, j.Name) {
		f.refuse(field.Forbidden(at.Metadata.Child("generateName"),
			"a Job that is to be managed needs metadata.name: its pods carry the name in a label, which is written before the API server "+
				"makes one up"))
		return
	}
	if why := job.CheckName(j.Name, max(maxSize, ptr.Deref(j.Spec.Parallelism, 1))); why != "" {
		f.refuse(field.Invalid(at.Metadata.Child("name"), j.Name, why))
	}
}

// movable warns of pods that Cluster Autoscaler may move.
func (f *Findings) movable(annotations map[string]string, at *field.Path) {
	if value := annotations[v1alpha1.AnnotationSafeToEvict]; value != notToBeEvicted {
		f.warn(at.Key(v1alpha1.AnnotationSafeToEvict),
			"is %q: Cluster Autoscaler may delete running pods to empty a node; %q keeps them", value, notToBeEvicted)
	}
}

// roomOfPods judges whether a pod fits a node, and whether there can ever be as many nodes as the first size, which a path has, wants.
func (f *Findings) roomOfPods(m *plan.Member, size *field.Path, maxSize int32, added []string, pools *Pools, at Place) {
	all := poolsOf(m.NodePools, pools)
	if !f.fits(m, all, because(added), at) {
		return
	}
	most := plan.Holds(m, all)
	switch {
	case int64(m.Size) > most:
		f.refuse(field.Invalid(size, m.Size, fmt.Sprintf("must be at most %s", holding(m, all, most))))
	case int64(maxSize) > most:
		f.warn(at.Annotation(v1alpha1.AnnotationMaxSize), "%d is more than %s: a growth above that waits until one is larger", maxSize,
			holding(m, all, most))
	}
}

// selects judges whether nodes of the NodePools can have what pods ask of a node by its labels.
func (f *Findings) selects(pod *corev1.PodSpec, names []string, pools *Pools, at Place) {
	selector := reading.Selects(pod.NodeSelector, pod.Affinity)
	if selector == nil {
		return
	}
	without := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return selector.Matches("", reading.Pool(pools.Named[name], nil).Labels)
	})
	path := at.Spec.Child("nodeSelector")
	if len(pod.NodeSelector) == 0 {
		path = at.Spec.Child("affinity", "nodeAffinity")
	}
	switch {
	case len(without) == 0:
	case len(without) == len(names):
		f.refuse(field.Invalid(path, selector.String(), "no node of its NodePools can match, by their templates: "+listed(without)))
	default:
		f.warn(path, "no node of %s matches %s, by their templates, though some may be reserved", listed(without), selector)
	}
}
