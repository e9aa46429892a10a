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
	own bool
	// serial is larger than those of the requests that are older.
	serial    int
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

// later is a repetition that is due and waits until the one before it is granted.
type later struct {
	serial int
	reason string
}

// ask makes a request. A rule has at most one that is its own; of what its programs want only the last is kept, and what is under way.
func (s *State) ask(x step) {
	s.serial++
	q := &request{step: x, own: x.action == &x.rule.Action, serial: s.serial}
	if q.own {
		x.rule.open = true
	} else {
		s.requests = slices.DeleteFunc(s.requests, func(other *request) bool {
			return !other.own && !other.asked && other.rule == x.rule && other.run < x.run
		})
	}
	s.requests = append(s.requests, q)
}

// discard takes back the older requests for the opposite of what was granted: they were made for a state that is over. Their repetitions
// count as done.
func (s *State) discard(granted *request) {
	old := func(action *ensemblefile.Action, serial int) bool {
		verb, other := Verb(granted.action.Name), Verb(action.Name)
		return serial < granted.serial && (verb == Grow && other == Shrink || verb == Shrink && other == Grow)
	}
	for _, r := range s.rules {
		r.later = slices.DeleteFunc(r.later, func(l later) bool {
			if !old(&r.Action, l.serial) {
				return false
			}
			r.run++
			return true
		})
	}
	s.requests = slices.DeleteFunc(s.requests, func(q *request) bool {
		if q.asked || !old(q.action, q.serial) {
			return false
		}
		if q.own {
			q.rule.open = false
		}
		return true
	})
}

// goOn begins the repetitions that have waited for others.
func (s *State) goOn() {
	for _, r := range s.rules {
		if !r.open && len(r.later) > 0 && !s.ended {
			next := r.later[0]
			r.later = r.later[1:]
			r.run++
			s.perform(s.repetition(r, next.reason), 0)
		}
	}
}

// mayServe says whether a request can be made but for its time: one for another size at a time, a growth not while one is under way, and
// one program of a rule at a time.
func (s *State) mayServe(q *request) bool {
	if q.asked || s.ended || Verb(q.action.Name) == Grow && s.growing() {
		return false
	}
	return q.isCustom() || !s.asking
}

func (q *request) isCustom() bool { return Verb(q.action.Name) == Custom }

// serve makes the requests that are due.
func (s *State) serve(now time.Time) {
	for _, q := range s.requests {
		if !s.mayServe(q) || q.notBefore.After(now) {
			continue
		}
		q.asked = true
		s.asking = s.asking || !q.isCustom()
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
	s.asking = s.asking && q.isCustom()
	if a.Outcome == Granted {
		s.requests = slices.Delete(s.requests, at, at+1)
		q.rule.refusals = 0
		if q.own {
			q.rule.open = false
		}
		s.discard(q)
		s.follow(q, a.Actions)
		s.goOn()
		return
	}
	if q.own && q.rule.onWaiting() {
		// The jobs may not wait any more by then: the rule is looked at again, and its repetition given back.
		s.requests = slices.Delete(s.requests, at, at+1)
		q.rule.open = false
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
