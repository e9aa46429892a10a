package reading

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// Requests is what a pod made of a template requests of a node, as the scheduler counts: its containers, its init and sidecar
// containers, its overhead, and its place among the pods. A limit counts where a request is missing, as the API server has it.
func Requests(spec *corev1.PodSpec) plan.Resources {
	pod := corev1.Pod{Spec: corev1.PodSpec{Overhead: spec.Overhead}}
	pod.Spec.Containers, pod.Spec.InitContainers = withRequests(spec.Containers), withRequests(spec.InitContainers)
	if spec.Resources != nil {
		whole := *spec.Resources
		of := resource.AggregateContainerRequests(&pod, resource.PodResourcesOptions{})
		whole.Requests = defaultRequests(whole.Requests, whole.Limits, of)
		pod.Spec.Resources = &whole
	}
	return requestsOf(&pod)
}

// PodRequests is what a pod that exists requests, as the scheduler counts.
func PodRequests(pod *corev1.Pod) plan.Resources { return requestsOf(pod) }

func requestsOf(pod *corev1.Pod) plan.Resources {
	// What a pod was given that was resized in place counts until it is taken back.
	requests := plan.ResourcesOf(resource.PodRequests(pod, resource.PodResourcesOptions{UseStatusResources: true}))
	requests[corev1.ResourcePods] = 1
	return requests
}

// withRequests is what matters of containers, with a request for each limit.
func withRequests(containers []corev1.Container) []corev1.Container {
	out := make([]corev1.Container, len(containers))
	for i := range containers {
		c := &containers[i]
		requests := defaultRequests(c.Resources.Requests, c.Resources.Limits, nil)
		out[i] = corev1.Container{Name: c.Name, RestartPolicy: c.RestartPolicy, Resources: corev1.ResourceRequirements{Requests: requests}}
	}
	return out
}

// defaultRequests adds to requests what has a limit alone, and is not among what is requested otherwise. It changes no list.
func defaultRequests(requests, limits, otherwise corev1.ResourceList) corev1.ResourceList {
	out := requests
	for name, limit := range limits {
		_, has := requests[name]
		if _, other := otherwise[name]; has || other {
			continue
		}
		if len(out) == len(requests) {
			out = requests.DeepCopy()
		}
		if out == nil {
			out = corev1.ResourceList{}
		}
		out[name] = limit
	}
	return out
}
