package nodegroup_test

import (
	"slices"
	"strings"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// clusterAutoscaler is one of the things that it does.
func (w *world) clusterAutoscaler() {
	if w.group.FollowsFloor {
		return
	}
	switch w.rand.IntN(7) {
	case 0, 1:
		w.enforce()
	case 2:
		w.increase(int32(1+w.rand.IntN(2)), -1)
	case 3:
		w.scaleDown()
	case 4:
		w.changeItsMind()
	case 5:
		w.repair()
	case 6:
		w.believeMissing()
	}
}

// scaleDown deletes a node that nobody uses.
func (w *world) scaleDown() {
	g := w.look()
	for i := range g.Machines {
		m := &g.Machines[i]
		if m.Node == nil || m.Failure != nil || m.Node.Pods > 0 || m.Node.HeldBy != "" || m.Node.Releasing || g.Target-1 < w.told {
			continue
		}
		w.deleteNodes(g, []string{m.ProviderID}, "a node that nobody uses")
		return
	}
}

// asked are the machines that ids stand for, as the server finds them.
func (w *world) asked(ids []string) (asked []nodegroup.Asked) {
	for _, id := range ids {
		if _, name, is := nodegroup.ParsePlaceholder(id); is {
			asked = append(asked, nodegroup.Asked{Machine: name, ByPlaceholder: true})
			continue
		}
		for _, m := range w.machines {
			if m.ProviderID == id {
				asked = append(asked, nodegroup.Asked{Machine: m.Name})
			}
		}
	}
	return asked
}

// deleteNodes is the number of machines that are newly to go.
func (w *world) deleteNodes(g *nodegroup.Group, ids []string, why string) int {
	victims, target, err := g.DeleteNodes(w.asked(ids))
	if err != nil || len(victims) == 0 {
		return 0
	}
	w.group.Target, w.group.ForMembers = target, min(w.group.ForMembers, target)
	w.group.ToDelete = append(w.group.ToDelete, victims...)
	w.tell("Cluster Autoscaler deletes %v: %s", victims, why)
	return len(victims)
}

// enforce is a loop of Cluster Autoscaler that asks for the minimum size and raises the target to it. What it believes may be
// of its last loop.
func (w *world) enforce() {
	if w.group.FollowsFloor {
		return
	}
	w.forgetFailed()
	if w.quiet || w.rand.IntN(4) > 0 {
		w.told, w.listed = w.look().MinSizeToTell(), w.group.Target
		w.group.AnnouncedFloor = w.told
	}
	if w.listed < w.told {
		w.increase(w.told-w.listed, w.listed)
	}
}

// failedIDs are those that it is told have failed to come.
func failedIDs(instances []nodegroup.Instance) (failed []string) {
	for _, i := range instances {
		if i.Failure != nil && i.State == nodegroup.InstanceCreating {
			failed = append(failed, i.ProviderID)
		}
	}
	return failed
}

// countInstances is the number of machines that it counts: nodes that have registered, and instances that are about to.
func countInstances(instances []nodegroup.Instance) (count int32) {
	for _, i := range instances {
		if i.State == nodegroup.InstanceRunning || (i.State == nodegroup.InstanceCreating && i.Failure == nil) {
			count++
		}
	}
	return count
}

// forgetFailed deletes the machines that have failed, as Cluster Autoscaler does once a loop.
func (w *world) forgetFailed() {
	g := w.look()
	w.deleteNodes(g, failedIDs(g.Instances(w.now)), "they have failed")
}

// repair brings the target down to what it counts.
func (w *world) repair() {
	w.forgetFailed()
	g := w.look()
	delta := countInstances(g.Instances(w.now)) - g.Target
	if delta >= 0 {
		return
	}
	target, err := g.DecreaseTargetSize(delta)
	w.promise(err == nil && target < g.Target, "DecreaseTargetSize(%d) of target %d gives %d: %v", delta, g.Target, target, err)
	w.tell("DecreaseTargetSize(%d): target %d -> %d", delta, g.Target, target)
	w.done["repaired"]++
	w.group.Target, w.group.ForMembers = target, min(w.group.ForMembers, target)
}

// believeMissing deletes a machine that it believes has not come, though it has.
func (w *world) believeMissing() {
	for _, name := range w.names() {
		if m := w.machines[name]; m.Registered {
			g := w.look()
			victims, target, err := g.DeleteNodes(w.asked([]string{nodegroup.Placeholder("hpc", name)}))
			w.promise(
				g.Paused == (err != nil) && len(victims) == 0 && (err != nil || target == g.Target),
				"%s has registered, and is deleted by its placeholder", name,
			)
			w.done["believed missing"]++
			return
		}
	}
}

// changeItsMind orders two machines and deletes one of them before it exists.
func (w *world) changeItsMind() {
	before := map[string]bool{}
	for _, i := range w.look().Instances(w.now) {
		before[i.ProviderID] = true
	}
	w.increase(2, -1)
	var fresh []string
	for _, i := range w.look().Instances(w.now) {
		if !before[i.ProviderID] {
			fresh = append(fresh, i.ProviderID)
		}
	}
	if len(fresh) < 2 || w.group.Paused {
		return
	}
	target := w.group.Target
	victims := w.deleteNodes(w.look(), fresh[w.rand.IntN(2):][:1], "it is on order")
	w.promise(
		victims == 1 && w.group.Target == target-1, "of %v on order %d are deleted, and the target goes from %d to %d", fresh, victims, target,
		w.group.Target,
	)
}

// increase orders machines. told is the target that it was told, -1 for the one of now.
func (w *world) increase(delta, told int32) {
	if told < 0 && w.rand.IntN(2) == 0 {
		told = w.group.Target
	}
	target, forMembers, err := w.look().IncreaseSize(delta, told)
	if err != nil {
		return
	}
	w.promise(
		target >= w.group.Target && (told < 0 || target <= max(w.group.Target, told+delta)), "IncreaseSize(%d), told %d: target %d -> %d",
		delta, told, w.group.Target, target,
	)
	if target < w.group.Target+delta {
		w.done["lacking less"]++
	}
	w.tell("IncreaseSize(%d), told %d: target %d -> %d, %d for members", delta, told, w.group.Target, target, forMembers)
	w.group.Target, w.group.ForMembers = target, forMembers
}

// going is the number of machines that exist and are on their way out.
func (w *world) going() int {
	count := 0
	for _, name := range w.group.ToDelete {
		if w.machines[name] != nil {
			count++
		}
	}
	return count
}

// checkCounted is what Cluster Autoscaler's life depends on: it counts as many machines as the target says, or the request with which
// it repairs that succeeds and changes something. Otherwise it does nothing any more, for no group.
func (w *world) checkCounted(g *nodegroup.Group) {
	instances := g.Instances(w.now)
	count, failed := countInstances(instances), failedIDs(instances)
	w.promise(!g.Paused || len(failed) == 0, "a paused pool tells that %v have failed", failed)
	switch {
	case count >= g.Target:
	case len(failed) > 0:
		victims, target, err := g.DeleteNodes(w.asked(failed))
		w.promise(err == nil && len(victims) > 0 && target < g.Target,
			"%d of %d machines are counted, and DeleteNodes(%s) deletes %v of them: %v",
			count, g.Target, strings.Join(failed, ", "), victims, err)
	default:
		target, err := g.DecreaseTargetSize(count - g.Target)
		w.promise(
			err == nil && target < g.Target, "%d of %d machines are counted, and DecreaseTargetSize makes the target %d: %v", count, g.Target,
			target, err,
		)
	}
	ids := map[string]bool{}
	for _, i := range instances {
		w.promise(!ids[i.ProviderID], "instance %s is listed twice", i.ProviderID)
		ids[i.ProviderID] = true
	}
	for name, m := range w.machines {
		if m.Registered {
			w.promise(ids[m.ProviderID], "%s has a node and is listed by another id than its own", name)
		}
	}
	w.promise(!slices.Contains(slices.Collect(func(yield func(bool) bool) {
		for _, i := range instances {
			if !yield(i.ProviderID == "") {
				return
			}
		}
	}), true), "an instance has no id")
}
