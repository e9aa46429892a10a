package machine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// strange is a cloud in which nothing has the name of anything else: nodes are called as it likes, what id they have is known
// when they register, and they say nothing of their pool.
func strange(k *v1alpha1.KwokMachines) {
	k.NodeNames, k.ProviderIDs = v1alpha1.KwokNodeNamesOwn, v1alpha1.KwokProviderIDsAtRegistration
	k.Registration = v1alpha1.KwokRegistrationBare
}

// nodesOf are the names of the nodes of machines, by number.
func (s *state) nodesOf(pool string, numbers ...int) []string {
	var out []string
	for _, n := range numbers {
		if m := s.machines[machine(pool, n)]; m != nil {
			out = append(out, m.Status.NodeName)
		}
	}
	return out
}

// testNames: a pool whose nodes have names of their own grows, is held and shrinks as any other, and its machines are found by
// both of their ids.
func testNames(t *testing.T, w *world) { //nolint:thelper // It is a test of TestTogether.
	const name = "strange"
	newPool(t, name, role(strange), role(func(k *v1alpha1.KwokMachines) { k.BootDelay = *after(3 * time.Second) }))
	w.increase(t, name, 3)
	w.lists(t, name, map[string]string{placeholder(name, 0): "Creating", placeholder(name, 1): "Creating", placeholder(name, 2): "Creating"})
	belongs := func(what string, ids ...string) {
		t.Helper()
		for _, id := range ids {
			answer, err := w.Server.NodeGroupForNode(t.Context(),
				&externalgrpc.NodeGroupForNodeRequest{Node: &externalgrpc.ExternalGrpcNode{Name: id, ProviderID: id}})
			if err != nil || answer.GetNodeGroup().GetId() != name {
				t.Errorf("%s: %s belongs to %v (%v)", what, id, answer, err)
			}
		}
	}
	belongs("on order", placeholder(name, 0), placeholder(name, 2))
	s := hasNodes(t, name, 3)
	want, ids := map[string]string{}, []string{}
	for _, node := range s.nodes {
		if !strings.HasPrefix(node.Name, "ip-10-") || node.Labels[v1alpha1.LabelNodePool] != name {
			t.Errorf("node %s has the labels %v", node.Name, node.Labels)
		}
		want[node.Spec.ProviderID], ids = "Running", append(ids, node.Spec.ProviderID)
	}
	w.lists(t, name, want)
	belongs("registered", append(ids, placeholder(name, 0), placeholder(name, 1), placeholder(name, 2))...)

	// Who names a machine by its placeholder believes that it never came.
	if err := w.deleteNodes(t.Context(), name, placeholder(name, 0)); err != nil {
		t.Errorf("DeleteNodes by a placeholder: %v", err)
	}
	if wrong := await(t, name, func(*state) string { return "" }).lacksNodes(3); wrong != "" {
		t.Errorf("DeleteNodes by the placeholder of a node that came: %s", wrong)
	}

	heldByNode(t, w, name)
}

// heldByNode lets a member hold two of the three nodes of a pool, and give one up: that one goes, and no other.
func heldByNode(t *testing.T, w *world, name string) {
	t.Helper()
	var nodes []string
	s := await(t, name, func(s *state) string {
		nodes = s.nodesOf(name, 0, 1, 2)
		return missing(len(nodes) == 3 && !slices.Contains(nodes, ""), fmt.Sprintf("the nodes are %q", nodes))
	})
	member := cluster.NewMember(t, name)
	cluster.Reserve(t, member, 2, nodes[0], nodes[1])
	await(t, name, func(s *state) string {
		for i, want := range []string{"default/" + name, "default/" + name, ""} {
			if by := s.nodes[nodes[i]].Annotations[v1alpha1.AnnotationHeldBy]; by != want {
				return fmt.Sprintf("%s is held by %q, want %q", nodes[i], by, want)
			}
		}
		return ""
	})
	if err := w.deleteNodes(t.Context(), name, s.nodes[nodes[1]].Spec.ProviderID); status.Code(err) != codes.FailedPrecondition ||
		!strings.Contains(err.Error(), "is held for the ensemble member default/"+name) {
		t.Errorf("DeleteNodes of a held node: %v", err)
	}
	cluster.Reserve(t, member, 1, nodes[0])
	if s := hasNodes(t, name, 2); !slices.Equal(s.ready, slices.Sorted(slices.Values([]string{nodes[0], nodes[2]}))) {
		t.Errorf("of %v, of which the first is held and the third nobody's, %v are left", nodes, s.ready)
	}
	if err := w.deleteNodes(t.Context(), name, s.nodes[nodes[2]].Spec.ProviderID); err != nil {
		t.Errorf("DeleteNodes of a node of nobody: %v", err)
	}
	hasNodes(t, name, 1)
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		got, err := w.listed(ctx, name)
		want := map[string]string{s.nodes[nodes[0]].Spec.ProviderID: "Running"}
		return missing(maps.Equal(got, want), fmt.Sprintf("listed are %v, want %v", got, want)), err
	})
}
