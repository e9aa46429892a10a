package conformance_test

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/proto" // The codec that one broken server wraps.
	"google.golang.org/grpc/status"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

// brokenDeletion are servers that delete wrongly.
func brokenDeletion() map[string]variant {
	return map[string]variant{
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
	}
}
