package nodegroup

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// report fills in what the status says.
func (g *Group) report(d *Decisions) {
	d.Replicas = int32(len(g.Machines)) //nolint:gosec // At most MaxSize and the machines on their way out.
	for i := range g.Machines {
		if g.Machines[i].Node != nil && g.Machines[i].Node.Ready {
			d.Ready++
		}
	}
	machines := g.machinesCondition(d)
	d.Conditions = []metav1.Condition{g.floorCondition(d), machines, g.boundsCondition()}
	d.Notes = []metav1.Condition{g.templateCondition(), g.pauseCondition(), g.throttledCondition()}
	d.WhenReady = machines.Message
	if g.Paused {
		d.WhenReady = "paused; " + machines.Message
	}
}

// machinesCondition says whether there are as many machines as the target calls for, each with a Ready node.
func (g *Group) machinesCondition(d *Decisions) metav1.Condition {
	live, ready := g.live(), int32(0)
	var failed *Machine
	for _, m := range live {
		if m.Node != nil && m.Node.Ready && !m.lost() {
			ready++
		}
		if m.Failure != nil && (failed == nil || m.Failure.At.After(failed.Failure.At)) {
			failed = m
		}
	}
	out := metav1.Condition{Type: v1alpha1.ConditionMachinesReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonMachinesReady,
		Message: fmt.Sprintf("%d of %d nodes are Ready", ready, g.Target)}
	switch {
	case g.Deleting:
		out.Status, out.Reason = metav1.ConditionFalse, v1alpha1.ReasonDeleting
		out.Message = g.waitsFor()
	case failed != nil:
		out.Status, out.Reason = metav1.ConditionFalse, v1alpha1.ReasonMachineFailed
		out.Message = failed.whatFailed()
	case ready < g.Target:
		out.Status, out.Reason = metav1.ConditionFalse, v1alpha1.ReasonProvisioning
	case len(g.ToDelete) > 0:
		out.Status, out.Reason = metav1.ConditionFalse, v1alpha1.ReasonReleasing
		out.Message = Pluralize(len(g.ToDelete), "%d machine is on its way out: ", "%d machines are on their way out: ") + Listed(g.ToDelete)
	case len(live) > int(g.Target):
		out.Status, out.Reason = metav1.ConditionFalse, v1alpha1.ReasonReleasing
		out.Message = fmt.Sprintf("%s and the target is %d; nodes go when no pod and no member uses them",
			Pluralize(len(live), "there is %d machine", "there are %d machines"), g.Target)
	}
	out.Message += g.leavingMessage(d) + warmMessage(d.warm)
	return out
}

// whatFailed says what has become of a machine that has failed.
func (m *Machine) whatFailed() string {
	if m.lost() {
		return fmt.Sprintf("machine %s is no more: %s", m.Name, m.Failure)
	}
	return fmt.Sprintf("machine %s failed: %s", m.Name, m.Failure)
}

// leavingMessage tells of the machines that the cloud takes away: of the first to go, and how many there are.
func (g *Group) leavingMessage(d *Decisions) string {
	goes, leave := setOf(g.ToDelete), setOf(d.Leave)
	var first *Machine
	count := 0
	for i := range g.Machines {
		m := &g.Machines[i]
		if m.LeavingAt.IsZero() || m.lost() {
			continue
		}
		count++
		if first == nil || m.LeavingAt.Before(first.LeavingAt) {
			first = m
		}
	}
	if first == nil {
		return ""
	}
	message := fmt.Sprintf("; the cloud takes machine %s away at %s", first.Name, formatTime(first.LeavingAt))
	if inUse := first.Node != nil && (first.Node.Pods > 0 || first.Node.HeldBy != ""); leave[first.Name] || (goes[first.Name] && inUse) {
		message += "; its replacement is ordered first"
	}
	if count > 1 {
		message += Pluralize(count-1, "; and %d more machine later", "; and %d more machines later")
	}
	return message
}

// warmMessage tells of the nodes that stay for the next growth.
func warmMessage(warm map[string]time.Time) string {
	if len(warm) == 0 {
		return ""
	}
	last := time.Time{}
	for _, until := range warm {
		if until.After(last) {
			last = until
		}
	}
	return Pluralize(len(warm), "; %d node that a member has given up stays for the next growth, until ",
		"; %d nodes that members have given up stay for the next growth, the last until ") + formatTime(last)
}

// boundsCondition says whether the target is within maxSize.
func (g *Group) boundsCondition() metav1.Condition {
	out := metav1.Condition{Type: v1alpha1.ConditionWithinBounds, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonWithinBounds,
		Message: fmt.Sprintf("the target size %d is at most maxSize %d", g.Target, g.MaxSize)}
	if g.Target > g.MaxSize {
		out.Status, out.Reason = metav1.ConditionFalse, v1alpha1.ReasonAboveMaxSize
		out.Message = fmt.Sprintf("the target size %d is above maxSize %d: nothing is ordered or granted beyond it, "+
			"and nodes go when nobody uses them", g.Target, g.MaxSize)
	}
	return out
}

// floorCondition says whether the target is at the minimum size.
func (g *Group) floorCondition(d *Decisions) metav1.Condition {
	out := metav1.Condition{Type: v1alpha1.ConditionFloorMet, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonFloorMet,
		Message: fmt.Sprintf("the target size %d is at or above the floor %d", g.Target, d.Floor)}
	least := g.minTarget(d.Floor)
	if g.Target >= least {
		return out
	}
	bound := fmt.Sprintf("the floor %d", d.Floor)
	if least > d.Floor {
		bound = fmt.Sprintf("minSize %d", least)
	}
	out.Status, out.Reason = metav1.ConditionFalse, v1alpha1.ReasonFloorNotMet
	out.Message = fmt.Sprintf("the target size %d is below %s; ", g.Target, bound)
	last := g.LastFailure
	if d.LastFailure != nil {
		last = d.LastFailure
	}
	switch {
	case g.Paused:
		out.Message += "the NodePool is paused"
	case g.FollowsFloor:
		out.Message += "it is being raised"
	default:
		out.Message += "waiting for Cluster Autoscaler, which has to run with --enforce-node-group-min-size"
		if last != nil && last.At.After(g.FloorChangedAt) {
			out.Message += fmt.Sprintf(" and leaves a group alone for a while after a failure; the last one: %s", last)
		}
	}
	return out
}

// templateCondition says whether all machines were ordered with the template of now.
func (g *Group) templateCondition() metav1.Condition {
	var old []string
	live := g.live()
	for _, m := range live {
		if m.TemplateHash != "" && m.TemplateHash != g.TemplateHash {
			old = append(old, m.Name)
		}
	}
	if len(old) == 0 {
		return metav1.Condition{Type: v1alpha1.ConditionMachinesUpToDate, Status: metav1.ConditionTrue,
			Reason: v1alpha1.ReasonUpToDate, Message: "every machine was ordered with the template of now"}
	}
	slices.Reverse(old)
	return metav1.Condition{Type: v1alpha1.ConditionMachinesUpToDate, Status: metav1.ConditionFalse,
		Reason: v1alpha1.ReasonTemplateChanged,
		Message: fmt.Sprintf("%d of %d %s: %s", len(old), len(live), Pluralize(len(old),
			"machines was ordered with a template from before its last edit and keeps it",
			"machines were ordered with a template from before its last edit and keep it"), Listed(old))}
}

// pauseCondition says whether the group is paused.
func (g *Group) pauseCondition() metav1.Condition {
	if g.Paused {
		return metav1.Condition{Type: v1alpha1.ConditionPaused, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonPaused,
			Message: "spec.paused is true: no machine is ordered, deleted or released, and no member is granted more nodes"}
	}
	return metav1.Condition{Type: v1alpha1.ConditionPaused, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNotPaused,
		Message: "spec.paused is not set"}
}

// throttledCondition says whether the cloud asks to be asked later.
func (g *Group) throttledCondition() metav1.Condition {
	waiting, said := 0, ""
	for _, m := range g.live() {
		if m.Throttled != "" && m.Failure == nil && !m.arrived() && m.Going.IsZero() {
			waiting, said = waiting+1, m.Throttled
		}
	}
	if waiting > 0 {
		return metav1.Condition{Type: v1alpha1.ConditionThrottled, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonThrottled,
			Message: Pluralize(waiting, "%d machine waits", "%d machines wait") + " because the cloud asks to be asked later: " + said}
	}
	return metav1.Condition{Type: v1alpha1.ConditionThrottled, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNotThrottled,
		Message: "the cloud takes what it is asked"}
}

// waitsFor says what keeps a pool that is being deleted.
func (g *Group) waitsFor() string {
	const begin = "the NodePool is being deleted"
	if g.Paused {
		return begin + "; it waits because spec.paused is true"
	}
	if len(g.Reservations) > 0 {
		var members []string
		for i := range g.Reservations {
			members = append(members, g.Reservations[i].Member)
		}
		return fmt.Sprintf("%s; it waits until no node is reserved by %s", begin, Listed(members))
	}
	var used []string
	for _, m := range g.live() {
		if m.Node != nil && m.Node.Pods > 0 {
			used = append(used, m.Node.Name)
		}
	}
	if len(used) > 0 {
		slices.Sort(used)
		return fmt.Sprintf("%s; it waits until no pod is on %s", begin, Listed(used))
	}
	return begin + ", and its machines are"
}
