package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ConditionReady is True when nothing is outstanding. It is derived from the other conditions of the
// object by SetConditions and never set for itself.
const ConditionReady = "Ready"

// Condition types of an EnsembleMember, in the order in which a growth makes them True.
const (
	// ConditionCapacityReserved is True when the pool has granted the nodes that the member wants.
	ConditionCapacityReserved = "CapacityReserved"
	// ConditionCapacityReady is True when as many nodes as are reserved are held, Ready and usable.
	ConditionCapacityReady = "CapacityReady"
	// ConditionResized is True when the MiniCluster has the size that the member wants and no node of a
	// former, larger size is still held.
	ConditionResized = "Resized"
	// ConditionPodsRunning is True when each rank of the MiniCluster's size has a pod that is Running and Ready, or has Succeeded.
	ConditionPodsRunning = "PodsRunning"
)

// Condition types of a NodePool.
const (
	// ConditionFloorMet is True when the target size is at or above the floor. It is False while
	// Cluster Autoscaler has yet to act.
	ConditionFloorMet = "FloorMet"
	// ConditionMachinesReady is True when as many nodes as the target size are Ready and none is on its
	// way out.
	ConditionMachinesReady = "MachinesReady"
	// ConditionWithinBounds is True when the target size is not above maxSize, as it is when maxSize was lowered.
	ConditionWithinBounds = "WithinBounds"
	// ConditionMachinesUpToDate is True when all machines were ordered with the template of now. Ready does not
	// depend on it: machines keep the template that they were ordered with.
	ConditionMachinesUpToDate = "MachinesUpToDate"
	// ConditionPaused is True when spec.paused is set. Ready does not depend on it.
	ConditionPaused = "Paused"
	// ConditionThrottled is True while the cloud asks to be asked less often. Ready does not depend on it: machines come
	// later.
	ConditionThrottled = "Throttled"
)

// Condition types of a PoolMachine, in the order in which they become True.
const (
	// ConditionLaunched is True when the machine exists and is paid for.
	ConditionLaunched = "Launched"
	// ConditionRegistered is True when the node of the machine exists.
	ConditionRegistered = "Registered"
)

// Reasons of the conditions of a PoolMachine. That of Ready says how far the machine is.
const (
	// ReasonMachineOrdered: the cloud has not been asked yet, or has not answered.
	ReasonMachineOrdered = "Ordered"
	// ReasonMachineThrottled: the cloud asks to be asked later.
	ReasonMachineThrottled = "Throttled"
	// ReasonMachineBooting: the machine exists, and its node does not yet.
	ReasonMachineBooting = "Booting"
	// ReasonMachineNotReady: the node exists and is not Ready.
	ReasonMachineNotReady = "NotReady"
	// ReasonMachineLeaving: the cloud has announced that it takes the machine away.
	ReasonMachineLeaving = "Leaving"
	// ReasonMachineHasFailed: the machine will not come up, or is no more.
	ReasonMachineHasFailed = "Failed"
	// ReasonMachineGoing: the machine was told to go and is still there.
	ReasonMachineGoing = "Going"
	// ReasonLaunched: the cloud has made the machine.
	ReasonLaunched = "Launched"
	// ReasonRegistered: the node has registered.
	ReasonRegistered = "Registered"
)

// Reasons of conditions and events of an EnsembleMember.
const (
	// ReasonReserved: the pool has granted the nodes.
	ReasonReserved = "Reserved"
	// ReasonPoolNotFound: no NodePool of that name exists.
	ReasonPoolNotFound = "PoolNotFound"
	// ReasonPoolDeleting: the pool is being deleted and takes no new reservations.
	ReasonPoolDeleting = "PoolDeleting"
	// ReasonPoolPaused: the pool is paused and grants no new reservations.
	ReasonPoolPaused = "PoolPaused"
	// ReasonPoolFull: the pool has no room below its maxSize at the moment.
	ReasonPoolFull = "PoolFull"
	// ReasonPoolTooSmall: the pool's maxSize is below the desired size, so waiting does not help.
	ReasonPoolTooSmall = "PoolTooSmall"
	// ReasonPodTooLarge: a pod of the member does not fit an empty node of the pool.
	ReasonPodTooLarge = "PodTooLarge"
	// ReasonTopologyMismatch: the pool is in another topology domain than the nodes of the member.
	ReasonTopologyMismatch = "TopologyMismatch"
	// ReasonQueued: a growth that was asked for earlier waits for the same pool.
	ReasonQueued = "Queued"
	// ReasonBackingOff: a growth failed and is tried again later.
	ReasonBackingOff = "BackingOff"
	// ReasonProvisionTimeout: the nodes were not all Ready in time; the growth gave back what it held.
	ReasonProvisionTimeout = "ProvisionTimeout"
	// ReasonOutOfStock: the cloud has no more machines of the pool's kind.
	ReasonOutOfStock = "OutOfStock"
	// ReasonFellBack: what one pool did not have is asked of the next one.
	ReasonFellBack = "FellBack"
	// ReasonGaveUp: a growth has failed as often as spec.giveUpAfter allows, and the desired size was set back.
	ReasonGaveUp = "GaveUp"
	// ReasonWaitingForNodes: nodes are reserved and not yet all Ready.
	ReasonWaitingForNodes = "WaitingForNodes"
	// ReasonNodesReady: all nodes reserved are held, Ready and usable.
	ReasonNodesReady = "NodesReady"
	// ReasonWaitingForCapacity: the resize waits for the nodes.
	ReasonWaitingForCapacity = "WaitingForCapacity"
	// ReasonResizing: the MiniCluster is being given its new size.
	ReasonResizing = "Resizing"
	// ReasonResized: the MiniCluster has another size than before.
	ReasonResized = "Resized"
	// ReasonPodsReleased: nodes for all pods of the size are Ready, and the pods may go to them.
	ReasonPodsReleased = "PodsReleased"
	// ReasonPodStranded: a pod cannot get to the node that it was released for and is recreated.
	ReasonPodStranded = "PodStranded"
	// ReasonPodsLeaving: the MiniCluster is smaller now and pods of its former size have still to leave.
	ReasonPodsLeaving = "PodsLeaving"
	// ReasonNodesGivenBack: nodes that the member held are free again.
	ReasonNodesGivenBack = "NodesGivenBack"
	// ReasonNodesLost: nodes that the member held do not exist any more, and nobody asked the member.
	ReasonNodesLost = "NodesLost"
	// ReasonAtSize: the MiniCluster has the size that the member wants.
	ReasonAtSize = "AtSize"
	// ReasonFinished: the MiniCluster's Job has ended and its nodes are given back.
	ReasonFinished = "Finished"
	// ReasonDeleting: the MiniCluster is being deleted and its nodes are given back.
	ReasonDeleting = "Deleting"
	// ReasonRequested: a member, or a user, asked for another size.
	ReasonRequested = "Requested"
	// ReasonAdopted: a size written into the MiniCluster directly became the desired size.
	ReasonAdopted = "Adopted"
	// ReasonPodsRunning: all pods of the size run, or have succeeded.
	ReasonPodsRunning = "PodsRunning"
	// ReasonPodsStarting: pods of the size are on their way: made, released, bound or starting, and nothing says that they cannot.
	ReasonPodsStarting = "PodsStarting"
	// ReasonPodsNotMade: pods of the size do not exist; the message has the Job's own reason.
	ReasonPodsNotMade = "PodsNotMade"
	// ReasonPodsNotStarted: pods of the size do not start; the message has the scheduler's or the kubelet's reason.
	ReasonPodsNotStarted = "PodsNotStarted"
	// ReasonSuspended: the Job of the MiniCluster is suspended, and claims no nodes.
	ReasonSuspended = "Suspended"
	// ReasonNodesUnusable: nodes of the pool have turned out to be of no use to the pods of the member.
	ReasonNodesUnusable = "NodesUnusable"
	// ReasonNotSelected: the pods select nodes by labels or names that those of the pool do not have.
	ReasonNotSelected = "NotSelected"
	// ReasonNamespaceNotAllowed: spec.allowedNamespaces of the pool does not select the member's namespace.
	ReasonNamespaceNotAllowed = "NamespaceNotAllowed"
	// ReasonInvalid: the MiniCluster asks for something that cannot be managed; the message names the field.
	ReasonInvalid = "Invalid"
	// ReasonKindNotManaged: the controller was not told to manage workloads of this kind (--kinds). What the member has stays as it is.
	ReasonKindNotManaged = "KindNotManaged"
)

// Reasons of conditions and events of a NodePool.
const (
	// ReasonFloorMet: the target size is at or above the floor.
	ReasonFloorMet = "FloorMet"
	// ReasonFloorNotMet: Cluster Autoscaler has yet to raise the target size to the floor.
	ReasonFloorNotMet = "FloorNotMet"
	// ReasonMachinesReady: as many nodes as the target size are Ready.
	ReasonMachinesReady = "MachinesReady"
	// ReasonProvisioning: machines are on order or booting.
	ReasonProvisioning = "Provisioning"
	// ReasonReleasing: machines are on their way out.
	ReasonReleasing = "Releasing"
	// ReasonMachineFailed: a machine failed, a record of one could not be created or deleted, or the cloud has not answered an order.
	ReasonMachineFailed = "MachineFailed"
	// ReasonMachineVanished: a machine is gone that nobody asked to delete.
	ReasonMachineVanished = "MachineVanished"
	// ReasonMachineLeaves: the cloud has announced that it takes a machine away.
	ReasonMachineLeaves = "MachineLeaves"
	// ReasonDeletionHangs: a machine was told to go long ago and is still there, and is paid for.
	ReasonDeletionHangs = "DeletionHangs"
	// ReasonNoAnswer: the cloud has not answered an order, which is repeated.
	ReasonNoAnswer = "NoAnswer"
	// ReasonOrphan: the cloud has a machine that no record tells of.
	ReasonOrphan = "Orphan"
	// ReasonStrangeNode: a node says that it is one of the pool, and no machine of the pool is that node.
	ReasonStrangeNode = "StrangeNode"
	// ReasonThrottled: the cloud asks to be asked less often.
	ReasonThrottled = "Throttled"
	// ReasonNotThrottled: the cloud takes what it is asked.
	ReasonNotThrottled = "NotThrottled"
	// ReasonWithinBounds: the target size is not above maxSize.
	ReasonWithinBounds = "WithinBounds"
	// ReasonAboveMaxSize: the target size is above maxSize.
	ReasonAboveMaxSize = "AboveMaxSize"
	// ReasonUpToDate: all machines have the template of now.
	ReasonUpToDate = "UpToDate"
	// ReasonTemplateChanged: some machines have a template from before the last edit.
	ReasonTemplateChanged = "TemplateChanged"
	// ReasonPaused: spec.paused is set.
	ReasonPaused = "Paused"
	// ReasonNotPaused: spec.paused is not set.
	ReasonNotPaused = "NotPaused"
)

// SetConditions puts conditions into those of an object at the given generation, keeps the transition
// time of every condition whose status stays, and derives Ready: True when all given conditions are True,
// otherwise the status, reason and message of the first that is not. whenReady is the message of a Ready
// that is True. It reports whether anything changed.
func SetConditions(existing *[]metav1.Condition, generation int64, now metav1.Time, whenReady string, conditions ...metav1.Condition) bool {
	ready := metav1.Condition{Type: ConditionReady, Status: metav1.ConditionTrue, Reason: ConditionReady, Message: whenReady}
	for _, c := range conditions {
		if c.Status != metav1.ConditionTrue {
			ready.Status, ready.Reason, ready.Message = c.Status, c.Reason, c.Message
			break
		}
	}
	changed := false
	for _, c := range append([]metav1.Condition{ready}, conditions...) {
		c.ObservedGeneration = generation
		c.LastTransitionTime = now
		changed = meta.SetStatusCondition(existing, c) || changed
	}
	return changed
}
