package rules

import (
	"fmt"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// request is a growth, a shrink or a program that is to be asked for until it is granted.
type request struct {
	step
	// own is not set for what the program of a custom action wants done: that uses up no repetition.
	own       bool
	asked     bool
	notBefore time.Time
	refusals  int
}

// How long a request waits before it is made again, at first and at most.
const (
	minRetry       = time.Second
	maxRetry       = 30 * time.Second
	maxAfterDenial = 5 * time.Minute
)

func (s *State) ask(x step) {
	q := &request{step: x, own: x.action == &x.rule.Action}
	if q.own {
		x.rule.open++
	}
	s.requests = append(s.requests, q)
}

// mayServe says whether a request can be made but for its time: one for another size at a time, a growth not while one is under way, and
// one program of a rule at a time.
func (s *State) mayServe(q *request) bool {
	if q.asked || s.ended || Verb(q.action.Name) == Grow && s.growing() {
		return false
	}
	return !slices.ContainsFunc(s.requests, func(other *request) bool {
		return other.asked && (q.isCustom() && other.isCustom() && other.rule == q.rule || !q.isCustom() && !other.isCustom())
	})
}

func (q *request) isCustom() bool { return Verb(q.action.Name) == Custom }

// serve makes the requests that are due.
func (s *State) serve(now time.Time) {
	for _, q := range s.requests {
		if !s.mayServe(q) || q.notBefore.After(now) {
			continue
		}
		q.asked = true
		s.out = append(s.out, Action{
			Verb: Verb(q.action.Name), ID: q.id, Rule: q.rule.place, Nodes: q.action.Value, Label: q.action.Label, Reason: q.reason,
		})
	}
}

func (s *State) answered(a *Answer, now time.Time) {
	s.advance(now)
	if a.Size != nil {
		s.resized(*a.Size)
	}
	at := slices.IndexFunc(s.requests, func(q *request) bool { return q.asked && q.id == a.ID })
	if at < 0 {
		return
	}
	q := s.requests[at]
	q.asked = false
	if a.Outcome == Granted {
		s.requests = slices.Delete(s.requests, at, at+1)
		q.rule.refusals = 0
		if q.own {
			q.rule.open--
		}
		s.follow(q, a.Actions)
		return
	}
	if q.own && q.rule.onWaiting() {
		// The jobs may not wait any more by then: the rule is looked at again, and its repetition given back.
		s.requests = slices.Delete(s.requests, at, at+1)
		q.rule.open--
		q.rule.run--
		q.rule.refusals++
		q.rule.notBefore = now.Add(s.retryAfter(a.Outcome, q.rule.refusals))
		return
	}
	q.refusals++
	q.notBefore = now.Add(s.retryAfter(a.Outcome, q.refusals))
}

// follow does what the program of a custom action wants done.
func (s *State) follow(q *request, actions []ensemblefile.Action) {
	index := 0
	for i := range actions {
		if s.ended {
			return
		}
		if s.options.CannotResize && (Verb(actions[i].Name) == Grow || Verb(actions[i].Name) == Shrink) {
			continue
		}
		index = s.perform(step{
			rule: q.rule, action: &actions[i], run: q.run, id: fmt.Sprintf("%s.%d", q.id, i+1),
			reason: fmt.Sprintf("%s: %q wants it done", q.rule.place, q.action.Label),
		}, index)
	}
}

func (s *State) retryAfter(outcome Outcome, refusals int) time.Duration {
	least, most := minRetry, maxRetry
	if outcome == Denied {
		least, most = s.period, max(s.period, maxAfterDenial)
	}
	wait := least
	for ; refusals > 1 && wait < most; refusals-- {
		wait *= 2
	}
	return min(most, wait)
}

// Progress is what is to be kept for a restart: what became of requests. A program that was started counts as run.
func (s *State) Progress() Progress {
	out := Progress{}
	for _, r := range s.rules {
		if r.asks() {
			out[r.id] = r.run
		}
	}
	for _, q := range s.requests {
		if started := q.isCustom() && q.asked; q.own && !started {
			out[q.rule.id]--
		}
	}
	return out
}
