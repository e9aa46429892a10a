package nodegroup

import "time"

// InstanceState says how far a machine is, as Cluster Autoscaler sees it.
type InstanceState int

const (
	// InstanceRunning is a machine whose node has registered.
	InstanceRunning InstanceState = iota
	// InstanceCreating is a machine that is on order, booting or failed.
	InstanceCreating
	// InstanceDeleting is a machine on its way out, or one that is no more.
	InstanceDeleting
)

// Instance is a machine as Cluster Autoscaler sees it.
type Instance struct {
	// ProviderID is that of the machine's node, or its Placeholder while that is not known.
	ProviderID string
	State      InstanceState
	// Failure is set of an instance that is being created and will not come up: Cluster Autoscaler deletes it.
	Failure *Failure
}

// Instances are the machines of the group as of now, and one for each that the target calls for and that is not
// known yet: see Pending.
//
// Cluster Autoscaler compares the target with what it counts: the nodes that have registered, and the instances that have
// not, have no error and are not being deleted. If it counts fewer for long, it deletes those with an error and asks for the rest of
// the difference back with DecreaseTargetSize; when that fails, or changes nothing, it does nothing at all any more, for no group. A
// paused group refuses both, so it counts every machine that it has, failed or not; and as its minimum size is its
// target, Cluster Autoscaler deletes none of them.
func (g *Group) Instances(now time.Time) []Instance {
	going := setOf(g.ToDelete)
	out := make([]Instance, 0, max(len(g.Machines), int(g.Target)))
	for i := range g.Machines {
		m := &g.Machines[i]
		out = append(out, g.instance(m, going[m.Name], g.failure(m, now)))
	}
	for _, n := range g.Pending() {
		out = append(out, Instance{ProviderID: Placeholder(g.Name, MachineName(g.Name, n)), State: InstanceCreating})
	}
	return out
}

func (g *Group) instance(m *Machine, going bool, failure *Failure) Instance {
	out := Instance{ProviderID: m.ProviderID, State: InstanceCreating}
	if out.ProviderID == "" {
		out.ProviderID = Placeholder(g.Name, m.Name)
	}
	switch {
	case going:
		out.State = InstanceDeleting
	case failure == nil && m.arrived():
		out.State = InstanceRunning
	case failure == nil || g.Paused:
	case m.arrived():
		// Cluster Autoscaler never deletes one with an error that it has seen running.
		out.State = InstanceDeleting
	default:
		out.Failure = failure
	}
	return out
}
