package admission

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
	resources "k8s.io/component-helpers/resource"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// limited is a pod with what the LimitRanges of its namespace put into each container that says nothing of a resource, as the API server
// does when the pod is made. added tells what that is.
func limited(pod *corev1.PodSpec, ranges []corev1.LimitRange) (limited *corev1.PodSpec, added []string) {
	limited = pod.DeepCopy()
	seen := map[string]bool{}
	eachContainer(limited, func(_ string, c *corev1.Container) {
		// Before any LimitRange is asked, a limit is the request where that is missing.
		fill(&c.Resources.Requests, c.Resources.Limits, func(corev1.ResourceName, resource.Quantity) {})
		eachLimit(ranges, corev1.LimitTypeContainer, func(name string, item *corev1.LimitRangeItem) {
			fill(&c.Resources.Limits, item.Default, func(corev1.ResourceName, resource.Quantity) {})
			fill(&c.Resources.Requests, item.DefaultRequest, func(what corev1.ResourceName, amount resource.Quantity) {
				text := fmt.Sprintf("%s has containers that say nothing of %s request %s", name, what, amount.String())
				if !seen[text] {
					seen[text] = true
					added = append(added, text)
				}
			})
		})
	})
	return limited, added
}

// eachLimit tells the limits of a type, LimitRange by LimitRange in the order of their names, which are all of one namespace.
func eachLimit(ranges []corev1.LimitRange, kind corev1.LimitType, tell func(name string, item *corev1.LimitRangeItem)) {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b corev1.LimitRange) int { return cmp.Compare(a.Name, b.Name) })
	for i := range sorted {
		for j := range sorted[i].Spec.Limits {
			if item := &sorted[i].Spec.Limits[j]; item.Type == kind {
				tell("LimitRange "+sorted[i].Name, item)
			}
		}
	}
}

// eachContainer tells the containers of a pod, with what they are called: by their names, or where they have none, as those of a
// MiniCluster, by what they are in its spec.
func eachContainer(pod *corev1.PodSpec, tell func(what string, c *corev1.Container)) {
	called := func(c *corev1.Container, otherwise string) string {
		if c.Name == "" {
			return otherwise
		}
		return "container " + c.Name
	}
	for i := range pod.InitContainers {
		tell(called(&pod.InitContainers[i], "the container of Flux"), &pod.InitContainers[i])
	}
	for i := range pod.Containers {
		tell(called(&pod.Containers[i], fmt.Sprintf("container %d", i)), &pod.Containers[i])
	}
}

// fill adds to amounts what it does not have.
func fill(amounts *corev1.ResourceList, from corev1.ResourceList, tell func(what corev1.ResourceName, amount resource.Quantity)) {
	for _, what := range slices.Sorted(maps.Keys(from)) {
		if _, has := (*amounts)[what]; has {
			continue
		}
		if *amounts == nil {
			*amounts = corev1.ResourceList{}
		}
		(*amounts)[what] = from[what]
		tell(what, from[what])
	}
}

// limits judges what the LimitRanges of the namespace would refuse, pod by pod, when the MiniCluster is there and its nodes are paid for.
// pod is one with what they add.
func (f *Findings) limits(pod *corev1.PodSpec, ranges []corev1.LimitRange, at Place) {
	var faults []string
	judge := func(name, whom string, item *corev1.LimitRangeItem, requests, limits corev1.ResourceList) {
		for _, what := range slices.Sorted(maps.Keys(item.Min)) {
			faults = append(faults, tooLittle(name, whom, what, item.Min[what], requests, limits)...)
		}
		for _, what := range slices.Sorted(maps.Keys(item.Max)) {
			faults = append(faults, tooMuch(name, whom, what, item.Max[what], requests, limits)...)
		}
	}
	eachContainer(pod, func(whom string, c *corev1.Container) {
		eachLimit(ranges, corev1.LimitTypeContainer, func(name string, item *corev1.LimitRangeItem) {
			judge(name, whom, item, c.Resources.Requests, c.Resources.Limits)
		})
	})
	// What a RuntimeClass takes is not asked about.
	whole := &corev1.Pod{Spec: corev1.PodSpec{Containers: pod.Containers, InitContainers: pod.InitContainers}}
	eachLimit(ranges, corev1.LimitTypePod, func(name string, item *corev1.LimitRangeItem) {
		judge(
			name, "a pod", item, resources.PodRequests(whole, resources.PodResourcesOptions{}),
			resources.PodLimits(whole, resources.PodResourcesOptions{}),
		)
	})
	if len(faults) > 0 {
		f.refuse(field.Invalid(at.Spec.Child("containers"), field.OmitValueType{}, strings.Join(faults, "; ")+": no pod would be made"))
	}
}

func tooLittle(
	name, whom string, what corev1.ResourceName, least resource.Quantity, requests, limits corev1.ResourceList,
) (faults []string) {
	request, has := requests[what]
	limit, limited := limits[what]
	switch {
	case !has:
		faults = append(faults, fmt.Sprintf("%s wants a request of at least %s of %s, and %s has none", name, least.String(), what, whom))
	case request.Cmp(least) < 0:
		faults = append(
			faults, fmt.Sprintf("%s wants a request of at least %s of %s, and %s has %s", name, least.String(), what, whom, request.String()),
		)
	case limited && limit.Cmp(least) < 0:
		faults = append(
			faults, fmt.Sprintf("%s wants a limit of at least %s of %s, and %s has %s", name, least.String(), what, whom, limit.String()),
		)
	}
	return faults
}

func tooMuch(name, whom string, what corev1.ResourceName, most resource.Quantity, requests, limits corev1.ResourceList) (faults []string) {
	request, has := requests[what]
	limit, limited := limits[what]
	switch {
	case !limited:
		faults = append(faults, fmt.Sprintf("%s wants a limit of at most %s of %s, and %s has none", name, most.String(), what, whom))
	case limit.Cmp(most) > 0:
		faults = append(
			faults, fmt.Sprintf("%s wants a limit of at most %s of %s, and %s has %s", name, most.String(), what, whom, limit.String()),
		)
	case has && request.Cmp(most) > 0:
		faults = append(
			faults, fmt.Sprintf("%s wants a request of at most %s of %s, and %s has %s", name, most.String(), what, whom, request.String()),
		)
	}
	return faults
}

// overhead warns of what the API server takes of no pod.
func (f *Findings) overhead(draft *minicluster.Draft, at Place) {
	if len(draft.Overhead) > 0 && draft.RuntimeClass == "" {
		f.warn(
			at.pod("resources"),
			"becomes the overhead of the pods, which the API server takes only of those of a RuntimeClass that says the same "+
				"(spec.pod.runtimeClassName): no pod would be made",
		)
	}
}
