package admission

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// notToBeEvicted is the value of AnnotationSafeToEvict that keeps a broker where it is.
const notToBeEvicted = "false"

// Prepare says what a managed MiniCluster that is being created lacks of what marks its pods: the label by which they get their
// scheduling gate, and the annotation that keeps Cluster Autoscaler from moving them. What the user has said of the annotation himself
// stays; the label is not his to choose. Asked again about what came of it, it says nothing.
//
// What its pods need to be scheduled is not among it: the controller gives each pod its node, and the tolerations for that, in the
// patch that takes the gate away.
func Prepare(u *unstructured.Unstructured) (*minicluster.Additions, error) {
	draft, err := minicluster.ReadDraft(u)
	if err != nil {
		return nil, err
	}
	additions := &minicluster.Additions{}
	if len(PoolsOf(u)) == 0 {
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
	return additions, nil
}

// Restore says which of the marks of its pods a managed MiniCluster has lost by an update, as when a file that has spec.pod is applied
// after one that has none any more. A MiniCluster whose pods are without them does not get them later: it would say of its pods what
// they are not.
func Restore(before, after *unstructured.Unstructured) (*minicluster.Additions, error) {
	lacking, err := Prepare(after)
	if err != nil {
		return nil, err
	}
	draft, err := minicluster.ReadDraft(before)
	if err != nil {
		// What it was cannot be read, so nothing of it can be kept.
		return &minicluster.Additions{}, nil //nolint:nilerr // See above.
	}
	if draft.PodLabels[v1alpha1.LabelMember] != after.GetName() {
		lacking.PodLabels = nil
	}
	if draft.PodAnnotations[v1alpha1.AnnotationSafeToEvict] != notToBeEvicted {
		lacking.PodAnnotations = nil
	}
	return lacking, nil
}

// PoolsOf are the names in the annotation of a MiniCluster, nil where it has none or a malformed one.
func PoolsOf(u *unstructured.Unstructured) []string {
	list, has := u.GetAnnotations()[v1alpha1.AnnotationNodePools]
	if !has {
		return nil
	}
	names, err := member.ParseNodePools(list)
	if err != nil {
		return nil
	}
	return names
}
