package plan_test

import (
	"maps"
	"slices"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// groupOf is what a member of the world has beside others because it is one of several groups of pods, or because its pods have no ranks.
type groupOf struct {
	// all are the groups of its workload, of which it is one; nil for a workload with one.
	all []*worldMember
	// torn is set where the groups are given their sizes one after the other, and not in one write.
	torn bool
	// leaves has the pods that were named to leave and are still there, next is what the next pod is called. Both are of groups whose
	// pods have no ranks.
	leaves map[int32]bool
	next   int32
	// led is set for a group whose Named pods have a lead: the oldest.
	led bool
}

// name is what the world calls a member: by the name of its workload, and of its group.
func (m *worldMember) name() string { return nameOf(m.Key.Name, m.Group) }

func nameOf(workload, group string) string {
	if group == "" {
		return workload
	}
	return workload + "/" + group
}

// groups are those of the member's workload.
func (m *worldMember) groups() []*worldMember {
	if m.group.all == nil {
		return []*worldMember{m}
	}
	return m.group.all
}

// isFirst reports whether a member is the first group of its workload: what happens to that happens to all.
func (m *worldMember) isFirst() bool { return m.groups()[0] == m }

// ranked reports whether the pods of a member have ranks, of which the highest leave.
func (m *worldMember) ranked() bool { return m.Leaves == plan.Highest }

// unit is how many pods of a member grow together.
func (m *worldMember) unit() int32 { return max(1, m.Unit) }

// stays reports whether a pod is not about to leave, as far as anybody knows.
func (m *worldMember) stays(pod int32) bool {
	if m.ranked() {
		return pod < m.Size
	}
	return !m.group.leaves[pod]
}

// there are the pods that exist, or have succeeded, and are not about to leave, in order.
func (m *worldMember) there() []int32 {
	var out []int32
	for pod := range m.pods {
		if m.stays(pod) {
			out = append(out, pod)
		}
	}
	for pod := range m.podsOf.succeeded {
		if m.stays(pod) {
			out = append(out, pod)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// lead is the pod that leads a group; nil for none.
func (m *worldMember) lead() *int32 {
	there := slices.DeleteFunc(m.there(), func(pod int32) bool { return m.podsOf.succeeded[pod] })
	if !m.group.led || len(there) == 0 {
		return nil
	}
	return &there[0]
}

// lacks counts the pods of a member's size that do not exist.
func (m *worldMember) lacks() int {
	if m.ranked() {
		return int(m.Size) - len(m.there())
	}
	return max(0, int(m.Size)-len(m.there()))
}

// placed counts the pods that are on nodes, or on their way to one, and are not about to leave.
func (m *worldMember) placed() int {
	count := 0
	for _, on := range []map[int32]string{m.pods, m.gates.released} {
		for pod, node := range on {
			if node != "" && m.stays(pod) {
				count++
			}
		}
	}
	return count
}

// follow makes pods without ranks follow a size: those that were named leave, and of more than the size it is any of them.
func (w *world) follow(m *worldMember, size int32) {
	for {
		there := m.there()
		if len(there) <= int(size) {
			break
		}
		m.group.leaves[there[w.rand.IntN(len(there))]] = true
	}
	for _, pod := range slices.Sorted(maps.Keys(m.group.leaves)) {
		if node := m.pods[pod]; node != "" {
			m.leaving[node]++
		}
		m.dropPod(pod)
		delete(m.podsOf.succeeded, pod)
		delete(m.group.leaves, pod)
	}
}

// made are the pods that a member has, and is to have, as far as they can be made.
func (m *worldMember) made(size int32) []int32 {
	if m.ranked() {
		out := make([]int32, size)
		for rank := range size {
			out[rank] = rank
		}
		return out
	}
	for len(m.there()) < int(size) && m.mayMake() {
		m.pods[m.group.next] = ""
		m.group.next++
	}
	return m.there()
}

// drawGroups gives a workload that arrives its groups. Those of one have lists of pools, shapes, sizes, units and ways of leaving of their
// own.
func (w *world) drawGroups() []string {
	if w.useless != nil || w.rand.IntN(3) > 0 {
		return []string{""}
	}
	return []string{"a", "b", "c"}[:2+w.rand.IntN(2)]
}

// checkLeave is the promise of pods that leave by name: as many are named as there are too many, of those that are there, never the lead,
// and none that works while one that does not is to stay.
func (w *world) checkLeave(m *worldMember, d plan.Decision) {
	if m.Leaves != plan.Named {
		w.promise(len(d.Leave) == 0, "%s names %v, whose pods do not leave by name", m.name(), d.Leave)
		return
	}
	there := m.there()
	most := 0
	if d.Resize > 0 && d.Resize < m.Size {
		most = max(0, len(there)-int(d.Resize))
	}
	w.promise(len(d.Leave) == most, "%s is resized from %d to %d with %d pods and names %v", m.name(), m.Size, d.Resize, len(there), d.Leave)
	works := false
	for _, pod := range d.Leave {
		w.promise(slices.Contains(there, pod), "%s names pod %d, which is not there", m.name(), pod)
		w.promise(m.lead() == nil || pod != *m.lead(), "%s names pod %d, which is its lead", m.name(), pod)
		works = works || m.pods[pod] != ""
	}
	for pod := range m.gates.waits {
		w.promise(
			!works || !m.stays(pod) || slices.Contains(d.Leave, pod) || (m.lead() != nil && pod == *m.lead()),
			"%s names %v to leave, which are on nodes, and not %d, which is behind the gate", m.name(), d.Leave, pod,
		)
	}
}

// checkGivenBack is the promise that a node is held until the pods of its group have left it: none that they are on is given back.
func (w *world) checkGivenBack(m *worldMember, d plan.Decision) {
	if !m.gates.on {
		// Its pods go where they like, also to nodes that are held for others.
		return
	}
	for _, r := range m.Reservations {
		for _, name := range r.Held {
			still := slices.ContainsFunc(d.Reservations, func(r v1alpha1.Reservation) bool { return slices.Contains(r.Held, name) })
			w.promise(still || w.node(name) == nil || m.bound(name) == 0, "%s gives back %s with %d of its pods", m.name(), name, m.bound(name))
		}
	}
}

// checkUnits is the promise of pods that grow together: what a member is given, or has to give up, is a multiple of them.
func (w *world) checkUnits(m *worldMember, d plan.Decision) {
	w.promise(
		d.Resize == 0 || (d.Resize-m.Size)%m.unit() == 0, "%s is resized from %d to %d and grows by %d", m.name(), m.Size, d.Resize, m.unit(),
	)
	w.promise(
		d.GiveUp == nil || (d.GiveUp.Size-m.Size)%m.unit() == 0, "%s of size %d gives up all but %+v and grows by %d", m.name(), m.Size, d.GiveUp,
		m.unit(),
	)
}

// checkUnitsReleased is checkUnits for pods that exist: of a growth that takes what there is whole units are released.
func (w *world) checkUnitsReleased(m *worldMember, d plan.Decision) {
	if m.unit() == 1 || m.GrowthPolicy == v1alpha1.GrowthAllOrNothing || m.lacks() > 0 || len(m.podsOf.succeeded) > 0 ||
		w.countOutside(m) > 0 || len(m.there()) > int(m.Size) {
		return
	}
	if after := m.placed() + len(d.Release); after > int(m.gates.complete) {
		w.promise((int(m.Size)-after)%int(m.unit()) == 0, "%s has %d of %d pods released and grows by %d", m.name(), after, m.Size, m.unit())
	}
}

// claimsOf are the nodes of some reservations.
func claimsOf(list []v1alpha1.Reservation) int {
	sum := 0
	for _, r := range list {
		sum += int(r.Nodes)
	}
	return sum
}

// isGang reports whether the groups of a member's workload are to grow as one. Nodes that pods went to by themselves are claimed for each
// group by itself, and how many pods share some is not known.
func (m *worldMember) isGang() bool {
	return len(m.groups()) > 1 && m.GrowthPolicy == v1alpha1.GrowthAllOrNothing && m.gates.on
}

// checkGang is the promise of a gang of groups: when one of them is granted nodes of its size all have those of theirs, when one is granted
// more all have what they ask for, and of one pool where that is wanted; and when one of them is resized, the nodes of all are there.
func (w *world) checkGang(decisions []plan.Decision) {
	first := w.members[nameOf(decisions[0].Key.Name, decisions[0].Group)]
	if !first.isGang() || first.Lifecycle != plan.Running || first.Invalid != "" {
		return
	}
	grown := map[string]bool{}
	resized, beyond := false, false
	for _, d := range decisions {
		m := w.members[nameOf(d.Key.Name, d.Group)]
		resized = resized || d.Resize > m.Size
		if m.sharing() || claimsOf(d.Reservations) <= claimsOf(m.Reservations) {
			continue
		}
		beyond = beyond || claimsOf(d.Reservations) > int(m.Size)-w.needlessAfter(m, d)
		for _, r := range d.Reservations {
			before := 0
			for _, old := range m.Reservations {
				if old.NodePool == r.NodePool {
					before = int(old.Nodes)
				}
			}
			if int(r.Nodes) > before {
				grown[r.NodePool] = true
			}
		}
	}
	for _, d := range decisions {
		m := w.members[nameOf(d.Key.Name, d.Group)]
		if resized {
			ready := 0
			for _, r := range d.Reservations {
				for _, name := range r.Held {
					if n := w.node(name); n != nil && n.Ready && !n.Leaving && !n.readyAt.After(w.now) {
						ready++
					}
				}
			}
			w.promise(ready >= claimsOf(d.Reservations), "a group is resized beside %s, of whose %d nodes %d are there", m.name(),
				claimsOf(d.Reservations), ready)
		}
		if len(grown) == 0 || m.sharing() || m.Wants < m.Size {
			continue
		}
		needs := int(m.Size)
		if beyond {
			needs = int(max(m.Size, m.Wants))
		}
		needs -= w.needlessAfter(m, d)
		w.promise(claimsOf(d.Reservations) >= needs,
			"a group is granted nodes of %v beside %s, which has %d of %d: had %+v, has %+v", slices.Sorted(maps.Keys(grown)), m.name(),
			claimsOf(d.Reservations), needs, m.Reservations, d.Reservations)
	}
	w.promise(len(grown) <= 1 || first.Placement != v1alpha1.PlacementSingle, "%s is granted nodes of %v, which are to come from one pool",
		first.Key.Name, slices.Sorted(maps.Keys(grown)))
}

// needlessAfter counts the ranks of a member that need no node once a decision is recorded.
func (w *world) needlessAfter(m *worldMember, d plan.Decision) int {
	count := w.countOutside(m) + m.countSucceeded(m.Size)
	if d.PodsLacking != nil {
		count += int(d.PodsLacking.GivenBack)
	}
	return count
}

// byWorkload divides decisions into those of each workload.
func byWorkload(decisions []plan.Decision) [][]plan.Decision {
	var out [][]plan.Decision
	for _, d := range decisions {
		if last := len(out) - 1; last >= 0 && out[last][0].Key == d.Key {
			out[last] = append(out[last], d)
		} else {
			out = append(out, []plan.Decision{d})
		}
	}
	return out
}
