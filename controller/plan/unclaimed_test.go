package plan_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// summaries tells the decisions about all members, by their names.
func summaries(decisions plan.Decisions) map[string]string {
	out := map[string]string{}
	for i := range decisions.Members {
		out[decisions.Members[i].Key.Name] = summary(decisions.Members[i])
	}
	return out
}

// TestUsedAndNotClaimed: a node that another member's pod is on, which it does not claim, is no room.
func TestUsedAndNotClaimed(t *testing.T) {
	t.Parallel()
	first := member("first", 1, 2, "p").holds("p", 1, "p-0").podsOn("p-0").grows(2, time.Hour, 0)
	used := member("used", 1, 3, "p", "q").holds("p", 0, "p-1").holds("q", 1).podsOn("p-1").grows(3, time.Minute, 0)
	got := summaries(plan.Plan(plan.Observed{
		Members: []plan.Member{first.Member, used.Member},
		Pools:   []plan.Pool{pool("p", 2), pool("q", 1)}, Nodes: full(nodes("p", 0, 2)),
	}, noon))
	want := map[string]string{
		"first": "p: 1 reserved, 1 held; PoolFull",
		"used":  "p: 1 reserved, 1 held; PoolFull",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("who claims what (-want +got):\n%s", diff)
	}
}

// TestReplacedElsewhere: what takes the place of a node that is about to go comes from another pool where its own has none in time.
func TestReplacedElsewhere(t *testing.T) {
	t.Parallel()
	m := member("m", 3, 4, "p", "q").holds("p", 2, "p-0", "p-1").holds("q", 2, "q-0", "q-1").podsOn("p-0", "p-1", "q-0")
	m.grows(4, time.Hour, -time.Second).granted("p", time.Hour)
	observed := plan.Observed{
		Members: []plan.Member{m.Member}, Pools: []plan.Pool{pool("p", 2), pool("q", 4)},
		Nodes: append(told(leaves(full(nodes("p", 0, 2)), "p-0")), append(full(nodes("q", 0, 1)), nodes("q", 1, 2)...)...),
	}
	got := plan.Plan(observed, noon).Members[0]
	if s, want := summary(got), "p: 1 reserved, 2 held; q: 3 reserved, 2 held; WaitingForNodes"; s != want {
		t.Errorf("%s, want %s", s, want)
	}
	if len(got.Growth.Failures) != 1 {
		t.Errorf("it has failed in %+v", got.Growth.Failures)
	}
}
