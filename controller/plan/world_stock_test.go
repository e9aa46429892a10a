package plan_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// plenty is a stock that does not end.
const plenty = 1 << 20

// drawStock is how many machines the cloud has of one kind.
func (w *world) drawStock() int {
	if w.rand.IntN(3) > 0 {
		return plenty
	}
	return 2 + w.rand.IntN(8)
}

// restock gives the cloud one machine more of some kind, or takes one away.
func (w *world) restock() {
	name := []string{"a", "b", "c"}[w.rand.IntN(3)]
	if p := w.pools[name]; p.stock != plenty {
		p.stock = max(1, p.stock+w.rand.IntN(3)-1)
		w.tell("the cloud has %d machines of %s", p.stock, name)
	}
}

// settle ends, for most members, what keeps pods from running, and what keeps machines from coming.
func (w *world) settle() {
	for _, name := range slices.Sorted(maps.Keys(w.pools)) {
		w.pools[name].stock = plenty
	}
	for _, name := range slices.Sorted(maps.Keys(w.members)) {
		m := w.members[name]
		if m.isFirst() && m.Lifecycle == plan.Suspended && w.rand.IntN(2) == 0 {
			continue
		}
		if !m.gone && (m.Lifecycle != plan.Suspended || m.isFirst()) && w.rand.IntN(4) > 0 {
			w.lift(m)
		}
		m.Invalid = ""
	}
}

// claim is the id of orders for a member's growth.
func (m *worldMember) claim() string {
	if m.Growth == nil {
		return ""
	}
	return fmt.Sprintf("%s-%d", m.Key.Name, m.Growth.Since.UnixMicro())
}

// coming counts the machines of a pool that have no node yet, by their orders.
func (w *world) coming(p *worldPool) map[string]int32 {
	out := map[string]int32{}
	for _, n := range p.nodes {
		if n.registeredAt.After(w.now) && !n.Leaving {
			out[n.Order]++
		}
	}
	return out
}

// nextOrder is for which claim the next machine of a pool is ordered: the first that lacks one.
func (w *world) nextOrder(p *worldPool) string {
	held, coming := map[string]bool{}, map[string]int{}
	var claims []*worldMember
	for _, m := range w.members {
		for _, r := range m.Reservations {
			if r.NodePool != p.Name || m.gone {
				continue
			}
			claims = append(claims, m)
			for _, name := range r.Held {
				held[name] = true
			}
		}
	}
	for name, n := range p.nodes {
		if !held[name] && !n.Leaving {
			coming[n.Order]++
		}
	}
	slices.SortFunc(claims, func(a, b *worldMember) int {
		switch {
		case a.Growth == nil || b.Growth == nil:
			return cmp.Compare(a.Key.Name, b.Key.Name)
		default:
			return cmp.Or(a.Growth.Since.Compare(b.Growth.Since.Time), cmp.Compare(a.Key.Name, b.Key.Name))
		}
	})
	for _, m := range claims {
		for _, r := range m.Reservations {
			if r.NodePool == p.Name && m.claim() != "" && int(r.Nodes)-len(r.Held) > coming[m.claim()] {
				return m.claim()
			}
		}
	}
	return "floor"
}
