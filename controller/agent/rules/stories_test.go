package rules_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

var update = flag.Bool("update", false, "write what the stories say now over what they should say")

// stories are files and the queues that they are run on.
func stories() map[string]func(t testing.TB, file *ensemblefile.File) *world {
	nodes := func(nodes, most int32) func(testing.TB, *ensemblefile.File) *world {
		return func(t testing.TB, file *ensemblefile.File) *world {
			t.Helper()
			return newWorld(t, file, nodes, most)
		}
	}
	return map[string]func(testing.TB, *ensemblefile.File) *world{
		"hello": nodes(4, 4), "terminate": nodes(4, 4), "backoff": nodes(4, 4), "heartbeat": nodes(4, 4), "grow-shrink": nodes(4, 8),
		"both-ways": nodes(2, 6), "events": nodes(4, 4), "short-waits": nodes(3, 3),
		"custom": func(t testing.TB, file *ensemblefile.File) *world {
			t.Helper()
			w := newWorld(t, file, 2, 4)
			w.program = func(w *world) []ensemblefile.Action {
				if w.submitted["try"] >= 3 {
					return []ensemblefile.Action{{Name: "grow", Value: 1}, {Name: "terminate"}}
				}
				return []ensemblefile.Action{{Name: "submit", Label: "try"}}
			}
			return w
		},
	}
}

// TestStories runs each file on a simulated queue and compares what happened with testdata/stories/NAME.txt.
func TestStories(t *testing.T) {
	t.Parallel()
	for name, begin := range stories() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := filepath.Join("testdata", "stories", name)
			w := begin(t, read(t, base+".yaml"))
			w.run()
			if *update {
				if err := os.WriteFile(base+".txt", []byte(w.story.String()), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(base + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(w.story.String(), "\n")); diff != "" {
				t.Errorf("the story is another one (-want +got); -args -update takes it:\n%s", diff)
			}
		})
	}
}

// TestARestartChangesNothing restarts the program at every moment of every story at which no job is being submitted. It must submit the
// same jobs as without a restart and ask for the same, each once.
func TestARestartChangesNothing(t *testing.T) {
	t.Parallel()
	for name, begin := range stories() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := read(t, filepath.Join("testdata", "stories", name+".yaml"))
			whole := begin(t, file)
			whole.run()
			for at := 0; ; at++ {
				w := begin(t, file)
				for range at {
					w.step()
				}
				for w.inFlight > 0 {
					w.step()
				}
				if w.ended || len(w.coming) == 0 {
					return
				}
				w.start()
				w.run()
				if diff := cmp.Diff(whole.submitted, w.submitted); diff != "" {
					t.Fatalf("restarted after %d steps it has submitted other jobs (-whole +restarted):\n%s\n%s", at, diff, w.story.String())
				}
				if diff := cmp.Diff(whole.resized, w.resized); diff != "" {
					t.Fatalf("restarted after %d steps it has asked for other sizes (-whole +restarted):\n%s\n%s", at, diff, w.story.String())
				}
			}
		})
	}
}

// TestARestartWithoutProgress: where nothing is known of what became of requests, they are taken to be granted: a shrink is not made
// twice.
func TestARestartWithoutProgress(t *testing.T) {
	t.Parallel()
	file := read(t, "testdata/stories/both-ways.yaml")
	w := newWorld(t, file, 2, 6)
	for len(w.resized) == 0 || w.resized[len(w.resized)-1] != "shrink 2" {
		if !w.step() {
			t.Fatalf("there was no shrink:\n%s", w.story.String())
		}
	}
	before := len(w.resized)
	w.progress = nil
	w.start()
	w.run()
	for _, again := range w.resized[before:] {
		if again == "shrink 2" {
			t.Errorf("it shrank again:\n%s", w.story.String())
		}
	}
}

// TestAnEditedFile: rules that were added before others do not have those run again.
func TestAnEditedFile(t *testing.T) {
	t.Parallel()
	const text = `
jobs: [{name: a, command: sleep 5}, {name: b, command: sleep 5}]
rules:
%s- {trigger: start, action: {name: submit, label: a}}
- {trigger: start, action: {name: submit, label: a}}
`
	w := newWorld(t, parse(t, fmt.Sprintf(text, "")), 4, 4)
	w.run()
	w.file = parse(t, fmt.Sprintf(text, "- {trigger: start, action: {name: submit, label: b}}\n"))
	w.start()
	w.run()
	if diff := cmp.Diff(map[string]int{"a": 2, "b": 1}, w.submitted); diff != "" {
		t.Errorf("submitted (-want +got):\n%s", diff)
	}
}

// TestRefusals: what is refused uses up no repetition and is asked again, less and less often, under the same name.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		rule    string
		outcome rules.Outcome
		// most is how often it may ask within the five minutes in which it is refused.
		least, most int
	}{
		"waiting, denied":      {`{trigger: metric, name: max.a-pending, when: "> 5", action: {name: grow}}`, rules.Denied, 4, 8},
		"waiting, unreachable": {`{trigger: metric, name: max.a-pending, when: "> 5", action: {name: grow}}`, rules.Unreachable, 8, 16},
		"start, denied":        {`{trigger: start, action: {name: grow}}`, rules.Denied, 4, 8},
		"start, unreachable":   {`{trigger: start, action: {name: shrink}}`, rules.Unreachable, 8, 16},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, parse(t, "jobs: [{name: a, command: sleep 4000, count: 4}]\nrules:\n"+
				"- {trigger: start, action: {name: submit, label: a}}\n- "+row.rule+"\n"), 2, 8)
			asked := 0
			w.outcome = func(w *world) rules.Outcome {
				asked++
				if w.now.Sub(epoch).Minutes() < 5 {
					return row.outcome
				}
				return rules.Granted
			}
			w.run()
			if len(w.resized) != 1 {
				t.Errorf("it was granted %v, want one of them", w.resized)
			}
			if asked < row.least || asked > row.most {
				t.Errorf("it asked %d times; want from %d to %d:\n%s", asked, row.least, row.most, w.story.String())
			}
		})
	}
}

// TestGrowthForWhatItCanServe: jobs that need more nodes than the member may have are no reason to grow.
func TestGrowthForWhatItCanServe(t *testing.T) {
	t.Parallel()
	const text = `
jobs: [{name: a, command: sleep 100, count: 3, nodes: %d}]
rules:
- {trigger: start, action: {name: submit, label: a}}
- {trigger: metric, name: mean.a-pending, when: "> 5", action: {name: grow}}
- {trigger: metric, name: mean.a-pending, when: "> 5", action: {name: shrink}}
`
	for nodes, want := range map[int]string{4: "[grow 1 shrink 1]", 5: "[shrink 1]"} {
		// The queue does not know that the member cannot have five nodes, as Flux does not before the job is at its head.
		file := parse(t, fmt.Sprintf(text, nodes))
		s := rules.New(file, rules.Options{})
		s.Apply(rules.Size{Has: 2, Wants: 2, Max: 4}, epoch)
		actions := s.Apply(rules.CaughtUp{}, epoch)
		for i, order := range actions[0].Jobs {
			s.Apply(rules.Job{ID: uint64(i + 1), At: epoch, Name: rules.EventSubmit, Submission: &rules.Submission{
				Group: "a", Nodes: order.Job.Nodes, Tag: order.Tag,
			}}, epoch)
		}
		var got []string
		now := epoch
		for range 5 {
			next, ok := s.Next()
			if !ok {
				break
			}
			now = next
			for pending := s.Apply(nil, now); len(pending) > 0; {
				a := pending[0]
				got = append(got, fmt.Sprintf("%s %d", a.Verb, a.Nodes))
				pending = append(pending[1:], s.Apply(rules.Answer{ID: a.ID}, now)...)
			}
		}
		if fmt.Sprint(got) != want {
			t.Errorf("for jobs of %d nodes it asked for %v, want %s", nodes, got, want)
		}
		if waited := now.Sub(epoch).Seconds(); waited < 5 || waited > 5.001 {
			t.Errorf("the rules on more than 5 s were run after %v s", waited)
		}
	}
}

func TestWithoutAnEndpoint(t *testing.T) {
	t.Parallel()
	file := read(t, "testdata/stories/both-ways.yaml")
	s := rules.New(file, rules.Options{CannotResize: true})
	want := []string{
		`rules[1].action.name is "grow", and without an endpoint nobody can be asked for another size: the rule is not run`,
		`rules[2].action.name is "shrink", and without an endpoint nobody can be asked for another size: the rule is not run`,
	}
	if diff := cmp.Diff(want, s.NotRun()); diff != "" {
		t.Errorf("not run (-want +got):\n%s", diff)
	}
	if actions := s.Apply(rules.CaughtUp{}, epoch); len(actions) != 1 || len(actions[0].Jobs) != 10 {
		t.Errorf("the first actions are %+v, want the jobs of the start", actions)
	}
	if at, ok := s.Next(); ok {
		t.Errorf("it wants to look again at %s", at)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	s := rules.New(parse(t, "jobs: []\nrules: []\n"), rules.Options{})
	s.Apply(rules.CaughtUp{}, epoch)
	tell := func(id uint64, events ...rules.Job) {
		for _, e := range events {
			e.ID, e.At = id, epoch
			s.Apply(e, epoch)
		}
	}
	submit := rules.Job{Name: rules.EventSubmit, Submission: &rules.Submission{Nodes: 2}}
	tell(1, submit, rules.Job{Name: rules.EventDepend}, rules.Job{Name: rules.EventPriority})
	tell(2, submit, rules.Job{Name: rules.EventAlloc}, rules.Job{Name: rules.EventStart})
	tell(3, submit, rules.Job{Name: rules.EventException, Type: "cancel"}, rules.Job{Name: rules.EventClean})
	tell(4, submit, submit)
	tell(5, rules.Job{Name: rules.EventFinish})
	want := rules.Report{
		Queue:   map[string]int64{"new": 0, "depend": 1, "priority": 0, "sched": 1, "run": 1, "cleanup": 0, "inactive": 1},
		Waiting: map[int32]int64{2: 2},
	}
	if diff := cmp.Diff(want, s.Report()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

// TestInvalidate: a job that was rejected after its submission waits no more, counts as failed once, and is none that runs.
func TestInvalidate(t *testing.T) {
	t.Parallel()
	file := parse(t, `
jobs: [{name: a, command: run, count: 2}, {name: b, command: run}]
rules:
- {trigger: start, action: {name: submit, label: a}}
- {trigger: metric, name: max.a-pending, when: "> 5", action: {name: grow}}
- {trigger: metric, name: count.a.failed, when: 2, action: {name: submit, label: b}}
`)
	submission := func(order rules.Order) rules.Job {
		return rules.Job{ID: uint64(order.Tag.Index + 1), At: epoch, Name: rules.EventSubmit, Submission: &rules.Submission{
			Group: "a", Nodes: 1, Tag: order.Tag,
		}}
	}
	begin := func(before ...rules.Job) (*rules.State, []rules.Order) {
		s := rules.New(file, rules.Options{})
		for _, e := range before {
			s.Apply(e, epoch)
		}
		actions := s.Apply(rules.CaughtUp{}, epoch)
		if len(actions) != 1 || len(actions[0].Jobs) != 2 {
			t.Fatalf("the first actions are %+v, want two jobs", actions)
		}
		return s, actions[0].Jobs
	}
	s, orders := begin()
	var before []rules.Job
	for i, order := range orders {
		submitted, invalid := submission(order), rules.Job{ID: uint64(i + 1), At: epoch, Name: rules.EventInvalidate}
		before = append(before, submitted, invalid)
		told := []rules.Event{submitted, invalid, rules.Rejected{Group: "a", Tag: order.Tag}}
		if i == 1 {
			// The answer to the submission may come first.
			told = []rules.Event{told[2], told[0], told[1]}
		}
		for _, event := range told {
			for _, action := range s.Apply(event, epoch) {
				if i == 0 || action.Verb != rules.Submit {
					t.Errorf("of job %d comes %+v", i, action)
				}
			}
		}
	}
	if got := fmt.Sprint(s.Metrics()["count"]["a"]); got != "map[failed:2 finished:2]" {
		t.Errorf("the counts are %s", got)
	}
	report := s.Report()
	for state, jobs := range report.Queue {
		if jobs != 0 {
			t.Errorf("%d jobs are %s", jobs, state)
		}
	}
	if at, ok := s.Next(); ok || len(report.Waiting) > 0 {
		t.Errorf("jobs wait: %v, and it wants to look at %s, %v", report.Waiting, at, ok)
	}
	// After a restart they are submitted again.
	begin(before...)
}

// TestOneRequestAtATime: a rule that is triggered again and again while it is refused has one request, and what was granted meanwhile for
// the opposite takes back what is older.
func TestOneRequestAtATime(t *testing.T) {
	t.Parallel()
	s := rules.New(parse(t, `
jobs: [{name: a, command: run}, {name: b, command: run}]
rules:
- {trigger: job-fail, name: a, action: {name: shrink, repetitions: 1000000}}
- {trigger: job-fail, name: b, action: {name: grow, value: 2, repetitions: 2}}
`), rules.Options{})
	now, id := epoch, uint64(0)
	s.Apply(rules.Size{Has: 4, Wants: 4, Max: 8}, now)
	s.Apply(rules.CaughtUp{}, now)
	fail := func(group string) (out []rules.Action) {
		id++
		for _, e := range []rules.Job{
			{Name: rules.EventSubmit, Submission: &rules.Submission{Group: group, Nodes: 1}}, {Name: rules.EventStart},
			{Name: rules.EventFinish, Status: 256}, {Name: rules.EventClean},
		} {
			e.ID, e.At = id, now
			out = append(out, s.Apply(e, now)...)
		}
		return out
	}
	asked := fail("a")
	if len(asked) != 1 || asked[0].Verb != rules.Shrink {
		t.Fatalf("it asks for %+v, want a shrink", asked)
	}
	// With the square of their number it would be minutes.
	const more = 50_000
	for range more {
		if actions := fail("a"); len(actions) > 0 {
			t.Fatalf("it asks for %+v beside the first", actions)
		}
	}
	if actions := s.Apply(rules.Answer{ID: asked[0].ID, Outcome: rules.Denied}, now); len(actions) > 0 {
		t.Fatalf("it asks for %+v after a denial", actions)
	}
	grow := fail("b")
	if len(grow) != 1 || grow[0].Verb != rules.Grow {
		t.Fatalf("it asks for %+v, want a growth", grow)
	}
	fail("a")
	next := s.Apply(rules.Answer{ID: grow[0].ID, Outcome: rules.Granted}, now)
	if len(next) != 1 || next[0].Verb != rules.Shrink || next[0].ID == asked[0].ID {
		t.Fatalf("after the growth it asks for %+v, want the shrink that is newer", next)
	}
	total := 0
	for _, run := range s.Progress() {
		total += run
	}
	if total != more+2 {
		t.Errorf("%d repetitions are done (%v), want those before the growth and it", total, s.Progress())
	}
	if rest := s.Apply(rules.Answer{ID: next[0].ID, Outcome: rules.Granted}, now); len(rest) > 0 {
		t.Errorf("after all it asks for %+v", rest)
	}
}

func TestReadActions(t *testing.T) {
	t.Parallel()
	file := parse(t, "jobs: [{name: a, command: run}]\nrules: []\n")
	for output, want := range map[string]string{
		"":                      "[]",
		" null\n":               "[]",
		`{"name": "terminate"}`: "[terminate  0]",
		`[{"name": "submit", "label": "a"}, {"name": "grow"}, {"name": "shrink", "value": -2}]`: "[submit a 0 grow  1 shrink  2]",
		`{"name": "submit", "label": "b"}`: `[0].label is "b"; it has to name a job of the file`,
		`[{"name": "grow", "value": 0}]`:   `[0].value is "0"; it has to be a whole number from 1 to 2147483647`,
		`[{"name": "custom"}]`:             `[0].name is "custom"; it has to be one of grow, shrink, submit, terminate`,
		`{"name": "grow", "by": 2}`:        `unknown field "by"`,
		`{"name": "grow"} {}`:              `must be actions in JSON`,
		`[] []`:                            `there is more`,
		`grow`:                             `must be actions in JSON such as {"name": "submit", "label": "sleep"}`,
	} {
		actions, err := rules.ReadActions(file, []byte(output))
		said := []string{}
		for _, a := range actions {
			said = append(said, fmt.Sprintf("%s %s %d", a.Name, a.Label, a.Value))
		}
		got := fmt.Sprint(said)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s is read as %s, want %s", output, got, want)
		}
	}
}
