package plan_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// happen lets one thing happen that none of our parts decides.
func (w *world) happen() {
	live := slices.DeleteFunc(slices.Sorted(maps.Keys(w.members)), func(n string) bool { return w.members[n].gone })
	some := func() *worldMember {
		if len(live) == 0 {
			return nil
		}
		return w.members[live[w.rand.IntN(len(live))]]
	}
	switch m := some(); w.rand.IntN(20) {
	case 0:
		if len(live) < 4 {
			w.arrive()
		}
	case 1, 2, 3:
		if m != nil && m.Lifecycle == plan.Running {
			w.desire(m, m.Wants+int32(w.rand.IntN(6))+1, "grow")
		}
	case 4, 5:
		if m != nil && m.Lifecycle == plan.Running {
			w.desire(m, max(1, m.Wants-int32(w.rand.IntN(6))-1), "shrink")
		}
	case 6:
		if m != nil && w.rand.IntN(4) == 0 {
			m.Lifecycle = plan.Finished + plan.Lifecycle(w.rand.IntN(2))
			w.tell("%s ends", m.Key.Name)
		}
	case 7:
		if m != nil && (m.Lifecycle == plan.Finished || m.Lifecycle == plan.Deleting) {
			m.gone = true
			w.tell("%s is gone", m.Key.Name)
		}
	case 8, 9:
		if n := w.anyNode(); n != nil && !w.used(n.Name) && !n.readyAt.After(w.now) && n.Ready {
			n.foreign = 1 - n.foreign
			w.tell("%d foreign pods on %s", n.foreign, n.Name)
		}
	case 10:
		if n := w.anyNode(); n != nil && w.rand.IntN(3) == 0 {
			p := w.pools[n.Pool]
			delete(p.nodes, n.Name)
			w.tell("%s is lost", n.Name)
		}
	case 11:
		if n := w.anyNode(); n != nil {
			n.Cordoned = !n.Cordoned
			w.tell("%s cordoned: %v", n.Name, n.Cordoned)
		}
	case 12:
		if m != nil && m.Lifecycle == plan.Running && m.Invalid == "" && w.rand.IntN(2) == 0 {
			w.edit(m, int32(w.rand.IntN(8))+1)
		}
	case 13:
		if m != nil && m.Lifecycle == plan.Running {
			w.evict(m)
		}
	case 14:
		w.announce(w.anyNode())
	case 15, 16, 17:
		if m != nil && (m.Lifecycle == plan.Running || m.Lifecycle == plan.Suspended) {
			w.happenToPods(m)
		}
	case 18:
		w.restock()
	case 19:
		if w.rand.IntN(20) == 0 {
			w.deleteNamespace()
		}
	}
}

// evict takes a pod off a node outside the pools. Its Job makes another.
func (w *world) evict(m *worldMember) {
	for index := range m.Size {
		if node := m.pods[index]; w.outside[node] {
			m.pods[index] = ""
			m.leaving[node]++
			w.tell("rank %d of %s has to leave %s", index, m.Key.Name, node)
			return
		}
	}
}

// holder is the member that holds a node, nil for none.
func (w *world) holder(node string) *worldMember {
	for _, m := range w.members {
		for _, r := range m.Reservations {
			if !m.gone && slices.Contains(r.Held, node) {
				return m
			}
		}
	}
	return nil
}

func (w *world) anyNode() *worldNode {
	var all []*worldNode
	for _, name := range slices.Sorted(maps.Keys(w.pools)) {
		for _, n := range slices.Sorted(maps.Keys(w.pools[name].nodes)) {
			all = append(all, w.pools[name].nodes[n])
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[w.rand.IntN(len(all))]
}

func (w *world) arrive() {
	name := fmt.Sprintf("m%d", len(w.members))
	size := int32(w.rand.IntN(3)) + 1
	lists := [][]string{{"a"}, {"b"}, {"a", "b"}, {"b", "a"}, {"c"}, {"a", "b", "c"}, {"c", "a"}}
	b := member(name, size, size, lists[w.rand.IntN(len(lists))]...)
	policies := []v1alpha1.GrowthPolicy{
		v1alpha1.GrowthAllOrNothing, v1alpha1.GrowthAllOrNothing, v1alpha1.GrowthBestEffort, v1alpha1.GrowthGreedy,
	}
	b.GrowthPolicy = policies[w.rand.IntN(len(policies))]
	b.Placement = []v1alpha1.Placement{v1alpha1.PlacementSpan, v1alpha1.PlacementSingle}[w.rand.IntN(2)]
	if w.rand.IntN(3) == 0 {
		b.PodsPerNode = []int32{2, 3, plan.Auto}[w.rand.IntN(3)]
		b.PodRequests = plan.Resources{corev1.ResourceCPU: 1300, corev1.ResourcePods: 1}
	}
	b.GiveUpAfter = []int32{0, 0, 2}[w.rand.IntN(3)]
	if w.rand.IntN(2) == 0 {
		b.TopologyKey = zoneKey
	}
	// The pods of members that have to be in one zone are gated and so go to the nodes held for them alone.
	gated := b.TopologyKey != "" || w.rand.IntN(2) == 0
	b.SizeGiven = true
	w.members[name] = &worldMember{
		Member: b.Member, pods: map[int32]string{}, leaving: map[string]int{}, gates: newGates(gated), podsOf: newPods(),
	}
	if m := w.members[name]; !gated && w.rand.IntN(3) == 0 {
		m.came, m.SizeGiven = true, false
		for index := range size {
			m.pods[index] = fmt.Sprintf("x-%d", index)
		}
		w.tell("%s runs outside the pools", name)
	}
	w.sizes[name] = map[int32]bool{size: true}
	w.tell(
		"%s arrives with size %d, pools %s, %s, %s, pods per node %d, gated: %v", name, size, strings.Join(b.NodePools, ","), b.GrowthPolicy,
		b.Placement, b.PodsPerNode, gated,
	)
	if b.TopologyKey != "" {
		w.tell("%s has to be in one zone", name)
	}
}

func (w *world) desire(m *worldMember, size int32, verb string) {
	m.Wants = size
	w.sizes[m.Key.Name][size] = true
	w.tell("%s asks to %s to %d (has %d)", m.Key.Name, verb, size, m.Size)
}
