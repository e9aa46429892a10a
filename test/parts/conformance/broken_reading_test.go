package conformance_test

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // The codec that one broken server wraps.
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

// brokenReading are servers that answer wrongly what Cluster Autoscaler reads.
func brokenReading() map[string]variant {
	return map[string]variant{
		"Refresh fails": {broken: fails[externalgrpc.RefreshRequest](codes.Unimplemented), must: must{"Refresh succeeds": "Unimplemented"}},
		"NodeGroups fails where Refresh does not": {broken: fails[externalgrpc.NodeGroupsRequest](codes.Unavailable),
			must: must{"NodeGroups lists the groups with their bounds": "fails where Refresh did not"}},
		"a group is listed twice": {
			broken: on(func(_ context.Context, _ *memory, _ *externalgrpc.NodeGroupsRequest, good groups) (*externalgrpc.NodeGroupsResponse, error) {
				r, err := good()
				r.NodeGroups = append(r.NodeGroups, r.GetNodeGroups()[0])
				return r, err
			}),
			must: must{"NodeGroups lists the groups with their bounds": "listed twice"},
		},
		"the bounds are swapped": {
			broken: on(func(context.Context, *memory, *externalgrpc.NodeGroupsRequest, groups) (*externalgrpc.NodeGroupsResponse, error) {
				return &externalgrpc.NodeGroupsResponse{NodeGroups: []*group{{Id: "fast", MinSize: 5}}}, nil
			}),
			must: must{"NodeGroups lists the groups with their bounds": "minSize 5 and maxSize 0"},
		},
		"the target size is below minSize": {
			broken: on(func(context.Context, *memory, *externalgrpc.NodeGroupsRequest, groups) (*externalgrpc.NodeGroupsResponse, error) {
				return &externalgrpc.NodeGroupsResponse{NodeGroups: []*group{{Id: "fast", MinSize: 1, MaxSize: 5}}}, nil
			}),
			must: must{"NodeGroups lists the groups with their bounds": "not within 1 and 5"},
		},
		"the target size of an unknown group is 0": {
			broken: on(func(
				_ context.Context, _ *memory, _ *externalgrpc.NodeGroupTargetSizeRequest, good size,
			) (*externalgrpc.NodeGroupTargetSizeResponse, error) {
				r, err := good()
				if status.Code(err) == codes.NotFound {
					return &externalgrpc.NodeGroupTargetSizeResponse{}, nil
				}
				return r, err
			}),
			must: must{"an unknown group is NotFound": "NodeGroupTargetSize ended with OK"},
		},
		"the machines of an unknown group are none": {
			broken: on(func(
				_ context.Context, _ *memory, _ *externalgrpc.NodeGroupNodesRequest, good nodes,
			) (*externalgrpc.NodeGroupNodesResponse, error) {
				r, err := good()
				if status.Code(err) == codes.NotFound {
					return &externalgrpc.NodeGroupNodesResponse{}, nil
				}
				return r, err
			}),
			must: must{"an unknown group is NotFound": "NodeGroupNodes ended with OK"},
		},
		"an unknown group cannot grow, by the wrong code": {
			broken: increase(func(
				_ context.Context, _ *memory, _ *externalgrpc.NodeGroupIncreaseSizeRequest, good increased,
			) (*externalgrpc.NodeGroupIncreaseSizeResponse, error) {
				r, err := good()
				if status.Code(err) == codes.NotFound {
					return nil, status.Error(codes.Internal, "there is no such group")
				}
				return r, err
			}),
			must: must{"an unknown group is NotFound": "NodeGroupIncreaseSize ended with Internal"},
		},
		"an unknown group shrinks": {
			broken: decrease(func(
				_ context.Context, _ *memory, _ *externalgrpc.NodeGroupDecreaseTargetSizeRequest, good decreased,
			) (*externalgrpc.NodeGroupDecreaseTargetSizeResponse, error) {
				r, err := good()
				if status.Code(err) == codes.NotFound {
					return grantDecrease()
				}
				return r, err
			}),
			must: must{"an unknown group is NotFound": "NodeGroupDecreaseTargetSize ended with OK"},
		},
		"an unknown group has no nodes to delete": {
			broken: remove(func(
				_ context.Context, _ *memory, _ *externalgrpc.NodeGroupDeleteNodesRequest, good deleted,
			) (*externalgrpc.NodeGroupDeleteNodesResponse, error) {
				r, err := good()
				if status.Code(err) == codes.NotFound {
					return grantDelete()
				}
				return r, err
			}),
			must: must{"an unknown group is NotFound": "NodeGroupDeleteNodes ended with OK"},
		},
		"an unknown group has a template": {
			broken: template(func(*corev1.Node) {}),
			must:   must{"an unknown group is NotFound": "NodeGroupTemplateNodeInfo ended with OK"},
		},
		"NodeGroupForNode has no bounds": {
			broken: named(func(_ *memory, _ string, r *externalgrpc.NodeGroupForNodeResponse) {
				r.NodeGroup = &group{Id: r.GetNodeGroup().GetId()}
			}),
			must: both("NodeGroupForNode finds the group of a machine that runs", "NodeGroupForNode finds the group of an order at once",
				"the bounds 0 and 0"),
		},
		"NodeGroupForNode names another group": {
			broken: named(func(_ *memory, _ string, r *externalgrpc.NodeGroupForNodeResponse) {
				if r.GetNodeGroup().GetId() == "fast" {
					r.NodeGroup.Id = "slow"
				}
			}),
			must: must{"NodeGroupForNode finds the group of a machine that runs": `of group "slow" and not of fast`},
		},
		"NodeGroupForNode knows only machines that run": {
			broken: named(func(m *memory, id string, r *externalgrpc.NodeGroupForNodeResponse) {
				if machine := m.find(id); machine != nil && machine.state == creating {
					r.NodeGroup = &group{}
				}
			}),
			must: must{"NodeGroupForNode finds the group of an order at once": `of group "" and not of slow`},
		},
		"NodeGroupForNode answers with nothing for a foreign node": {
			broken: named(func(_ *memory, _ string, r *externalgrpc.NodeGroupForNodeResponse) {
				if r.GetNodeGroup().GetId() == "" {
					r.NodeGroup = nil
				}
			}),
			must: must{"NodeGroupForNode names no group for a foreign node": "answers without a group"},
		},
		"NodeGroupForNode fails for a foreign node": {
			broken: on(func(
				_ context.Context, m *memory, q *externalgrpc.NodeGroupForNodeRequest, good ofNode,
			) (*externalgrpc.NodeGroupForNodeResponse, error) {
				if m.find(q.GetNode().GetProviderID()) == nil {
					return nil, status.Error(codes.NotFound, "it is nobody's")
				}
				return good()
			}),
			must: must{"NodeGroupForNode names no group for a foreign node": "NotFound"},
		},
		"NodeGroupForNode takes in a node without a provider id": {
			broken: named(func(m *memory, id string, r *externalgrpc.NodeGroupForNodeResponse) {
				if id == "" {
					r.NodeGroup = m.describe("fast")
				}
			}),
			must: must{"NodeGroupForNode names no group for a foreign node": `providerID "" is of group fast`},
		},
		"GetOptions answers": {
			broken: on(func(
				_ context.Context, _ *memory, q *externalgrpc.NodeGroupAutoscalingOptionsRequest,
				_ func() (*externalgrpc.NodeGroupAutoscalingOptionsResponse, error),
			) (*externalgrpc.NodeGroupAutoscalingOptionsResponse, error) {
				return &externalgrpc.NodeGroupAutoscalingOptionsResponse{NodeGroupAutoscalingOptions: q.GetDefaults()}, nil
			}),
			must: must{"GetOptions is Unimplemented": "it was granted"},
		},
		"GetOptions fails otherwise": {broken: fails[externalgrpc.NodeGroupAutoscalingOptionsRequest](codes.Internal),
			must: must{"GetOptions is Unimplemented": "ended with Internal"}},
		"the template is empty": {
			broken: on(func(
				context.Context, *memory, *externalgrpc.NodeGroupTemplateNodeInfoRequest, templated,
			) (*externalgrpc.NodeGroupTemplateNodeInfoResponse, error) {
				return &externalgrpc.NodeGroupTemplateNodeInfoResponse{}, nil
			}),
			must: must{"TemplateNodeInfo is a whole node": "0 allocatable cpu"},
		},
		"the template is no node": {
			broken: on(func(
				context.Context, *memory, *externalgrpc.NodeGroupTemplateNodeInfoRequest, templated,
			) (*externalgrpc.NodeGroupTemplateNodeInfoResponse, error) {
				return &externalgrpc.NodeGroupTemplateNodeInfoResponse{NodeBytes: []byte("no node")}, nil
			}),
			must: must{"TemplateNodeInfo is a whole node": "not a v1.Node"},
		},
		"the template takes no pods": {
			broken: template(func(n *corev1.Node) { delete(n.Status.Allocatable, corev1.ResourcePods) }),
			must:   must{"TemplateNodeInfo is a whole node": "0 allocatable pods"},
		},
		"the template is not Ready": {
			broken: template(func(n *corev1.Node) { n.Status.Conditions = nil }),
			must:   must{"TemplateNodeInfo is a whole node": "not Ready"},
		},
		"the template is not there for old versions": {
			broken: on(func(
				_ context.Context, _ *memory, _ *externalgrpc.NodeGroupTemplateNodeInfoRequest, good templated,
			) (*externalgrpc.NodeGroupTemplateNodeInfoResponse, error) {
				r, err := good()
				if err == nil {
					r.LegacyNodeInfo = nil
				}
				return r, err
			}),
			must: must{"TemplateNodeInfo fills the field of old versions": "field 1 has 0 bytes"},
		},
		"there is no GPU label": {
			broken: fails[externalgrpc.GPULabelRequest](codes.Unimplemented), must: must{"GPULabel answers": "Unimplemented"},
		},
		"there are no types of GPUs": {
			broken: fails[externalgrpc.GetAvailableGPUTypesRequest](codes.Unimplemented),
			must:   must{"GetAvailableGPUTypes answers": "Unimplemented"},
		},
		"Cleanup fails": {
			broken: fails[externalgrpc.CleanupRequest](codes.Unimplemented), must: must{"Cleanup leaves the server serving": "Cleanup: "},
		},
		"Cleanup ends the server": {
			broken: func(m *memory) grpc.UnaryServerInterceptor {
				return func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
					m.mu.Lock()
					if _, cleanup := request.(*externalgrpc.CleanupRequest); cleanup {
						m.lapsed++
					} else if m.lapsed > 0 {
						defer m.mu.Unlock()
						return nil, status.Error(codes.Unavailable, "it has ended")
					}
					m.mu.Unlock()
					return handler(ctx, request)
				}
			},
			must: must{"Cleanup leaves the server serving": "after Cleanup"},
		},
	}
}

// brokenMessages are servers that read messages or price wrongly.
func brokenMessages() map[string]variant {
	return map[string]variant{
		"a node has a price to begin with": {
			broken: on(func(
				_ context.Context, _ *memory, _ *externalgrpc.PricingNodePriceRequest, good nodePriced,
			) (*externalgrpc.PricingNodePriceResponse, error) {
				r, err := good()
				r.Price++
				return r, err
			}),
			must: must{"PricingNodePrice is linear in time": "not 0"},
		},
		"nodes earn money": {
			broken: on(func(
				_ context.Context, _ *memory, _ *externalgrpc.PricingNodePriceRequest, good nodePriced,
			) (*externalgrpc.PricingNodePriceResponse, error) {
				r, err := good()
				r.Price = -r.GetPrice()
				return r, err
			}),
			must: both("PricingNodePrice is linear in time", "PricingNodePrice reads the messages of old versions", "is negative"),
		},
		"a node of a template has no price": {
			broken: on(func(
				_ context.Context, m *memory, q *externalgrpc.PricingNodePriceRequest, good nodePriced,
			) (*externalgrpc.PricingNodePriceResponse, error) {
				if m.find(q.GetNode().GetProviderID()) == nil {
					return nil, status.Error(codes.NotFound, "there is no such node")
				}
				return good()
			}),
			must: must{"PricingNodePrice is linear in time": "of fast-template"},
		},
		"the times of old versions are not read": {
			broken: on(func(
				_ context.Context, _ *memory, q *externalgrpc.PricingNodePriceRequest, good nodePriced,
			) (*externalgrpc.PricingNodePriceResponse, error) {
				r, err := good()
				if q.GetStartTimestamp() == nil {
					r.Price = 0
				}
				return r, err
			}),
			must: must{"PricingNodePrice reads the messages of old versions": "the price is 1, and 0 in the form of old versions"},
		},
		"the pods of old versions are not read": {
			broken: on(func(
				_ context.Context, _ *memory, q *externalgrpc.PricingPodPriceRequest, good podPriced,
			) (*externalgrpc.PricingPodPriceResponse, error) {
				if len(q.GetPodBytes()) == 0 {
					return nil, status.Error(codes.InvalidArgument, "there is no pod")
				}
				return good()
			}),
			must: must{"PricingPodPrice reads the messages of old versions": "the form of old versions: "},
		},
		"pods earn money": {
			broken: on(func(
				_ context.Context, _ *memory, _ *externalgrpc.PricingPodPriceRequest, good podPriced,
			) (*externalgrpc.PricingPodPriceResponse, error) {
				r, err := good()
				r.Price = -r.GetPrice()
				return r, err
			}),
			must: must{"PricingPodPrice reads the messages of old versions": "is negative"},
		},
		"what cannot be read is an empty message": {
			options: []grpc.ServerOption{grpc.ForceServerCodecV2(swallowing{encoding.GetCodecV2("proto")})},
			must:    must{"a message that cannot be read is refused": "was not refused"},
		},
	}
}
