package conformance_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

// The states of machines.
const (
	creating = externalgrpc.InstanceStatus_instanceCreating
	running  = externalgrpc.InstanceStatus_instanceRunning
	deleting = externalgrpc.InstanceStatus_instanceDeleting
)

// memory is a small server that keeps every rule. It has no clock: a machine takes its next step when it has been
// listed, so that a test is as quick as its questions.
type memory struct {
	externalgrpc.UnsafeCloudProviderServer

	mu       sync.Mutex
	groups   map[string]*memoryGroup
	machines []*memoryMachine
	ordered  int
	// lapsed counts the times that a broken server has broken its rule, for one that does so only once.
	lapsed int
}

type memoryGroup struct {
	maxSize int32
	// slow is set where machines never run.
	slow bool
}

type memoryMachine struct {
	id, group string
	state     externalgrpc.InstanceStatus_InstanceState
	// listed is how often the machine has been listed in its state.
	listed int
}

// newMemory is a server with the groups fast and slow.
func newMemory() *memory {
	return &memory{groups: map[string]*memoryGroup{"fast": {maxSize: 5}, "slow": {maxSize: 7, slow: true}}}
}

// once reports true the first time.
func (m *memory) once() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lapsed++
	return m.lapsed == 1
}

// of are the machines of a group in any of the states. It is called with the lock held.
func (m *memory) of(group string, states ...externalgrpc.InstanceStatus_InstanceState) []*memoryMachine {
	var of []*memoryMachine
	for _, machine := range m.machines {
		if machine.group == group && slices.Contains(states, machine.state) {
			of = append(of, machine)
		}
	}
	return of
}

// forget removes machines as if they had never been. It is called with the lock held.
func (m *memory) forget(victims ...*memoryMachine) {
	m.machines = slices.DeleteFunc(m.machines, func(machine *memoryMachine) bool { return slices.Contains(victims, machine) })
}

// order makes machines. It is called with the lock held.
func (m *memory) order(group string, count int32) {
	for range count {
		m.ordered++
		m.machines = append(m.machines, &memoryMachine{id: fmt.Sprintf("memory://%s/%d", group, m.ordered), group: group, state: creating})
	}
}

func (m *memory) find(id string) *memoryMachine {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, machine := range m.machines {
		if machine.id == id {
			return machine
		}
	}
	return nil
}

func (m *memory) group(id string) (*memoryGroup, error) {
	if group := m.groups[id]; group != nil {
		return group, nil
	}
	return nil, status.Errorf(codes.NotFound, "there is no group %q", id)
}

func (m *memory) describe(id string) *externalgrpc.NodeGroup {
	return &externalgrpc.NodeGroup{Id: id, MaxSize: m.groups[id].maxSize}
}

func (*memory) Refresh(context.Context, *externalgrpc.RefreshRequest) (*externalgrpc.RefreshResponse, error) {
	return &externalgrpc.RefreshResponse{}, nil
}

func (*memory) Cleanup(context.Context, *externalgrpc.CleanupRequest) (*externalgrpc.CleanupResponse, error) {
	return &externalgrpc.CleanupResponse{}, nil
}

func (m *memory) NodeGroups(context.Context, *externalgrpc.NodeGroupsRequest) (*externalgrpc.NodeGroupsResponse, error) {
	return &externalgrpc.NodeGroupsResponse{NodeGroups: []*externalgrpc.NodeGroup{m.describe("fast"), m.describe("slow")}}, nil
}

func (m *memory) NodeGroupForNode(
	_ context.Context, request *externalgrpc.NodeGroupForNodeRequest,
) (*externalgrpc.NodeGroupForNodeResponse, error) {
	machine := m.find(request.GetNode().GetProviderID())
	if machine == nil {
		return &externalgrpc.NodeGroupForNodeResponse{NodeGroup: &externalgrpc.NodeGroup{}}, nil
	}
	return &externalgrpc.NodeGroupForNodeResponse{NodeGroup: m.describe(machine.group)}, nil
}

func (m *memory) NodeGroupTargetSize(
	_ context.Context, request *externalgrpc.NodeGroupTargetSizeRequest,
) (*externalgrpc.NodeGroupTargetSizeResponse, error) {
	if _, err := m.group(request.GetId()); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return &externalgrpc.NodeGroupTargetSizeResponse{TargetSize: int32(len(m.of(request.GetId(), creating, running)))}, nil
}

func (m *memory) NodeGroupNodes(
	_ context.Context, request *externalgrpc.NodeGroupNodesRequest,
) (*externalgrpc.NodeGroupNodesResponse, error) {
	group, err := m.group(request.GetId())
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	response := &externalgrpc.NodeGroupNodesResponse{}
	for _, machine := range m.of(request.GetId(), creating, running, deleting) {
		response.Instances = append(
			response.Instances, &externalgrpc.Instance{Id: machine.id, Status: &externalgrpc.InstanceStatus{InstanceState: machine.state}},
		)
		machine.listed++
		switch {
		case machine.listed < 3:
		case machine.state == deleting:
			m.forget(machine)
		case machine.state == creating && !group.slow:
			machine.state = running
		}
	}
	return response, nil
}

func (m *memory) NodeGroupIncreaseSize(
	_ context.Context, request *externalgrpc.NodeGroupIncreaseSizeRequest,
) (*externalgrpc.NodeGroupIncreaseSizeResponse, error) {
	group, err := m.group(request.GetId())
	if err != nil {
		return nil, err
	}
	if request.GetDelta() <= 0 {
		return nil, status.Errorf(codes.InvalidArgument, "delta is %d, not above 0", request.GetDelta())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if size := int64(len(m.of(request.GetId(), creating, running))) + int64(request.GetDelta()); size > int64(group.maxSize) {
		return nil, status.Errorf(codes.OutOfRange, "size %d is above maxSize %d", size, group.maxSize)
	}
	m.order(request.GetId(), request.GetDelta())
	return &externalgrpc.NodeGroupIncreaseSizeResponse{}, nil
}

func (m *memory) NodeGroupDecreaseTargetSize(
	_ context.Context, request *externalgrpc.NodeGroupDecreaseTargetSizeRequest,
) (*externalgrpc.NodeGroupDecreaseTargetSizeResponse, error) {
	if _, err := m.group(request.GetId()); err != nil {
		return nil, err
	}
	if request.GetDelta() >= 0 {
		return nil, status.Errorf(codes.InvalidArgument, "delta is %d, not below 0", request.GetDelta())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	orders := m.of(request.GetId(), creating)
	m.forget(orders[:min(int64(len(orders)), -int64(request.GetDelta()))]...)
	return &externalgrpc.NodeGroupDecreaseTargetSizeResponse{}, nil
}

func (m *memory) NodeGroupDeleteNodes(
	_ context.Context, request *externalgrpc.NodeGroupDeleteNodesRequest,
) (*externalgrpc.NodeGroupDeleteNodesResponse, error) {
	if _, err := m.group(request.GetId()); err != nil {
		return nil, err
	}
	var victims []*memoryMachine
	for _, node := range request.GetNodes() {
		machine := m.find(node.GetProviderID())
		switch {
		case machine == nil:
			// It is gone.
		case machine.group != request.GetId():
			return nil, status.Errorf(codes.InvalidArgument, "%s is of group %s", machine.id, machine.group)
		default:
			victims = append(victims, machine)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, machine := range victims {
		if machine.state != deleting {
			machine.state, machine.listed = deleting, 0
		}
	}
	return &externalgrpc.NodeGroupDeleteNodesResponse{}, nil
}

func (m *memory) NodeGroupTemplateNodeInfo(
	_ context.Context, request *externalgrpc.NodeGroupTemplateNodeInfoRequest,
) (*externalgrpc.NodeGroupTemplateNodeInfoResponse, error) {
	if _, err := m.group(request.GetId()); err != nil {
		return nil, err
	}
	return encodeTemplate(templateOf(request.GetId()))
}

// labelGroup is on the nodes of a group.
const labelGroup = "memory/group"

func templateOf(group string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: group + "-template", Labels: map[string]string{labelGroup: group}},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
				corev1.ResourcePods: resource.MustParse("110"),
			},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

func encodeTemplate(node *corev1.Node) (*externalgrpc.NodeGroupTemplateNodeInfoResponse, error) {
	encoded, err := node.Marshal()
	return &externalgrpc.NodeGroupTemplateNodeInfoResponse{LegacyNodeInfo: encoded, NodeBytes: encoded}, err
}

func (*memory) NodeGroupGetOptions(
	context.Context, *externalgrpc.NodeGroupAutoscalingOptionsRequest,
) (*externalgrpc.NodeGroupAutoscalingOptionsResponse, error) {
	return nil, status.Error(codes.Unimplemented, "there are no options")
}

func (*memory) GPULabel(context.Context, *externalgrpc.GPULabelRequest) (*externalgrpc.GPULabelResponse, error) {
	return &externalgrpc.GPULabelResponse{}, nil
}

func (*memory) GetAvailableGPUTypes(
	context.Context, *externalgrpc.GetAvailableGPUTypesRequest,
) (*externalgrpc.GetAvailableGPUTypesResponse, error) {
	return &externalgrpc.GetAvailableGPUTypesResponse{}, nil
}

// PricingNodePrice is one per hour for any node.
func (*memory) PricingNodePrice(
	_ context.Context, request *externalgrpc.PricingNodePriceRequest,
) (*externalgrpc.PricingNodePriceResponse, error) {
	hours, err := hoursOf(request)
	return &externalgrpc.PricingNodePriceResponse{Price: hours}, err
}

// PricingPodPrice is a tenth of that.
func (*memory) PricingPodPrice(
	_ context.Context, request *externalgrpc.PricingPodPriceRequest,
) (*externalgrpc.PricingPodPriceResponse, error) {
	content := request.GetPodBytes()
	if len(content) == 0 {
		content = request.GetLegacyPod()
	}
	pod := &corev1.Pod{}
	if err := pod.Unmarshal(content); err != nil || len(pod.Spec.Containers) == 0 {
		return nil, status.Error(codes.InvalidArgument, "there is no pod")
	}
	hours, err := hoursOf(request)
	return &externalgrpc.PricingPodPriceResponse{Price: hours / 10}, err
}

// priced is a request for a price.
type priced interface {
	GetStartTimestamp() *timestamppb.Timestamp
	GetEndTimestamp() *timestamppb.Timestamp
	GetLegacyStartTimestamp() []byte
	GetLegacyEndTimestamp() []byte
}

func hoursOf(request priced) (float64, error) {
	from, until := request.GetStartTimestamp().AsTime(), request.GetEndTimestamp().AsTime()
	for _, field := range []struct {
		content []byte
		into    *time.Time
	}{{request.GetLegacyStartTimestamp(), &from}, {request.GetLegacyEndTimestamp(), &until}} {
		if len(field.content) > 0 {
			var t metav1.Time
			if err := t.Unmarshal(field.content); err != nil {
				return 0, status.Error(codes.InvalidArgument, err.Error())
			}
			*field.into = t.Time
		}
	}
	return until.Sub(from).Hours(), nil
}
