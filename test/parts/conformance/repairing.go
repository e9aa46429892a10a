package conformance

import (
	"context"
	"fmt"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

func mendingCases() []Case {
	return []Case{
		changing("no group freezes Cluster Autoscaler",
			"Of every group that is listed, the machines that run and those that are being created without an error are as many as the target "+
				"size, or the request that repairs it succeeds and changes something: else Cluster Autoscaler, when --max-node-provision-time is "+
				"over, skips each of its loops, for all groups.",
			func(ctx context.Context, c *caller) error {
				if err := c.increase(ctx, c.orders(), 2); err != nil {
					return err
				}
				answer, err := c.client.NodeGroups(ctx, &externalgrpc.NodeGroupsRequest{})
				if err != nil {
					return fmt.Errorf("NodeGroups: %w", err)
				}
				for _, group := range answer.GetNodeGroups() {
					if err := c.mendable(ctx, group.GetId()); err != nil {
						return err
					}
				}
				return nil
			}),
	}
}

// shortfall is how many machines a group lacks as Cluster Autoscaler counts them, and those that it would delete.
func (c *caller) shortfall(ctx context.Context, group string) (short int32, failed []*externalgrpc.ExternalGrpcNode, err error) {
	if short, err = c.target(ctx, group); err != nil {
		return 0, nil, err
	}
	answer, err := c.client.NodeGroupNodes(ctx, &externalgrpc.NodeGroupNodesRequest{Id: group})
	if err != nil {
		return 0, nil, fmt.Errorf("NodeGroupNodes of %s: %w", group, err)
	}
	for _, instance := range answer.GetInstances() {
		state, withError := instance.GetStatus().GetInstanceState(), instance.GetStatus().GetErrorInfo() != nil
		switch {
		case state == externalgrpc.InstanceStatus_instanceCreating && withError:
			failed = append(failed, unregistered(instance.GetId()))
		case state == externalgrpc.InstanceStatus_instanceRunning, state == externalgrpc.InstanceStatus_instanceCreating:
			short--
		}
	}
	return short, failed, nil
}

// mendable asks for what Cluster Autoscaler asks for of a group that lacks machines: first that those go which have failed, then that
// its target is lowered by what is lacking still.
func (c *caller) mendable(ctx context.Context, group string) error {
	short, failed, err := c.shortfall(ctx, group)
	if err != nil || short <= 0 {
		return err
	}
	before := short
	if len(failed) > 0 {
		if err := c.delete(ctx, group, failed...); err != nil {
			return fmt.Errorf("%s lacks %d machines, and those that have failed cannot be deleted: %w", group, short, err)
		}
		if short, _, err = c.shortfall(ctx, group); err != nil || short < before {
			return err
		}
	}
	if err := c.decrease(ctx, group, -short); err != nil {
		return fmt.Errorf("%s lacks %d machines, and its target cannot be lowered by them: %w", group, short, err)
	}
	after, _, err := c.shortfall(ctx, group)
	if err == nil && after >= before {
		return fmt.Errorf("%s lacks %d machines, its target was lowered by them, and it lacks %d still", group, before, after)
	}
	return err
}
