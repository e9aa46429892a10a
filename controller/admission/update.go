package admission

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/minicluster"
)

// NewPoolsOf are the NodePools that an update names and that were not named before. Of the others nothing is asked: one
// that is gone meanwhile must not keep a MiniCluster from being edited.
func NewPoolsOf(before, after *unstructured.Unstructured) []string {
	known := PoolsOf(before)
	return slices.DeleteFunc(PoolsOf(after), func(name string) bool { return slices.Contains(known, name) })
}

// ExamineUpdate looks at what an update of a MiniCluster changes of what is judged here: our annotations, and the bounds of
// its size. pools are those of NewPoolsOf.
func ExamineUpdate(before, after *unstructured.Unstructured, pools *Pools, at Place) *Findings {
	f := &Findings{}
	was, is := before.GetAnnotations(), after.GetAnnotations()
	if _, managed := is[v1alpha1.AnnotationNodePools]; !managed || after.GetDeletionTimestamp() != nil {
		return f
	}
	for _, key := range slices.Sorted(maps.Keys(is)) {
		if value, had := was[key]; !had || value != is[key] {
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
		origin = draft
	}
	f.bounds(origin, draft, at)
	f.joins(after, origin, NewPoolsOf(before, after), pools, at)
	if _, managed := was[v1alpha1.AnnotationNodePools]; !managed && origin.PodLabels[v1alpha1.LabelMember] != after.GetName() {
		f.warn(at.pools(), "the pods were created before the MiniCluster was managed: no pod waits for its node, and none is kept on the nodes of the NodePools")
	}
	return f
}

// bounds judges the bounds of the size where they change.
func (f *Findings) bounds(before, after *minicluster.Draft, at Place) {
	greatest := after.GreatestSize
	if greatest == 0 {
		greatest = max(after.Size, after.MaxSize)
	}
	if after.MinSize != before.MinSize && after.MinSize > greatest {
		f.refuse(field.Invalid(at.Spec.Child("minSize"), after.MinSize, fmt.Sprintf("must be at most the greatest size of the MiniCluster, which is %d", greatest)))
	}
	if after.MaxSize != before.MaxSize && after.GreatestSize != 0 && after.MaxSize != after.GreatestSize {
		f.warn(at.Spec.Child("maxSize"), "%d has no effect: the Flux Operator has fixed the greatest size at %d, when the MiniCluster was created", after.MaxSize, after.GreatestSize)
	}
}

// joins judges NodePools that are named from now on, for pods that are what they are.
func (f *Findings) joins(u *unstructured.Unstructured, origin *minicluster.Draft, names []string, pools *Pools, at Place) {
	if len(names) == 0 {
		return
	}
	said := u.GetAnnotations()[v1alpha1.AnnotationNodePools]
	if missing := pools.missing(names); missing != "" {
		f.refuse(field.Invalid(at.pools(), said, missing))
		return
	}
	const fixed = "; what pods are made of is fixed when the MiniCluster is created, so it has to be created anew for that"
	if by, list := confinedTo(origin, at); by != nil {
		outside := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(list, name) })
		if len(outside) > 0 {
			f.refuse(field.Invalid(at.pools(), said, fmt.Sprintf("its pods cannot go to %s: %s confines them to %s"+fixed,
				strings.Join(outside, ", "), by, strings.Join(list, ", "))))
			return
		}
	}
	for _, name := range names {
		for _, taint := range untolerated(origin.Tolerations, pools.Named[name]) {
			f.refuse(field.Invalid(at.pools(), said, fmt.Sprintf("its pods cannot go to %s: they do not tolerate its taint %s"+fixed, name, taint.ToString())))
		}
	}
	if len(f.Faults) > 0 {
		return
	}
	f.states(names, pools, at)
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
