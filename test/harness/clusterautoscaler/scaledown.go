package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

const (
	// maxInParallel is how many nodes are on their way out at a time.
	maxInParallel = 10
	// taintCandidate marks a node that is unneeded and may soon go, so that pods prefer others.
	taintCandidate = "DeletionCandidateOfClusterAutoscaler"
)

// deletion is a tainted node that is deleted when it is due, so that pods on their way to it are seen.
type deletion struct {
	group string
	due   time.Time
}

// needed says why a node may not go, or "" for one that could.
func needed(node *corev1.Node, pods []*corev1.Pod) string {
	if beingDeleted(node) {
		return "being deleted"
	}
	if node.Annotations[v1alpha1.AnnotationScaleDownDisabled] == "true" {
		return "scale-down is disabled by annotation"
	}
	for _, pod := range pods {
		if isMirrorOrDaemon(pod) {
			continue
		}
		if pod.Annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false" {
			return fmt.Sprintf("pod %s/%s is not safe to evict", pod.Namespace, pod.Name)
		}
		return fmt.Sprintf("pod %s/%s runs there", pod.Namespace, pod.Name)
	}
	return ""
}

// room is how many nodes of each group may go before its minimum size is reached. It is counted down.
type room map[string]int

// take says whether a further node of group may go.
func (r room) take(group nodeGroup) bool {
	if r[group.id] <= group.min {
		return false
	}
	r[group.id]--
	return true
}

// scaleDown keeps track of the unneeded nodes and removes those that have been so for long enough, unless
// it is held back by a recent scale-up or by pods that are about to be helped.
func (a *autoscaler) scaleDown(
	ctx context.Context, nodes []*corev1.Node, podsByNode map[string][]*corev1.Pod, heldBack bool, now time.Time,
) error {
	sizes := room{}
	for _, group := range a.provider.nodeGroups(ctx) {
		size, err := a.provider.targetSize(ctx, group.id)
		if err != nil {
			return err
		}
		sizes[group.id] = size
	}
	for _, d := range a.deletions {
		sizes[d.group]--
	}

	groupOf := map[string]nodeGroup{}
	unneeded := map[string]time.Time{}
	for _, node := range nodes {
		group, found, err := a.provider.nodeGroupForNode(ctx, node)
		if err != nil || !found || needed(node, podsByNode[node.Name]) != "" || sizes[group.id] <= group.min {
			continue
		}
		groupOf[node.Name] = group
		unneeded[node.Name] = now
		if since, known := a.unneeded[node.Name]; known {
			unneeded[node.Name] = since
		} else {
			a.log.Info("node is unneeded", "node", node.Name, "group", group.id)
		}
	}
	a.unneeded = unneeded
	if err := a.markCandidates(ctx, nodes, now); err != nil {
		return err
	}
	if heldBack || a.lastScaleUp.Add(a.options.scaleDownDelayAfterAdd).After(now) {
		return nil
	}

	byName := map[string]*corev1.Node{}
	for _, node := range nodes {
		byName[node.Name] = node
	}
	for _, name := range slices.Sorted(maps.Keys(unneeded)) {
		group, node := groupOf[name], byName[name]
		options, err := a.provider.options(ctx, group.id, a.books.defaults)
		if err != nil {
			a.log.Warn("options of group unknown", "group", group.id, "error", err)
			continue
		}
		threshold := options.unneededTime
		if !isReady(node) {
			threshold = options.unreadyTime
		}
		if !unneeded[name].Add(threshold).Before(now) || len(a.deletions) >= maxInParallel {
			continue
		}
		if !sizes.take(group) {
			a.log.Info("unneeded node stays, the minimum size is reached", "node", name, "group", group.id, "minSize", group.min)
			continue
		}
		a.log.Info("removing empty node", "node", name, "group", group.id, "unneededFor", now.Sub(unneeded[name]).Round(time.Millisecond))
		taint := corev1.Taint{Key: v1alpha1.TaintToBeDeleted, Value: strconv.FormatInt(now.Unix(), 10), Effect: corev1.TaintEffectNoSchedule}
		if err := a.cluster.AddTaint(ctx, name, taint); err != nil {
			return err
		}
		a.deletions[name] = deletion{group: group.id, due: now.Add(a.options.nodeDeleteDelayAfterTaint)}
	}
	return nil
}

// markCandidates puts the soft taint on the unneeded nodes and takes it off all others.
func (a *autoscaler) markCandidates(ctx context.Context, nodes []*corev1.Node, now time.Time) error {
	for _, node := range nodes {
		_, unneeded := a.unneeded[node.Name]
		marked := slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == taintCandidate })
		var err error
		switch {
		case unneeded && !marked:
			taint := corev1.Taint{Key: taintCandidate, Value: strconv.FormatInt(now.Unix(), 10), Effect: corev1.TaintEffectPreferNoSchedule}
			err = a.cluster.AddTaint(ctx, node.Name, taint)
		case !unneeded && marked && !beingDeleted(node):
			err = a.cluster.RemoveTaint(ctx, node.Name, taintCandidate)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// finishDeletions asks the provider to delete the tainted nodes that are due and still empty. A node that
// is not, or that the provider keeps, loses its taint.
func (a *autoscaler) finishDeletions(ctx context.Context, nodes []*corev1.Node, podsByNode map[string][]*corev1.Pod, now time.Time) error {
	byName := map[string]*corev1.Node{}
	for _, node := range nodes {
		byName[node.Name] = node
	}
	for _, name := range slices.Sorted(maps.Keys(a.deletions)) {
		d, node := a.deletions[name], byName[name]
		if node == nil {
			delete(a.deletions, name)
			continue
		}
		if d.due.After(now) {
			continue
		}
		delete(a.deletions, name)
		occupied := slices.ContainsFunc(podsByNode[name], func(pod *corev1.Pod) bool { return !isMirrorOrDaemon(pod) })
		if !occupied {
			a.log.Info("DeleteNodes", "group", d.group, "node", name)
			err := a.provider.deleteNodes(ctx, d.group, node)
			if err == nil {
				continue
			}
			a.log.Warn("node not deleted", "node", name, "error", err)
		} else {
			a.log.Info("node not deleted, a pod has come", "node", name)
		}
		if err := a.cluster.RemoveTaint(ctx, name, v1alpha1.TaintToBeDeleted); err != nil {
			return err
		}
	}
	return nil
}
