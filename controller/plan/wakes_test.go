package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

func TestPlanWakesForDeadlinesAndRetries(t *testing.T) {
	t.Parallel()
	observed := plan.Observed{
		Members: []plan.Member{
			member("m", 2, 8, "a").holds("a", 8, "a-0", "a-1").podsOn("a-0", "a-1").grows(8, time.Minute, 7*time.Minute).Member,
		},
		Pools: []plan.Pool{pool("a", 10)},
		Nodes: nodes("a", 0, 2),
	}
	if got, want := plan.Plan(observed, noon).Next, noon.Add(7*time.Minute); !got.Equal(want) {
		t.Errorf("next pass at %v, want the deadline %v", got, want)
	}
	if got, want := plan.Plan(observed, noon.Add(8*time.Minute)).Next, noon.Add(9*time.Minute); !got.Equal(want) {
		t.Errorf("next pass at %v, want the retry %v", got, want)
	}
}

func TestPlanWakesToTellOfAStall(t *testing.T) {
	t.Parallel()
	observed := plan.Observed{
		Members: []plan.Member{
			member("m", 2, 8, "a").holds("a", 8, "a-0", "a-1").podsOn("a-0", "a-1").grows(
				8, time.Minute, 7*time.Minute,
			).granted("a", time.Minute).Member,
		},
		Pools: []plan.Pool{stalled(pool("a", 10), 44*time.Second, "nobody is there")},
		Nodes: nodes("a", 0, 2),
	}
	decisions := plan.Plan(observed, noon)
	if want := noon.Add(time.Second); !decisions.Next.Equal(want) || strings.Contains(words(decisions.Members[0]), "nobody is there") {
		t.Errorf("next pass at %v, want %v; said:\n%s", decisions.Next, want, words(decisions.Members[0]))
	}
}

func TestPlanComesAgainWhenANodeHasHadItsTime(t *testing.T) {
	t.Parallel()
	list := nodes("a", 0, 2)
	list[1].Ready, list[1].CreatedAt = false, noon.Add(-time.Minute)
	m := member("m", 2, 2, "a").holds("a", 2, "a-0").podsOn("a-0")
	observed := plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{pool("a", 10)}, Nodes: list}
	next := plan.Plan(observed, noon).Next
	if want := noon.Add(9 * time.Minute); !next.Equal(want) {
		t.Fatalf("the next pass is at %v, want %v, when the node is no longer one that is coming", next, want)
	}
	if got := plan.Plan(observed, next).Members[0].Reservations[0].Occupied; got != 1 {
		t.Errorf("%d nodes are occupied then, want 1, so that another one is ordered", got)
	}
}
