package resize

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
)

// What is said of pods that do not start is written into the status of the member, and so must not change while nothing does: the
// scheduler counts nodes, a kubelet says alternately that it pulls an image and that it waits with that, and tells how long. What
// is kept are the words that stay.

const (
	// longestCause bounds what a kubelet says of a pod, longestRefusal what the scheduler says, in bytes.
	longestCause   = 256
	longestRefusal = 512
)

// unschedulable is the condition by which the scheduler refuses a pod, nil while it does not.
func unschedulable(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodScheduled && c.Status != corev1.ConditionTrue &&
			c.Reason == corev1.PodReasonUnschedulable {
			return c
		}
	}
	return nil
}

var (
	// ofNodes begins what the scheduler says, and preemption ends it.
	ofNodes    = regexp.MustCompile(`^\d+/\d+ nodes are available: `)
	preemption = regexp.MustCompile(`\.? *(no new claims to deallocate, )?preemption: .*$`)
	// part is one thing that it says, of a number of nodes.
	part = regexp.MustCompile(`^\d+ `)
)

// otherNodes is what it says of nodes that a pod which was released for one of them alone cannot go to.
var otherNodes = []string{"node(s) didn't match Pod's node affinity/selector", "node(s) didn't match Pod's node affinity"}

// refusal is what the scheduler says of a pod that it finds no place for, empty while it does not refuse it: its own words, without
// the numbers of nodes, and where the pod can go to one node alone without what it says of all others.
func refusal(pod *corev1.Pod) string {
	c := unschedulable(pod)
	if c == nil {
		return ""
	}
	text := strings.TrimSuffix(preemption.ReplaceAllString(ofNodes.ReplaceAllString(c.Message, ""), ""), ".")
	var parts []string
	for said := range strings.SplitSeq(text, ", ") {
		parts = append(parts, part.ReplaceAllString(strings.TrimSpace(said), ""))
	}
	slices.Sort(parts)
	parts = slices.Compact(parts)
	_, pinned := pod.Spec.NodeSelector[corev1.LabelHostname]
	if of := slices.DeleteFunc(
		slices.Clone(parts), func(said string) bool { return slices.Contains(otherNodes, said) },
	); pinned && len(of) > 0 {
		parts = of
	}
	return cmp.Or(strings.Join(parts, ", "), "it does not say why")
}

// causeOf says why a pod does not start, in the words of the scheduler or the kubelet; empty while neither says that it does not.
func causeOf(p *podReading) string {
	pod := p.pod
	switch {
	case p.gated || p.ready || pod.Status.Phase == corev1.PodSucceeded:
		return ""
	case pod.Status.Phase == corev1.PodFailed:
		return failureOf(pod)
	case pod.DeletionTimestamp != nil:
		return ""
	case pod.Spec.NodeName == "":
		if said := refusal(pod); said != "" {
			return "Unschedulable: " + said
		}
		return ""
	}
	for _, containers := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range containers {
			if said := containerCause(&containers[i]); said != "" {
				return said
			}
		}
	}
	return ""
}

// failureOf says how a pod has failed: a kubelet that does not take it gives a reason, and a container that has ended an exit code.
func failureOf(pod *corev1.Pod) string {
	if pod.Status.Reason != "" {
		return because(pod.Status.Reason, pod.Status.Message)
	}
	for _, containers := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range containers {
			if t := containers[i].State.Terminated; t != nil && t.ExitCode != 0 {
				return "Failed: " + exit(containers[i].Name, t)
			}
		}
	}
	return "Failed"
}

// Reasons that a kubelet has for a container that waits.
const (
	imagePullBackOff  = "ImagePullBackOff"
	crashLoopBackOff  = "CrashLoopBackOff"
	runContainerError = "RunContainerError"
	containerCreating = "ContainerCreating"
	podInitializing   = "PodInitializing"
)

// containerCause says why a container does not run, empty while nothing says that it does not.
func containerCause(s *corev1.ContainerStatus) string {
	waits := s.State.Waiting
	if waits != nil {
		switch waits.Reason {
		case imagePullBackOff, "ErrImagePull":
			// They take turns, with words of their own.
			return fmt.Sprintf("%s: container %s, image %q", imagePullBackOff, s.Name, s.Image)
		case crashLoopBackOff, runContainerError, containerCreating, podInitializing, "":
		default:
			return because(waits.Reason, "container "+s.Name+": "+waits.Message)
		}
	}
	// A container that ends again and again runs in between; until it is Ready nothing has changed.
	if s.Ready {
		return ""
	}
	last := cmp.Or(s.State.Terminated, s.LastTerminationState.Terminated)
	switch {
	case last != nil && (last.Reason == "StartError" || last.Reason == "ContainerCannotRun"):
		return because(runContainerError, "container "+s.Name+": "+last.Message)
	case last != nil && (last.ExitCode != 0 || last.Signal != 0 || (waits != nil && waits.Reason == crashLoopBackOff)):
		return crashLoopBackOff + ": " + exit(s.Name, last)
	case waits != nil && (waits.Reason == crashLoopBackOff || waits.Reason == runContainerError):
		return because(waits.Reason, "container "+s.Name)
	default:
		return ""
	}
}

// exit says how a container has ended.
func exit(container string, t *corev1.ContainerStateTerminated) string {
	out := fmt.Sprintf("container %s ended with exit code %d", container, t.ExitCode)
	if t.Reason != "" && t.Reason != "Error" && t.Reason != "Completed" {
		out += " (" + t.Reason + ")"
	}
	return out
}

func because(reason, message string) string {
	if message = strings.TrimSuffix(strings.TrimSpace(message), ":"); message == "" {
		return reason
	}
	return pods.Shortened(reason+": "+message, longestCause)
}

// notStarted says in one sentence why some pods with ranks below a size do not start, in the words that most of them have; empty where
// none has any. The pods are in the order of their ranks.
func notStarted(pods []*podReading, size int32, which func(*podReading) bool) string {
	first, counts := map[string]string{}, map[string]int{}
	var most string
	for _, p := range pods {
		if p.cause == "" || p.index >= size || !which(p) {
			continue
		}
		if counts[p.cause]++; first[p.cause] == "" {
			first[p.cause] = p.pod.Name
		}
		if most == "" || counts[p.cause] > counts[most] || (counts[p.cause] == counts[most] && p.cause < most) {
			most = p.cause
		}
	}
	switch others := len(counts) - 1; {
	case others < 0:
		return ""
	case counts[most] == 1 && others == 0:
		return fmt.Sprintf("pod %s does not start: %s", first[most], most)
	case others == 0:
		return fmt.Sprintf("%d pods do not start, %s first among them: %s", counts[most], first[most], most)
	default:
		total := 0
		for _, count := range counts {
			total += count
		}
		return fmt.Sprintf(
			"%d pods do not start, for %d of them because of this, %s first among them: %s", total, counts[most], first[most], most,
		)
	}
}
