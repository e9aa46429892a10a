package simulation

import (
	"cmp"
	"maps"
	"slices"
)

// zoneKey is the label that says in which zone a node is.
const zoneKey = "topology.kubernetes.io/zone"

// labels are those of a pool's template.
func (p *poolSettings) labels() labels {
	var out labels
	if len(p.zones) == 1 {
		out = labels{zoneKey: p.zones[0]}
	}
	if p.classed {
		out = out.and(labels{classKey: "hpc"})
	}
	return out
}

// labels are those of a node that registers. A cloud that is perfect has the machine where it was wanted, or where it should be.
func (c *cloud) labels(i *instance) labels {
	s := c.settings(i.pool)
	if len(s.zones) == 0 {
		return nil
	}
	zone := s.zones[0]
	if len(s.zones) > 1 {
		zone = s.zones[c.world.rand.IntN(len(s.zones))]
		if wanted := cmp.Or(i.domain, c.wanted(i.pool)); c.perfect && wanted != "" {
			zone = wanted[len(zoneKey+"="):]
		}
	}
	return labels{zoneKey: zone}
}

// wanted is where some member waits for nodes of a pool, empty for nowhere.
func (c *cloud) wanted(pool string) string {
	for _, m := range c.world.members.live.items {
		for i := range m.reservations {
			if r := &m.reservations[i]; r.NodePool == pool && len(r.Held) < int(r.Nodes) && m.domain != "" {
				return m.domain
			}
		}
	}
	return ""
}

// zoned reports whether the nodes of all these pools say in which zone they are.
func (w *world) zoned(pools []string) bool {
	return !slices.ContainsFunc(pools, func(name string) bool { return len(w.cloud.settings(name).zones) == 0 })
}

// checkDomain is the promise of a topologyKey: all nodes that are held for a member have the same value of it, and so have
// those that its pods are on. Pods that leave may be where it was before.
func (w *world) checkDomain(m *memberObject) {
	c := w.clusters.get(m.name)
	if m.topologyKey == "" || c == nil || c.finished || c.deleting {
		return
	}
	zones, leaving := map[string]string{}, map[string]bool{}
	note := func(name string) {
		if n := w.nodes.get(name); n != nil && !leaving[name] {
			zones[n.labels[m.topologyKey]] = name
		}
	}
	for _, p := range w.pods.live.items {
		switch {
		case p.member != m.name || p.node == "":
		case p.deleting:
			leaving[p.node] = true
		default:
			note(p.node)
		}
	}
	for i := range m.reservations {
		for _, name := range m.reservations[i].Held {
			note(name)
		}
	}
	if len(zones) > 0 {
		w.ledger.counts["domains kept"]++
	}
	w.promise(len(zones) <= 1 && zones[""] == "", "%s has nodes in the zones %v: %v; its domain is %q",
		m.name, slices.Sorted(maps.Keys(zones)), zones, m.domain)
}

// together are the pools that can serve a member together: all of its list, or those that can have nodes in one zone, which is
// the one that it is in where it has nodes.
func (w *world) together(m *memberObject) [][]string {
	if m.topologyKey == "" {
		return [][]string{m.pools}
	}
	var out [][]string
	for _, zone := range []string{"eu-1a", "eu-1b"} {
		if m.domain == "" || m.domain == zoneKey+"="+zone {
			out = append(out, filter(m.pools, func(name string) bool { return slices.Contains(w.cloud.settings(name).zones, zone) }))
		}
	}
	return out
}

// scattered reports whether a node of a pool that spans zones is in another one than a member waits for, which fills the pool
// up: the floor counts it, and cannot rise any more.
func (w *world) scattered(n *nodeObject) bool {
	p := w.pools.get(n.pool)
	return len(w.cloud.settings(n.pool).zones) > 1 && p.floor == p.maxSize && !w.heldByAny(n.name) && w.podsOn(n.name) == 0
}

// strewn reports whether a pool that spans zones has an idle node in another one than a member waits for. A growth that fails there
// gives its nodes back and is granted them again before any is released, and that may go on for long.
func (w *world) strewn(pool string) bool {
	if len(w.cloud.settings(pool).zones) < 2 {
		return false
	}
	return slices.ContainsFunc(w.members.live.items, func(m *memberObject) bool {
		return m.topologyKey != "" && m.growth != nil && m.domain != "" && slices.Contains(m.pools, pool) &&
			slices.ContainsFunc(w.nodes.live.items, func(n *nodeObject) bool {
				return n.pool == pool && zoneKey+"="+n.labels[zoneKey] != m.domain && w.podsOn(n.name) == 0
			})
	})
}
