package v1alpha1

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodePool is one node group of Cluster Autoscaler: machines of one shape whose number is decided by
// Cluster Autoscaler, above a floor that the reservations of ensemble members set.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:resource:scope=Cluster,shortName=enp,categories=ensemble-autoscaler
// +kubebuilder:printcolumn:name="MIN",type=integer,JSONPath=`.spec.minSize`,description="Minimum number of machines"
// +kubebuilder:printcolumn:name="MAX",type=integer,JSONPath=`.spec.maxSize`,description="Maximum number of machines"
// +kubebuilder:printcolumn:name="TARGET",type=integer,JSONPath=`.spec.replicas`,description="Target size, set by Cluster Autoscaler"
// +kubebuilder:printcolumn:name="FLOOR",type=integer,JSONPath=`.status.floor`,description="Number of machines that the reservations call for"
// +kubebuilder:printcolumn:name="NODES",type=integer,JSONPath=`.status.ready`,description="Nodes that are Ready"
// +kubebuilder:printcolumn:name="RESERVED",type=integer,JSONPath=`.status.reserved`,description="Nodes reserved by ensemble members"
// +kubebuilder:printcolumn:name="READY",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the pool has all the machines that it is to have"
// +kubebuilder:printcolumn:name="REASON",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="What the pool is doing"
// +kubebuilder:printcolumn:name="UP-TO-DATE",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="MachinesUpToDate")].status`,description="Whether all machines have the template of now"
// +kubebuilder:printcolumn:name="PAUSED",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Paused")].status`,description="Whether the pool is paused"
// +kubebuilder:printcolumn:name="LAST-FAILURE",type=string,priority=1,JSONPath=`.status.lastFailure.code`,description="Why a machine failed last"
// +kubebuilder:printcolumn:name="MESSAGE",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="What the pool is doing, as a sentence"
// +kubebuilder:printcolumn:name="AGE",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 50",message="metadata.name must be at most 50 characters long: machines are named <pool>-<number>"
type NodePool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec NodePoolSpec `json:"spec"`
	// +optional
	Status NodePoolStatus `json:"status,omitempty"`
}

// NodePoolSpec is the wanted state of a pool.
//
// +kubebuilder:validation:XValidation:rule="self.minSize <= self.maxSize",messageExpression="'minSize (%d) must not exceed maxSize (%d)'.format([self.minSize, self.maxSize])",fieldPath=".minSize"
// +kubebuilder:validation:XValidation:rule="self.replicas <= self.maxSize || (oldSelf.hasValue() && self.replicas <= oldSelf.value().replicas)",messageExpression="'replicas (%d) must not be raised above maxSize (%d)'.format([self.replicas, self.maxSize])",fieldPath=".replicas",optionalOldSelf=true
// +kubebuilder:validation:XValidation:rule="!has(self.machines.karpenter) || !has(self.provisionTimeout) || duration(self.provisionTimeout) <= duration('15m')",messageExpression="'provisionTimeout (%s) must be at most 15m with machines.karpenter: Karpenter gives up a machine that has not registered then'.format([self.provisionTimeout])",fieldPath=".provisionTimeout"
// +kubebuilder:validation:XValidation:rule="!has(self.machines.karpenter) || !has(self.template.labels) || !('karpenter.sh/nodepool' in self.template.labels)",message="template.labels must not have karpenter.sh/nodepool with machines.karpenter: machines belong to no NodePool of Karpenter",fieldPath=".template.labels"
// +kubebuilder:validation:XValidation:rule="!has(self.machines.clusterAPI) || !has(self.template.labels) || ['cluster-name', 'set-name', 'deployment-name', 'control-plane'].all(k, !('cluster.x-k8s.io/' + k in self.template.labels))",message="template.labels must not have cluster.x-k8s.io/cluster-name, set-name, deployment-name or control-plane with machines.clusterAPI: by them Cluster API tells its own Machines apart",fieldPath=".template.labels"
type NodePoolSpec struct {
	// MinSize is the minimum number of machines, reservations or not. Set by the user.
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	MinSize int32 `json:"minSize"`

	// MaxSize is the maximum number of machines. A machine that leaves and its replacement may be above it together. Set by the user.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000
	MaxSize int32 `json:"maxSize"`

	// Replicas is the target size: the number of machines that exist or are on order, less those in
	// machinesToDelete. Cluster Autoscaler writes it through the provider; with autoscaler None the
	// provider writes it from the floor, and a user may through the scale subresource.
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	Replicas int32 `json:"replicas"`

	// ReplicasForMembers is the part of replicas, counted from 1, that was ordered because the floor called
	// for it. The provider writes it together with replicas. When a reservation is given up before its
	// machines are ordered, that part of replicas is given up with it.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ReplicasForMembers int32 `json:"replicasForMembers,omitempty"`

	// MachinesToDelete names the machines that are to go. The provider adds names in the write that lowers
	// replicas, so that no crash can delete another machine than the one chosen, and removes each name
	// when its machine is gone.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=5000
	// +kubebuilder:validation:items:MaxLength=253
	MachinesToDelete []string `json:"machinesToDelete,omitempty"`

	// Template is what a new node of this pool looks like. Cluster Autoscaler simulates with it. Set by
	// the user; an edit concerns the nodes ordered after it.
	Template NodeTemplate `json:"template"`

	// PricePerHour is the price of one machine for an hour, in any currency that all pools share. Set by
	// the user; without it the pool has no price.
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('0')) >= 0",message="pricePerHour must not be negative"
	PricePerHour *resource.Quantity `json:"pricePerHour,omitempty"`

	// ProvisionTimeout is how long a node may take from its order until it is Ready. A growth that takes
	// longer gives back what it reserved. With machines of Karpenter it is at most 15m, when Karpenter gives up a machine that has not
	// registered (its nodeclaim/lifecycle/liveness.go). Set by the user.
	// +kubebuilder:default="15m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^-?([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('1s')",messageExpression="'provisionTimeout (%s) must be a duration of at least 1s, for example 90s, 15m or 1h30m'.format([self])"
	ProvisionTimeout metav1.Duration `json:"provisionTimeout,omitempty"`

	// Autoscaler says who decides on replicas. Set by the user.
	// +kubebuilder:default=ClusterAutoscaler
	Autoscaler Autoscaler `json:"autoscaler,omitempty"`

	// ScaleDown says when nodes that members have given up are released. Set by the user.
	// +optional
	ScaleDown ScaleDown `json:"scaleDown,omitempty"`

	// Paused stops everything that would change the pool: no machine is ordered, deleted or released, no member
	// is granted nodes that it has not yet, and Cluster Autoscaler is told that the group can neither grow nor
	// shrink. What members hold they keep. Set by the user.
	// +optional
	Paused bool `json:"paused,omitempty"`

	// AllowedNamespaces selects, by their labels, the namespaces whose MiniClusters may name this pool. Unset: all. After an edit what
	// is held stays, and nothing more is granted to namespaces that are no longer selected. Set by the user.
	// +optional
	AllowedNamespaces *metav1.LabelSelector `json:"allowedNamespaces,omitempty"`

	// Machines says where the machines come from: exactly one launcher. Set by the user; an edit concerns machines ordered after it.
	Machines MachinesSpec `json:"machines"`
}

// ScaleDown says when nodes are released.
type ScaleDown struct {
	// Delay is how long a node that a member has given up stays for the next growth, before it is released. A growth
	// that finds enough of them waits for no machine. They are paid for meanwhile; Cluster Autoscaler is kept from
	// removing them. A node that a pod of no member comes to does not stay any longer than that pod.
	// +kubebuilder:default="0s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^-?([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('0s')",messageExpression="'delay (%s) must be a duration that is not negative, for example 0s, 90s or 10m'.format([self])"
	Delay metav1.Duration `json:"delay,omitempty"`
}

// Autoscaler says who decides on the target size of a pool.
//
// +kubebuilder:validation:Enum=ClusterAutoscaler;None
type Autoscaler string

const (
	// AutoscalerClusterAutoscaler leaves the target size to Cluster Autoscaler, which keeps it at or above
	// the floor when it runs with --enforce-node-group-min-size.
	AutoscalerClusterAutoscaler Autoscaler = "ClusterAutoscaler"
	// AutoscalerNone makes the pool follow its own floor, without Cluster Autoscaler.
	AutoscalerNone Autoscaler = "None"
)

// NodeTemplate is what a new node of a pool looks like.
//
// +kubebuilder:validation:XValidation:rule="!has(self.allocatable) || self.allocatable.all(k, k in self.capacity)",message="template.allocatable must not name a resource that template.capacity has not",fieldPath=".allocatable"
type NodeTemplate struct {
	// Labels of the node, besides the pool label and the host name, which the provider adds.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, k != 'autoscaling.flux-framework.org/node-pool' && k != 'kubernetes.io/hostname')",message="template.labels must not set autoscaling.flux-framework.org/node-pool or kubernetes.io/hostname: the provider sets them"
	Labels map[string]string `json:"labels,omitempty"`

	// Taints of the node. A pool meant for ensembles alone carries a dedicated taint.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(t, t.effect in ['NoSchedule', 'PreferNoSchedule', 'NoExecute'])",message="the effect of each of template.taints must be NoSchedule, PreferNoSchedule or NoExecute"
	Taints []corev1.Taint `json:"taints,omitempty"`

	// Capacity of the node: cpu, memory and pods are required, extended resources as needed.
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="'cpu' in self && 'memory' in self && 'pods' in self",message="template.capacity must have cpu, memory and pods"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !string(self[k]).startsWith('-'))",message="template.capacity must not be negative"
	Capacity corev1.ResourceList `json:"capacity"`

	// Allocatable is the part of the capacity that pods may request. A resource that is not named here is
	// allocatable whole. It should not exceed the capacity, which the API server does not check: comparing
	// that many quantities is more than it grants a rule.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, !string(self[k]).startsWith('-'))",message="template.allocatable must not be negative"
	Allocatable corev1.ResourceList `json:"allocatable,omitempty"`
}

// MachinesSpec is a union: exactly one of its fields is set.
//
// +kubebuilder:validation:XValidation:rule="[has(self.kwok), has(self.karpenter), has(self.clusterAPI)].filter(set, set).size() == 1",message="machines must name exactly one backend: kwok, karpenter or clusterAPI"
type MachinesSpec struct {
	// Kwok makes simulated machines: Node objects that the kwok controller keeps Ready, of a cloud that behaves as is said here.
	// +optional
	Kwok *KwokMachines `json:"kwok,omitempty"`

	// Karpenter makes machines by NodeClaims of Karpenter. The provider has to run with --karpenter.
	// +optional
	Karpenter *KarpenterMachines `json:"karpenter,omitempty"`

	// ClusterAPI makes machines by Machines of Cluster API. The provider has to run with --cluster-api.
	// +optional
	ClusterAPI *ClusterAPIMachines `json:"clusterAPI,omitempty"`
}

// KwokMachines configures simulated machines, and how they fail. What becomes of a machine is drawn when it is
// launched, from seed and its name, so that the same pool has the same luck again.
//
// +kubebuilder:validation:XValidation:rule="self.failurePercent + self.neverReadyPercent + (has(self.crashPercent) ? self.crashPercent : 0) + (has(self.spotPercent) ? self.spotPercent : 0) <= 100",message="failurePercent, neverReadyPercent, crashPercent and spotPercent must not exceed 100 together",fieldPath=".failurePercent"
type KwokMachines struct {
	// BootDelay is the time from the launch of a machine until its node registers.
	// +kubebuilder:default="0s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^-?([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('0s')",messageExpression="'bootDelay (%s) must be a duration that is not negative, for example 0s, 500ms or 1m30s'.format([self])"
	BootDelay metav1.Duration `json:"bootDelay,omitempty"`

	// BootJitter is added to the boot delay in part: each machine takes a time that is drawn evenly from 0 to
	// it.
	// +kubebuilder:default="0s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^-?([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('0s')",messageExpression="'bootJitter (%s) must be a duration that is not negative, for example 0s, 500ms or 1m30s'.format([self])"
	BootJitter metav1.Duration `json:"bootJitter,omitempty"`

	// Stock is the number of machines that the simulated cloud has for this pool. An order beyond it fails
	// with OutOfStock, of the class OutOfResources. Without it there is no limit.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Stock *int32 `json:"stock,omitempty"`

	// FailurePercent is the share of machines that fail at the end of their boot delay, with BootFailure.
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	FailurePercent int32 `json:"failurePercent,omitempty"`

	// NeverReadyPercent is the share of machines that register a node which never becomes Ready.
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	NeverReadyPercent int32 `json:"neverReadyPercent,omitempty"`

	// Seed is where the draws begin.
	// +optional
	Seed int64 `json:"seed,omitempty"`

	// NodeNames says what nodes are called: after their machines, or by names of their own.
	// +kubebuilder:default=Machine
	NodeNames KwokNodeNames `json:"nodeNames,omitempty"`

	// ProviderIDs says when the provider id of a machine is known.
	// +kubebuilder:default=AtLaunch
	ProviderIDs KwokProviderIDs `json:"providerIDs,omitempty"`

	// Stockout says how the cloud tells that it has no machine left.
	// +kubebuilder:default=Reply
	Stockout KwokStockout `json:"stockout,omitempty"`

	// Orders says whether the cloud can be asked for all machines of an order or none.
	// +kubebuilder:default=Single
	Orders KwokOrders `json:"orders,omitempty"`

	// Registration says whether nodes register with the taint startup-taint.cluster-autoscaler.kubernetes.io/ensemble-autoscaler,
	// which keeps pods off until the provider has seen the node.
	// +kubebuilder:default=Tainted
	Registration KwokRegistration `json:"registration,omitempty"`

	// CallDelay is how long a call of the cloud takes.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$')",messageExpression="'callDelay (%s) must be a duration that is not negative, for example 500ms or 30s'.format([self])"
	CallDelay *metav1.Duration `json:"callDelay,omitempty"`

	// ListingLag is how far a listing of the cloud is behind: instances that are younger are not in it.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$')",messageExpression="'listingLag (%s) must be a duration that is not negative, for example 500ms or 30s'.format([self])"
	ListingLag *metav1.Duration `json:"listingLag,omitempty"`

	// ListingFailurePercent is the share of listings that fail; one in five of these is empty instead.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	ListingFailurePercent int32 `json:"listingFailurePercent,omitempty"`

	// ThrottlePercent is the share of calls that the cloud throttles: it asks to be asked again in a second.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=90
	ThrottlePercent int32 `json:"throttlePercent,omitempty"`

	// LostReplyPercent is the share of launches whose reply is lost: they are carried out, and the caller is told of an error.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=90
	LostReplyPercent int32 `json:"lostReplyPercent,omitempty"`

	// TerminationDelay is how long an instance takes to go.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$')",messageExpression="'terminationDelay (%s) must be a duration that is not negative, for example 30s or 5m'.format([self])"
	TerminationDelay *metav1.Duration `json:"terminationDelay,omitempty"`

	// CrashPercent is the share of machines that fail after they have registered, within fateWithin.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	CrashPercent int32 `json:"crashPercent,omitempty"`

	// SpotPercent is the share of machines that the cloud takes back after they have registered, within fateWithin, and
	// announces that spotNotice before.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	SpotPercent int32 `json:"spotPercent,omitempty"`

	// FateWithin is the time from the registration of a machine in which it crashes or is announced to be taken back, where it
	// is to be; the time of each is drawn evenly from it.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$')",messageExpression="'fateWithin (%s) must be a duration that is not negative, for example 30s or 1h'.format([self])"
	FateWithin *metav1.Duration `json:"fateWithin,omitempty"`

	// SpotNotice is how long before it takes a machine back the cloud announces it.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$')",messageExpression="'spotNotice (%s) must be a duration that is not negative, for example 30s or 2m'.format([self])"
	SpotNotice *metav1.Duration `json:"spotNotice,omitempty"`

	// OrphanPercent is the share of launches at which the cloud makes one more instance than it tells of.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	OrphanPercent int32 `json:"orphanPercent,omitempty"`
}

// KwokNodeNames says what the nodes of simulated machines are called.
//
// +kubebuilder:validation:Enum=Machine;Own
type KwokNodeNames string

const (
	// KwokNodeNamesMachine gives a node the name of its machine.
	KwokNodeNamesMachine KwokNodeNames = "Machine"
	// KwokNodeNamesOwn gives a node a name of its own, as most clouds do.
	KwokNodeNamesOwn KwokNodeNames = "Own"
)

// KwokProviderIDs says when the provider id of a simulated machine is known.
//
// +kubebuilder:validation:Enum=AtLaunch;AtRegistration
type KwokProviderIDs string

const (
	// KwokProviderIDsAtLaunch tells the id in the reply to the launch.
	KwokProviderIDsAtLaunch KwokProviderIDs = "AtLaunch"
	// KwokProviderIDsAtRegistration tells it when the node has registered.
	KwokProviderIDsAtRegistration KwokProviderIDs = "AtRegistration"
)

// KwokStockout says how the simulated cloud tells that it has no machine left.
//
// +kubebuilder:validation:Enum=Reply;Vanish
type KwokStockout string

const (
	// KwokStockoutReply refuses the launch.
	KwokStockoutReply KwokStockout = "Reply"
	// KwokStockoutVanish takes the order, and removes the instance at once, as Karpenter does.
	KwokStockoutVanish KwokStockout = "Vanish"
)

// KwokOrders says whether the simulated cloud can be asked for all machines of an order or none.
//
// +kubebuilder:validation:Enum=Single;Atomic
type KwokOrders string

const (
	// KwokOrdersSingle takes each machine for itself.
	KwokOrdersSingle KwokOrders = "Single"
	// KwokOrdersAtomic can be asked for all or none.
	KwokOrdersAtomic KwokOrders = "Atomic"
)

// KwokRegistration says how nodes of simulated machines register.
//
// +kubebuilder:validation:Enum=Tainted;Bare
type KwokRegistration string

const (
	// KwokRegistrationTainted sets TaintRegistration, and the labels and annotations of the pool.
	KwokRegistrationTainted KwokRegistration = "Tainted"
	// KwokRegistrationBare sets only what the template says: neither the taint nor the pool's label, as a bootstrap that
	// knows nothing of pools.
	KwokRegistrationBare KwokRegistration = "Bare"
)

// NodePoolStatus is the observed state of a pool. The provider alone writes it.
type NodePoolStatus struct {
	// ObservedGeneration is the metadata.generation that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Floor is the number of machines that the reservations call for at the moment. Cluster Autoscaler is
	// told max(spec.minSize, floor) as the minimum size of the group. It never exceeds spec.maxSize.
	Floor int32 `json:"floor"`

	// FloorChangedAt is when floor last changed.
	// +optional
	FloorChangedAt *metav1.MicroTime `json:"floorChangedAt,omitempty"`

	// AnnouncedFloor is the minimum size that Cluster Autoscaler was last told. A node is released only
	// when the target stays at or above it, because Cluster Autoscaler, which asks for the minimum size once a
	// loop and for the target size at its end, would order a new machine otherwise.
	// +optional
	AnnouncedFloor int32 `json:"announcedFloor,omitempty"`

	// Reserved is the number of nodes that members have reserved in this pool.
	Reserved int32 `json:"reserved"`

	// Replicas is the number of machines that exist or are on order, those on their way out included.
	Replicas int32 `json:"replicas"`

	// Ready is the number of nodes of this pool that are Ready.
	Ready int32 `json:"ready"`

	// MachinesOrdered is a number that no machine has had, nor any above it. The next one is named
	// <pool>-<machinesOrdered>, so that no name is used twice. It is raised before the records are created.
	// +optional
	MachinesOrdered int64 `json:"machinesOrdered,omitempty"`

	// OrderedFrom is the first number whose record may be on its way: of those below machinesOrdered, records may exist
	// that are not in every cache yet. At rest it is machinesOrdered.
	// +optional
	OrderedFrom int64 `json:"orderedFrom,omitempty"`

	// FailedMachines names the machines that have failed and are not deleted yet: of those that are not in
	// spec.machinesToDelete at most 1000. Others that have failed follow when these are gone, or before they are deleted.
	// +optional
	// +listType=set
	FailedMachines []string `json:"failedMachines,omitempty"`

	// LastFailure is the latest failure of a machine. It stays when the machine is gone.
	// +optional
	LastFailure *MachineFailure `json:"lastFailure,omitempty"`

	// Selector selects the nodes of this pool, as the scale subresource wants it.
	// +optional
	Selector string `json:"selector,omitempty"`

	// Conditions: FloorMet, MachinesReady and WithinBounds, and Ready derived from them; MachinesUpToDate and
	// Paused, which Ready does not depend on.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MachineFailure says which machine failed, when and why.
type MachineFailure struct {
	// Machine is the name of the machine.
	Machine string `json:"machine"`

	// Time is when it failed.
	Time metav1.MicroTime `json:"time"`

	// Class is what Cluster Autoscaler tells apart.
	Class FailureClass `json:"class"`

	// Code is a CamelCase word.
	Code string `json:"code"`

	// Message is a sentence for people.
	// +kubebuilder:validation:MaxLength=4096
	Message string `json:"message"`
}

// FailureClass is a class of failures that Cluster Autoscaler tells apart.
//
// +kubebuilder:validation:Enum=OutOfResources;Other
type FailureClass string

const (
	// FailureOutOfResources is a cloud that has no machine of this kind, or no quota for one.
	FailureOutOfResources FailureClass = "OutOfResources"
	// FailureOther is any other failure.
	FailureOther FailureClass = "Other"
)

// NodePoolList is a list of NodePools.
//
// +kubebuilder:object:root=true
type NodePoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodePool `json:"items"`
}

// AllocatableOrCapacity is what pods may request of a node: its allocatable amounts, and its capacity
// where none are given.
func (t *NodeTemplate) AllocatableOrCapacity() corev1.ResourceList {
	out := make(corev1.ResourceList, len(t.Capacity))
	maps.Copy(out, t.Capacity.DeepCopy())
	maps.Copy(out, t.Allocatable)
	return out
}

// Hash tells templates apart: two that make the same node have the same hash, however their quantities are
// spelled. The error is that of the JSON encoder, which a template that the API server has taken does not cause.
func (t *NodeTemplate) Hash() (string, error) {
	encoded, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("encode the template: %w", err)
	}
	sum := fnv.New64a()
	_, _ = sum.Write(encoded) // A hash never fails.
	return strconv.FormatUint(sum.Sum64(), 16), nil
}
