package admission

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// ExamineNodePool looks at what the rules of the definition cannot say of a NodePool. before is nil for one that is being
// created; of an update only what it changes is judged.
func ExamineNodePool(before, after *v1alpha1.NodePool) *Findings {
	f := &Findings{}
	spec := field.NewPath("spec")
	if before == nil || !equality.Semantic.DeepEqual(before.Spec.Template, after.Spec.Template) {
		f.template(&after.Spec.Template, spec.Child("template"))
		if before != nil && after.Status.Replicas > 0 {
			f.warn(
				spec.Child("template"), "concerns machines that are ordered from now on; the %d that there are keep the template of before",
				after.Status.Replicas,
			)
		}
	}
	if before == nil || !equality.Semantic.DeepEqual(before.Spec.AllowedNamespaces, after.Spec.AllowedNamespaces) {
		f.selector(after.Spec.AllowedNamespaces, spec.Child("allowedNamespaces"))
	}
	if before == nil || after.Spec.MaxSize >= before.Spec.MaxSize {
		return f
	}
	maxSize := spec.Child("maxSize")
	if reserved := after.Status.Reserved; after.Spec.MaxSize < reserved {
		f.warn(
			maxSize, "%d is below the %d nodes that members have reserved: they keep them, and get no more until they hold fewer",
			after.Spec.MaxSize, reserved,
		)
	}
	if target := after.Spec.Replicas; after.Spec.MaxSize < target {
		f.warn(maxSize, "%d is below spec.replicas, which is %d: no machine is deleted for that", after.Spec.MaxSize, target)
	}
	return f
}

// selector judges a selector of namespaces. One that means nothing would keep all of them out.
func (f *Findings) selector(selector *metav1.LabelSelector, at *field.Path) {
	if selector == nil {
		return
	}
	f.refuse(validation.ValidateLabelSelector(selector, validation.LabelSelectorValidationOptions{}, at)...)
}

// template judges what a Node would not take, and one that can run nothing.
func (f *Findings) template(t *v1alpha1.NodeTemplate, at *field.Path) {
	labels := at.Child("labels")
	for _, key := range slices.Sorted(maps.Keys(t.Labels)) {
		f.qualified(labels, key)
		f.value(labels.Key(key), t.Labels[key])
	}
	type taintKey struct {
		key    string
		effect corev1.TaintEffect
	}
	seen := map[taintKey]bool{}
	for i := range t.Taints {
		taint, one := &t.Taints[i], at.Child("taints").Index(i)
		f.qualified(one.Child("key"), taint.Key)
		f.value(one.Child("value"), taint.Value)
		if unique := (taintKey{taint.Key, taint.Effect}); seen[unique] {
			f.refuse(field.Duplicate(one, fmt.Sprintf("%s:%s", taint.Key, taint.Effect)))
		} else {
			seen[unique] = true
		}
	}
	f.resources(t, at)
}

// everyPod are the resources that every pod takes of.
var everyPod = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourcePods}

func (f *Findings) resources(t *v1alpha1.NodeTemplate, at *field.Path) {
	capacity, allocatable := at.Child("capacity"), at.Child("allocatable")
	for _, list := range []struct {
		at      *field.Path
		amounts corev1.ResourceList
	}{{capacity, t.Capacity}, {allocatable, t.Allocatable}} {
		for _, name := range slices.Sorted(maps.Keys(list.amounts)) {
			amount, one := list.amounts[name], list.at.Key(string(name))
			if list.at == capacity {
				f.qualified(list.at, string(name))
			}
			if slices.Contains(everyPod, name) && amount.IsZero() {
				f.refuse(field.Invalid(one, amount.String(), "must be above 0: no pod fits a node without any"))
			}
			// Only of cpu there are parts; the API server would refuse the Node, not the NodePool.
			if whole := resource.NewQuantity(amount.Value(), amount.Format); name != corev1.ResourceCPU && amount.Cmp(*whole) != 0 {
				f.refuse(field.Invalid(one, amount.String(), "must be a whole number"))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Allocatable)) {
		part, has := t.Allocatable[name]
		if whole, known := t.Capacity[name]; has && known && part.Cmp(whole) > 0 {
			f.refuse(
				field.Invalid(
					allocatable.Key(string(name)), part.String(),
					fmt.Sprintf("must be at most template.capacity[%s], which is %s", name, whole.String()),
				),
			)
		}
	}
}

// qualified judges the key of a label or taint, or the name of a resource.
func (f *Findings) qualified(at *field.Path, name string) {
	if problems := utilvalidation.IsQualifiedName(name); len(problems) > 0 {
		f.refuse(field.Invalid(at, name, strings.Join(problems, "; ")))
	}
}

// value judges the value of a label or taint.
func (f *Findings) value(at *field.Path, value string) {
	if problems := utilvalidation.IsValidLabelValue(value); len(problems) > 0 {
		f.refuse(field.Invalid(at, value, strings.Join(problems, "; ")))
	}
}
