package resize

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// TestObserveTopology: the planner gets the key of each member with the domain that it was last in, and the labels of nodes and
// of pools' templates as they are.
func TestObserveTopology(t *testing.T) {
	t.Parallel()
	l := cluster(1, 1, 10)
	l.members[0].Spec.TopologyKey, l.members[0].Status.TopologyDomain = corev1.LabelTopologyZone, corev1.LabelTopologyZone+"=eu-1a"
	l.pools[0].Spec.Template.Labels = map[string]string{corev1.LabelTopologyZone: "eu-1a"}
	l.nodes[0].Labels[corev1.LabelTopologyZone] = "eu-1b"
	seen, err := l.observer().observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	values := seen.values()
	if m := values.Members[0]; m.TopologyKey != corev1.LabelTopologyZone || m.TopologyDomain != corev1.LabelTopologyZone+"=eu-1a" {
		t.Errorf("the member has the key %q and is in %q", m.TopologyKey, m.TopologyDomain)
	}
	if zone := values.Pools[0].Labels[corev1.LabelTopologyZone]; zone != "eu-1a" {
		t.Errorf("the pool is in %q", zone)
	}
	if zone := values.Nodes[0].Labels[corev1.LabelTopologyZone]; zone != "eu-1b" {
		t.Errorf("the node is in %q", zone)
	}
	spec := v1alpha1.EnsembleMemberSpec{TopologyKey: "example.com/rack"}
	if mirror(&spec, seen.entries[values.Members[0].Key].workload); spec.TopologyKey != "" {
		t.Errorf("the key is %q still, and the MiniCluster has none", spec.TopologyKey)
	}
}
