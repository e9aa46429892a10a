package whatif

import (
	"maps"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// maxPasses bounds how many passes are planned. Room that one member gives up in a pass is given to another in the next, and after that
// nothing changes by itself.
const maxPasses = 4

// settle plans passes, each on what the one before has decided, until one changes nothing. No time passes and no machine comes: it is what
// the controller decides now. It returns the decisions of the last pass and the members as they are then, both in the order of observed.
func settle(observed plan.Observed, now time.Time) (members []plan.Member, decisions []plan.Decision) {
	observed.Members, observed.Nodes = slices.Clone(observed.Members), slices.Clone(observed.Nodes)
	nodes := make(map[string]*plan.Node, len(observed.Nodes))
	for i := range observed.Nodes {
		nodes[observed.Nodes[i].Name] = &observed.Nodes[i]
	}
	for range maxPasses {
		planned := plan.Plan(observed, now).Members
		byKey := make(map[string]*plan.Decision, len(planned))
		for i := range planned {
			byKey[planned[i].Key.String()] = &planned[i]
		}
		decisions = make([]plan.Decision, len(observed.Members))
		changed := false
		for i := range observed.Members {
			d := byKey[observed.Members[i].Key.String()]
			decisions[i] = *d
			changed = changed || len(d.Notes) > 0 || d.Resize != 0
			follow(&observed.Members[i], d, nodes)
		}
		if !changed {
			break
		}
	}
	return observed.Members, decisions
}

// follow makes a member what a decision makes of it: its record is written, and it has the size that it is given.
func follow(m *plan.Member, d *plan.Decision, nodes map[string]*plan.Node) {
	m.Reservations, m.Growth, m.TopologyDomain = d.Reservations, d.Growth, d.TopologyDomain
	m.Avoided, m.Findings, m.PodsLacking, m.FormerSize = d.Avoided, d.Findings, d.PodsLacking, m.Size
	if d.GiveUp != nil {
		m.Wants = d.GiveUp.Size
	}
	switch {
	case d.Resize == 0:
	case d.Resize > m.Size:
		// The new pods come behind the gate.
		m.Gated = slices.Clone(m.Gated)
		for rank := m.Size; rank < d.Resize; rank++ {
			m.Gated = append(m.Gated, rank)
		}
		m.Size, m.SizeGiven = d.Resize, false
	default:
		m.Pods = slices.DeleteFunc(slices.Clone(m.Pods), func(p plan.Pod) bool {
			leaves := p.Index >= d.Resize
			if leaves {
				vacate(nodes[p.Node], m.PodRequests)
			}
			return leaves
		})
		beyond := func(rank int32) bool { return rank >= d.Resize }
		m.Gated = slices.DeleteFunc(slices.Clone(m.Gated), beyond)
		m.Lacking = slices.DeleteFunc(slices.Clone(m.Lacking), beyond)
		m.Size, m.SizeGiven = d.Resize, false
	}
}

// vacate takes what a pod requested off a node.
func vacate(node *plan.Node, requests plan.Resources) {
	if node == nil {
		return
	}
	node.Requested = maps.Clone(node.Requested)
	for name, amount := range requests {
		if left := node.Requested[name] - amount; left > 0 {
			node.Requested[name] = left
		} else {
			delete(node.Requested, name)
		}
	}
}
