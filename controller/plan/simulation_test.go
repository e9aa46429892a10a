package plan_test

import (
	"flag"
	"strings"
	"testing"
	"time"
)

var (
	seeds    = flag.Int("plan.seeds", 300, "number of worlds to simulate")
	first    = flag.Uint64("plan.first", 1, "the first of their seeds")
	onlySeed = flag.Uint64("plan.seed", 0, "simulate this one world and print its story")
)

// TestSimulation lets the planner run worlds in which everything happens at random: desired sizes, boots, losses,
// foreign pods, and kills of the controller between any two of its writes. The promises are checked after
// every step, and at the end, when nothing happens any more, that everything is in its place.
func TestSimulation(t *testing.T) {
	t.Parallel()
	if *onlySeed != 0 {
		w := simulate(*onlySeed)
		t.Logf("the story of seed %d:\n%s", *onlySeed, strings.Join(w.story, "\n"))
		if len(w.broken) > 0 {
			t.Errorf("broken promises:\n%s", strings.Join(w.broken, "\n"))
		}
		return
	}
	resizes := 0
	for seed := *first; seed < *first+uint64(*seeds); seed++ {
		w := simulate(seed)
		resizes += strings.Count(strings.Join(w.story, "\n"), "resizing the MiniCluster")
		if len(w.broken) > 0 {
			story := w.story[max(0, len(w.story)-60):]
			t.Fatalf("seed %d broke promises:\n%s\n\nthe end of its story (all of it with -plan.seed=%d -v):\n%s",
				seed, strings.Join(w.broken, "\n"), seed, strings.Join(story, "\n"))
		}
	}
	if resizes < *seeds {
		t.Errorf("only %d resizes in %d worlds: the simulation does not exercise the planner", resizes, *seeds)
	}
}

func simulate(seed uint64) *world {
	w := newWorld(seed)
	w.arrive()
	for range 150 {
		w.now = w.now.Add(time.Duration(w.rand.IntN(20)) * time.Second)
		if w.rand.IntN(2) == 0 {
			w.happen()
		}
		w.takeAway()
		writes := -1
		if w.rand.IntN(4) == 0 {
			writes = w.rand.IntN(4)
		}
		w.reconcile(writes)
		w.check()
		for _, part := range w.rand.Perm(3) {
			[]func(){w.clusterAutoscaler, w.release, w.jobs}[part]()
			w.check()
		}
		if len(w.broken) > 0 {
			return w
		}
	}
	w.quiet = true
	w.tell("nothing happens any more")
	w.settle()
	for range 200 {
		w.now = w.now.Add(10 * time.Second)
		w.takeAway()
		w.reconcile(-1)
		w.clusterAutoscaler()
		w.jobs()
		w.release()
		w.check()
	}
	w.checkRest()
	return w
}
