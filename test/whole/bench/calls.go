package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	holds "github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/estate"
)

// callTimeout is that of Cluster Autoscaler, by default.
const callTimeout = 5 * time.Second

// autoscaler is the other side of a connection.
type autoscaler = externalgrpc.CloudProviderClient

// call is one method of the provider. i counts up; it chooses what is asked about.
type call struct {
	name string
	ask  func(ctx context.Context, provider autoscaler, i int) error
	// verify asks too, checks the answer, and returns its size in bytes.
	verify func(ctx context.Context, provider autoscaler, i int) (int, error)
}

// method is one of the generated client.
type method[Q, A proto.Message] = func(autoscaler, context.Context, Q, ...grpc.CallOption) (A, error)

// calling makes the call of a method. right tells whether an answer is the one that the cluster calls for:
// figures of wrong answers would be worth nothing.
func calling[Q, A proto.Message](name string, m method[Q, A], question func(i int) Q, right func(i int, answer A) bool) call {
	ask := func(ctx context.Context, provider autoscaler, i int) (A, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		answer, err := m(provider, ctx, question(i))
		if err != nil {
			return answer, fmt.Errorf("%s: %w", name, err)
		}
		return answer, nil
	}
	return call{
		name: name,
		ask: func(ctx context.Context, provider autoscaler, i int) error {
			_, err := ask(ctx, provider, i)
			return err
		},
		verify: func(ctx context.Context, provider autoscaler, i int) (int, error) {
			answer, err := ask(ctx, provider, i)
			switch {
			case err != nil:
				return 0, err
			case !right(i, answer):
				return 0, fmt.Errorf("%s answers what it should not: %v", name, answer)
			}
			return proto.Size(answer), nil
		},
	}
}

// unimplemented is a call of which that is the right answer: Cluster Autoscaler then does without.
func unimplemented(c call) call {
	expected := func(err error) error {
		if status.Code(err) == codes.Unimplemented {
			return nil
		}
		return fmt.Errorf("%s is to be answered with Unimplemented, not with %w", c.name, err)
	}
	return call{
		name: c.name,
		ask:  func(ctx context.Context, provider autoscaler, i int) error { return expected(c.ask(ctx, provider, i)) },
		verify: func(ctx context.Context, provider autoscaler, i int) (int, error) {
			return 0, expected(c.ask(ctx, provider, i))
		},
	}
}

// calls are all that read.
type calls struct {
	refresh, nodeGroups, nodeGroupForNode, foreignNode, targetSize, nodes, template, options call
	gpuLabel, gpuTypes, nodePrice, podPrice                                                  call
}

func (c *calls) all() []call {
	return []call{
		c.refresh, c.nodeGroups, c.nodeGroupForNode, c.foreignNode, c.targetSize, c.nodes, c.template, c.options,
		c.gpuLabel, c.gpuTypes, c.nodePrice, c.podPrice,
	}
}

// bySize are those that Cluster Autoscaler calls most or whose answers grow with the cluster.
func (c *calls) bySize() []call {
	return []call{c.nodeGroupForNode, c.targetSize, c.nodes, c.nodeGroups}
}

func reads(e *estate) (*calls, error) {
	pod, err := somePod().Marshal()
	if err != nil {
		return nil, fmt.Errorf("marshal a pod: %w", err)
	}
	from := time.Now()
	start, end := timestamppb.New(from), timestamppb.New(from.Add(time.Hour))
	constant := func(m proto.Message) bool { return m != nil }
	return &calls{
		refresh: calling("Refresh", autoscaler.Refresh,
			func(int) *externalgrpc.RefreshRequest { return &externalgrpc.RefreshRequest{} },
			func(_ int, a *externalgrpc.RefreshResponse) bool { return constant(a) }),
		nodeGroups: calling("NodeGroups", autoscaler.NodeGroups,
			func(int) *externalgrpc.NodeGroupsRequest { return &externalgrpc.NodeGroupsRequest{} },
			func(_ int, a *externalgrpc.NodeGroupsResponse) bool { return len(a.GetNodeGroups()) == e.Groups }),
		nodeGroupForNode: forNode("NodeGroupForNode, own node", e.node,
			func(i int, id string) bool {
				return len(id) > 0 && len(e.node(i).GetName()) > len(id) && e.node(i).GetName()[:len(id)] == id
			}),
		foreignNode: forNode("NodeGroupForNode, foreign node",
			func(i int) *externalgrpc.ExternalGrpcNode { return e.foreign[i%len(e.foreign)] },
			func(_ int, id string) bool { return id == "" }),
		targetSize: calling("NodeGroupTargetSize", autoscaler.NodeGroupTargetSize,
			func(i int) *externalgrpc.NodeGroupTargetSizeRequest {
				return &externalgrpc.NodeGroupTargetSizeRequest{Id: e.pool(i)}
			},
			func(i int, a *externalgrpc.NodeGroupTargetSizeResponse) bool {
				return int(a.GetTargetSize()) == e.MachinesIn(scatter(i, e.Groups))
			}),
		nodes: calling("NodeGroupNodes", autoscaler.NodeGroupNodes,
			func(i int) *externalgrpc.NodeGroupNodesRequest {
				return &externalgrpc.NodeGroupNodesRequest{Id: e.pool(i)}
			},
			func(i int, a *externalgrpc.NodeGroupNodesResponse) bool {
				return len(a.GetInstances()) == e.MachinesIn(scatter(i, e.Groups))
			}),
		template: calling("NodeGroupTemplateNodeInfo", autoscaler.NodeGroupTemplateNodeInfo,
			func(i int) *externalgrpc.NodeGroupTemplateNodeInfoRequest {
				return &externalgrpc.NodeGroupTemplateNodeInfoRequest{Id: e.pool(i)}
			},
			func(_ int, a *externalgrpc.NodeGroupTemplateNodeInfoResponse) bool { return len(a.GetNodeBytes()) > 0 }),
		options: unimplemented(calling("NodeGroupGetOptions", autoscaler.NodeGroupGetOptions,
			func(i int) *externalgrpc.NodeGroupAutoscalingOptionsRequest { return optionsRequest(e.pool(i)) },
			func(_ int, a *externalgrpc.NodeGroupAutoscalingOptionsResponse) bool { return constant(a) })),
		gpuLabel: calling("GPULabel", autoscaler.GPULabel,
			func(int) *externalgrpc.GPULabelRequest { return &externalgrpc.GPULabelRequest{} },
			func(_ int, a *externalgrpc.GPULabelResponse) bool { return a.GetLabel() != "" }),
		gpuTypes: calling("GetAvailableGPUTypes", autoscaler.GetAvailableGPUTypes,
			func(int) *externalgrpc.GetAvailableGPUTypesRequest {
				return &externalgrpc.GetAvailableGPUTypesRequest{}
			},
			func(_ int, a *externalgrpc.GetAvailableGPUTypesResponse) bool { return len(a.GetGpuTypes()) == 1 }),
		nodePrice: calling("PricingNodePrice", autoscaler.PricingNodePrice,
			func(i int) *externalgrpc.PricingNodePriceRequest {
				return &externalgrpc.PricingNodePriceRequest{Node: e.node(i), StartTimestamp: start, EndTimestamp: end}
			},
			func(_ int, a *externalgrpc.PricingNodePriceResponse) bool { return a.GetPrice() > 0 }),
		podPrice: calling("PricingPodPrice", autoscaler.PricingPodPrice,
			func(int) *externalgrpc.PricingPodPriceRequest {
				return &externalgrpc.PricingPodPriceRequest{PodBytes: pod, StartTimestamp: start, EndTimestamp: end}
			},
			func(_ int, a *externalgrpc.PricingPodPriceResponse) bool { return a.GetPrice() > 0 }),
	}, nil
}

func forNode(name string, node func(i int) *externalgrpc.ExternalGrpcNode, right func(i int, id string) bool) call {
	return calling(name, autoscaler.NodeGroupForNode,
		func(i int) *externalgrpc.NodeGroupForNodeRequest {
			return &externalgrpc.NodeGroupForNodeRequest{Node: node(i)}
		},
		func(i int, a *externalgrpc.NodeGroupForNodeResponse) bool { return right(i, a.GetNodeGroup().GetId()) })
}

// increaseSize writes: the i-th call concerns the i-th group.
func increaseSize() call {
	return calling("NodeGroupIncreaseSize", autoscaler.NodeGroupIncreaseSize,
		func(i int) *externalgrpc.NodeGroupIncreaseSizeRequest {
			return &externalgrpc.NodeGroupIncreaseSizeRequest{Id: holds.PoolName(i), Delta: 1}
		},
		func(_ int, a *externalgrpc.NodeGroupIncreaseSizeResponse) bool { return a != nil })
}

// optionsRequest carries the defaults of Cluster Autoscaler.
func optionsRequest(id string) *externalgrpc.NodeGroupAutoscalingOptionsRequest {
	return &externalgrpc.NodeGroupAutoscalingOptionsRequest{Id: id, Defaults: &externalgrpc.NodeGroupAutoscalingOptions{
		ScaleDownUtilizationThreshold: 0.5, ScaleDownGpuUtilizationThreshold: 0.5,
		ScaleDownUnneededDuration: durationpb.New(10 * time.Minute), ScaleDownUnreadyDuration: durationpb.New(20 * time.Minute),
		MaxNodeProvisionDuration: durationpb.New(15 * time.Minute),
	}}
}

// somePod is the pod of an ensemble member that fits each of the pools.
func somePod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "member-0-7xk2p", Namespace: "default", Labels: map[string]string{"app.kubernetes.io/name": "member", "job-name": "member"},
		},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{
				Name: "member", Image: "example.com/member:1",
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("60"), corev1.ResourceMemory: resource.MustParse("128Gi"),
				}},
			}},
			Tolerations: []corev1.Toleration{{Key: "example.com/dedicated", Operator: corev1.TolerationOpExists}},
		},
	}
}
