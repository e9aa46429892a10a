package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PoolMachine is the record of one machine of a NodePool, whatever makes the machine. The provider writes it before
// anything is ordered and keeps it, under a finalizer, until the cloud says that the machine is gone: so a machine that
// is booting survives a restart, a failure that the cloud forgets at once is kept, and no machine is paid for without a
// record. Its name is <pool>-<number>, is never used twice, and need not be the name of the node.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=pm,categories=ensemble-autoscaler
// +kubebuilder:printcolumn:name="POOL",type=string,JSONPath=`.spec.nodePool`
// +kubebuilder:printcolumn:name="STATE",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="How far the machine is"
// +kubebuilder:printcolumn:name="NODE",type=string,JSONPath=`.status.nodeName`
// +kubebuilder:printcolumn:name="PURPOSE",type=string,JSONPath=`.spec.purpose`
// +kubebuilder:printcolumn:name="PROVIDER-ID",type=string,JSONPath=`.status.providerID`
// +kubebuilder:printcolumn:name="FAILURE",type=string,priority=1,JSONPath=`.status.failure.message`,description="Why the machine does not come up, or is no more"
// +kubebuilder:printcolumn:name="AGE",type=date,JSONPath=`.metadata.creationTimestamp`
type PoolMachine struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec PoolMachineSpec `json:"spec"`
	// +optional
	Status PoolMachineStatus `json:"status,omitempty"`
}

// PoolMachineSpec is what was ordered. It is fixed with the order: an edit of the NodePool concerns new machines.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a machine is not changed after its order"
type PoolMachineSpec struct {
	// NodePool is the pool that the machine belongs to.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=50
	NodePool string `json:"nodePool"`

	// Purpose says for whom the machine was ordered.
	Purpose MachinePurpose `json:"purpose"`

	// Order is the order that the machine is a part of.
	Order MachineOrder `json:"order"`

	// OrderedAt is when the machine was ordered.
	OrderedAt metav1.MicroTime `json:"orderedAt"`

	// TemplateHash is the NodeTemplate.Hash of template.
	TemplateHash string `json:"templateHash"`

	// Template is the pool's template as it was when the machine was ordered.
	Template NodeTemplate `json:"template"`

	// Machines is the pool's spec.machines as it was when the machine was ordered: where the machine comes from.
	Machines MachinesSpec `json:"machines"`
}

// MachineOrder is the order that a machine is a part of: the machines that are asked of the cloud together. The same order
// has the same id, size, first and last on each of its machines, and the cloud is asked with a token made of them, so that
// a repetition after a crash makes nothing twice.
type MachineOrder struct {
	// ID says for which claim the order is: the UID of the EnsembleMember and the time at which its growth began, in
	// microseconds since 1970; "floor" for what the floor calls for beyond claims, "autoscaler" for what Cluster Autoscaler,
	// or a person, asks for beyond the floor, "adopted" for a machine that was found and not ordered.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=80
	ID string `json:"id"`

	// Size is the number of machines of the order. An order of which records are missing has launched nothing.
	// +kubebuilder:validation:Minimum=1
	Size int32 `json:"size"`

	// First and Last are the lowest and the highest number in the names of its machines.
	// +kubebuilder:validation:Minimum=0
	First int64 `json:"first"`
	// +kubebuilder:validation:Minimum=0
	Last int64 `json:"last"`

	// Atomic is set where the cloud is asked for all machines of the order or none.
	// +optional
	Atomic bool `json:"atomic,omitempty"`

	// Domain is where the machines are wanted, as KEY=VALUE of a topology key; empty for anywhere.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Domain string `json:"domain,omitempty"`
}

// MachinePurpose says for whom a machine was ordered.
//
// +kubebuilder:validation:Enum=Reservation;Autoscaler
type MachinePurpose string

const (
	// PurposeReservation is a machine that was ordered to fill a reservation. The provider releases it when
	// the reservation goes.
	PurposeReservation MachinePurpose = "Reservation"
	// PurposeAutoscaler is a machine that Cluster Autoscaler ordered for pods of its own finding. It is
	// Cluster Autoscaler's to remove.
	PurposeAutoscaler MachinePurpose = "Autoscaler"
)

// PoolMachineStatus is what has become of the machine. The provider alone writes it.
type PoolMachineStatus struct {
	// ProviderID is spec.providerID of the machine's node, as the cloud has given it; the node's own once there is one.
	// Unset until it is known. Cluster Autoscaler is told ensemble://<pool>/<name> until then, and both ids are understood
	// for the life of the machine.
	// +optional
	ProviderID string `json:"providerID,omitempty"`

	// NodeName is the name of the machine's node. Once set it stays, also when the node is gone. A node is one of the pool
	// only if its machine, its provider id and its name agree.
	// +optional
	NodeName string `json:"nodeName,omitempty"`

	// Domain is where the machine is, as the cloud says.
	// +optional
	Domain string `json:"domain,omitempty"`

	// LaunchingAt is written before the cloud is first asked for the machine, where the cloud does not know the machine by its
	// name, so that a restart knows that there may be one. Unset for other clouds.
	// +optional
	LaunchingAt *metav1.MicroTime `json:"launchingAt,omitempty"`

	// Failure says why the machine will not come up, or is no more. It is final. Unset while all is well.
	// +optional
	Failure *MachineFailure `json:"failure,omitempty"`

	// LeavingAt is when the cloud takes the machine away, as it has announced: a spot notice. Unset otherwise.
	// +optional
	LeavingAt *metav1.MicroTime `json:"leavingAt,omitempty"`

	// Conditions: Launched (the machine exists and is paid for), Registered (its node exists), and Ready (its node is Ready),
	// whose reason says how far the machine is. None are written in the first five seconds of an order that is not answered.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// PoolMachineList is a list of PoolMachines.
//
// +kubebuilder:object:root=true
type PoolMachineList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PoolMachine `json:"items"`
}
