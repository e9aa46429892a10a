package explain

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// KindMember and its kin are what can be explained.
const (
	KindMember = "Member"
	KindPool   = "Pool"
	KindPod    = "Pod"
	KindNode   = "Node"
)

// Reasons of steps that no object states.
const (
	// ReasonNotObserved: the controller has not looked at the object since it was changed.
	ReasonNotObserved = "NotObserved"
	// ReasonAutoscalerMissing: no Cluster Autoscaler has reported its state.
	ReasonAutoscalerMissing = "AutoscalerMissing"
	// ReasonAutoscalerSilent: Cluster Autoscaler told its state last long ago.
	ReasonAutoscalerSilent = "AutoscalerSilent"
	// ReasonGroupUnknown: Cluster Autoscaler knows nothing of the pool.
	ReasonGroupUnknown = "GroupUnknown"
	// ReasonGroupUnhealthy: Cluster Autoscaler orders nothing because too many nodes of the group are not Ready.
	ReasonGroupUnhealthy = "GroupUnhealthy"
	// ReasonGroupBackoff: Cluster Autoscaler leaves the group alone for a while after a failure.
	ReasonGroupBackoff = "GroupBackoff"
	// ReasonFloorIgnored: Cluster Autoscaler knows the floor and does not raise the group to it.
	ReasonFloorIgnored = "FloorIgnored"
	// ReasonNodeNotReady: a node is there and not Ready.
	ReasonNodeNotReady = "NodeNotReady"
	// ReasonNodeTainted: a node has a taint that its pool's template does not have.
	ReasonNodeTainted = "NodeTainted"
	// ReasonNodeCordoned: a node is kept from new pods by a person.
	ReasonNodeCordoned = "NodeCordoned"
	// ReasonGated: pods wait behind their gate.
	ReasonGated = "Gated"
)

// Member explains f.Member.
func Member(f *Facts) *Explanation {
	m := f.Member
	e := &Explanation{Kind: KindMember, Namespace: m.Namespace, Name: m.Name}
	e.Steps = memberSteps(f)
	return e.conclude(f, memberDone(m))
}

// memberDone says how a member is that waits for nothing.
func memberDone(m *v1alpha1.EnsembleMember) string {
	if c := condition(
		m, v1alpha1.ConditionCapacityReserved,
	); c != nil && (c.Reason == v1alpha1.ReasonFinished || c.Reason == v1alpha1.ReasonDeleting) {
		return c.Message
	}
	return fmt.Sprintf("it waits for nothing: %d of %s", m.Status.Running, plural(m.Status.Size, "pod runs", "pods run"))
}

// afterSize are the topics that come after the desired size.
var afterSize = []Topic{Claim, Queue, Floor, ClusterAutoscaler, Machines, Nodes, Gates, Pods}

func memberSteps(f *Facts) []Step {
	m := f.Member
	size := sizeStep(m)
	if size.State == Blocked || ended(m) {
		steps := append([]Step{size}, later(afterSize, "comes after that")...)
		if c := condition(m, v1alpha1.ConditionResized); size.State != Blocked && c != nil && c.Status != metav1.ConditionTrue {
			steps[len(steps)-1] = Step{Topic: Pods, State: Waiting, Reason: c.Reason, Message: c.Message}
		}
		return steps
	}
	claim := claimStep(m)
	steps := []Step{size, claim, queueStep(f, claim.State == Done)}
	if claim.State != Done {
		steps = append(steps, later([]Topic{Floor, ClusterAutoscaler, Machines, Nodes}, "comes after the claim")...)
		return append(steps, gateStep(f, true), podStep(f, true))
	}
	if isTrue(m, v1alpha1.ConditionCapacityReady) {
		steps = append(steps, capacityDone(f)...)
	} else {
		pools := claimedPools(f)
		before := []Step{floorStep(f, pools), autoscalerStep(f, pools), machineStep(f, pools)}
		steps = append(append(steps, before...), nodeStep(f, !anyOpen(before)))
	}
	waits := anyOpen(steps)
	return append(steps, gateStep(f, waits), podStep(f, waits))
}

// ended reports whether a member's workload has finished or is being deleted.
func ended(m *v1alpha1.EnsembleMember) bool {
	c := condition(m, v1alpha1.ConditionCapacityReserved)
	return c != nil && (c.Reason == v1alpha1.ReasonFinished || c.Reason == v1alpha1.ReasonDeleting)
}

// undecided are the reasons for which nobody decides about a size until a person does something.
var undecided = []string{v1alpha1.ReasonInvalid, v1alpha1.ReasonSuspended, v1alpha1.ReasonKindNotManaged}

// groupSizes say of each group of pods, of a member with several, how many of those that are wanted it has.
func groupSizes(m *v1alpha1.EnsembleMember) string {
	if len(m.Spec.Groups) == 0 {
		return ""
	}
	sizes := make([]string, len(m.Spec.Groups))
	for i := range m.Spec.Groups {
		group := &m.Spec.Groups[i]
		sizes[i] = fmt.Sprintf("%s %d of %d", group.Name, v1alpha1.RecordOf(m, group.Name).Size, group.Size)
	}
	return " (" + strings.Join(sizes, ", ") + ")"
}

// sizeStep says what size is wanted and by whom.
func sizeStep(m *v1alpha1.EnsembleMember) Step {
	s := Step{Topic: DesiredSize, State: Done}
	spec := &m.Spec
	bound := ""
	switch {
	case spec.Size == spec.MaxSize && spec.Size > m.Status.Size:
		bound = ", which is spec.maxSize"
	case spec.Size == spec.MinSize && spec.Size < m.Status.Size:
		bound = ", which is spec.minSize"
	}
	s.Message = fmt.Sprintf("desired size %d%s, current size %d%s", spec.Size, bound, m.Status.Size, groupSizes(m))
	if r := spec.Request; r != nil && r.Size == spec.Size {
		s.Details = append(s.Details, fmt.Sprintf("asked for by %s at %s (%s by %d)", r.By, formatTime(r.At.Time), r.Action, r.Amount))
	}
	if r := m.Status.LastRequest; r != nil && r.Outcome != "" {
		s.Details = append(s.Details, "the last request: "+r.Outcome)
	}
	c := condition(m, v1alpha1.ConditionCapacityReserved)
	switch {
	case c == nil || m.Status.ObservedGeneration < m.Generation:
		s.State, s.Reason = Waiting, ReasonNotObserved
		s.Message += "; the controller has yet to look at it"
	case slices.Contains(undecided, c.Reason):
		s.State, s.Reason, s.Message = Blocked, c.Reason, c.Message
	case ended(m):
		s.Reason, s.Message = c.Reason, c.Message
	}
	return s
}

// passing are the reasons for want of a claim that pass by themselves.
var passing = []string{v1alpha1.ReasonPoolFull, v1alpha1.ReasonQueued, v1alpha1.ReasonBackingOff}

// claimStep says whether pools have granted the nodes.
func claimStep(m *v1alpha1.EnsembleMember) Step {
	c := condition(m, v1alpha1.ConditionCapacityReserved)
	if c == nil {
		return Step{Topic: Claim, State: Later, Message: "the controller has said nothing of it yet"}
	}
	s := Step{Topic: Claim, State: Done, Message: c.Message}
	if c.Status != metav1.ConditionTrue {
		s.State, s.Reason = Blocked, c.Reason
		if slices.Contains(passing, c.Reason) {
			s.State = Waiting
		}
	}
	if g := m.Status.Growth; g != nil {
		s.Details = append(s.Details, fmt.Sprintf("asked for since %s", formatTime(g.Since.Time)))
		for i := range g.Failures {
			s.Details = append(s.Details, fmt.Sprintf("%s: %s", g.Failures[i].Reason, g.Failures[i].Message))
		}
		if g.Attempts > 0 {
			s.Details = append(s.Details, plural(g.Attempts, "attempt has failed in all pools", "attempts have failed in all pools"))
		}
	}
	for i := range m.Status.Findings {
		if text := m.Status.Findings[i].Unusable; text != "" {
			s.Details = append(s.Details, fmt.Sprintf("%s is not asked: %s", m.Status.Findings[i].NodePool, text))
		}
	}
	return s
}

// gateStep says how many pods wait behind their gate. waits is set while something is outstanding before it.
func gateStep(f *Facts, waits bool) Step {
	s := Step{Topic: Gates, State: Done, Message: "no pod waits behind the gate"}
	if text := f.missing(Gates); text != "" {
		return unknown(Gates, text)
	}
	gated := int32(0)
	for i := range f.Pods {
		if gatedPod(&f.Pods[i]) {
			gated++
		}
	}
	switch {
	case gated > 0:
		s.State, s.Reason = Later, ReasonGated
		s.Message = plural(gated, "pod waits", "pods wait") + " behind the gate until nodes for all of them are Ready"
		if !waits {
			s.State = Waiting
		}
	case f.Member.Spec.Size > f.Member.Status.Size:
		s.State = Later
		s.Message = plural(f.Member.Spec.Size-f.Member.Status.Size, "pod is made", "pods are made") + " when the nodes are Ready"
		if !waits {
			s.State, s.Reason, s.Message = Waiting, v1alpha1.ReasonResizing, conditionMessage(f.Member, v1alpha1.ConditionResized)
		}
	}
	return s
}

// podStep says which pods do not run. waits is set while something is outstanding before it.
func podStep(f *Facts, waits bool) Step {
	m := f.Member
	s := Step{Topic: Pods, State: Done, Message: fmt.Sprintf("%d of %s", m.Status.Running, plural(m.Status.Size, "pod runs", "pods run"))}
	if c := condition(m, v1alpha1.ConditionResized); c != nil && c.Status != metav1.ConditionTrue && c.Reason == v1alpha1.ReasonPodsLeaving {
		s.State, s.Reason, s.Message = Waiting, c.Reason, c.Message
	}
	if c := condition(m, v1alpha1.ConditionPodsRunning); c != nil && c.Status != metav1.ConditionTrue {
		s.State, s.Reason, s.Message = Waiting, c.Reason, c.Message
		if c.Reason == v1alpha1.ReasonPodsNotMade || c.Reason == v1alpha1.ReasonPodsNotStarted {
			s.State = Blocked
		}
	}
	if c := condition(m, v1alpha1.ConditionResized); s.State == Done && m.Spec.Size < m.Status.Size && c != nil {
		s.State, s.Reason, s.Message = Waiting, c.Reason, c.Message
	}
	if s.State == Waiting && waits {
		s.State = Later
	}
	if text := f.missing(Pods); text != "" {
		s.Details = append(s.Details, "the pods themselves are not known: "+text)
		return s
	}
	const most = 5
	for i := range f.Pods {
		pod := &f.Pods[i]
		if text := podTrouble(pod); text != "" && !gatedPod(pod) && len(s.Details) < most {
			s.Details = append(s.Details, fmt.Sprintf("pod %s: %s", pod.Name, text))
		}
	}
	return s
}

// claimedPools are the pools that the member has claims on, in its order of preference.
func claimedPools(f *Facts) []string {
	var names []string
	for i := range f.Member.Status.Reservations {
		if r := &f.Member.Status.Reservations[i]; r.Nodes > 0 {
			names = append(names, r.NodePool)
		}
	}
	return names
}

// open reports whether something is outstanding.
func (s *Step) open() bool { return s.State == Waiting || s.State == Blocked }

func anyOpen(steps []Step) bool {
	return slices.ContainsFunc(steps, func(s Step) bool { return s.open() })
}

func unknown(topic Topic, text string) Step {
	return Step{Topic: topic, State: Unknown, Message: "not known: " + text}
}

func later(topics []Topic, message string) []Step {
	var steps []Step
	for _, t := range topics {
		steps = append(steps, Step{Topic: t, State: Later, Message: message})
	}
	return steps
}

func condition(m *v1alpha1.EnsembleMember, kind string) *metav1.Condition {
	return meta.FindStatusCondition(m.Status.Conditions, kind)
}

func isTrue(m *v1alpha1.EnsembleMember, kind string) bool {
	return meta.IsStatusConditionTrue(m.Status.Conditions, kind)
}

func conditionMessage(m *v1alpha1.EnsembleMember, kind string) string {
	if c := condition(m, kind); c != nil {
		return c.Message
	}
	return ""
}

// key is how a member is called.
func key(m *v1alpha1.EnsembleMember) string { return strings.TrimPrefix(m.Namespace+"/"+m.Name, "/") }
