package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// EnsembleMember is the resize record of one managed workload, such as a MiniCluster. It is owned by it, and says what size the member
// wants, what size it has, and which nodes are held for it. That of a MiniCluster has the MiniCluster's name.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.size,statuspath=.status.size,selectorpath=.status.selector
// +kubebuilder:resource:categories=ensemble-autoscaler
// +kubebuilder:printcolumn:name="DESIRED",type=integer,JSONPath=`.spec.size`,description="Desired size"
// +kubebuilder:printcolumn:name="CURRENT",type=integer,JSONPath=`.status.size`,description="Size of the workload"
// +kubebuilder:printcolumn:name="NODES",type=integer,JSONPath=`.status.nodes`,description="Nodes held that are Ready"
// +kubebuilder:printcolumn:name="POOLS",type=string,JSONPath=`.status.pools`,description="Nodes reserved in each pool"
// +kubebuilder:printcolumn:name="READY",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="REASON",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="What the member waits for"
// +kubebuilder:printcolumn:name="RESERVED",type=integer,priority=1,JSONPath=`.status.reserved`,description="Nodes reserved"
// +kubebuilder:printcolumn:name="RUNNING",type=integer,priority=1,JSONPath=`.status.running`,description="Pods that run, or have succeeded"
// +kubebuilder:printcolumn:name="MESSAGE",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="What the member waits for, as a sentence"
// +kubebuilder:printcolumn:name="AGE",type=date,JSONPath=`.metadata.creationTimestamp`
type EnsembleMember struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec EnsembleMemberSpec `json:"spec"`
	// +optional
	Status EnsembleMemberStatus `json:"status,omitempty"`
}

// EnsembleMemberSpec is what the member wants.
//
// +kubebuilder:validation:XValidation:rule="self.minSize <= self.maxSize",messageExpression="'minSize (%d) must not exceed maxSize (%d)'.format([self.minSize, self.maxSize])",fieldPath=".minSize"
// +kubebuilder:validation:XValidation:rule="self.size >= self.minSize",messageExpression="'size (%d) must be at least minSize (%d), the minimum size of the %s'.format([self.size, self.minSize, has(self.target) ? self.target.kind : 'MiniCluster'])",fieldPath=".size"
// +kubebuilder:validation:XValidation:rule="self.size <= self.maxSize",messageExpression="'size (%d) must be at most maxSize (%d), the maximum size of the %s'.format([self.size, self.maxSize, has(self.target) ? self.target.kind : 'MiniCluster'])",fieldPath=".size"
// +kubebuilder:validation:XValidation:rule="!has(self.unit) || self.size % self.unit == 0",messageExpression="'size (%d) must be a multiple of %d: so many pods come and go together'.format([self.size, self.unit])",fieldPath=".size"
// +kubebuilder:validation:XValidation:rule="!has(self.groups) || self.size == self.groups.map(g, g.size).sum()",messageExpression="'size (%d) must be the sum of groups[].size (%d): a member with several groups is not scaled by one number; set the size of a group, as kubectl ensemble scale --group does'.format([self.size, self.groups.map(g, g.size).sum()])",fieldPath=".size"
// +kubebuilder:validation:XValidation:rule="!has(self.groups) || self.minSize == self.groups.map(g, g.minSize).sum()",messageExpression="'minSize (%d) must be the sum of groups[].minSize (%d)'.format([self.minSize, self.groups.map(g, g.minSize).sum()])",fieldPath=".minSize"
// +kubebuilder:validation:XValidation:rule="!has(self.groups) || self.maxSize == self.groups.map(g, g.maxSize).sum()",messageExpression="'maxSize (%d) must be the sum of groups[].maxSize (%d)'.format([self.maxSize, self.groups.map(g, g.maxSize).sum()])",fieldPath=".maxSize"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.target) || !has(self.target) || self.target == oldSelf.target",message="target says which workload the member is of, and cannot be changed",fieldPath=".target"
type EnsembleMemberSpec struct {
	// Target is the workload that the member is of, in the member's namespace. The controller sets it, and it is never another
	// one. Unset: the MiniCluster of the member's name, as in members from before there were others, and in those that a controller from
	// then has written; the next pass sets it again.
	// +optional
	Target *MemberTarget `json:"target,omitempty"`

	// Size is the number of pods that the member wants. The ensemble endpoint writes it, and so may
	// kubectl scale or a HorizontalPodAutoscaler through the scale subresource. With groups it is the sum of their sizes, and the scale
	// subresource is refused: one number does not say which group is meant.
	// +kubebuilder:validation:Minimum=1
	Size int32 `json:"size"`

	// MinSize is the minimum size, copied by the controller from the MiniCluster (1 where it has none).
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	MinSize int32 `json:"minSize"`

	// MaxSize is the maximum size, copied by the controller from the MiniCluster: its status.maximumSize,
	// which is fixed at its creation. A MiniCluster without spec.maxSize cannot grow above its first size.
	// +kubebuilder:validation:Minimum=1
	MaxSize int32 `json:"maxSize"`

	// Groups are the groups of pods of a workload that has several, such as the replicated jobs of a JobSet, each with a size of its own. They
	// grow together: none before the nodes of all are Ready. The controller copies them from the workload, and keeps the size that is
	// wanted. Unset for a workload with one group of pods, as a MiniCluster has.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=2
	// +kubebuilder:validation:MaxItems=16
	Groups []MemberGroup `json:"groups,omitempty"`

	// Unit is how many pods of the member come and go together, as those of one replica do: sizes are multiples of it. Copied by the
	// controller from the workload. Unset: 1, and with groups each has a unit of its own.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Unit int32 `json:"unit,omitempty"`

	// NodePools names the pools that the member's nodes may come from, in order of preference. Copied by
	// the controller from the annotation on the MiniCluster.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=50
	// +kubebuilder:validation:XValidation:rule="self.all(x, self.exists_one(y, y == x))",message="nodePools must not name a pool twice"
	NodePools []string `json:"nodePools"`

	// GrowthPolicy says what happens when not all nodes of a growth can be had. Copied by the controller
	// from the annotation on the MiniCluster.
	// +kubebuilder:default=AllOrNothing
	GrowthPolicy GrowthPolicy `json:"growthPolicy,omitempty"`

	// Placement says whether the nodes of one growth may come from several pools. Copied by the controller from the
	// annotation on the MiniCluster.
	// +kubebuilder:default=Span
	Placement Placement `json:"placement,omitempty"`

	// RequestPolicy says what becomes of a request while one before it is under way. Copied by the controller
	// from the annotation on the MiniCluster.
	// +kubebuilder:default=Accumulate
	RequestPolicy RequestPolicy `json:"requestPolicy,omitempty"`

	// PodsPerNode is how many pods of the member share a node: a number of at least 1, or Auto for as many as fit an empty
	// node of each of its pools by what they request. Copied by the controller from the annotation on the MiniCluster.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^Auto$`
	// +kubebuilder:validation:XValidation:rule="type(self) != int || (int(self) >= 1 && int(self) <= 1024)",message="podsPerNode must be a number from 1 to 1024, or Auto"
	PodsPerNode *intstr.IntOrString `json:"podsPerNode,omitempty"`

	// GiveUpAfter is how many times a growth may fail in all pools before the desired size is set back to the size that the member
	// has. Unset: it is tried again for as long as it is wanted. Copied by the controller from the annotation on the
	// MiniCluster.
	// +optional
	// +kubebuilder:validation:Minimum=1
	GiveUpAfter *int32 `json:"giveUpAfter,omitempty"`

	// TopologyKey is the key of a label of nodes, for example topology.kubernetes.io/zone. All nodes of the member have the
	// same value of it: they come from one zone, rack or placement group. Unset: they may come from anywhere. Copied by the
	// controller from the annotation on the MiniCluster.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')",message="topologyKey must be the key of a label, such as topology.kubernetes.io/zone"
	TopologyKey string `json:"topologyKey,omitempty"`

	// Request says who asked for the size, written together with it. It is unset, or its size differs
	// from spec.size, when the size was set in another way.
	// +optional
	Request *Request `json:"request,omitempty"`
}

// MemberTarget says which workload a member is of.
type MemberTarget struct {
	// APIVersion is the group and version of the workload, such as flux-framework.org/v1alpha2.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	APIVersion string `json:"apiVersion"`
	// Kind is the kind of the workload, such as MiniCluster.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
	// Name is the name of the workload.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// MaxGroups is how many groups of pods a member can have, and MaxGroupSize how many pods one of them.
const (
	MaxGroups    = 16
	MaxGroupSize = 1 << 26
)

// MemberGroup is one group of pods of a workload with several, as the member wants it.
//
// +kubebuilder:validation:XValidation:rule="self.minSize <= self.maxSize",messageExpression="'minSize (%d) of group %s must not exceed maxSize (%d)'.format([self.minSize, self.name, self.maxSize])",fieldPath=".minSize"
// +kubebuilder:validation:XValidation:rule="self.size >= self.minSize",messageExpression="'size (%d) of group %s must be at least minSize (%d)'.format([self.size, self.name, self.minSize])",fieldPath=".size"
// +kubebuilder:validation:XValidation:rule="!has(self.unit) || self.size % self.unit == 0",messageExpression="'size (%d) of group %s must be a multiple of %d: so many pods come and go together'.format([self.size, self.name, self.unit])",fieldPath=".size"
// +kubebuilder:validation:XValidation:rule="self.size <= self.maxSize",messageExpression="'size (%d) of group %s must be at most maxSize (%d)'.format([self.size, self.name, self.maxSize])",fieldPath=".size"
type MemberGroup struct {
	// Name is what the workload calls the group.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// Size is the number of pods of the group that the member wants. The ensemble endpoint writes it, together with spec.size.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=67108864
	Size int32 `json:"size"`
	// MinSize is the minimum size, copied by the controller from the workload.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=67108864
	MinSize int32 `json:"minSize"`
	// MaxSize is the maximum size, copied by the controller from the workload.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=67108864
	MaxSize int32 `json:"maxSize"`
	// Unit is how many pods of the group come and go together, as those of one replica do: sizes are multiples of it. Copied by the
	// controller from the workload.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	Unit int32 `json:"unit,omitempty"`
}

// GrowthPolicy says what happens when not all nodes of a growth can be had. AllOrNothing and BestEffort are what AWS
// ParallelCluster calls the scaling strategies all-or-nothing and best-effort.
//
// +kubebuilder:validation:Enum=AllOrNothing;BestEffort;Greedy
type GrowthPolicy string

const (
	// GrowthAllOrNothing resizes the MiniCluster when all nodes are Ready, and gives all nodes of the growth
	// back when no pool had them within its provisionTimeout.
	GrowthAllOrNothing GrowthPolicy = "AllOrNothing"
	// GrowthBestEffort resizes the MiniCluster when all nodes are Ready, or to what is there when no pool had them all
	// within its provisionTimeout. It gives nothing back and goes on asking for the rest.
	GrowthBestEffort GrowthPolicy = "BestEffort"
	// GrowthGreedy resizes the MiniCluster with each node that gets Ready. What no pool had within its provisionTimeout
	// is given up and asked for again later.
	GrowthGreedy GrowthPolicy = "Greedy"
)

// Placement says whether the nodes of one growth may come from several pools.
//
// +kubebuilder:validation:Enum=Span;Single
type Placement string

const (
	// PlacementSpan keeps the nodes that a pool has provided and asks the next pool of the list for those that are missing.
	PlacementSpan Placement = "Span"
	// PlacementSingle asks one pool at a time for all nodes of a growth. Those of a pool that does not have them all are
	// given back before the next one is asked.
	PlacementSingle Placement = "Single"
)

// RequestPolicy says what becomes of a request to grow while a growth is under way, and of one to shrink during a
// shrink. A member asks again at every heartbeat for as long as its rule holds.
//
// +kubebuilder:validation:Enum=Accumulate;Coalesce
type RequestPolicy string

const (
	// RequestAccumulate adds every request to the desired size, as the ensemble-operator does.
	RequestAccumulate RequestPolicy = "Accumulate"
	// RequestCoalesce answers EXISTS, and changes nothing, until the size that was asked for before is there.
	RequestCoalesce RequestPolicy = "Coalesce"
)

// RequestAction is what a request asked for.
//
// +kubebuilder:validation:Enum=Grow;Shrink;Adopt;GiveUp
type RequestAction string

const (
	// RequestGrow asked for more pods.
	RequestGrow RequestAction = "Grow"
	// RequestShrink asked for fewer pods.
	RequestShrink RequestAction = "Shrink"
	// RequestAdopt took over a size that a user wrote into the MiniCluster directly.
	RequestAdopt RequestAction = "Adopt"
	// RequestGiveUp set the desired size back after a growth had failed as often as spec.giveUpAfter allows.
	RequestGiveUp RequestAction = "GiveUp"
)

// Request is one request for a size.
type Request struct {
	// Action is what was asked for.
	Action RequestAction `json:"action"`
	// Group is the group of pods whose size was to change; empty for a member with one group, and where all may have changed.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Group string `json:"group,omitempty"`
	// Amount is by how many pods the size was to change.
	// +kubebuilder:validation:Minimum=0
	Amount int32 `json:"amount"`
	// Size is the size that the request led to: spec.size, which is the sum of all groups where there are several.
	// +kubebuilder:validation:Minimum=1
	Size int32 `json:"size"`
	// By names who asked: a pod, a user, the MiniCluster itself.
	// +kubebuilder:validation:MaxLength=512
	By string `json:"by"`
	// At is when the request was accepted.
	At metav1.MicroTime `json:"at"`
	// ID is what the client called the request, so that asking again for want of a reply changes nothing: one with the ID of the last
	// accepted request is answered as that was. Empty where the client gave none.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	ID string `json:"id,omitempty"`
}

// EnsembleMemberStatus is the observed state of a member. The controller writes it, and of it the ensemble endpoint the
// queue.
type EnsembleMemberStatus struct {
	// ObservedGeneration is the metadata.generation that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Size is the size that the member has: spec.size of its MiniCluster, or the sum of the sizes of its groups.
	Size int32 `json:"size"`

	// Groups tell how each group of pods is, where the workload has several: in the order of the workload. What the status itself says of
	// sizes, nodes and pods is then the sum of them.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Groups []GroupStatus `json:"groups,omitempty"`

	// Reserved is the sum of status.reservations[].nodes.
	Reserved int32 `json:"reserved"`

	// Nodes is the number of nodes held that are Ready and usable.
	Nodes int32 `json:"nodes"`

	// Reservations are the nodes reserved for the member, by pool. The provider keeps the floor of each
	// pool at the sum of them.
	// +optional
	// +listType=map
	// +listMapKey=nodePool
	Reservations []Reservation `json:"reservations,omitempty"`

	// Pools has the reservations in a few words, for kubectl get, which prints one value of a list: "hpc-a 2, hpc-b 6".
	// +optional
	Pools string `json:"pools,omitempty"`

	// TopologyDomain is where the nodes of the member are, or where its growth is asked for, as KEY=VALUE of spec.topologyKey:
	// "topology.kubernetes.io/zone=eu-1a". Unset without a topologyKey, and while no domain has been chosen.
	// +optional
	TopologyDomain string `json:"topologyDomain,omitempty"`

	// Growth is the growth that is under way, or that failed and will be tried again. Unset otherwise. With groups it is that of all of them
	// together, and theirs are in status.groups.
	// +optional
	Growth *Growth `json:"growth,omitempty"`

	// Decisions are the last steps of the member, oldest first, each with its reason.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Decisions []DecisionRecord `json:"decisions,omitempty"`

	// Avoided are the nodes that the scheduler has kept pods of the member off, though they seemed to have room. They are of no
	// use to the member for a while.
	// +optional
	// +listType=map
	// +listMapKey=node
	// +kubebuilder:validation:MaxItems=32
	Avoided []AvoidedNode `json:"avoided,omitempty"`

	// Findings are what nodes that came for the member have shown about their pools, and how many were replaced. They outlast the
	// attempts of a growth, and end when the pool's template, what DaemonSets take there, or what the pods request has changed.
	// +optional
	// +listType=map
	// +listMapKey=nodePool
	// +kubebuilder:validation:MaxItems=32
	Findings []PoolFinding `json:"findings,omitempty"`

	// PodsLacking tells since when pods of the MiniCluster's size do not exist though there are nodes for them. Unset while all do.
	// +optional
	PodsLacking *PodsLacking `json:"podsLacking,omitempty"`

	// Running is the number of pods of the MiniCluster's size that are Running and Ready, or have Succeeded.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Running int32 `json:"running"`

	// LastRequest tells the last request and what has become of it.
	// +optional
	LastRequest *RequestOutcome `json:"lastRequest,omitempty"`

	// Queue is what the member told of its queue to a version before MemberQueues. Nobody writes it any more; it is read until the member
	// has told again.
	// +optional
	Queue *Queue `json:"queue,omitempty"`

	// Selector selects the pods of the member, as the scale subresource wants it.
	// +optional
	Selector string `json:"selector,omitempty"`

	// Conditions: CapacityReserved, CapacityReady, Resized, PodsRunning, and Ready derived from them.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// GroupStatus is how one group of pods is, of a workload with several: what it has, and what was recorded for it.
type GroupStatus struct {
	// Name is what the workload calls the group.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// Size is the size that the group has.
	Size int32 `json:"size"`

	// Running is the number of pods of that size that are Running and Ready, or have Succeeded.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Running int32 `json:"running"`

	// Reserved is the sum of the reservations of the group.
	Reserved int32 `json:"reserved"`

	// Nodes is the number of nodes held for the group that are Ready and usable.
	Nodes int32 `json:"nodes"`

	// Reservations are the nodes reserved for the group, by pool. Those in the status of the member are the sums of them.
	// +optional
	// +listType=map
	// +listMapKey=nodePool
	Reservations []Reservation `json:"reservations,omitempty"`

	// Growth is the growth of the group that is under way, or that failed and will be tried again. Unset otherwise.
	// +optional
	Growth *Growth `json:"growth,omitempty"`

	// Avoided are the nodes that the scheduler has kept pods of the group off, though they seemed to have room.
	// +optional
	// +listType=map
	// +listMapKey=node
	// +kubebuilder:validation:MaxItems=32
	Avoided []AvoidedNode `json:"avoided,omitempty"`

	// Findings are what nodes that came for the group have shown about their pools, and how many were replaced.
	// +optional
	// +listType=map
	// +listMapKey=nodePool
	// +kubebuilder:validation:MaxItems=32
	Findings []PoolFinding `json:"findings,omitempty"`

	// PodsLacking tells since when pods of the group's size do not exist though there are nodes for them. Unset while all do.
	// +optional
	PodsLacking *PodsLacking `json:"podsLacking,omitempty"`

	// Message says what the group waits for, or that it has what it wants, as a sentence.
	// +optional
	// +kubebuilder:validation:MaxLength=32768
	Message string `json:"message,omitempty"`
}

// EnsembleMemberList is a list of EnsembleMembers.
//
// +kubebuilder:object:root=true
type EnsembleMemberList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EnsembleMember `json:"items"`
}
