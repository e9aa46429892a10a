package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// KarpenterMachines makes each machine a NodeClaim (karpenter.sh/v1) of its own, which Karpenter brings to pass: AWS, Azure, GCP and
// whatever else Karpenter has a provider for. The NodeClaim has the name of the machine and belongs to no NodePool of Karpenter, so
// that Karpenter neither consolidates it nor lets it drift, and it never expires.
//
// The provider has to run with --karpenter, and its ServiceAccount needs the rights of manifests/components/karpenter: get, list,
// watch, create, patch and delete on nodeclaims.karpenter.sh, and list on events.
type KarpenterMachines struct {
	// NodeClassRef names the node class, in which is said what images, networks and roles the machines have.
	NodeClassRef KarpenterNodeClass `json:"nodeClassRef"`

	// Requirements say which machines may be made, in the words of Karpenter: its instance types, zones, architectures and capacity
	// types. They should leave machines of one shape alone, that of the pool's template.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	Requirements []KarpenterRequirement `json:"requirements,omitempty"`

	// StartupTaints are taints that something else takes off a node when it is ready for pods, such as that of a network agent. That
	// of the provider is added.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	StartupTaints []corev1.Taint `json:"startupTaints,omitempty"`

	// TerminationGracePeriod is how long Karpenter drains a node before it is taken away all the same. Nodes are told to go when no pod of
	// a member is on them; without it one whose pods must not be disrupted stays for as long as they do.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(s|m|h))+$')",messageExpression="'terminationGracePeriod (%s) must be a duration that is not negative, for example 30s or 1h'.format([self])"
	TerminationGracePeriod *metav1.Duration `json:"terminationGracePeriod,omitempty"`
}

// KarpenterNodeClass names a node class of Karpenter.
type KarpenterNodeClass struct {
	// Group is the API group of the node class, for example karpenter.k8s.aws.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group"`
	// Kind is the kind of the node class, for example EC2NodeClass.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
	// Name is that of the node class.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// KarpenterRequirement is a requirement of a NodeClaim.
//
// +kubebuilder:validation:XValidation:rule="(self.operator == 'Exists' || self.operator == 'DoesNotExist') != (has(self.values) && size(self.values) > 0)",message="values must be given, except for the operators Exists and DoesNotExist, which take none",fieldPath=".values"
// +kubebuilder:validation:XValidation:rule="self.key != 'karpenter.sh/nodepool'",message="key must not be karpenter.sh/nodepool: machines belong to no NodePool of Karpenter, which would disrupt them",fieldPath=".key"
type KarpenterRequirement struct {
	// Key is that of a label of nodes.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=316
	Key string `json:"key"`
	// Operator relates the label to the values.
	// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist;Gt;Lt
	// +kubebuilder:validation:MaxLength=16
	Operator string `json:"operator"`
	// Values are those of the label.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=63
	Values []string `json:"values,omitempty"`
	// MinValues is how many different values of the label the machines to choose from must have at least.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	MinValues *int32 `json:"minValues,omitempty"`
}
