package nodegroup

import (
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Group is one pool as it was observed.
type Group struct {
	Name string

	// MinSize, MaxSize and Target are spec.minSize, spec.maxSize and spec.replicas.
	MinSize, MaxSize, Target int32
	// ForMembers is spec.replicasForMembers: the part of the target that the floor has called for.
	ForMembers int32
	// ToDelete is spec.machinesToDelete.
	ToDelete []string
	// Deleting is set when the NodePool is being deleted. It goes when its machines are gone, and those go when
	// no member reserves any and no pod is on them.
	Deleting bool
	// Paused is set when nothing may change for now.
	Paused bool
	// FollowsFloor is set when no autoscaler decides on the target, so that it follows the floor.
	FollowsFloor bool
	// ScaleDownDelay is how long a node that a member has given up stays for the next growth.
	ScaleDownDelay time.Duration
	// ProvisionTimeout is how long a machine may take from its order until its node is Ready.
	ProvisionTimeout time.Duration

	// Floor, FloorChangedAt, AnnouncedFloor and Ordered are what the status records: the floor and the
	// time of its last change, the least size that Cluster Autoscaler was told, the number that no machine had yet and
	// all above it, and the first number of the names that are claimed and whose order may be under way.
	Floor          int32
	FloorChangedAt time.Time
	AnnouncedFloor int32
	Ordered        int64
	OrderedFrom    int64
	// KnownFailed is status.failedMachines, LastFailure status.lastFailure, nil when none is recorded.
	KnownFailed []string
	LastFailure *Failure

	// TemplateHash is that of the template of now.
	TemplateHash string
	// CanBeAtomic is set where the cloud can be asked for all machines of an order or none.
	CanBeAtomic bool
	// ReplaceAfter is how long after its order a machine that has failed is replaced at the earliest, where no autoscaler decides.
	ReplaceAfter time.Duration

	// Machines are those of the pool, in any order.
	Machines []Machine
	// Reservations are the claims of members on this pool.
	Reservations []Reservation
}

// Machine is one machine of a pool, from its order until it is gone.
type Machine struct {
	// Name is that of the record, <pool>-<number>.
	Name string
	// NodeName is the name of the machine's node, as it was recorded, empty before that. It stays when the node is gone.
	NodeName string
	// ProviderID is spec.providerID of the node that the machine has or will have, empty while that is not known.
	ProviderID string
	// Order is the order that the machine is a part of.
	Order v1alpha1.MachineOrder
	// Asked is set from the time when the cloud may have been asked for the machine: it is being launched, was launched, or has
	// failed. An order none of whose machines was asked for, and that lacks some, is abandoned.
	Asked bool
	// Throttled is what the cloud says that wants to be asked later, empty for none.
	Throttled string
	// Purpose says for whom the machine was ordered.
	Purpose v1alpha1.MachinePurpose
	// OrderedAt is when the machine was ordered.
	OrderedAt time.Time
	// TemplateHash is that of the template that the machine was ordered with, empty where that is not known.
	TemplateHash string
	// Failure says why the machine will not come up, or, of one that has registered, is no more; nil when it is well.
	Failure *Failure
	// LeavingAt is when the cloud takes the machine away, zero while it has not announced that.
	LeavingAt time.Time
	// Going is since when the record is being deleted, zero while it is not.
	Going time.Time
	// Registered is set from the time when the machine's node was created.
	Registered bool
	// Node is the machine's node, nil when there is none.
	Node *Node
}

// Failure says why a machine will not come up.
type Failure struct {
	// At is when it failed.
	At    time.Time
	Class v1alpha1.FailureClass
	// Code is a CamelCase word, Message a sentence.
	Code, Message string
}

// CodeProvisionTimeout is the code of the failure of a machine that has not registered in time.
const CodeProvisionTimeout = "ProvisionTimeout"

// Node is what matters of a machine's node.
type Node struct {
	Name string
	// CreatedAt is when the node registered.
	CreatedAt time.Time
	Ready     bool
	// NotReadySince is when a node that is not Ready ceased to be so, or was created.
	NotReadySince time.Time
	Cordoned      bool
	// Leaving is set when somebody else is removing the node: it is being deleted, or Cluster Autoscaler
	// has tainted it.
	Leaving bool
	// Releasing is set when the provider has tainted the node for release.
	Releasing bool
	// Untainted is set when the node still says that the provider has tainted it, and that taint is gone: Cluster Autoscaler
	// takes it off when it starts.
	Untainted bool
	// Reserved is the mark of a machine that was ordered for a member or has been held by one.
	Reserved bool
	// HeldBy is the member that the node says it is held by, empty for none.
	HeldBy string
	// GivenUpAt is when a member gave the node up; zero when one holds it or none ever has.
	GivenUpAt time.Time
	// Pods is the number of pods on the node that have not ended, those of DaemonSets and mirror pods apart.
	Pods int
}

// Reservation is the claim of one member on a pool.
type Reservation struct {
	// Member is namespace/name.
	Member string
	// Nodes is the number of nodes claimed.
	Nodes int32
	// Occupied is the number of nodes of the pool that are of no use to the member; 0 when the claim is met.
	Occupied int32
	// Held names the nodes that the member has.
	Held []string
	// Claim says which growth of the member the claim is for: what an order for it has as its id. Empty where it is not known.
	Claim string
	// Since is when that growth began. Claims are served in this order.
	Since time.Time
	// AllOrNothing is set when the member has no use for a part of what it still lacks.
	AllOrNothing bool
	// Domain is where the member wants its nodes, as KEY=VALUE, empty for anywhere.
	Domain string
}

// Reserved is the number of nodes that members claim.
func (g *Group) Reserved() int32 {
	var sum int32
	for i := range g.Reservations {
		sum += g.Reservations[i].Nodes
	}
	return sum
}

// WantedFloor is the number of machines that the claims call for. It is a count and cannot say which
// machines stay, so nodes that are of no use to a member are added while its claim is unmet.
func (g *Group) WantedFloor() int32 {
	var occupied int32
	for i := range g.Reservations {
		occupied = max(occupied, g.Reservations[i].Occupied)
	}
	return min(g.Reserved()+occupied, g.MaxSize)
}

// leastSize is the number of machines that minSize and a floor call for.
func (g *Group) leastSize(floor int32) int32 {
	return min(max(g.MinSize, floor), g.MaxSize)
}

// most is the number of machines above which some go that nobody uses. Where Cluster Autoscaler decides, those above a
// lowered maxSize are its to remove.
func (g *Group) most() int32 {
	if g.FollowsFloor {
		return min(g.Target, g.MaxSize)
	}
	return g.Target
}

// MinSizeToTell is the least size that Cluster Autoscaler is told. A paused group has no room in either direction.
func (g *Group) MinSizeToTell() int32 {
	if g.Paused {
		return g.Target
	}
	return g.leastSize(g.Floor)
}

// MaxSizeToTell is the greatest size that Cluster Autoscaler is told.
func (g *Group) MaxSizeToTell() int32 {
	if g.Paused {
		return g.Target
	}
	return g.MaxSize
}

// failure says why a machine will not come up: because it has failed, or has not registered in time.
func (g *Group) failure(m *Machine, now time.Time) *Failure {
	if m.Failure != nil || m.Registered || m.Node != nil || g.ProvisionTimeout <= 0 {
		return m.Failure
	}
	deadline := m.OrderedAt.Add(g.ProvisionTimeout)
	if now.Before(deadline) {
		return nil
	}
	return &Failure{At: deadline, Class: v1alpha1.FailureOther, Code: CodeProvisionTimeout,
		Message: "the node did not register within the provisionTimeout of " + g.ProvisionTimeout.String()}
}

// asOf is the group in which every machine says that it has failed that is late.
func (g *Group) asOf(now time.Time) *Group {
	out := g
	for i := range g.Machines {
		failure := g.failure(&g.Machines[i], now)
		if failure == g.Machines[i].Failure {
			continue
		}
		if out == g {
			changed := *g
			changed.Machines = slices.Clone(g.Machines)
			out = &changed
		}
		out.Machines[i].Failure = failure
	}
	return out
}

// unmet is the number of nodes that are claimed and not held yet.
func (g *Group) unmet() int {
	sum := 0
	for i := range g.Reservations {
		sum += max(0, int(g.Reservations[i].Nodes)-len(g.Reservations[i].Held))
	}
	return sum
}

// holders has the member that holds a node, by the node's name.
func (g *Group) holders() map[string]string {
	holders := map[string]string{}
	for i := range g.Reservations {
		for _, node := range g.Reservations[i].Held {
			holders[node] = g.Reservations[i].Member
		}
	}
	return holders
}

// live are the machines that are not in ToDelete, newest first.
func (g *Group) live() []*Machine {
	going := setOf(g.ToDelete)
	var live []*Machine
	for i := range g.Machines {
		if !going[g.Machines[i].Name] {
			live = append(live, &g.Machines[i])
		}
	}
	slices.SortFunc(live, newestFirst)
	return live
}

// names has the names of the machines.
func (g *Group) names() map[string]bool {
	names := make(map[string]bool, len(g.Machines))
	for i := range g.Machines {
		names[g.Machines[i].Name] = true
	}
	return names
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// marked reports whether a machine is ours to release: it was ordered for a member, or has been held by one.
func (m *Machine) marked() bool {
	if m.Node != nil {
		return m.Node.Reserved
	}
	return m.Purpose == v1alpha1.PurposeReservation
}

// taken reports whether pods are on a machine's node, or may come to it, that nobody but us takes away. Cluster Autoscaler taints
// the nodes that it wants deleted, and has moved their pods where they had to be moved.
func (m *Machine) taken() bool {
	return m.Node != nil && !m.Node.Leaving && (m.Node.Pods > 0 || !m.Node.Releasing)
}

// usable reports whether a machine may still become, or is, a node that a member can hold.
func (m *Machine) usable(now time.Time, timeout time.Duration) bool {
	switch {
	case m.Failure != nil:
		return false
	case m.Node == nil:
		return !m.Registered && now.Sub(m.OrderedAt) < timeout
	case m.Node.Cordoned || m.Node.Leaving:
		return false
	default:
		return m.Node.Ready || now.Sub(m.Node.CreatedAt) < timeout
	}
}
