package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

// start is the time at which every test begins.
var start = time.Unix(1_700_000_000, 0)

// fakeGroup is a group of the fake provider.
type fakeGroup struct {
	min, max, target int
	template         *corev1.Node
	instances        []*externalgrpc.Instance
}

// fakeProvider is a provider in memory that notes each call and fails where it is told to.
type fakeProvider struct {
	externalgrpc.UnimplementedCloudProviderServer

	mu      sync.Mutex
	groups  map[string]*fakeGroup
	calls   []string
	failing map[string]error                          // by call
	options *externalgrpc.NodeGroupAutoscalingOptions // nil: GetOptions is not implemented
}

// note records a call and returns the error that it is to fail with.
func (f *fakeProvider) note(name string, details ...any) error {
	f.calls = append(f.calls, strings.TrimSpace(name+" "+strings.TrimSuffix(fmt.Sprintln(details...), "\n")))
	return f.failing[name]
}

// taken are the calls since the last time it was asked.
func (f *fakeProvider) taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

// writes are the calls since the last time it was asked that change something.
func (f *fakeProvider) writes() []string {
	return slices.DeleteFunc(f.taken(), func(call string) bool {
		return !strings.HasPrefix(call, "IncreaseSize") && !strings.HasPrefix(call, "DeleteNodes") &&
			!strings.HasPrefix(call, "DecreaseTargetSize")
	})
}

// edit changes a group between or during loops.
func (f *fakeProvider) edit(group string, change func(*fakeGroup)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.groups[group])
}

func (f *fakeProvider) group(id string) (*fakeGroup, error) {
	if g := f.groups[id]; g != nil {
		return g, nil
	}
	return nil, status.Errorf(codes.NotFound, "no group %q", id)
}

func (f *fakeProvider) Refresh(context.Context, *externalgrpc.RefreshRequest) (*externalgrpc.RefreshResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &externalgrpc.RefreshResponse{}, f.note("Refresh")
}

func (f *fakeProvider) GPULabel(context.Context, *externalgrpc.GPULabelRequest) (*externalgrpc.GPULabelResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &externalgrpc.GPULabelResponse{}, f.note("GPULabel")
}

func (f *fakeProvider) wire(id string) *externalgrpc.NodeGroup {
	return &externalgrpc.NodeGroup{Id: id, MinSize: int32(f.groups[id].min), MaxSize: int32(f.groups[id].max)}
}

func (f *fakeProvider) NodeGroups(context.Context, *externalgrpc.NodeGroupsRequest) (*externalgrpc.NodeGroupsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	response := &externalgrpc.NodeGroupsResponse{}
	for _, id := range slices.Sorted(maps.Keys(f.groups)) {
		response.NodeGroups = append(response.NodeGroups, f.wire(id))
	}
	return response, f.note("NodeGroups")
}

// NodeGroupForNode finds the group in the provider ID, which is kwok://<group>/<name>.
func (f *fakeProvider) NodeGroupForNode(
	_ context.Context, r *externalgrpc.NodeGroupForNodeRequest,
) (*externalgrpc.NodeGroupForNodeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.note("NodeGroupForNode", r.GetNode().GetName())
	id, _, _ := strings.Cut(strings.TrimPrefix(r.GetNode().GetProviderID(), "kwok://"), "/")
	if f.groups[id] == nil {
		return &externalgrpc.NodeGroupForNodeResponse{NodeGroup: &externalgrpc.NodeGroup{}}, err
	}
	return &externalgrpc.NodeGroupForNodeResponse{NodeGroup: f.wire(id)}, err
}

func (f *fakeProvider) NodeGroupTargetSize(
	_ context.Context, r *externalgrpc.NodeGroupTargetSizeRequest,
) (*externalgrpc.NodeGroupTargetSizeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, err := f.group(r.GetId())
	if err != nil {
		return nil, err
	}
	return &externalgrpc.NodeGroupTargetSizeResponse{TargetSize: int32(g.target)}, f.note("TargetSize", r.GetId())
}

func (f *fakeProvider) NodeGroupIncreaseSize(
	_ context.Context, r *externalgrpc.NodeGroupIncreaseSizeRequest,
) (*externalgrpc.NodeGroupIncreaseSizeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.note("IncreaseSize", r.GetId(), r.GetDelta()); err != nil {
		return nil, err
	}
	g, err := f.group(r.GetId())
	if err != nil {
		return nil, err
	}
	g.target += int(r.GetDelta())
	return &externalgrpc.NodeGroupIncreaseSizeResponse{}, nil
}

func (f *fakeProvider) NodeGroupDecreaseTargetSize(
	_ context.Context, r *externalgrpc.NodeGroupDecreaseTargetSizeRequest,
) (*externalgrpc.NodeGroupDecreaseTargetSizeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, err := f.group(r.GetId())
	if err != nil {
		return nil, err
	}
	g.target += int(r.GetDelta())
	return &externalgrpc.NodeGroupDecreaseTargetSizeResponse{}, f.note("DecreaseTargetSize", r.GetId(), r.GetDelta())
}

func (f *fakeProvider) NodeGroupDeleteNodes(
	_ context.Context, r *externalgrpc.NodeGroupDeleteNodesRequest,
) (*externalgrpc.NodeGroupDeleteNodesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for _, node := range r.GetNodes() {
		names = append(names, node.GetName())
	}
	if err := f.note("DeleteNodes", r.GetId(), strings.Join(names, ",")); err != nil {
		return nil, err
	}
	g, err := f.group(r.GetId())
	if err != nil {
		return nil, err
	}
	for _, node := range r.GetNodes() {
		g.target--
		g.instances = slices.DeleteFunc(g.instances, func(i *externalgrpc.Instance) bool { return i.GetId() == node.GetProviderID() })
	}
	return &externalgrpc.NodeGroupDeleteNodesResponse{}, nil
}

func (f *fakeProvider) NodeGroupNodes(
	_ context.Context, r *externalgrpc.NodeGroupNodesRequest,
) (*externalgrpc.NodeGroupNodesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, err := f.group(r.GetId())
	if err != nil {
		return nil, err
	}
	return &externalgrpc.NodeGroupNodesResponse{Instances: slices.Clone(g.instances)}, f.note("Nodes", r.GetId())
}

func (f *fakeProvider) NodeGroupTemplateNodeInfo(
	_ context.Context, r *externalgrpc.NodeGroupTemplateNodeInfoRequest,
) (*externalgrpc.NodeGroupTemplateNodeInfoResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, err := f.group(r.GetId())
	if err != nil {
		return nil, err
	}
	if err := f.note("TemplateNodeInfo", r.GetId()); err != nil {
		return nil, err
	}
	content, err := g.template.Marshal()
	return &externalgrpc.NodeGroupTemplateNodeInfoResponse{NodeBytes: content}, err
}

func (f *fakeProvider) NodeGroupGetOptions(
	_ context.Context, r *externalgrpc.NodeGroupAutoscalingOptionsRequest,
) (*externalgrpc.NodeGroupAutoscalingOptionsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.note("GetOptions", r.GetId())
	if f.options == nil {
		return nil, status.Error(codes.Unimplemented, "no options")
	}
	return &externalgrpc.NodeGroupAutoscalingOptionsResponse{NodeGroupAutoscalingOptions: f.options}, err
}

func (f *fakeProvider) Cleanup(context.Context, *externalgrpc.CleanupRequest) (*externalgrpc.CleanupResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &externalgrpc.CleanupResponse{}, f.note("Cleanup")
}

// fakeCluster holds nodes and pods.
type fakeCluster struct {
	nodes map[string]*corev1.Node
	pods  map[string]*corev1.Pod
}

func (c *fakeCluster) Nodes() ([]*corev1.Node, error) {
	return slices.SortedFunc(maps.Values(c.nodes), func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) }), nil
}

func (c *fakeCluster) Pods() ([]*corev1.Pod, error) {
	return slices.SortedFunc(maps.Values(c.pods), func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) }), nil
}

func (c *fakeCluster) AddTaint(_ context.Context, name string, taint corev1.Taint) error {
	if node := c.nodes[name]; node != nil {
		node.Spec.Taints = append(without(node.Spec.Taints, taint.Key), taint)
	}
	return nil
}

func (c *fakeCluster) RemoveTaint(_ context.Context, name, key string) error {
	if node := c.nodes[name]; node != nil {
		node.Spec.Taints = without(node.Spec.Taints, key)
	}
	return nil
}

// taints are the keys of the taints of a node.
func (c *fakeCluster) taints(name string) []string {
	var keys []string
	for _, taint := range c.nodes[name].Spec.Taints {
		keys = append(keys, taint.Key)
	}
	return keys
}

// world is an autoscaler with a fake provider and a fake cluster, and the time.
type world struct {
	t          *testing.T
	provider   *fakeProvider
	cluster    *fakeCluster
	autoscaler *autoscaler
	now        time.Time
}

// newWorld has the groups hpc-a and hpc-b of at most 10 nodes with 4 cores, all empty. The arguments are
// flags of the autoscaler.
func newWorld(t *testing.T, args ...string) *world {
	t.Helper()
	w := &world{
		t:        t,
		provider: &fakeProvider{groups: map[string]*fakeGroup{}, failing: map[string]error{}},
		cluster:  &fakeCluster{nodes: map[string]*corev1.Node{}, pods: map[string]*corev1.Pod{}},
		now:      start,
	}
	for _, id := range []string{"hpc-a", "hpc-b"} {
		w.provider.groups[id] = &fakeGroup{max: 10, template: newNode(id, "template", true)}
	}
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	externalgrpc.RegisterCloudProviderServer(server, w.provider)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	connection, err := grpc.NewClient("passthrough:///fake", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := connection.Close(); err != nil {
			t.Errorf("closing the connection: %v", err)
		}
	})
	options, ignored, err := parseFlags(append([]string{"--cloud-config=unused", "--enforce-node-group-min-size"}, args...), t.Output())
	if err != nil || len(ignored) > 0 {
		t.Fatalf("parsing %v: %v, ignored %v", args, err, ignored)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	w.autoscaler = newAutoscaler(options, newProvider(connection, 5*time.Second, log), w.cluster, log)
	return w
}

// pass runs one loop after a time and returns its changes.
func (w *world) pass(after time.Duration) []string {
	w.t.Helper()
	w.now = w.now.Add(after)
	w.provider.taken()
	if err := w.autoscaler.runOnce(w.t.Context(), w.now); err != nil {
		w.t.Logf("loop ended with %v", err)
	}
	return w.provider.writes()
}

// want compares the changes of a pass.
func (w *world) want(got []string, want ...string) {
	w.t.Helper()
	if !slices.Equal(got, want) {
		w.t.Errorf("changes %q, want %q", got, want)
	}
}

// join adds a node to a group, with its machine, as part of the target.
func (w *world) join(group, name string, ready bool) *corev1.Node {
	node := newNode(group, name, ready)
	node.CreationTimestamp = metav1.NewTime(w.now)
	w.cluster.nodes[node.Name] = node
	w.provider.edit(group, func(g *fakeGroup) {
		g.instances = append(g.instances, &externalgrpc.Instance{
			Id:     node.Spec.ProviderID,
			Status: &externalgrpc.InstanceStatus{InstanceState: externalgrpc.InstanceStatus_instanceRunning},
		})
	})
	return node
}

func newNode(group, name string, ready bool) *corev1.Node {
	readiness := corev1.ConditionFalse
	if ready {
		readiness = corev1.ConditionTrue
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: group + "-" + name, Labels: map[string]string{"pool": group}},
		Spec:       corev1.NodeSpec{ProviderID: "kwok://" + group + "/" + group + "-" + name},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{
				corev1.ResourceCPU:  resource.MustParse("4"),
				corev1.ResourcePods: resource.MustParse("110"),
			},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: readiness}},
		},
	}
}

// newPod is a pod that wants cores; pool, if not empty, is its node selector.
func newPod(name, cores, pool string) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", CreationTimestamp: metav1.NewTime(start.Add(-time.Minute))},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cores)}},
		}}},
	}
	if pool != "" {
		pod.Spec.NodeSelector = map[string]string{"pool": pool}
	}
	return pod
}

// pend adds an unschedulable pod.
func (w *world) pend(pod *corev1.Pod) {
	pod.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
	}}
	w.cluster.pods[pod.Name] = pod
}

// bind adds a pod that runs on a node.
func (w *world) bind(pod *corev1.Pod, node *corev1.Node) {
	pod.Spec.NodeName = node.Name
	w.cluster.pods[pod.Name] = pod
}
