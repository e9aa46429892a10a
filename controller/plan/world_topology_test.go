package plan_test

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// zoneKey is the label by which members of the world are kept together.
const zoneKey = "topology.kubernetes.io/zone"

// bindHeld is a node for a pod of a member that has to be in one domain. Its pods are gated until the nodes for all of them are
// there, and pinned to those.
func (w *world) bindHeld(m *worldMember) string {
	var free []string
	room := 0
	for _, r := range m.Reservations {
		for _, name := range r.Held {
			n := w.node(name)
			if n == nil || !n.Ready || n.readyAt.After(w.now) || n.Cordoned || n.foreign > 0 {
				continue
			}
			own := m.on(name)
			left := int(4000-w.pools[n.Pool].daemons-w.requested(name)) / int(m.PodRequests[corev1.ResourceCPU])
			if more := min(left, w.perNode(m, n.Pool)-own); more > 0 {
				room += more
				free = append(free, name)
			}
		}
	}
	waiting := 0
	for index := range m.Size {
		if m.pods[index] == "" {
			waiting++
		}
	}
	if room < waiting {
		return ""
	}
	slices.Sort(free)
	return free[0]
}

// requested is the CPU that pods of members on a node request.
func (w *world) requested(node string) int64 {
	var sum int64
	for _, m := range w.members {
		sum += m.PodRequests[corev1.ResourceCPU] * int64(m.on(node))
	}
	return sum
}

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
	for _, r := range m.Reservations {
		for _, name := range r.Held {
			if m.leaving[name] == 0 {
				note(name)
			}
		}
	}
	for _, name := range m.pods {
		note(name)
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
