package simulation

import (
	"cmp"
	"slices"
	"strings"
)

// scheduler binds pods to nodes. It knows nothing of what is held for whom: it does not look at pods behind the gate, and one
// that was released can go to its node alone.
type scheduler struct {
	world *world
	alarm alarm
	// refused are the pairs of members and nodes that do not go together.
	refused map[string]bool
}

func newScheduler(w *world) *scheduler {
	s := &scheduler{world: w, refused: map[string]bool{}}
	s.alarm = alarm{clock: &w.clock, ring: s.bind}
	return s
}

func (s *scheduler) wake() { s.alarm.in(s.world.draw(s.world.scheduled)) }

// bind finds a node for each pod that has none, the oldest first.
func (s *scheduler) bind() {
	w := s.world
	var pending []*podObject
	for _, p := range w.pods.live.items {
		if p.node == "" && !p.deleting && !p.gated && !p.succeeded {
			pending = append(pending, p)
		}
	}
	slices.SortFunc(pending, func(a, b *podObject) int {
		return cmp.Or(a.createdAt.Compare(b.createdAt), strings.Compare(a.member, b.member), cmp.Compare(a.index, b.index),
			strings.Compare(a.name, b.name))
	})
	if len(pending) == 0 {
		return
	}
	cpu, own, used := map[string]int64{}, map[string]int32{}, map[string]int32{}
	for _, p := range w.pods.live.items {
		if p.node != "" {
			cpu[p.node] += p.cpu
			own[p.member+" "+p.node]++
			if p.member != "" {
				used[p.node]++
			}
		}
	}
	for _, p := range pending {
		node := ""
		if p.releasedFor != "" {
			node = s.admitted(p, cpu)
		} else {
			node = s.find(p, cpu, own, used)
		}
		if node != "" {
			cpu[node] += p.cpu
			own[p.member+" "+node]++
			if p.member != "" {
				used[node]++
			}
			w.ledger.unscheduled(p)
			w.pods.update(p.name, func(p *podObject) {
				p.node, p.boundAt, p.refusal, p.running = node, w.now, "", w.starts.most == 0
			})
			w.tell("scheduler", "pod %s goes to %s", p.name, node)
			w.ensemble.podBound(p.member)
			w.jobs.podBound(p.name)
		}
	}
}

// find is a node with room for the pod, of the first pool of its list that has one. A pod of a member goes to a node that it
// shares with others of its own, where it may, before it takes a new one, and keeps off those with pods of other members.
func (s *scheduler) find(p *podObject, cpu map[string]int64, own, used map[string]int32) string {
	w := s.world
	share := int32(1)
	if m := w.members.get(p.member); m != nil {
		share = m.sharing()
	}
	for _, pool := range p.pools {
		best := ""
		for _, n := range w.nodes.live.items {
			if n.pool != pool || s.refuses(p, n, cpu) != "" || (p.member == "" && !s.admits(n)) {
				continue
			}
			mine := own[p.member+" "+n.name]
			switch {
			case p.member != "" && (mine >= share || used[n.name] > mine):
			case p.member != "" && mine > 0 && !w.chance(10):
				return n.name
			case best == "":
				best = n.name
			}
		}
		if best != "" {
			return best
		}
	}
	return ""
}

// admits reports whether other tenants may come to a node: not where the pool is for ensembles alone.
func (s *scheduler) admits(n *nodeObject) bool {
	settings := s.world.cloud.settings(n.pool)
	return settings == nil || !settings.dedicated
}
