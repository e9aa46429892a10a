package provider

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/pool"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// announce lets Cluster Autoscaler ask for the minimum sizes, and waits until that of the pool is recorded.
func announce(t *testing.T, p *process, name string) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		groups, err := p.server.NodeGroups(ctx, &externalgrpc.NodeGroupsRequest{})
		if err != nil {
			return "", err
		}
		var fresh v1alpha1.NodePool
		if err := cluster.Client.Get(ctx, client.ObjectKey{Name: name}, &fresh); err != nil {
			return "", err
		}
		for _, group := range groups.GetNodeGroups() {
			if group.GetId() == name && group.GetMinSize() == fresh.Status.Floor && group.GetMinSize() == fresh.Status.AnnouncedFloor {
				return "", nil
			}
		}
		return fmt.Sprintf("the floor of %s is %d and %d is recorded as told", name, fresh.Status.Floor, fresh.Status.AnnouncedFloor), nil
	})
}

// TestAnswers goes through the calls of a Cluster Autoscaler that looks at a pool of two nodes and one on order.
// It is not parallel: two providers would do each other's work.
func TestAnswers(t *testing.T) {
	const name = "answers"
	ctx := t.Context()
	price := resource.MustParse("0.50")
	newPool(t, name, v1alpha1.AutoscalerClusterAutoscaler, func(p *v1alpha1.NodePool) {
		p.Spec.Replicas, p.Spec.MinSize, p.Spec.PricePerHour = 2, 1, &price
		p.Spec.Template.Labels = map[string]string{"example.com/kind": "fast"}
	})
	newPool(t, name+"-own", v1alpha1.AutoscalerNone)
	p := start(t, -1)
	defer p.Stop()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		s, err := look(ctx, name)
		if err != nil {
			return "", err
		}
		return s.lacksNodes(2), nil
	})

	if _, err := p.server.Refresh(ctx, &externalgrpc.RefreshRequest{}); err != nil {
		t.Errorf("Refresh: %v", err)
	}
	groups, err := p.server.NodeGroups(ctx, &externalgrpc.NodeGroupsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	seen := ""
	for _, g := range groups.GetNodeGroups() {
		if strings.HasPrefix(g.GetId(), name) {
			seen += fmt.Sprintf("%s %d..%d ", g.GetId(), g.GetMinSize(), g.GetMaxSize())
		}
	}
	if want := name + " 1..5 "; seen != want {
		t.Errorf("NodeGroups: got %q, want %q: a pool without an autoscaler is none of its groups", seen, want)
	}

	node := &externalgrpc.ExternalGrpcNode{Name: name + "-0", ProviderID: "kwok://" + name + "/" + name + "-0"}
	for _, row := range []struct {
		node *externalgrpc.ExternalGrpcNode
		want string
	}{
		{node, name},
		{&externalgrpc.ExternalGrpcNode{Name: "control-plane", ProviderID: "cloud://7"}, ""},
		{&externalgrpc.ExternalGrpcNode{Name: "control-plane"}, ""},
	} {
		answer, err := p.server.NodeGroupForNode(ctx, &externalgrpc.NodeGroupForNodeRequest{Node: row.node})
		if err != nil || answer.GetNodeGroup() == nil || answer.GetNodeGroup().GetId() != row.want {
			t.Errorf("NodeGroupForNode of %s: %v, %v; want %q", row.node.GetName(), answer, err, row.want)
		}
		if row.want != "" && (answer.GetNodeGroup().GetMinSize() != 1 || answer.GetNodeGroup().GetMaxSize() != 5) {
			t.Errorf("NodeGroupForNode carries %v, not the bounds 1 and 5", answer.GetNodeGroup())
		}
	}

	template, err := p.server.NodeGroupTemplateNodeInfo(ctx, &externalgrpc.NodeGroupTemplateNodeInfoRequest{Id: name})
	if err != nil {
		t.Fatal(err)
	}
	for field, encoded := range map[string][]byte{
		"nodeBytes": template.GetNodeBytes(), "the field of old versions": template.GetLegacyNodeInfo(),
	} {
		var n corev1.Node
		if err := n.Unmarshal(encoded); err != nil || n.Labels["example.com/kind"] != "fast" || n.Labels[v1alpha1.LabelNodePool] != name ||
			n.Status.Allocatable.Cpu().String() != "4" {
			t.Errorf("TemplateNodeInfo, %s: %v, %v", field, n.Labels, err)
		}
	}

	from := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	cost, err := p.server.PricingNodePrice(ctx, &externalgrpc.PricingNodePriceRequest{
		Node: node, StartTimestamp: timestamppb.New(from), EndTimestamp: timestamppb.New(from.Add(2 * time.Hour)),
	})
	if err != nil || cost.GetPrice() != 1 {
		t.Errorf("PricingNodePrice of two hours at 0.50: %v, %v", cost, err)
	}

	// Cluster Autoscaler up to 1.34 sends objects of Kubernetes where later ones send bytes and timestamps.
	legacy := func(at time.Time) []byte {
		encoded, err := new(metav1.NewTime(at)).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return encoded
	}
	half := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")},
	}}}}}
	encodedPod, err := half.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for form, request := range map[string]*externalgrpc.PricingPodPriceRequest{
		"today's": {PodBytes: encodedPod, StartTimestamp: timestamppb.New(from), EndTimestamp: timestamppb.New(from.Add(2 * time.Hour))},
		"the old": {LegacyPod: encodedPod, LegacyStartTimestamp: legacy(from), LegacyEndTimestamp: legacy(from.Add(2 * time.Hour))},
	} {
		cost, err := p.server.PricingPodPrice(ctx, request)
		if err != nil || cost.GetPrice() != 0.5 {
			t.Errorf("PricingPodPrice of half a node for two hours at 0.50, in %s form: %v, %v", form, cost, err)
		}
	}
	old, err := p.server.PricingNodePrice(ctx, &externalgrpc.PricingNodePriceRequest{
		Node: node, LegacyStartTimestamp: legacy(from), LegacyEndTimestamp: legacy(from.Add(time.Hour)),
	})
	if err != nil || old.GetPrice() != 0.5 {
		t.Errorf("PricingNodePrice of an hour at 0.50, in the old form: %v, %v", old, err)
	}

	// The same numbers, as Prometheus sees them.
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(
		&pool.Collector{Pools: p.GetClient(), Machines: p.Observer.Store, Log: logr.Discard(), Alarm: time.Minute, Clock: clock.RealClock{}},
	)
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("the metrics are %v, %v", problems, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	measured := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if labels := metric.GetLabel(); labels[0].GetValue() == name {
				what := strings.TrimPrefix(family.GetName(), "ensemble_autoscaler_nodepool_")
				for _, label := range labels[1:] {
					what += " " + label.GetValue()
				}
				measured[what] = metric.GetGauge().GetValue()
			}
		}
	}
	if diff := cmp.Diff(map[string]float64{
		"target_nodes": 2, "min_nodes": 1, "max_nodes": 5, "floor_nodes": 0, "reserved_nodes": 0, "ready_nodes": 2,
		"machines ordered": 0, "machines booting": 0, "machines running": 2, "machines failed": 0, "machines deleting": 0, "machines_hanging": 0,
	}, measured); diff != "" {
		t.Errorf("wrong metrics (-want +got):\n%s", diff)
	}

	// What is not for us to answer, or names a pool that is not there.
	for call, ask := range map[string]func() error{
		"Unimplemented GetOptions": func() error {
			_, err := p.server.NodeGroupGetOptions(ctx, &externalgrpc.NodeGroupAutoscalingOptionsRequest{Id: name})
			return err
		},
		"InvalidArgument PricingPodPrice without times": func() error {
			_, err := p.server.PricingPodPrice(ctx, &externalgrpc.PricingPodPriceRequest{PodBytes: encodedPod})
			return err
		},
		"InvalidArgument PricingPodPrice of no pod": func() error {
			_, err := p.server.PricingPodPrice(ctx, &externalgrpc.PricingPodPriceRequest{PodBytes: []byte("no pod")})
			return err
		},
		"InvalidArgument PricingNodePrice backwards": func() error {
			_, err := p.server.PricingNodePrice(ctx, &externalgrpc.PricingNodePriceRequest{
				Node: node, StartTimestamp: timestamppb.New(from), EndTimestamp: timestamppb.New(from.Add(-time.Hour)),
			})
			return err
		},
		"NotFound PricingNodePrice": func() error {
			_, err := p.server.PricingNodePrice(ctx, &externalgrpc.PricingNodePriceRequest{Node: &externalgrpc.ExternalGrpcNode{Name: "foreign"}})
			return err
		},
		"NotFound TargetSize": func() error {
			_, err := p.server.NodeGroupTargetSize(ctx, &externalgrpc.NodeGroupTargetSizeRequest{Id: "nowhere"})
			return err
		},
		"NotFound Nodes": func() error {
			_, err := p.server.NodeGroupNodes(ctx, &externalgrpc.NodeGroupNodesRequest{Id: "nowhere"})
			return err
		},
		"NotFound IncreaseSize": func() error {
			_, err := p.server.NodeGroupIncreaseSize(ctx, &externalgrpc.NodeGroupIncreaseSizeRequest{Id: "nowhere", Delta: 1})
			return err
		},
		"InvalidArgument DeleteNodes": func() error {
			_, err := p.server.NodeGroupDeleteNodes(ctx, &externalgrpc.NodeGroupDeleteNodesRequest{Id: name, Nodes: []*externalgrpc.ExternalGrpcNode{
				{Name: "other", Labels: map[string]string{v1alpha1.LabelNodePool: "other"}},
			}})
			return err
		},
	} {
		if err := ask(); !strings.HasPrefix(call, status.Code(err).String()) {
			t.Errorf("%s: the code is %s (%v)", call, status.Code(err), err)
		}
	}
}

// TestWrites goes through the calls by which Cluster Autoscaler changes a pool. Each is seen by the very next
// call, whatever the caches know.
// It is not parallel: two providers would do each other's work.
func TestWrites(t *testing.T) {
	const name = "writes"
	ctx := t.Context()
	newPool(t, name, v1alpha1.AutoscalerClusterAutoscaler, func(p *v1alpha1.NodePool) {
		p.Spec.MaxSize = 60
		p.Spec.Machines.Kwok.BootDelay = metav1.Duration{Duration: time.Hour}
	})
	p := start(t, -1)
	defer p.Stop()
	target := func(want int32) {
		t.Helper()
		answer, err := p.server.NodeGroupTargetSize(ctx, &externalgrpc.NodeGroupTargetSizeRequest{Id: name})
		if err != nil || answer.GetTargetSize() != want {
			t.Errorf("the target is %d (%v), not %d", answer.GetTargetSize(), err, want)
		}
		nodes, err := p.server.NodeGroupNodes(ctx, &externalgrpc.NodeGroupNodesRequest{Id: name})
		alive := int32(0)
		for _, i := range nodes.GetInstances() {
			if i.GetStatus().GetInstanceState() != externalgrpc.InstanceStatus_instanceDeleting {
				alive++
			}
		}
		if err != nil || alive < want {
			t.Errorf("%d instances are listed (%v), of %d", alive, err, want)
		}
	}
	// A pool that was made a moment ago may not be known yet.
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		_, err := p.server.NodeGroupTargetSize(ctx, &externalgrpc.NodeGroupTargetSizeRequest{Id: name})
		if status.Code(err) == codes.NotFound {
			return "the pool is not known", nil
		}
		return "", err
	})

	// Nothing is lost of what is asked for at the same time.
	var asking sync.WaitGroup
	// So few that, each of which tries a dozen times, none runs out of time on a slow machine.
	const dozen = 12
	granted := make(chan error, dozen)
	for range dozen {
		asking.Go(func() {
			_, err := p.server.NodeGroupIncreaseSize(ctx, &externalgrpc.NodeGroupIncreaseSizeRequest{Id: name, Delta: 1})
			granted <- err
		})
	}
	asking.Wait()
	close(granted)
	count := int32(0)
	for err := range granted {
		switch status.Code(err) {
		case codes.OK:
			count++
		case codes.Aborted:
			// It lost against too many others, and says so.
		default:
			t.Errorf("IncreaseSize: %v", err)
		}
	}
	if count == 0 {
		t.Errorf("none of %d requests was granted", dozen)
	}
	target(count)
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		s, err := look(ctx, name)
		if err != nil {
			return "", err
		}
		if len(s.machines) != int(count) {
			return fmt.Sprintf("%d machines are on order, of %d", len(s.machines), count), nil
		}
		return "", nil
	})

	if _, err := p.server.NodeGroupDecreaseTargetSize(
		ctx, &externalgrpc.NodeGroupDecreaseTargetSizeRequest{Id: name, Delta: -(count - 3)},
	); err != nil {
		t.Errorf("DecreaseTargetSize: %v", err)
	}
	target(3)
	var left []string
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		s, err := look(ctx, name)
		if err != nil {
			return "", err
		}
		if left = s.machines; len(left) != 3 {
			return fmt.Sprintf("%d machines are left, of 3", len(left)), nil
		}
		return "", nil
	})

	// A machine that never registered is named by its provider id. Asked twice, it is deleted once.
	placeholder := nodegroup.Placeholder(name, left[0])
	victim := &externalgrpc.ExternalGrpcNode{Name: placeholder, ProviderID: placeholder}
	for range 2 {
		if _, err := p.server.NodeGroupDeleteNodes(
			ctx, &externalgrpc.NodeGroupDeleteNodesRequest{Id: name, Nodes: []*externalgrpc.ExternalGrpcNode{victim}},
		); err != nil {
			t.Errorf("DeleteNodes: %v", err)
		}
		target(2)
	}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		s, err := look(ctx, name)
		if err != nil {
			return "", err
		}
		if len(s.machines) != 2 || len(s.pool.Spec.MachinesToDelete) > 0 {
			return fmt.Sprintf("machines %v, to delete %v", s.machines, s.pool.Spec.MachinesToDelete), nil
		}
		return "", nil
	})
}

// TestToldOnce: that Cluster Autoscaler was told a minimum size is written when it differs, and not again.
// It is not parallel: two providers would do each other's work.
func TestToldOnce(t *testing.T) {
	const name = "told"
	newPool(t, name, v1alpha1.AutoscalerClusterAutoscaler, func(p *v1alpha1.NodePool) {
		p.Spec.Machines.Kwok.BootDelay = metav1.Duration{Duration: time.Hour}
	})
	member := newMember(t, name)
	reserve(t, member, name, 2)
	p := start(t, -1)
	defer p.Stop()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		s, err := look(ctx, name)
		if err != nil || s.pool.Status.Floor == 2 {
			return "", err
		}
		return "the floor is not 2", nil
	})
	announce(t, p, name)
	// The cache has to know it before the next question, or it would be written again, to no harm.
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		var cached v1alpha1.NodePool
		if err := p.GetClient().Get(ctx, client.ObjectKey{Name: name}, &cached); err != nil || cached.Status.AnnouncedFloor == 2 {
			return "", err
		}
		return "the cache is behind", nil
	})
	before := p.Writes()
	for range 100 {
		if _, err := p.server.NodeGroups(t.Context(), &externalgrpc.NodeGroupsRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	// A further change is written after whatever the questions have caused.
	reserve(t, member, name, 3)
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		s, err := look(ctx, name)
		if err != nil || s.pool.Status.Floor == 3 {
			return "", err
		}
		return "the floor is not 3", nil
	})
	announce(t, p, name)
	// Some, since conflicts and a cache that is behind cost a few more; by far not one for each question.
	if writes := p.Writes() - before; writes > 30 {
		t.Errorf("%d writes for 100 questions and one change", writes)
	}
}

// TestToldAndNotRecorded: Cluster Autoscaler orders what it was told of, which is not recorded yet, when the floor is lower
// already. What it orders is for members all the same: nobody else has asked for it.
func TestToldAndNotRecorded(t *testing.T) {
	const name = "unrecorded"
	ctx := t.Context()
	p := startParts(t, -1, inprocess.ProviderOptions{ServesAlone: true})
	defer p.Stop()
	declared := newPool(t, name, v1alpha1.AutoscalerClusterAutoscaler)
	record := func(floor, announced int32) {
		t.Helper()
		patch := fmt.Appendf(nil, `{"status":{"replicas":0,"ready":0,"reserved":0,"floor":%d,"announcedFloor":%d}}`, floor, announced)
		if err := cluster.Client.Status().Patch(ctx, declared, client.RawPatch(types.MergePatchType, patch)); err != nil {
			t.Fatal(err)
		}
	}
	record(5, 0)
	announce(t, p, name)
	// That is done beside the answer. Here it has not been done yet.
	record(4, 0)
	if _, err := p.server.NodeGroupIncreaseSize(ctx, &externalgrpc.NodeGroupIncreaseSizeRequest{Id: name, Delta: 5}); err != nil {
		t.Fatal(err)
	}
	if s, err := look(ctx, name); err != nil || s.pool.Spec.Replicas != 5 || s.pool.Spec.ReplicasForMembers != 5 {
		t.Errorf("the target is %d, of which %d for members (%v); 5 and 5 are right", s.pool.Spec.Replicas, s.pool.Spec.ReplicasForMembers, err)
	}
}
