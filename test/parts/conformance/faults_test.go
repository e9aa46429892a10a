package conformance_test

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // The codec that one broken server wraps.
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

// fault breaks one behaviour of a good server: it answers in its place.
type fault func(*memory) grpc.UnaryServerInterceptor

// on is a fault in the method that takes Q. good is what the unbroken server answers.
func on[Q, R any](answer func(ctx context.Context, m *memory, request *Q, good func() (*R, error)) (*R, error)) fault {
	return func(m *memory) grpc.UnaryServerInterceptor {
		return func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			q, is := request.(*Q)
			if !is {
				return handler(ctx, request)
			}
			return answer(ctx, m, q, func() (*R, error) {
				answered, err := handler(ctx, request)
				r, is := answered.(*R)
				if err == nil && !is {
					err = fmt.Errorf("the answer is %T", answered)
				}
				return r, err
			})
		}
	}
}

// chain is several faults together, of which the first that concerns a method breaks it.
func chain(faults ...fault) fault {
	return func(m *memory) grpc.UnaryServerInterceptor {
		return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			for _, f := range slices.Backward(faults) {
				next := handler
				handler = func(ctx context.Context, request any) (any, error) { return f(m)(ctx, request, info, next) }
			}
			return handler(ctx, request)
		}
	}
}

// fails is a fault by which the method that takes Q fails.
func fails[Q any](code codes.Code) fault {
	return on(func(context.Context, *memory, *Q, func() (*struct{}, error)) (*struct{}, error) {
		return nil, status.Error(code, "it is broken")
	})
}

// The methods that are broken in more than one way.
type (
	group      = externalgrpc.NodeGroup
	groups     = func() (*externalgrpc.NodeGroupsResponse, error)
	ofNode     = func() (*externalgrpc.NodeGroupForNodeResponse, error)
	size       = func() (*externalgrpc.NodeGroupTargetSizeResponse, error)
	nodes      = func() (*externalgrpc.NodeGroupNodesResponse, error)
	increased  = func() (*externalgrpc.NodeGroupIncreaseSizeResponse, error)
	decreased  = func() (*externalgrpc.NodeGroupDecreaseTargetSizeResponse, error)
	deleted    = func() (*externalgrpc.NodeGroupDeleteNodesResponse, error)
	templated  = func() (*externalgrpc.NodeGroupTemplateNodeInfoResponse, error)
	nodePriced = func() (*externalgrpc.PricingNodePriceResponse, error)
	podPriced  = func() (*externalgrpc.PricingPodPriceResponse, error)
)

// These grant a request that changes a group, and do nothing.
func grantIncrease() (*externalgrpc.NodeGroupIncreaseSizeResponse, error) {
	return &externalgrpc.NodeGroupIncreaseSizeResponse{}, nil
}

func grantDecrease() (*externalgrpc.NodeGroupDecreaseTargetSizeResponse, error) {
	return &externalgrpc.NodeGroupDecreaseTargetSizeResponse{}, nil
}

func grantDelete() (*externalgrpc.NodeGroupDeleteNodesResponse, error) {
	return &externalgrpc.NodeGroupDeleteNodesResponse{}, nil
}

// must are the names of the cases that a broken server must fail, each with a part of what the case says.
type must map[string]string

// variant is a server that breaks a rule.
type variant struct {
	broken  fault
	options []grpc.ServerOption
	must    must
}

// listed is a fault in what Nodes lists.
func listed(change func(m *memory, group string, r *externalgrpc.NodeGroupNodesResponse)) fault {
	return on(func(
		_ context.Context, m *memory, q *externalgrpc.NodeGroupNodesRequest, good nodes,
	) (*externalgrpc.NodeGroupNodesResponse, error) {
		r, err := good()
		if err == nil {
			change(m, q.GetId(), r)
		}
		return r, err
	})
}

// named is a fault in the group that NodeGroupForNode names.
func named(change func(m *memory, id string, r *externalgrpc.NodeGroupForNodeResponse)) fault {
	return on(func(
		_ context.Context, m *memory, q *externalgrpc.NodeGroupForNodeRequest, good ofNode,
	) (*externalgrpc.NodeGroupForNodeResponse, error) {
		r, err := good()
		if err == nil {
			change(m, q.GetNode().GetProviderID(), r)
		}
		return r, err
	})
}

// template is a fault in the template.
func template(change func(*corev1.Node)) fault {
	return on(func(
		_ context.Context, _ *memory, q *externalgrpc.NodeGroupTemplateNodeInfoRequest, _ templated,
	) (*externalgrpc.NodeGroupTemplateNodeInfoResponse, error) {
		node := templateOf(q.GetId())
		change(node)
		return encodeTemplate(node)
	})
}

// increase is a fault in IncreaseSize.
func increase(
	answer func(
		ctx context.Context, m *memory, q *externalgrpc.NodeGroupIncreaseSizeRequest, good increased,
	) (*externalgrpc.NodeGroupIncreaseSizeResponse, error),
) fault {
	return on(answer)
}

// decrease is a fault in DecreaseTargetSize.
func decrease(
	answer func(
		ctx context.Context, m *memory, q *externalgrpc.NodeGroupDecreaseTargetSizeRequest, good decreased,
	) (*externalgrpc.NodeGroupDecreaseTargetSizeResponse, error),
) fault {
	return on(answer)
}

// remove is a fault in DeleteNodes.
func remove(
	answer func(
		ctx context.Context, m *memory, q *externalgrpc.NodeGroupDeleteNodesRequest, good deleted,
	) (*externalgrpc.NodeGroupDeleteNodesResponse, error),
) fault {
	return on(answer)
}

// without is a request to delete without some of its nodes.
func without(
	m *memory, q *externalgrpc.NodeGroupDeleteNodesRequest, leftOut func(machine *memoryMachine, node *externalgrpc.ExternalGrpcNode) bool,
) *externalgrpc.NodeGroupDeleteNodesRequest {
	return &externalgrpc.NodeGroupDeleteNodesRequest{Id: q.GetId(), Nodes: slices.DeleteFunc(slices.Clone(q.GetNodes()), func(
		node *externalgrpc.ExternalGrpcNode,
	) bool {
		return leftOut(m.find(node.GetProviderID()), node)
	})}
}

// swallowing is a codec that takes what it cannot read for an empty message.
type swallowing struct{ encoding.CodecV2 }

func (s swallowing) Unmarshal(content mem.BufferSlice, v any) error {
	_ = s.CodecV2.Unmarshal(content, v)
	return nil
}
