package provider

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/kwok"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// saw waits until an event of a NodePool has the reason and the words.
func saw(t *testing.T, pool, reason, words string) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		var all eventsv1.EventList
		if err := cluster.Client.List(ctx, &all); err != nil {
			return "", err
		}
		var others []string
		for i := range all.Items {
			e := &all.Items[i]
			switch {
			case e.Regarding.Kind != "NodePool" || e.Regarding.Name != pool:
			case e.Reason == reason && strings.Contains(e.Note, words):
				return "", nil
			default:
				others = append(others, e.Reason+": "+e.Note)
			}
		}
		return fmt.Sprintf("no event %s of %s says %q; others do: %q", reason, pool, words, others), nil
	})
}

// says waits until a condition of a NodePool has the status and the words.
func says(t *testing.T, pool, condition string, status metav1.ConditionStatus, words string) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		s, err := look(ctx, pool)
		if err != nil {
			return "", err
		}
		c := meta.FindStatusCondition(s.pool.Status.Conditions, condition)
		if c == nil || c.Status != status || !strings.Contains(c.Message, words) {
			return fmt.Sprintf("%s is %+v and not %s with %q", condition, c, status, words), nil
		}
		return "", nil
	})
}

// instances waits until Cluster Autoscaler is told of a pool's instances as wanted: by id, the state and the code of
// the error.
func (p *process) instances(t *testing.T, pool string, want map[string]string) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		response, err := p.server.NodeGroupNodes(ctx, &externalgrpc.NodeGroupNodesRequest{Id: pool})
		if err != nil {
			return "", err
		}
		got := map[string]string{}
		for _, i := range response.GetInstances() {
			text := strings.TrimPrefix(i.GetStatus().GetInstanceState().String(), "instance")
			if info := i.GetStatus().GetErrorInfo(); info != nil {
				text += fmt.Sprintf(" %s %d", info.GetErrorCode(), info.GetInstanceErrorClass())
			}
			name := i.GetId()[strings.LastIndex(i.GetId(), "/")+1:]
			if placeholder := strings.HasPrefix(i.GetId(), "ensemble://"); placeholder != (name != "" && strings.HasPrefix(text, "Creating OutOf")) {
				return fmt.Sprintf("%s is %s; what the cloud has never made has a placeholder for its provider id", i.GetId(), text), nil
			}
			got[name] = text
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Sprintf("the instances are %v, want %v", got, want), nil
		}
		return "", nil
	})
}

// edit changes a NodePool as a user does.
func edit(t *testing.T, name string, change func(*v1alpha1.NodePool)) {
	t.Helper()
	var p v1alpha1.NodePool
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Name: name}, &p); err != nil {
		t.Fatal(err)
	}
	patch := client.MergeFrom(p.DeepCopy())
	change(&p)
	if err := cluster.Client.Patch(t.Context(), &p, patch); err != nil {
		t.Fatal(err)
	}
}

func hasNodes(t *testing.T, name string, nodes int) *state {
	t.Helper()
	var s *state
	inprocess.Until(t, func(ctx context.Context) (missing string, err error) {
		if s, err = look(ctx, name); err != nil {
			return "", err
		}
		return s.lacksNodes(nodes), nil
	})
	return s
}

// TestOutOfStock: of four machines two are not to be had. Cluster Autoscaler is told so at once, and deletes
// them; what failed is still told of when they are gone.
// It is not parallel: two providers would do each other's work.
func TestOutOfStock(t *testing.T) {
	const name = "stock"
	newPool(t, name, v1alpha1.AutoscalerClusterAutoscaler, func(p *v1alpha1.NodePool) { p.Spec.Machines.Kwok.Stock = ptr.To[int32](2) })
	p := start(t, -1)
	defer p.Stop()
	if _, err := p.server.NodeGroupIncreaseSize(t.Context(), &externalgrpc.NodeGroupIncreaseSizeRequest{Id: name, Delta: 4}); err != nil {
		t.Fatal(err)
	}
	p.instances(t, name, map[string]string{
		"stock-0": "Running", "stock-1": "Running", "stock-2": "Creating OutOfStock 1", "stock-3": "Creating OutOfStock 1",
	})
	says(
		t, name, v1alpha1.ConditionMachinesReady, metav1.ConditionFalse,
		"OutOfStock: the simulated cloud has no machine left for NodePool stock",
	)
	// By providerID and name, as Cluster Autoscaler names what never registered.
	failed := []*externalgrpc.ExternalGrpcNode{}
	for _, id := range []string{"ensemble://stock/stock-2", "ensemble://stock/stock-3"} {
		failed = append(failed, &externalgrpc.ExternalGrpcNode{ProviderID: id, Name: id})
	}
	if _, err := p.server.NodeGroupDeleteNodes(t.Context(), &externalgrpc.NodeGroupDeleteNodesRequest{Id: name, Nodes: failed}); err != nil {
		t.Fatal(err)
	}
	s := hasNodes(t, name, 2)
	if f := s.pool.Status.LastFailure; f == nil || f.Code != "OutOfStock" || f.Class != v1alpha1.FailureOutOfResources || !slices.Contains(
		[]string{"stock-2", "stock-3"}, f.Machine,
	) {
		t.Errorf("the last failure is %+v", f)
	}
	saw(t, name, v1alpha1.ReasonMachineFailed, "OutOfStock")
	// A machine that goes makes room for another one.
	if _, err := p.server.NodeGroupDeleteNodes(t.Context(),
		&externalgrpc.NodeGroupDeleteNodesRequest{Id: name, Nodes: []*externalgrpc.ExternalGrpcNode{
			{ProviderID: "kwok://stock/stock-0", Name: "stock-0"},
		}}); err != nil {
		t.Fatal(err)
	}
	hasNodes(t, name, 1)
	if _, err := p.server.NodeGroupIncreaseSize(t.Context(), &externalgrpc.NodeGroupIncreaseSizeRequest{Id: name, Delta: 2}); err != nil {
		t.Fatal(err)
	}
	p.instances(t, name, map[string]string{"stock-1": "Running", "stock-4": "Running", "stock-5": "Creating OutOfStock 1"})
}

// TestBootFailures: machines that fail at the end of their boot, that never become Ready, and that do not register in
// time are told apart.
// It is not parallel: two providers would do each other's work.
func TestBootFailures(t *testing.T) {
	newPool(t, "broken", v1alpha1.AutoscalerClusterAutoscaler, func(p *v1alpha1.NodePool) {
		p.Spec.Replicas, p.Spec.Machines.Kwok.FailurePercent = 1, 100
	})
	newPool(t, "unready", v1alpha1.AutoscalerClusterAutoscaler, func(p *v1alpha1.NodePool) {
		p.Spec.Replicas, p.Spec.Machines.Kwok.NeverReadyPercent = 1, 100
	})
	newPool(t, "late", v1alpha1.AutoscalerClusterAutoscaler, func(p *v1alpha1.NodePool) {
		p.Spec.Replicas, p.Spec.Machines.Kwok.BootDelay = 1, metav1.Duration{Duration: time.Hour}
		p.Spec.ProvisionTimeout = metav1.Duration{Duration: time.Second}
	})
	p := start(t, -1)
	defer p.Stop()
	p.instances(t, "broken", map[string]string{"broken-0": "Creating BootFailure 99"})
	says(t, "broken", v1alpha1.ConditionMachinesReady, metav1.ConditionFalse, "BootFailure: the simulated machine failed to boot")
	p.instances(t, "late", map[string]string{"late-0": "Creating ProvisionTimeout 99"})
	says(
		t, "late", v1alpha1.ConditionMachinesReady, metav1.ConditionFalse,
		"ProvisionTimeout: the node did not register within the provisionTimeout of 1s",
	)
	saw(t, "late", v1alpha1.ReasonMachineFailed, "ProvisionTimeout")
	p.instances(t, "unready", map[string]string{"unready-0": "Running"})
	says(t, "unready", v1alpha1.ConditionMachinesReady, metav1.ConditionFalse, "0 of 1 nodes are Ready")
}

// TestFailedMachinesAreReplaced: without an autoscaler the provider itself replaces machines that do not come up.
// It is not parallel: two providers would do each other's work.
func TestFailedMachinesAreReplaced(t *testing.T) {
	const name = "replaced"
	newPool(t, name, v1alpha1.AutoscalerNone, func(p *v1alpha1.NodePool) {
		p.Spec.MinSize, p.Spec.Machines.Kwok.NeverReadyPercent = 2, 100
		p.Spec.ProvisionTimeout = metav1.Duration{Duration: time.Hour}
	})
	p := start(t, -1)
	defer p.Stop()
	p.instances(t, name, map[string]string{"replaced-0": "Running", "replaced-1": "Running"})
	// Nodes that never become Ready are given up after a second; the machines that follow are well, and have all the time
	// that they need.
	edit(t, name, func(p *v1alpha1.NodePool) {
		p.Spec.ProvisionTimeout, p.Spec.Machines.Kwok.NeverReadyPercent = metav1.Duration{Duration: time.Second}, 0
	})
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		s, err := look(ctx, name)
		if err == nil && (s.nodes["replaced-0"] != nil || s.nodes["replaced-1"] != nil) {
			return "a node that never becomes Ready is there", nil
		}
		return "", err
	})
	edit(t, name, func(p *v1alpha1.NodePool) { p.Spec.ProvisionTimeout = metav1.Duration{Duration: time.Hour} })
	s := hasNodes(t, name, 2)
	if slices.Contains(s.ready, "replaced-0") || slices.Contains(s.ready, "replaced-1") {
		t.Errorf("Ready are %v, of which the first two never become so", s.ready)
	}
	saw(t, name, "Retired", "replaced")
}

// impatient is a cloud that may be asked for a replacement at once.
type impatient struct{ launch.Launcher }

// Traits implements launch.Launcher.
func (i impatient) Traits(pool *launch.Pool) launch.Traits {
	traits := i.Launcher.Traits(pool)
	traits.ReplaceAfter = time.Second
	return traits
}

// TestVanishedMachine: somebody deletes a node. Its machine is ended, which is told, and another one comes.
// It is not parallel: two providers would do each other's work.
func TestVanishedMachine(t *testing.T) {
	const name = "vanished"
	newPool(t, name, v1alpha1.AutoscalerNone, func(p *v1alpha1.NodePool) { p.Spec.MinSize = 1 })
	p := startParts(t, -1, inprocess.ProviderOptions{Launcher: func(k *kwok.Launcher) launch.Launcher { return impatient{k} }})
	defer p.Stop()
	s := hasNodes(t, name, 1)
	if err := cluster.Client.Delete(t.Context(), s.nodes[s.ready[0]]); err != nil {
		t.Fatal(err)
	}
	saw(t, name, v1alpha1.ReasonMachineVanished, "node vanished-0 was deleted, and not by the provider")
	if s := hasNodes(t, name, 1); s.ready[0] != "vanished-1" {
		t.Errorf("Ready is %v", s.ready)
	}
}

// TestScaledByHand: without an autoscaler a user scales the pool, up and down; nodes with pods stay, and the floor.
// It is not parallel: two providers would do each other's work.
func TestScaledByHand(t *testing.T) {
	const name = "by-hand"
	newPool(t, name, v1alpha1.AutoscalerNone)
	p := start(t, -1)
	defer p.Stop()
	scale := func(size int32) { edit(t, name, func(p *v1alpha1.NodePool) { p.Spec.Replicas = size }) }
	scale(4)
	nodes := slices.Sorted(slices.Values(hasNodes(t, name, 4).ready))
	member := newMember(t, name)
	reserve(t, member, name, 1, nodes[1])
	pod := settle(t, name, nodes[3])
	says(t, name, v1alpha1.ConditionFloorMet, metav1.ConditionTrue, "at or above the floor 1")
	scale(2)
	if s := hasNodes(t, name, 2); !slices.Equal(slices.Sorted(slices.Values(s.ready)), []string{nodes[1], nodes[3]}) {
		t.Errorf("%v are left; %s is held and %s has a pod", s.ready, nodes[1], nodes[3])
	}
	scale(0)
	// The floor is 1, and the pod keeps its node.
	says(t, name, v1alpha1.ConditionMachinesReady, metav1.ConditionFalse, "there are 2 machines and the target is 1")
	saw(t, name, "FollowedFloor", "target 0 -> 1: minSize is 0, the floor is 1")
	if err := cluster.Client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	if s := hasNodes(t, name, 1); s.ready[0] != nodes[1] {
		t.Errorf("%v is left, and %s is held", s.ready, nodes[1])
	}
}

// TestPaused: a paused pool does nothing, says so, and goes on when it is not paused any more.
// It is not parallel: two providers would do each other's work.
func TestPaused(t *testing.T) {
	const name = "paused"
	newPool(t, name, v1alpha1.AutoscalerClusterAutoscaler, func(p *v1alpha1.NodePool) { p.Spec.Replicas = 1 })
	p := start(t, -1)
	defer p.Stop()
	s := hasNodes(t, name, 1)
	member := newMember(t, name)
	edit(t, name, func(p *v1alpha1.NodePool) { p.Spec.Paused = true })
	reserve(t, member, name, 3)
	says(t, name, v1alpha1.ConditionPaused, metav1.ConditionTrue, "no machine is ordered, deleted or released")
	says(t, name, v1alpha1.ConditionFloorMet, metav1.ConditionFalse, "the target size 1 is below the floor 3; the NodePool is paused")
	groups, err := p.server.NodeGroups(t.Context(), &externalgrpc.NodeGroupsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups.GetNodeGroups() {
		if g.GetId() == name && (g.GetMinSize() != 1 || g.GetMaxSize() != 1) {
			t.Errorf("Cluster Autoscaler is told %v", g)
		}
	}
	node := &externalgrpc.ExternalGrpcNode{ProviderID: s.nodes[s.ready[0]].Spec.ProviderID, Name: s.ready[0]}
	_, increase := p.server.NodeGroupIncreaseSize(t.Context(), &externalgrpc.NodeGroupIncreaseSizeRequest{Id: name, Delta: 1})
	_, decrease := p.server.NodeGroupDecreaseTargetSize(t.Context(), &externalgrpc.NodeGroupDecreaseTargetSizeRequest{Id: name, Delta: -1})
	_, deleted := p.server.NodeGroupDeleteNodes(
		t.Context(), &externalgrpc.NodeGroupDeleteNodesRequest{Id: name, Nodes: []*externalgrpc.ExternalGrpcNode{node}},
	)
	for _, err := range []error{increase, decrease, deleted} {
		if err == nil || !strings.Contains(err.Error(), "paused is paused: its spec.paused is true") {
			t.Errorf("the request ended with %v", err)
		}
	}
	edit(t, name, func(p *v1alpha1.NodePool) { p.Spec.Paused = false })
	says(t, name, v1alpha1.ConditionPaused, metav1.ConditionFalse, "spec.paused is not set")
	if _, err := p.server.NodeGroupIncreaseSize(t.Context(), &externalgrpc.NodeGroupIncreaseSizeRequest{Id: name, Delta: 2}); err != nil {
		t.Fatal(err)
	}
	hasNodes(t, name, 3)
}

// TestTemplateEdit: machines keep the template that they were ordered with, new ones have the new one, and the
// difference is shown.
// It is not parallel: two providers would do each other's work.
func TestTemplateEdit(t *testing.T) {
	const name = "template"
	newPool(t, name, v1alpha1.AutoscalerClusterAutoscaler, func(p *v1alpha1.NodePool) { p.Spec.Replicas = 1 })
	p := start(t, -1)
	defer p.Stop()
	hasNodes(t, name, 1)
	says(t, name, v1alpha1.ConditionMachinesUpToDate, metav1.ConditionTrue, "every machine was ordered with the template of now")
	edit(t, name, func(p *v1alpha1.NodePool) {
		p.Spec.Template.Labels = map[string]string{"example.com/generation": "two"}
		p.Spec.Replicas = 2
	})
	s := hasNodes(t, name, 2)
	says(
		t, name, v1alpha1.ConditionMachinesUpToDate, metav1.ConditionFalse,
		"1 of 2 machines was ordered with a template from before its last edit and keeps it: template-0",
	)
	for node, want := range map[string]string{"template-0": "", "template-1": "two"} {
		if got := s.nodes[node].Labels["example.com/generation"]; got != want {
			t.Errorf("%s has the label %q, want %q", node, got, want)
		}
	}
	if c := meta.FindStatusCondition(s.pool.Status.Conditions, v1alpha1.ConditionReady); c == nil || c.Status != metav1.ConditionTrue {
		t.Errorf("Ready is %+v", c)
	}
}
