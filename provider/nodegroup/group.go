package nodegroup

import (
	"cmp"
	"slices"
	"strings"
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
	// time of its last change, the minimum size that Cluster Autoscaler was told, the number that no machine had yet and
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
	// ReplaceAfter is how long after its order a machine that has failed is replaced at the earliest, where no autoscaler decides;
	// a minute where it is zero.
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

// countLive is the number of machines that are not to go.
func (g *Group) countLive() int {
	if len(g.ToDelete) == 0 {
		return len(g.Machines)
	}
	going, live := setOf(g.ToDelete), 0
	for i := range g.Machines {
		if !going[g.Machines[i].Name] {
			live++
		}
	}
	return live
}

// after is the group when the named machines are in ToDelete, and the target is lower by so many.
func (g *Group) after(names []string, fewer int) *Group {
	if len(names) == 0 {
		return g
	}
	out := *g
	out.ToDelete = slices.Concat(g.ToDelete, names)
	out.Target -= int32(fewer) //nolint:gosec // At most Target.
	out.ForMembers = min(out.ForMembers, out.Target)
	return &out
}

// maxSize is the number of machines above which some go that nobody uses. Where Cluster Autoscaler decides, those above a
// lowered maxSize are its to remove.
func (g *Group) maxSize() int32 {
	if g.FollowsFloor {
		return min(g.Target, g.MaxSize)
	}
	return g.Target
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// newestFirst orders machines by their time of order, then by name, of which the longer is the newer one.
func newestFirst(a, b *Machine) int {
	return -cmp.Or(a.OrderedAt.Compare(b.OrderedAt), cmp.Compare(len(a.Name), len(b.Name)), strings.Compare(a.Name, b.Name))
}

// earlier is the earlier of two times, of which a zero one means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
