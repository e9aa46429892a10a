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
			w.desireMore(m)
		}
	case 4, 5:
		if m != nil && m.Lifecycle == plan.Running {
			w.desire(m, max(1, m.Wants-m.unit()*int32(w.rand.IntN(6/int(m.unit()))+1)), "shrink")
		}
	case 6:
		if m != nil && w.rand.IntN(4) == 0 {
			w.live(m, plan.Finished+plan.Lifecycle(w.rand.IntN(2)))
			w.tell("%s ends", m.Key.Name)
		}
	case 7:
		if m != nil && (m.Lifecycle == plan.Finished || m.Lifecycle == plan.Deleting) {
			for _, m := range m.groups() {
				m.gone = true
			}
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
			w.edit(m, m.unit()*(int32(w.rand.IntN(8/int(m.unit())))+1))
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
		if node := m.pods[index]; m.ranked() && w.outside[node] {
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
	lists := [][]string{{"a"}, {"b"}, {"a", "b"}, {"b", "a"}, {"c"}, {"a", "b", "c"}, {"c", "a"}}
	policies := []v1alpha1.GrowthPolicy{
		v1alpha1.GrowthAllOrNothing, v1alpha1.GrowthAllOrNothing, v1alpha1.GrowthBestEffort, v1alpha1.GrowthGreedy,
	}
	policy := policies[w.rand.IntN(len(policies))]
	placement := []v1alpha1.Placement{v1alpha1.PlacementSpan, v1alpha1.PlacementSingle}[w.rand.IntN(2)]
	giveUpAfter, key := []int32{0, 0, 2}[w.rand.IntN(3)], ""
	if w.rand.IntN(2) == 0 {
		key = zoneKey
	}
	// The pods of members that have to be in one zone are gated and so go to the nodes held for them alone.
	gated, torn := key != "" || w.rand.IntN(2) == 0, w.rand.IntN(2) == 0
	list := lists[w.rand.IntN(len(lists))]
	var all []*worldMember
	for _, group := range w.drawGroups() {
		if group != "" && w.rand.IntN(2) == 0 {
			list = lists[w.rand.IntN(len(lists))]
		}
		m := w.drawMember(name, list, gated)
		m.Group, m.GrowthPolicy, m.Placement, m.GiveUpAfter, m.TopologyKey = group, policy, placement, giveUpAfter, key
		m.group.torn = torn
		all = append(all, m)
	}
	for _, m := range all {
		if len(all) > 1 {
			m.group.all = all
		}
		w.members[m.name()] = m
		if !gated && len(all) == 1 && m.ranked() && m.unit() == 1 && w.rand.IntN(3) == 0 {
			m.came, m.SizeGiven = true, false
			for index := range m.Size {
				m.pods[index] = fmt.Sprintf("x-%d", index)
			}
			w.tell("%s runs outside the pools", name)
		}
		w.sizes[m.name()] = map[int32]bool{m.Size: true}
		w.tell(
			"%s arrives with size %d, pools %s, %s, %s, pods per node %d, gated: %v, leaves: %d, unit %d", m.name(), m.Size,
			strings.Join(m.NodePools, ","), m.GrowthPolicy, m.Placement, m.PodsPerNode, gated, m.Leaves, m.unit(),
		)
	}
	if key != "" {
		w.tell("%s has to be in one zone", name)
	}
}

// drawMember is a new member, or a group of one, with a shape, a size, a unit and a way of leaving of its own.
func (w *world) drawMember(name string, pools []string, gated bool) *worldMember {
	b := member(name, 0, 0, pools...)
	if w.useless == nil {
		b.Unit = []int32{0, 0, 0, 2, 3}[w.rand.IntN(5)]
		b.Leaves = []plan.Leaves{plan.Highest, plan.Highest, plan.Named, plan.Unknown}[w.rand.IntN(4)]
	}
	b.Size = max(1, b.Unit) * (int32(w.rand.IntN(3)) + 1)
	b.Wants, b.SizeGiven = b.Size, true
	if w.rand.IntN(3) == 0 {
		b.PodsPerNode = []int32{2, 3, plan.Auto}[w.rand.IntN(3)]
		b.PodRequests = plan.Resources{corev1.ResourceCPU: 1300, corev1.ResourcePods: 1}
	}
	return &worldMember{
		Member: b.Member, pods: map[int32]string{}, leaving: map[string]int{}, gates: newGates(gated), podsOf: newPods(),
		group: groupOf{leaves: map[int32]bool{}, led: b.Leaves == plan.Named && w.rand.IntN(2) == 0},
	}
}

// live is what becomes of the life of a workload, with all of its groups.
func (w *world) live(m *worldMember, lifecycle plan.Lifecycle) {
	for _, m := range m.groups() {
		m.Lifecycle = lifecycle
	}
}

// desireMore makes a member ask for more, or all groups of its workload at once.
func (w *world) desireMore(m *worldMember) {
	all := m.groups()
	if w.rand.IntN(2) == 0 {
		all = []*worldMember{m}
	}
	for _, m := range all {
		w.desire(m, m.Wants+m.unit()*int32(w.rand.IntN(6/int(m.unit()))+1), "grow")
	}
}

func (w *world) desire(m *worldMember, size int32, verb string) {
	if beyond := ((size-m.Size)%m.unit() + m.unit()) % m.unit(); beyond != 0 {
		// It grows and shrinks by whole units.
		size += m.unit() - beyond
	}
	m.Wants = size
	w.sizes[m.name()][size] = true
	w.tell("%s asks to %s to %d (has %d)", m.name(), verb, size, m.Size)
}
