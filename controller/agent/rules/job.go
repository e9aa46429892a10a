package rules

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// job is a job that has not ended.
type job struct {
	group string
	tag   Tag
	waiter
	state    string
	started  time.Time
	finished bool
	// seen has the triggers that the job was, as bits of the index in onceTriggers.
	seen uint16
}

// The states of jobs in Flux.
const (
	stateNew      = "new"
	stateDepend   = "depend"
	statePriority = "priority"
	stateSched    = "sched"
	stateRun      = "run"
	stateCleanup  = "cleanup"
	stateInactive = "inactive"
)

var states = []string{stateNew, stateDepend, statePriority, stateSched, stateRun, stateCleanup, stateInactive}

// queue counts the jobs of the queue, whoever has submitted them.
type queue struct {
	byState map[string]int64
	waiting map[int32]int64
}

func newQueue() queue {
	q := queue{byState: map[string]int64{}, waiting: map[int32]int64{}}
	for _, state := range states {
		q.byState[state] = 0
	}
	return q
}

// Report is the state of the queue.
type Report struct {
	// Queue counts jobs by their state in Flux; every state is there.
	Queue map[string]int64
	// Waiting counts the jobs that have not started by the nodes that each needs.
	Waiting map[int32]int64
}

// Report is what is told of the queue.
func (s *State) Report() Report {
	return Report{Queue: maps.Clone(s.queue.byState), Waiting: maps.Clone(s.queue.waiting)}
}

// Metrics are the metrics of the groups as ensemble-python names them: by statistic, then "<job>-<time>", in seconds, and under "count"
// by job and what is counted.
func (s *State) Metrics() map[string]map[string]any {
	out := map[string]map[string]any{"count": {}}
	for _, statistic := range statistics {
		out[statistic] = map[string]any{}
	}
	for name, g := range s.groups {
		if len(g.counts) > 0 {
			out["count"][name] = maps.Clone(g.counts)
		}
		for _, statistic := range statistics {
			if g.ended > 0 {
				out[statistic][name+"-"+ofDuration] = g.durations[statistic].value()
			}
			if p := g.pendingOf(statistic, 0); p.jobs > 0 {
				out[statistic][name+"-"+ofPending] = p.at(s.now)
			}
		}
	}
	return out
}

// apply takes an event of a job.
func (s *State) apply(e *Job) {
	if e.Name == EventSubmit {
		s.submitted(e)
		return
	}
	j := s.jobs[e.ID]
	if j == nil {
		// It ended before what the journal still has.
		return
	}
	switch e.Name {
	case EventDepend:
		s.enter(j, statePriority)
		s.happened(j, ensemblefile.TriggerJobDepend)
	case EventPriority:
		s.enter(j, stateSched)
		s.happened(j, ensemblefile.TriggerJobSched)
	case EventAlloc:
		s.enter(j, stateRun)
	case EventStart:
		s.enter(j, stateRun)
		s.started(j, e.At)
	case EventException:
		if e.Severity == 0 {
			s.noLongerWaits(j)
			s.enter(j, stateCleanup)
			if e.Type == "cancel" {
				s.happened(j, ensemblefile.TriggerJobCancel)
			}
			s.happened(j, ensemblefile.TriggerJobCleanup)
		}
	case EventFinish:
		s.noLongerWaits(j)
		s.enter(j, stateCleanup)
		s.finished(j, e)
	case EventClean:
		s.noLongerWaits(j)
		if !j.finished {
			// It was cancelled, or could not be run, and has no end but this one.
			s.endedWith(j, false)
		}
		s.enter(j, stateInactive)
		delete(s.jobs, e.ID)
	case EventInvalidate:
		s.noLongerWaits(j)
		s.queue.byState[j.state]--
		delete(s.jobs, e.ID)
		delete(s.byTag, j.tag)
		if !j.finished {
			s.reject(j.group, j.tag)
		}
	}
}

// reject counts a job that Flux does not take. It says so to whom submits the job and in the journal.
func (s *State) reject(group string, tag Tag) {
	g := s.groups[group]
	if g == nil || s.rejected[tag] {
		return
	}
	if tag != (Tag{}) {
		s.rejected[tag] = true
	}
	s.count(group, g, false)
}

func (s *State) submitted(e *Job) {
	if s.jobs[e.ID] != nil || s.doubled(e) {
		return
	}
	j := &job{state: stateNew, waiter: waiter{since: e.At, id: e.ID}}
	if sub := e.Submission; sub != nil {
		// The name is kept as the file has it, so that a long queue keeps each only once.
		j.group, j.nodes, j.tag = sub.Group, sub.Nodes, sub.Tag
		if entries := s.entries[sub.Group]; entries != nil {
			j.group = entries[0].Name
		}
	}
	s.jobs[e.ID] = j
	s.queue.byState[stateNew]++
	s.enter(j, stateDepend)
	s.queue.waiting[j.nodes]++
	if g := s.groups[j.group]; g != nil {
		g.wait(j.waiter)
	}
}

// doubled says of a job that what it was submitted for has another job already, has it cancelled, and counts nothing of it. Somebody may
// have submitted it again whose first submission took long to be carried out.
func (s *State) doubled(e *Job) bool {
	if e.Submission == nil || e.Submission.Tag == (Tag{}) {
		return false
	}
	tag := e.Submission.Tag
	first, known := s.byTag[tag]
	if !known || first == e.ID {
		s.byTag[tag] = e.ID
		return false
	}
	if !s.over[e.ID] {
		s.out = append(s.out, Action{
			Verb: Cancel, Job: e.ID, Reason: fmt.Sprintf("repetition %d of rule %s has its job %d already", tag.Run, tag.Rule, tag.Index),
		})
	}
	return true
}

// enter moves a job on to a state, never back.
func (s *State) enter(j *job, state string) {
	for _, earlier := range states {
		if earlier == state {
			return
		}
		if earlier == j.state {
			break
		}
	}
	s.queue.byState[j.state]--
	s.queue.byState[state]++
	j.state = state
}

// noLongerWaits takes a job from those that wait, once.
func (s *State) noLongerWaits(j *job) {
	if j.since.IsZero() {
		return
	}
	if s.queue.waiting[j.nodes]--; s.queue.waiting[j.nodes] == 0 {
		delete(s.queue.waiting, j.nodes)
	}
	if g := s.groups[j.group]; g != nil {
		g.waitNoMore(j.waiter)
	}
	j.since = time.Time{}
}

func (s *State) started(j *job, at time.Time) {
	if !j.started.IsZero() {
		return
	}
	waited := time.Duration(0)
	if !j.since.IsZero() {
		waited = max(0, at.Sub(j.since))
	}
	s.noLongerWaits(j)
	j.started = at
	if g := s.groups[j.group]; g != nil && len(g.waiting) == 0 {
		// What is asked of short waits can be said when nobody waits any more: those who still wait may wait for long.
		for _, r := range s.rules {
			if r.onShortWaits() && r.metric.Job == j.group && holds(r.When, alone(r.metric.Statistic, waited)) {
				s.trigger(r, fmt.Sprintf("the last waiting job of %q starts after %.3f s", j.group, waited.Seconds()))
			}
		}
	}
	s.happened(j, ensemblefile.TriggerJobRun)
}

// alone is a statistic of a single number.
func alone(statistic string, waited time.Duration) float64 {
	switch statistic {
	case "mean", "max", "min":
		return waited.Seconds()
	}
	return 0
}

func (s *State) finished(j *job, e *Job) {
	if j.finished {
		return
	}
	if g := s.groups[j.group]; g != nil && !j.started.IsZero() {
		g.ran(max(0, e.At.Sub(j.started)))
		for _, r := range s.rules {
			if r.metric.Of == ofDuration && r.metric.Job == j.group {
				if value := g.durations[r.metric.Statistic].value(); holds(r.When, value) {
					s.trigger(r, fmt.Sprintf("%s is %.3f", r.Name, value))
				}
			}
		}
	}
	s.endedWith(j, e.Status == 0)
	s.happened(j, ensemblefile.TriggerJobFinish)
}

// endedWith counts a job that has ended.
func (s *State) endedWith(j *job, success bool) {
	j.finished = true
	if g := s.groups[j.group]; g != nil {
		s.count(j.group, g, success)
	}
	s.happened(j, ensemblefile.TriggerJobCleanup)
	if success {
		s.happened(j, ensemblefile.TriggerJobSuccess)
	} else {
		s.happened(j, ensemblefile.TriggerJobFail)
	}
}

func (s *State) count(name string, g *group, success bool) {
	result := ofFailed
	if success {
		result = ofSuccess
	}
	g.counts[ofFinished]++
	g.counts[result]++
	for _, r := range s.rules {
		if r.metric.Statistic != "count" || r.metric.Job != name || r.metric.Of != ofFinished && r.metric.Of != result {
			continue
		}
		if value := g.counts[r.metric.Of]; holds(r.When, float64(value)) {
			s.trigger(r, fmt.Sprintf("%s is %d", r.Name, value))
		}
	}
}

var onceTriggers = []string{
	ensemblefile.TriggerJobDepend, ensemblefile.TriggerJobSched, ensemblefile.TriggerJobRun, ensemblefile.TriggerJobCancel,
	ensemblefile.TriggerJobCleanup, ensemblefile.TriggerJobFinish, ensemblefile.TriggerJobSuccess, ensemblefile.TriggerJobFail,
}

// happened runs the rules on an event of jobs, once for each job. A rule with a name is about jobs of that name only.
func (s *State) happened(j *job, trigger string) {
	for i, t := range onceTriggers {
		if t != trigger {
			continue
		}
		if j.seen&(1<<i) != 0 {
			return
		}
		j.seen |= 1 << i
	}
	for _, r := range s.rules {
		if r.Trigger == trigger && (r.Name == "" || r.Name == j.group) {
			s.trigger(r, fmt.Sprintf("%s of a job %s", strings.TrimPrefix(trigger, "job-"), named(j.group)))
		}
	}
}

func named(group string) string {
	if group == "" {
		return "of no group"
	}
	return fmt.Sprintf("%q", group)
}
