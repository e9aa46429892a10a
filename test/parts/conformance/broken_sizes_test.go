package conformance_test

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/proto" // The codec that one broken server wraps.
	"google.golang.org/grpc/status"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

// brokenSizes are servers that count and resize wrongly.
func brokenSizes() map[string]variant {
	return map[string]variant{
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
	}
}

// brokenRepairs are servers that Cluster Autoscaler cannot repair.
func brokenRepairs() map[string]variant {
	return map[string]variant{
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
	}
}
