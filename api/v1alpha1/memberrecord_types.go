package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reservation is the claim of a member on nodes of one pool.
type Reservation struct {
	// NodePool is the name of the pool.
	NodePool string `json:"nodePool"`

	// Nodes is the number of nodes claimed.
	// +kubebuilder:validation:Minimum=0
	Nodes int32 `json:"nodes"`

	// Occupied is the number of nodes of the pool that are Ready but of no use to this member, because
	// other workloads fill them or they are cordoned. It raises the floor, which is a count, while the
	// reservation is unmet; it is 0 when the reservation is met. It never exceeds occupiedAtGrant by more than the replacements that
	// status.findings still allows.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Occupied int32 `json:"occupied,omitempty"`

	// OccupiedAtGrant is the number of such nodes when the pool granted the claim: whatever is lost to others after that counts as
	// a replacement.
	// +optional
	// +kubebuilder:validation:Minimum=0
	OccupiedAtGrant int32 `json:"occupiedAtGrant,omitempty"`

	// Held names the nodes that the member has: those its pods run on and Ready ones kept for pods to come.
	// A shrinking member holds a node until its pod has left it. A node that was held and is held by
	// nobody any more is released by the provider.
	// +optional
	// +listType=set
	Held []string `json:"held,omitempty"`
}

// Growth is one growth from its reservation to its end.
type Growth struct {
	// From is the size that the MiniCluster had when the growth began: 0 for nodes of a size that the MiniCluster was created
	// with or that a user wrote into it, so that its pods exist before them.
	// +optional
	From int32 `json:"from,omitempty"`

	// Size is the size that the member grows to.
	Size int32 `json:"size"`

	// Served is the part of the MiniCluster's size that had its nodes when the growth began, or has had them since. A pod of it
	// that has died goes back to its place; those beyond wait for the nodes of all.
	// +optional
	Served int32 `json:"served,omitempty"`

	// Since is when the controller first saw the desired size. Growths are served in this order.
	Since metav1.MicroTime `json:"since"`

	// Deadline is when the growth gives up what it reserved. Unset while nothing is reserved for it.
	// +optional
	Deadline *metav1.MicroTime `json:"deadline,omitempty"`

	// NodePool is the pool that the nodes which are still missing were granted by, or will be asked of first. Unset for
	// the first one of the list.
	// +optional
	NodePool string `json:"nodePool,omitempty"`

	// GrantedAt is when that pool granted them. Unset while it has not.
	// +optional
	GrantedAt *metav1.MicroTime `json:"grantedAt,omitempty"`

	// Failures tell which pools have failed since the growth was last asked for, and how, in that order.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Failures []PoolFailure `json:"failures,omitempty"`

	// Partial is set when the growth goes on without all of its nodes (growthPolicy BestEffort).
	// +optional
	Partial bool `json:"partial,omitempty"`

	// Attempts is the number of times that all pools have failed.
	// +optional
	Attempts int32 `json:"attempts,omitempty"`

	// RetryAfter is when a failed growth is tried again. Unset while it is not waiting for that.
	// +optional
	RetryAfter *metav1.MicroTime `json:"retryAfter,omitempty"`

	// Waits are the waits for room in pools that hold others back, or have.
	// +optional
	// +listType=map
	// +listMapKey=nodePool
	// +kubebuilder:validation:MaxItems=32
	Waits []RoomWait `json:"waits,omitempty"`
}

// MaxRoomWaits is how many pools a growth can wait for.
const MaxRoomWaits = 32

// RoomWait is the wait of a growth for room in a pool that has none for it. Nodes of the pool that become free are kept for it for a
// while, and then not for as long again.
type RoomWait struct {
	// NodePool is the name of the pool.
	NodePool string `json:"nodePool"`
	// Since is when the present turn has begun: from then on room is kept for twice the provisionTimeout of the pool, which doubles
	// with each turn up to eight times that, and then not for as long again.
	Since metav1.MicroTime `json:"since"`
	// Free is the number of nodes for which there has been room all along. Others may have them.
	// +kubebuilder:validation:Minimum=0
	Free int32 `json:"free"`
	// Turn counts the turns.
	// +kubebuilder:validation:Minimum=1
	Turn int32 `json:"turn"`
}

// PoolFailure tells how a pool failed to provide the nodes of a growth.
type PoolFailure struct {
	// NodePool is the name of the pool.
	NodePool string `json:"nodePool"`
	// Reason is ProvisionTimeout, OutOfStock, NodesUnusable or PodsNotMade.
	Reason string `json:"reason"`
	// Message is a sentence for people.
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message"`
	// At is when it failed.
	At metav1.MicroTime `json:"at"`
}

// PoolFinding is what nodes that came for a member have shown about their pool.
type PoolFinding struct {
	// NodePool is the name of the pool.
	NodePool string `json:"nodePool"`

	// Basis is two hashes, with a hyphen between them, of what the finding rests on: the template and machines of the pool with what
	// DaemonSets take on its nodes, and what the pods of the member request, tolerate and select. When one of them changes the finding
	// is forgotten; the second one is not looked at while the member has no pods.
	// +kubebuilder:validation:MaxLength=64
	Basis string `json:"basis"`

	// Replaced is the number of nodes that were ordered in the place of others that were of no use, over all attempts. It is at
	// most one, or a tenth of the claim where that is more.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Replaced int32 `json:"replaced,omitempty"`

	// Unusable says why nodes of the pool are of no use to the member, as a sentence. While it is set the pool is not asked. Unset
	// while nothing is known against the pool.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Unusable string `json:"unusable,omitempty"`

	// Refused names the node that was empty and that the scheduler has kept a pod of the member off: a second one is the pool's
	// failure. Unset while there is none.
	// +optional
	Refused string `json:"refused,omitempty"`

	// At is when that was found.
	At metav1.MicroTime `json:"at"`
}

// PodsLacking tells of pods that should be there and are not.
type PodsLacking struct {
	// Since is since when more pods are lacking than nodes were given back for, though all nodes are Ready. While there are no more
	// it is the last such time.
	Since metav1.MicroTime `json:"since"`
	// Pods is the number of pods that were lacking when all nodes were Ready.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Pods int32 `json:"pods,omitempty"`
	// GivenBack is the number of pods of the present size whose nodes were given back because they did not come. They get nodes when
	// they exist.
	// +optional
	// +kubebuilder:validation:Minimum=0
	GivenBack int32 `json:"givenBack,omitempty"`
	// Attempts is how often nodes were given back because pods did not come.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Attempts int32 `json:"attempts,omitempty"`
}

// PodsPerNodeAuto as podsPerNode stands for as many pods as fit an empty node.
const PodsPerNodeAuto = "Auto"

// MaxPodsPerNode is the greatest number of pods that can be told to share a node.
const MaxPodsPerNode = 1024

// MaxDecisions is how many decisions a status keeps.
const MaxDecisions = 16

// MaxFindings is how many findings a status keeps.
const MaxFindings = 32

// MaxAvoided is how many avoided nodes a status keeps.
const MaxAvoided = 32

// AvoidedNode is a node that the scheduler has kept a pod of a member off.
type AvoidedNode struct {
	// Node is the name of the node.
	Node string `json:"node"`
	// Until is when the node may be of use again.
	Until metav1.MicroTime `json:"until"`
}

// DecisionRecord is one step of a member.
type DecisionRecord struct {
	// At is when it was taken.
	At metav1.MicroTime `json:"at"`
	// Reason is the reason that its event has.
	Reason string `json:"reason"`
	// Message is a sentence for people.
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message"`
}

// RequestOutcome tells a request and what has become of it.
type RequestOutcome struct {
	Request `json:",inline"`
	// Outcome says in words what has become of the request.
	Outcome string `json:"outcome"`
}
