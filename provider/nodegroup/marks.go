package nodegroup

import "time"

// Mark is what a node has to say of itself.
type Mark struct {
	// Node is the name of the node.
	Node string
	// HeldBy is the member that holds the node, empty for none.
	HeldBy string
	// Warm is set when the node stays for the next growth though nobody holds it: Cluster Autoscaler must not remove it.
	Warm bool
	// Reserved is the mark that makes the node ours to release.
	Reserved bool
	// Releasing is set when the node has to be tainted for release, unset when the taint has to go.
	Releasing bool
	// Why is a sentence on the change.
	Why string
}

// marks are the nodes that do not say of themselves what they should. chosen are those to be released, with the
// reason of each, warm those that stay for the next growth, and kept those that are to be held next.
func (g *Group) marks(holders, chosen map[string]string, warm map[string]time.Time, kept map[string]*Machine) []Mark {
	var marks []Mark
	for _, m := range g.live() {
		if m.Node == nil {
			continue
		}
		node, holder := m.Node, holders[m.nodeName()]
		mark := Mark{Node: node.Name, HeldBy: holder, Reserved: node.Reserved || holder != "", Releasing: chosen[m.Name] != ""}
		_, mark.Warm = warm[m.Name]
		mark.Warm = mark.Warm || (kept[m.Name] != nil && !node.GivenUpAt.IsZero()) || (!mark.Releasing && g.givenUpNow(node, holder))
		switch {
		case mark.Releasing && !node.Releasing:
			mark.Why = chosen[m.Name]
		case !mark.Releasing && node.Releasing && holder != "":
			mark.Why = "the node is handed over to " + holder
		case !mark.Releasing && node.Releasing:
			mark.Why = "the node is needed after all"
		case holder != node.HeldBy && holder != "":
			mark.Why = "the node is held for " + holder
		case holder != node.HeldBy && mark.Warm:
			mark.Why = "the node is no longer held for " + node.HeldBy + " and stays for the next growth"
		case holder != node.HeldBy:
			mark.Why = "the node is no longer held for " + node.HeldBy
		case mark.Reserved != node.Reserved:
		case holder == "" && !node.GivenUpAt.IsZero() && !mark.Warm && !node.Releasing:
			mark.Why = "the node does not stay for the next growth any more"
		case !mark.Releasing && node.Untainted:
			mark.Why = "the taint for release was taken off the node, which is not released now"
		default:
			continue
		}
		marks = append(marks, mark)
	}
	return append(marks, g.lateMarks(holders)...)
}

// lateMarks are the nodes of machines that are to go and that no taint keeps pods from: those are taken away, have registered since,
// or somebody has taken the taint off. The nodes of those that are no more say nothing any more.
func (g *Group) lateMarks(holders map[string]string) []Mark {
	if len(g.ToDelete) == 0 {
		return nil
	}
	var marks []Mark
	going := setOf(g.ToDelete)
	for i := range g.Machines {
		m := &g.Machines[i]
		holder := holders[m.nodeName()]
		if !going[m.Name] || m.lost() || m.Node == nil || m.Node.Leaving || (m.Node.Releasing && m.Node.HeldBy == holder) {
			continue
		}
		marks = append(marks, Mark{
			Node: m.Node.Name, HeldBy: holder, Reserved: m.Node.Reserved || holder != "", Releasing: true, Why: m.whyTainted(),
		})
	}
	return marks
}

// whyTainted says why no pod may come to the node of a machine that is to go.
func (m *Machine) whyTainted() string {
	switch {
	case !m.LeavingAt.IsZero():
		return "the cloud takes machine " + m.Name + " away at " + formatTime(m.LeavingAt) + "; no pod may come to its node any more"
	case !m.Going.IsZero():
		return "the record of machine " + m.Name + " is being deleted; no pod may come to its node any more"
	default:
		return "the machine is to go; no pod may come to its node any more"
	}
}
