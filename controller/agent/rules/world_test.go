package rules_test

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// epoch is when every story begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// boot is how long a growth takes.
const boot = 9 * time.Second

func read(t testing.TB, path string) *ensemblefile.File {
	t.Helper()
	return parse(t, readText(t, path))
}

func readText(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func parse(t testing.TB, text string) *ensemblefile.File {
	t.Helper()
	file, faults := ensemblefile.ParseFor(ensemblefile.Agent, text, field.NewPath("file"))
	if len(faults) > 0 {
		t.Fatal(faults.ToAggregate())
	}
	return file
}

// world is a queue of jobs on some nodes and a member that can grow, with a clock of its own. Jobs are scheduled first in, first out.
type world struct {
	t     testing.TB
	file  *ensemblefile.File
	state *rules.State
	now   time.Time
	// coming are what happens later, in order.
	coming []coming
	serial int
	// journal has all events of jobs; progress is what was kept for a restart.
	journal  []rules.Job
	progress rules.Progress
	lastID   uint64
	waiting  []*simulated
	has      int32
	free     int32
	size     rules.Size
	// granted are the requests that the other side knows, by their name. outcome is what it answers at a time, Granted if nil.
	granted map[string]bool
	outcome func(*world) rules.Outcome
	program func(*world) []ensemblefile.Action
	// inFlight counts jobs that are being submitted and programs that run, submitted those of each group that were.
	inFlight  int
	submitted map[string]int
	resized   []string
	ended     bool
	story     strings.Builder
}

type coming struct {
	at     time.Time
	serial int
	do     func()
}

type simulated struct {
	id    uint64
	group string
	nodes int32
	runs  time.Duration
	fails bool
}

func newWorld(t testing.TB, file *ensemblefile.File, nodes, most int32) *world {
	t.Helper()
	w := &world{
		t: t, file: file, now: epoch, has: nodes, free: nodes, size: rules.Size{Has: nodes, Wants: nodes, Max: most},
		granted: map[string]bool{}, submitted: map[string]int{},
	}
	w.start()
	return w
}

// start starts the program, which may have run before.
func (w *world) start() {
	w.state = rules.New(w.file, rules.Options{Progress: w.progress})
	w.do(w.state.Apply(w.size, w.now))
	for _, e := range w.journal {
		w.do(w.state.Apply(e, w.now))
	}
	w.do(w.state.Apply(rules.CaughtUp{}, w.now))
}

func (w *world) say(format string, args ...any) {
	fmt.Fprintf(&w.story, "%8.3f  %s\n", w.now.Sub(epoch).Seconds(), fmt.Sprintf(format, args...))
}

func (w *world) in(d time.Duration, do func()) {
	w.serial++
	c := coming{at: w.now.Add(d), serial: w.serial, do: do}
	at, _ := slices.BinarySearchFunc(w.coming, c, func(a, b coming) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.serial, b.serial))
	})
	w.coming = slices.Insert(w.coming, at, c)
}

// step goes on to what comes next, and reports whether there was anything.
func (w *world) step() bool {
	look, ok := w.state.Next()
	switch {
	case w.ended:
		return false
	case ok && (len(w.coming) == 0 || look.Before(w.coming[0].at)):
		if look.Before(w.now) {
			w.t.Fatalf("at %s State wants to look at %s", w.now, look)
		}
		w.now = look
		w.do(w.state.Apply(nil, w.now))
	case len(w.coming) > 0:
		next := w.coming[0]
		w.coming = w.coming[1:]
		w.now = next.at
		next.do()
	default:
		return false
	}
	w.progress = w.state.Progress()
	return true
}

// run goes on to the end, or for an hour.
func (w *world) run() {
	for i := 0; w.step(); i++ {
		if i > 100_000 {
			w.t.Fatalf("there is no end:\n%s", w.story.String())
		}
		if w.now.Sub(epoch) > time.Hour {
			w.say("an hour is over")
			return
		}
	}
	w.say("the end: %v", w.submitted)
}

func (w *world) tell(e rules.Event) {
	if job, is := e.(rules.Job); is {
		w.journal = append(w.journal, job)
	}
	w.do(w.state.Apply(e, w.now))
}

func (w *world) do(actions []rules.Action) {
	for _, a := range actions {
		if w.ended {
			w.t.Errorf("%+v comes after the end", a)
		}
		switch a.Verb {
		case rules.Submit:
			byGroup := map[string]int{}
			for _, o := range a.Jobs {
				byGroup[o.Job.Name]++
				w.submit(o)
			}
			w.say("submit %s [%s]", strings.TrimPrefix(fmt.Sprint(byGroup), "map"), a.Reason)
		case rules.Terminate:
			w.say("terminate [%s]", a.Reason)
			w.ended = true
		case rules.Grow, rules.Shrink:
			w.say("%s %d [%s]", a.Verb, a.Nodes, a.Reason)
			w.in(10*time.Millisecond, func() { w.answer(a) })
		case rules.Custom:
			w.say("run %q [%s]", a.Label, a.Reason)
			w.progress = w.state.Progress()
			var wants []ensemblefile.Action
			if w.program != nil {
				wants = w.program(w)
			}
			w.inFlight++
			w.in(10*time.Millisecond, func() {
				w.inFlight--
				w.tell(rules.Answer{ID: a.ID, Outcome: rules.Granted, Actions: wants})
			})
		default:
			w.t.Fatalf("the action is %+v", a)
		}
	}
}

func (w *world) answer(a rules.Action) {
	outcome := rules.Granted
	if w.outcome != nil {
		outcome = w.outcome(w)
	}
	change := a.Nodes
	if a.Verb == rules.Shrink {
		change = -change
	}
	target := w.size.Wants + change
	switch {
	case w.granted[a.ID]:
		// It is known already, and changes nothing.
	case outcome != rules.Granted || target < 1 || w.size.Max > 0 && target > w.size.Max:
		if outcome == rules.Granted {
			outcome = rules.Denied
		}
		w.say("%s", map[rules.Outcome]string{rules.Denied: "denied", rules.Unreachable: "nobody answers"}[outcome])
		w.tell(rules.Answer{ID: a.ID, Outcome: outcome})
		return
	default:
		w.granted[a.ID] = true
		w.resized = append(w.resized, fmt.Sprintf("%s %d", a.Verb, a.Nodes))
		w.size.Wants = target
		w.in(map[bool]time.Duration{true: boot, false: 0}[a.Verb == rules.Grow], func() {
			w.say("the size is %d", w.size.Wants)
			w.free += w.size.Wants - w.has
			w.has = w.size.Wants
			w.size.Has = w.size.Wants
			w.tell(w.size)
			w.schedule()
		})
	}
	size := w.size
	w.tell(rules.Answer{ID: a.ID, Outcome: rules.Granted, Size: &size})
}

func (w *world) submit(o rules.Order) {
	w.inFlight++
	w.in(time.Millisecond, func() {
		w.inFlight--
		w.submitted[o.Job.Name]++
		w.lastID++
		job := &simulated{id: w.lastID, group: o.Job.Name, nodes: o.Job.Nodes, runs: 10 * time.Millisecond}
		words := ensemblefile.Words(o.Job.Command)
		if words[0] == "sleep" {
			seconds, err := strconv.Atoi(words[1])
			if err != nil {
				w.t.Fatal(err)
			}
			job.runs = time.Duration(seconds) * time.Second
		}
		job.fails = words[0] == "false"
		w.event(job, rules.Job{Name: rules.EventSubmit, Submission: &rules.Submission{Group: job.group, Nodes: job.nodes, Tag: o.Tag}})
		w.event(job, rules.Job{Name: rules.EventDepend})
		w.event(job, rules.Job{Name: rules.EventPriority})
		w.waiting = append(w.waiting, job)
		w.schedule()
	})
}

func (w *world) event(job *simulated, e rules.Job) {
	e.ID, e.At = job.id, w.now
	w.tell(e)
}

// schedule starts the jobs at the head of the queue that fit. One that never will is refused there, as Flux has it.
func (w *world) schedule() {
	for len(w.waiting) > 0 {
		job := w.waiting[0]
		if w.size.Max > 0 && job.nodes > w.size.Max {
			w.waiting = w.waiting[1:]
			w.event(job, rules.Job{Name: rules.EventException, Type: "alloc", Severity: 0})
			w.event(job, rules.Job{Name: rules.EventClean})
			continue
		}
		if job.nodes > w.free {
			return
		}
		w.waiting = w.waiting[1:]
		w.free -= job.nodes
		w.event(job, rules.Job{Name: rules.EventAlloc})
		w.in(2*time.Millisecond, func() {
			w.event(job, rules.Job{Name: rules.EventStart})
			w.in(job.runs, func() {
				status := 0
				if job.fails {
					status = 256
				}
				w.event(job, rules.Job{Name: rules.EventFinish, Status: status})
				w.event(job, rules.Job{Name: rules.EventClean})
				w.free += job.nodes
				w.schedule()
			})
		})
	}
}
