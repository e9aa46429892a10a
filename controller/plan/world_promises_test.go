package plan_test

import (
	"maps"
	"slices"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// check asserts what must hold after every step.
func (w *world) check() {
	holder := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(w.members)) {
		m := w.members[name]
		if m.gone {
			continue
		}
		var total int32
		for _, r := range m.Reservations {
			total += r.Nodes
			for _, n := range r.Held {
				w.promise(holder[n] == "", "%s is held for %s and for %s", n, holder[n], name)
				holder[n] = name
			}
		}
		w.checkDomain(m)
		w.checkNothingIdle(m)
		w.checkLacking(m)
		w.promise(total <= max(m.Size, m.formerSize) || m.came || w.needless(m) > 0 || m.PodsLacking != nil || m.Invalid != "" ||
			// Ranks that needed no node may be beyond a size that has just been written.
			(m.SizeGiven && m.Size != m.FormerSize) ||
			w.sizes[name][total] || m.GrowthPolicy != v1alpha1.GrowthAllOrNothing || m.sharing(),
			"%s has reserved %d (%+v, size %d, wants %d, %+v), which is no size that it asked for", name, total, m.Reservations, m.Size, m.Wants,
			m.Growth)
	}
	for name, p := range w.pools {
		var sum int32
		for _, m := range w.members {
			for _, r := range m.Reservations {
				if r.NodePool == name && !m.gone {
					sum += r.Nodes
				}
			}
		}
		w.promise(sum <= p.MaxSize, "%d nodes are reserved in %s, whose maxSize is %d", sum, name, p.MaxSize)
	}
}

// conditionOf is a condition of a decision.
func conditionOf(d plan.Decision, kind string) (reason string, isTrue bool) {
	for _, c := range d.Conditions {
		if c.Type == kind {
			return c.Reason, c.Status == "True"
		}
	}
	return "", false
}

// checkRest asserts what must hold when nothing happens any more.
func (w *world) checkRest() {
	decisions := w.reconcile(-1)
	// An attempt may have failed just now.
	w.release()
	for _, d := range decisions.Members {
		m, name := w.memberOf(d), nameOf(d.Key.Name, d.Group)
		if slices.ContainsFunc(m.groups(), func(m *worldMember) bool { return w.unlucky(m) || m.restless() }) {
			continue
		}
		w.promise(len(d.Notes) == 0, "at rest a pass still does something for %s: %v", name, d.Notes)
		w.promise(d.Resize == 0, "at rest %s is resized", name)
		reason, reserved := conditionOf(d, v1alpha1.ConditionCapacityReserved)
		if m.Lifecycle == plan.Running && reserved {
			w.promise(
				m.Size == m.Wants, "at rest %s has size %d and wants %d, and no reason is given: %+v %+v of %+v", name, m.Size, m.Wants,
				d.Conditions, d.Growth, d.Reservations,
			)
		}
		if !reserved {
			w.promise(reason == v1alpha1.ReasonPoolFull || reason == v1alpha1.ReasonPoolTooSmall ||
				reason == v1alpha1.ReasonQueued || reason == v1alpha1.ReasonBackingOff ||
				// The groups have no pool or no zone in common.
				(len(m.groups()) > 1 && (reason == v1alpha1.ReasonTopologyMismatch || reason == v1alpha1.ReasonPoolNotFound)) ||
				(m.Lifecycle == plan.Suspended && reason == v1alpha1.ReasonSuspended), "at rest %s waits for %s", name, reason)
		}
		if m.Lifecycle == plan.Running && reserved && m.Size == m.Wants {
			// Pods that share nodes may be spread over more of them than they need.
			used, waiting := map[string]bool{}, 0
			for _, node := range m.pods {
				if w.outside[node] {
					continue
				}
				own := w.holder(node) == nil || w.holder(node) == m
				used[node] = used[node] || own
				if node == "" || !own {
					// Its node is reserved: it has been booting for longer than this world lasts, or the pod, which is small,
					// is on a node that another member holds.
					waiting++
				}
			}
			share := min(w.perNode(m, m.NodePools[0]), w.perNode(m, m.NodePools[len(m.NodePools)-1]))
			maps.DeleteFunc(used, func(node string, is bool) bool { return node == "" || !is })
			least := (int(m.Size) - w.countOutside(m) - m.countSucceeded(m.Size) + share - 1) / share
			w.promise(int(d.Reserved()) <= max(least, len(used)+waiting) && int(d.Reserved()) >= len(used),
				"at rest %s of size %d has reserved %d nodes; its pods are on %d", name, m.Size, d.Reserved(), len(used))
		}
		if d.FirstUnmet() == v1alpha1.ConditionReady && m.Lifecycle == plan.Running {
			w.promise(len(m.gates.waits) == 0 && len(m.gates.released) == 0, "at rest %s has all it wants, and pods behind the gate %v, or on "+
				"their way %v",
				name, m.gates.waits, m.gates.released)
		}
		if m.Lifecycle != plan.Running {
			w.promise(len(d.Reservations) == 0, "at rest %s has ended and still holds %+v", name, d.Reservations)
		}
	}
	for name, p := range w.pools {
		held, kept := map[string]bool{}, 0
		for _, m := range w.members {
			for _, r := range m.Reservations {
				for _, n := range r.Held {
					held[n] = held[n] || !m.gone
				}
				if r.NodePool == name && !m.gone {
					// The provider keeps as many nodes as claims lack, and does not know that one is of no use to its member.
					kept += max(0, int(r.Nodes)-len(r.Held))
				}
			}
		}
		for _, n := range slices.Sorted(maps.Keys(p.nodes)) {
			if node := p.nodes[n]; kept > 0 && !held[n] && node.foreign == 0 && !w.used(n) && !node.Cordoned && !node.readyAt.After(w.now) {
				kept--
				held[n] = true
			}
		}
		for n, node := range p.nodes {
			w.promise(held[n] || node.foreign > 0 || w.used(n) || node.Cordoned || node.readyAt.After(w.now) || p.target <= len(held) ||
				p.target <= w.floor(name),
				"at rest %s of %s is held by nobody and not released", n, name)
		}
	}
}
