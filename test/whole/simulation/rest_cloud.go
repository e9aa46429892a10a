package simulation

import (
	"fmt"
	"slices"
)

// restlessCloud says what is not in its place between the records, the cloud and the nodes: each instance has a record, each record
// its instance and its node, and nothing is on its way out.
func (w *world) restlessCloud() string {
	for _, i := range w.cloud.instances.items {
		if !w.loop.known(i) {
			return fmt.Sprintf("the cloud has %s, and no record tells of it", i.name)
		}
	}
	for _, m := range w.machines.live.items {
		switch i := w.cloud.of(m.name, m.providerID); {
		case m.failure != nil || !w.cloud.perfect || w.lingers(m.name):
		case !m.going.IsZero():
			return fmt.Sprintf("the record of %s is being deleted", m.name)
		case i == nil:
			return fmt.Sprintf("%s has a record and no instance", m.name)
		case m.nodeName != "" && w.nodes.get(m.nodeName) == nil:
			return fmt.Sprintf("%s says that its node is %s, which does not exist", m.name, m.nodeName)
		}
	}
	return ""
}

// liveRecords counts the records of a pool that are not to go.
func (w *world) liveRecords(p *poolObject) int32 {
	count := int32(0)
	for _, m := range w.machines.live.items {
		if m.pool == p.name && !slices.Contains(p.toDelete, m.name) {
			count++
		}
	}
	return count
}

// lingersOn reports whether a member has pods on a node whose record somebody has deleted: nobody moves them, so the machine stays,
// and its replacement is there beside it.
func (w *world) lingersOn(m *memberObject) bool {
	return slices.ContainsFunc(m.reservations, func(r reservation) bool {
		return slices.ContainsFunc(r.Held, func(node string) bool {
			n := w.nodes.get(node)
			return n != nil && n.tainted && w.lingers(w.machineOf(n))
		})
	})
}

// forgotten reports whether a pool has a node that Cluster Autoscaler has deleted, as far as it knows, while no record told of its
// machine. It was found later, and keeps the taint until Cluster Autoscaler starts again.
func (w *world) forgotten(pool string) bool {
	return slices.ContainsFunc(w.nodes.live.items, func(n *nodeObject) bool {
		return n.pool == pool && n.tainted && !n.ours && w.stray(n)
	})
}
