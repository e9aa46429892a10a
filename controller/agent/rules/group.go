package rules

import (
	"math"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// group is what is known of the jobs of one name.
type group struct {
	counts map[string]int64
	// durations has the statistics of the seconds that jobs ran, and ended so many.
	durations map[string]statistic
	ended     int
	// waiting are the jobs that wait, in the order of their submission.
	waiting []waiter
	// version changes with waiting.
	version int
}

func newGroup() *group {
	g := &group{counts: map[string]int64{}, durations: map[string]statistic{}}
	for _, name := range statistics {
		g.durations[name] = newStatistic(name)
	}
	return g
}

type waiter struct {
	since time.Time
	id    uint64
	nodes int32
}

func (w waiter) compare(other waiter) int {
	if c := w.since.Compare(other.since); c != 0 {
		return c
	}
	switch {
	case w.id < other.id:
		return -1
	case w.id > other.id:
		return 1
	}
	return 0
}

func (g *group) wait(w waiter) {
	at, found := slices.BinarySearchFunc(g.waiting, w, waiter.compare)
	if !found {
		g.waiting = slices.Insert(g.waiting, at, w)
		g.version++
	}
}

func (g *group) waitNoMore(w waiter) {
	if at, found := slices.BinarySearchFunc(g.waiting, w, waiter.compare); found {
		g.waiting = slices.Delete(g.waiting, at, at+1)
		g.version++
	}
}

// ran adds the time that a job ran.
func (g *group) ran(d time.Duration) {
	g.ended++
	for _, s := range g.durations {
		s.add(d.Seconds())
	}
}

// pending is the time that jobs wait, by one statistic, as a function of the clock.
type pending struct {
	jobs int
	// origin is what the statistic grows from by the second, zero for a statistic that stays the same as time goes by.
	origin time.Time
	// fixed is the value in seconds, or its square, of one that stays the same.
	fixed float64
}

// pendingOf measures the jobs of a group that wait and need at most so many nodes; 0 is any number.
func (g *group) pendingOf(metric string, maxNodes int32) pending {
	jobs := g.waiting
	if maxNodes > 0 && slices.ContainsFunc(jobs, func(w waiter) bool { return w.nodes > maxNodes }) {
		jobs = slices.DeleteFunc(slices.Clone(jobs), func(w waiter) bool { return w.nodes > maxNodes })
	}
	if len(jobs) == 0 {
		return pending{}
	}
	out := pending{jobs: len(jobs)}
	oldest := jobs[0].since
	switch metric {
	case "max":
		out.origin = oldest
		return out
	case "min":
		out.origin = jobs[len(jobs)-1].since
		return out
	}
	later := make([]float64, len(jobs))
	var moments variance
	for i, w := range jobs {
		later[i] = w.since.Sub(oldest).Seconds()
		moments.add(later[i])
	}
	switch metric {
	case "mean":
		out.origin = oldest.Add(seconds(moments.mean))
	case "variance":
		out.fixed = moments.value()
	case "iqr":
		out.fixed = ranked(later, 0.75) - ranked(later, 0.25)
	default: // "mad"
		median := ranked(later, 0.5)
		for i := range later {
			later[i] = math.Abs(later[i] - median)
		}
		slices.Sort(later)
		out.fixed = ranked(later, 0.5)
	}
	return out
}

func (p pending) at(now time.Time) float64 {
	if p.origin.IsZero() {
		return p.fixed
	}
	return max(0, now.Sub(p.origin).Seconds())
}

// holdsFrom is the first moment from now on at which the condition holds if no event comes; there is none where jobs is 0, or time alone
// does not lead there.
func (p pending) holdsFrom(when *ensemblefile.When, now time.Time) (time.Time, bool) {
	switch {
	case p.jobs == 0:
		return time.Time{}, false
	case holds(when, p.at(now)):
		return now, true
	case p.origin.IsZero() || when == nil || when.Number > maxSeconds:
		return time.Time{}, false
	}
	from := p.origin.Add(seconds(when.Number))
	switch when.Comparison {
	case ensemblefile.Greater:
		from = from.Add(1)
	case ensemblefile.GreaterOrEqual, ensemblefile.Equal:
	default:
		return time.Time{}, false
	}
	// What is added and taken off again may be off by the last digit.
	for step := time.Duration(1); !holds(when, p.at(from)); step *= 2 {
		from = from.Add(step)
	}
	if from.Before(now) {
		return now, true
	}
	return from, true
}

// maxSeconds is longer than any job waits, and still a time.Duration: a hundred years.
const maxSeconds = 100 * 365 * 24 * 3600

func seconds(s float64) time.Duration {
	return time.Duration(min(s, maxSeconds) * float64(time.Second))
}

// holds says whether a value fulfils a condition. A plain number is one that the value has to reach.
func holds(when *ensemblefile.When, value float64) bool {
	if when == nil {
		return true
	}
	switch when.Comparison {
	case ensemblefile.Less:
		return value < when.Number
	case ensemblefile.LessOrEqual:
		return value <= when.Number
	case ensemblefile.Greater:
		return value > when.Number
	default: // GreaterOrEqual and Equal
		return value >= when.Number
	}
}

// isLower says that a condition is on small values.
func isLower(when *ensemblefile.When) bool {
	return when != nil && (when.Comparison == ensemblefile.Less || when.Comparison == ensemblefile.LessOrEqual)
}
