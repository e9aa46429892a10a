package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

// foreign is a provider id that no server knows.
const foreign = "conformance://nowhere/no-machine"

func readingCases() []Case {
	return []Case{
		reading("Refresh succeeds",
			"Refresh, with which every loop of Cluster Autoscaler begins, succeeds on a server that is well.",
			func(ctx context.Context, c *caller) error { return errors.Join(c.refresh(ctx), c.refresh(ctx)) }),
		reading("NodeGroups lists the groups with their bounds",
			"After a Refresh that succeeded NodeGroups succeeds, lists each group once, and the target size is within the bounds.",
			listsGroups),
		reading("an unknown group is NotFound",
			"Every method that takes the id of a group answers NotFound for one that there is not.",
			unknownGroup),
		changing("NodeGroupForNode finds the group of a machine that runs",
			"NodeGroupForNode names the group of a machine by its provider id, with the bounds of NodeGroups, which scale-down reads there.",
			func(ctx context.Context, c *caller) error {
				ids, err := c.runs(ctx, c.group, 1)
				if err != nil {
					return err
				}
				return c.isOf(ctx, c.group, ids[0])
			}),
		changing("NodeGroupForNode finds the group of an order at once",
			"What Nodes lists, NodeGroupForNode knows: Cluster Autoscaler asks it for machines that have not registered too.",
			func(ctx context.Context, c *caller) error {
				if err := c.increase(ctx, c.orders(), 3); err != nil {
					return err
				}
				l, err := c.list(ctx, c.orders())
				if err != nil {
					return err
				}
				for _, id := range l.alive() {
					err = errors.Join(err, c.isOf(ctx, c.orders(), id))
				}
				return err
			}),
		reading("NodeGroupForNode names no group for a foreign node",
			"For a node that is not the server's NodeGroupForNode answers with a group whose id is empty, not without one and not with an error.",
			foreignNode),
		reading("GetOptions is Unimplemented",
			"GetOptions is Unimplemented: the message has no MaxNodeStartupTime, so that any answer sets it to zero and fresh nodes count as "+
				"unready.",
			func(ctx context.Context, c *caller) error {
				_, err := c.client.NodeGroupGetOptions(ctx, &externalgrpc.NodeGroupAutoscalingOptionsRequest{Id: c.group,
					Defaults: &externalgrpc.NodeGroupAutoscalingOptions{
						ScaleDownUtilizationThreshold: 0.5, ScaleDownUnneededDuration: durationpb.New(10 * 60e9),
					}})
				return hasCode("NodeGroupGetOptions", err, codes.Unimplemented)
			}),
		reading("TemplateNodeInfo is a whole node",
			"TemplateNodeInfo is Unimplemented or a v1.Node that is Ready and has allocatable cpu, memory and pods: Cluster Autoscaler "+
				"dereferences an empty one.",
			wholeTemplate),
		reading("TemplateNodeInfo fills the field of old versions",
			"The template is in field 1 too, byte for byte, where Cluster Autoscaler up to 1.34 reads it.",
			func(ctx context.Context, c *caller) error {
				answer, err := c.client.NodeGroupTemplateNodeInfo(ctx, &externalgrpc.NodeGroupTemplateNodeInfoRequest{Id: c.group})
				switch {
				case status.Code(err) == codes.Unimplemented:
					return nil
				case err != nil:
					return fmt.Errorf("NodeGroupTemplateNodeInfo: %w", err)
				case !bytes.Equal(answer.GetLegacyNodeInfo(), answer.GetNodeBytes()):
					return fmt.Errorf(
						"field 1 has %d bytes, which are not the %d of nodeBytes", len(answer.GetLegacyNodeInfo()), len(answer.GetNodeBytes()),
					)
				}
				return nil
			}),
		reading("GPULabel answers",
			"GPULabel is not optional: an error is never cached and is met again for every node.",
			func(ctx context.Context, c *caller) error {
				_, err := c.client.GPULabel(ctx, &externalgrpc.GPULabelRequest{})
				return hasCode("GPULabel", err, codes.OK)
			}),
		reading("GetAvailableGPUTypes answers",
			"GetAvailableGPUTypes is not optional.",
			func(ctx context.Context, c *caller) error {
				_, err := c.client.GetAvailableGPUTypes(ctx, &externalgrpc.GetAvailableGPUTypesRequest{})
				return hasCode("GetAvailableGPUTypes", err, codes.OK)
			}),
		reading("Cleanup leaves the server serving",
			"Cleanup, which a Cluster Autoscaler that ends calls, succeeds and ends nothing: the next Cluster Autoscaler finds the server as "+
				"it was.",
			func(ctx context.Context, c *caller) error {
				if _, err := c.client.Cleanup(ctx, &externalgrpc.CleanupRequest{}); err != nil {
					return fmt.Errorf("call Cleanup: %w", err)
				}
				err := c.refresh(ctx)
				for _, group := range c.groups() {
					err = errors.Join(err, c.has(ctx, group, 0))
				}
				if err != nil {
					return fmt.Errorf("after Cleanup: %w", err)
				}
				return nil
			}),
	}
}

func listsGroups(ctx context.Context, c *caller) error {
	if err := c.refresh(ctx); err != nil {
		return err
	}
	answer, err := c.client.NodeGroups(ctx, &externalgrpc.NodeGroupsRequest{})
	if err != nil {
		return fmt.Errorf("NodeGroups fails where Refresh did not: %w", err)
	}
	seen := map[string]bool{}
	for _, g := range answer.GetNodeGroups() {
		switch {
		case g.GetId() == "":
			return errors.New("a group has no id")
		case seen[g.GetId()]:
			return fmt.Errorf("%s is listed twice", g.GetId())
		case g.GetMinSize() < 0 || g.GetMinSize() > g.GetMaxSize():
			return fmt.Errorf("%s has minSize %d and maxSize %d", g.GetId(), g.GetMinSize(), g.GetMaxSize())
		}
		seen[g.GetId()] = true
	}
	for _, group := range c.groups() {
		g, err := c.bounds(ctx, group)
		if err != nil {
			return err
		}
		size, err := c.target(ctx, group)
		if err != nil {
			return err
		}
		switch {
		case size < g.GetMinSize() || size > g.GetMaxSize():
			return fmt.Errorf("the target size of %s is %d, not within %d and %d", group, size, g.GetMinSize(), g.GetMaxSize())
		case g.GetMinSize() != 0 || g.GetMaxSize() < 4:
			return fmt.Errorf(
				"%s cannot be tested with: it has minSize %d, not 0, or maxSize %d, not 4 or more", group, g.GetMinSize(), g.GetMaxSize(),
			)
		}
	}
	return nil
}

func unknownGroup(ctx context.Context, c *caller) error {
	const id = "conformance-no-such-group"
	_, targetErr := c.client.NodeGroupTargetSize(ctx, &externalgrpc.NodeGroupTargetSizeRequest{Id: id})
	_, nodesErr := c.client.NodeGroupNodes(ctx, &externalgrpc.NodeGroupNodesRequest{Id: id})
	_, templateErr := c.client.NodeGroupTemplateNodeInfo(ctx, &externalgrpc.NodeGroupTemplateNodeInfoRequest{Id: id})
	return errors.Join(
		hasCode("NodeGroupTargetSize", targetErr, codes.NotFound),
		hasCode("NodeGroupNodes", nodesErr, codes.NotFound),
		hasCode("NodeGroupIncreaseSize", c.increase(ctx, id, 1), codes.NotFound),
		hasCode("NodeGroupDecreaseTargetSize", c.decrease(ctx, id, -1), codes.NotFound),
		hasCode("NodeGroupDeleteNodes", c.delete(ctx, id, unregistered(foreign)), codes.NotFound),
		hasCode("NodeGroupTemplateNodeInfo", templateErr, codes.NotFound, codes.Unimplemented),
	)
}

// isOf checks that NodeGroupForNode knows a machine as one of a group.
func (c *caller) isOf(ctx context.Context, group, id string) error {
	of, err := c.groupOf(ctx, unregistered(id))
	if err != nil {
		return err
	}
	want, err := c.bounds(ctx, group)
	if err != nil {
		return err
	}
	if of.GetId() != group {
		return fmt.Errorf("NodeGroupForNode says that %s is of group %q and not of %s", id, of.GetId(), group)
	}
	if of.GetMinSize() != want.GetMinSize() || of.GetMaxSize() != want.GetMaxSize() {
		return fmt.Errorf("NodeGroupForNode gives %s the bounds %d and %d, NodeGroups %d and %d",
			group, of.GetMinSize(), of.GetMaxSize(), want.GetMinSize(), want.GetMaxSize())
	}
	return nil
}

func foreignNode(ctx context.Context, c *caller) error {
	for _, node := range []*externalgrpc.ExternalGrpcNode{
		{ProviderID: foreign, Name: "conformance-no-machine"},
		{Name: "conformance-no-provider-id", Labels: map[string]string{corev1.LabelHostname: "conformance-no-provider-id"}},
	} {
		of, err := c.groupOf(ctx, node)
		switch {
		case err != nil:
			return err
		case of == nil:
			return fmt.Errorf(
				"NodeGroupForNode of providerID %q answers without a group, which Cluster Autoscaler dereferences", node.GetProviderID(),
			)
		case of.GetId() != "":
			return fmt.Errorf("NodeGroupForNode says that providerID %q is of group %s", node.GetProviderID(), of.GetId())
		}
	}
	return nil
}

func wholeTemplate(ctx context.Context, c *caller) error {
	for _, group := range c.groups() {
		node, err := c.template(ctx, group)
		if err != nil || node == nil {
			return err
		}
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourcePods} {
			if amount := node.Status.Allocatable[name]; amount.Sign() <= 0 {
				return fmt.Errorf("the template of %s has %s allocatable %s", group, amount.String(), name)
			}
		}
		ready := corev1.ConditionUnknown
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				ready = condition.Status
			}
		}
		if ready != corev1.ConditionTrue {
			return fmt.Errorf("the template of %s is not Ready: its condition is %s", group, ready)
		}
	}
	return nil
}
