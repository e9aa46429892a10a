package simulation

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/whatif"
)

// question is one that nobody asks in a tale: a size that is asked about in the middle of it, and then asked for.
type question struct {
	at     time.Duration
	member string
	change whatif.Change
}

// questions are asked in the middle of tales, each in a world of its own: where something is on its way, is lost, or cannot be had.
var questions = map[string][]question{
	"grow": {
		{time.Minute, "lammps", whatif.Change{Grow: 20}}, {140 * time.Second, "lammps", whatif.Change{To: 8}},
		{3 * time.Minute, "lammps", whatif.Change{Shrink: 3}},
	},
	"fallback":    {{4 * time.Minute, "lammps", whatif.Change{Grow: 2}}, {4 * time.Minute, "lammps", whatif.Change{Shrink: 4}}},
	"zones":       {{70 * time.Second, "lammps", whatif.Change{Grow: 4}}, {150 * time.Second, "lammps", whatif.Change{Grow: 1}}},
	"gate":        {{20 * time.Second, "lammps", whatif.Change{Grow: 2}}, {20 * time.Second, "lammps", whatif.Change{Shrink: 1}}},
	"edit":        {{time.Minute, "lammps", whatif.Change{Grow: 3}}, {125 * time.Second, "lammps", whatif.Change{Grow: 1}}},
	"timeout":     {{3 * time.Minute, "lammps", whatif.Change{Grow: 1}}, {400 * time.Second, "lammps", whatif.Change{Grow: 2}}},
	"growths":     {{3 * time.Minute, "lammps", whatif.Change{To: 3}}, {3 * time.Minute, "amg", whatif.Change{Shrink: 4}}},
	"handover":    {{150 * time.Second, "lammps", whatif.Change{Shrink: 3}}, {150 * time.Second, "amg", whatif.Change{Shrink: 3}}},
	"shrink":      {{150 * time.Second, "lammps", whatif.Change{Grow: 2}}},
	"loss":        {{121 * time.Second, "lammps", whatif.Change{Grow: 2}}, {121 * time.Second, "lammps", whatif.Change{Shrink: 2}}},
	"spot":        {{130 * time.Second, "lammps", whatif.Change{Grow: 2}}},
	"nodedeleted": {{122 * time.Second, "lammps", whatif.Change{Grow: 2}}},
	"restart":     {{3 * time.Minute, "lammps", whatif.Change{Grow: 20}}},
	"giveup":      {{150 * time.Second, "lammps", whatif.Change{Grow: 1}}, {5 * time.Minute, "lammps", whatif.Change{Grow: 3}}},
	"greedy":      {{150 * time.Second, "lammps", whatif.Change{Grow: 2}}},
	"toosmall":    {{150 * time.Second, "lammps", whatif.Change{Grow: 2}}},
	"daemonset":   {{3 * time.Minute, "lammps", whatif.Change{Grow: 2}}, {3 * time.Minute, "lammps", whatif.Change{Shrink: 1}}},
	"quota":       {{5 * time.Minute, "lammps", whatif.Change{Grow: 2}}, {5 * time.Minute, "lammps", whatif.Change{Shrink: 3}}},
	"stock":       {{2 * time.Minute, "lammps", whatif.Change{To: 4}}, {2 * time.Minute, "amg", whatif.Change{Shrink: 4}}},
	"suspend":     {{3 * time.Minute, "lammps", whatif.Change{Grow: 2}}},
}

// unforeseen is what nobody can know before in a tale, for which something else comes of a size than was answered.
var unforeseen = map[string]string{
	"fallback": "the cloud has no more machines for hpc-a",
	"zones":    "the cloud has no more machines for hpc-a",
	"timeout":  "no machine registers",
	"giveup":   "the cloud has no more machines for hpc-a",
	"toosmall": "the nodes of hpc-a are smaller than its template says",
}

// TestPlanned tells each story again as `kubectl ensemble plan` would: what it answers when a member is about to ask, a user to write a
// size, or a MiniCluster to come, and in the middle of things. The next pass that knows of the size has to decide just that, and what comes
// of it has to be that too, except what nobody can know before. A golden file in testdata/planned has it.
func TestPlanned(t *testing.T) {
	t.Parallel()
	for i := range tales {
		tale := &tales[i]
		t.Run(tale.name, func(t *testing.T) {
			t.Parallel()
			lines, problems := tale.plan()
			for _, problem := range problems {
				t.Error(problem)
			}
			text := tale.about + "\n\nTimes are minutes and seconds since the beginning.\n\n" + strings.Join(lines, "\n") + "\n"
			path := filepath.Join("testdata", "planned", tale.name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(text, "\n")); diff != "" {
				t.Errorf("the answers differ (-want +got); if they should, run this test with -update:\n%s", diff)
			}
		})
	}
}

// plan tells a tale by what plan answers, and what was wrong with the answers.
func (t *tale) plan() (lines, problems []string) {
	var told *predictions
	w := t.begin(func(w *world) {
		told = &predictions{world: w, unforeseen: unforeseen[t.name]}
		told.follow()
		w.ensemble.arriving = told.arrives
		w.ensemble.asking = func(member string, what action, amount int32) {
			change := whatif.Change{Grow: amount}
			if what == shrink {
				change = whatif.Change{Shrink: amount}
			}
			told.ask(member, change)
		}
		w.ensemble.editing = func(member string, size int32) { told.ask(member, whatif.Change{To: size}) }
	})
	w.run(t.lasts)
	told.end()
	lines, problems = told.lines, told.problems
	surprised := told.surprised
	if told.compared == 0 {
		problems = append(problems, "no pass has decided anything that was asked about")
	}
	for _, q := range questions[t.name] {
		asked := t.askedOf(q)
		lines, problems = append(lines, "", "Asked by nobody in the story:", ""), append(problems, asked.problems...)
		lines, surprised = append(lines, asked.lines...), surprised || asked.surprised
	}
	if unforeseen[t.name] != "" && !surprised {
		problems = append(problems, "everything has come as it was answered, though nobody knows that "+unforeseen[t.name])
	}
	return lines, problems
}

// askedOf tells a tale again until a question, and what comes of the size that was asked about.
func (t *tale) askedOf(q question) *predictions {
	w := t.begin()
	told := &predictions{world: w, unforeseen: unforeseen[t.name]}
	w.run(q.at)
	w.untilInStep(q.at + 20*time.Second)
	told.follow()
	told.ask(q.member, q.change)
	told.want(q.member)
	w.run(t.lasts + 5*time.Minute)
	told.end()
	if told.compared == 0 {
		told.problems = append(told.problems, fmt.Sprintf("no pass has decided what was asked at %s: %+v", q.at, q.change))
	}
	return told
}

// predictions are what plan answers in a world, compared with what comes of it.
type predictions struct {
	world *world
	// open are those that are compared still.
	open []*prediction
	// compared is the number of those that a pass has decided.
	compared int
	// unforeseen is what nobody can know before, and surprised is set when something else has come for it.
	unforeseen string
	surprised  bool

	lines    []string
	problems []string
}

// prediction is one answer.
type prediction struct {
	member string
	answer *whatif.Answer
	// decided is set when a pass has decided about the size.
	decided bool
}

// follow compares the answers with what comes of them from now on.
func (p *predictions) follow() {
	p.world.controller.decided = p.decided
	p.world.watch = p.look
}

func (p *predictions) tell(member, format string, arguments ...any) {
	p.lines = append(p.lines, line(p.world.now, member, fmt.Sprintf(format, arguments...)))
}

func (p *predictions) wrong(member, format string, arguments ...any) {
	p.tell(member, format, arguments...)
	p.problems = append(p.problems, p.lines[len(p.lines)-1])
}

// otherwise is wrong where everything could be known.
func (p *predictions) otherwise(member, format string, arguments ...any) {
	if p.unforeseen == "" {
		p.wrong(member, format, arguments...)
		return
	}
	p.surprised = true
	p.tell(member, "%s: nobody knew that %s", fmt.Sprintf(format, arguments...), p.unforeseen)
}

// ask asks about another size of a member.
func (p *predictions) ask(member string, change whatif.Change) {
	m := p.world.members.get(member)
	answer, err := p.world.foresee(p.world.seenNow()).Ask(keyOf(member), change, whatif.Bounds{Min: m.minSize, Max: m.maxSize})
	if err != nil {
		p.wrong(member, "%v", err)
		return
	}
	words := fmt.Sprintf("--grow %d", change.Grow)
	switch {
	case change.Shrink > 0:
		words = fmt.Sprintf("--shrink %d", change.Shrink)
	case change.To > 0:
		words = fmt.Sprintf("--size %d", change.To)
	}
	p.answered(member, "plan "+member+" "+words, answer)
}

// arrives asks about a MiniCluster that is about to be created.
func (p *predictions) arrives(m *memberObject) {
	observed := p.world.seenNow()
	observed.Members = append(observed.Members, planMember(m, &clusterObject{meta: meta{name: m.name}, size: m.wants, generation: 1}))
	p.answered(m.name, "plan --filename "+m.name+".yaml", p.world.foresee(observed).AskNew())
}

// answered keeps an answer until it is known what comes of it. The size that was asked about before is of no interest any more.
func (p *predictions) answered(member, question string, answer *whatif.Answer) {
	p.open = slices.DeleteFunc(p.open, func(o *prediction) bool {
		if o.member == member {
			p.tell(member, "size %d is asked for no more", o.answer.Asked)
		}
		return o.member == member
	})
	p.tell(member, "%s", question)
	var text strings.Builder
	_ = whatif.Write(&text, answer, false) // A strings.Builder does not fail.
	for row := range strings.SplitSeq(strings.TrimSpace(text.String()), "\n") {
		p.lines = append(p.lines, strings.TrimRight("      | "+timestamps.ReplaceAllStringFunc(row, inStory), " "))
	}
	if answer.Outcome != whatif.Unchanged {
		p.open = append(p.open, &prediction{member: member, answer: answer})
	}
}

// want makes the size that was asked about last the desired size, as the endpoint does.
func (p *predictions) want(member string) {
	for _, o := range p.open {
		if o.member == member {
			p.world.members.update(member, func(m *memberObject) { m.wants = o.answer.Asked })
			p.world.ledger.accepted(member, o.answer.Asked)
		}
	}
}

// decided compares the decisions of a pass with what was answered.
func (p *predictions) decided(observed *plan.Observed, decisions []plan.Decision) {
	for _, o := range p.open {
		difference, is := p.world.compare(o, observed, decisions)
		if !is || o.decided {
			continue
		}
		o.decided = true
		p.compared++
		if difference != "" {
			p.wrong(o.member, "the pass decides otherwise: %s", difference)
			continue
		}
		p.tell(o.member, "the pass decides just that")
	}
}

// compare says in what the decisions of a pass differ from an answer, empty for nothing. Of decisions about another size it says that
// they are no answer to the question: the second result is false.
func (w *world) compare(o *prediction, observed *plan.Observed, decisions []plan.Decision) (difference string, is bool) {
	at := slices.IndexFunc(observed.Members, func(m plan.Member) bool { return m.Key == keyOf(o.member) })
	if at < 0 || observed.Members[at].Wants != o.answer.Asked || w.clusters.caches[controllerCache].get(o.member) == nil {
		return "", false
	}
	m := &observed.Members[at]
	return differs(o.answer, m, &decisions[slices.IndexFunc(decisions, func(d plan.Decision) bool { return d.Key == m.Key })]), true
}

// look notes when a member has come to rest at a size that was asked about.
func (p *predictions) look() {
	p.open = slices.DeleteFunc(p.open, func(o *prediction) bool {
		m := p.world.members.get(o.member)
		switch {
		case m == nil || !o.decided:
			return false
		case m.wants != o.answer.Asked && m.giveUpAfter > 0 && o.answer.Outcome == whatif.Granted:
			p.otherwise(o.member, "size %d has been given up, in place of %s", o.answer.Asked, reservedBy(o.answer))
			return true
		case m.wants != o.answer.Asked:
			p.tell(o.member, "size %d is asked for no more", o.answer.Asked)
			return true
		case o.answer.Outcome == whatif.Refused || !allTrue(m.conditions) || m.size != o.answer.Asked:
			return false
		}
		p.cameTo(o, m)
		return true
	})
}

// cameTo compares what has come of a size with what was answered: as many nodes in each pool.
func (p *predictions) cameTo(o *prediction, m *memberObject) {
	if got, want := poolsOf(m.reservations), reservedBy(o.answer); got != want {
		p.otherwise(o.member, "size %d has come, with %s in place of %s", m.size, got, want)
		return
	}
	p.tell(o.member, "size %d has come, just so: %s", m.size, poolsOf(m.reservations))
}

// end tells what has come of the others.
func (p *predictions) end() {
	for _, o := range p.open {
		m := p.world.members.get(o.member)
		switch {
		case m == nil:
			p.tell(o.member, "the member is gone")
		case o.answer.Outcome == whatif.Refused && allTrue(m.conditions):
			p.tell(o.member, "size %d has come since: %s", m.size, poolsOf(m.reservations))
		default:
			reason, _ := reservedCondition(m)
			said := fmt.Sprintf("size %d has not come: it has size %d, and its claim is %s", o.answer.Asked, m.size, reason)
			if o.answer.Outcome != whatif.Refused {
				p.otherwise(o.member, "%s", said)
				continue
			}
			p.tell(o.member, "%s", said)
		}
	}
	p.open = nil
}

// differs says in what a decision differs from the answer, empty for nothing. A shrink takes time: its decision is the size.
func differs(a *whatif.Answer, m *plan.Member, d *plan.Decision) string {
	reserved := apimeta.FindStatusCondition(d.Conditions, v1alpha1.ConditionCapacityReserved)
	granted := reserved != nil && reserved.Status == metav1.ConditionTrue
	switch {
	case a.Outcome == whatif.Unchanged && (d.Resize != 0 || reserved.Message != a.Message):
		return fmt.Sprintf("size %d, %s, in place of no change: %s", d.Resize, reserved.Message, a.Message)
	case a.Outcome == whatif.Unchanged:
		return ""
	case a.Outcome == whatif.Shrinks && m.Size > a.Asked && d.Resize != a.Asked:
		return fmt.Sprintf("size %d in place of %d", d.Resize, a.Asked)
	case a.Outcome == whatif.Shrinks:
		return ""
	case granted != (a.Outcome == whatif.Granted):
		return fmt.Sprintf("%+v in place of %s: %s", reserved, a.Outcome, a.Message)
	case !granted && (reserved.Reason != a.Reason || reserved.Message != a.Message):
		return fmt.Sprintf("%s: %s in place of %s: %s", reserved.Reason, reserved.Message, a.Reason, a.Message)
	case poolsOf(d.Reservations) != reservedBy(a):
		return fmt.Sprintf("%s in place of %s", poolsOf(d.Reservations), reservedBy(a))
	}
	for i := range d.Reservations {
		at := slices.IndexFunc(a.Pools, func(p whatif.PoolAnswer) bool { return p.Name == d.Reservations[i].NodePool })
		if held := min(int(d.Reservations[i].Nodes), len(d.Reservations[i].Held)); held != int(a.Pools[at].Held) {
			return fmt.Sprintf("%d nodes of %s are held in place of %d", held, a.Pools[at].Name, a.Pools[at].Held)
		}
	}
	return ""
}

// poolsOf are the pools of reservations with their numbers of nodes.
func poolsOf(all reservations) string {
	words := make([]string, 0, len(all))
	for i := range all {
		if all[i].Nodes > 0 {
			words = append(words, fmt.Sprintf("%s %d", all[i].NodePool, all[i].Nodes))
		}
	}
	slices.Sort(words)
	return orNothing(words)
}

// reservedBy is poolsOf for an answer.
func reservedBy(a *whatif.Answer) string {
	var words []string
	for i := range a.Pools {
		if a.Pools[i].After > 0 {
			words = append(words, fmt.Sprintf("%s %d", a.Pools[i].Name, a.Pools[i].After))
		}
	}
	slices.Sort(words)
	return orNothing(words)
}

func orNothing(words []string) string {
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ", ")
}

func keyOf(member string) types.NamespacedName {
	return types.NamespacedName{Namespace: "default", Name: member}
}

// seenNow is what a person sees who lists all objects now.
func (w *world) seenNow() plan.Observed {
	w.list(asker)
	return (&controller{world: w, reads: asker}).observe()
}

// foresee is what plan is asked of, with what was seen.
func (w *world) foresee(observed plan.Observed) *whatif.World {
	var pools []v1alpha1.NodePool
	var machines []v1alpha1.PoolMachine
	for _, p := range w.pools.live.items {
		pools = append(pools, w.apiPool(p, time.Time{}))
	}
	for _, m := range w.machines.live.items {
		machines = append(machines, w.apiMachine(m))
	}
	return &whatif.World{Observed: observed, Pools: whatif.PoolsOf(pools, machines), Now: w.now}
}

// inStep reports whether the controller has seen everything, and has nothing left to write.
func (w *world) inStep() bool {
	c := w.controller
	idle := c.up && !c.busy && (c.alarm.due.IsZero() || c.alarm.due.After(w.now.Add(time.Second)))
	return idle && current(&w.members) && current(&w.clusters) && current(&w.pools) && current(&w.machines) &&
		current(&w.nodes) && current(&w.pods)
}

// current reports whether the controller's cache has all that there is of a kind.
func current[T any, P object[T]](t *table[T, P]) bool {
	return slices.Equal(t.caches[controllerCache].items, t.live.items)
}

// untilInStep lets time pass until the controller has seen everything, or until a time after the beginning.
func (w *world) untilInStep(until time.Duration) {
	for end := noon.Add(until); !w.inStep() && len(w.broken) == 0 && w.step(end); {
		w.check()
	}
}

// TestPlannedInStorms asks about a random size of a random member at a random moment of random worlds, and then for it: the next pass of
// the controller decides what was answered, unless the world changes in between. That it would find wrong answers is seen with answers that
// are planned with less than there is.
func TestPlannedInStorms(t *testing.T) {
	t.Parallel()
	const worlds = 40
	for name, forget := range map[string]func(asked int, o *plan.Observed){
		"right": nil,
		"planned without the claims of other members": func(asked int, o *plan.Observed) {
			o.Members = []plan.Member{o.Members[asked]}
		},
		"planned without the bounds of pools": func(_ int, o *plan.Observed) {
			for i := range o.Pools {
				o.Pools[i].MaxSize += 10
			}
		},
		"planned without a growth that has failed": func(asked int, o *plan.Observed) {
			o.Members[asked].Growth = nil
		},
		"planned without what other workloads fill": func(_ int, o *plan.Observed) {
			for i := range o.Nodes {
				o.Nodes[i].Requested = o.Nodes[i].Daemons
			}
		},
		"planned with the pools in another order": func(asked int, o *plan.Observed) {
			pools := slices.Clone(o.Members[asked].NodePools)
			slices.Reverse(pools)
			o.Members[asked].NodePools = pools
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compared, wrong := 0, []string{}
			// One wrong answer that is found is enough to show that it is.
			for seed := uint64(1); seed <= worlds && (forget == nil || len(wrong) == 0); seed++ {
				c, differences := askedInStorm(seed, forget)
				compared += c
				for _, difference := range differences {
					wrong = append(wrong, fmt.Sprintf("seed %d: %s", seed, difference))
				}
			}
			t.Logf("%d answers are compared, of which %d are wrong", compared, len(wrong))
			switch {
			case forget == nil && compared < worlds/2:
				t.Errorf("only %d answers of %d worlds can be compared", compared, worlds)
			case forget == nil && len(wrong) > 0:
				t.Errorf("wrong answers:\n%s", strings.Join(wrong, "\n"))
			case forget != nil && len(wrong) == 0:
				t.Errorf("none of %d wrong answers is found", compared)
			}
		})
	}
}

// askedInStorm asks in one world, and returns how many answers could be compared, and in what they were wrong.
func askedInStorm(seed uint64, forget func(asked int, o *plan.Observed)) (compared int, wrong []string) {
	const questions = 4
	draw := newRand(seed ^ 0xa5c)
	w := brew(seed, false)
	at := 2 * time.Minute
	for range questions {
		at += time.Duration(draw.Int64N(int64((storm - at) / 2)))
		w.run(at)
		w.untilInStep(at + time.Minute)
		at = w.now.Sub(noon)
		m, size := w.someSize(draw.IntN)
		if m == nil || !w.inStep() || len(w.broken) > 0 {
			continue
		}
		observed := w.seenNow()
		if forget != nil {
			forget(slices.IndexFunc(observed.Members, func(o plan.Member) bool { return o.Key == keyOf(m.name) }), &observed)
		}
		answer, err := w.foresee(observed).Ask(keyOf(m.name), whatif.Change{To: size}, whatif.Bounds{Min: m.minSize, Max: m.maxSize})
		if err != nil {
			return compared, append(wrong, err.Error())
		}
		o := &prediction{member: m.name, answer: answer}
		switch difference, is := w.becomes(o); {
		case is && difference != "":
			wrong = append(wrong, line(w.now, m.name, difference))
			fallthrough
		case is:
			compared++
		}
	}
	return compared, wrong
}

// becomes asks for the size of an answer, and says in what the passes differ from it that follow on each other while nothing else changes:
// one may take the room that the one before has found. It is false where something else has changed before one decides as answered.
func (w *world) becomes(o *prediction) (difference string, is bool) {
	p := &predictions{world: w, open: []*prediction{o}}
	p.want(o.member)
	others := func() [4]int64 { return [4]int64{w.pools.version, w.machines.version, w.nodes.version, w.pods.version} }
	before, left := others(), false
	w.controller.decided = func(observed *plan.Observed, decisions []plan.Decision) {
		if left = left || before != others(); left || (is && difference == "") {
			return
		}
		difference, is = w.compare(o, observed, decisions)
	}
	w.untilInStep(w.now.Sub(noon) + time.Minute)
	w.controller.decided = nil
	return difference, is && (difference == "" || !left)
}

// someSize is a member that another size can be asked for, and the size; nil for none.
func (w *world) someSize(draw func(int) int) (*memberObject, int32) {
	all := slices.DeleteFunc(slices.Clone(w.members.live.items), func(m *memberObject) bool {
		c := w.clusters.get(m.name)
		return c == nil || c.edited(m) || m.maxSize == m.minSize
	})
	if len(all) == 0 {
		return nil, 0
	}
	m := all[draw(len(all))]
	size := m.minSize + int32(draw(int(m.maxSize-m.minSize)))
	if size >= m.wants {
		size++
	}
	return m, size
}
