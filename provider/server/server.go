// Package server answers Cluster Autoscaler: it translates between its external gRPC cloud provider and
// packages nodegroup and pool. It is the only place that knows status codes.
//
// Every answer comes from memory. At 1000 nodes Cluster Autoscaler makes thousands of calls in a loop, one
// after the other, and gives each of them five seconds.
package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/pool"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
)

// gpuLabel is the node label that marks a node with an accelerator. Pools that have accelerators carry it
// in their template.
const gpuLabel = v1alpha1.Group + "/accelerator"

// CloudProvider serves Cluster Autoscaler. Embedding the Unsafe server makes a missing method fail to compile.
type CloudProvider struct {
	externalgrpc.UnsafeCloudProviderServer

	client   client.Client
	live     client.Reader
	observer *pool.Observer
	store    *record.Store
	events   events.EventRecorder
	log      logr.Logger
	clock    clock.PassiveClock

	metrics  *pool.Metrics
	pools    *recentPools
	announce *announcer
	// told is what NodeGroups has answered last, nil before its first answer.
	told atomic.Pointer[allPools]
	// targets are the target sizes that Cluster Autoscaler believes in.
	targets targets
	trust   func() error
	// begun is when the last Refresh was answered, nil since one was refused.
	begun atomic.Pointer[time.Time]
}

var _ externalgrpc.CloudProviderServer = (*CloudProvider)(nil)

// Options are what a CloudProvider works with.
type Options struct {
	// Client writes to the API server, Live reads from it, Cache holds the NodePools; it has not been started yet.
	Client client.Client
	Live   client.Reader
	Cache  cache.Cache
	// Observer is that of the NodePool reconciler.
	Observer *pool.Observer
	Events   events.EventRecorder
	Log      logr.Logger
	Clock    clock.PassiveClock
	// Metrics may be nil.
	Metrics *pool.Metrics
	// Trust is nil when the caches hold everything and are current, and says otherwise why they cannot be trusted.
	Trust func() error
}

// New returns a server. Its Announce has to run beside it.
func New(ctx context.Context, o Options) (*CloudProvider, error) {
	pools, err := newRecentPools(ctx, o.Cache)
	if err != nil {
		return nil, err
	}
	return &CloudProvider{
		client: o.Client, live: o.Live, observer: o.Observer, store: o.Observer.Store, events: o.Events, log: o.Log, clock: o.Clock,
		metrics: o.Metrics, trust: o.Trust,
		pools:    pools,
		announce: newAnnouncer(o.Client, o.Log),
	}, nil
}

// beginsWithin is how long after Refresh Cluster Autoscaler asks for the groups in the same loop, at most.
const beginsWithin = 10 * time.Second

// Refresh fails when NodeGroups would: Cluster Autoscaler skips a loop whose Refresh failed, but takes an
// error of NodeGroups to mean that there are no groups.
func (s *CloudProvider) Refresh(context.Context, *externalgrpc.RefreshRequest) (*externalgrpc.RefreshResponse, error) {
	if err := s.trust(); err != nil {
		s.begun.Store(nil)
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	now := s.clock.Now()
	s.begun.Store(&now)
	return &externalgrpc.RefreshResponse{}, nil
}

// begins reports whether a loop has just begun, which is then not told that there are no groups.
func (s *CloudProvider) begins() bool {
	begun := s.begun.Load()
	return begun != nil && s.clock.Since(*begun) < beginsWithin
}

// Cleanup is called when Cluster Autoscaler ends. There is nothing to clean up.
func (s *CloudProvider) Cleanup(context.Context, *externalgrpc.CleanupRequest) (*externalgrpc.CleanupResponse, error) {
	return &externalgrpc.CleanupResponse{}, nil
}

// NodeGroups lists the pools that Cluster Autoscaler decides on, with their floors as minimum sizes.
func (s *CloudProvider) NodeGroups(_ context.Context, _ *externalgrpc.NodeGroupsRequest) (*externalgrpc.NodeGroupsResponse, error) {
	if err := s.trust(); err != nil && !s.begins() {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	all := s.pools.list()
	s.told.Store(all)
	s.announce.note(all.untold)
	return all.groups, nil
}

// NodeGroupForNode names the pool of a node, or none. A machine that is on order has its pool too, whether or
// not it is known yet: its id was told by NodeGroupNodes.
func (s *CloudProvider) NodeGroupForNode(
	ctx context.Context, request *externalgrpc.NodeGroupForNodeRequest,
) (*externalgrpc.NodeGroupForNodeResponse, error) {
	none := &externalgrpc.NodeGroupForNodeResponse{NodeGroup: &externalgrpc.NodeGroup{}}
	id := request.GetNode().GetProviderID()
	if id == "" {
		return none, nil
	}
	machine, name, err := s.store.Find(id)
	if err != nil {
		return nil, internal(err)
	}
	ordered := ""
	if machine == nil {
		var ours bool
		if name, ordered, ours = nodegroup.ParsePlaceholder(id); !ours {
			return none, nil
		}
	}
	p, err := s.pools.get(name)
	switch {
	case apierrors.IsNotFound(err):
		return none, nil
	case err != nil:
		return nil, internal(err)
	case !decided(p):
		return none, nil
	}
	if machine == nil {
		group, err := s.observer.Machines(ctx, p, record.Cached)
		if err != nil {
			return nil, internal(err)
		}
		if !slices.Contains(group.Pending(), nodegroup.Number(name, ordered)) {
			return none, nil
		}
	}
	return &externalgrpc.NodeGroupForNodeResponse{NodeGroup: nodeGroup(p)}, nil
}

// decided reports whether Cluster Autoscaler decides on a pool. One that is being deleted is none of its groups any
// more: it would be told to add nodes there.
func decided(p *v1alpha1.NodePool) bool {
	return p.Spec.Autoscaler != v1alpha1.AutoscalerNone && p.DeletionTimestamp == nil
}

func nodeGroup(p *v1alpha1.NodePool) *externalgrpc.NodeGroup {
	group := pool.GroupOf(p)
	out := &externalgrpc.NodeGroup{Id: p.Name, MinSize: group.MinSizeToTell(), MaxSize: group.MaxSizeToTell()}
	if p.Status.Floor > 0 {
		// Cluster Autoscaler logs this. It is short because a list of all groups has it a thousand times.
		out.Debug = fmt.Sprintf("floor %d for members", p.Status.Floor)
	}
	return out
}

// NodeGroupTargetSize is spec.replicas.
func (s *CloudProvider) NodeGroupTargetSize(
	_ context.Context, request *externalgrpc.NodeGroupTargetSizeRequest,
) (*externalgrpc.NodeGroupTargetSizeResponse, error) {
	p, err := s.pool(request.GetId())
	if err != nil {
		return nil, err
	}
	s.targets.of(p.Name).tell(p.Spec.Replicas)
	return &externalgrpc.NodeGroupTargetSizeResponse{TargetSize: p.Spec.Replicas}, nil
}

// NodeGroupNodes lists the machines of a pool, and those that the target calls for and whose order is
// about to be recorded: Cluster Autoscaler wants to see an ordered machine at once.
func (s *CloudProvider) NodeGroupNodes(
	ctx context.Context, request *externalgrpc.NodeGroupNodesRequest,
) (*externalgrpc.NodeGroupNodesResponse, error) {
	p, err := s.pool(request.GetId())
	if err != nil {
		return nil, err
	}
	group, err := s.observer.Machines(ctx, p, record.Cached)
	if err != nil {
		return nil, internal(err)
	}
	response := &externalgrpc.NodeGroupNodesResponse{}
	for _, i := range group.Instances(s.clock.Now()) {
		response.Instances = append(response.Instances, instance(i))
	}
	return response, nil
}

// errorClasses are the numbers that Cluster Autoscaler has for classes of failures.
var errorClasses = map[v1alpha1.FailureClass]int32{v1alpha1.FailureOutOfResources: 1, v1alpha1.FailureOther: 99}

// states are the states of an instance in Cluster Autoscaler's numbers.
var states = [...]externalgrpc.InstanceStatus_InstanceState{
	nodegroup.InstanceRunning:  externalgrpc.InstanceStatus_instanceRunning,
	nodegroup.InstanceCreating: externalgrpc.InstanceStatus_instanceCreating,
	nodegroup.InstanceDeleting: externalgrpc.InstanceStatus_instanceDeleting,
}

func instance(i nodegroup.Instance) *externalgrpc.Instance {
	out := &externalgrpc.Instance{Id: i.ProviderID, Status: &externalgrpc.InstanceStatus{InstanceState: states[i.State]}}
	if i.Failure != nil {
		out.Status.ErrorInfo = &externalgrpc.InstanceErrorInfo{
			ErrorCode: i.Failure.Code, ErrorMessage: i.Failure.Message, InstanceErrorClass: errorClasses[i.Failure.Class],
		}
	}
	return out
}

// NodeGroupTemplateNodeInfo is the node that the pool would add.
func (s *CloudProvider) NodeGroupTemplateNodeInfo(
	_ context.Context, request *externalgrpc.NodeGroupTemplateNodeInfoRequest,
) (*externalgrpc.NodeGroupTemplateNodeInfoResponse, error) {
	p, err := s.pool(request.GetId())
	if err != nil {
		return nil, err
	}
	node, err := nodegroup.TemplateNode(p).Marshal()
	if err != nil {
		return nil, internal(fmt.Errorf("marshal the template node of %s: %w", p.Name, err))
	}
	return &externalgrpc.NodeGroupTemplateNodeInfoResponse{LegacyNodeInfo: node, NodeBytes: node}, nil
}

// NodeGroupGetOptions stays unimplemented. The message has no field for the time that a node may take to
// start, so any answer sets it to zero in Cluster Autoscaler from 1.35 on: fresh nodes then count as
// unready and it scales up twice (kubernetes/autoscaler issue 10245). Unimplemented means its defaults.
func (s *CloudProvider) NodeGroupGetOptions(
	context.Context, *externalgrpc.NodeGroupAutoscalingOptionsRequest,
) (*externalgrpc.NodeGroupAutoscalingOptionsResponse, error) {
	return nil, status.Error(codes.Unimplemented, "options are those of Cluster Autoscaler itself")
}

// GPULabel is the label that marks nodes with an accelerator.
func (s *CloudProvider) GPULabel(context.Context, *externalgrpc.GPULabelRequest) (*externalgrpc.GPULabelResponse, error) {
	return &externalgrpc.GPULabelResponse{Label: gpuLabel}, nil
}

// GetAvailableGPUTypes lists the values of the GPU label in the templates of the pools.
func (s *CloudProvider) GetAvailableGPUTypes(
	context.Context, *externalgrpc.GetAvailableGPUTypesRequest,
) (*externalgrpc.GetAvailableGPUTypesResponse, error) {
	return s.pools.list().gpus, nil
}

// pool is the pool of that name, or a status error.
func (s *CloudProvider) pool(name string) (*v1alpha1.NodePool, error) {
	p, err := s.pools.get(name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, status.Errorf(codes.NotFound, "there is no NodePool %q", name)
	case err != nil:
		return nil, internal(err)
	}
	return p, nil
}

func internal(err error) error { return status.Error(codes.Internal, err.Error()) }

// statusOf translates the error of a request that was to change something.
func statusOf(err error) error {
	var refusal *nodegroup.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal):
		return status.Error(map[nodegroup.RefusalKind]codes.Code{
			nodegroup.Malformed:  codes.InvalidArgument,
			nodegroup.OutOfRange: codes.OutOfRange,
			nodegroup.Forbidden:  codes.FailedPrecondition,
		}[refusal.Kind], refusal.Message)
	case apierrors.IsNotFound(err):
		return status.Error(codes.NotFound, err.Error())
	case apierrors.IsConflict(err):
		return status.Error(codes.Aborted, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	default:
		return internal(err)
	}
}

// writeTimeout bounds a request that writes where the client has set no deadline of its own. Cluster
// Autoscaler's is five seconds.
const writeTimeout = 5 * time.Second
