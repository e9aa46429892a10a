package member

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// PodNeeds is what a pod requests and tolerates. A limit counts where a request is missing, as the API
// server has it.
func PodNeeds(spec *corev1.PodSpec) (corev1.ResourceList, []corev1.Toleration) {
	spec = spec.DeepCopy()
	for _, containers := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for i := range containers {
			r := &containers[i].Resources
			for name, limit := range r.Limits {
				if _, has := r.Requests[name]; !has {
					if r.Requests == nil {
						r.Requests = corev1.ResourceList{}
					}
					r.Requests[name] = limit
				}
			}
		}
	}
	return resource.PodRequests(&corev1.Pod{Spec: *spec}, resource.PodResourcesOptions{}), spec.Tolerations
}

// PodShape is of a pod what says which nodes it can go to and what it takes of one: its containers with their resources, and nothing else
// of them.
func PodShape(pod *corev1.PodSpec) corev1.PodSpec {
	return corev1.PodSpec{
		NodeSelector: pod.NodeSelector, Affinity: pod.Affinity, Tolerations: pod.Tolerations, Overhead: pod.Overhead, Resources: pod.Resources,
		Containers: shapes(pod.Containers), InitContainers: shapes(pod.InitContainers),
	}
}

func shapes(containers []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for i := range containers {
		c := &containers[i]
		out = append(out, corev1.Container{Name: c.Name, RestartPolicy: c.RestartPolicy, Resources: c.Resources})
	}
	return out
}
