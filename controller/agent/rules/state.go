package rules

import (
	"fmt"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// defaultPeriod is the time between two runs of a rule on waiting jobs that stays true, in a file without a heartbeat.
const defaultPeriod = 10 * time.Second

// Options are what a State is made with.
type Options struct {
	// CannotResize is set where nobody can be asked for another size. Rules that grow or shrink are never run then.
	CannotResize bool
	// Progress is what became of requests before a restart; nil where nothing is kept of it.
	Progress Progress
	// ProgressLost says that something may have been kept, and could not be read.
	ProgressLost bool
	// Submitted are jobs that are known to be submitted though the journal may not have them yet.
	Submitted []Tag
}

// Progress is how many repetitions of the rules that grow, shrink or run a program were granted, by the identity of the rule.
type Progress map[string]int

// State is an ensemble at one moment. It is not safe for concurrent use.
type State struct {
	options Options
	period  time.Duration
	rules   []*rule
	entries map[string][]*ensemblefile.Job
	groups  map[string]*group
	jobs    map[uint64]*job
	queue   queue
	// now is the time up to which State has looked.
	now time.Time
	// backlog has the events that were told before CaughtUp, and present the jobs among them that rules have submitted.
	caughtUp  bool
	replaying bool
	backlog   []Job
	present   map[Tag]bool
	// byTag has the first job of each tag, and over those jobs of the backlog that have ended.
	byTag map[Tag]uint64
	over  map[uint64]bool
	// rejected are the jobs that Flux has not taken and that are counted.
	rejected map[Tag]bool
	size     Size
	requests []*request
	// serial is that of the last request, and asking says that somebody is being asked for another size.
	serial int
	asking bool
	ended  bool
	out    []Action
}

// New is the state of an ensemble of which nothing has been told yet. The file was read for ensemblefile.Agent.
func New(file *ensemblefile.File, options Options) *State {
	s := &State{
		options: options, period: defaultPeriod, rules: newRules(file), entries: map[string][]*ensemblefile.Job{},
		groups: map[string]*group{}, jobs: map[uint64]*job{}, queue: newQueue(), present: map[Tag]bool{}, rejected: map[Tag]bool{},
		byTag: map[Tag]uint64{}, over: map[uint64]bool{},
	}
	if file.Logging.Heartbeat > 0 {
		s.period = max(time.Millisecond, seconds(float64(file.Logging.Heartbeat)))
	}
	for i := range file.Jobs {
		entry := &file.Jobs[i]
		s.entries[entry.Name] = append(s.entries[entry.Name], entry)
		if s.groups[entry.Name] == nil {
			s.groups[entry.Name] = newGroup()
		}
	}
	for _, tag := range options.Submitted {
		s.present[tag] = true
	}
	return s
}

// Apply takes an event, or with nil only the time, and returns what is to be done, in order.
//
// The time must not run backwards; an earlier one counts as the last one. Events of jobs are taken at their own time where that is later
// than what State has seen, and not later than now.
func (s *State) Apply(event Event, now time.Time) []Action {
	s.out = nil
	if now.Before(s.now) {
		now = s.now
	}
	switch e := event.(type) {
	case Job:
		if !Concerns(e.Name) {
			break
		}
		if !s.caughtUp {
			s.backlog = append(s.backlog, e)
			return nil
		}
		s.advance(earlier(e.At, now))
		s.apply(&e)
	case CaughtUp:
		if !s.caughtUp {
			s.catchUp(now)
		}
	case Rejected:
		s.advance(now)
		s.reject(e.Group, e.Tag)
	case Size:
		if s.caughtUp {
			s.advance(now)
		}
		s.resized(e)
	case Answer:
		s.answered(&e, now)
	}
	if s.caughtUp {
		s.advance(now)
		s.serve(now)
	}
	return s.out
}

// Next is when to look again if no event comes before; there is no such time where ok is not set.
func (s *State) Next() (at time.Time, ok bool) {
	if !s.caughtUp || s.ended {
		return time.Time{}, false
	}
	for _, r := range s.rules {
		if due, is := s.due(r); is && (!ok || due.Before(at)) {
			at, ok = due, true
		}
	}
	for _, q := range s.requests {
		if s.mayServe(q) && (!ok || q.notBefore.Before(at)) {
			at, ok = q.notBefore, true
		}
	}
	return at, ok
}

// CaughtUp says that State has been told what happened before. No action comes earlier.
func (s *State) CaughtUp() bool { return s.caughtUp }

// resized takes a size; the largest one that is allowed stays known where it is not said again. After a growth jobs have a period to start
// before those that wait are a reason for the next one.
func (s *State) resized(size Size) {
	if size.Max == 0 {
		size.Max = s.size.Max
	}
	grew := s.growing()
	s.size = size
	if !grew || s.growing() {
		return
	}
	for _, r := range s.rules {
		if after := s.now.Add(s.period); r.onWaiting() && Verb(r.Action.Name) == Grow && r.notBefore.Before(after) {
			r.notBefore = after
		}
	}
}

// Ended says that a rule has terminated the ensemble. No action comes after that.
func (s *State) Ended() bool { return s.ended }

// NotRun are the rules that are never run because nobody can be asked for another size, each as a sentence.
func (s *State) NotRun() []string {
	var out []string
	for _, r := range s.rules {
		if s.options.CannotResize && r.resizes() {
			out = append(out, fmt.Sprintf("%s.action.name is %q, and without an endpoint nobody can be asked for another size: the rule is not run",
				r.place, r.Action.Name))
		}
	}
	return out
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// catchUp goes through what happened before, in the order of time.
func (s *State) catchUp(now time.Time) {
	s.caughtUp, s.replaying = true, true
	s.forgetRejected()
	slices.SortStableFunc(s.backlog, func(a, b Job) int { return a.At.Compare(b.At) })
	for i := range s.backlog {
		if sub := s.backlog[i].Submission; sub != nil && sub.Tag != (Tag{}) {
			s.present[sub.Tag] = true
		}
		if s.backlog[i].Name == EventClean {
			s.over[s.backlog[i].ID] = true
		}
	}
	s.now = now
	if len(s.backlog) > 0 {
		s.now = earlier(s.backlog[0].At, now)
	}
	for _, r := range s.rules {
		if r.Trigger == ensemblefile.TriggerStart {
			s.trigger(r, "the ensemble starts")
		}
	}
	for i := range s.backlog {
		s.advance(earlier(s.backlog[i].At, now))
		s.apply(&s.backlog[i])
	}
	s.replaying = false
	// Where nothing is kept, and nothing has happened, nothing was asked for.
	known := s.options.Progress != nil || !s.options.ProgressLost && len(s.backlog) == 0 && len(s.options.Submitted) == 0
	for _, r := range s.rules {
		if !known || !r.asks() {
			continue
		}
		begun := r.run
		r.run = min(begun, s.options.Progress[r.id])
		if r.onWaiting() {
			continue
		}
		for range begun - r.run {
			if !s.ended {
				s.begin(r, r.because("it was due before the start of this program"))
			}
		}
	}
	s.backlog, s.present, s.over = nil, nil, nil
}

// forgetRejected takes from what happened before the jobs that were rejected: those that rules want are submitted again.
func (s *State) forgetRejected() {
	gone := map[uint64]bool{}
	for i := range s.backlog {
		if s.backlog[i].Name == EventInvalidate {
			gone[s.backlog[i].ID] = true
		}
	}
	s.backlog = slices.DeleteFunc(s.backlog, func(e Job) bool { return gone[e.ID] })
}

// advance goes to a time, and on the way runs the rules on waiting jobs as they become true.
func (s *State) advance(to time.Time) {
	for !s.ended {
		var first *rule
		var at time.Time
		for _, r := range s.rules {
			if due, ok := s.due(r); ok && !due.After(to) && (first == nil || due.Before(at)) {
				first, at = r, due
			}
		}
		if first == nil {
			break
		}
		if at.After(s.now) {
			s.now = at
		}
		s.runWaiting(first)
	}
	if to.After(s.now) {
		s.now = to
	}
}

// due is when a rule on waiting jobs is to be run, if no event comes before.
func (s *State) due(r *rule) (time.Time, bool) {
	if !r.onWaiting() || r.exhausted() || r.open || s.unable(r) || !s.replaying && Verb(r.Action.Name) == Grow && s.growing() {
		return time.Time{}, false
	}
	from, ok := s.measure(r).holdsFrom(r.When, s.now)
	if ok && from.Before(r.notBefore) {
		from = r.notBefore
	}
	return from, ok
}

func (s *State) measure(r *rule) pending {
	g := s.groups[r.metric.Job]
	most := int32(0)
	if Verb(r.Action.Name) == Grow {
		most = s.size.Max
	}
	if r.measured.version != g.version || r.measured.max != most {
		r.measured.pending, r.measured.version, r.measured.max = g.pendingOf(r.metric.Statistic, most), g.version, most
	}
	return r.measured.pending
}

func (s *State) runWaiting(r *rule) {
	p := s.measure(r)
	r.notBefore = s.now.Add(seconds(s.period.Seconds() * (1 + float64(r.Action.Backoff))))
	unit := " s"
	if r.metric.Statistic == "variance" {
		unit = " s²"
	}
	s.begin(r, r.because("%s of %q wait, and %s is %.3f%s", plural(p.jobs, "job"), r.metric.Job, r.Name, p.at(s.now), unit))
}

// growing says that a growth of the member is under way.
func (s *State) growing() bool { return s.size.Wants > s.size.Has }

// unable says that the rule is never run.
func (s *State) unable(r *rule) bool { return s.options.CannotResize && r.resizes() }

// trigger runs a rule unless its repetitions are used up or it is to let this trigger pass.
func (s *State) trigger(r *rule, reason string) {
	switch {
	case s.ended || r.exhausted() || s.unable(r):
	case r.skip > 0:
		r.skip--
	default:
		r.skip = r.Action.Backoff
		s.begin(r, r.because("%s", reason))
	}
}

// begin begins the next repetition of a rule.
func (s *State) begin(r *rule, reason string) {
	if r.open {
		s.serial++
		r.later = append(r.later, later{serial: s.serial, reason: reason})
		return
	}
	r.run++
	s.perform(s.repetition(r, reason), 0)
}

// repetition is the one that a rule has begun last.
func (s *State) repetition(r *rule, reason string) step {
	return step{rule: r, action: &r.Action, run: r.run, id: fmt.Sprintf("%s.%d", r.id, r.run), reason: reason}
}

// step is an action that a repetition of a rule leads to, with its identity and its reason.
type step struct {
	rule   *rule
	action *ensemblefile.Action
	run    int
	id     string
	reason string
}

// perform does an action. Index is that of the first job, where it submits.
func (s *State) perform(x step, index int) (nextIndex int) {
	r, action := x.rule, x.action
	switch verb := Verb(action.Name); verb {
	case Submit:
		var orders []Order
		for _, entry := range s.entries[action.Label] {
			for range entry.Count {
				tag := Tag{Rule: r.id, Run: x.run, Index: index}
				index++
				if !s.replaying || !s.present[tag] {
					orders = append(orders, Order{Job: entry, Tag: tag})
				}
			}
		}
		if len(orders) > 0 {
			s.out = append(s.out, Action{Verb: verb, Rule: r.place, Jobs: orders, Reason: x.reason})
		}
	case Terminate:
		s.ended = true
		s.out = append(s.out, Action{Verb: verb, Rule: r.place, Reason: x.reason})
	default:
		if !s.replaying {
			s.ask(x)
		}
	}
	return index
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
