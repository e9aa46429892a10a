// Package pods knows the pods of the cluster by what is asked of them: by name, by node, by Job, by address, and those behind the
// gate. It is fed by a watch of its own and keeps of each pod only what is read: a foreign pod costs some 250 bytes, where the
// Kubernetes object has thousands. A cluster may have half a million of them.
package pods

import (
	"slices"
	"strconv"
	"strings"
	"unique"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/gates"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/reading"
)

// Pod is what is kept of a pod. Nothing of it changes: a pod that has changed is another one. What many pods have alike there is once:
// of half a million pods each pointer and each object is one that the garbage collector looks at again and again.
type Pod struct {
	// name, address and resourceVersion are parts of one string. address is the first one, more has the others, nil for none.
	name, address, resourceVersion string

	uid   identity
	alike unique.Handle[alike]
	place unique.Handle[place]
	more  *[]string
	ended bool
	// daemon is set for one of a DaemonSet.
	daemon bool
	// deleting is set for one that is being deleted, onHost for one on the network of its node.
	deleting, onHost bool
	// gated is set for one behind the gate, labelled for one with the label of members.
	gated, labelled bool
	// detail is the pod as Strip has it, nil for a foreign one.
	detail *corev1.Pod
}

// alike is what many pods have alike: all of a namespace that request the same, or those of one Job.
type alike struct {
	namespace string
	owner     Owner
	// requests has the amounts as a text, by the names of the resources.
	requests string
}

// place is what the pods on a node have alike: the name of the node and its address.
type place struct{ node, host string }

// Owner is the Job that a pod says it is of. The zero value is none: pods of anything else are nobody's here.
type Owner struct {
	Name string
	UID  types.UID
}

// IsJob reports whether there is one.
func (o *Owner) IsJob() bool { return o.Name != "" }

// JobKey tells apart what makes pods: Jobs, of which a pod is one only in the Job's namespace, and members whose pods no Job makes.
type JobKey struct {
	Namespace string
	UID       types.UID
}

// MemberKey stands for all pods of a member that no Job has made, in the place of a Job.
func MemberKey(member types.NamespacedName) JobKey {
	return JobKey{member.Namespace, "member/" + types.UID(member.Name)}
}

// of keeps of a pod what is read, with some labels beside.
func of(pod *corev1.Pod, labels []string) *Pod {
	p := &Pod{
		uid: identityOf(pod.UID), place: unique.Make(place{pod.Spec.NodeName, pod.Status.HostIP}),
		ended:    pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed,
		deleting: pod.DeletionTimestamp != nil, onHost: pod.Spec.HostNetwork, gated: gates.Has(pod),
	}
	text := pod.Name + pod.Status.PodIP + pod.ResourceVersion
	addressAt, versionAt := len(pod.Name), len(pod.Name)+len(pod.Status.PodIP)
	p.name, p.address, p.resourceVersion = text[:addressAt], text[addressAt:versionAt], text[versionAt:]
	var more []string
	for _, ip := range pod.Status.PodIPs {
		if ip.IP != pod.Status.PodIP {
			more = append(more, strings.Clone(ip.IP))
		}
	}
	if more != nil {
		p.more = &more
	}
	owner := Owner{}
	if of := metav1.GetControllerOfNoCopy(pod); of != nil {
		switch group, _, _ := strings.Cut(of.APIVersion, "/"); {
		case group == batchv1.GroupName && of.Kind == "Job":
			owner = Owner{of.Name, of.UID}
		case group == appsv1.GroupName && of.Kind == "DaemonSet":
			p.daemon = true
		}
	}
	p.alike = unique.Make(alike{pod.Namespace, owner, amounts(reading.PodRequests(pod))})
	if _, p.labelled = pod.Labels[v1alpha1.LabelMember]; p.labelled || p.gated || owner.IsJob() {
		p.detail = strip(pod, labels)
	}
	return p
}

// slim is the pod without what only a pass over members reads.
func (p *Pod) slim() *Pod {
	out := *p
	out.detail = nil
	return &out
}

// Key is its name.
func (p *Pod) Key() types.NamespacedName {
	return types.NamespacedName{Namespace: p.alike.Value().namespace, Name: p.name}
}

// GetObjectMeta implements metav1.ObjectMetaAccessor, for the stores of client-go.
func (p *Pod) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: p.alike.Value().namespace, Name: p.name, UID: p.uid.uid(), ResourceVersion: p.resourceVersion}
}

// UID is that of the pod.
func (p *Pod) UID() types.UID { return p.uid.uid() }

// Node is the name of the node that it is bound to, empty for none.
func (p *Pod) Node() string { return p.place.Value().node }

// Owner is the Job that has made it.
func (p *Pod) Owner() Owner { return p.alike.Value().owner }

// Job is the same Job as a key.
func (p *Pod) Job() (key JobKey, is bool) {
	of := p.alike.Value()
	if !of.owner.IsJob() {
		return JobKey{}, false
	}
	return JobKey{of.namespace, of.owner.UID}, true
}

// Maker is the Job that has made it, or where none has the member that it is of by its label.
func (p *Pod) Maker() (key JobKey, is bool) {
	if key, is := p.Job(); is {
		return key, true
	}
	if !p.labelled || p.detail == nil {
		return JobKey{}, false
	}
	return MemberKey(types.NamespacedName{Namespace: p.alike.Value().namespace, Name: p.detail.Labels[v1alpha1.LabelMember]}), true
}

// Gated reports whether it is behind the gate.
func (p *Pod) Gated() bool { return p.gated }

// Ended reports whether it has Succeeded or Failed.
func (p *Pod) Ended() bool { return p.ended }

// Detail is the pod as Strip has it: of one that a Job made, or that has the gate or the label of members. It is nil for a foreign pod,
// and nobody may change it.
func (p *Pod) Detail() *corev1.Pod { return p.detail }

// Addresses are those by which a caller is known as this pod: its own, or the node's for a pod on the network of its node.
func (p *Pod) Addresses() []string {
	switch {
	case p.onHost && p.place.Value().host == "", !p.onHost && p.address == "":
		return nil
	case p.onHost:
		return []string{p.place.Value().host}
	}
	if p.more == nil {
		return []string{p.address}
	}
	return append([]string{p.address}, *p.more...)
}

// alone are the addresses that tell the pod apart from all others. An address that a pod has left may belong to another; on the host's
// network it is the host's.
func (p *Pod) alone() []string {
	if p.ended || p.onHost {
		return nil
	}
	return p.Addresses()
}

// amounts is a text of what a pod requests, the same for pods that request the same.
func amounts(of plan.Resources) string {
	names := make([]string, 0, len(of))
	for name := range of {
		names = append(names, string(name))
	}
	slices.Sort(names)
	var text []byte
	for _, name := range names {
		text = append(append(text, name...), '=')
		text = append(strconv.AppendInt(text, of[corev1.ResourceName(name)], 10), ',')
	}
	return string(text)
}

// addAmounts adds what such a text says. The names of resources have no "=" and no ",".
func addAmounts(to plan.Resources, text string) {
	for part := range strings.SplitSeq(strings.TrimSuffix(text, ","), ",") {
		if name, amount, is := strings.Cut(part, "="); is {
			if n, err := strconv.ParseInt(amount, 10, 64); err == nil {
				to.Add(plan.Resources{corev1.ResourceName(name): n})
			}
		}
	}
}
