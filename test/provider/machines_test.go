package provider

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machines/machinestest"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/inprocess"
)

// TestKwok runs the tests of all backends on the kwok backend.
// It is not parallel: two providers would do each other's work.
func TestKwok(t *testing.T) {
	template := func(p *v1alpha1.NodePool) {
		p.Spec.Template.Labels = map[string]string{"example.com/kind": "fast"}
		p.Spec.Template.Taints = []corev1.Taint{{Key: "example.com/dedicated", Value: "hpc", Effect: corev1.TaintEffectNoSchedule}}
		p.Spec.Template.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resources("3800m", "0", "0")[corev1.ResourceCPU]}
	}
	fast := newPool(t, "backend-fast", v1alpha1.AutoscalerClusterAutoscaler, template)
	slow := newPool(t, "backend-slow", v1alpha1.AutoscalerClusterAutoscaler, func(p *v1alpha1.NodePool) {
		p.Spec.Machines.Kwok.BootDelay = metav1.Duration{Duration: time.Hour}
	})
	// The suite orders machines by hand, so nothing may bring their number to the target.
	p := startParts(t, -1, false)
	defer p.Stop()
	machinestest.Run(t, machinestest.Subject{Backend: p.backend, Nodes: cluster.Client, Fast: fast, Slow: slow, Patience: inprocess.Patience})
}
