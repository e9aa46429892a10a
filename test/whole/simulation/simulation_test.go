package simulation

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

var (
	seeds    = flag.Int("simulation.seeds", 200, "number of worlds to simulate")
	first    = flag.Uint64("simulation.first", 1, "the first of their seeds")
	onlySeed = flag.Uint64("simulation.seed", 0, "simulate this one world and print its story")
)

// TestSimulation runs random worlds and checks every promise after every event. A seed that breaks one is told with its
// story.
func TestSimulation(t *testing.T) {
	t.Parallel()
	if *onlySeed != 0 {
		w := simulate(*onlySeed, true)
		t.Logf("the story of seed %d:\n%s", *onlySeed, strings.Join(w.story, "\n"))
		if len(w.broken) > 0 {
			t.Errorf("broken promises:\n%s\n\nhow it ends:\n%s", strings.Join(w.broken, "\n"), w.state())
		}
		return
	}
	counts, failed := simulateMany(*first, uint64(*seeds))
	if failed != 0 {
		w := simulate(failed, true)
		t.Fatalf("seed %d broke promises:\n%s\n\nits story (again with -simulation.seed=%d -v):\n%s\n\nhow it ends:\n%s",
			failed, strings.Join(w.broken, "\n"), failed, strings.Join(w.story, "\n"), w.state())
	}
	t.Logf("%d worlds: %s", *seeds, tally(counts))
	for _, what := range everyWorld {
		if counts[what] < *seeds*9/10 {
			t.Errorf("only %d %s in %d worlds: the simulation does not exercise the planner", counts[what], what, *seeds)
		}
	}
	for _, what := range someWorlds {
		if counts[what] < *seeds/200 {
			t.Errorf("only %d %s in %d worlds: the simulation does not exercise what clouds and troubles do", counts[what], what, *seeds)
		}
	}
}

var (
	// everyWorld has what happens at least in nine of ten worlds, on average.
	everyWorld = []string{
		"growths", "shrinks", "nodes held", "nodes released", "nodes lost", "domains kept", "pods released", "kills", "answers", "passes",
	}
	// someWorlds has what only some roles of a cloud, and some troubles, bring about.
	someWorlds = []string{
		"machines lost", "machines left", "machines abandoned", "machines crashed", "machines vanished", "spot notices", "nodes deleted",
		"records deleted", "records lost", "pools paused", "orphans ended", "orphans adopted", "orders throttled", "orders repeated",
		"orders for all or none", "orders refused as a whole", "replies lost", "failures forgotten", "machines tried again",
		"nodes too small", "nodes mislabelled", "foreign taints", "devices registered late", "daemons", "passing pods", "hidden refusals",
		"nodes replaced", "pools found unusable", "pods over quota", "pods stuck", "pods succeeded", "sizes gone back",
		"jobs suspended or resumed", "namespaces deleted", "namespaces disallowed", "clusters unreadable", "templates edited",
		"stocks that came back", "contests",
	}
)

// simulateMany runs worlds on all cores. It returns what happened how often, and the least seed that broke a promise.
func simulateMany(from, count uint64) (counts map[string]int, failed uint64) {
	counts = map[string]int{}
	var mutex sync.Mutex
	var group sync.WaitGroup
	next := from
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for {
				mutex.Lock()
				seed := next
				next++
				done := seed-from >= count || failed != 0
				mutex.Unlock()
				if done {
					return
				}
				w := simulate(seed, false)
				mutex.Lock()
				for what, n := range w.ledger.counts {
					counts[what] += n
				}
				if len(w.broken) > 0 && (failed == 0 || seed < failed) {
					failed = seed
				}
				mutex.Unlock()
			}
		})
	}
	group.Wait()
	return counts, failed
}

func tally(counts map[string]int) string {
	var out []string
	for _, what := range slices.Concat([]string{
		"passes", "growths", "shrinks", "nodes held", "nodes tainted", "nodes released", "nodes lost", "domains kept", "growths moved",
		"pods released", "growths released", "pods refused", "pods recreated", "sizes edited", "desired sizes given up", "kills", "answers",
		"strangers", "sizes fixed",
	}, someWorlds) {
		out = append(out, fmt.Sprintf("%d %s", counts[what], what))
	}
	return strings.Join(out, ", ")
}

// TestSameSeedSameStory: a failing seed can be told again.
func TestSameSeedSameStory(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 5; seed++ {
		first, second := simulate(seed, true), simulate(seed, true)
		if strings.Join(first.story, "\n") != strings.Join(second.story, "\n") {
			t.Errorf("seed %d has two stories", seed)
		}
	}
}
