package resize

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// StripPod keeps of a pod in the cache what a pass and the ensemble endpoint read.
func StripPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	stripped := &corev1.Pod{ObjectMeta: pod.ObjectMeta}
	stripped.ManagedFields, stripped.Annotations = nil, nil
	if node, released := pod.Annotations[v1alpha1.AnnotationNode]; released {
		stripped.Annotations = map[string]string{v1alpha1.AnnotationNode: node, v1alpha1.AnnotationReleasedAt: pod.Annotations[v1alpha1.AnnotationReleasedAt]}
	}
	stripped.Spec.SchedulingGates = pod.Spec.SchedulingGates
	if host, chosen := pod.Spec.NodeSelector[corev1.LabelHostname]; chosen {
		stripped.Spec.NodeSelector = map[string]string{corev1.LabelHostname: host}
	}
	stripped.Spec.NodeName, stripped.Spec.HostNetwork = pod.Spec.NodeName, pod.Spec.HostNetwork
	stripped.Spec.Overhead, stripped.Spec.Resources = pod.Spec.Overhead, pod.Spec.Resources
	stripped.Spec.Containers = stripContainers(pod.Spec.Containers)
	stripped.Spec.InitContainers = stripContainers(pod.Spec.InitContainers)
	stripped.Status.Phase = pod.Status.Phase
	stripped.Status.PodIP, stripped.Status.PodIPs, stripped.Status.HostIP = pod.Status.PodIP, pod.Status.PodIPs, pod.Status.HostIP
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodScheduled {
			stripped.Status.Conditions = []corev1.PodCondition{{Type: c.Type, Status: c.Status, Reason: c.Reason, LastTransitionTime: c.LastTransitionTime}}
		}
	}
	return stripped, nil
}

func stripContainers(containers []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for i := range containers {
		out = append(out, corev1.Container{
			Name: containers[i].Name, Resources: containers[i].Resources, RestartPolicy: containers[i].RestartPolicy,
		})
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
