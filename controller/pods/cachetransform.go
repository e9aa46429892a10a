package pods

import (
	"cmp"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/resource"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// longestText bounds what a kubelet or the scheduler says of a pod, in bytes.
const longestText = 512

// strip keeps of a pod what tells which node it can go to, and how far it is, with some labels beside.
func strip(pod *corev1.Pod, labels []string) *corev1.Pod {
	stripped := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
		CreationTimestamp: pod.CreationTimestamp, DeletionTimestamp: pod.DeletionTimestamp,
		Labels: only(
			pod.Labels, append([]string{v1alpha1.LabelMember, batchv1.JobCompletionIndexAnnotation, batchv1.JobNameLabel}, labels...)...,
		),
		Annotations: only(pod.Annotations, v1alpha1.AnnotationNode, v1alpha1.AnnotationReleasedAt),
	}}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
		stripped.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: owner.APIVersion, Kind: owner.Kind, Name: owner.Name, UID: owner.UID, Controller: owner.Controller,
		}}
	}
	stripped.Spec.NodeName = pod.Spec.NodeName
	// One container that requests all of it requests the same. What a pod was given that was resized in place counts until it is
	// taken back.
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{UseStatusResources: true})
	stripped.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: requests}}}
	stripped.Spec.SchedulingGates = pod.Spec.SchedulingGates
	stripped.Spec.NodeSelector, stripped.Spec.Tolerations = pod.Spec.NodeSelector, pod.Spec.Tolerations
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		stripped.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution,
		}}
	}
	stripped.Status.Phase = pod.Status.Phase
	stripStatus(&stripped.Status, &pod.Status)
	return stripped
}

// stripStatus keeps of the status of a pod why it does not go on.
func stripStatus(into, status *corev1.PodStatus) {
	into.Reason, into.Message = status.Reason, Shortened(status.Message, longestText)
	for i := range status.Conditions {
		c := &status.Conditions[i]
		if c.Type == corev1.PodReady {
			into.Conditions = append(into.Conditions, corev1.PodCondition{Type: c.Type, Status: c.Status})
		}
		if c.Type == corev1.PodScheduled {
			into.Conditions = append(into.Conditions, corev1.PodCondition{
				Type: c.Type, Status: c.Status, Reason: c.Reason, Message: Shortened(c.Message, longestText),
				LastTransitionTime: c.LastTransitionTime,
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
			kept.State.Waiting = &corev1.ContainerStateWaiting{Reason: w.Reason, Message: Shortened(w.Message, longestText)}
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
	return &corev1.ContainerStateTerminated{
		ExitCode: t.ExitCode, Signal: t.Signal, Reason: t.Reason, Message: Shortened(t.Message, longestText),
	}
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

// Shortened bounds a text to so many bytes.
func Shortened(text string, most int) string {
	const ellipsis = "…"
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len(ellipsis)], "") + ellipsis
}
