package server

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/pool"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
)

// NodeGroupIncreaseSize records a higher target. The machines follow; nothing here waits for them.
func (s *CloudProvider) NodeGroupIncreaseSize(
	ctx context.Context, request *externalgrpc.NodeGroupIncreaseSizeRequest,
) (*externalgrpc.NodeGroupIncreaseSizeResponse, error) {
	believed := s.targets.of(request.GetId())
	believed.ordering.Lock()
	defer believed.ordering.Unlock()
	err := s.change(ctx, request.GetId(), record.Cached, func(p *v1alpha1.NodePool, group *nodegroup.Group) (string, error) {
		if all := s.told.Load(); all != nil && all.byPool[group.Name].group != nil {
			// What Cluster Autoscaler was told in this loop may not be recorded yet.
			group.AnnouncedFloor = all.byPool[group.Name].group.GetMinSize()
		}
		target, forMembers, err := group.IncreaseSize(request.GetDelta(), believed.believes())
		if err != nil || target == p.Spec.Replicas {
			// What it asks for was ordered since it was told the target, through another replica.
			return "", err
		}
		said := fmt.Sprintf("IncreaseSize: target %d -> %d", p.Spec.Replicas, target)
		p.Spec.Replicas, p.Spec.ReplicasForMembers = target, forMembers
		return said, nil
	})
	if err != nil {
		return nil, statusOf(err)
	}
	believed.ordered(request.GetDelta())
	return &externalgrpc.NodeGroupIncreaseSizeResponse{}, nil
}

// NodeGroupDecreaseTargetSize records a lower target, never lower than the machines that have registered.
func (s *CloudProvider) NodeGroupDecreaseTargetSize(
	ctx context.Context, request *externalgrpc.NodeGroupDecreaseTargetSizeRequest,
) (*externalgrpc.NodeGroupDecreaseTargetSizeResponse, error) {
	err := s.change(ctx, request.GetId(), record.Live, func(p *v1alpha1.NodePool, group *nodegroup.Group) (string, error) {
		target, err := group.DecreaseTargetSize(request.GetDelta())
		if err != nil || target == p.Spec.Replicas {
			return "", err
		}
		said := fmt.Sprintf("DecreaseTargetSize by %d: target %d -> %d", -request.GetDelta(), p.Spec.Replicas, target)
		lowerTarget(p, target)
		return said, nil
	})
	if err != nil {
		return nil, statusOf(err)
	}
	return &externalgrpc.NodeGroupDecreaseTargetSizeResponse{}, nil
}

// NodeGroupDeleteNodes records the machines that are to go together with the target that is lower by their number.
func (s *CloudProvider) NodeGroupDeleteNodes(
	ctx context.Context, request *externalgrpc.NodeGroupDeleteNodesRequest,
) (*externalgrpc.NodeGroupDeleteNodesResponse, error) {
	deleted := 0
	err := s.change(ctx, request.GetId(), record.Live, func(p *v1alpha1.NodePool, group *nodegroup.Group) (string, error) {
		deleted = 0
		asked, err := s.asked(group, request.GetNodes())
		if err != nil {
			return "", err
		}
		victims, target, err := group.DeleteNodes(asked)
		if err != nil || len(victims) == 0 {
			return "", err
		}
		said := fmt.Sprintf("DeleteNodes: target %d -> %d: %s", p.Spec.Replicas, target, nodegroup.Listed(victims))
		lowerTarget(p, target)
		p.Spec.MachinesToDelete = append(p.Spec.MachinesToDelete, victims...)
		deleted = len(victims)
		return said, nil
	})
	if err != nil {
		return nil, statusOf(err)
	}
	if deleted > 0 {
		s.metrics.Released(request.GetId(), pool.ByClusterAutoscaler, deleted)
	}
	return &externalgrpc.NodeGroupDeleteNodesResponse{}, nil
}

// lowerTarget lowers the target, and with it the part of it that is for members.
func lowerTarget(p *v1alpha1.NodePool, target int32) {
	p.Spec.Replicas, p.Spec.ReplicasForMembers = target, min(p.Spec.ReplicasForMembers, target)
}

// asked are the machines that Cluster Autoscaler means. It names a machine that never registered by its provider id, which is a
// placeholder while the cloud has given none. One that is gone already has a name too, which nothing is done for; one of another
// pool, or of nobody, is refused.
func (s *CloudProvider) asked(group *nodegroup.Group, nodes []*externalgrpc.ExternalGrpcNode) ([]nodegroup.Asked, error) {
	byID := make(map[string]string, len(group.Machines))
	for i := range group.Machines {
		if id := group.Machines[i].ProviderID; id != "" {
			byID[id] = group.Machines[i].Name
		}
	}
	out := make([]nodegroup.Asked, 0, len(nodes))
	for _, node := range nodes {
		id := node.GetProviderID()
		name, known := byID[id]
		owner, ordered, placeholder := nodegroup.ParsePlaceholder(id)
		switch {
		case known:
		case placeholder:
			name = ordered
		default:
			machine, of, err := s.store.Find(id)
			if err != nil {
				return nil, err
			}
			if owner = of; machine != nil {
				name = machine.Name
			} else if owner == group.Name {
				continue // It is gone.
			}
		}
		if !known {
			switch owner {
			case group.Name:
			case "":
				if node.GetLabels()[v1alpha1.LabelNodePool] == group.Name {
					// It was ours, and its record is gone. Where its node is not, that was by force: it gets a record again.
					there, err := s.store.NodeNamed(node.GetName())
					if err != nil {
						return nil, err
					}
					if there != nil && there.DeletionTimestamp == nil && there.Spec.ProviderID == id {
						return nil, &nodegroup.Refusal{Kind: nodegroup.Forbidden, Message: fmt.Sprintf(
							"no record tells of the machine of node %q of %s: it is looked for, and cannot be deleted before it is found", node.GetName(),
							group.Name)}
					}
					continue
				}
				return nil, malformed("node %q with the provider id %q is of no NodePool, and not of %s", node.GetName(), id, group.Name)
			default:
				return nil, malformed("node %q with the provider id %q belongs to NodePool %s, not to %s", node.GetName(), id, owner, group.Name)
			}
		}
		if label := node.GetLabels()[v1alpha1.LabelNodePool]; label != "" && label != group.Name {
			return nil, malformed("node %q belongs to NodePool %s by its label, not to %s", node.GetName(), label, group.Name)
		}
		out = append(out, nodegroup.Asked{Machine: name, ByPlaceholder: placeholder})
	}
	return out, nil
}

func malformed(format string, args ...any) error {
	return &nodegroup.Refusal{Kind: nodegroup.Malformed, Message: fmt.Sprintf(format, args...)}
}

// conflictBackoff is how a request is repeated that lost against another writer: twelve times in about two of Cluster
// Autoscaler's five seconds. To give up costs more, since Cluster Autoscaler then leaves the group alone for minutes.
var conflictBackoff = wait.Backoff{Duration: 10 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 12}

// change updates the spec of a pool with what edit makes of it, and repeats that from the API server's
// newest version when somebody else wrote in between. edit returns what it did in words, or an empty text
// when there is nothing to write. A target is lowered by the machines that there are (record.Live): the cache may not
// know yet that one has registered, or that the replica that leads has deleted one already.
func (s *CloudProvider) change(
	ctx context.Context, name string, freshness record.Freshness, edit func(*v1alpha1.NodePool, *nodegroup.Group) (string, error),
) error {
	// A name that the cache has not is none that Cluster Autoscaler was told; it may not even be one.
	if _, err := s.pools.get(name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var p *v1alpha1.NodePool
	var said string
	err := retry.RetryOnConflict(conflictBackoff, func() error {
		p = &v1alpha1.NodePool{}
		if err := s.live.Get(ctx, client.ObjectKey{Name: name}, p); err != nil {
			return err
		}
		group, err := s.observer.Look(ctx, p, freshness)
		if err != nil {
			return err
		}
		before := p.DeepCopy()
		if said, err = edit(p, group); err != nil || said == "" {
			return err
		}
		// Of what a newer version has written nothing is lost.
		return s.client.Patch(ctx, p, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	})
	switch {
	case err != nil:
		s.log.Info("Refused", "nodePool", name, "reason", err.Error())
		return err
	case said == "":
		return nil
	}
	s.pools.remember(p)
	s.log.Info(said, "nodePool", name)
	s.events.Eventf(p, nil, corev1.EventTypeNormal, "TargetSize", "TargetSize", "%s", said)
	return nil
}
