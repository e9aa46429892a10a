package admission

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// NewPoolsOf are the NodePools that an update names and that were not named before. Of the others nothing is asked: one
// that is gone meanwhile must not keep a MiniCluster from being edited.
func NewPoolsOf(before, after *unstructured.Unstructured) []string {
	known := PoolsOf(before)
	return slices.DeleteFunc(PoolsOf(after), func(name string) bool { return slices.Contains(known, name) })
}

// ExamineUpdate looks at what an update of a MiniCluster changes of what is judged here: our annotations, and the bounds of
// its size. Where it makes the MiniCluster a managed one, all of these are new. pools are those of NewPoolsOf.
func ExamineUpdate(before, after *unstructured.Unstructured, pools *Pools, at Place) *Findings {
	f := &Findings{}
	if !member.Managed(after) || after.GetDeletionTimestamp() != nil {
		return f
	}
	fresh := !member.Managed(before)
	was, is := before.GetAnnotations(), after.GetAnnotations()
	for _, key := range slices.Sorted(maps.Keys(is)) {
		if value, had := was[key]; fresh || !had || value != is[key] {
			f.annotation(key, is[key], at)
		}
	}
	draft, err := minicluster.ReadDraft(after)
	if err != nil {
		f.refuse(unreadable(err, at))
		return f
	}
	// What its pods are made of is what it was before: the Flux Operator brings no edit of it to them.
	origin, err := minicluster.ReadDraft(before)
	if err != nil {
		before, origin = after, draft
	}
	f.bounds(origin, draft, fresh, at)
	if fresh {
		// Pods that are there have a name that will do, and more of them may never be asked for.
		f.named(after.GetName(), draft.Size, draft, at)
		f.containers(draft, at)
	}
	f.joins(before, after, origin, pools, at)
	if fresh && draft.MaxSize == 0 {
		f.cannotGrow(maximumSize(draft), at)
	}
	if fresh && origin.PodLabels[v1alpha1.LabelMember] != after.GetName() {
		f.warn(
			at.pools(),
			"the pods were created before the MiniCluster was managed: no pod waits for its node, and none is kept on the nodes of the NodePools",
		)
	}
	return f
}

// maximumSize is the maximum size of a MiniCluster.
func maximumSize(draft *minicluster.Draft) int32 {
	if draft.MaximumSize > 0 {
		return draft.MaximumSize
	}
	return max(draft.Size, draft.MaxSize, 1)
}

// bounds judges the bounds of the size where they change, and all that keeps the controller from managing the MiniCluster
// where it is to begin.
func (f *Findings) bounds(before, after *minicluster.Draft, fresh bool, at Place) {
	most := maximumSize(after)
	if (fresh || after.MinSize != before.MinSize) && after.MinSize > most {
		f.refuse(
			field.Invalid(
				at.Spec.Child("minSize"), after.MinSize, fmt.Sprintf("must be at most the maximum size of the MiniCluster, which is %d", most),
			),
		)
	}
	if fresh && after.Size > most {
		f.refuse(
			field.Invalid(at.Spec.Child("size"), after.Size, fmt.Sprintf("must be at most the maximum size of the MiniCluster, which is %d", most)),
		)
	}
	if after.MaxSize != before.MaxSize && after.MaximumSize != 0 && after.MaxSize != after.MaximumSize {
		f.warn(
			at.Spec.Child("maxSize"), "%d has no effect: the Flux Operator has fixed the maximum size at %d, when the MiniCluster was created",
			after.MaxSize, after.MaximumSize,
		)
	}
}

// joins judges NodePools that are named from now on, for pods that are what they were before, with origin.
func (f *Findings) joins(before, after *unstructured.Unstructured, origin *minicluster.Draft, pools *Pools, at Place) {
	names := NewPoolsOf(before, after)
	if len(names) == 0 {
		return
	}
	said := after.GetAnnotations()[v1alpha1.AnnotationNodePools]
	if missing := pools.missing(names); missing != "" {
		f.refuse(field.Invalid(at.pools(), said, missing))
		return
	}
	f.allowed(names, pools, at)
	f.reach(origin, origin.PodLabels[v1alpha1.LabelMember] == after.GetName(), names, said, pools, at)
	if len(f.Faults) > 0 {
		return
	}
	f.states(names, pools, at)
	f.roomToJoin(before, after, names, pools, at)
}

// fixed is what to do about pods.
const fixed = "; what pods are made of is fixed when the MiniCluster is created, so it has to be recreated for that"

// untolerated are the taints of a NodePool's template that keep pods with these tolerations off its nodes.
func untolerated(tolerations []corev1.Toleration, pool *v1alpha1.NodePool) []corev1.Taint {
	var taints []corev1.Taint
	for i := range pool.Spec.Template.Taints {
		taint := &pool.Spec.Template.Taints[i]
		if taint.Effect != corev1.TaintEffectPreferNoSchedule && !v1alpha1.Tolerates(tolerations, taint) {
			taints = append(taints, *taint)
		}
	}
	return taints
}

// reach judges whether the pods can go to NodePools at all. gated is whether they wait for their nodes behind the scheduling gate.
func (f *Findings) reach(origin *minicluster.Draft, gated bool, names []string, said string, pools *Pools, at Place) {
	refuse := func(names []string, format string, arguments ...any) {
		f.refuse(
			field.Invalid(
				at.pools(), said, fmt.Sprintf("its pods cannot go to %s: %s"+fixed, strings.Join(names, ", "), fmt.Sprintf(format, arguments...)),
			),
		)
	}
	if by, list := confinedTo(origin, at); by != nil {
		outside := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(list, name) })
		if len(outside) > 0 {
			refuse(outside, "%s confines them to %s", by, strings.Join(list, ", "))
			return
		}
	}
	for _, name := range names {
		if gated {
			// They get tolerations for the taints of the pool with their node.
			break
		}
		for _, taint := range untolerated(origin.Tolerations, pools.Named[name]) {
			refuse([]string{name}, "they do not tolerate its taint %s", taint.ToString())
		}
	}
	for _, s := range selectorsOf(origin, at) {
		if s.key == corev1.LabelHostname {
			refuse(names, "%s confines them to single nodes", s.at)
			continue
		}
		if without, why := s.without(names, pools); len(without) > 0 {
			refuse(without, "%s asks for %s, and by their templates %s", s.at, strings.Join(s.values, ", "), strings.Join(why, ", "))
		}
	}
}

// roomToJoin judges whether a pod fits a node of new NodePools, and how many nodes there can be. Pods that run elsewhere need
// none of them, so no size is too large for certain.
func (f *Findings) roomToJoin(before, after *unstructured.Unstructured, names []string, pools *Pools, at Place) {
	// Of an annotation that is malformed the others are read all the same.
	parsed, _ := minicluster.Parse(after)
	pods, _ := minicluster.Parse(before)
	if parsed == nil || pods == nil {
		return
	}
	pod, added := limited(&pods.Only().Pod, pools.Limits)
	member, all := memberOf(parsed, pod, PoolsOf(after), pools), poolsOf(names, pools)
	if !f.fits(member, all, because(added)+fixed, at) || len(member.NodePools) > len(all) {
		// Of NodePools that it keeps nothing is known here.
		return
	}
	path, size := at.Spec.Child("size"), parsed.Size()
	most := plan.Holds(member, all)
	if int64(size) <= most {
		path, size = at.Spec.Child("maxSize"), parsed.MaxSize()
	}
	if int64(size) > most {
		f.warn(path, "%d is more than %s: that is enough only while some pods run elsewhere", size, holding(member, all, most))
	}
}

// confinedTo are the NodePools to whose nodes pods are confined, and the path of what does so; nil where nothing does.
func confinedTo(draft *minicluster.Draft, at Place) (by *field.Path, names []string) {
	if one, has := draft.NodeSelector[v1alpha1.LabelNodePool]; has {
		return at.pod("nodeSelector").Key(v1alpha1.LabelNodePool), []string{one}
	}
	if list, has := draft.NodeAffinity[v1alpha1.LabelNodePool]; has && !draft.AffinityDisabled {
		return at.pod("nodeAffinity").Key(v1alpha1.LabelNodePool), list
	}
	return nil, nil
}
