package resize

import (
	"cmp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// memberDecision is what a pass has decided for one member: a decision for each of its groups. They are recorded in one write, and sizes
// are given in one.
type memberDecision struct {
	e *entry
	// groups are the decisions in the order of the groups of the entry.
	groups []plan.Decision
	// reservations are those of all groups, by pool.
	reservations []v1alpha1.Reservation
}

// memberDecisions are the decisions of a plan by their members. Those of a member are next to each other.
func memberDecisions(seen *seen, decisions []plan.Decision) []memberDecision {
	out := make([]memberDecision, 0, len(seen.entries))
	for from := 0; from < len(decisions); {
		to := from + 1
		for to < len(decisions) && decisions[to].Key == decisions[from].Key {
			to++
		}
		v := memberDecision{e: seen.entries[decisions[from].Key], groups: decisions[from:to]}
		v.reservations = mergeReservations(v.groups)
		out = append(out, v)
		from = to
	}
	return out
}

// one is the only decision of a member with one group, nil where there are several.
func (v *memberDecision) one() *plan.Decision {
	if len(v.groups) == 1 {
		return &v.groups[0]
	}
	return nil
}

// sum adds up a number of all groups.
func (v *memberDecision) sum(of func(*plan.Decision) int32) int32 {
	var sum int32
	for i := range v.groups {
		sum += of(&v.groups[i])
	}
	return sum
}

func (v *memberDecision) any(is func(*plan.Decision) bool) bool {
	for i := range v.groups {
		if is(&v.groups[i]) {
			return true
		}
	}
	return false
}

// resizes reports whether a group is given another size.
func (v *memberDecision) resizes() bool {
	return v.e.workload != nil && v.any(func(d *plan.Decision) bool { return d.Resize != 0 })
}

// change is what the workload is given: sizes for all of its groups, and the names of the pods that are to leave.
func (v *memberDecision) change() *member.Change {
	change := member.To(v.e.workload.Sizes())
	for i := range v.groups {
		d := &v.groups[i]
		g, of := v.e.group(d.Group), v.e.workload.Group(d.Group)
		if d.Resize == 0 || g == nil || of == nil {
			continue
		}
		change.Sizes[of.Name] = d.Resize
		for _, index := range d.Leave {
			if name := g.ranks.nameOf(index); name != "" {
				if change.Leave == nil {
					change.Leave = map[string][]string{}
				}
				change.Leave[of.Name] = append(change.Leave[of.Name], name)
			}
		}
	}
	return change
}

// departing are the nodes of whose departure the notes tell.
func (v *memberDecision) departing() []string {
	if d := v.one(); d != nil {
		return d.Departing
	}
	var nodes []string
	for i := range v.groups {
		nodes = append(nodes, v.groups[i].Departing...)
	}
	return nodes
}

// releases are the pods of all groups that may go to their nodes.
func (v *memberDecision) releases() []plan.Assignment {
	if d := v.one(); d != nil {
		return d.Release
	}
	var out []plan.Assignment
	for i := range v.groups {
		out = append(out, v.groups[i].Release...)
	}
	return out
}

// notes tell the steps of all groups. A step that all of them take is told once, and one that not all take with the name of the group.
func (v *memberDecision) notes() []plan.Note {
	if d := v.one(); d != nil {
		return d.Notes
	}
	var out []plan.Note
	for i := range v.groups {
		for _, note := range v.groups[i].Notes {
			shared := !v.any(func(d *plan.Decision) bool { return !slices.Contains(d.Notes, note) })
			switch {
			case !shared:
				note.Message = inGroup(v.groups[i].Group, note.Message)
				out = append(out, note)
			case i == 0:
				out = append(out, note)
			}
		}
	}
	return out
}

// inGroup is a sentence about a group of a member with several. Some name it themselves.
func inGroup(group, sentence string) string {
	if strings.Contains(sentence, "group "+group+" of ") {
		return sentence
	}
	return "group " + group + ": " + sentence
}

// conditions are those of the member: each is True when it is for all groups, and else says what the first group lacks for which it is not.
func (v *memberDecision) conditions() []metav1.Condition {
	if d := v.one(); d != nil {
		return d.Conditions
	}
	out := slices.Clone(v.groups[0].Conditions)
	for i := range out {
		messages := make([]string, len(v.groups))
		worst := -1
		for j := range v.groups {
			of := conditionOf(v.groups[j].Conditions, out[i].Type)
			if messages[j] = inGroup(v.groups[j].Group, of.Message); worst < 0 && of.Status != metav1.ConditionTrue {
				worst = j
			}
		}
		alike := !v.any(func(d *plan.Decision) bool { return conditionOf(d.Conditions, out[i].Type).Message != out[i].Message })
		switch {
		case worst >= 0:
			message := out[i].Message
			if out[i] = conditionOf(v.groups[worst].Conditions, out[i].Type); !alike {
				message = messages[worst]
			}
			out[i].Message = message
		case !alike:
			out[i].Message = strings.Join(messages, "; ")
		}
	}
	return out
}

// conditionOf is the condition of a type; all groups have all of them.
func conditionOf(conditions []metav1.Condition, kind string) metav1.Condition {
	for i := range conditions {
		if conditions[i].Type == kind {
			return conditions[i]
		}
	}
	return metav1.Condition{Type: kind, Status: metav1.ConditionTrue}
}

// whenReady is the message of the Ready condition when all others are True.
func (v *memberDecision) whenReady() string {
	if d := v.one(); d != nil {
		return d.WhenReady
	}
	parts := make([]string, len(v.groups))
	for i := range v.groups {
		parts[i] = inGroup(v.groups[i].Group, v.groups[i].WhenReady)
	}
	return strings.Join(parts, "; ")
}

// firstUnmet is the reason of the first condition that is not True, or "Ready".
func (v *memberDecision) firstUnmet() string {
	if d := v.one(); d != nil {
		return d.FirstUnmet()
	}
	merged := plan.Decision{Conditions: v.conditions()}
	return merged.FirstUnmet()
}

// mergeReservations sums up what the groups of a member have reserved in each pool. The nodes that are of no use to one of them are not
// added to those that are of none to another: they are the same.
func mergeReservations(groups []plan.Decision) []v1alpha1.Reservation {
	if len(groups) == 1 {
		return groups[0].Reservations
	}
	var out []v1alpha1.Reservation
	for i := range groups {
		for _, r := range groups[i].Reservations {
			at := slices.IndexFunc(out, func(o v1alpha1.Reservation) bool { return o.NodePool == r.NodePool })
			if at < 0 {
				out = append(out, r)
				continue
			}
			sum := &out[at]
			sum.Nodes += r.Nodes
			sum.Occupied, sum.OccupiedAtGrant = max(sum.Occupied, r.Occupied), max(sum.OccupiedAtGrant, r.OccupiedAtGrant)
			sum.Held = slices.Concat(sum.Held, r.Held)
			slices.Sort(sum.Held)
			sum.Held = slices.Compact(sum.Held)
		}
	}
	return out
}

// maxFailures is how many failures of a growth are kept.
const maxFailures = 32

// growth is that of all groups together, nil where none grows.
func (v *memberDecision) growth() *v1alpha1.Growth {
	if d := v.one(); d != nil {
		return d.Growth
	}
	var out *v1alpha1.Growth
	var from, size, served int32
	for i := range v.groups {
		has := v.e.sizeOf(v.e.group(v.groups[i].Group))
		g := v.groups[i].Growth
		if g == nil {
			from, size, served = from+has, size+has, served+has
			continue
		}
		from, size, served = from+g.From, size+g.Size, served+g.Served
		if out == nil {
			out = g.DeepCopy()
			continue
		}
		out.Since = earlier(out.Since, g.Since)
		out.Deadline, out.RetryAfter = cmp.Or(out.Deadline, g.Deadline), cmp.Or(out.RetryAfter, g.RetryAfter)
		out.NodePool, out.Partial, out.Attempts = cmp.Or(out.NodePool, g.NodePool), out.Partial || g.Partial, max(out.Attempts, g.Attempts)
		if g.GrantedAt == nil {
			// Nothing is granted before all of it is.
			out.GrantedAt = nil
		}
		for _, failure := range g.Failures {
			if !slices.Contains(out.Failures, failure) && len(out.Failures) < maxFailures {
				out.Failures = append(out.Failures, failure)
			}
		}
		for _, wait := range g.Waits {
			if !slices.ContainsFunc(out.Waits, func(w v1alpha1.RoomWait) bool { return w.NodePool == wait.NodePool }) &&
				len(out.Waits) < v1alpha1.MaxRoomWaits {
				out.Waits = append(out.Waits, wait)
			}
		}
	}
	if out != nil {
		out.From, out.Size, out.Served = from, size, served
	}
	return out
}

func earlier(a, b metav1.MicroTime) metav1.MicroTime {
	if b.Before(&a) {
		return b
	}
	return a
}

// giveUp is the member's desired size, by group, after a growth that has failed as often as it may, and why; nil for no such thing.
func (v *memberDecision) giveUp() (sizes member.Sizes, why string) {
	var reasons []string
	for i := range v.groups {
		d := &v.groups[i]
		if d.GiveUp == nil {
			continue
		}
		if sizes == nil {
			sizes = member.Sizes{}
		}
		sizes[d.Group] = d.GiveUp.Size
		if !slices.Contains(reasons, d.GiveUp.Why) {
			reasons = append(reasons, d.GiveUp.Why)
		}
	}
	return sizes, strings.Join(reasons, "; ")
}

// status is what the status of a member says of its groups, nil for one with one.
func (v *memberDecision) status() []v1alpha1.GroupStatus {
	if v.one() != nil {
		return nil
	}
	out := make([]v1alpha1.GroupStatus, len(v.groups))
	for i := range v.groups {
		d := &v.groups[i]
		out[i] = v1alpha1.GroupStatus{
			Name: d.Group, Size: v.e.sizeOf(v.e.group(d.Group)), Running: d.Running, Reserved: d.Reserved(), Nodes: d.Nodes,
			Reservations: d.Reservations, Growth: d.Growth, Avoided: d.Avoided, Findings: d.Findings, PodsLacking: d.PodsLacking,
			Message: d.WhenReady,
		}
		for j := range d.Conditions {
			if d.Conditions[j].Status != metav1.ConditionTrue {
				out[i].Message = d.Conditions[j].Message
				break
			}
		}
	}
	return out
}
