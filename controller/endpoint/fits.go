package endpoint

import (
	"context"
	"fmt"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// fits denies a growth that no pool of the member can ever serve, because a pod is larger than an empty node. A pool that
// does not exist yet may be larger, so the growth waits for that one.
func (s *Server) fits(ctx context.Context, object *v1alpha1.EnsembleMember) error {
	job := &batchv1.Job{}
	switch err := s.client.Get(ctx, client.ObjectKeyFromObject(object), job, client.UnsafeDisableDeepCopy); {
	case apierrors.IsNotFound(err):
		// The Flux Operator has not come to it. The planner judges the pods when it has.
		return nil
	case err != nil:
		return fmt.Errorf("read Job %s of the MiniCluster: %w", client.ObjectKeyFromObject(object), err)
	}
	requests, _ := minicluster.PodNeeds(&job.Spec.Template.Spec)
	m := &plan.Member{PodsPerNode: plan.PodsPerNode(object.Spec.PodsPerNode), PodRequests: plan.ResourcesOf(requests)}
	m.PodRequests[corev1.ResourcePods] = 1
	faults := make([]string, 0, len(object.Spec.NodePools))
	for _, name := range object.Spec.NodePools {
		pool := &v1alpha1.NodePool{}
		err := s.client.Get(ctx, types.NamespacedName{Name: name}, pool, client.UnsafeDisableDeepCopy)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read NodePool %s: %w", name, err)
		}
		why := plan.TooLarge(m, plan.Pool{Name: name, Allocatable: plan.ResourcesOf(pool.Spec.Template.AllocatableOrCapacity())})
		if why == "" {
			return nil
		}
		faults = append(faults, why)
	}
	return deny("%s: no node of the member's NodePools is large enough, so the size stays as it is", strings.Join(faults, "; "))
}
