package plan_test

import (
	"maps"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// clusterAutoscaler raises every target to the floor that the reservations call for.
func (w *world) clusterAutoscaler() {
	for _, name := range slices.Sorted(maps.Keys(w.pools)) {
		p := w.pools[name]
		p.target = max(p.target, w.floor(name))
		for p.lasting() < p.target {
			if w.useless == nil && ((!w.launches && p.lasting() >= p.stock) || (!w.quiet && w.rand.IntN(30) == 0)) {
				p.OutOfStock = plan.Stockout{At: w.now, Message: "no machine is left"}
				p.target = p.lasting()
				w.tell("%s is out of stock", name)
				break
			}
			node := nodes(name, p.ordered, p.ordered+1)[0]
			node.Order = w.nextOrder(p)
			if node.Labels = p.Labels; node.Labels == nil && w.rand.IntN(12) > 0 {
				node.Labels = map[string]string{zoneKey: []string{"x", "x", "y"}[w.rand.IntN(3)]}
			}
			boot := time.Duration(w.rand.IntN(60)) * time.Second
			if !w.quiet && w.rand.IntN(20) == 0 {
				boot = time.Hour // It never comes in time.
			}
			n := &worldNode{Node: node, registeredAt: w.now.Add(boot), readyAt: w.now.Add(boot + time.Second)}
			if w.launches {
				n.launchAt = w.now.Add(time.Duration(w.rand.Int64N(int64(launching))))
				n.readyAt = n.launchAt.Add(stockBoot/2 + time.Duration(w.rand.Int64N(int64(stockBoot/2))))
				n.registeredAt = n.readyAt.Add(-time.Second)
			}
			p.nodes[node.Name] = n
			p.ordered++
			w.tell("CA orders %s", node.Name)
			w.dress(p, p.nodes[node.Name])
			w.noteOrder(p)
		}
	}
}

// floor is the minimum size of a pool that the reservations call for.
func (w *world) floor(pool string) int {
	reserved, occupied := int32(0), int32(0)
	for _, m := range w.members {
		for _, r := range m.Reservations {
			if r.NodePool == pool && !m.gone {
				reserved += r.Nodes
				occupied = max(occupied, r.Occupied)
			}
		}
	}
	return int(min(reserved+occupied, w.pools[pool].MaxSize))
}

// release deletes the nodes that nobody holds and that no unmet reservation is waiting for.
func (w *world) release() {
	for _, name := range slices.Sorted(maps.Keys(w.pools)) {
		p := w.pools[name]
		held, unmet := map[string]bool{}, 0
		for _, m := range w.members {
			for _, r := range m.Reservations {
				if r.NodePool == name && !m.gone {
					unmet += max(0, int(r.Nodes)-len(r.Held))
					for _, h := range r.Held {
						held[h] = true
					}
				}
			}
		}
		spare := slices.DeleteFunc(slices.Sorted(maps.Keys(p.nodes)), func(n string) bool {
			return held[n] || p.nodes[n].foreign > 0 || w.used(n) || p.nodes[n].Leaving
		})
		for _, n := range spare {
			if unmet > 0 && !p.nodes[n].Cordoned {
				unmet--
				continue
			}
			if p.target > w.floor(name) {
				delete(p.nodes, n)
				p.target--
				w.tell("provider releases %s", n)
			}
		}
	}
}

func (w *world) used(node string) bool {
	for _, m := range w.members {
		if m.bound(node) > 0 {
			return true
		}
	}
	return false
}

// jobs makes the pods of each member follow its size and binds those that find a node.
func (w *world) jobs() {
	for _, name := range slices.Sorted(maps.Keys(w.members)) {
		m := w.members[name]
		size := m.Size
		if m.gone || m.Lifecycle != plan.Running {
			size = 0
		}
		m.followPods(size)
		if !m.ranked() {
			w.follow(m, size)
		}
		for _, index := range m.ranksOf() {
			if node := m.pods[index]; m.ranked() && index >= size {
				delete(m.pods, index)
				if node != "" {
					m.leaving[node]++
				}
			} else if node != "" && w.node(node) == nil && !w.outside[node] {
				m.dropPod(index) // Its node is lost; the Job makes a new pod.
			}
		}
		for _, node := range slices.Sorted(maps.Keys(m.leaving)) {
			if (w.node(node) == nil && !w.outside[node]) || w.rand.IntN(3) == 0 {
				delete(m.leaving, node)
			}
		}
		for _, list := range []map[int32]bool{m.gates.waits, mapOf(m.gates.released)} {
			for index := range list {
				if m.ranked() && index >= size {
					m.gates.forget(index)
				}
			}
		}
		for _, index := range m.made(size) {
			_, exists := m.pods[index]
			switch {
			case m.pods[index] != "" || m.podsOf.succeeded[index] || (!exists && !m.mayMake()):
			case m.gates.on:
				m.pods[index] = ""
				w.admit(m, index)
			default:
				m.pods[index] = w.bind(m)
			}
		}
	}
}

func (w *world) bind(m *worldMember) string {
	for _, name := range m.NodePools {
		p := w.pools[name]
		for _, n := range slices.Sorted(maps.Keys(p.nodes)) {
			node := p.nodes[n]
			if !node.Ready || node.readyAt.After(w.now) || node.Cordoned || node.foreign > 0 {
				continue
			}
			// The pods of one member may share a node. Now and then one of them is on its own though there were room.
			if own := m.on(n); !w.used(n) || (own > 0 && own < w.perNode(m, name) && w.rand.IntN(8) > 0) {
				return n
			}
		}
	}
	return ""
}
