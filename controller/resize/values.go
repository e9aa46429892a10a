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
			observed.Members = append(observed.Members, e.values(s.byName)...)
		}
	}
	return observed
}

// values are the groups of a member, in their order: to the planner each is a member, and those of one key grow as one.
func (e *entry) values(pools map[string]*plan.Pool) []plan.Member {
	values := make([]plan.Member, len(e.groups))
	for i := range e.groups {
		values[i] = e.value(&e.groups[i], pools)
	}
	return values
}

func (e *entry) value(g *group, pools map[string]*plan.Pool) plan.Member {
	words, wanted, recorded := e.kind.Words(), e.wanted(g), v1alpha1.RecordOf(e.member, g.name)
	m := plan.Member{
		Kind:         words.Kind,
		Job:          words.Job,
		Key:          e.key,
		Lifecycle:    e.lifecycle(),
		Group:        g.name,
		Unit:         e.unit(g),
		Leaves:       e.kind.Leaves(),
		Wants:        wanted.Size,
		MinSize:      wanted.MinSize,
		Size:         e.sizeOf(g),
		FormerSize:   recorded.Size,
		NodePools:    e.member.Spec.NodePools,
		GrowthPolicy: e.member.Spec.GrowthPolicy,
		Placement:    e.member.Spec.Placement,
		PodsPerNode:  plan.PodsPerNode(e.member.Spec.PodsPerNode),
		GiveUpAfter:  ptr.Deref(e.member.Spec.GiveUpAfter, 0),
		TopologyKey:  e.member.Spec.TopologyKey,
		Pods:         g.ranks.pods,
		Gated:        g.ranks.gated,
		Lacking:      g.ranks.lacking,
		Running:      g.ranks.running,
		NotStarted:   g.ranks.notStarted,
		NotMade:      g.notMade,
		Reservations: recorded.Reservations,
		Growth:       recorded.Growth,

		TopologyDomain:  e.member.Status.TopologyDomain,
		Avoided:         recorded.Avoided,
		Findings:        recorded.Findings,
		PodsLacking:     recorded.PodsLacking,
		NamespaceLabels: e.namespace.labels,
		Claim:           claimOf(e.member),
		Invalid:         e.unreadable,
	}
	m.Succeeded, m.Lacking = e.completed(g)
	if e.workload == nil {
		return m
	}
	// Sizes of Jobs are the controller's own, and leave the generation of the object as it is.
	m.SizeGiven = e.workload.Own == nil && e.member.Annotations[v1alpha1.AnnotationAdoptedGeneration] == generation(e.workload)
	e.fillNeeds(&m, g, pools)
	return m
}

// fillNeeds says what a pod of a group needs: what the template says, and what the pods that exist say, whoever has changed them.
func (e *entry) fillNeeds(m *plan.Member, g *group, pools map[string]*plan.Pool) {
	m.PodRequests, m.Selects, m.Tolerations = g.needs.requests, g.needs.selects, lasting(g.needs.tolerations)
	f := g.ranks.facts
	if f == nil {
		return
	}
	m.PodRequests, m.Selects = greatest(g.needs.requests, f.requests), f.selects
	m.Tolerations = lasting(f.tolerations)
	if f.amended {
		m.Tolerations = withoutAdded(m.Tolerations, g.needs.tolerations, e.member, pools)
	}
}

// completed are the ranks of a group that have succeeded, and those that are lacking without them. The Jobs know of those whose pods are
// gone.
func (e *entry) completed(g *group) (succeeded, lacking []int32) {
	succeeded, lacking = g.ranks.succeeded, g.ranks.lacking
	if !slices.ContainsFunc(g.jobs, func(job *batchv1.Job) bool { return job.Status.CompletedIndexes != "" }) {
		return succeeded, lacking
	}
	lives := map[int32]bool{}
	for i := range g.ranks.pods {
		lives[g.ranks.pods[i].Index] = true
	}
	for rank := range g.ranks.waiting {
		lives[rank] = true
	}
	known := map[int32]bool{}
	for _, rank := range succeeded {
		known[rank] = true
	}
	succeeded = slices.Clone(succeeded)
	maxSize := e.wanted(g).MaxSize
	for _, job := range g.jobs {
		for _, index := range indexesOf(job.Status.CompletedIndexes, maxSize) {
			if _, rank := e.kind.Place(job.Spec.Template.Labels, index); !lives[rank] && !known[rank] {
				succeeded, known[rank] = append(succeeded, rank), true
			}
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

func (e *entry) lifecycle() plan.Lifecycle {
	switch {
	case e.workload == nil || e.workload.Deleting || e.namespace.deleting:
		return plan.Deleting
	case e.life().Finished:
		return plan.Finished
	case e.life().Suspended:
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
