package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	autoscalingv1alpha1 "github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Ensemble is a number of MiniClusters, its members, each of which runs what an ensemble.yaml says and asks for the size
// that it needs. Member i is the MiniCluster and the ConfigMap called NAME-i.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=ensemble-autoscaler
// +kubebuilder:printcolumn:name="MEMBERS",type=string,JSONPath=`.status.membersReady`,description="Members that are Ready, of all"
// +kubebuilder:printcolumn:name="DESIRED",type=integer,JSONPath=`.status.wants`,description="Sum of the desired sizes of the members"
// +kubebuilder:printcolumn:name="CURRENT",type=integer,JSONPath=`.status.size`,description="Sum of the sizes of the MiniClusters"
// +kubebuilder:printcolumn:name="NODES",type=integer,JSONPath=`.status.nodes`,description="Nodes held that are Ready"
// +kubebuilder:printcolumn:name="READY",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="REASON",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="What the Ensemble waits for"
// +kubebuilder:printcolumn:name="MESSAGE",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="What the Ensemble waits for, as a sentence"
// +kubebuilder:printcolumn:name="AGE",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 48",messageExpression="'metadata.name has %d characters; it must have at most 48, because the names of members and of their pods begin with it'.format([size(self.metadata.name)])"
type Ensemble struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec EnsembleSpec `json:"spec"`
	// +optional
	Status EnsembleStatus `json:"status,omitempty"`
}

// EnsembleSpec is what the members of an Ensemble are.
type EnsembleSpec struct {
	// Members are the MiniClusters. They are known by their places: more can be added at the end, and taken away there.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	Members []Member `json:"members"`

	// Sidecar describes the gRPC service that the ensemble-operator runs for each Ensemble. Here one endpoint serves all
	// of them, so none of its fields is used. Each is accepted, and named in the condition FieldsUsed.
	// +optional
	Sidecar *Sidecar `json:"sidecar,omitempty"`
}

// Member is one MiniCluster of an Ensemble.
type Member struct {
	// MiniCluster is a MiniCluster of the Flux Operator, of which spec is used. Its first container is the one that the
	// ensemble runs in. A size of 0 is 1; a maxSize of 0 is the size, and the member cannot grow.
	// +kubebuilder:pruning:PreserveUnknownFields
	MiniCluster runtime.RawExtension `json:"minicluster"`

	// Branch is the git branch of ensemble-python to install. Without one its latest release is installed.
	// +optional
	// +kubebuilder:validation:MaxLength=244
	Branch string `json:"branch,omitempty"`

	// Ensemble is the text of the ensemble.yaml: jobs, rules and actions. A member reads it when it starts.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=524288
	Ensemble string `json:"ensemble"`

	// NodePools names the pools that the member's nodes may come from, in order of preference. Without one the member is
	// a MiniCluster that nobody resizes: its requests are denied.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=50
	// +kubebuilder:validation:XValidation:rule="self.all(x, self.exists_one(y, y == x))",message="nodePools must not name a pool twice"
	NodePools []string `json:"nodePools,omitempty"`

	// GrowthPolicy says what happens when not all nodes of a growth can be had.
	// +optional
	GrowthPolicy autoscalingv1alpha1.GrowthPolicy `json:"growthPolicy,omitempty"`

	// Placement says whether the nodes of one growth may come from several pools.
	// +optional
	Placement autoscalingv1alpha1.Placement `json:"placement,omitempty"`

	// RequestPolicy says what becomes of a request while one before it is under way.
	// +optional
	RequestPolicy autoscalingv1alpha1.RequestPolicy `json:"requestPolicy,omitempty"`

	// PodsPerNode is how many pods of the member share a node: a number of at least 1, or Auto for as many as fit an empty
	// node of each of its pools by what they request. The webhook checks it: a rule in CEL would cost too much in a list.
	// +optional
	PodsPerNode *intstr.IntOrString `json:"podsPerNode,omitempty"`

	// GiveUpAfter is how many times a growth may fail in all pools before the desired size is set back to the size that the member
	// has. Unset: it is tried again for as long as it is wanted.
	// +optional
	// +kubebuilder:validation:Minimum=1
	GiveUpAfter *int32 `json:"giveUpAfter,omitempty"`

	// TopologyKey is the key of a label of nodes, for example topology.kubernetes.io/zone. All nodes of the member have the
	// same value of it. Unset: they may come from anywhere. The webhook checks that it is the key of a label.
	// +optional
	// +kubebuilder:validation:MaxLength=317
	TopologyKey string `json:"topologyKey,omitempty"`
}

// Sidecar has the fields of the ensemble-operator's. None is used.
type Sidecar struct {
	// Image is not used: there is no sidecar.
	// +optional
	Image string `json:"image,omitempty"`
	// ImagePullPolicy is not used.
	// +optional
	ImagePullPolicy string `json:"imagePullPolicy,omitempty"`
	// PullAlways is not used. Published examples have it.
	// +optional
	PullAlways *bool `json:"pullAlways,omitempty"`
	// Port is not used: members are told the port of the endpoint.
	// +optional
	Port string `json:"port,omitempty"`
	// Workers is not used.
	// +optional
	Workers *int32 `json:"workers,omitempty"`
}

// Condition types of an Ensemble.
const (
	// ConditionAccepted is True when the spec is valid.
	ConditionAccepted = "Accepted"
	// ConditionMembersCreated is True when the ConfigMap and the MiniCluster of each member are there.
	ConditionMembersCreated = "MembersCreated"
	// ConditionMembersReady is True when every member has the size that it wants.
	ConditionMembersReady = "MembersReady"
	// ConditionUpToDate is True when each MiniCluster is as the spec would have it now. Ready does not depend on it: what
	// a MiniCluster was created with stays.
	ConditionUpToDate = "UpToDate"
	// ConditionFieldsUsed is False when fields are set that are accepted and have no effect. Ready does not depend on it.
	ConditionFieldsUsed = "FieldsUsed"
)

// Reasons of conditions and events of an Ensemble.
const (
	// ReasonValid: nothing is wrong with the spec.
	ReasonValid = "Valid"
	// ReasonInvalid: the spec is not valid; the message names the fields.
	ReasonInvalid = "Invalid"
	// ReasonCreated: all that the Ensemble is made of is there.
	ReasonCreated = "Created"
	// ReasonNameTaken: an object of the name of a member belongs to another.
	ReasonNameTaken = "NameTaken"
	// ReasonCreating: something is about to be created.
	ReasonCreating = "Creating"
	// ReasonUpToDate: the MiniClusters are as the spec has them.
	ReasonUpToDate = "UpToDate"
	// ReasonSpecChanged: parts of the spec were changed that do not reach MiniClusters which are there.
	ReasonSpecChanged = "SpecChanged"
	// ReasonRefused: what is made of the spec cannot be brought in line with it, because a write is refused.
	ReasonRefused = "Refused"
	// ReasonAllUsed: every field that is set has an effect.
	ReasonAllUsed = "AllUsed"
	// ReasonUnused: fields are set that have no effect.
	ReasonUnused = "Unused"
	// ReasonMembersReady: every member has the size that it wants.
	ReasonMembersReady = "MembersReady"
	// ReasonWaiting: some members do not have the size that they want.
	ReasonWaiting = "Waiting"
)

// EnsembleStatus is the observed state of an Ensemble. The controller alone writes it.
type EnsembleStatus struct {
	// ObservedGeneration is the metadata.generation that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// MembersReady counts the members that have the size that they want, of all, as in 2/3.
	// +optional
	MembersReady string `json:"membersReady,omitempty"`

	// Size is the sum of the sizes of the MiniClusters, Wants of those that the members want, Nodes of the nodes that
	// they hold and that are Ready.
	// +optional
	Size int32 `json:"size"`
	// +optional
	Wants int32 `json:"wants"`
	// +optional
	Nodes int32 `json:"nodes"`

	// Members are the members, in order.
	// +optional
	// +listType=map
	// +listMapKey=name
	Members []MemberStatus `json:"members,omitempty"`

	// Conditions: Accepted, MembersCreated, MembersReady, and Ready derived from them; UpToDate and FieldsUsed beside.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MemberStatus is the observed state of one member.
type MemberStatus struct {
	// Name is that of the MiniCluster.
	Name string `json:"name"`
	// Size is the size that the MiniCluster has, Wants the one that the member wants.
	Size  int32 `json:"size"`
	Wants int32 `json:"wants"`
	// Nodes is the number of nodes held that are Ready.
	Nodes int32 `json:"nodes"`
	// State is the reason of the Ready condition of its EnsembleMember, and Message what it waits for; Unmanaged for one
	// that names no NodePools.
	// +optional
	State string `json:"state,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
	// LastAction is what the member asked for last, Outcome what has become of it.
	// +optional
	LastAction string `json:"lastAction,omitempty"`
	// +optional
	Outcome string `json:"outcome,omitempty"`
}

// EnsembleList is a list of Ensembles.
//
// +kubebuilder:object:root=true
type EnsembleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Ensemble `json:"items"`
}
