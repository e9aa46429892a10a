package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

const (
	// defaultTimeout of one call, when the cloud config names none.
	defaultTimeout = 5 * time.Second
	// instancesKeptFor is how long an answer of Nodes is used again, unless the group is being scaled.
	instancesKeptFor = 2 * time.Minute
)

// cloudConfig is the file that --cloud-config names.
type cloudConfig struct {
	Address     string           `json:"address"`
	Key         string           `json:"key"`
	Cert        string           `json:"cert"`
	CACert      string           `json:"cacert"`
	GRPCTimeout *metav1.Duration `json:"grpc_timeout"`
}

// dial makes the connection that the cloud config in path describes: with mutual TLS when it names a
// certificate, in the clear otherwise. The name checked is the host of the address. The files are read
// once, and nothing is sent yet.
func dial(path string) (*grpc.ClientConn, time.Duration, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, err
	}
	var config cloudConfig
	if err := yaml.Unmarshal(text, &config); err != nil {
		return nil, 0, fmt.Errorf("parsing YAML: %w", err)
	}
	host, _, err := net.SplitHostPort(config.Address)
	if err != nil {
		return nil, 0, fmt.Errorf("address %q is not host:port: %w", config.Address, err)
	}
	transport := insecure.NewCredentials()
	if config.Cert != "" {
		pair, err := tls.LoadX509KeyPair(config.Cert, config.Key)
		if err != nil {
			return nil, 0, fmt.Errorf("loading cert %q and key %q: %w", config.Cert, config.Key, err)
		}
		authority, err := os.ReadFile(config.CACert)
		if err != nil {
			return nil, 0, fmt.Errorf("reading cacert: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(authority) {
			return nil, 0, fmt.Errorf("cacert %q holds no PEM certificate", config.CACert)
		}
		transport = credentials.NewTLS(&tls.Config{ServerName: host, Certificates: []tls.Certificate{pair}, RootCAs: pool})
	}
	connection, err := grpc.NewClient(config.Address, grpc.WithTransportCredentials(transport))
	if err != nil {
		return nil, 0, fmt.Errorf("address %q: %w", config.Address, err)
	}
	timeout := defaultTimeout
	if config.GRPCTimeout != nil {
		timeout = config.GRPCTimeout.Duration
	}
	return connection, timeout, nil
}

// nodeGroup is a group as the provider told it after a Refresh. Its minimum and maximum size are of that
// moment.
type nodeGroup struct {
	id       string
	min, max int
}

// instance is a machine of a group as the provider lists it.
type instance struct {
	id    string
	state externalgrpc.InstanceStatus_InstanceState
	// failure is set for a machine that could not be made.
	failure *failure
}

// failure is why a machine or a scale-up failed.
type failure struct {
	class         int32
	code, message string
}

// nodeOptions are the settings that a provider may set for each group.
type nodeOptions struct {
	unneededTime, unreadyTime, provisionTime, startupTime time.Duration
}

// provider is the client of the provider with Cluster Autoscaler's caches. It is for one goroutine.
type provider struct {
	client  externalgrpc.CloudProviderClient
	timeout time.Duration
	log     *slog.Logger

	groups      []nodeGroup          // until refresh
	groupsKnown bool                 // groups is an answer, possibly an empty one
	forNode     map[string]nodeGroup // until refresh; by name and provider ID; no empty answers
	gpuLabel    *string              // for good
	instances   map[string]instanceList
}

type instanceList struct {
	list []instance
	at   time.Time
}

func newProvider(connection grpc.ClientConnInterface, timeout time.Duration, log *slog.Logger) *provider {
	return &provider{
		client:    externalgrpc.NewCloudProviderClient(connection),
		timeout:   timeout,
		log:       log,
		forNode:   map[string]nodeGroup{},
		instances: map[string]instanceList{},
	}
}

// call makes one call with the timeout of the cloud config and names the call in its error.
func call[Request, Response any](ctx context.Context, p *provider, name string,
	method func(context.Context, Request, ...grpc.CallOption) (Response, error), request Request,
) (Response, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	response, err := method(ctx, request)
	if err != nil {
		return response, fmt.Errorf("%s: %w", name, err)
	}
	return response, nil
}

// refresh forgets groups and nodes and has the provider bring itself up to date. On an error the whole
// loop is skipped.
func (p *provider) refresh(ctx context.Context) error {
	p.groups, p.groupsKnown, p.forNode = nil, false, map[string]nodeGroup{}
	_, err := call(ctx, p, "Refresh", p.client.Refresh, &externalgrpc.RefreshRequest{})
	return err
}

// nodeGroups are the groups of the provider. An error is taken as an answer without groups, and is not
// cached.
func (p *provider) nodeGroups(ctx context.Context) []nodeGroup {
	if p.groupsKnown {
		return p.groups
	}
	response, err := call(ctx, p, "NodeGroups", p.client.NodeGroups, &externalgrpc.NodeGroupsRequest{})
	if err != nil {
		p.log.Error("taken as no groups", "error", err)
		return nil
	}
	p.groupsKnown = true
	for _, g := range response.GetNodeGroups() {
		p.groups = append(p.groups, nodeGroup{id: g.GetId(), min: int(g.GetMinSize()), max: int(g.GetMaxSize())})
	}
	return p.groups
}

// group is the group with an ID.
func (p *provider) group(ctx context.Context, id string) (nodeGroup, bool) {
	for _, g := range p.nodeGroups(ctx) {
		if g.id == id {
			return g, true
		}
	}
	return nodeGroup{}, false
}

// nodeGroupForNode is the group of a node; false: the node belongs to none.
func (p *provider) nodeGroupForNode(ctx context.Context, node *corev1.Node) (nodeGroup, bool, error) {
	key := node.Name + node.Spec.ProviderID
	if g, found := p.forNode[key]; found {
		return g, true, nil
	}
	response, err := call(ctx, p, "NodeGroupForNode", p.client.NodeGroupForNode,
		&externalgrpc.NodeGroupForNodeRequest{Node: wireNode(node)})
	if err != nil {
		return nodeGroup{}, false, err
	}
	answer := response.GetNodeGroup()
	if answer.GetId() == "" {
		return nodeGroup{}, false, nil
	}
	g := nodeGroup{id: answer.GetId(), min: int(answer.GetMinSize()), max: int(answer.GetMaxSize())}
	p.forNode[key] = g
	return g, true, nil
}

// targetSize is asked live each time.
func (p *provider) targetSize(ctx context.Context, group string) (int, error) {
	response, err := call(ctx, p, "NodeGroupTargetSize", p.client.NodeGroupTargetSize, &externalgrpc.NodeGroupTargetSizeRequest{Id: group})
	return int(response.GetTargetSize()), err
}

func (p *provider) increaseSize(ctx context.Context, group string, delta int) error {
	_, err := call(ctx, p, "NodeGroupIncreaseSize", p.client.NodeGroupIncreaseSize,
		&externalgrpc.NodeGroupIncreaseSizeRequest{Id: group, Delta: int32(delta)})
	return err
}

// decreaseTargetSize takes back machines that have not come; delta is negative.
func (p *provider) decreaseTargetSize(ctx context.Context, group string, delta int) error {
	_, err := call(ctx, p, "NodeGroupDecreaseTargetSize", p.client.NodeGroupDecreaseTargetSize,
		&externalgrpc.NodeGroupDecreaseTargetSizeRequest{Id: group, Delta: int32(delta)})
	return err
}

func (p *provider) deleteNodes(ctx context.Context, group string, nodes ...*corev1.Node) error {
	request := &externalgrpc.NodeGroupDeleteNodesRequest{Id: group}
	for _, node := range nodes {
		request.Nodes = append(request.Nodes, wireNode(node))
	}
	_, err := call(ctx, p, "NodeGroupDeleteNodes", p.client.NodeGroupDeleteNodes, request)
	return err
}

// nodes are the machines of a group, from the cache when its answer is fresh enough.
func (p *provider) nodes(ctx context.Context, group string, now time.Time) ([]instance, error) {
	if cached, found := p.instances[group]; found && now.Sub(cached.at) < instancesKeptFor {
		return cached.list, nil
	}
	response, err := call(ctx, p, "NodeGroupNodes", p.client.NodeGroupNodes, &externalgrpc.NodeGroupNodesRequest{Id: group})
	if err != nil {
		return nil, err
	}
	list := []instance{}
	for _, i := range response.GetInstances() {
		entry := instance{id: i.GetId(), state: i.GetStatus().GetInstanceState()}
		if e := i.GetStatus().GetErrorInfo(); e.GetErrorCode() != "" {
			entry.failure = &failure{class: e.GetInstanceErrorClass(), code: e.GetErrorCode(), message: e.GetErrorMessage()}
		}
		list = append(list, entry)
	}
	p.instances[group] = instanceList{list: list, at: now}
	return list, nil
}

// forgetNodes makes the next call of nodes ask the provider.
func (p *provider) forgetNodes(group string) { delete(p.instances, group) }

// errNoTemplate: the provider has no template for a group, which can then not be scaled up.
var errNoTemplate = errors.New("group has no template")

// template is what a new node of a group looks like.
func (p *provider) template(ctx context.Context, group string) (*corev1.Node, error) {
	response, err := call(ctx, p, "NodeGroupTemplateNodeInfo", p.client.NodeGroupTemplateNodeInfo,
		&externalgrpc.NodeGroupTemplateNodeInfoRequest{Id: group})
	if status.Code(err) == codes.Unimplemented {
		return nil, errNoTemplate
	}
	if err != nil {
		return nil, err
	}
	if len(response.GetNodeBytes()) == 0 {
		return nil, fmt.Errorf("NodeGroupTemplateNodeInfo of %s: nodeBytes is empty, on which the real program crashes", group)
	}
	node := &corev1.Node{}
	if err := node.Unmarshal(response.GetNodeBytes()); err != nil {
		return nil, fmt.Errorf("decoding the template of %s: %w", group, err)
	}
	return node, nil
}

// options are the settings of a group: the defaults when the provider does not implement them or leaves
// them open, else the answer, which cannot carry a startup time.
func (p *provider) options(ctx context.Context, group string, defaults nodeOptions) (nodeOptions, error) {
	response, err := call(ctx, p, "NodeGroupGetOptions", p.client.NodeGroupGetOptions, &externalgrpc.NodeGroupAutoscalingOptionsRequest{
		Id: group,
		Defaults: &externalgrpc.NodeGroupAutoscalingOptions{
			ScaleDownUtilizationThreshold:    0.5,
			ScaleDownGpuUtilizationThreshold: 0.5,
			ScaleDownUnneededDuration:        durationpb.New(defaults.unneededTime),
			ScaleDownUnreadyDuration:         durationpb.New(defaults.unreadyTime),
			MaxNodeProvisionDuration:         durationpb.New(defaults.provisionTime),
		},
	})
	if status.Code(err) == codes.Unimplemented {
		return defaults, nil
	}
	if err != nil {
		return nodeOptions{}, err
	}
	answer := response.GetNodeGroupAutoscalingOptions()
	if answer == nil {
		return defaults, nil
	}
	return nodeOptions{
		unneededTime:  answer.GetScaleDownUnneededDuration().AsDuration(),
		unreadyTime:   answer.GetScaleDownUnreadyDuration().AsDuration(),
		provisionTime: answer.GetMaxNodeProvisionDuration().AsDuration(),
	}, nil
}

// askGPULabel asks until there is an answer, which is then kept for good. Nothing depends on it here.
func (p *provider) askGPULabel(ctx context.Context) {
	if p.gpuLabel != nil {
		return
	}
	response, err := call(ctx, p, "GPULabel", p.client.GPULabel, &externalgrpc.GPULabelRequest{})
	if err != nil {
		p.log.Error("taken as an empty label", "error", err)
		return
	}
	label := response.GetLabel()
	p.gpuLabel = &label
}

// cleanup tells the provider that the autoscaler ends.
func (p *provider) cleanup() {
	// The context of the program has ended by now.
	if _, err := call(context.Background(), p, "Cleanup", p.client.Cleanup, &externalgrpc.CleanupRequest{}); err != nil {
		p.log.Warn("provider not told of the end", "error", err)
	}
}

func wireNode(node *corev1.Node) *externalgrpc.ExternalGrpcNode {
	return &externalgrpc.ExternalGrpcNode{
		ProviderID:  node.Spec.ProviderID,
		Name:        node.Name,
		Labels:      node.Labels,
		Annotations: node.Annotations,
	}
}
