package conformance_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// methods are all of the service, in the order of its description.
var methods = externalgrpc.CloudProvider_ServiceDesc.Methods

// raw sends and receives bytes as they are, under the name of the codec that the server takes them for.
type raw struct{}

var _ encoding.Codec = raw{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(message any) ([]byte, error) {
	content, ok := message.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("%T are no bytes", message)
	}
	return *content, nil
}

func (raw) Unmarshal(content []byte, message any) error {
	into, ok := message.(*[]byte)
	if !ok {
		return fmt.Errorf("%T are no bytes", message)
	}
	*into = slices.Clone(content)
	return nil
}

// victim is a server that is sent what it should never get, with a group of two machines.
type victim struct {
	conn  *grpc.ClientConn
	group string
}

func newVictim(t testing.TB, group string) *victim {
	t.Helper()
	b := backends["kwok"]
	newPool(t, group, b.slow)
	provider := start(t)
	serverKeys, clientKeys := mutual(t)
	address := serve(t, serverKeys, func(r grpc.ServiceRegistrar) { externalgrpc.RegisterCloudProviderServer(r, provider) })
	v := &victim{conn: dial(t, address, clientKeys), group: group}
	known(t, provider, group)
	if _, err := provider.NodeGroupIncreaseSize(t.Context(), &externalgrpc.NodeGroupIncreaseSizeRequest{Id: group, Delta: 2}); err != nil {
		t.Fatal(err)
	}
	return v
}

// send sends bytes to a method and checks that the answer is one that a client can make something of, that a
// refusal has changed nothing, and that the group is still as it may be.
func (v *victim) send(t testing.TB, method string, content []byte) {
	t.Helper()
	before := v.look(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var answer []byte
	err := v.conn.Invoke(ctx, "/"+externalgrpc.CloudProvider_ServiceDesc.ServiceName+"/"+method, &content, &answer, grpc.ForceCodec(raw{}))
	after := v.look(t)
	switch status.Code(err) {
	case codes.OK, codes.InvalidArgument, codes.NotFound, codes.OutOfRange, codes.FailedPrecondition, codes.Unimplemented,
		codes.ResourceExhausted:
	case codes.Internal:
		// What is no message at all does not reach our code.
		if !strings.Contains(err.Error(), "unmarshal") {
			t.Errorf("%s of %.80q ended with %v", method, content, err)
		}
	default:
		t.Errorf("%s of %.80q ended with %v", method, content, err)
	}
	if err != nil && after.Spec.Replicas != before.Spec.Replicas {
		t.Errorf(
			"%s of %.80q was refused with %v, and the target went from %d to %d", method, content, err, before.Spec.Replicas, after.Spec.Replicas,
		)
	}
	if after.Spec.Replicas < 0 || after.Spec.Replicas > after.Spec.MaxSize || after.Spec.MaxSize != 5 || after.Spec.MinSize != 0 {
		t.Errorf(
			"after %s of %.80q the group has the target %d, of %d to %d", method, content, after.Spec.Replicas, after.Spec.MinSize,
			after.Spec.MaxSize,
		)
	}
	for _, name := range after.Spec.MachinesToDelete {
		if nodegroup.Number(v.group, name) < 0 {
			t.Errorf("after %s of %.80q the machine %q is to be deleted, which is none of the group's", method, content, name)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

func (v *victim) look(t testing.TB) *v1alpha1.NodePool {
	t.Helper()
	p := &v1alpha1.NodePool{}
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Name: v.group}, p); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestMalformedRequests sends a thousand requests that no Cluster Autoscaler would, the same in every run, over mutual
// TLS. It is not parallel: two providers would do each other's work.
func TestMalformedRequests(t *testing.T) {
	if cluster.Client == nil {
		t.Skip("CLOUD_PROVIDER_ADDRESS is set, so there is no control plane")
	}
	v := newVictim(t, "malformed")
	chance := rand.New(rand.NewPCG(1, 2))
	sent := map[string]int{}
	for range 1000 {
		method, content := v.malformed(t, chance)
		v.send(t, method, content)
		sent[method]++
	}
	if len(sent) != len(methods) {
		t.Errorf("only these methods were called: %v", sent)
	}
	// It is well, and does as it is told.
	service := externalgrpc.NewCloudProviderClient(v.conn)
	if _, err := service.Refresh(t.Context(), &externalgrpc.RefreshRequest{}); err != nil {
		t.Errorf("Refresh afterwards: %v", err)
	}
	before := v.look(t).Spec.Replicas
	if before == 5 {
		if _, err := service.NodeGroupDecreaseTargetSize(
			t.Context(), &externalgrpc.NodeGroupDecreaseTargetSizeRequest{Id: v.group, Delta: -1},
		); err != nil {
			t.Errorf("DecreaseTargetSize afterwards: %v", err)
		}
		before--
	}
	if _, err := service.NodeGroupIncreaseSize(t.Context(), &externalgrpc.NodeGroupIncreaseSizeRequest{Id: v.group, Delta: 1}); err != nil {
		t.Errorf("IncreaseSize afterwards: %v", err)
	}
	if got := v.look(t).Spec.Replicas; got != before+1 {
		t.Errorf("IncreaseSize by 1 afterwards brought the target from %d to %d", before, got)
	}
}

// FuzzRequests looks for requests that the server cannot bear: go test -fuzz FuzzRequests -parallel 1 ./test/parts/conformance
// Those in testdata are sent in every run of the tests.
func FuzzRequests(f *testing.F) {
	if cluster.Client == nil {
		f.Skip("CLOUD_PROVIDER_ADDRESS is set, so there is no control plane")
	}
	v := newVictim(f, "fuzzed")
	for i := range methods {
		f.Add(uint8(i), []byte{})
	}
	f.Fuzz(func(t *testing.T, method uint8, content []byte) {
		v.send(t, methods[int(method)%len(methods)].MethodName, content)
	})
}

// malformed is a request that is wrong in one of many ways.
func (v *victim) malformed(t testing.TB, chance *rand.Rand) (method string, content []byte) {
	t.Helper()
	random := func(most int) []byte {
		out := make([]byte, chance.IntN(most))
		for i := range out {
			out[i] = byte(chance.Uint32())
		}
		return out
	}
	encoded := func(message proto.Message) []byte {
		content, err := proto.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	method = methods[chance.IntN(len(methods))].MethodName
	switch chance.IntN(4) {
	case 0:
		return method, random(200)
	case 1: // A message of another method.
		made := absurd(v.group, chance)
		return method, encoded(made[slices.Sorted(maps.Keys(made))[chance.IntN(len(made))]])
	}
	made := absurd(v.group, chance)
	message := made[method]
	if message == nil {
		return method, random(50)
	}
	content = encoded(message)
	if chance.IntN(3) == 0 && len(content) > 0 { // Damaged on its way.
		for range 1 + chance.IntN(4) {
			content[chance.IntN(len(content))] = byte(chance.Uint32())
		}
		content = content[:chance.IntN(len(content)+1)]
	}
	return method, content
}

// absurd are requests of the right form, by method, with values that cannot be.
func absurd(group string, chance *rand.Rand) map[string]proto.Message {
	pick := func(values ...string) string { return values[chance.IntN(len(values))] }
	id := pick(group, group, group, "", "nowhere", group+"/status", "../"+group, strings.Repeat("x", 1<<16), "\x00", "ünïcode")
	delta := []int32{0, -1, 1 << 20, math.MaxInt32, math.MinInt32, -5, 6}[chance.IntN(7)]
	var nodes []*externalgrpc.ExternalGrpcNode
	for range []int{0, 1, 3, 2000}[chance.IntN(4)] {
		nodes = append(nodes, &externalgrpc.ExternalGrpcNode{
			ProviderID: pick("", "kwok://", "kwok://"+group, "kwok://"+group+"/", "kwok://"+group+"/"+group+"-99999999999999999999",
				"kwok://"+group+"/-1",
				"kwok://"+group+"/"+group+"-7/x", "kwok://other/other-1", "aws:///instance", strings.Repeat("k", 1000)),
			Name:   pick("", group+"-0", strings.Repeat("n", 300)),
			Labels: map[string]string{v1alpha1.LabelNodePool: pick("", group, "other"), "": ""},
		})
	}
	stamp := func() *timestamppb.Timestamp {
		return []*timestamppb.Timestamp{
			nil, {Seconds: math.MaxInt64}, {Seconds: math.MinInt64}, {Nanos: -1}, {Nanos: math.MaxInt32}, timestamppb.New(time.Unix(0, 0)),
			timestamppb.New(time.Unix(1<<40, 0)),
		}[chance.IntN(7)]
	}
	pod := []byte(pick("", "\xff\xff\xff", "{}", strings.Repeat("\x0a", 500)))
	if chance.IntN(2) == 0 {
		// A quantity that is none, as bytes: Go would not make it.
		full, err := (&corev1.Pod{Spec: corev1.PodSpec{
			Containers:  []corev1.Container{{Name: "c"}},
			Tolerations: []corev1.Toleration{{Operator: "Sometimes", Effect: "Never"}}, NodeSelector: map[string]string{"": ""},
		}}).Marshal()
		if err == nil {
			pod = full
		}
	}
	var node *externalgrpc.ExternalGrpcNode
	if len(nodes) > 0 {
		node = nodes[0]
	}
	return map[string]proto.Message{
		"NodeGroupForNode":            &externalgrpc.NodeGroupForNodeRequest{Node: node},
		"NodeGroupTargetSize":         &externalgrpc.NodeGroupTargetSizeRequest{Id: id},
		"NodeGroupNodes":              &externalgrpc.NodeGroupNodesRequest{Id: id},
		"NodeGroupTemplateNodeInfo":   &externalgrpc.NodeGroupTemplateNodeInfoRequest{Id: id},
		"NodeGroupGetOptions":         &externalgrpc.NodeGroupAutoscalingOptionsRequest{Id: id},
		"NodeGroupIncreaseSize":       &externalgrpc.NodeGroupIncreaseSizeRequest{Id: id, Delta: delta},
		"NodeGroupDecreaseTargetSize": &externalgrpc.NodeGroupDecreaseTargetSizeRequest{Id: id, Delta: delta},
		"NodeGroupDeleteNodes":        &externalgrpc.NodeGroupDeleteNodesRequest{Id: id, Nodes: nodes},
		"PricingNodePrice":            &externalgrpc.PricingNodePriceRequest{Node: node, StartTimestamp: stamp(), EndTimestamp: stamp()},
		"PricingPodPrice":             &externalgrpc.PricingPodPriceRequest{PodBytes: pod, StartTimestamp: stamp(), EndTimestamp: stamp()},
	}
}
