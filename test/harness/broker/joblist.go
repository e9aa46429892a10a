package broker

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/idset"
)

// statsDelay gathers changes before the counts of jobs are told. In flux-core it is 0.2 s.
const statsDelay = 20 * time.Millisecond

// attributes are what job-list knows of a job: the value, and whether it has one already.
var attributes = map[string]func(*state, *job) (value any, has bool){
	"userid":     func(s *state, j *job) (any, bool) { return json.Number(s.attributes["security.owner"]), true },
	"urgency":    func(_ *state, j *job) (any, bool) { return j.urgency, true },
	"priority":   func(_ *state, j *job) (any, bool) { return j.priority, j.state >= stateSched },
	"t_submit":   func(_ *state, j *job) (any, bool) { return j.submitted, true },
	"t_run":      func(_ *state, j *job) (any, bool) { return j.ran, j.ran > 0 },
	"t_inactive": func(_ *state, j *job) (any, bool) { return j.ended, j.state == stateInactive },
	"state":      func(_ *state, j *job) (any, bool) { return j.state, true },
	"name":       func(_ *state, j *job) (any, bool) { return j.spec.name, true },
	"queue":      func(_ *state, j *job) (any, bool) { return j.spec.queue, j.spec.queue != "" },
	"ntasks":     func(_ *state, j *job) (any, bool) { return j.spec.slots, true },
	"ncores":     func(_ *state, j *job) (any, bool) { return j.spec.slots * j.spec.cores, !j.spec.exclusive },
	"duration":   func(_ *state, j *job) (any, bool) { return j.spec.duration, true },
	"nnodes": func(_ *state, j *job) (any, bool) {
		return max(j.spec.nodes, len(j.had)), j.spec.nodes > 0 || j.had != nil
	},
	"ranks":              func(_ *state, j *job) (any, bool) { return ranksOf(j.had), j.had != nil },
	"waitstatus":         func(_ *state, j *job) (any, bool) { return j.status, j.status != nil },
	"success":            func(_ *state, j *job) (any, bool) { return j.result() == resultCompleted, j.state == stateInactive },
	"exception_occurred": func(_ *state, j *job) (any, bool) { return j.fatal != nil, j.state == stateInactive },
	"exception_severity": func(_ *state, j *job) (any, bool) { return 0, j.fatal != nil },
	"exception_type": func(_ *state, j *job) (any, bool) {
		if j.fatal == nil {
			return nil, false
		}
		return j.fatal.kind, true
	},
	"exception_note": func(_ *state, j *job) (any, bool) {
		if j.fatal == nil {
			return nil, false
		}
		return j.fatal.note, true
	},
	"result": func(_ *state, j *job) (any, bool) { return j.result(), j.state == stateInactive },
}

func ranksOf(of placement) string {
	ranks := make([]uint32, 0, len(of))
	for rank := range of {
		ranks = append(ranks, rank)
	}
	return idset.Of(ranks...).String()
}

// describe says of a job what was asked for.
func (s *state) describe(j *job, names []string) (map[string]any, error) {
	out := map[string]any{"id": j.id}
	for _, name := range names {
		attribute, known := attributes[name]
		if !known {
			return nil, fmt.Errorf("%s is no attribute of a job", name)
		}
		if value, has := attribute(s, j); has {
			out[name] = value
		}
	}
	return out, nil
}

// constraint is which jobs to list: and, states, userid, results (RFC 31 has the form).
type constraint map[string][]json.RawMessage

func (c constraint) passes(s *state, j *job) (bool, error) {
	for operator, values := range c {
		passes, err := s.operator(j, operator, values)
		if err != nil || !passes {
			return false, err
		}
	}
	return true, nil
}

func (s *state) operator(j *job, operator string, values []json.RawMessage) (bool, error) {
	switch operator {
	case "and":
		for _, value := range values {
			var inner constraint
			if err := json.Unmarshal(value, &inner); err != nil {
				return false, err
			}
			if passes, err := inner.passes(s, j); err != nil || !passes {
				return false, err
			}
		}
		return true, nil
	case "states":
		mask := 0
		for _, value := range values {
			bits, err := readState(value)
			if err != nil {
				return false, err
			}
			mask |= bits
		}
		return j.state&mask != 0, nil
	case "userid":
		return slices.ContainsFunc(values, func(v json.RawMessage) bool { return string(v) == s.attributes["security.owner"] }), nil
	default:
		return false, fmt.Errorf("operator %s is not known", operator)
	}
}

// readState reads a state as a number or as a name.
func readState(text json.RawMessage) (int, error) {
	var number int
	if err := json.Unmarshal(text, &number); err == nil {
		return number, nil
	}
	names := map[string]int{
		"depend": stateDepend, "priority": statePriority, "sched": stateSched, "run": stateRun, "cleanup": stateCleanup,
		"inactive": stateInactive, "pending": statePending, "running": stateRunning, "active": statePending | stateRunning,
	}
	var name string
	if err := json.Unmarshal(text, &name); err != nil {
		return 0, err
	}
	bits, known := names[name]
	if !known {
		return 0, fmt.Errorf("%s is no state", name)
	}
	return bits, nil
}

func (s *state) listJobs(r *request) {
	var asked struct {
		Max        *int       `json:"max_entries"`
		Attrs      *[]string  `json:"attrs"`
		Since      float64    `json:"since"`
		Constraint constraint `json:"constraint"`
	}
	if !r.read(&asked) {
		return
	}
	if asked.Max == nil || asked.Attrs == nil || *asked.Max < 0 {
		r.fail(syscall.EPROTO, "max_entries and attrs are needed")
		return
	}
	jobs := []map[string]any{}
	for _, j := range s.listed() {
		if *asked.Max > 0 && len(jobs) == *asked.Max {
			break
		}
		if j.state == stateInactive && j.ended <= asked.Since {
			continue
		}
		passes, err := asked.Constraint.passes(s, j)
		if err != nil {
			r.fail(syscall.EPROTO, "constraint: %v", err)
			return
		}
		if !passes {
			continue
		}
		described, err := s.describe(j, *asked.Attrs)
		if err != nil {
			r.fail(syscall.EINVAL, "%v", err)
			return
		}
		jobs = append(jobs, described)
	}
	r.respond(map[string]any{"jobs": jobs})
}

// listed are all jobs in the order of a list: those that wait as they are served, those that run and those that have ended, the last first.
func (s *state) listed() []*job {
	class := func(j *job) int {
		switch {
		case j.state&statePending != 0:
			return 0
		case j.state&stateRunning != 0:
			return 1
		default:
			return 2
		}
	}
	listed := slices.Clone(s.order)
	slices.SortStableFunc(listed, func(a, b *job) int {
		if c := cmp.Compare(class(a), class(b)); c != 0 {
			return c
		}
		switch class(a) {
		case 0:
			return cmp.Compare(b.priority, a.priority)
		case 1:
			return cmp.Compare(b.ran, a.ran)
		default:
			return cmp.Compare(b.ended, a.ended)
		}
	})
	return listed
}

func (s *state) listJob(r *request) {
	var asked struct {
		ID    *uint64  `json:"id"`
		Attrs []string `json:"attrs"`
	}
	if !r.read(&asked) {
		return
	}
	if asked.ID == nil {
		r.fail(syscall.EPROTO, "id is missing")
		return
	}
	j, known := s.jobs[*asked.ID]
	if !known {
		r.fail(syscall.ENOENT, "")
		return
	}
	described, err := s.describe(j, asked.Attrs)
	if err != nil {
		r.fail(syscall.EINVAL, "%v", err)
		return
	}
	r.respond(map[string]any{"job": described})
}

func (s *state) jobStats(r *request) {
	if r.Flags&streamingFlag != 0 {
		s.watchers = append(s.watchers, r)
	}
	r.respond(s.counts())
}

func (s *state) counts() map[string]any {
	states := map[string]int{"depend": 0, "priority": 0, "sched": 0, "run": 0, "cleanup": 0, "inactive": 0, "total": len(s.order)}
	names := map[int]string{
		stateDepend: "depend", statePriority: "priority", stateSched: "sched", stateRun: "run", stateCleanup: "cleanup",
		stateInactive: "inactive",
	}
	results := map[int]int{}
	for _, j := range s.order {
		states[names[j.state]]++
		if j.state == stateInactive {
			results[j.result()]++
		}
	}
	return map[string]any{
		"job_states": states, "successful": results[resultCompleted], "failed": results[resultFailed],
		"canceled": results[resultCanceled], "timeout": results[resultTimeout], "inactive_purged": 0, "queues": []any{},
	}
}

// tellWatchers tells the counts of jobs, after a while in which more may change.
func (s *state) tellWatchers() {
	if len(s.watchers) == 0 || s.telling != nil {
		return
	}
	s.telling = s.later(statsDelay, func() {
		s.telling = nil
		for _, r := range s.watchers {
			r.respond(s.counts())
		}
	})
}
