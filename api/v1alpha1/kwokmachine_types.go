package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// KwokMachine is one simulated machine of a NodePool: what an instance is to a cloud. It exists from the
// order on, before there is a node, so that a machine that is booting survives a restart of the provider.
// The provider's kwok backend alone writes it; its name is the name of the node.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=ensemble-autoscaler
// +kubebuilder:printcolumn:name="POOL",type=string,JSONPath=`.spec.nodePool`
// +kubebuilder:printcolumn:name="PURPOSE",type=string,JSONPath=`.spec.purpose`
// +kubebuilder:printcolumn:name="BOOT",type=string,JSONPath=`.spec.bootDelay`
// +kubebuilder:printcolumn:name="FAILURE",type=string,JSONPath=`.status.failure.code`
// +kubebuilder:printcolumn:name="REGISTERED",type=date,JSONPath=`.status.registeredAt`
// +kubebuilder:printcolumn:name="AGE",type=date,JSONPath=`.metadata.creationTimestamp`
type KwokMachine struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec KwokMachineSpec `json:"spec"`
	// +optional
	Status KwokMachineStatus `json:"status,omitempty"`
}

// KwokMachineSpec is fixed when the machine is ordered.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a machine is not changed after its order"
type KwokMachineSpec struct {
	// NodePool is the pool that the machine belongs to.
	// +kubebuilder:validation:MinLength=1
	NodePool string `json:"nodePool"`

	// ProviderID is the spec.providerID that the node will have.
	// +kubebuilder:validation:MinLength=1
	ProviderID string `json:"providerID"`

	// Purpose says for whom the machine was ordered.
	Purpose MachinePurpose `json:"purpose"`

	// OrderedAt is when the machine was ordered.
	OrderedAt metav1.MicroTime `json:"orderedAt"`

	// BootDelay is the time from orderedAt until the node registers, jitter included.
	// +kubebuilder:default="0s"
	BootDelay metav1.Duration `json:"bootDelay,omitempty"`

	// Fate is what becomes of the machine. It is drawn with the order, so that a restart of the provider does
	// not draw again.
	// +kubebuilder:default=Ready
	Fate MachineFate `json:"fate,omitempty"`

	// Template is the pool's template as it was when the machine was ordered.
	Template NodeTemplate `json:"template"`
}

// MachineFate is what becomes of a simulated machine.
//
// +kubebuilder:validation:Enum=Ready;OutOfStock;BootFailure;NeverReady
type MachineFate string

const (
	// FateReady is a machine that registers a node which becomes Ready.
	FateReady MachineFate = "Ready"
	// FateOutOfStock is an order that the simulated cloud cannot fill. It fails at once.
	FateOutOfStock MachineFate = "OutOfStock"
	// FateBootFailure is a machine that fails at the end of its boot delay.
	FateBootFailure MachineFate = "BootFailure"
	// FateNeverReady is a machine that registers a node which never becomes Ready.
	FateNeverReady MachineFate = "NeverReady"
)

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

// KwokMachineStatus is the observed state of a simulated machine.
type KwokMachineStatus struct {
	// RegisteredAt is when the node was created. Unset while the machine boots. A machine whose node is
	// gone after that is a machine that vanished.
	// +optional
	RegisteredAt *metav1.Time `json:"registeredAt,omitempty"`

	// Failure says why the machine will not come up. Unset while it may.
	// +optional
	Failure *MachineFailure `json:"failure,omitempty"`
}

// KwokMachineList is a list of KwokMachines.
//
// +kubebuilder:object:root=true
type KwokMachineList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []KwokMachine `json:"items"`
}
