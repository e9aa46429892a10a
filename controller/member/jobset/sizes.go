package jobset

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// Bounds are the minimum and maximum size of a replicatedJob, in pods. Max is 0 where nothing says so.
type Bounds struct{ Min, Max int32 }

// sizesWanted says how sizes are written.
const sizesWanted = "it has to have numbers of pods, at least 1, by replicatedJobs, as in driver=1,workers=8; of an only one the number " +
	"is enough"

// ParseSizes reads the sizes that an annotation of a JobSet has for its replicatedJobs. A fault names the annotation, its value and what
// would be right.
func (s *JobSet) ParseSizes(annotation, text string) (member.Sizes, *member.Fault) {
	wrong := func(format string, arguments ...any) *member.Fault {
		return &member.Fault{Annotation: annotation, Value: text, Why: fmt.Sprintf(format, arguments...) + sizesWanted}
	}
	sizes, err := member.ParseSizes(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		return nil, wrong("")
	}
	if only, is := sizes[""]; is && len(s.Jobs) == 1 {
		sizes = member.Sizes{s.Jobs[0].Name: only}
	}
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		job := s.Job(name)
		switch {
		case name == "":
			return nil, wrong("it does not say of which of the replicatedJobs %s: ", strings.Join(s.names(), ", "))
		case job == nil:
			return nil, wrong("there is no replicatedJob %q, but %s: ", name, strings.Join(s.names(), ", "))
		case job.Replicas > 1 && sizes[name]%job.Replicas != 0:
			return nil, wrong("%d is no multiple of %d, the replicas of %s, whose Jobs have as many pods each: ", sizes[name], job.Replicas, name)
		}
	}
	return sizes, nil
}

// Bounds reads the bounds of the annotations, by replicatedJobs, and what is wrong with them or with a size by them. The minimum is one pod
// of each Job where there is none; the maximum has to be there, as the webhook writes it into a JobSet that is created.
func (s *JobSet) Bounds() (map[string]Bounds, *member.Fault) {
	least, most := member.Sizes{}, member.Sizes{}
	bounds := make(map[string]Bounds, len(s.Jobs))
	fault := s.wrong
	for _, bound := range []struct {
		key  string
		into member.Sizes
	}{{v1alpha1.AnnotationMinSize, least}, {v1alpha1.AnnotationMaxSize, most}} {
		text, has := s.Annotations[bound.key]
		if !has {
			continue
		}
		sizes, wrong := s.ParseSizes(bound.key, text)
		if maps.Copy(bound.into, sizes); wrong != nil && fault == nil {
			fault = wrong
		}
	}
	for i := range s.Jobs {
		job := &s.Jobs[i]
		bounds[job.Name] = Bounds{Min: max(least[job.Name], job.Replicas), Max: most[job.Name]}
	}
	for i := range s.Jobs {
		if fault == nil {
			fault = s.within(i, bounds[s.Jobs[i].Name])
		}
	}
	return bounds, fault
}

// within says what is wrong with the size of a replicatedJob by its bounds, or with these.
func (s *JobSet) within(i int, bounds Bounds) *member.Fault {
	job := &s.Jobs[i]
	most := fmt.Sprintf("it must not exceed the annotation %s, which is %d for %s", v1alpha1.AnnotationMaxSize, bounds.Max, job.Name)
	switch {
	case bounds.Max == 0:
		fault := &member.Fault{
			Annotation: v1alpha1.AnnotationMaxSize, Why: fmt.Sprintf("it has to have the maximum size of %s, at least %d", job.Name, s.Size(job)),
		}
		if text, has := s.Annotations[v1alpha1.AnnotationMaxSize]; has {
			fault.Value = text
		}
		return fault
	case job.tooMany(bounds.Max):
		return &member.Fault{Annotation: v1alpha1.AnnotationMaxSize, Value: s.Annotations[v1alpha1.AnnotationMaxSize], Why: job.most()}
	case bounds.Min > bounds.Max:
		return &member.Fault{Annotation: v1alpha1.AnnotationMinSize, Value: s.Annotations[v1alpha1.AnnotationMinSize], Why: most}
	case s.Size(job) > bounds.Max:
		return &member.Fault{
			Field: at(i, "template.spec.parallelism"), Value: s.Size(job) / max(job.Replicas, 1),
			Why: fmt.Sprintf("with %d replicas that is %d pods; %s", job.Replicas, s.Size(job), most),
		}
	}
	if c := s.Coordinator; c != nil && c.ReplicatedJob == job.Name && c.PodIndex >= bounds.Min/max(job.Replicas, 1) {
		return &member.Fault{
			Field: "spec.coordinator.podIndex", Value: c.PodIndex,
			Why: fmt.Sprintf("it has to be below %d, the minimum number of pods of each Job of %s: a shrink would take the coordinator away",
				bounds.Min/max(job.Replicas, 1), job.Name),
		}
	}
	return nil
}

// names are those of the replicatedJobs, in order.
func (s *JobSet) names() []string {
	out := make([]string, len(s.Jobs))
	for i := range s.Jobs {
		out[i] = s.Jobs[i].Name
	}
	return slices.Clip(out)
}
