package nodegroup

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// TemplateNode is the node that a pool would add, Ready and without a provider id. Cluster Autoscaler
// simulates with it.
func TemplateNode(pool *v1alpha1.NodePool) *corev1.Node {
	labels := maps.Clone(defaultLabels)
	maps.Copy(labels, pool.Spec.Template.Labels)
	labels[corev1.LabelHostname] = templateName(pool)
	labels[v1alpha1.LabelNodePool] = pool.Name
	template := pool.Spec.Template.DeepCopy()
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: templateName(pool), Labels: labels},
		Spec:       corev1.NodeSpec{Taints: template.Taints},
		Status: corev1.NodeStatus{
			Capacity:    template.Capacity,
			Allocatable: template.AllocatableOrCapacity(),
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

// defaultLabels are those of a node whose template does not say otherwise.
var defaultLabels = map[string]string{corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64"}

func templateName(pool *v1alpha1.NodePool) string { return pool.Name + "-template" }

// templateLabel is a label of the TemplateNode.
func templateLabel(pool *v1alpha1.NodePool, key string) string {
	switch key {
	case corev1.LabelHostname:
		return templateName(pool)
	case v1alpha1.LabelNodePool:
		return pool.Name
	}
	if value, is := pool.Spec.Template.Labels[key]; is {
		return value
	}
	return defaultLabels[key]
}
