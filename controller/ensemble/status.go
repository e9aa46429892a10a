package ensemble

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	autoscaling "github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// States of a member that has no EnsembleMember.
const (
	stateUnmanaged = "Unmanaged"
	stateCreating  = "Creating"
	stateEnded     = "Ended"
	stateNameTaken = v1alpha1.ReasonNameTaken
)

// observed is what was found of one member.
type observed struct {
	name string
	// state and message are set where there is something to say that an EnsembleMember does not.
	state, message string
	// problem is why something could not be brought in line.
	problem  string
	size     int32
	member   *autoscaling.EnsembleMember
	outdated []string
}

// line is the member's line in the status.
func (o *observed) line() v1alpha1.MemberStatus {
	line := v1alpha1.MemberStatus{Name: o.name, Size: o.size, Wants: o.size, State: o.state, Message: o.message}
	if o.state != "" {
		return line
	}
	line.State, line.Message = v1alpha1.ReasonWaiting, "the controller has not looked at the member yet"
	m := o.member
	if m == nil {
		return line
	}
	line.Size, line.Wants, line.Nodes = m.Status.Size, m.Spec.Size, m.Status.Nodes
	if ready := meta.FindStatusCondition(m.Status.Conditions, autoscaling.ConditionReady); ready != nil {
		line.State, line.Message = ready.Reason, ready.Message
	}
	if last := m.Status.LastRequest; last != nil {
		line.LastAction, line.Outcome = fmt.Sprintf("%s by %d to %d, by %s", last.Action, last.Amount, last.Size, last.By), last.Outcome
	}
	return line
}

// atRest reports whether nothing more is to come of a member.
func (o *observed) atRest() bool {
	switch {
	case o.state == stateUnmanaged || o.state == stateEnded:
		return true
	case o.state != "" || o.member == nil:
		return false
	}
	return meta.IsStatusConditionTrue(o.member.Status.Conditions, autoscaling.ConditionReady)
}

// fill makes the status say what was found.
func fill(e *v1alpha1.Ensemble, f *findings, members []observed, now metav1.Time) {
	status := &e.Status
	status.ObservedGeneration = e.Generation
	status.Size, status.Wants, status.Nodes, status.Members = 0, 0, 0, nil
	var taken, creating, waiting, changed, refused []string
	ready := 0
	for i := range members {
		o := &members[i]
		line := o.line()
		line.Message = cmp.Or(o.problem, line.Message)
		status.Members = append(status.Members, line)
		status.Size, status.Wants, status.Nodes = status.Size+line.Size, status.Wants+line.Wants, status.Nodes+line.Nodes
		switch o.state {
		case stateNameTaken:
			taken = append(taken, o.message)
		case stateCreating:
			creating = append(creating, o.name)
		}
		if o.atRest() {
			ready++
		} else {
			waiting = append(waiting, fmt.Sprintf("%s (%s)", o.name, line.State))
		}
		if o.problem != "" && o.state != stateCreating {
			refused = append(refused, fmt.Sprintf("%s: %s", o.name, o.problem))
		}
		if len(o.outdated) > 0 {
			changed = append(changed, fmt.Sprintf("%s: %s", o.name, strings.Join(o.outdated, ", ")))
		}
	}
	status.MembersReady = fmt.Sprintf("%d/%d", ready, len(e.Spec.Members))

	condition := func(kind string, is bool, yes, no, good, bad string) metav1.Condition {
		if is {
			return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: yes, Message: good}
		}
		return metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: no, Message: bad}
	}
	created := condition(v1alpha1.ConditionMembersCreated, len(creating) == 0 && len(members) == len(e.Spec.Members), v1alpha1.ReasonCreated,
		v1alpha1.ReasonCreating,
		"the ConfigMap and the MiniCluster of each member are there", "to be created: "+listed(creating))
	if len(taken) > 0 {
		created = condition(v1alpha1.ConditionMembersCreated, false, "", v1alpha1.ReasonNameTaken, "", listed(taken))
	}
	autoscaling.SetConditions(&status.Conditions, e.Generation, now, fmt.Sprintf(
		"all %d members have the sizes that they want", len(e.Spec.Members),
	),
		condition(v1alpha1.ConditionAccepted, len(f.faults) == 0, v1alpha1.ReasonValid, v1alpha1.ReasonInvalid,
			"nothing is wrong with the spec", "nothing is created or changed: "+faultsOf(f)),
		created,
		condition(v1alpha1.ConditionMembersReady, len(waiting) == 0, v1alpha1.ReasonMembersReady, v1alpha1.ReasonWaiting,
			"every member has the size that it wants", "waiting for "+listed(waiting)),
	)
	upToDate := condition(v1alpha1.ConditionUpToDate, len(changed) == 0, v1alpha1.ReasonUpToDate, v1alpha1.ReasonSpecChanged,
		"every MiniCluster is as the spec has it", "changed since the MiniClusters were created, which keep what "+
			"they were created with: "+listed(changed))
	if len(refused) > 0 {
		upToDate = condition(
			v1alpha1.ConditionUpToDate, false, "", v1alpha1.ReasonRefused, "", "cannot be brought in line with the spec: "+listed(refused),
		)
	}
	for _, c := range []metav1.Condition{
		upToDate,
		condition(v1alpha1.ConditionFieldsUsed, len(f.unused) == 0, v1alpha1.ReasonAllUsed, v1alpha1.ReasonUnused,
			"every field that is set has an effect", "without effect, because one endpoint serves all Ensembles and starts their "+
				"members: "+listed(f.unused)),
	} {
		c.ObservedGeneration, c.LastTransitionTime = e.Generation, now
		meta.SetStatusCondition(&status.Conditions, c)
	}
}

func faultsOf(f *findings) string {
	var texts []string
	for _, fault := range f.faults {
		texts = append(texts, fault.Error())
	}
	return listed(texts)
}

// listed keeps a list readable, and a condition below its bound of 32 KiB.
func listed(items []string) string {
	const most, longest = 5, 500
	var out []string
	for i, item := range items {
		if i == most {
			out = append(out, fmt.Sprintf("and %d more", len(items)-most))
			break
		}
		if len(item) > longest {
			item = strings.ToValidUTF8(item[:longest], "") + "..."
		}
		out = append(out, item)
	}
	return strings.Join(out, "; ")
}

// differences are the keys whose values are not the same, in order. Either map may be nil: what was applied before stands in an
// annotation, which anybody may have set to null.
func differences(was, is map[string]string) []string {
	all := make(map[string]struct{}, max(len(was), len(is)))
	for _, entries := range []map[string]string{was, is} {
		for key := range entries {
			all[key] = struct{}{}
		}
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(key string) bool { return was[key] == is[key] })
}
