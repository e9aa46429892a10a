package launchtest

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// foreign: an instance that has the name of a machine, and that somebody else has made, is neither adopted nor deleted.
func foreign(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "foreign", Slow)
	order := s.order(t, pool, 0, 2)
	taken := order.Machines[1].Name
	there := s.MakeForeign(t, pool, taken)
	for i, outcome := range s.launch(t, pool, order) {
		name := order.Machines[i].Name
		// Where all are asked for or none, none is made.
		want := launch.Accepted
		if name == taken || order.Atomic {
			want = launch.Invalid
		}
		if outcome.Kind != want || (want == launch.Invalid && (outcome.Code == "" || outcome.Message == "")) {
			t.Errorf("%s is taken, and the outcome of %s is %+v", taken, name, outcome)
		}
	}
	if found := s.settled(t, pool); len(of(found, taken)) != 0 {
		t.Errorf("the foreign instance is listed: %+v", found)
	}
	s.clear(t, pool, order)
	if ok, err := there(t.Context()); err != nil || !ok {
		t.Errorf("the foreign instance is there: %t, %v", ok, err)
	}
}

// orphan: an instance that nobody has written down is listed without a machine, and goes like any other.
func orphan(t *testing.T, s *Subject, withNode bool) {
	t.Helper()
	name := "orphan"
	if withNode {
		name = "orphan-node"
	}
	pool := s.Pool(t, name, Fast)
	key := s.MakeOrphan(t, pool, withNode)
	isIt := func(i launch.Instance) bool { return i.Key == key }
	var instance launch.Instance
	var node *corev1.Node
	s.listed(t, pool, "the orphan "+key, func(instances []launch.Instance) string {
		at := slices.IndexFunc(instances, isIt)
		if at < 0 {
			return "it is not listed"
		}
		if instance = instances[at]; !withNode {
			return ""
		}
		if instance.NodeName == "" || instance.ProviderID == "" {
			return "it has no node"
		}
		if node = s.node(t, instance.ProviderID); node == nil || node.Name != instance.NodeName {
			return "its node is not there"
		}
		return ""
	})
	if instance.Machine != "" {
		t.Errorf("the orphan is %+v", instance)
	}
	s.terminate(t, pool, instance)
	s.gone(t, pool, "the orphan "+key, isIt)
	if withNode {
		s.nodeGone(t, node)
	}
}
