package explain

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// gatedPod reports whether a pod waits behind our gate.
func gatedPod(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == v1alpha1.SchedulingGate })
}

// podTrouble says why a pod does not run, empty when it runs or has succeeded.
func podTrouble(pod *corev1.Pod) string {
	switch {
	case pod.Status.Phase == corev1.PodSucceeded:
		return ""
	case pod.DeletionTimestamp != nil:
		return "leaves since " + formatTime(pod.DeletionTimestamp.Time)
	case gatedPod(pod):
		return "waits behind the gate " + v1alpha1.SchedulingGate + " until nodes for all pods of its member are Ready"
	case len(pod.Spec.SchedulingGates) > 0:
		return "waits behind the gate " + pod.Spec.SchedulingGates[0].Name + ", which is not ours"
	case pod.Status.Phase == corev1.PodFailed:
		return joined("has failed", pod.Status.Reason, pod.Status.Message)
	case pod.Spec.NodeName == "":
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
				return joined("is not scheduled", c.Reason, c.Message)
			}
		}
		return "is to be scheduled"
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if w := list[i].State.Waiting; w != nil && w.Reason != "PodInitializing" {
				return joined(fmt.Sprintf("does not start: container %s", list[i].Name), w.Reason, w.Message)
			}
			if t := list[i].State.Terminated; t != nil && t.ExitCode != 0 {
				return fmt.Sprintf("does not run: container %s ended with exit code %d", list[i].Name, t.ExitCode)
			}
		}
	}
	if pod.Status.Phase == corev1.PodRunning && podReady(pod) {
		return ""
	}
	return fmt.Sprintf("starts on node %s", pod.Spec.NodeName)
}

func podReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// Pod explains a pod, with f.Member where it is one of a member.
func Pod(f *Facts, pod *corev1.Pod) *Explanation {
	e := &Explanation{Kind: KindPod, Namespace: pod.Namespace, Name: pod.Name}
	trouble := podTrouble(pod)
	own := Step{Topic: Pods, State: Done, Message: "the pod runs"}
	if pod.Status.Phase == corev1.PodSucceeded {
		own.Message = "the pod has succeeded"
	}
	if trouble != "" {
		own.State, own.Reason, own.Message = Blocked, v1alpha1.ReasonPodsNotStarted, "the pod "+trouble
	}
	if f.Member == nil {
		return e.withoutMember(f, pod, own)
	}
	if node := pod.Annotations[v1alpha1.AnnotationNode]; node != "" {
		own.Details = append(own.Details, fmt.Sprintf("it was released for node %s at %s", node, pod.Annotations[v1alpha1.AnnotationReleasedAt]))
	}
	steps := memberSteps(f)
	if trouble == "" {
		e.Steps = []Step{own}
		return e.conclude(f, own.Message)
	}
	for i := range steps {
		if steps[i].Topic != Pods {
			continue
		}
		own.Details = append(own.Details, "its member: "+steps[i].Message)
		if gatedPod(pod) {
			own.State, own.Reason = Later, ReasonGated
		}
		steps[i] = own
	}
	if gatedPod(pod) {
		for i := range steps {
			if steps[i].Topic == Gates && steps[i].State == Done {
				steps[i] = Step{Topic: Gates, State: Waiting, Reason: ReasonGated, Message: "the pod waits behind the gate"}
			}
		}
	}
	e.Steps = steps
	return e.conclude(f, own.Message)
}

// withoutMember explains a pod of which no member is known: there is none, or the right to read it is missing.
func (e *Explanation) withoutMember(f *Facts, pod *corev1.Pod, own Step) *Explanation {
	if gatedPod(pod) {
		own.Reason = ReasonGated
	}
	text := f.missing(Claim)
	if text == "" {
		own.Details = append(own.Details, "it is not one of a managed workload: no EnsembleMember has it")
		if name := pod.Labels[v1alpha1.LabelMember]; name != "" {
			own.Details = append(own.Details, fmt.Sprintf("its label says that it is of EnsembleMember %s, which is not there: its workload is not "+
				"managed, or of a kind that the controller was not told to manage (--kinds)", name))
		}
		e.Steps = []Step{own}
		return e.conclude(f, own.Message)
	}
	if own.Reason == ReasonGated {
		own.State = Waiting
	}
	e.Steps = []Step{unknown(Claim, text), own}
	e.conclude(f, own.Message)
	if own.Reason == ReasonGated {
		e.Do = "Ask an administrator for the right that is missing: what the pod waits for is what its EnsembleMember waits for."
	}
	return e
}

func joined(what, reason, message string) string {
	if reason != "" {
		what += ": " + reason
	}
	if message != "" {
		what += ": " + message
	}
	return what
}
