package resize

import (
	"slices"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// group is what a pass has read of one group of pods of a workload.
type group struct {
	// name is that of the group, empty for the only one of a workload.
	name string
	// jobs are the Jobs that make its pods; none while there are none.
	jobs []*batchv1.Job
	// needs are those of the template of the Jobs, or of the workload while there is none.
	needs needs
	// ranks are what the pods of the Jobs come to.
	ranks *ranks
	// notMade is why its Jobs do not make the pods that are lacking, as far as that is known.
	notMade string
}

// groupsOf are the groups of a workload, of which each pod needs something.
func groupsOf(workload *member.Workload, needs []needs) []group {
	groups := make([]group, len(workload.Groups))
	for i := range groups {
		groups[i].name, groups[i].needs = workload.Groups[i].Name, needs[i]
	}
	if len(groups) == 1 {
		groups[0].name = ""
	}
	return groups
}

// recordedGroups are the groups of a workload that is gone, as its member has them.
func recordedGroups(m *v1alpha1.EnsembleMember) []group {
	recorded := v1alpha1.GroupsOf(m)
	groups := make([]group, len(recorded))
	for i := range groups {
		groups[i].name = recorded[i].Name
	}
	return groups
}

// needsOfGroups is what a pod of each group of a workload needs.
func needsOfGroups(workload *member.Workload) []needs {
	out := make([]needs, len(workload.Groups))
	for i := range out {
		out[i] = needsOf(&workload.Groups[i].Pod)
	}
	return out
}

// group is the group of a name, nil for none. The name of an only group is read by nobody.
func (e *entry) group(name string) *group {
	if at := e.indexOf(name); at >= 0 {
		return &e.groups[at]
	}
	return nil
}

// indexOf is where the group of a name is among those of the entry, -1 for none.
func (e *entry) indexOf(name string) int {
	if len(e.groups) == 1 {
		return 0
	}
	return slices.IndexFunc(e.groups, func(g group) bool { return g.name == name })
}

// byJobs reports whether Jobs make the pods of a workload. Those of others are known by their label.
func (e *entry) byJobs() bool { return e.kind.JobOf(e.name(), e.groups[0].name) != "" }

// job is the Job of a workload that has one alone, nil for none.
func (e *entry) job() *batchv1.Job {
	if len(e.groups) == 1 && len(e.groups[0].jobs) > 0 {
		return e.groups[0].jobs[0]
	}
	return nil
}

// wanted is what the member wants of a group: of one that its spec does not have yet, what the workload has.
func (e *entry) wanted(g *group) v1alpha1.MemberGroup {
	if wanted := v1alpha1.GroupOf(e.member, g.name); wanted != nil {
		return *wanted
	}
	if e.workload != nil {
		if of := e.workload.Group(g.name); of != nil {
			return v1alpha1.MemberGroup{
				Name: g.name, Size: max(of.Size, of.MinSize), MinSize: of.MinSize, MaxSize: of.MaxSize, Unit: of.Unit,
			}
		}
	}
	return v1alpha1.MemberGroup{Name: g.name, Size: 1, MinSize: 1, MaxSize: 1}
}

// unit is how many pods of a group come and go together.
func (e *entry) unit(g *group) int32 {
	if e.workload == nil {
		return 0
	}
	if of := e.workload.Group(g.name); of != nil {
		return of.Unit
	}
	return 0
}

// sizeOf is the size of a group. One that is out of bounds is not followed, neither by its operator nor here, so the last one that was in
// bounds still counts.
func (e *entry) sizeOf(g *group) int32 {
	var recorded int32
	if e.member != nil {
		recorded = v1alpha1.RecordOf(e.member, g.name).Size
	}
	if e.workload == nil {
		return recorded
	}
	of := e.workload.Group(g.name)
	if of == nil || (of.Size > of.MaxSize && recorded > 0) {
		return recorded
	}
	return of.Size
}

// sizes are those of all groups.
func (e *entry) sizes() member.Sizes {
	sizes := make(member.Sizes, len(e.groups))
	for i := range e.groups {
		sizes[e.groups[i].name] = e.sizeOf(&e.groups[i])
	}
	return sizes
}

// life is how far the workload is, as it says itself, or its only Job.
func (e *entry) life() member.Life {
	if e.workload != nil && e.workload.Life != nil {
		return *e.workload.Life
	}
	job := e.job()
	if job == nil {
		return member.Life{}
	}
	return member.Life{Suspended: suspended(job), Finished: finished(job)}
}
