package resize

import (
	"fmt"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// TestRefusal: what the scheduler says of a pod is kept without what changes with the nodes of others.
func TestRefusal(t *testing.T) {
	t.Parallel()
	const others = "node(s) didn't match Pod's node affinity/selector"
	for name, row := range map[string]struct {
		said   string
		pinned bool
		want   string
	}{
		"one node of many": {
			"0/12 nodes are available: 1 Insufficient cpu, 11 " + others + ". preemption: 0/12 nodes are available: 1 No preemption victims found " +
				"for incoming pod, 11 Preemption is not helpful for scheduling.",
			true, "Insufficient cpu",
		},
		"and more of them": {
			"0/13 nodes are available: 1 Insufficient cpu, 12 " + others + ". no new claims to deallocate, preemption: 0/13 nodes are available: " +
				"13 Preemption is not helpful for scheduling.",
			true, "Insufficient cpu",
		},
		"the label of the node alone": {"0/2 nodes are available: 2 " + others + ".", true, others},
		"a pod that may go anywhere": {
			"0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient memory.", false, "Insufficient memory, node(s) had " +
				"untolerated taint(s)",
		},
		"in another order": {
			"0/3 nodes are available: 1 Insufficient memory, 2 node(s) had untolerated taint(s).", false, "Insufficient memory, node(s) had " +
				"untolerated taint(s)",
		},
		"no reason":            {"", false, "it does not say why"},
		"something else":       {`persistentvolumeclaim "data" not found`, false, `persistentvolumeclaim "data" not found`},
		"a pod that may too":   {"0/2 nodes are available: 1 Insufficient cpu, 1 " + others + ".", false, "Insufficient cpu, " + others},
		"a sentence of others": {"running PreFilter plugin \"x\": no.", false, "running PreFilter plugin \"x\": no"},
	} {
		pod := &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: row.said},
		}}}
		if row.pinned {
			pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "n"}
		}
		if got := refusal(pod); got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
	if got := refusal(&corev1.Pod{}); got != "" {
		t.Errorf("a pod that was not refused: %q", got)
	}
}

func waits(reason, message string) corev1.ContainerStatus {
	return corev1.ContainerStatus{
		Name: "c", Image: "flux:1", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
	}
}

func before(s corev1.ContainerStatus, code int32, reason, message string) corev1.ContainerStatus {
	s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message}
	return s
}

// TestCauses: why a pod does not start is said in the kubelet's words, and in the same for as long as it is the same.
func TestCauses(t *testing.T) {
	t.Parallel()
	running := corev1.ContainerStatus{Name: "c", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	readyAgain := before(running, 1, "Error", "")
	readyAgain.Ready = true
	const pull, crash, start = `ImagePullBackOff: container c, image "flux:1"`, "CrashLoopBackOff: container c ended with exit code 1",
		`RunContainerError: container c: exec: "fluxx": not found`
	for name, row := range map[string]struct {
		change func(*corev1.Pod)
		want   string
	}{
		"nothing yet": {func(*corev1.Pod) {}, ""},
		"it is being created": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waits("ContainerCreating", "")}
		}, ""},
		"the image cannot be pulled": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waits("ErrImagePull", "rpc error: not found")}
		}, pull},
		"and it waits with that": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waits("ImagePullBackOff", "Back-off pulling image")}
		}, pull},
		"that of an init container": {func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{waits("ErrImagePull", "")}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waits("PodInitializing", "")}
		}, pull},
		"a Secret is missing": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waits("CreateContainerConfigError", `secret "x" not found`)}
		}, `CreateContainerConfigError: container c: secret "x" not found`},
		"it crashes": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{
				before(waits("CrashLoopBackOff", "back-off 20s restarting failed container"), 1, "Error", ""),
			}
		}, crash},
		"and waits longer": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{
				before(waits("CrashLoopBackOff", "back-off 40s restarting failed container"), 1, "Error", ""),
			}
		}, crash},
		"and runs in between": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{before(running, 1, "Error", "")}
		}, crash},
		"and has ended just now": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{
				{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error"}}},
			}
		}, crash},
		"and is Ready": {func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{readyAgain} }, ""},
		"it is killed": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{before(waits("CrashLoopBackOff", ""), 137, "OOMKilled", "")}
		}, "CrashLoopBackOff: container c ended with exit code 137 (OOMKilled)"},
		"its command is missing": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{
				before(waits("RunContainerError", "x"), 128, "StartError", `exec: "fluxx": not found`),
			}
		}, start},
		"and it waits with it": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{
				before(waits("CrashLoopBackOff", "back-off 10s"), 128, "StartError", `exec: "fluxx": not found`),
			}
		}, start},
		"the node does not take it": {func(p *corev1.Pod) {
			p.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "OutOfcpu", Message: "Node didn't have enough resource: cpu"}
		}, "OutOfcpu: Node didn't have enough resource: cpu"},
		"it has failed": {func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodFailed
			p.Status.ContainerStatuses = []corev1.ContainerStatus{
				{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error"}}},
			}
		}, "Failed: container c ended with exit code 3"},
		"it runs": {func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Conditions = corev1.PodRunning, []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}, ""},
		"the scheduler refuses it": {func(p *corev1.Pod) {
			p.Spec.NodeName = ""
			p.Status.Conditions = []corev1.PodCondition{
				{
					Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
					Message: "0/1 nodes are available: 1 Insufficient cpu.",
				},
			}
		}, "Unschedulable: Insufficient cpu"},
		"it waits for its gate": {func(p *corev1.Pod) {
			p.Spec.NodeName, p.Spec.SchedulingGates = "", []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}}
			p.Status.Conditions = []corev1.PodCondition{
				{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated},
			}
		}, ""},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "m-0-x", Labels: map[string]string{v1alpha1.LabelMember: "m"}}}
		pod.Spec.NodeName, pod.Status.Phase = "n", corev1.PodPending
		row.change(pod)
		if got := podOf(minicluster.Kind{}, detail(t, detail(t, pod))).cause; got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}

// TestNotStarted: pods that do not start are counted, and one is named.
func TestNotStarted(t *testing.T) {
	t.Parallel()
	pull, crash := waits("ErrImagePull", ""), before(waits("CrashLoopBackOff", ""), 1, "Error", "")
	for name, row := range map[string]struct {
		pods []corev1.PodStatus
		want string
	}{
		"none": {[]corev1.PodStatus{{Phase: corev1.PodPending}, {Phase: corev1.PodSucceeded}}, ""},
		"one": {
			[]corev1.PodStatus{{}, {ContainerStatuses: []corev1.ContainerStatus{pull}}},
			`pod m-1 does not start: ImagePullBackOff: container c, image "flux:1"`,
		},
		"several": {
			[]corev1.PodStatus{{ContainerStatuses: []corev1.ContainerStatus{pull}}, {ContainerStatuses: []corev1.ContainerStatus{pull}}},
			`2 pods do not start, m-0 first among them: ImagePullBackOff: container c, image "flux:1"`,
		},
		"of different kinds": {
			[]corev1.PodStatus{
				{ContainerStatuses: []corev1.ContainerStatus{pull}}, {ContainerStatuses: []corev1.ContainerStatus{crash}},
				{ContainerStatuses: []corev1.ContainerStatus{crash}},
			},
			"3 pods do not start, for 2 of them because of this, m-1 first among them: CrashLoopBackOff: container c ended with exit code 1",
		},
		"beyond the size": {[]corev1.PodStatus{{}, {}, {}, {ContainerStatuses: []corev1.ContainerStatus{pull}}}, ""},
	} {
		var read []*podReading
		for i, status := range row.pods {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{
					Name: fmt.Sprintf("m-%d", i), Labels: map[string]string{batchv1.JobCompletionIndexAnnotation: fmt.Sprint(i)},
				},
				Status: status,
			}
			pod.Spec.NodeName = "n"
			read = append(read, podOf(minicluster.Kind{}, pod))
		}
		if got := ranksOf(read, 3, plan.Highest).notStarted; got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
	// One that failed and has another in its place is of no interest, one that has none is.
	failed := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "m-0-a"}, Status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "OutOfcpu"}}
	another := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "m-0-b"}, Spec: corev1.PodSpec{NodeName: "n"}}
	read := []*podReading{podOf(minicluster.Kind{}, failed)}
	if got := ranksOf(read, 1, plan.Highest).notStarted; got != "pod m-0-a does not start: OutOfcpu" {
		t.Errorf("a pod that was refused: %q", got)
	}
	read = append(read, podOf(minicluster.Kind{}, another))
	if got := ranksOf(read, 1, plan.Highest).notStarted; got != "" {
		t.Errorf("a pod that was refused, with another in its place: %q", got)
	}
}
