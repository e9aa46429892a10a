package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// newPodTime is how young pods are when the autoscaler waits one loop for more of them.
const newPodTime = 2 * time.Second

func onePod() *resource.Quantity { return resource.NewQuantity(1, resource.DecimalSI) }

// unschedulable are the pods that the scheduler has found no node for. Pods with a scheduling gate are not
// among them: the scheduler has not tried.
func unschedulable(pods []*corev1.Pod) []*corev1.Pod {
	var result []*corev1.Pod
	for _, pod := range pods {
		if pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil {
			continue
		}
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
				result = append(result, pod)
			}
		}
	}
	return result
}

// allNew tells whether the oldest of pods is so young that more are likely to come.
func allNew(pods []*corev1.Pod, now time.Time) bool {
	for _, pod := range pods {
		if !pod.CreationTimestamp.Add(newPodTime).After(now) {
			return false
		}
	}
	return true
}

// homeless are the pods that fit neither on the nodes that exist nor on upcoming ones.
func homeless(pods []*corev1.Pod, machines []*machine) []*corev1.Pod {
	var result []*corev1.Pod
	for _, pod := range pods {
		if !placeFirst(pod, machines) {
			result = append(result, pod)
		}
	}
	return result
}

// machinesNow are the nodes with their pods, and an empty one for each upcoming node. Nodes that have
// registered and are not yet Ready are among the upcoming, so they are left out when those are counted.
func machinesNow(
	nodes []*corev1.Node, pods []*corev1.Pod, left map[string]bool, upcoming map[string]int, templates map[string]*corev1.Node,
) []*machine {
	byName := map[string]*machine{}
	var machines []*machine
	for _, node := range nodes {
		if !left[node.Name] {
			byName[node.Name] = emptyMachine(node)
			machines = append(machines, byName[node.Name])
		}
	}
	for _, pod := range pods {
		if m := byName[pod.Spec.NodeName]; m != nil {
			m.place(pod)
		}
	}
	for group, count := range upcoming {
		for range count {
			machines = append(machines, emptyMachine(templates[group]))
		}
	}
	return machines
}

// expansion is one way to help pods: count more nodes of a group.
type expansion struct {
	group         nodeGroup
	target, count int
	pods          []*corev1.Pod
}

// expand packs pods first-fit onto new nodes of a group, as many as its maximum size allows. The reason
// is why a pod was left out, for a group that helps none.
func expand(group nodeGroup, target int, template *corev1.Node, pods []*corev1.Pod) (result expansion, reason string) {
	result = expansion{group: group, target: target}
	var added []*machine
	for _, pod := range pods {
		if placeFirst(pod, added) {
			result.pods = append(result.pods, pod)
			continue
		}
		if target+len(added) >= group.max {
			reason = fmt.Sprintf("maximum size %d is reached", group.max)
			continue
		}
		m := emptyMachine(template)
		if why := m.lacks(pod); why != "" {
			reason = why
			continue
		}
		m.place(pod)
		added = append(added, m)
		result.pods = append(result.pods, pod)
	}
	result.count = len(added)
	return result, reason
}

// scaleUp orders nodes of one group for pods, if a group helps any of them, and tells whether it did.
func (a *autoscaler) scaleUp(ctx context.Context, pods []*corev1.Pod, now time.Time) (bool, error) {
	var options []expansion
	for _, group := range a.books.groups {
		if why := a.books.unfit(group.id, now); why != "" {
			a.log.Info("group not considered", "group", group.id, "reason", why)
			continue
		}
		target, err := a.provider.targetSize(ctx, group.id)
		if err != nil {
			a.log.Warn("group not considered", "group", group.id, "error", err)
			continue
		}
		option, why := expand(group, target, a.books.templates[group.id], pods)
		if option.count == 0 {
			a.log.Info("group does not help", "group", group.id, "reason", why)
			continue
		}
		options = append(options, option)
	}
	if len(options) == 0 {
		a.log.Info("no group helps the pods", "pods", len(pods))
		return false, nil
	}
	if a.expander != nil {
		if options = a.expander.best(ctx, options, a.books); len(options) == 0 {
			a.log.Info("the expander wants no scale-up", "pods", len(pods))
			return false, nil
		}
	}
	best := options[a.choose(options)]
	a.log.Info("scale-up for pods", "group", best.group.id, "pods", len(best.pods), "of", len(pods), "options", len(options))
	return true, a.increase(ctx, best.group, best.target, best.count, now)
}

// enforceMinSizes raises the target of each group below its minimum size by all that is missing. The minimum
// size is the one that the provider told after this loop's refresh, the target is asked live.
func (a *autoscaler) enforceMinSizes(ctx context.Context, now time.Time) error {
	for _, group := range a.provider.nodeGroups(ctx) {
		target, err := a.provider.targetSize(ctx, group.id)
		if err != nil {
			a.log.Warn("minimum size not enforced", "group", group.id, "error", err)
			continue
		}
		if target >= group.min {
			continue
		}
		if why := a.books.unfit(group.id, now); why != "" {
			a.log.Info("minimum size not enforced", "group", group.id, "minSize", group.min, "targetSize", target, "reason", why)
			continue
		}
		a.log.Info("group is below its minimum size", "group", group.id, "minSize", group.min, "targetSize", target)
		if err := a.increase(ctx, group, target, group.min-target, now); err != nil {
			return err
		}
	}
	return nil
}

// increase orders delta nodes in one call. An error backs the group off.
func (a *autoscaler) increase(ctx context.Context, group nodeGroup, target, delta int, now time.Time) error {
	a.log.Info("IncreaseSize", "group", group.id, "delta", delta, "from", target, "to", target+delta, "maxSize", group.max)
	if err := a.provider.increaseSize(ctx, group.id, delta); err != nil {
		a.books.registerFailure(group.id, failure{class: 99, code: "cloudProviderError", message: err.Error()}, now)
		return err
	}
	options, err := a.provider.options(ctx, group.id, a.books.defaults)
	if err != nil {
		return err
	}
	a.books.registerScaleUp(group.id, delta, options.provisionTime, now)
	a.lastScaleUp = now
	return a.books.readTargets(ctx)
}
