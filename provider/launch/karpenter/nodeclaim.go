package karpenter

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// GroupVersion is that of Karpenter's own kinds (pkg/apis/v1/register.go of sigs.k8s.io/karpenter).
var GroupVersion = schema.GroupVersion{Group: "karpenter.sh", Version: "v1"}

// AddToScheme registers the kinds of this package.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &NodeClaim{}, &NodeClaimList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}

// NodeClaim has the fields of Karpenter's NodeClaim that a launcher reads or writes. Karpenter itself is not imported: its libraries are
// not those of this program. What is not here is not lost, since claims are created and patched, and never updated.
type NodeClaim struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec   NodeClaimSpec   `json:"spec"`
	Status NodeClaimStatus `json:"status,omitzero"`
}

// NodeClaimSpec is what is asked for. Karpenter lets none of it be changed.
type NodeClaimSpec struct {
	Taints        []corev1.Taint `json:"taints,omitempty"`
	StartupTaints []corev1.Taint `json:"startupTaints,omitempty"`
	// Requirements must not be null.
	Requirements []v1alpha1.KarpenterRequirement `json:"requirements"`
	Resources    *NodeClaimResources             `json:"resources,omitempty"`
	NodeClassRef v1alpha1.KarpenterNodeClass     `json:"nodeClassRef"`
	// TerminationGracePeriod is a duration.
	TerminationGracePeriod *metav1.Duration `json:"terminationGracePeriod,omitempty"`
	// ExpireAfter is a duration or Never. Without it the definition of Karpenter says 720h.
	ExpireAfter string `json:"expireAfter,omitempty"`
}

// NodeClaimResources are what a node has to offer at least.
type NodeClaimResources struct {
	Requests corev1.ResourceList `json:"requests,omitempty"`
}

// NodeClaimStatus is what Karpenter says of a claim.
type NodeClaimStatus struct {
	ProviderID string             `json:"providerID,omitempty"`
	NodeName   string             `json:"nodeName,omitempty"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// NodeClaimList is a list of NodeClaims.
type NodeClaimList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []NodeClaim `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (c *NodeClaim) DeepCopyObject() runtime.Object { return c.DeepCopy() }

// DeepCopy is a copy that shares nothing.
func (c *NodeClaim) DeepCopy() *NodeClaim {
	out := *c
	out.ObjectMeta = *c.ObjectMeta.DeepCopy()
	out.Spec = c.Spec.deepCopy()
	out.Status.Conditions = slices.Clone(c.Status.Conditions)
	return &out
}

func (s *NodeClaimSpec) deepCopy() NodeClaimSpec {
	out := *s
	out.Taints, out.StartupTaints = copyTaints(s.Taints), copyTaints(s.StartupTaints)
	out.Requirements = slices.Clone(s.Requirements)
	for i := range out.Requirements {
		out.Requirements[i] = *s.Requirements[i].DeepCopy()
	}
	if s.Resources != nil {
		out.Resources = &NodeClaimResources{Requests: s.Resources.Requests.DeepCopy()}
	}
	if s.TerminationGracePeriod != nil {
		period := *s.TerminationGracePeriod
		out.TerminationGracePeriod = &period
	}
	return out
}

func copyTaints(taints []corev1.Taint) []corev1.Taint {
	out := slices.Clone(taints)
	for i := range out {
		out[i] = *taints[i].DeepCopy()
	}
	return out
}

// DeepCopyObject implements runtime.Object.
func (l *NodeClaimList) DeepCopyObject() runtime.Object {
	out := *l
	l.DeepCopyInto(&out.ListMeta)
	out.Items = make([]NodeClaim, len(l.Items))
	for i := range l.Items {
		out.Items[i] = *l.Items[i].DeepCopy()
	}
	return &out
}

// What Karpenter calls conditions and finalizers (pkg/apis/v1/nodeclaim_status.go and labels.go of v1.14.1).
const (
	conditionLaunched   = "Launched"
	conditionRegistered = "Registered"
	// reasonAwaiting is the reason of a condition that nothing has been said of yet (operatorpkg, status/condition_set.go).
	reasonAwaiting = "AwaitingReconciliation"
	// finalizerTermination is Karpenter's: it goes when the instance and its node are gone.
	finalizerTermination = "karpenter.sh/termination"
	// annotationTerminatesAt on a claim is when Karpenter stops to wait for pods, in RFC 3339.
	annotationTerminatesAt = "karpenter.sh/nodeclaim-termination-timestamp"
	// taintUnregistered is on each node from its first moment until Karpenter knows it.
	taintUnregistered = "karpenter.sh/unregistered"
	labelNodePool     = "karpenter.sh/nodepool"
	never             = "Never"
)

// condition is one of a claim's, nil where Karpenter has not written it.
func (c *NodeClaim) condition(kind string) *metav1.Condition {
	return meta.FindStatusCondition(c.Status.Conditions, kind)
}

func (c *NodeClaim) is(kind string) bool {
	return meta.IsStatusConditionTrue(c.Status.Conditions, kind)
}

// Marks of a claim besides its labels.
const (
	// annotationCluster has the UID of the namespace kube-system.
	annotationCluster = v1alpha1.Group + "/cluster"
	// annotationOrder has the token of the order that has made the claim.
	annotationOrder = v1alpha1.Group + "/order"
	// annotationDomain is where the machine was asked for, as KEY=VALUE.
	annotationDomain = v1alpha1.Group + "/domain"
)

// Finalizer keeps a claim that somebody else has deleted until its record says so: Karpenter deletes a claim that it has no machine for
// within a second, and nobody would learn of it. It is on claims that were not told to go, and on no others: Terminate takes it off before
// it deletes.
const Finalizer = v1alpha1.Group + "/nodeclaim"

// wellKnown are the labels that Karpenter and its providers choose a machine by: what a template says of them is required as well, or a
// machine may come that is labelled as what it is not. (pkg/apis/v1/labels.go, WellKnownLabels)
var wellKnown = []string{
	corev1.LabelInstanceTypeStable, corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelArchStable, corev1.LabelOSStable,
	"karpenter.sh/capacity-type",
}

// claimFor is the claim of a machine. The error is for people: the template or the requirements exclude the domain.
func claimFor(cluster, pool, token, domain string, machine *v1alpha1.PoolMachine, config *v1alpha1.KarpenterMachines) (*NodeClaim, error) {
	template := &machine.Spec.Template
	labels := maps.Clone(template.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	delete(labels, labelNodePool) // It is refused, and a pool may be older than that.
	labels[v1alpha1.LabelNodePool], labels[v1alpha1.LabelMachine] = pool, machine.Name
	annotations := map[string]string{annotationCluster: cluster, annotationOrder: token}
	if machine.Spec.Purpose == v1alpha1.PurposeReservation {
		annotations[v1alpha1.AnnotationReserved] = "true"
	}
	requirements, err := requirementsFor(template, domain, config.Requirements)
	if err != nil {
		return nil, err
	}
	if domain != "" {
		annotations[annotationDomain] = domain
	}
	return &NodeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: machine.Name, Labels: labels, Annotations: annotations, Finalizers: []string{Finalizer},
		},
		Spec: NodeClaimSpec{
			Taints: copyTaints(template.Taints),
			StartupTaints: append(copyTaints(config.StartupTaints),
				corev1.Taint{Key: v1alpha1.TaintRegistration, Effect: corev1.TaintEffectNoSchedule}),
			Requirements:           requirements,
			Resources:              resourcesFor(template, requirements),
			NodeClassRef:           config.NodeClassRef,
			TerminationGracePeriod: config.TerminationGracePeriod,
			ExpireAfter:            never,
		},
	}, nil
}

// requirementsFor are the requirements of the pool, what the template says of labels that Karpenter chooses by, and the domain.
func requirementsFor(
	template *v1alpha1.NodeTemplate, domain string, given []v1alpha1.KarpenterRequirement,
) ([]v1alpha1.KarpenterRequirement, error) {
	out := make([]v1alpha1.KarpenterRequirement, 0, len(given)+1)
	for i := range given {
		out = append(out, *given[i].DeepCopy())
	}
	for _, key := range wellKnown {
		if value, is := template.Labels[key]; is && !requires(out, key) {
			out = append(out, in(key, value))
		}
	}
	if domain == "" {
		return out, nil
	}
	key, value := cutDomain(domain)
	if has, is := template.Labels[key]; is && has != value {
		return nil, fmt.Errorf("%w: spec.template.labels[%s] is %s, and machines are wanted in %s: take the label out of the template, %s",
			errDomain, key, has, value, orElsewhere)
	}
	for i := range given {
		switch r := &given[i]; {
		case r.Key != key:
		case r.Operator == string(corev1.NodeSelectorOpIn) && !slices.Contains(r.Values, value),
			r.Operator == string(corev1.NodeSelectorOpNotIn) && slices.Contains(r.Values, value):
			return nil, fmt.Errorf("%w: spec.machines.karpenter.requirements[%d] is %s %s %v, and machines are wanted in %s: let it allow that, %s",
				errDomain, i, key, r.Operator, r.Values, value, orElsewhere)
		}
	}
	out = slices.DeleteFunc(out, func(r v1alpha1.KarpenterRequirement) bool { return r.Key == key })
	return append(out, in(key, value)), nil
}

// errDomain is a pool that has no machines where they are wanted, by its own word.
var errDomain = errors.New("the pool excludes the domain")

const orElsewhere = "or name a NodePool that is there in the node-pools of the member"

func requires(requirements []v1alpha1.KarpenterRequirement, key string) bool {
	return slices.ContainsFunc(requirements, func(r v1alpha1.KarpenterRequirement) bool { return r.Key == key })
}

func in(key, value string) v1alpha1.KarpenterRequirement {
	return v1alpha1.KarpenterRequirement{Key: key, Operator: string(corev1.NodeSelectorOpIn), Values: []string{value}}
}

// resourcesFor is what a machine has to offer. Karpenter takes an instance type only if its own estimate of what that offers is no less,
// and its estimate of memory may be below what nodes show (aws: VM_MEMORY_OVERHEAD_PERCENT). Where the instance types are named, only what
// is extended is asked for, such as GPUs, which Karpenter waits for before it calls a node initialized. The number of pods is never asked
// for: it is the kubelet's to say.
func resourcesFor(template *v1alpha1.NodeTemplate, requirements []v1alpha1.KarpenterRequirement) *NodeClaimResources {
	named := slices.ContainsFunc(requirements, func(r v1alpha1.KarpenterRequirement) bool {
		return r.Key == corev1.LabelInstanceTypeStable && r.Operator == string(corev1.NodeSelectorOpIn)
	})
	requests := corev1.ResourceList{}
	for name, quantity := range template.AllocatableOrCapacity() {
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory:
			if named {
				continue
			}
		case corev1.ResourcePods, corev1.ResourceEphemeralStorage, corev1.ResourceStorage:
			continue
		default:
		}
		if !quantity.IsZero() {
			requests[name] = quantity.DeepCopy()
		}
	}
	if len(requests) == 0 {
		return nil
	}
	return &NodeClaimResources{Requests: requests}
}
