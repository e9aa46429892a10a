package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// KwokInstance is one machine of the simulated cloud: what an instance is to a real one. It is the memory of that cloud and
// not our record: only the kwok launcher knows of it. It may exist without a PoolMachine, as an instance of a cloud may
// that nobody has written down.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=ensemble-autoscaler
// +kubebuilder:printcolumn:name="POOL",type=string,JSONPath=`.spec.nodePool`
// +kubebuilder:printcolumn:name="MACHINE",type=string,JSONPath=`.spec.machine`
// +kubebuilder:printcolumn:name="BOOT",type=string,JSONPath=`.spec.bootDelay`
// +kubebuilder:printcolumn:name="FATE",type=string,JSONPath=`.spec.fate`
// +kubebuilder:printcolumn:name="NODE",type=string,JSONPath=`.spec.nodeName`
// +kubebuilder:printcolumn:name="FAILURE",type=string,JSONPath=`.status.failure.code`
// +kubebuilder:printcolumn:name="REGISTERED",type=date,JSONPath=`.status.registeredAt`
// +kubebuilder:printcolumn:name="AGE",type=date,JSONPath=`.metadata.creationTimestamp`
type KwokInstance struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec KwokInstanceSpec `json:"spec"`
	// +optional
	Status KwokInstanceStatus `json:"status,omitempty"`
}

// KwokInstanceSpec is drawn when the instance is launched, from the seed of the pool and the name of the machine, so that a
// restart does not draw again.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="an instance is not changed after its launch"
type KwokInstanceSpec struct {
	// Cluster, NodePool and Machine are the tags that the launcher put on the instance: the UID of the namespace kube-system,
	// the name of the NodePool and that of the PoolMachine.
	// +optional
	Cluster string `json:"cluster,omitempty"`
	// +kubebuilder:validation:MinLength=1
	NodePool string `json:"nodePool"`
	// +optional
	Machine string `json:"machine,omitempty"`

	// Token is that of the order by which the instance was launched.
	// +optional
	Token string `json:"token,omitempty"`

	// ProviderID is the spec.providerID that the node will have.
	// +kubebuilder:validation:MinLength=1
	ProviderID string `json:"providerID"`

	// NodeName is the name that the node will have.
	// +kubebuilder:validation:MinLength=1
	NodeName string `json:"nodeName"`

	// LaunchedAt is when the instance was launched.
	LaunchedAt metav1.MicroTime `json:"launchedAt"`

	// BootDelay is the time from launchedAt until the node registers, jitter included.
	// +kubebuilder:default="0s"
	BootDelay metav1.Duration `json:"bootDelay,omitempty"`

	// Fate is what becomes of the instance.
	// +kubebuilder:default=Ready
	Fate MachineFate `json:"fate,omitempty"`

	// FateDelay is the time from the registration until the fate comes about: of the fates Crash and SpotReclaim.
	// +optional
	FateDelay *metav1.Duration `json:"fateDelay,omitempty"`

	// Template and Machines are those of the order.
	Template NodeTemplate `json:"template"`
	Machines KwokMachines `json:"machines"`
}

// MachineFate is what becomes of a simulated machine.
//
// +kubebuilder:validation:Enum=Ready;OutOfStock;BootFailure;NeverReady;Crash;SpotReclaim
type MachineFate string

const (
	// FateReady is a machine that registers a node which becomes Ready.
	FateReady MachineFate = "Ready"
	// FateOutOfStock is an order that the simulated cloud has taken and cannot fill: it vanishes at once.
	FateOutOfStock MachineFate = "OutOfStock"
	// FateBootFailure is a machine that fails at the end of its boot delay.
	FateBootFailure MachineFate = "BootFailure"
	// FateNeverReady is a machine that registers a node which never becomes Ready.
	FateNeverReady MachineFate = "NeverReady"
	// FateCrash is a machine that fails some time after it has registered.
	FateCrash MachineFate = "Crash"
	// FateSpotReclaim is a machine that the cloud takes back some time after it has registered, with notice.
	FateSpotReclaim MachineFate = "SpotReclaim"
)

// KwokInstanceStatus is the observed state of a simulated machine.
type KwokInstanceStatus struct {
	// RegisteredAt is when the node was created. Unset while the machine boots.
	// +optional
	RegisteredAt *metav1.MicroTime `json:"registeredAt,omitempty"`

	// LeavingAt is when the cloud takes the instance back. Unset while it does not.
	// +optional
	LeavingAt *metav1.MicroTime `json:"leavingAt,omitempty"`

	// TerminatingAt is when the instance was told to end. Unset until then.
	// +optional
	TerminatingAt *metav1.MicroTime `json:"terminatingAt,omitempty"`

	// Failure says why the machine will not come up, or is no more. Unset while all is well.
	// +optional
	Failure *MachineFailure `json:"failure,omitempty"`
}

// KwokInstanceList is a list of KwokInstances.
//
// +kubebuilder:object:root=true
type KwokInstanceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []KwokInstance `json:"items"`
}
