package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// machine is a node in the simulation of pods: one that exists, one that is upcoming, or one that a
// scale-up would add.
type machine struct {
	labels        map[string]string
	taints        []corev1.Taint
	unschedulable bool
	free          corev1.ResourceList
}

// emptyMachine is node without pods.
func emptyMachine(node *corev1.Node) *machine {
	m := &machine{
		labels:        node.Labels,
		taints:        node.Spec.Taints,
		unschedulable: node.Spec.Unschedulable,
		free:          corev1.ResourceList{},
	}
	maps.Copy(m.free, node.Status.Allocatable)
	return m
}

// place takes the requests of pod from what is free, without asking whether it fits.
func (m *machine) place(pod *corev1.Pod) {
	for name, quantity := range podRequests(pod) {
		left := m.free[name].DeepCopy()
		left.Sub(quantity)
		m.free[name] = left
	}
}

// lacks says why pod does not fit, or "" when it fits.
func (m *machine) lacks(pod *corev1.Pod) string {
	if m.unschedulable {
		return "node is cordoned"
	}
	for i := range m.taints {
		if !tolerates(pod, &m.taints[i]) {
			return fmt.Sprintf("untolerated taint %s=%s:%s", m.taints[i].Key, m.taints[i].Value, m.taints[i].Effect)
		}
	}
	if !matchesNode(pod, m.labels) {
		return "node selector or affinity does not match"
	}
	requests := podRequests(pod)
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		want, have := requests[name], m.free[name]
		if want.Sign() > 0 && want.Cmp(have) > 0 {
			return fmt.Sprintf("%s requested %s, free %s", name, want.String(), have.String())
		}
	}
	return ""
}

// placeFirst puts pod on the first of machines that it fits and tells whether there was one.
func placeFirst(pod *corev1.Pod, machines []*machine) bool {
	for _, m := range machines {
		if m.lacks(pod) == "" {
			m.place(pod)
			return true
		}
	}
	return false
}

// podRequests is what a pod takes from a node: the larger of the sum of its containers and its largest
// init container, its overhead, and one of the node's pods.
func podRequests(pod *corev1.Pod) corev1.ResourceList {
	sum := corev1.ResourceList{}
	add := func(list corev1.ResourceList) {
		for name, quantity := range list {
			total := sum[name].DeepCopy()
			total.Add(quantity)
			sum[name] = total
		}
	}
	// A sidecar is an init container that keeps running.
	sidecar := func(c *corev1.Container) bool {
		return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	}
	for i := range pod.Spec.Containers {
		add(pod.Spec.Containers[i].Resources.Requests)
	}
	for i := range pod.Spec.InitContainers {
		if sidecar(&pod.Spec.InitContainers[i]) {
			add(pod.Spec.InitContainers[i].Resources.Requests)
		}
	}
	for i := range pod.Spec.InitContainers {
		if sidecar(&pod.Spec.InitContainers[i]) {
			continue
		}
		for name, quantity := range pod.Spec.InitContainers[i].Resources.Requests {
			if quantity.Cmp(sum[name]) > 0 {
				sum[name] = quantity
			}
		}
	}
	add(pod.Spec.Overhead)
	add(corev1.ResourceList{corev1.ResourcePods: *onePod()})
	return sum
}

// tolerates tells whether taint keeps pod off a node. PreferNoSchedule never does.
func tolerates(pod *corev1.Pod, taint *corev1.Taint) bool {
	if taint.Effect == corev1.TaintEffectPreferNoSchedule {
		return true
	}
	return slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
			return false
		}
		if t.Operator == corev1.TolerationOpExists {
			return true
		}
		return t.Key != "" && t.Value == taint.Value
	})
}

// matchesNode evaluates the node selector and the required node affinity of pod.
func matchesNode(pod *corev1.Pod, labels map[string]string) bool {
	for key, value := range pod.Spec.NodeSelector {
		if have, found := labels[key]; !found || have != value {
			return false
		}
	}
	affinity := pod.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	return slices.ContainsFunc(affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms,
		func(term corev1.NodeSelectorTerm) bool { return matchesTerm(term, labels) })
}

// matchesTerm evaluates one term. An empty term, and one that asks for fields, matches nothing.
func matchesTerm(term corev1.NodeSelectorTerm, labels map[string]string) bool {
	if len(term.MatchExpressions) == 0 || len(term.MatchFields) > 0 {
		return false
	}
	for _, requirement := range term.MatchExpressions {
		if !matchesRequirement(requirement, labels) {
			return false
		}
	}
	return true
}

func matchesRequirement(requirement corev1.NodeSelectorRequirement, labels map[string]string) bool {
	value, found := labels[requirement.Key]
	switch requirement.Operator {
	case corev1.NodeSelectorOpIn:
		return found && slices.Contains(requirement.Values, value)
	case corev1.NodeSelectorOpNotIn:
		return !found || !slices.Contains(requirement.Values, value)
	case corev1.NodeSelectorOpExists:
		return found
	case corev1.NodeSelectorOpDoesNotExist:
		return !found
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		have, err := strconv.ParseInt(value, 10, 64)
		if !found || err != nil || len(requirement.Values) != 1 {
			return false
		}
		bound, err := strconv.ParseInt(requirement.Values[0], 10, 64)
		if err != nil {
			return false
		}
		if requirement.Operator == corev1.NodeSelectorOpGt {
			return have > bound
		}
		return have < bound
	}
	return false
}
