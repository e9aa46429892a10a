package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

// constantRole is the first argument of the process that answers constants; the second is the path of its order.
const constantRole = "-as=constant"

// constantOrder says what the server of constants is to do.
type constantOrder struct {
	Address  string // to serve on
	Server   files
	Client   files
	Provider string // address of whose answers are copied
	Size     size
}

// constant answers every question with what the provider answered once: the same bytes over the same transport,
// with nothing computed. It is what the provider's own work is compared with.
type constant struct {
	externalgrpc.UnimplementedCloudProviderServer

	groups     *externalgrpc.NodeGroupsResponse
	forNode    *externalgrpc.NodeGroupForNodeResponse
	targetSize *externalgrpc.NodeGroupTargetSizeResponse
	nodes      *externalgrpc.NodeGroupNodesResponse
	template   *externalgrpc.NodeGroupTemplateNodeInfoResponse
	options    error
}

func runConstant(ctx context.Context, path string) error {
	var order constantOrder
	if err := readJSONFile(path, &order); err != nil {
		return err
	}
	answers, err := copyAnswers(ctx, &order)
	if err != nil {
		return fmt.Errorf("copy the answers of the provider: %w", err)
	}
	security, err := order.Server.server()
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", order.Address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", order.Address, err)
	}
	server := grpc.NewServer(security)
	externalgrpc.RegisterCloudProviderServer(server, answers)
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	return server.Serve(listener)
}

// copyAnswers asks the provider each question of a loop once.
func copyAnswers(ctx context.Context, order *constantOrder) (c *constant, err error) {
	connection, err := order.Client.dial(order.Provider)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	provider := newAutoscaler(connection)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	e := newEstate(order.Size)
	group := e.pool(0)
	c = &constant{}
	if c.groups, err = provider.NodeGroups(ctx, &externalgrpc.NodeGroupsRequest{}); err != nil {
		return nil, err
	}
	if c.forNode, err = provider.NodeGroupForNode(ctx, &externalgrpc.NodeGroupForNodeRequest{Node: e.node(0)}); err != nil {
		return nil, err
	}
	if c.targetSize, err = provider.NodeGroupTargetSize(ctx, &externalgrpc.NodeGroupTargetSizeRequest{Id: group}); err != nil {
		return nil, err
	}
	if c.nodes, err = provider.NodeGroupNodes(ctx, &externalgrpc.NodeGroupNodesRequest{Id: group}); err != nil {
		return nil, err
	}
	if c.template, err = provider.NodeGroupTemplateNodeInfo(ctx, &externalgrpc.NodeGroupTemplateNodeInfoRequest{Id: group}); err != nil {
		return nil, err
	}
	if _, c.options = provider.NodeGroupGetOptions(ctx, optionsRequest(group)); status.Code(c.options) != codes.Unimplemented {
		return nil, fmt.Errorf("NodeGroupGetOptions is to be answered with Unimplemented, not with %w", c.options)
	}
	return c, nil
}

func (c *constant) Refresh(context.Context, *externalgrpc.RefreshRequest) (*externalgrpc.RefreshResponse, error) {
	return &externalgrpc.RefreshResponse{}, nil
}

func (c *constant) NodeGroups(context.Context, *externalgrpc.NodeGroupsRequest) (*externalgrpc.NodeGroupsResponse, error) {
	return c.groups, nil
}

func (c *constant) NodeGroupForNode(
	context.Context, *externalgrpc.NodeGroupForNodeRequest,
) (*externalgrpc.NodeGroupForNodeResponse, error) {
	return c.forNode, nil
}

func (c *constant) NodeGroupTargetSize(
	context.Context, *externalgrpc.NodeGroupTargetSizeRequest,
) (*externalgrpc.NodeGroupTargetSizeResponse, error) {
	return c.targetSize, nil
}

func (c *constant) NodeGroupNodes(context.Context, *externalgrpc.NodeGroupNodesRequest) (*externalgrpc.NodeGroupNodesResponse, error) {
	return c.nodes, nil
}

func (c *constant) NodeGroupTemplateNodeInfo(
	context.Context, *externalgrpc.NodeGroupTemplateNodeInfoRequest,
) (*externalgrpc.NodeGroupTemplateNodeInfoResponse, error) {
	return c.template, nil
}

func (c *constant) NodeGroupGetOptions(
	context.Context, *externalgrpc.NodeGroupAutoscalingOptionsRequest,
) (*externalgrpc.NodeGroupAutoscalingOptionsResponse, error) {
	return nil, c.options
}
