package plan_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// TestHolds: the maximum size of a member is what pools have nodes for that its pods fit.
func TestHolds(t *testing.T) {
	t.Parallel()
	pools := []plan.Pool{
		{Name: "small", MaxSize: 3, Allocatable: plan.Resources{corev1.ResourceCPU: 4000}},
		{Name: "large", MaxSize: 2, Allocatable: plan.Resources{corev1.ResourceCPU: 9000}},
		{Name: "tiny", MaxSize: 100, Allocatable: plan.Resources{corev1.ResourceCPU: 500}},
	}
	for name, row := range map[string]struct {
		cpu       int64
		share     int32
		placement v1alpha1.Placement
		want      int64
	}{
		"a node each":                       {2000, 1, v1alpha1.PlacementSpan, 5},
		"a node each, of one pool":          {2000, 1, v1alpha1.PlacementSingle, 3},
		"two to a node":                     {2000, 2, v1alpha1.PlacementSpan, 10},
		"four to a node, which few hold":    {2000, 4, v1alpha1.PlacementSpan, 8},
		"as many as fit the smallest of it": {2000, plan.Auto, v1alpha1.PlacementSpan, 10},
		"pods that are too large":           {10_000, 1, v1alpha1.PlacementSpan, 0},
		"pods that request nothing":         {0, 1, v1alpha1.PlacementSingle, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			member := &plan.Member{
				NodePools: []string{"small", "large", "tiny"}, PodsPerNode: row.share, Placement: row.placement,
				PodRequests: plan.Resources{corev1.ResourceCPU: row.cpu},
			}
			if got := plan.Holds(member, pools); got != row.want {
				t.Errorf("they hold %d, not %d", got, row.want)
			}
		})
	}
}
