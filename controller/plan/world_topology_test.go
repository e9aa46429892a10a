package plan_test

import (
	"maps"
	"slices"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// zoneKey is the label by which members of the world are kept together.
const zoneKey = "topology.kubernetes.io/zone"

// checkDomain is the promise of a topologyKey: the nodes that are held for a member, and those that its pods are on, are in
// one domain. Pods that leave may be in the one that it was in before.
func (w *world) checkDomain(m *worldMember) {
	if m.TopologyKey == "" || m.Lifecycle != plan.Running {
		return
	}
	zones := map[string]string{}
	note := func(name string) {
		if n := w.node(name); n != nil {
			zones[n.Labels[zoneKey]] = name
		}
	}
	// The groups of one workload are in one domain together.
	for _, m := range m.groups() {
		for _, r := range m.Reservations {
			for _, name := range r.Held {
				if m.leaving[name] == 0 {
					note(name)
				}
			}
		}
		for pod, name := range m.pods {
			if m.ranked() || m.stays(pod) {
				note(name)
			}
		}
	}
	w.promise(len(zones) <= 1 && zones[""] == "", "%s has nodes in the zones %v: %v of %+v, recorded for %s",
		m.Key.Name, slices.Sorted(maps.Keys(zones)), zones, m.Reservations, m.TopologyDomain)
}

// unlucky reports whether a member waits for nodes of a pool that spans zones: it may get them in the others for ever.
func (w *world) unlucky(m *worldMember) bool {
	return m.TopologyKey != "" && slices.ContainsFunc(m.Reservations, func(r v1alpha1.Reservation) bool {
		return int(r.Nodes) > len(r.Held) && w.pools[r.NodePool].Labels == nil
	})
}
