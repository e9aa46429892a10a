package agent_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
)

const bothWays = `
logging: {heartbeat: 3}
jobs: [{name: wait, command: sleep 30, count: 10, nodes: 1}]
rules:
- {trigger: start, action: {name: submit, label: wait}}
- {trigger: metric, name: mean.wait-pending, when: "> 5", action: {name: grow, value: 2, repetitions: 3}}
- {trigger: metric, name: count.wait.success, when: 5, action: {name: shrink, value: 2}}
- {trigger: metric, name: count.wait.finished, when: 10, action: {name: terminate}}
`

// world is a queue, an operator, and how the agent is run on them.
type world struct {
	*queue
	*operator
	config agent.Config
}

func newWorld(t *testing.T, text string) *world {
	t.Helper()
	q := newQueue(2)
	o := &operator{queue: q, size: rules.Size{Has: 2, Wants: 2, Max: 6}}
	return &world{queue: q, operator: o, config: agent.Config{
		File: parse(t, text), Queue: q, Operator: o, Store: agent.FileStore{Path: filepath.Join(t.TempDir(), "progress.json")},
		Log: testr.New(t), Clock: clock.RealClock{},
	}}
}

// run runs the agent, and again whenever it is told to end before the rules have ended.
func (w *world) run(t *testing.T, restarts ...time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for _, after := range restarts {
		part, end := context.WithTimeout(ctx, after)
		err := agent.Run(part, w.config)
		end()
		if err == nil {
			return
		}
	}
	if err := agent.Run(ctx, w.config); err != nil {
		t.Fatalf("the agent has ended: %v; asked %v, granted %v, submitted %v", err, w.asked, w.granted, w.byGroup)
	}
}

func (w *world) check(t *testing.T, jobs map[string]int, granted ...string) {
	t.Helper()
	if diff := cmp.Diff(jobs, w.byGroup); diff != "" {
		t.Errorf("submitted (-want +got):\n%s", diff)
	}
	if twice := w.twice(); len(twice) > 0 {
		t.Errorf("submitted more than once: %v", twice)
	}
	if diff := cmp.Diff(granted, w.granted); diff != "" {
		t.Errorf("granted (-want +got):\n%s", diff)
	}
}

func TestBothWays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bothWays)
		begun := time.Now()
		w.run(t)
		w.check(t, map[string]int{"wait": 10}, "grow 2", "grow 2", "shrink 2")
		if took := time.Since(begun); took > 110*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// TestThroughTrouble: the same comes of it when the endpoint is a black hole for a while, the journal is lost, and the agent is restarted.
func TestThroughTrouble(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		trouble  func(w *world, since time.Duration) way
		losing   []time.Duration
		restarts []time.Duration
		granted  []string
	}{
		"a black hole from the beginning": {trouble: func(_ *world, since time.Duration) way {
			return map[bool]way{true: swallowed}[since < 40*time.Second]
		}},
		// By then there is no job left that waits.
		"a black hole in the middle": {granted: []string{"grow 2", "shrink 2"}, trouble: func(_ *world, since time.Duration) way {
			return map[bool]way{true: swallowed}[since > 10*time.Second && since < 50*time.Second]
		}},
		"answers are lost": {trouble: func(_ *world, since time.Duration) way {
			return map[bool]way{true: lost}[int(since.Seconds())%20 < 10]
		}},
		"the journal is lost":             {losing: []time.Duration{time.Second, 7 * time.Second, 20 * time.Second, 45 * time.Second}},
		"the agent is restarted":          {restarts: []time.Duration{time.Second, 5 * time.Second, 3 * time.Second, 20 * time.Second, time.Second}},
		"the agent is restarted and lost": {losing: []time.Duration{8 * time.Second}, restarts: []time.Duration{6 * time.Second, 6 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, bothWays)
				begun := time.Now()
				if row.trouble != nil {
					w.answers = func() way { return row.trouble(w, time.Since(begun)) }
				}
				for _, after := range row.losing {
					time.AfterFunc(after, w.lose)
				}
				w.run(t, row.restarts...)
				if row.granted == nil {
					row.granted = []string{"grow 2", "grow 2", "shrink 2"}
				}
				w.check(t, map[string]int{"wait": 10}, row.granted...)
			})
		})
	}
}

// TestALostReplyIsAskedAgain: the endpoint knows the name, and what the size shows may be the doing of others.
func TestALostReplyIsAskedAgain(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]way{"the request has arrived": lost, "it has not": broken} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, `
jobs: [{name: wait, command: sleep 300, nodes: 1}]
rules:
- {trigger: start, action: {name: submit, label: wait}}
- {trigger: start, action: {name: grow, value: 2}}
- {trigger: metric, name: count.wait.finished, when: 1, action: {name: terminate}}
`)
				w.resizing = func() way {
					if len(w.asked) > 0 {
						return answered
					}
					if first == broken {
						// Somebody else lets it grow at the same time.
						w.size.Wants, w.size.Has = 3, 3
					}
					return first
				}
				w.run(t)
				w.check(t, map[string]int{"wait": 1}, "grow 2")
				if len(w.asked) != 2 || w.asked[0] != w.asked[1] {
					t.Errorf("it asked %v, want the same twice", w.asked)
				}
			})
		})
	}
}

// TestALostReplyIsNotAskedAgain: of an endpoint that does not know names the size shows that the request arrived.
func TestALostReplyIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, `
jobs: [{name: wait, command: sleep 300, nodes: 1}]
rules:
- {trigger: start, action: {name: submit, label: wait}}
- {trigger: start, action: {name: grow, value: 2}}
- {trigger: metric, name: count.wait.finished, when: 1, action: {name: terminate}}
`)
		w.size.Max = 0
		w.answers = func() way { return map[bool]way{true: lost}[len(w.asked) == 0] }
		w.run(t)
		w.check(t, map[string]int{"wait": 1}, "grow 2")
		if len(w.asked) != 1 || !regexp.MustCompile(`^[0-9a-f]{12}-[0-9a-f]{8}\.1$`).MatchString(w.asked[0]) {
			t.Errorf("it asked %v, want one request with the name of the instance and of the rule", w.asked)
		}
	})
}

// TestAKillWhileItAsks: the program is killed when a request has arrived and its answer has not. The next one makes it again, by the same name.
func TestAKillWhileItAsks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, `
jobs: [{name: wait, command: sleep 300, nodes: 1}]
rules:
- {trigger: start, action: {name: submit, label: wait}}
- {trigger: start, action: {name: shrink}}
- {trigger: metric, name: count.wait.finished, when: 1, action: {name: terminate}}
`)
		ctx, kill := context.WithCancel(t.Context())
		w.resizing = func() way {
			if len(w.asked) > 0 {
				return answered
			}
			kill()
			return lost
		}
		if err := agent.Run(ctx, w.config); !errors.Is(err, context.Canceled) {
			t.Fatalf("the agent has ended with %v", err)
		}
		if len(w.asked) != 1 {
			t.Fatalf("it asked %v before it was killed, want one request", w.asked)
		}
		w.run(t)
		w.check(t, map[string]int{"wait": 1}, "shrink 1")
		if len(w.asked) != 2 || w.asked[0] != w.asked[1] {
			t.Errorf("it asked %v, want the same request twice", w.asked)
		}
	})
}

// TestSubmissions: a job whose submission fails is submitted again unless it shows in the journal, and one that is refused counts as failed.
func TestSubmissions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, `
jobs: [{name: wait, command: sleep 5, count: 40, nodes: 1}, {name: wrong, command: "no"}]
rules:
- {trigger: start, action: {name: submit, label: wait}}
- {trigger: metric, name: count.wait.success, when: 40, action: {name: submit, label: wrong}}
- {trigger: metric, name: count.wrong.failed, when: 1, action: {name: terminate}}
`)
		calls := 0
		w.submitting = func(order rules.Order) (error, bool) {
			calls++
			switch {
			case order.Job.Name == "wrong":
				return &agent.RefusedError{Err: errors.New("no")}, false
			case calls%3 == 0:
				return errLost, true
			case calls%3 == 1:
				return errLost, false
			}
			return nil, true
		}
		time.AfterFunc(time.Second, w.lose)
		w.run(t)
		w.check(t, map[string]int{"wait": 40})
	})
}

// TestASlowSubmission: a submission that is carried out late is waited for, and not made again.
func TestASlowSubmission(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, `
jobs: [{name: wait, command: sleep 5, count: 3, nodes: 1}]
rules:
- {trigger: start, action: {name: submit, label: wait}}
- {trigger: metric, name: count.wait.success, when: 3, action: {name: terminate}}
`)
		w.slow = func(order rules.Order) time.Duration { return time.Duration(20*order.Tag.Index) * time.Second }
		// The journal is opened again meanwhile.
		time.AfterFunc(15*time.Second, w.lose)
		w.run(t)
		w.check(t, map[string]int{"wait": 3})
	})
}

// TestAJobThatWasSubmittedTwice: the connection is lost, the journal is read again and does not show the job, and what was asked first is
// carried out all the same. The second job is cancelled, and not counted.
func TestAJobThatWasSubmittedTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, `
jobs: [{name: wait, command: sleep 30, nodes: 1}, {name: other, command: sleep 1}]
rules:
- {trigger: start, action: {name: submit, label: wait}}
- {trigger: metric, name: count.wait.finished, when: 2, action: {name: submit, label: other}}
`)
		calls := 0
		w.submitting = func(order rules.Order) (error, bool) {
			if calls++; calls == 1 {
				time.AfterFunc(10*time.Second, func() {
					if err := w.take(order); err != nil {
						t.Error(err)
					}
				})
				return errLost, false
			}
			return nil, true
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		if err := agent.Run(ctx, w.config); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("the agent has ended with %v", err)
		}
		if diff := cmp.Diff([]uint64{2}, w.cancelled); diff != "" {
			t.Errorf("cancelled (-want +got):\n%s", diff)
		}
		if w.byGroup["wait"] != 2 || w.byGroup["other"] != 0 {
			t.Errorf("submitted were %v, want two jobs named wait of which one counts", w.byGroup)
		}
	})
}

// failing is a store that fails for a while.
type failing struct {
	agent.Store
	loads, saves func() bool
}

func (f *failing) Load(instance string) (agent.Kept, error) {
	if f.loads != nil && f.loads() {
		return agent.Kept{}, errLost
	}
	return f.Store.Load(instance)
}

func (f *failing) Save(instance string, kept agent.Kept) error {
	if f.saves != nil && f.saves() {
		return errLost
	}
	return f.Store.Save(instance, kept)
}

const shrinksOnce = `
jobs: [{name: wait, command: sleep 300, nodes: 1}]
rules:
- {trigger: start, action: {name: submit, label: wait}}
- {trigger: start, action: {name: shrink}}
- {trigger: metric, name: count.wait.finished, when: 1, action: {name: terminate}}
`

// TestAStoreThatFails: what the program knows is not given up for what it could not save, and what could not be saved is saved later.
func TestAStoreThatFails(t *testing.T) {
	t.Parallel()
	for name, made := range map[string]func(since func() time.Duration) *failing{
		"nothing can be saved": func(since func() time.Duration) *failing {
			return &failing{saves: func() bool { return true }}
		},
		"nothing can be saved for a while": func(since func() time.Duration) *failing {
			return &failing{saves: func() bool { return since() < 3*time.Second }}
		},
		"it cannot be read again": func(since func() time.Duration) *failing {
			return &failing{loads: func() bool { return since() > time.Second }}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, shrinksOnce)
				begun := time.Now()
				store := made(func() time.Duration { return time.Since(begun) })
				store.Store = w.config.Store
				w.config.Store = store
				// The shrink is still to be asked for when the journal is lost.
				w.resizing = func() way { return map[bool]way{true: denied}[time.Since(begun) < 40*time.Second] }
				time.AfterFunc(30*time.Second, w.lose)
				w.run(t)
				w.check(t, map[string]int{"wait": 1}, "shrink 1")
			})
		})
	}
}

// TestSavingIsTriedAgain though nothing else happens: the size is asked for at 2 s and at 17 s.
func TestSavingIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, shrinksOnce)
		begun, files := time.Now(), w.config.Store
		w.config.Store = &failing{Store: files, saves: func() bool { return time.Since(begun) < 3*time.Second }}
		ctx, cancel := context.WithTimeout(t.Context(), 14*time.Second)
		defer cancel()
		if err := agent.Run(ctx, w.config); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("the agent has ended with %v", err)
		}
		if kept, err := files.Load("first"); err != nil || len(kept.Granted) != 1 {
			t.Errorf("%v is kept, %v; want that the shrink was granted", kept, err)
		}
	})
}

// TestNothingKept: without progress, and with no job of its own in the journal, a request may have been granted.
func TestNothingKept(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		loads   func() bool
		jobs    bool
		granted []string
	}{
		"nothing has happened": {granted: []string{"shrink 1"}},
		"somebody has jobs":    {jobs: true},
		"it cannot be read":    {loads: func() bool { return true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "jobs: [{name: wait, command: sleep 3}]\nrules: [{trigger: start, action: {name: shrink}}]\n")
				w.config.Store = &failing{Store: w.config.Store, loads: row.loads}
				if row.jobs {
					if err := w.take(rules.Order{Job: &w.config.File.Jobs[0]}); err != nil {
						t.Fatal(err)
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := agent.Run(ctx, w.config); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("the agent has ended with %v", err)
				}
				if diff := cmp.Diff(row.granted, w.granted); diff != "" {
					t.Errorf("granted (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestAnotherInstance: jobs of a lead that was lost are submitted again, and requests are made again.
func TestAnotherInstance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bothWays)
		time.AfterFunc(4*time.Second, func() {
			w.locked(func() {
				w.instance, w.journal, w.waiting, w.busy = "second", nil, nil, 0
				w.byGroup, w.byTag = map[string]int{}, map[rules.Tag]int{}
			})
			w.lose()
		})
		w.run(t)
		if w.byGroup["wait"] != 10 {
			t.Errorf("%d jobs were submitted in the second instance, want 10", w.byGroup["wait"])
		}
	})
}

func (w *world) locked(do func()) {
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	do()
}

func TestWithoutAnOperator(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bothWays)
		w.config.Operator = nil
		w.run(t)
		w.check(t, map[string]int{"wait": 10})
	})
}

// TestReports: the queue is reported when it changes, at most every two seconds, and not while nothing changes.
func TestReports(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, `
jobs: [{name: wait, command: sleep 60, count: 4, nodes: 1}, {name: big, command: sleep 1, count: 1, nodes: 6}]
rules:
- {trigger: start, action: {name: submit, label: wait}}
- {trigger: start, action: {name: submit, label: big}}
- {trigger: metric, name: count.wait.finished, when: 4, action: {name: terminate}}
`)
		w.run(t)
		if n := len(w.reports); n < 2 || n > 6 {
			t.Errorf("there were %d reports", n)
		}
		for i := range w.reports[1:] {
			if between := w.reports[i+1].at.Sub(w.reports[i].at); between < 2*time.Second {
				t.Errorf("reports %d and %d are %s apart", i, i+1, between)
			}
		}
		want := agent.Report{
			Report: rules.Report{
				Queue:   map[string]int64{"new": 0, "depend": 3, "priority": 0, "sched": 0, "run": 2, "cleanup": 0, "inactive": 0},
				Waiting: map[int32]int64{1: 2, 6: 1},
			},
			Nodes: agent.Nodes{Up: 2},
		}
		seen := false
		for _, r := range w.reports {
			seen = seen || cmp.Equal(want, r.report)
		}
		if !seen {
			t.Errorf("none of the reports is %+v: %+v", want, w.reports)
		}
	})
}

// TestReportsOfAnIdleQueue: nodes that come are reported though no job changes, and what does not change is reported every four minutes.
func TestReportsOfAnIdleQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "jobs: []\nrules: []\n")
		begun := time.Now()
		time.AfterFunc(time.Minute, func() { w.resize(5) })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		if err := agent.Run(ctx, w.config); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("the agent has ended with %v", err)
		}
		var got []string
		for _, r := range w.reports {
			got = append(got, fmt.Sprintf("%s: %d", r.at.Sub(begun).Round(time.Minute), r.report.Nodes.Up))
		}
		if diff := cmp.Diff([]string{"0s: 2", "1m0s: 5", "5m0s: 5", "9m0s: 5"}, got); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
	})
}

func TestPrograms(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, `
jobs: [{name: try, command: sleep 1}]
rules:
- {trigger: start, action: {name: submit, label: try}}
- {trigger: job-success, action: {name: custom, label: decide --more, repetitions: 4}}
`)
		p := &programs{outputs: []string{
			`[{"name": "submit", "label": "try"}, {"name": "submit", "label": "try"}]`, "no JSON", `{"name": "terminate"}`,
		}}
		w.config.Programs = p
		w.run(t)
		w.check(t, map[string]int{"try": 3})
		if len(p.inputs) != 3 || !strings.HasPrefix(p.inputs[0], `decide --more {"rule":"rules[1]",`) ||
			!strings.Contains(p.inputs[0], `"count":{"try":{"finished":1,"success":1}}`) {
			t.Errorf("the programs read %q", p.inputs)
		}
	})
}

func TestFileStore(t *testing.T) {
	t.Parallel()
	store := agent.FileStore{Path: filepath.Join(t.TempDir(), "progress.json")}
	load := func(instance string) agent.Kept {
		t.Helper()
		kept, err := store.Load(instance)
		if err != nil {
			t.Fatal(err)
		}
		return kept
	}
	if got := load("a"); got.Granted != nil {
		t.Errorf("without a file it is %v", got)
	}
	for _, kept := range []agent.Kept{
		{Granted: rules.Progress{}}, {Granted: rules.Progress{"x": 2}, Asked: map[string]rules.Size{"x.3": {Has: 2, Wants: 4, Max: 6}}},
	} {
		if err := store.Save("a", kept); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(kept, load("a")); diff != "" {
			t.Errorf("what is kept (-saved +loaded):\n%s", diff)
		}
	}
	if got := load("b"); got.Granted != nil || got.Asked != nil {
		t.Errorf("of another instance it is %v", got)
	}
	store.Path = filepath.Join(t.TempDir(), "missing", "progress.json")
	if err := store.Save("a", agent.Kept{}); err == nil {
		t.Error("saved into a folder that is not there")
	}
}
