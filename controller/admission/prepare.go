package admission

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/minicluster"
)

// notToBeEvicted is the value of AnnotationSafeToEvict that keeps a broker where it is.
const notToBeEvicted = "false"

// Prepare says what a managed MiniCluster that is being created lacks for its pods to land on the nodes held for them: the
// label by which they get their scheduling gate, the annotation that keeps Cluster Autoscaler from moving them, the
// affinity to its NodePools, and tolerations for the taints of these. What the user has said of any of them himself stays,
// the label excepted, which is not his to choose. Asked again about what came of it, it says nothing.
//
// Of NodePools that do not exist nothing is known; the examination refuses them.
func Prepare(u *unstructured.Unstructured, pools *Pools) (*minicluster.Additions, error) {
	draft, err := minicluster.ReadDraft(u)
	if err != nil {
		return nil, err
	}
	additions := &minicluster.Additions{}
	names := PoolsOf(u)
	if len(names) == 0 {
		// The annotation is malformed, and the MiniCluster will be refused.
		return additions, nil
	}
	// One that is to be named by the API server has no name yet; the examination tells its user.
	if name := u.GetName(); name != "" && draft.PodLabels[v1alpha1.LabelMember] != name {
		additions.PodLabels = map[string]string{v1alpha1.LabelMember: name}
	}
	if _, said := draft.PodAnnotations[v1alpha1.AnnotationSafeToEvict]; !said {
		additions.PodAnnotations = map[string]string{v1alpha1.AnnotationSafeToEvict: notToBeEvicted}
	}
	_, selected := draft.NodeSelector[v1alpha1.LabelNodePool]
	_, preferred := draft.NodeAffinity[v1alpha1.LabelNodePool]
	switch {
	case selected:
	case draft.AffinityDisabled && len(names) == 1:
		additions.NodeSelector = map[string]string{v1alpha1.LabelNodePool: names[0]}
	case draft.AffinityDisabled, preferred:
	default:
		additions.NodeAffinity = map[string][]string{v1alpha1.LabelNodePool: names}
	}
	tolerations := slices.Clone(draft.Tolerations)
	for _, name := range names {
		pool := pools.Named[name]
		if pool == nil {
			continue
		}
		for _, taint := range untolerated(tolerations, pool) {
			toleration := corev1.Toleration{Key: taint.Key, Operator: corev1.TolerationOpEqual, Value: taint.Value, Effect: taint.Effect}
			tolerations = append(tolerations, toleration)
			additions.Tolerations = append(additions.Tolerations, toleration)
		}
	}
	return additions, nil
}

// PoolsOf are the names in the annotation of a MiniCluster, nil where it has none or a malformed one.
func PoolsOf(u *unstructured.Unstructured) []string {
	list, has := u.GetAnnotations()[v1alpha1.AnnotationNodePools]
	if !has {
		return nil
	}
	names, err := minicluster.ParseNodePools(list)
	if err != nil {
		return nil
	}
	return names
}

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
