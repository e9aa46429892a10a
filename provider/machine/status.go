package machine

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// Codes of failures that no launcher tells of.
const (
	// CodeNodeDeleted is a machine whose node somebody else has deleted.
	CodeNodeDeleted = "NodeDeleted"
	// CodeTakenAway is a machine that the cloud has taken away, as it had announced.
	CodeTakenAway = "TakenAway"
	// CodeVanished is a machine that its cloud does not list any more.
	CodeVanished = "Vanished"
)

// registersWithin is how long after its creation a node that is not Ready yet is written down, so that this and its being
// Ready are mostly one write. Nobody waits for that: a node that is not Ready is of no use.
const registersWithin = 10 * time.Second

// orderedIsTold is how long after its order the status of a machine says that the cloud has not answered: most answer at once.
const orderedIsTold = 5 * time.Second

// goingIsTold is how long after a machine was told to go its status says so.
const goingIsTold = 10 * time.Second

// listAgainWithin is how long a machine that seems to have vanished waits for a listing which says so once more.
const listAgainWithin = 5 * time.Second

// next is the status of a machine as of now, from what its record says and what is seen of it; due is when to look again though
// nothing is heard, zero for never. A failure is final, and so are a provider id and a node once known.
func next(
	m *v1alpha1.PoolMachine, seen *seen, consistency time.Duration, now time.Time,
) (status *v1alpha1.PoolMachineStatus, due time.Time) {
	status = m.Status.DeepCopy()
	if m.DeletionTimestamp != nil {
		// That it goes is told by the deletion timestamp. Only of one that takes its time a status is written.
		if due = m.DeletionTimestamp.Add(goingIsTold); now.Before(due) {
			return status, due
		}
		setConditions(m, status, seen, now)
		return status, time.Time{}
	}
	takeOutcome(m, status, seen, now)
	takeInstance(m, status, seen)
	if node := seen.node; node != nil && node.Spec.ProviderID != "" && status.Failure == nil {
		if status.NodeName == "" && now.Sub(node.CreationTimestamp.Time) < registersWithin && !ready(node) {
			due = node.CreationTimestamp.Add(registersWithin)
		}
		status.ProviderID, status.NodeName = node.Spec.ProviderID, node.Name
	}
	if since := absence(status, seen); !since.IsZero() && status.Failure == nil {
		until := since.Add(consistency + seen.lag)
		switch {
		case now.Before(until):
			due = until
		case seen.listed.Before(until):
			// That it was missed once, and that the cloud cannot be asked since, says nothing.
			due = now.Add(listAgainWithin)
		default:
			status.Failure = failed(
				m, v1alpha1.FailureOther, CodeVanished, now, "the cloud has not listed the machine for "+now.Sub(since).Round(time.Second).String(),
			)
		}
	}
	switch {
	case !seen.nodeGone || status.Failure != nil:
	case status.LeavingAt != nil:
		status.Failure = failed(m, v1alpha1.FailureOther, CodeTakenAway, now, "the cloud has taken the machine away, as it had announced")
	default:
		status.Failure = failed(m, v1alpha1.FailureOther, CodeNodeDeleted, now,
			fmt.Sprintf("node %s was deleted, and not by the provider; the machine is ended", m.Status.NodeName))
	}
	setConditions(m, status, seen, now)
	if told := m.Spec.OrderedAt.Add(orderedIsTold); len(m.Status.Conditions) == 0 && now.Before(told) && nothingKnown(status) {
		return m.Status.DeepCopy(), told
	}
	return status, due
}

// nothingKnown reports whether a status says nothing but that the cloud has not answered.
func nothingKnown(status *v1alpha1.PoolMachineStatus) bool {
	c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionLaunched)
	return status.Failure == nil && c != nil && c.Reason == v1alpha1.ReasonMachineOrdered
}

// takeOutcome writes down what the cloud has answered.
func takeOutcome(m *v1alpha1.PoolMachine, status *v1alpha1.PoolMachineStatus, seen *seen, now time.Time) {
	if seen.outcome == nil || status.Failure != nil {
		return
	}
	switch o := seen.outcome; o.Kind {
	case launch.Accepted:
		if status.ProviderID == "" {
			status.ProviderID = o.ProviderID
		}
		status.Domain = o.Domain
	case launch.OutOfResources:
		status.Failure = failed(m, v1alpha1.FailureOutOfResources, o.Code, now, o.Message)
	case launch.Invalid:
		status.Failure = failed(m, v1alpha1.FailureOther, o.Code, now, o.Message)
	case launch.Throttled:
	}
}

// takeInstance writes down what the newest listing says.
func takeInstance(m *v1alpha1.PoolMachine, status *v1alpha1.PoolMachineStatus, seen *seen) {
	instance := seen.instance
	if instance == nil || status.Failure != nil {
		return
	}
	if status.ProviderID == "" {
		status.ProviderID = instance.ProviderID
	}
	if instance.Domain != "" {
		status.Domain = instance.Domain
	}
	if !instance.LeavingAt.IsZero() {
		at := metav1.NewMicroTime(instance.LeavingAt)
		status.LeavingAt = &at
	}
	if f := instance.Failure; f != nil {
		status.Failure = failed(m, f.Class, f.Code, f.Time.Time, f.Message)
	}
}

// absence is since when a machine that was launched is in no listing, where that means anything: while its node is Ready the
// machine is there, whatever the cloud lists.
func absence(status *v1alpha1.PoolMachineStatus, seen *seen) time.Time {
	if (status.ProviderID == "" && !isLaunched(status)) || ready(seen.node) {
		return time.Time{}
	}
	return seen.absentSince
}

// failed is a failure as it can be written. What a cloud says is cut: a status that the API server refuses for its length would never tell
// of the failure, and never let go what the cloud keeps of the machine.
func failed(m *v1alpha1.PoolMachine, class v1alpha1.FailureClass, code string, at time.Time, message string) *v1alpha1.MachineFailure {
	const longest, longestCode = 4096, 256
	return &v1alpha1.MachineFailure{
		Machine: m.Name, Time: metav1.NewMicroTime(at), Class: class, Code: cut(code, longestCode), Message: cut(message, longest),
	}
}

// cut is the beginning of a text, of at most so many bytes, that ends with a whole character.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}

// state is a reason with its message.
type state struct{ reason, message string }

// setConditions says how far a machine is.
func setConditions(m *v1alpha1.PoolMachine, status *v1alpha1.PoolMachineStatus, seen *seen, now time.Time) {
	launched, before := launchState(status, seen)
	registered := status.NodeName != "" && status.Failure == nil
	up := registered && ready(seen.node) && status.LeavingAt == nil
	set := func(kind string, is bool, s state) {
		c := metav1.Condition{
			Type: kind, Status: metav1.ConditionFalse, Reason: s.reason, Message: s.message, LastTransitionTime: metav1.NewTime(now),
		}
		if is {
			c.Status = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&status.Conditions, c)
	}
	if launched {
		set(v1alpha1.ConditionLaunched, true, state{v1alpha1.ReasonLaunched, "the machine exists"})
	} else {
		set(v1alpha1.ConditionLaunched, false, before)
	}
	switch {
	case registered:
		set(v1alpha1.ConditionRegistered, true, state{v1alpha1.ReasonRegistered, "its node is " + status.NodeName})
	default:
		set(v1alpha1.ConditionRegistered, false, before)
	}
	switch {
	case m.DeletionTimestamp != nil:
		set(v1alpha1.ConditionReady, false, state{v1alpha1.ReasonMachineGoing, cmp.Or(seen.why, "it was told to go")})
	case !registered:
		set(v1alpha1.ConditionReady, false, before)
	case status.LeavingAt != nil:
		set(
			v1alpha1.ConditionReady, false,
			state{v1alpha1.ReasonMachineLeaving, "the cloud takes it away at " + status.LeavingAt.UTC().Format(time.RFC3339)},
		)
	case up:
		set(v1alpha1.ConditionReady, true, state{v1alpha1.ConditionReady, "its node is Ready"})
	default:
		set(v1alpha1.ConditionReady, false, state{v1alpha1.ReasonMachineNotReady, "its node is not Ready"})
	}
}

// launchState says whether a machine exists, and how far it is before its node does.
func launchState(status *v1alpha1.PoolMachineStatus, seen *seen) (launched bool, before state) {
	known := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionLaunched)
	launched = status.ProviderID != "" || (known != nil && known.Status == metav1.ConditionTrue) ||
		(seen.outcome != nil && seen.outcome.Kind == launch.Accepted) || (seen.instance != nil && seen.instance.Failure == nil)
	switch {
	case status.Failure != nil:
		return false, state{v1alpha1.ReasonMachineHasFailed, status.Failure.Code + ": " + status.Failure.Message}
	case launched:
		return true, state{v1alpha1.ReasonMachineBooting, "its node does not exist yet"}
	case seen.outcome != nil && seen.outcome.Kind == launch.Throttled:
		return false, state{v1alpha1.ReasonMachineThrottled, seen.outcome.Message}
	case known != nil && known.Reason == v1alpha1.ReasonMachineThrottled:
		return false, state{known.Reason, known.Message}
	default:
		return false, state{v1alpha1.ReasonMachineOrdered, "the cloud has not answered yet"}
	}
}

// onlyRegistration reports whether two statuses differ in nothing but that the node exists. A provider id that is new is more: by
// what is written of it events of the node are found to be the machine's, and so that it is Ready.
func onlyRegistration(before, after *v1alpha1.PoolMachineStatus) bool {
	same := after.DeepCopy()
	same.NodeName, same.Conditions = before.NodeName, before.Conditions
	return equality.Semantic.DeepEqual(before, same) && isLaunched(before)
}

func ready(node *corev1.Node) bool {
	if node == nil {
		return false
	}
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func isLaunched(status *v1alpha1.PoolMachineStatus) bool {
	return meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionLaunched)
}
