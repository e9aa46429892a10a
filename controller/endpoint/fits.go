package endpoint

import (
	"context"
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/reading"
)

// fits denies a growth of a group that no pool of the member can ever serve, because a pod is larger than what DaemonSets leave of an
// empty node. A pool that does not exist yet may be larger, so the growth waits for that one.
func (s *Server) fits(ctx context.Context, m *spoken, object *v1alpha1.EnsembleMember, group string) error {
	group, err := s.nameOf(ctx, m, group)
	if err != nil {
		return err
	}
	job := &batchv1.Job{}
	key := types.NamespacedName{Namespace: m.key.Namespace, Name: m.kind.JobOf(m.name, group)}
	switch err := s.client.Get(ctx, key, job, client.UnsafeDisableDeepCopy); {
	case apierrors.IsNotFound(err):
		// Its operator has not come to it. The planner judges the pods when it has.
		return nil
	case err != nil:
		return fmt.Errorf("read Job %s: %w", key, err)
	}
	var sets appsv1.DaemonSetList
	if err := s.client.List(ctx, &sets, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list DaemonSets: %w", err)
	}
	daemons := reading.DaemonSets(sets.Items)
	member := &plan.Member{PodsPerNode: plan.PodsPerNode(object.Spec.PodsPerNode), PodRequests: reading.Requests(&job.Spec.Template.Spec)}
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
		why := plan.TooLarge(member, reading.Pool(pool, daemons))
		if why == "" {
			return nil
		}
		faults = append(faults, why)
	}
	return deny("%s: no node of the member's NodePools is large enough, so the size stays as it is", strings.Join(faults, "; "))
}

// nameOf is the name that a group has in its workload. Of an only one the member does not have it, and Jobs may be called by it.
func (s *Server) nameOf(ctx context.Context, m *spoken, group string) (string, error) {
	if group != "" {
		return group, nil
	}
	read, err := s.readWorkload(ctx, m.kind, types.NamespacedName{Namespace: m.key.Namespace, Name: m.name})
	switch _, unknown := errors.AsType[*denied](err); {
	case unknown:
		// Then there is no Job of it to be found either.
		return "", nil
	case err != nil:
		return "", err
	default:
		return read.Groups[0].Name, nil
	}
}
