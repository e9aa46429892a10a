package resize

import (
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// values are the plain values that the planner works with.
func (s *seen) values() plan.Observed {
	observed := plan.Observed{Pools: s.pools, Nodes: s.nodes}
	for _, e := range s.entries {
		if e.member != nil {
			observed.Members = append(observed.Members, e.value(s.byName))
		}
	}
	return observed
}

func (e *entry) value(pools map[string]*plan.Pool) plan.Member {
	words := e.kind.Words()
	m := plan.Member{
		Kind:         words.Kind,
		Job:          words.Job,
		Key:          e.key,
		Lifecycle:    e.lifecycle(),
		Wants:        e.wants,
		MinSize:      e.member.Spec.MinSize,
		Size:         e.size(),
		FormerSize:   e.member.Status.Size,
		NodePools:    e.member.Spec.NodePools,
		GrowthPolicy: e.member.Spec.GrowthPolicy,
		Placement:    e.member.Spec.Placement,
		PodsPerNode:  plan.PodsPerNode(e.member.Spec.PodsPerNode),
		GiveUpAfter:  ptr.Deref(e.member.Spec.GiveUpAfter, 0),
		TopologyKey:  e.member.Spec.TopologyKey,
		Pods:         e.ranks.pods,
		Gated:        e.ranks.gated,
		Lacking:      e.ranks.lacking,
		Running:      e.ranks.running,
		NotStarted:   e.ranks.notStarted,
		NotMade:      e.notMade,
		Reservations: e.member.Status.Reservations,
		Growth:       e.member.Status.Growth,

		TopologyDomain:  e.member.Status.TopologyDomain,
		Avoided:         e.member.Status.Avoided,
		Findings:        e.member.Status.Findings,
		PodsLacking:     e.member.Status.PodsLacking,
		NamespaceLabels: e.namespace.labels,
		Claim:           claimOf(e.member),
		Invalid:         e.unreadable,
	}
	m.Succeeded, m.Lacking = e.completed()
	if e.workload == nil {
		return m
	}
	m.SizeGiven = e.member.Annotations[v1alpha1.AnnotationAdoptedGeneration] == generation(e.workload)
	e.fillNeeds(&m, pools)
	return m
}

// fillNeeds says what a pod of the member needs: what the template says, and what the pods that exist say, whoever has changed them.
func (e *entry) fillNeeds(m *plan.Member, pools map[string]*plan.Pool) {
	m.PodRequests, m.Selects, m.Tolerations = e.needs.requests, e.needs.selects, lasting(e.needs.tolerations)
	f := e.ranks.facts
	if f == nil {
		return
	}
	m.PodRequests, m.Selects = greatest(e.needs.requests, f.requests), f.selects
	m.Tolerations = lasting(f.tolerations)
	if f.amended {
		m.Tolerations = withoutAdded(m.Tolerations, e.needs.tolerations, e.member, pools)
	}
}

// completed are the ranks that have succeeded, and those that are lacking without them. The Job knows of those whose pods are gone.
func (e *entry) completed() (succeeded, lacking []int32) {
	succeeded, lacking = e.ranks.succeeded, e.ranks.lacking
	if e.job == nil || e.job.Status.CompletedIndexes == "" {
		return succeeded, lacking
	}
	lives := map[int32]bool{}
	for i := range e.ranks.pods {
		lives[e.ranks.pods[i].Index] = true
	}
	for rank := range e.ranks.waiting {
		lives[rank] = true
	}
	known := map[int32]bool{}
	for _, rank := range succeeded {
		known[rank] = true
	}
	succeeded = slices.Clone(succeeded)
	for _, rank := range indexesOf(e.job.Status.CompletedIndexes, e.member.Spec.MaxSize) {
		if !lives[rank] && !known[rank] {
			succeeded, known[rank] = append(succeeded, rank), true
		}
	}
	lacking = slices.DeleteFunc(slices.Clone(lacking), func(rank int32) bool { return known[rank] })
	return succeeded, lacking
}

// claimOf is the id that the provider gives to orders of machines for the growth of a member; empty for none.
func claimOf(member *v1alpha1.EnsembleMember) string {
	growth := member.Status.Growth
	if growth == nil {
		return ""
	}
	return string(member.UID) + "-" + strconv.FormatInt(growth.Since.UnixMicro(), 10)
}

// size is that of the workload. One that is out of bounds is not followed, neither by its operator
// nor here, so the last one that was in bounds still counts.
func (e *entry) size() int32 {
	var recorded int32
	if e.member != nil {
		recorded = e.member.Status.Size
	}
	if e.workload == nil || (e.workload.Size() > e.workload.MaxSize() && recorded > 0) {
		return recorded
	}
	return e.workload.Size()
}

func (e *entry) lifecycle() plan.Lifecycle {
	switch {
	case e.workload == nil || e.workload.Deleting || e.namespace.deleting:
		return plan.Deleting
	case e.job != nil && finished(e.job):
		return plan.Finished
	case e.job != nil && suspended(e.job):
		return plan.Suspended
	default:
		return plan.Running
	}
}

// lives reports whether the workload may have pods to come, now or when it is resumed.
func (e *entry) lives() bool {
	life := e.lifecycle()
	return life == plan.Running || life == plan.Suspended
}

func suspended(job *batchv1.Job) bool { return ptr.Deref(job.Spec.Suspend, false) }

// finished reads the Job's own conditions; those of its owner are not dependable.
func finished(job *batchv1.Job) bool {
	for i := range job.Status.Conditions {
		c := &job.Status.Conditions[i]
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

// indexesOf reads the completion indexes of a Job, as 1,3-5,7, below a bound.
func indexesOf(text string, bound int32) []int32 {
	var out []int32
	for part := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(part, "-")
		from, err := strconv.ParseInt(low, 10, 32)
		if err != nil {
			continue
		}
		to := from
		if isRange {
			if to, err = strconv.ParseInt(high, 10, 32); err != nil {
				continue
			}
		}
		for index := from; index <= to && index < int64(bound); index++ {
			out = append(out, int32(index)) //nolint:gosec // Parsed as one.
		}
	}
	return out
}
