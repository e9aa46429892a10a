package resize

import (
	"cmp"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/resource"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/gates"
)

// StripPod keeps of a pod in the cache what a pass and the ensemble endpoint read: of every pod on which node it is, what it requests
// in all, and its addresses; of one that a Job made, or that has our gate or label, also what tells how far it is.
func StripPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	stripped := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion, DeletionTimestamp: pod.DeletionTimestamp,
	}}
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner != nil {
		stripped.OwnerReferences = []metav1.OwnerReference{{APIVersion: owner.APIVersion, Kind: owner.Kind, Name: owner.Name, UID: owner.UID, Controller: owner.Controller}}
	}
	stripped.Spec.NodeName, stripped.Spec.HostNetwork = pod.Spec.NodeName, pod.Spec.HostNetwork
	// One container that requests all of it requests the same. What a pod was given that was resized in place counts until it is
	// taken back.
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{UseStatusResources: true})
	stripped.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: requests}}}
	stripped.Status.Phase = pod.Status.Phase
	stripped.Status.PodIP, stripped.Status.PodIPs, stripped.Status.HostIP = pod.Status.PodIP, pod.Status.PodIPs, pod.Status.HostIP
	if _, labelled := pod.Labels[v1alpha1.LabelMember]; !labelled && !isJob(owner) && !gates.Has(pod) {
		return stripped, nil
	}
	stripped.CreationTimestamp = pod.CreationTimestamp
	stripped.Labels = only(pod.Labels, v1alpha1.LabelMember, batchv1.JobCompletionIndexAnnotation, batchv1.JobNameLabel)
	stripped.Annotations = only(pod.Annotations, v1alpha1.AnnotationNode, v1alpha1.AnnotationReleasedAt)
	stripped.Spec.SchedulingGates = pod.Spec.SchedulingGates
	stripped.Spec.NodeSelector, stripped.Spec.Tolerations = pod.Spec.NodeSelector, pod.Spec.Tolerations
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		stripped.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution,
		}}
	}
	stripStatus(&stripped.Status, &pod.Status)
	return stripped, nil
}

// stripStatus keeps of the status of a pod what tells how far it is, and why it does not go on.
func stripStatus(into, status *corev1.PodStatus) {
	into.Reason, into.Message = status.Reason, shortened(status.Message, longestCause)
	for i := range status.Conditions {
		c := &status.Conditions[i]
		if c.Type == corev1.PodReady {
			into.Conditions = append(into.Conditions, corev1.PodCondition{Type: c.Type, Status: c.Status})
		}
		if c.Type == corev1.PodScheduled {
			into.Conditions = append(into.Conditions, corev1.PodCondition{
				Type: c.Type, Status: c.Status, Reason: c.Reason, Message: shortened(c.Message, longestRefusal), LastTransitionTime: c.LastTransitionTime,
			})
		}
	}
	into.InitContainerStatuses = stripContainers(status.InitContainerStatuses)
	into.ContainerStatuses = stripContainers(status.ContainerStatuses)
}

// stripContainers keeps the containers that do not run, or did not before, with what the kubelet says of that.
func stripContainers(statuses []corev1.ContainerStatus) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range statuses {
		s := &statuses[i]
		kept := corev1.ContainerStatus{Name: s.Name, Image: s.Image, Ready: s.Ready}
		if w := s.State.Waiting; w != nil {
			kept.State.Waiting = &corev1.ContainerStateWaiting{Reason: w.Reason, Message: shortened(w.Message, longestCause)}
		}
		kept.State.Terminated, kept.LastTerminationState.Terminated = ending(s.State.Terminated), ending(s.LastTerminationState.Terminated)
		if cmp.Or(kept.State.Terminated, kept.LastTerminationState.Terminated) != nil || kept.State.Waiting != nil {
			out = append(out, kept)
		}
	}
	return out
}

// ending keeps of the end of a container how it was.
func ending(t *corev1.ContainerStateTerminated) *corev1.ContainerStateTerminated {
	if t == nil {
		return nil
	}
	return &corev1.ContainerStateTerminated{ExitCode: t.ExitCode, Signal: t.Signal, Reason: t.Reason, Message: shortened(t.Message, longestCause)}
}

// only are those of some labels or annotations that have one of a few keys, nil for none.
func only(all map[string]string, keys ...string) map[string]string {
	var out map[string]string
	for _, key := range keys {
		if value, has := all[key]; has {
			if out == nil {
				out = make(map[string]string, len(keys))
			}
			out[key] = value
		}
	}
	return out
}

// StripNode keeps of a node in the cache what a pass reads.
func StripNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	node.ManagedFields = nil
	node.Status.Images = nil
	node.Status.VolumesInUse, node.Status.VolumesAttached = nil, nil
	return node, nil
}

// StripNamespace keeps of a namespace in the cache its labels, and whether it is being deleted.
func StripNamespace(object any) (any, error) {
	namespace, ok := object.(*corev1.Namespace)
	if !ok {
		return object, nil
	}
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: namespace.Name, UID: namespace.UID, ResourceVersion: namespace.ResourceVersion, Labels: namespace.Labels, DeletionTimestamp: namespace.DeletionTimestamp,
	}}, nil
}
