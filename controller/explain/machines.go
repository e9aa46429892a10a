package explain

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// MachineState is how far a machine is, in the word of its condition Ready.
func MachineState(m *v1alpha1.PoolMachine) string {
	if c := meta.FindStatusCondition(m.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		return c.Reason
	}
	return v1alpha1.ReasonMachineOrdered
}

// MachineReady reports whether the node of a machine is Ready.
func MachineReady(m *v1alpha1.PoolMachine) bool {
	return meta.IsStatusConditionTrue(m.Status.Conditions, v1alpha1.ConditionReady)
}

// machineStep says what the machines of the pools are at that are not Ready.
func machineStep(f *Facts, pools []string) Step {
	if text := f.missing(Machines); text != "" {
		return unknown(Machines, text)
	}
	s := Step{Topic: Machines, State: Done}
	for _, name := range pools {
		if pool := f.pool(name); pool != nil {
			f.machinesOf(pool, &s)
		}
	}
	if s.Message == "" {
		s.Message = "none is outstanding"
	}
	return s
}

// machinesOf takes up the machines of one pool.
func (f *Facts) machinesOf(pool *v1alpha1.NodePool, s *Step) {
	counts := map[string]int{}
	var states []string
	var oldest, failed *v1alpha1.PoolMachine
	for i := range f.Machines {
		m := &f.Machines[i]
		if m.Spec.NodePool != pool.Name || MachineReady(m) {
			continue
		}
		state := MachineState(m)
		if counts[state]++; counts[state] == 1 {
			states = append(states, state)
		}
		switch {
		case m.Status.Failure != nil:
			failed = m
		case state == v1alpha1.ReasonMachineGoing:
		case oldest == nil || m.Spec.OrderedAt.Before(&oldest.Spec.OrderedAt):
			oldest = m
		}
	}
	slices.Sort(states)
	var words []string
	for _, state := range states {
		words = append(words, fmt.Sprintf("%d %s", counts[state], state))
	}
	line := fmt.Sprintf("%s: %d of %d machines are Ready", pool.Name, pool.Status.Ready, pool.Spec.Replicas)
	if len(words) > 0 {
		line += "; the others: " + strings.Join(words, ", ")
	}
	failure := pool.Status.LastFailure
	if failed != nil && failure == nil {
		failure = failed.Status.Failure
	}
	throttled := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionThrottled)
	switch {
	case oldest != nil:
		due := oldest.Spec.OrderedAt.Add(pool.Spec.ProvisionTimeout.Duration)
		line += fmt.Sprintf("; %s was ordered %s and has until %s", oldest.Name, ago(f.Now, oldest.Spec.OrderedAt.Time), formatTime(due))
		reason := MachineState(oldest)
		if throttled != nil && throttled.Status == "True" {
			line, reason = line+"; "+throttled.Message, throttled.Reason
		}
		s.add(Waiting, reason, line)
	case failed != nil:
		s.add(Waiting, v1alpha1.ReasonMachineFailed, line)
	case pool.Status.Ready < pool.Spec.Replicas && len(words) == 0:
		s.add(Waiting, v1alpha1.ReasonMachineOrdered, line+"; the others are to be ordered")
	default:
		s.add(Done, "", line)
	}
	if failure != nil && (failed != nil || (pool.Status.FloorChangedAt != nil && failure.Time.After(pool.Status.FloorChangedAt.Time))) {
		s.Details = append(s.Details, fmt.Sprintf("%s: the last failure, %s, of machine %s: %s: %s",
			pool.Name, ago(f.Now, failure.Time.Time), failure.Machine, failure.Code, failure.Message))
		if oldest == nil && failed != nil {
			s.Reason = failure.Code
		}
	}
}

// nodeStep says which nodes are not usable. arrived is set when nothing is known to be
// outstanding before it, so that nodes alone are to blame.
func nodeStep(f *Facts, arrived bool) Step {
	s := Step{Topic: Nodes, State: Later, Message: conditionMessage(f.Member, v1alpha1.ConditionCapacityReady)}
	if arrived {
		s.State, s.Reason = Waiting, v1alpha1.ReasonWaitingForNodes
	}
	if text := f.missing(Nodes); text != "" {
		s.Details = append(s.Details, "the nodes themselves are not known: "+text)
		return s
	}
	const most = 8
	for i := range f.Nodes {
		node := &f.Nodes[i]
		reason, text := nodeTrouble(f, node)
		if text == "" {
			continue
		}
		if arrived && s.Reason == v1alpha1.ReasonWaitingForNodes {
			s.Reason = reason
			if reason != ReasonNodeNotReady {
				s.State = Blocked
			}
		}
		if len(s.Details) < most {
			s.Details = append(s.Details, fmt.Sprintf("node %s %s", node.Name, text))
		}
	}
	for i := range f.Member.Status.Findings {
		finding := &f.Member.Status.Findings[i]
		if finding.Unusable != "" {
			s.State, s.Reason = Blocked, v1alpha1.ReasonNodesUnusable
			s.Details = append(s.Details, fmt.Sprintf("%s: %s", finding.NodePool, finding.Unusable))
		}
	}
	return s
}

// nodeTrouble says why a node is of no use to pods that come, as the rest of a sentence about it; empty when it is of use.
func nodeTrouble(f *Facts, node *corev1.Node) (reason, text string) {
	ready := nodeReady(node)
	switch {
	case node.DeletionTimestamp != nil || v1alpha1.Releasing(node):
		return v1alpha1.ReasonReleasing, "is being released"
	case ready == nil:
		return ReasonNodeNotReady, "has no condition Ready"
	case ready.Status != corev1.ConditionTrue:
		since := formatTime(ready.LastTransitionTime.Time)
		return ReasonNodeNotReady, fmt.Sprintf("is not Ready since %s: %s: %s", since, ready.Reason, ready.Message)
	case node.Spec.Unschedulable:
		return ReasonNodeCordoned, "is cordoned"
	}
	pool := f.pool(node.Labels[v1alpha1.LabelNodePool])
	if pool == nil && f.missing(Nodes) != "" {
		// Which taints its pool's template has is not known.
		return "", ""
	}
	for _, taint := range keepsOff(node) {
		if pool == nil || !slices.ContainsFunc(pool.Spec.Template.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) }) {
			return ReasonNodeTainted, fmt.Sprintf("has the taint %s, which its pool's template does not have", taint.ToString())
		}
	}
	return "", ""
}

// keepsOff are the taints of a node that keep pods off it which do not tolerate them.
func keepsOff(node *corev1.Node) []corev1.Taint {
	return slices.DeleteFunc(
		slices.Clone(node.Spec.Taints), func(t corev1.Taint) bool { return t.Effect == corev1.TaintEffectPreferNoSchedule },
	)
}

func nodeReady(node *corev1.Node) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c
		}
	}
	return nil
}
