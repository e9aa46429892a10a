package plan_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

func TestPlanBacksOffLongerAfterEachFailure(t *testing.T) {
	t.Parallel()
	for attempts, want := range []time.Duration{1, 2, 4, 8, 10, 10, 10} {
		m := member("m", 2, 8, "a").holds("a", 8, "a-0", "a-1").podsOn("a-0", "a-1").grows(8, time.Hour, -time.Second)
		m.Growth.Attempts = int32(attempts)
		d := plan.Plan(
			plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{pool("a", 10)}, Nodes: nodes("a", 0, 2)}, noon,
		).Members[0]
		if d.Growth == nil || d.Growth.RetryAfter == nil {
			t.Fatalf("after %d failures: no retry is planned: %+v", attempts, d.Growth)
		}
		if got := d.Growth.RetryAfter.Sub(noon); got != want*time.Minute {
			t.Errorf("after %d earlier failures: retry after %v, want %v", attempts, got, want*time.Minute)
		}
		if d.Notes[0].Reason != v1alpha1.ReasonProvisionTimeout || !d.Notes[0].Warning {
			t.Errorf("the failure is not told as a warning: %+v", d.Notes)
		}
	}
}

func TestPlanRetriesBehindThoseThatDidNotFail(t *testing.T) {
	t.Parallel()
	failed := member("failed", 1, 9, "a").holds("a", 1, "a-0").podsOn("a-0").grows(9, time.Hour, 0)
	retry := microTime(noon)
	failed.Growth.Attempts, failed.Growth.RetryAfter = 2, &retry
	other := member("other", 1, 9, "a").holds("a", 1, "a-1").podsOn("a-1").grows(9, time.Minute, 0)
	decisions := plan.Plan(plan.Observed{
		Members: []plan.Member{failed.Member, other.Member}, Pools: []plan.Pool{pool("a", 10)}, Nodes: nodes("a", 0, 2),
	}, noon).Members
	if decisions[0].Reserved() != 1 || decisions[1].Reserved() != 9 {
		t.Errorf("reserved %d and %d, want the one that failed to wait (1 and 9)", decisions[0].Reserved(), decisions[1].Reserved())
	}
	if g := decisions[0].Growth; g.Attempts != 2 || g.RetryAfter != nil || !g.Since.Time.Equal(noon) {
		t.Errorf("growth of the one that failed: %+v, want attempts kept, no retry time, a new place in the queue", g)
	}
}

// TestPlanGivesUp: only after as many failures as were allowed, only once all pools have failed, and not below minSize.
func TestPlanGivesUp(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		after, attempts, minSize int32
		want                     *plan.GiveUp
	}{
		"after the last attempt": {after: 3, attempts: 2, minSize: 1,
			want: &plan.GiveUp{Size: 2, Why: "the growth to size 8 has failed 3 times: 2 of 8 nodes were Ready in a within its provisionTimeout"}},
		"not before":             {after: 3, attempts: 1, minSize: 1},
		"never, without a limit": {after: 0, attempts: 99, minSize: 1},
		"to minSize at least": {after: 1, attempts: 0, minSize: 4,
			want: &plan.GiveUp{Size: 4, Why: "the growth to size 8 has failed 1 time: 2 of 8 nodes were Ready in a within its provisionTimeout"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := member("m", 2, 8, "a").holds("a", 8, "a-0", "a-1").podsOn("a-0", "a-1").grows(8, time.Hour, -time.Second).granted("a", time.Hour)
			m.Growth.Attempts, m.GiveUpAfter, m.MinSize = row.attempts, row.after, row.minSize
			d := plan.Plan(
				plan.Observed{Members: []plan.Member{m.Member}, Pools: []plan.Pool{pool("a", 10)}, Nodes: nodes("a", 0, 2)}, noon,
			).Members[0]
			if diff := cmp.Diff(row.want, d.GiveUp); diff != "" {
				t.Errorf("give-up (-want +got):\n%s", diff)
			}
			if told := slices.ContainsFunc(
				d.Notes, func(n plan.Note) bool { return n.Warning && n.Reason == v1alpha1.ReasonGaveUp },
			); told != (row.want != nil) {
				t.Errorf("told of giving up: %t; notes: %+v", told, d.Notes)
			}
		})
	}
}

func TestPlanAsksPoolsAnewThatFailedWhenTheGrowthWasSmaller(t *testing.T) {
	t.Parallel()
	m := member("m", 1, 5, "a", "b").holds("b", 1, "b-0").podsOn("b-0").grows(5, time.Hour, 0).granted("b", time.Hour)
	m = m.failed("a", v1alpha1.ReasonOutOfStock)
	pools := []plan.Pool{pool("a", 5), pool("b", 4)}
	d := plan.Plan(plan.Observed{Members: []plan.Member{m.Member}, Pools: pools, Nodes: nodes("b", 0, 1)}, noon).Members[0]
	if reason, _ := conditionOf(d, v1alpha1.ConditionCapacityReserved); reason != v1alpha1.ReasonBackingOff || d.Growth.RetryAfter == nil {
		t.Fatalf("the growth says %s and is tried again at %v, want it to wait out the failure of a", reason, d.Growth.RetryAfter)
	}
	m.Reservations, m.Growth = d.Reservations, d.Growth
	d = plan.Plan(plan.Observed{Members: []plan.Member{m.Member}, Pools: pools, Nodes: nodes("b", 0, 1)}, d.Growth.RetryAfter.Time).Members[0]
	if d.Reserved() != 5 {
		t.Errorf("%d nodes are reserved when it is tried again, want 5: a has room for four", d.Reserved())
	}
}
