package explain

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// capacityDone are the steps of a member whose nodes are all Ready.
func capacityDone(f *Facts) []Step {
	message := conditionMessage(f.Member, v1alpha1.ConditionCapacityReady)
	return []Step{
		{Topic: Floor, State: Done, Message: "nothing is outstanding"},
		{Topic: ClusterAutoscaler, State: Done, Message: "nothing is outstanding"},
		{Topic: Machines, State: Done, Message: "none is outstanding"},
		{Topic: Nodes, State: Done, Message: message},
	}
}

// floorMet reports whether the target of a pool is at its floor, as the provider has said.
func floorMet(pool *v1alpha1.NodePool) bool {
	c := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionFloorMet)
	return c == nil || c.Status == "True"
}

// floorStep says whether the target of each pool is at its floor.
func floorStep(f *Facts, pools []string) Step {
	if text := f.missing(Floor); text != "" {
		return unknown(Floor, text)
	}
	s := Step{Topic: Floor, State: Done}
	for _, name := range pools {
		pool := f.pool(name)
		if pool == nil {
			s.add(Blocked, v1alpha1.ReasonPoolNotFound, fmt.Sprintf("there is no NodePool %s", name))
			continue
		}
		line := fmt.Sprintf("%s: floor %d, target %d of at most %d", name, pool.Status.Floor, pool.Spec.Replicas, pool.Spec.MaxSize)
		switch c := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionFloorMet); {
		case c == nil:
			s.add(Waiting, ReasonNotObserved, fmt.Sprintf("%s: the provider has yet to look at the pool", name))
		case pool.Status.Floor < f.claimIn(pool):
			s.add(Waiting, ReasonNotObserved, fmt.Sprintf("%s: the provider has yet to count the claim: the floor is %d", name, pool.Status.Floor))
		case floorMet(pool) && pool.Spec.Paused:
			s.add(Blocked, v1alpha1.ReasonPoolPaused, fmt.Sprintf("%s is paused: no machine is ordered", name))
		case floorMet(pool):
			s.add(Done, "", line)
		case pool.Spec.Paused:
			s.add(Blocked, v1alpha1.ReasonPoolPaused, fmt.Sprintf("%s: %s", name, c.Message))
		default:
			s.add(Waiting, c.Reason, fmt.Sprintf("%s: %s", name, c.Message))
		}
	}
	return s
}

// claimIn is how much of the floor of a pool the claim of the member is at least.
func (f *Facts) claimIn(pool *v1alpha1.NodePool) int32 {
	if f.Member == nil {
		return 0
	}
	for _, r := range f.Member.Status.Reservations {
		if r.NodePool == pool.Name {
			return min(r.Nodes, pool.Spec.MaxSize)
		}
	}
	return 0
}

// add takes up what is known of one pool: the worst state is that of the step, and its message the first of that state.
func (s *Step) add(state State, reason, message string) {
	rank := map[State]int{Done: 0, Waiting: 1, Blocked: 2}
	switch {
	case s.Message == "":
		s.State, s.Reason, s.Message = state, reason, message
	case rank[state] > rank[s.State]:
		s.Details = append(s.Details, s.Message)
		s.State, s.Reason, s.Message = state, reason, message
	default:
		s.Details = append(s.Details, message)
	}
}

const (
	// silentAfter is how old the status of Cluster Autoscaler may be: it writes one each loop, which takes ten seconds by default and
	// on large clusters half a minute.
	silentAfter = 3 * time.Minute
	// ignoredAfter is how long it may know of a floor and not raise the group: a few of its loops.
	ignoredAfter = time.Minute
)

// autoscalerStep says what Cluster Autoscaler has done about the floors that are not met, and when it looked last.
func autoscalerStep(f *Facts, pools []string) Step {
	s := Step{Topic: ClusterAutoscaler, State: Done}
	for _, name := range pools {
		pool := f.pool(name)
		switch {
		case pool == nil:
			if text := f.missing(ClusterAutoscaler); text != "" {
				return unknown(ClusterAutoscaler, text)
			}
		case pool.Spec.Autoscaler == v1alpha1.AutoscalerNone:
			s.add(Done, "", fmt.Sprintf("%s follows its floor without Cluster Autoscaler", name))
		case f.missing(ClusterAutoscaler) != "":
			return unknown(ClusterAutoscaler, f.missing(ClusterAutoscaler))
		default:
			state, reason, message := f.autoscalerOf(pool)
			s.add(state, reason, name+": "+message)
		}
	}
	if s.Message == "" {
		s.Message = "nothing is asked of it"
	}
	return s
}

// autoscalerOf says what Cluster Autoscaler does about one pool. Nothing is asked of it where the floor is met, or the pool is paused: then
// it could do nothing about the floor.
func (f *Facts) autoscalerOf(pool *v1alpha1.NodePool) (state State, reason, message string) {
	met := floorMet(pool) || pool.Spec.Paused
	outstanding := func(state State, reason, message string) (State, string, string) {
		if met {
			return Done, "", message
		}
		return state, reason, message
	}
	a := f.Autoscaler
	if since := unmetSince(pool); (a == nil || a.Group(pool.Name) == nil) && f.Now.Sub(since) < ignoredAfter {
		return outstanding(Waiting, v1alpha1.ReasonFloorNotMet,
			"Cluster Autoscaler has reported nothing of the pool yet, which got below its floor "+ago(f.Now, since))
	}
	if a == nil {
		return outstanding(Blocked, ReasonAutoscalerMissing, "no Cluster Autoscaler has reported its state")
	}
	said := "it looked last " + ago(f.Now, a.Time)
	group := a.Group(pool.Name)
	switch {
	case f.Now.Sub(a.Time) > silentAfter:
		return outstanding(Blocked, ReasonAutoscalerSilent,
			fmt.Sprintf("Cluster Autoscaler has reported nothing since %s: it does not run, or its loop is stuck", formatTime(a.Time)))
	case group == nil:
		return outstanding(Blocked, ReasonGroupUnknown, "Cluster Autoscaler tells nothing of this pool: it does not run with our provider, "+
			"or has not seen the pool yet; "+said)
	case group.ScaleUp == Backoff:
		text := fmt.Sprintf("Cluster Autoscaler leaves the group alone for a while since %s", formatTime(group.ScaleUpSince))
		if group.BackoffCode != "" || group.BackoffMessage != "" {
			text += fmt.Sprintf(": %s: %s", group.BackoffCode, group.BackoffMessage)
		}
		return outstanding(Waiting, ReasonGroupBackoff, text)
	case group.Health == Unhealthy && !met:
		return Blocked, ReasonGroupUnhealthy, "Cluster Autoscaler takes the group for unhealthy and orders nothing; " + said
	case met:
		return Done, "", fmt.Sprintf("target %d, minimum %d, %s; %s", group.Target, group.MinSize, group.ScaleUp, said)
	case ignored(a, group, pool):
		return Blocked, ReasonFloorIgnored, fmt.Sprintf("Cluster Autoscaler knows the minimum %d and leaves the target at %d since %s",
			group.MinSize, pool.Spec.Replicas, formatTime(unmetSince(pool)))
	default:
		return Waiting, v1alpha1.ReasonFloorNotMet, fmt.Sprintf(
			"Cluster Autoscaler raises the target to the floor %d in its next loop; %s", pool.Status.Floor, said,
		)
	}
}

// ignored reports whether Cluster Autoscaler has known of a floor for long enough to raise the group.
func ignored(a *Autoscaler, group *NodeGroup, pool *v1alpha1.NodePool) bool {
	return group.MinSize >= int(pool.Status.Floor) && a.Time.Sub(unmetSince(pool)) > ignoredAfter
}

// unmetSince is since when a pool has been below the floor that it has now.
func unmetSince(pool *v1alpha1.NodePool) time.Time {
	var since time.Time
	if c := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.ConditionFloorMet); c != nil {
		since = c.LastTransitionTime.Time
	}
	if changed := pool.Status.FloorChangedAt; changed != nil && changed.After(since) {
		since = changed.Time
	}
	return since
}
