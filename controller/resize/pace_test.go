package resize

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// between is how far apart the nodes of a growth come, and the pods of a shrink go.
const between = 40 * time.Millisecond

// most is how many writes a node may cost, events included.
const most = 1.2

// count is how many writes something makes, events included.
func (s *scene) count(do func()) int {
	s.Helper()
	writes, told := s.writes.Load(), len(s.told)
	do()
	return int(s.writes.Load()-writes) + len(s.told) - told
}

// TestWritesOfAGrowth: nodes that come one by one are recorded several at a time, and the last one is acted on at once.
func TestWritesOfAGrowth(t *testing.T) {
	t.Parallel()
	const nodes = 50
	s := newScene(t, 1)
	s.run(1)
	s.after(time.Minute)
	writes := s.count(func() {
		s.desire(1 + nodes)
		s.settle()
		if m := s.member(); m.Status.Reserved != 1+nodes {
			t.Fatalf("%d nodes are reserved at once: %s", m.Status.Reserved, s.ready())
		}
		s.after(10 * time.Second)
		for n := range nodes {
			s.provide(1+n, 2+n)
			s.pass()
			if n == 0 && len(s.held()) != 2 {
				t.Errorf("after the first node %d are recorded as held: the first step is written at once", len(s.held()))
			}
			if n < nodes-1 {
				s.after(between)
			}
		}
		if s.size() != 1+nodes {
			t.Errorf("the pass that finds the last node Ready leaves the MiniCluster at size %d: %s", s.size(), s.ready())
		}
		s.settle()
		s.pods(1, 1+nodes)
		s.settle()
		if bound := s.bind(); bound != nodes {
			t.Errorf("%d of %d pods were released", bound, nodes)
		}
		s.settle()
	})
	if got := s.ready(); got != "True: at size 51" {
		t.Errorf("Ready is %q", got)
	}
	if t.Logf("%d writes for %d nodes", writes, nodes); float64(writes) > most*nodes {
		t.Errorf("%d writes for %d nodes, that is %.1f each", writes, nodes, float64(writes)/nodes)
	}
}

// TestWritesOfAShrink: nodes whose pods leave one by one are given back several at a time, in one write and one event, none is kept
// for long, and the last one is given back at once.
func TestWritesOfAShrink(t *testing.T) {
	t.Parallel()
	const nodes = 50
	s := newScene(t, 1+nodes)
	s.run(1 + nodes)
	s.after(time.Minute)
	writes := s.count(func() {
		s.desire(1)
		s.settle()
		if s.size() != 1 {
			t.Fatalf("the MiniCluster has size %d: %s", s.size(), s.ready())
		}
		for n := range nodes {
			s.remove(&corev1.Pod{ObjectMeta: metaIn(fmt.Sprintf("m-%d", nodes-n))})
			s.pass()
			if kept := len(s.held()) - (nodes - n); kept > int(minPause/between)+1 {
				t.Fatalf("%d nodes are kept without a pod", kept)
			}
			if n < nodes-1 {
				s.after(between)
			}
		}
		if held := s.held(); len(held) != 1 {
			t.Errorf("the pass that sees the last pod leave keeps %v", held)
		}
		s.settle()
	})
	if got := s.ready(); got != "True: at size 1" {
		t.Errorf("Ready is %q", got)
	}
	if t.Logf("%d writes for %d nodes", writes, nodes); float64(writes) > most*nodes {
		t.Errorf("%d writes for %d nodes, that is %.1f each", writes, nodes, float64(writes)/nodes)
	}
}

// TestPutOffIsDoneLater: what is put off is written when its time has come without another event, also by the next process.
func TestPutOffIsDoneLater(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]func(*scene){
		"the same process": func(s *scene) {
			if wait := s.due.Sub(s.clock.Now()); s.due.IsZero() || wait > longestPause {
				s.Fatalf("the next pass is in %s", wait)
			}
			s.after(longestPause)
		},
		"the next process": func(s *scene) {
			s.begin()
			s.pass()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, 1)
			s.run(1)
			s.desire(5)
			s.settle()
			s.after(10 * time.Second)
			s.provide(1, 2)
			s.pass()
			s.provide(2, 3)
			s.pass()
			if held := s.held(); len(held) != 2 {
				t.Fatalf("%v are recorded: progress is written at once", held)
			}
			again(s)
			if held := s.held(); len(held) != 3 {
				t.Errorf("%v are recorded, want three nodes", held)
			}
		})
	}
}

// TestAwaitedIsGivenBackAtOnce: a node that another member waits for is not kept for the sake of a write.
func TestAwaitedIsGivenBackAtOnce(t *testing.T) {
	t.Parallel()
	e := &entry{key: mine, member: &v1alpha1.EnsembleMember{}}
	e.member.Status.Reservations = []v1alpha1.Reservation{{NodePool: "p", Nodes: 1, Held: []string{"n-0", "n-1", "n-2"}}}
	after := e.member.Status.DeepCopy()
	after.Reservations[0].Held = []string{"n-0", "n-1"}
	p := newPace()
	p.note(mine, noon)
	for name, row := range map[string]struct {
		awaited map[string]bool
		want    time.Time
	}{
		"nobody waits":               {nil, noon.Add(minPause)},
		"somebody waits elsewhere":   {map[string]bool{"q": true}, noon.Add(minPause)},
		"somebody waits in the pool": {map[string]bool{"p": true}, time.Time{}},
	} {
		if due := p.due(e, after, &memberDecision{groups: []plan.Decision{{}}}, row.awaited, noon.Add(time.Millisecond)); !due.Equal(row.want) {
			t.Errorf("%s: due at %s, want %s", name, due, row.want)
		}
	}
}
