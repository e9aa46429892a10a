package v1alpha1

// ClusterAPIMachines makes each machine a Machine of Cluster API (cluster.x-k8s.io/v1beta2) of its own, with an infrastructure object
// and, where one is asked for, a bootstrap object cloned from templates: OpenStack, Proxmox, vSphere, Metal3 and whatever else Cluster
// API has a provider for. All of them have the name of the machine.
//
// The provider has to run with --cluster-api; where the Machines are in a cluster of their own, also with --machines-kubeconfig. Its
// ServiceAccount, or the user of that kubeconfig, needs rights in the namespace: get, list, watch, create and delete on
// machines.cluster.x-k8s.io, which manifests/components/cluster-api gives, get, create and delete on the kinds of the infrastructure and
// bootstrap objects, and get on their templates.
type ClusterAPIMachines struct {
	// Namespace is where the Cluster, the templates and the Machines are: one of those that the provider's --cluster-api names.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`

	// ClusterName names the Cluster that the machines are for: that whose nodes they become.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	ClusterName string `json:"clusterName"`

	// InfrastructureTemplateRef names the template of the infrastructure objects. The right to get it is needed.
	InfrastructureTemplateRef ClusterAPITemplate `json:"infrastructureTemplateRef"`

	// Bootstrap is how a machine becomes a node.
	Bootstrap ClusterAPIBootstrap `json:"bootstrap"`

	// Version is the version of Kubernetes of the machines, for example v1.36.2, where the providers need one.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version,omitempty"`

	// FailureDomain is where the machines are, one of those that the Cluster has. Without it the infrastructure provider chooses.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	FailureDomain string `json:"failureDomain,omitempty"`
}

// ClusterAPIBootstrap is how a machine becomes a node: exactly one of its fields is set.
//
// +kubebuilder:validation:XValidation:rule="has(self.templateRef) != has(self.dataSecretName)",message="bootstrap must name exactly one of: templateRef, dataSecretName"
type ClusterAPIBootstrap struct {
	// TemplateRef names the template of the bootstrap objects, for example a KubeadmConfigTemplate. The right to get it is needed.
	// +optional
	TemplateRef *ClusterAPITemplate `json:"templateRef,omitempty"`
	// DataSecretName names a Secret that has the bootstrap data of all machines.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	DataSecretName string `json:"dataSecretName,omitempty"`
}

// ClusterAPITemplate names a template of objects that Machines refer to.
//
// +kubebuilder:validation:XValidation:rule="self.kind.endsWith('Template') && size(self.kind) > 8",message="kind must be that of a template, which ends with Template",fieldPath=".kind"
type ClusterAPITemplate struct {
	// APIGroup is the API group of the template, for example infrastructure.cluster.x-k8s.io.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	APIGroup string `json:"apiGroup"`
	// Kind is the kind of the template, for example OpenStackMachineTemplate. The objects have the same one without Template.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
	// Name is that of the template, in the namespace of the machines.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}
