package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // The codec that one broken server wraps.
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/conformance"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/inprocess"
)

// TestUnbroken: a server that keeps every rule passes every case.
func TestUnbroken(t *testing.T) {
	t.Parallel()
	conformance.Run(t, &conformance.Target{Conn: inMemory(t, newMemory(), nil), Group: "fast", Second: "slow", Patience: inprocess.Patience})
}

// TestUnbrokenAlone is TestUnbroken for a server with one group whose machines run at once.
func TestUnbrokenAlone(t *testing.T) {
	t.Parallel()
	for _, c := range conformance.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			err := c.Run(t.Context(), &conformance.Target{Conn: inMemory(t, newMemory(), nil), Group: "fast", Patience: inprocess.Patience})
			if err != nil && !errors.Is(err, conformance.ErrSkipped) {
				t.Error(err)
			}
		})
	}
}

// TestSpare: a server without the optional methods passes too.
func TestSpare(t *testing.T) {
	t.Parallel()
	spare := func(*memory) grpc.UnaryServerInterceptor {
		return func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			switch request.(type) {
			case *externalgrpc.NodeGroupTemplateNodeInfoRequest, *externalgrpc.PricingNodePriceRequest, *externalgrpc.PricingPodPriceRequest:
				return nil, status.Error(codes.Unimplemented, "there is none")
			}
			return handler(ctx, request)
		}
	}
	conformance.Run(t, &conformance.Target{Conn: inMemory(t, newMemory(), spare), Group: "fast", Second: "slow", Patience: inprocess.Patience})
}

// inMemory serves a server, or what a fault makes of it, until the test ends.
func inMemory(t *testing.T, m *memory, broken fault, options ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	if broken != nil {
		options = append(options, grpc.UnaryInterceptor(broken(m)))
	}
	server := grpc.NewServer(options...)
	externalgrpc.RegisterCloudProviderServer(server, m)
	listener := bufconn.Listen(1 << 20)
	runUntilCleanup(t, server, listener)
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

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

func variants() map[string]variant {
	both := func(a, b string, part string) must { return must{a: part, b: part} }
	return map[string]variant{
		// Reading.
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

		// Sizes.
		"IncreaseSize lets any delta pass": {
			broken: increase(func(
				_ context.Context, _ *memory, q *externalgrpc.NodeGroupIncreaseSizeRequest, good increased,
			) (*externalgrpc.NodeGroupIncreaseSizeResponse, error) {
				if q.GetDelta() <= 0 {
					return grantIncrease()
				}
				return good()
			}),
			must: must{"IncreaseSize by nothing or less is refused": "IncreaseSize by 0 ended with OK"},
		},
		"IncreaseSize refuses a negative delta and takes it": {
			broken: increase(func(
				_ context.Context, m *memory, q *externalgrpc.NodeGroupIncreaseSizeRequest, good increased,
			) (*externalgrpc.NodeGroupIncreaseSizeResponse, error) {
				r, err := good()
				if q.GetDelta() < 0 {
					m.mu.Lock()
					m.forget(m.of(q.GetId(), creating)[0])
					m.mu.Unlock()
				}
				return r, err
			}),
			must: must{"IncreaseSize by nothing or less is refused": "yet changed something"},
		},
		"IncreaseSize clamps at maxSize and says nothing": {
			broken: increase(func(
				_ context.Context, m *memory, q *externalgrpc.NodeGroupIncreaseSizeRequest, good increased,
			) (*externalgrpc.NodeGroupIncreaseSizeResponse, error) {
				r, err := good()
				if status.Code(err) == codes.OutOfRange {
					m.mu.Lock()
					defer m.mu.Unlock()
					m.order(q.GetId(), m.groups[q.GetId()].maxSize-int32(len(m.of(q.GetId(), creating, running))))
					return grantIncrease()
				}
				return r, err
			}),
			must: must{"IncreaseSize above maxSize is refused with both numbers": "ended with OK"},
		},
		"IncreaseSize refuses without numbers": {
			broken: increase(func(
				_ context.Context, _ *memory, _ *externalgrpc.NodeGroupIncreaseSizeRequest, good increased,
			) (*externalgrpc.NodeGroupIncreaseSizeResponse, error) {
				r, err := good()
				if status.Code(err) == codes.OutOfRange {
					return nil, status.Error(codes.OutOfRange, "that is too many")
				}
				return r, err
			}),
			must: must{"IncreaseSize above maxSize is refused with both numbers": "have not both numbers"},
		},
		"IncreaseSize adds up 32 bits": {
			broken: increase(func(
				_ context.Context, m *memory, q *externalgrpc.NodeGroupIncreaseSizeRequest, good increased,
			) (*externalgrpc.NodeGroupIncreaseSizeResponse, error) {
				r, err := good()
				m.mu.Lock()
				defer m.mu.Unlock()
				if sum := int32(len(m.of(q.GetId(), creating, running))) + q.GetDelta(); err != nil && q.GetDelta() > 0 && sum < 0 {
					return grantIncrease()
				}
				return r, err
			}),
			must: must{"IncreaseSize above maxSize is refused with both numbers": "by 2147483647 of 2 with maxSize 7 ended with OK"},
		},
		"TargetSize forgets the machines for one call": {
			broken: on(func(
				_ context.Context, m *memory, _ *externalgrpc.NodeGroupTargetSizeRequest, good size,
			) (*externalgrpc.NodeGroupTargetSizeResponse, error) {
				r, err := good()
				if r.GetTargetSize() > 0 && m.once() {
					r.TargetSize = 0
				}
				return r, err
			}),
			must: must{"IncreaseSize is seen by the very next call": "the target size of slow is 0 and not 3"},
		},
		"Nodes does not list orders": {
			broken: listed(func(_ *memory, _ string, r *externalgrpc.NodeGroupNodesResponse) {
				r.Instances = slices.DeleteFunc(
					r.GetInstances(), func(i *externalgrpc.Instance) bool { return i.GetStatus().GetInstanceState() == creating },
				)
			}),
			must: must{
				"IncreaseSize is seen by the very next call": "the target size of slow is 3 and NodeGroupNodes lists creating []",
				"DeleteNodes takes an order at once":         "none is listed",
			},
		},
		"Nodes does not know how far machines are": {
			broken: listed(func(_ *memory, _ string, r *externalgrpc.NodeGroupNodesResponse) {
				for _, i := range r.GetInstances() {
					i.Status = nil
				}
			}),
			must: must{"IncreaseSize is seen by the very next call": "in state unspecified"},
		},
		"IncreaseSize waits for the machines": {
			broken: increase(func(
				ctx context.Context, _ *memory, _ *externalgrpc.NodeGroupIncreaseSizeRequest, good increased,
			) (*externalgrpc.NodeGroupIncreaseSizeResponse, error) {
				if _, err := good(); err != nil {
					return nil, err
				}
				// The deadline may pass here a little before it does at the client, which would take an answer.
				<-ctx.Done()
				return nil, status.FromContextError(ctx.Err()).Err()
			}),
			must: must{"IncreaseSize does not wait for machines": "DeadlineExceeded"},
		},
		"two machines share an id": {
			broken: listed(func(_ *memory, _ string, r *externalgrpc.NodeGroupNodesResponse) {
				for _, i := range r.GetInstances() {
					i.Id = r.GetInstances()[0].GetId()
				}
			}),
			must: must{"ids are unique and not empty": "listed in fast and again in fast"},
		},
		"machines of two groups share an id": {
			broken: listed(func(_ *memory, _ string, r *externalgrpc.NodeGroupNodesResponse) {
				for n, i := range r.GetInstances() {
					i.Id = fmt.Sprintf("memory://%d", n)
				}
			}),
			must: must{"ids are unique and not empty": "listed in fast and again in slow"},
		},
		"an order has no id": {
			broken: listed(func(_ *memory, _ string, r *externalgrpc.NodeGroupNodesResponse) {
				for _, i := range r.GetInstances() {
					if i.GetStatus().GetInstanceState() == creating {
						i.Id = ""
					}
				}
			}),
			must: must{"ids are unique and not empty": "empty id", "an order keeps its id when it runs": "was on order and is listed no more"},
		},
		"ids are those of places in a list": {
			broken: listed(func(m *memory, _ string, r *externalgrpc.NodeGroupNodesResponse) {
				m.mu.Lock()
				defer m.mu.Unlock()
				for n, i := range r.GetInstances() {
					i.Id = fmt.Sprintf("memory://%d", n+len(m.machines))
				}
			}),
			must: must{"machines that run keep their ids": "is not listed as running any more"},
		},
		"an order has another id than its machine": {
			broken: listed(func(_ *memory, _ string, r *externalgrpc.NodeGroupNodesResponse) {
				for _, i := range r.GetInstances() {
					if i.GetStatus().GetInstanceState() == creating {
						i.Id += "-order"
					}
				}
			}),
			must: must{"an order keeps its id when it runs": "was on order and is listed no more"},
		},
		"DecreaseTargetSize lets any delta pass": {
			broken: decrease(func(
				_ context.Context, _ *memory, q *externalgrpc.NodeGroupDecreaseTargetSizeRequest, good decreased,
			) (*externalgrpc.NodeGroupDecreaseTargetSizeResponse, error) {
				if q.GetDelta() >= 0 {
					return grantDecrease()
				}
				return good()
			}),
			must: must{"DecreaseTargetSize by nothing or more is refused": "DecreaseTargetSize by 0 ended with OK"},
		},
		"DecreaseTargetSize takes a positive delta for a negative one": {
			broken: decrease(func(
				ctx context.Context, m *memory, q *externalgrpc.NodeGroupDecreaseTargetSizeRequest, good decreased,
			) (*externalgrpc.NodeGroupDecreaseTargetSizeResponse, error) {
				if q.GetDelta() > 0 {
					return m.NodeGroupDecreaseTargetSize(ctx, &externalgrpc.NodeGroupDecreaseTargetSizeRequest{Id: q.GetId(), Delta: -q.GetDelta()})
				}
				return good()
			}),
			must: must{"DecreaseTargetSize by nothing or more is refused": "DecreaseTargetSize by 1 ended with OK"},
		},
		"DecreaseTargetSize does nothing": {
			broken: decrease(func(
				_ context.Context, _ *memory, _ *externalgrpc.NodeGroupDecreaseTargetSizeRequest, _ decreased,
			) (*externalgrpc.NodeGroupDecreaseTargetSizeResponse, error) {
				return grantDecrease()
			}),
			must: must{"DecreaseTargetSize cancels orders": "is 3 after DecreaseTargetSize by -1"},
		},
		"a cancelled order is still listed": {
			broken: listed(func(m *memory, group string, r *externalgrpc.NodeGroupNodesResponse) {
				m.mu.Lock()
				defer m.mu.Unlock()
				for n := len(r.GetInstances()); group == "slow" && n < m.ordered; n++ {
					r.Instances = append(
						r.Instances,
						&externalgrpc.Instance{Id: fmt.Sprintf("memory://cancelled-%d", n), Status: &externalgrpc.InstanceStatus{InstanceState: creating}},
					)
				}
			}),
			must: must{"DecreaseTargetSize cancels orders": "waited until the cancelled orders are listed no more"},
		},
		"DecreaseTargetSize takes machines that run": {
			broken: decrease(func(
				_ context.Context, m *memory, q *externalgrpc.NodeGroupDecreaseTargetSizeRequest, good decreased,
			) (*externalgrpc.NodeGroupDecreaseTargetSizeResponse, error) {
				m.mu.Lock()
				m.forget(m.of(q.GetId(), running)...)
				m.mu.Unlock()
				return good()
			}),
			must: must{"DecreaseTargetSize is clamped at the machines that run": "the target size of fast is 0 and not 2"},
		},
		"DecreaseTargetSize refuses more than there is to cancel": {
			broken: decrease(func(
				_ context.Context, m *memory, q *externalgrpc.NodeGroupDecreaseTargetSizeRequest, good decreased,
			) (*externalgrpc.NodeGroupDecreaseTargetSizeResponse, error) {
				m.mu.Lock()
				orders := len(m.of(q.GetId(), creating))
				m.mu.Unlock()
				if -int64(q.GetDelta()) > int64(orders) {
					return nil, status.Error(codes.FailedPrecondition, "they are there")
				}
				return good()
			}),
			must: must{"DecreaseTargetSize is clamped at the machines that run": "FailedPrecondition"},
		},

		// What Cluster Autoscaler repairs.
		"a failed machine counts, and can neither be deleted nor given up": {
			broken: chain(
				listed(func(_ *memory, _ string, r *externalgrpc.NodeGroupNodesResponse) {
					for _, i := range r.GetInstances() {
						if i.GetStatus().GetInstanceState() == creating {
							i.Status.ErrorInfo = &externalgrpc.InstanceErrorInfo{ErrorCode: "OutOfStock", InstanceErrorClass: 1}
						}
					}
				}),
				fails[externalgrpc.NodeGroupDeleteNodesRequest](codes.FailedPrecondition),
				fails[externalgrpc.NodeGroupDecreaseTargetSizeRequest](codes.FailedPrecondition),
			),
			must: must{"no group freezes Cluster Autoscaler": "cannot be deleted"},
		},
		"a machine counts that is listed as deleting, and its target is lowered in words alone": {
			broken: chain(
				listed(func(_ *memory, _ string, r *externalgrpc.NodeGroupNodesResponse) {
					for _, i := range r.GetInstances() {
						i.Status.InstanceState = deleting
					}
				}),
				on(func(
					context.Context, *memory, *externalgrpc.NodeGroupDecreaseTargetSizeRequest, decreased,
				) (*externalgrpc.NodeGroupDecreaseTargetSizeResponse, error) {
					return grantDecrease()
				}),
			),
			must: must{"no group freezes Cluster Autoscaler": "and it lacks 2 still"},
		},

		// Deletion.
		"DeleteNodes does nothing": {
			broken: remove(func(
				context.Context, *memory, *externalgrpc.NodeGroupDeleteNodesRequest, deleted,
			) (*externalgrpc.NodeGroupDeleteNodesResponse, error) {
				return grantDelete()
			}),
			must: must{"DeleteNodes lowers the target by its victims": "the target size of fast is 3 and not 1"},
		},
		"DeleteNodes deletes another machine than the one named": {
			broken: remove(func(
				ctx context.Context, m *memory, q *externalgrpc.NodeGroupDeleteNodesRequest, good deleted,
			) (*externalgrpc.NodeGroupDeleteNodesResponse, error) {
				m.mu.Lock()
				alive := m.of(q.GetId(), creating, running)
				m.mu.Unlock()
				if len(q.GetNodes()) == len(alive) {
					return good()
				}
				instead := &externalgrpc.NodeGroupDeleteNodesRequest{Id: q.GetId()}
				for n := range q.GetNodes() {
					instead.Nodes = append(instead.Nodes, &externalgrpc.ExternalGrpcNode{ProviderID: alive[len(alive)-1-n].id})
				}
				return m.NodeGroupDeleteNodes(ctx, instead)
			}),
			must: must{"DeleteNodes lowers the target by its victims": "neither Deleting nor gone"},
		},
		"what is deleted is replaced": {
			broken: remove(func(
				_ context.Context, m *memory, q *externalgrpc.NodeGroupDeleteNodesRequest, good deleted,
			) (*externalgrpc.NodeGroupDeleteNodesResponse, error) {
				r, err := good()
				if err == nil && m.once() {
					m.mu.Lock()
					defer m.mu.Unlock()
					m.order(q.GetId(), int32(len(q.GetNodes())))
				}
				return r, err
			}),
			must: must{"DeleteNodes lowers the target by its victims": "the target size of fast is 3 and not 1"},
		},
		"DeleteNodes counts a machine each time": {
			broken: remove(func(
				_ context.Context, m *memory, q *externalgrpc.NodeGroupDeleteNodesRequest, good deleted,
			) (*externalgrpc.NodeGroupDeleteNodesResponse, error) {
				m.mu.Lock()
				before := len(m.of(q.GetId(), creating, running))
				m.mu.Unlock()
				r, err := good()
				m.mu.Lock()
				defer m.mu.Unlock()
				// The machines that nobody named go with the count.
				for err == nil && before-len(m.of(q.GetId(), creating, running)) < len(q.GetNodes()) && len(m.of(q.GetId(), creating, running)) > 0 {
					m.forget(m.of(q.GetId(), creating, running)[0])
				}
				return r, err
			}),
			must: must{
				"a repeated DeleteNodes lowers nothing more":             "the target size of fast is 1 and not 2",
				"DeleteNodes of a node that is nobody's changes nothing": "the target size of slow is 1 and not 2",
			},
		},
		"DeleteNodes refuses a machine that is going": {
			broken: remove(func(
				_ context.Context, m *memory, q *externalgrpc.NodeGroupDeleteNodesRequest, good deleted,
			) (*externalgrpc.NodeGroupDeleteNodesResponse, error) {
				for _, node := range q.GetNodes() {
					if machine := m.find(node.GetProviderID()); machine == nil || machine.state == deleting {
						return nil, status.Errorf(codes.NotFound, "there is no %s", node.GetProviderID())
					}
				}
				return good()
			}),
			must: must{"a repeated DeleteNodes lowers nothing more": "NotFound"},
		},
		"DeleteNodes wants the name of a node": {
			broken: remove(func(
				_ context.Context, _ *memory, q *externalgrpc.NodeGroupDeleteNodesRequest, good deleted,
			) (*externalgrpc.NodeGroupDeleteNodesResponse, error) {
				for _, node := range q.GetNodes() {
					if strings.Contains(node.GetName(), "://") {
						return nil, status.Errorf(codes.InvalidArgument, "%s is no name of a node", node.GetName())
					}
				}
				return good()
			}),
			must: both("DeleteNodes takes a machine that never registered", "DeleteNodes takes an order at once", "no name of a node"),
		},
		"DeleteNodes passes over orders": {
			broken: remove(func(
				ctx context.Context, m *memory, q *externalgrpc.NodeGroupDeleteNodesRequest, _ deleted,
			) (*externalgrpc.NodeGroupDeleteNodesResponse, error) {
				return m.NodeGroupDeleteNodes(ctx, without(m, q, func(machine *memoryMachine, _ *externalgrpc.ExternalGrpcNode) bool {
					return machine != nil && machine.state == creating
				}))
			}),
			must: both(
				"DeleteNodes takes a machine that never registered", "DeleteNodes takes an order at once", "the target size of slow is 3 and not 2",
			),
		},
		"DeleteNodes passes over machines of other groups": {
			broken: remove(func(
				ctx context.Context, m *memory, q *externalgrpc.NodeGroupDeleteNodesRequest, _ deleted,
			) (*externalgrpc.NodeGroupDeleteNodesResponse, error) {
				return m.NodeGroupDeleteNodes(ctx, without(m, q, func(machine *memoryMachine, _ *externalgrpc.ExternalGrpcNode) bool {
					return machine != nil && machine.group != q.GetId()
				}))
			}),
			must: both(
				"DeleteNodes refuses a node of another group", "DeleteNodes refuses a machine of another group that has no labels",
				"was not refused",
			),
		},
		"DeleteNodes goes by labels": {
			broken: remove(func(
				ctx context.Context, m *memory, q *externalgrpc.NodeGroupDeleteNodesRequest, _ deleted,
			) (*externalgrpc.NodeGroupDeleteNodesResponse, error) {
				return m.NodeGroupDeleteNodes(ctx, without(m, q, func(machine *memoryMachine, node *externalgrpc.ExternalGrpcNode) bool {
					return machine != nil && machine.group != q.GetId() && node.GetLabels()[labelGroup] == ""
				}))
			}),
			must: must{"DeleteNodes refuses a machine of another group that has no labels": "was not refused"},
		},
		"DeleteNodes refuses the rest after it has begun": {
			broken: remove(func(
				ctx context.Context, m *memory, q *externalgrpc.NodeGroupDeleteNodesRequest, _ deleted,
			) (*externalgrpc.NodeGroupDeleteNodesResponse, error) {
				for _, node := range q.GetNodes() {
					if _, err := m.NodeGroupDeleteNodes(
						ctx, &externalgrpc.NodeGroupDeleteNodesRequest{Id: q.GetId(), Nodes: []*externalgrpc.ExternalGrpcNode{node}},
					); err != nil {
						return nil, err
					}
				}
				return grantDelete()
			}),
			must: both(
				"DeleteNodes refuses a node of another group", "DeleteNodes refuses a machine of another group that has no labels",
				"yet changed something",
			),
		},

		// Messages.
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

// TestBroken: a server that breaks a rule fails the cases of that rule, for that reason, and there is a broken server
// for each case.
func TestBroken(t *testing.T) {
	t.Parallel()
	cases := map[string]conformance.Case{}
	for _, c := range conformance.Cases() {
		if _, twice := cases[c.Name]; twice {
			t.Errorf("two cases are called %q", c.Name)
		}
		cases[c.Name] = c
	}
	failed := map[string]bool{}
	for name, v := range variants() {
		for caseName, part := range v.must {
			c, is := cases[caseName]
			if !is {
				t.Errorf("%s: there is no case %q", name, caseName)
				continue
			}
			failed[caseName] = true
			t.Run(name+"/"+caseName, func(t *testing.T) {
				t.Parallel()
				// It is soon certain that a broken server does not come round.
				err := c.Run(t.Context(), &conformance.Target{
					Conn: inMemory(t, newMemory(), v.broken, v.options...), Group: "fast", Second: "slow", Timeout: 2 * time.Second,
					Patience: 2 * time.Second,
				})
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("the case says %v, without %q", err, part)
				}
			})
		}
	}
	for _, c := range slices.Sorted(maps.Keys(cases)) {
		if !failed[c] {
			t.Errorf("no broken server fails the case %q", c)
		}
	}
}
