package plan

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Observed is everything that a pass knows.
type Observed struct {
	// Members are the managed workloads, in any order.
	Members []Member
	// Pools are all NodePools.
	Pools []Pool
	// Nodes are all nodes of the cluster, those of no pool too: a pod on one of them needs no node of a
	// pool, whereas a pod on a node that is not listed is on one that is lost.
	Nodes []Node
}

// Auto as Member.PodsPerNode stands for as many pods as fit.
const Auto = -1

// Lifecycle says how far a workload is in its life.
type Lifecycle int

const (
	// Running is a workload whose Job has not ended.
	Running Lifecycle = iota
	// Finished is a workload whose Job is complete or has failed.
	Finished
	// Deleting is a workload that is being deleted, or whose namespace is.
	Deleting
	// Suspended is a workload whose Job is suspended: it has no pods and claims no nodes until it is resumed.
	Suspended
)

// Leaves says which pods of a group leave when it is given a smaller size.
type Leaves int

const (
	// Highest is a group whose pods have ranks from 0 on, of which the highest leave: a rank below the size stays, whether it has a pod or
	// not.
	Highest Leaves = iota
	// Named is a group whose pods leave by name: the plan chooses them, and says so in Decision.Leave.
	Named
	// Unknown is a group of which any pods may leave: no node is released while a pod is on it, and no pod is promised to stay, the lead
	// neither.
	Unknown
)

// words say which pods leave.
func (l Leaves) words() string {
	switch l {
	case Named:
		return "those that are named"
	case Unknown:
		return "some"
	default:
		return "the highest ranks"
	}
}

// Member is one managed workload and its resize record, or one group of its pods where it has several: pods of another shape, with a size
// and a record of their own.
//
// Members with the same Key and different Groups are one gang. It grows as one: its groups ask at the same time, with GrowthAllOrNothing
// all of them are granted their nodes or none is, and none is resized, nor a gated pod of the growth released, before the nodes of all are
// Ready. What is missing of one group is asked of further pools while the others keep theirs (PlacementSpan). A growth for which a group
// has no pool left has failed in all: they wait, try again and give up together. With PlacementSingle the nodes of all come from one pool,
// and with a TopologyKey, whatever the policy, all are in one domain. With GrowthBestEffort and GrowthGreedy each group is a growth of its
// own; those that ask at the same time are served in the order in which they are observed. A smaller size needs nothing, so each group
// shrinks by itself.
//
// Kind, Job, Lifecycle, GrowthPolicy, Placement, GiveUpAfter, TopologyKey, TopologyDomain and NamespaceLabels are the workload's and
// the same in all groups of a gang. Where they differ those of the first one observed count. One that is Invalid makes all of them so.
type Member struct {
	// Kind is what the workload is called, as in "the MiniCluster", and Job what its Job is, as in "the Job of the MiniCluster".
	Kind, Job string
	Key       types.NamespacedName
	// Group is the name of the group, which no other one of the Key has; empty for a workload with one.
	Group     string
	Lifecycle Lifecycle

	// Unit is how many pods grow together, as the pods of one replica do; 0 is 1. Whatever the plan gives the group or takes from it is a
	// multiple of that, counted from Size. A Wants that is no such multiple away from Size is an error of the observer: the plan treats the
	// workload as one that is Invalid, and says which sizes there are.
	Unit int32
	// Leaves says which pods leave at a shrink. Where they are not the Highest, an Index of a pod is only a number by which the observer
	// and the plan call it, in Pods, Gated, Pending, Succeeded and Lead: it need neither be below Size nor be the same in the next pass.
	// Lacking is not read: as many pods are lacking as Size exceeds those that are there and stay. Those that are about to leave are not among
	// Gated, Pending, Succeeded and Running, and marked as Leaving among Pods.
	Leaves Leaves
	// Lead is the pod of a group whose pods are Named that never leaves; nil for none. The others lead with rank 0 (Highest), or without a
	// promise (Unknown).
	Lead *int32

	// Wants is the size that the member wants.
	Wants int32
	// MinSize is the minimum size that it can want.
	MinSize int32
	// Size is the size that the workload has.
	Size int32
	// FormerSize is the one that the last pass recorded, 0 when none has.
	FormerSize int32
	// SizeGiven is set when somebody else than the controller wrote that size, whose pods exist before there are nodes for them.
	SizeGiven bool
	// NodePools names the pools that nodes may come from, in order of preference.
	NodePools []string

	// GrowthPolicy says what becomes of a growth whose nodes cannot all be had. The zero value is AllOrNothing.
	GrowthPolicy v1alpha1.GrowthPolicy
	// Placement says whether the nodes of one growth may come from several pools. The zero value is Span.
	Placement v1alpha1.Placement

	// PodsPerNode is how many pods of the member share a node; 0 is 1, and Auto as many as fit an empty node of each of its
	// pools.
	PodsPerNode int32
	// GiveUpAfter is how often a growth may fail in all pools before the desired size is set back; 0 is for ever.
	GiveUpAfter int32

	// TopologyKey is the label of which all nodes of the member have the same value; empty where they may be anywhere.
	TopologyKey string

	// Invalid says why the workload cannot be read, empty while it can. What the member has stays as it is: Size and the rest are
	// those that were read last.
	Invalid string
	// NamespaceLabels are those of the member's namespace. They are shared: nobody may change them.
	NamespaceLabels map[string]string

	// PodRequests is what one pod of the member requests: of its template and of the pods that exist the most, of each resource.
	PodRequests Resources
	// Selects are the nodes that its pods can go to by their node selectors and required affinity; nil for all.
	Selects Selector
	// Tolerations are those of the member's pods.
	Tolerations []corev1.Toleration
	// Pods are the pods of the member that are bound to a node, or were released for one, and have not ended.
	Pods []Pod
	// Gated are the ranks of its pods that wait behind the scheduling gate, in any order.
	Gated []int32
	// Pending are the pods that are bound to no node, and neither gated nor released for one. They are not read where the Highest leave.
	Pending []int32
	// Succeeded are the ranks that have a pod which has Succeeded and none that has not ended, in any order. They need no node.
	Succeeded []int32
	// Lacking are the ranks below Size that have no pod at all: none that waits, is bound or has Succeeded. In any order.
	Lacking []int32
	// Running is the number of ranks below Size with a pod that is Running and Ready; those that have Succeeded are not among them.
	Running int32
	// NotMade says why pods are not made, in the words of the Job; empty where nobody knows.
	NotMade string
	// NotStarted says why pods that exist do not start, in the words of the scheduler or the kubelet, and how many they are; empty
	// while nothing says that they cannot.
	NotStarted string

	// Claim is the id that orders of machines for the growth that is under way have; empty for none.
	Claim string

	// Reservations, Growth, TopologyDomain, Avoided, Findings and PodsLacking are what the last pass recorded in the member's status.
	Reservations   []v1alpha1.Reservation
	Growth         *v1alpha1.Growth
	TopologyDomain string
	Avoided        []v1alpha1.AvoidedNode
	Findings       []v1alpha1.PoolFinding
	PodsLacking    *v1alpha1.PodsLacking
}

// Selector selects things by their labels. It is a value: the same selector always answers the same.
type Selector interface {
	// Matches reports whether it selects what has a name and labels. Of a template of nodes, which has no name yet, the name is
	// empty: a selector of names does not match it.
	Matches(name string, labels map[string]string) bool
	// String is the selector in the notation of Kubernetes; two that differ have different ones.
	String() string
}

// Pod is a pod of a member that is bound to a node, or was released for one, and has not ended.
type Pod struct {
	// Index is the completion index, which is the rank of the broker.
	Index int32
	// Node is the name of the node.
	Node string
	// Released is set while the pod is not bound: its gate was taken away, and it can go to this node alone.
	Released bool
	// RefusedSince is since when the scheduler finds that a released pod cannot go there; zero while it does not.
	RefusedSince time.Time
	// Refusal is what the scheduler says of that.
	Refusal string

	// Leaving is set for a pod that is about to leave: it is being deleted, or was named to leave. It is not read where the Highest leave.
	Leaving bool
	// Running is set while the pod is Running and Ready. It is read where pods are Named: those that do no work leave first.
	Running bool
}

// Pool is one NodePool.
type Pool struct {
	Name string
	// MaxSize is the maximum number of nodes.
	MaxSize int32
	// Deleting is set when the NodePool is being deleted, so that it grants nothing any more.
	Deleting bool
	// Paused is set when somebody has paused the NodePool, so that it grants nothing for now.
	Paused bool
	// OutOfStock is the latest failure of the pool, where it was that no machine was to be had.
	OutOfStock Stockout
	// Stall says that the pool's target is below its floor, and why that may be.
	Stall Stall
	// ProvisionTimeout is how long a node may take from its order until it is Ready.
	ProvisionTimeout time.Duration
	// Allocatable is what an empty node of the pool offers.
	Allocatable Resources
	// Taints and Labels are those of the pool's template, with the labels that the provider and the kubelet add to each node of the
	// pool. The labels are shared: nobody may change them.
	Taints []corev1.Taint
	Labels map[string]string
	// Daemons are the DaemonSets whose pods come to a new node of the pool, by its template.
	Daemons []Daemon
	// Basis is a hash of the template, the machines and the daemons.
	Basis string
	// AllowedNamespaces selects, by their labels, the namespaces whose members may have nodes; nil for all.
	AllowedNamespaces Selector
	// Coming counts the machines that were ordered, have not failed, do not go, and have no node yet, by the id of their orders.
	Coming map[string]int32
}

// Daemon is a DaemonSet that has a pod on each node of a pool.
type Daemon struct {
	// Name is namespace/name.
	Name string
	// Requests is what its pod requests.
	Requests Resources
}

// Stockout is a failure of a pool for which there were no machines.
type Stockout struct {
	// At is when it was; zero for never.
	At time.Time
	// Message is what the cloud said.
	Message string
	// Machine is the PoolMachine that failed last; empty when it is gone.
	Machine string
}

// Stall is a pool whose target has not been raised to its floor.
type Stall struct {
	// Since is when the floor rose; zero when the target is not below it.
	Since time.Time
	// Cause is what may be wrong when that takes long, as a sentence.
	Cause string
}

// Node is one node of the cluster. Of one that belongs to no pool, only the name is of interest.
type Node struct {
	Name string
	// Pool is the value of the pool label, empty for a node of no pool.
	Pool string

	// Ready is the node's condition of that name.
	Ready bool
	// Cordoned is spec.unschedulable.
	Cordoned bool
	// Leaving is set when the node is being deleted, is tainted for deletion, or its machine goes or is gone.
	Leaving bool
	// Releasing is set when it is Leaving for nothing but the provider's mark, which is taken off again while a claim lacks a node.
	Releasing bool
	// Departure tells that its machine goes without anybody here having asked for it; nil while it does not.
	Departure *Departure
	// Reserved is set when the node carries the mark of a machine that was ordered for a member or has
	// been held by one.
	Reserved bool
	// CreatedAt is when the node registered.
	CreatedAt time.Time

	// Taints are those of the node with an effect that keeps pods away, the taint for deletion excepted.
	Taints []corev1.Taint
	// Allocatable is what the node offers, Requested what the pods on it that have not ended request, those of DaemonSets too, and
	// Daemons what these alone request.
	Allocatable, Requested, Daemons Resources
	// Order is the id of the order that its machine came with; empty where that is not known.
	Order string
	// Labels are those of the node. They are shared: nobody may change them.
	Labels map[string]string
}

// Departure is the end of a node's machine that nobody here asked for.
type Departure struct {
	// At is when the cloud takes the machine away; zero for one that has failed.
	At time.Time
	// Failure is how the machine has failed; empty while it has not.
	Failure string
	// Told is set when the member that the node is recorded for has been told.
	Told bool
}

// Decisions is what a pass has decided.
type Decisions struct {
	// Members has one decision for each member observed, in order of their keys, and those of a gang in the order in which its groups were
	// observed.
	Members []Decision
	// Next is when a pass is due though nothing has changed; zero when none is.
	Next time.Time
}

// Decision is what a pass has decided for one member, or for one group of it. What is decided for the groups of a gang is recorded in one
// write.
type Decision struct {
	Key   types.NamespacedName
	Group string

	// Reservations, Growth, TopologyDomain, Avoided, Findings, PodsLacking, Nodes and Running are the wanted content of the member's
	// status.
	Reservations   []v1alpha1.Reservation
	Growth         *v1alpha1.Growth
	TopologyDomain string
	Avoided        []v1alpha1.AvoidedNode
	Findings       []v1alpha1.PoolFinding
	PodsLacking    *v1alpha1.PodsLacking
	Nodes          int32
	Running        int32

	// Resize is the size to give the workload or the group, or 0 to leave it.
	Resize int32
	// Leave are the pods that are to leave with a smaller Resize, by their Index, where pods are Named, those that leave first in front.
	// There are as many as exist beyond Resize and do not leave already. They have to be named in the write of the size, or before it.
	Leave []int32

	// Release are the gated pods that may go to their nodes, the lowest ranks first. The reservations have to be recorded
	// before any of them does.
	Release []Assignment
	// Recreate are the released pods that cannot get to their nodes any more. Their Job recreates them.
	Recreate []Stranded

	// GiveUp sets the desired size back, nil to leave it.
	GiveUp *GiveUp

	// Idle is the number of Ready nodes held that no pod of the member is on.
	Idle int32

	// Conditions are those of the member, in the order in which a growth makes them True, without times.
	Conditions []metav1.Condition
	// WhenReady is the message of the Ready condition when all others are True.
	WhenReady string

	// Notes tell the steps that this pass takes. A pass that changes nothing has none.
	Notes []Note
	// Departing names the nodes of whose Departure the notes tell.
	Departing []string
}

// Assignment is a pod that may go to a node, and to no other.
type Assignment struct {
	// Index is the rank of the pod.
	Index int32
	// Node is the name of the node, which is held for the member.
	Node string
}

// Stranded is a pod that cannot get to the node that it was released for.
type Stranded struct {
	// Index is the rank of the pod.
	Index int32
	// Why is a sentence.
	Why string
}

// GiveUp sets a desired size back whose growth has failed as often as it may.
type GiveUp struct {
	// Size is the desired size to go on with.
	Size int32
	// Why tells how the growth failed.
	Why string
}

// Note is a step in words: a log line and an event.
type Note struct {
	// Reason is one of the reasons of package v1alpha1.
	Reason string
	// Message is a sentence.
	Message string
	// Warning is set when somebody may have to act.
	Warning bool
}

// Reserved is the number of nodes reserved in all pools.
func (d *Decision) Reserved() int32 { return reserved(d.Reservations) }

func reserved(reservations []v1alpha1.Reservation) int32 {
	var sum int32
	for i := range reservations {
		sum += reservations[i].Nodes
	}
	return sum
}

// FirstUnmet is the reason of the first condition that is not True, or "Ready".
func (d *Decision) FirstUnmet() string {
	for i := range d.Conditions {
		if d.Conditions[i].Status != metav1.ConditionTrue {
			return d.Conditions[i].Reason
		}
	}
	return v1alpha1.ConditionReady
}
