package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// claims says which id the orders for the member's growth have.
func (b *memberBuilder) claims(id string) *memberBuilder { b.Claim = id; return b }

// comes says how many machines of a pool are coming, by the ids of their orders.
func comes(p plan.Pool, coming map[string]int32) plan.Pool {
	p.Coming = coming
	return p
}

// booting are nodes that have registered and are not Ready, of machines that were ordered for a claim.
func booting(list []plan.Node, order string) []plan.Node {
	for i := range list {
		list[i].Ready, list[i].CreatedAt, list[i].Order = false, noon.Add(-time.Minute), order
	}
	return list
}

// TestStock says which of several claims a failure of their pool is charged to.
func TestStock(t *testing.T) {
	t.Parallel()
	// gang is a member of eight that waits for all of its nodes and was granted them a minute ago.
	gang := func(name string, asked time.Duration) *memberBuilder {
		return member(name, 8, 8, "a").holds("a", 8).grows(8, asked, 9*time.Minute).granted("a", time.Minute).begins().claims(name)
	}
	late := func(b *memberBuilder) *memberBuilder {
		deadline := microTime(noon)
		b.Growth.Deadline = &deadline
		return b
	}
	empty := outOfStock(pool("a", 30), time.Second)
	for name, row := range map[string]struct {
		members []*memberBuilder
		pools   []plan.Pool
		nodes   []plan.Node
		want    []string
	}{
		"of two gangs the first keeps what there is": {
			members: []*memberBuilder{gang("first", 2*time.Minute), gang("second", time.Minute)},
			pools:   []plan.Pool{comes(empty, map[string]int32{"first": 8, "second": 4})},
			want:    []string{"a: 8 reserved, 0 held; WaitingForNodes", "BackingOff"},
		},
		"whichever was ordered for it": {
			members: []*memberBuilder{gang("first", 2*time.Minute), gang("second", time.Minute)},
			pools:   []plan.Pool{comes(empty, map[string]int32{"first": 4, "second": 8})},
			want:    []string{"a: 8 reserved, 0 held; WaitingForNodes", "BackingOff"},
		},
		"the order is that of the claims, not of the names": {
			members: []*memberBuilder{gang("a", time.Minute), gang("b", 2*time.Minute)},
			pools:   []plan.Pool{comes(empty, map[string]int32{"a": 8, "b": 4})},
			want:    []string{"BackingOff", "a: 8 reserved, 0 held; WaitingForNodes"},
		},
		"with machines for both neither fails": {
			members: []*memberBuilder{gang("first", 2*time.Minute), gang("second", time.Minute)},
			pools:   []plan.Pool{comes(empty, map[string]int32{"first": 8, "second": 7, "floor": 1})},
			want:    []string{"a: 8 reserved, 0 held; WaitingForNodes", "a: 8 reserved, 0 held; WaitingForNodes"},
		},
		"nodes that have registered count, those that are there too": {
			members: []*memberBuilder{gang("first", 2*time.Minute), gang("second", time.Minute)},
			pools:   []plan.Pool{comes(empty, map[string]int32{"first": 2, "second": 2})},
			nodes:   append(booting(nodes("a", 0, 4), "first"), nodes("a", 4, 6)...),
			want:    []string{"a: 8 reserved, 2 held; WaitingForNodes", "BackingOff"},
		},
		"so does one that a pod is on before it is seen to be Ready": {
			members: []*memberBuilder{gang("first", 2*time.Minute).pod(0, "a-0"), gang("second", time.Minute)},
			pools:   []plan.Pool{comes(empty, map[string]int32{"first": 7})},
			nodes:   booting(nodes("a", 0, 1), "first"),
			want:    []string{"a: 8 reserved, 1 held; WaitingForNodes", "BackingOff"},
		},
		"and nodes that the provider has marked for release, as it takes its marks off while a claim lacks nodes": {
			members: []*memberBuilder{gang("first", 2*time.Minute), gang("second", time.Minute)},
			pools:   []plan.Pool{comes(empty, map[string]int32{"second": 6})},
			nodes: nodesWith(nodes("a", 0, 4), func(n *plan.Node) {
				n.Leaving, n.Releasing = true, n.Name != "a-3" && n.Name != "a-2"
			}),
			want: []string{"a: 8 reserved, 0 held; WaitingForNodes", "BackingOff"},
		},
		"one that could not be served leaves what there is to those behind it": {
			members: []*memberBuilder{
				member("big", 13, 13, "a").holds("a", 13).grows(13, 2*time.Minute, 9*time.Minute).granted("a", time.Minute).begins().claims("big"),
				gang("small", time.Minute),
			},
			pools: []plan.Pool{comes(empty, map[string]int32{"big": 10, "small": 2})},
			want:  []string{"BackingOff", "a: 8 reserved, 0 held; WaitingForNodes"},
		},
		"one that was granted since the failure is charged with nothing": {
			members: []*memberBuilder{gang("first", 2*time.Minute), gang("second", time.Minute).granted("a", 0).begins()},
			pools:   []plan.Pool{comes(empty, map[string]int32{"first": 8})},
			want:    []string{"a: 8 reserved, 0 held; WaitingForNodes", "a: 8 reserved, 0 held; WaitingForNodes"},
		},
		"nor does it take machines of others": {
			members: []*memberBuilder{gang("first", 2*time.Minute).granted("a", 0).begins(), gang("second", time.Minute)},
			pools:   []plan.Pool{comes(empty, map[string]int32{"second": 8})},
			want:    []string{"a: 8 reserved, 0 held; WaitingForNodes", "a: 8 reserved, 0 held; WaitingForNodes"},
		},
		"three gangs and machines for two": {
			members: []*memberBuilder{gang("first", 3*time.Minute), gang("second", 2*time.Minute), gang("third", time.Minute)},
			pools:   []plan.Pool{comes(empty, map[string]int32{"first": 8, "second": 5, "third": 5})},
			want:    []string{"a: 8 reserved, 0 held; WaitingForNodes", "a: 8 reserved, 0 held; WaitingForNodes", "BackingOff"},
		},
		"each pool is judged by itself": {
			members: []*memberBuilder{
				member("first", 8, 8, "a", "b").holds("a", 4).holds("b", 4).grows(
					8, 2*time.Minute, 9*time.Minute,
				).granted("a", time.Minute).begins().claims("first"),
				member("second", 8, 8, "a", "b").holds("a", 4).holds("b", 4).grows(
					8, time.Minute, 9*time.Minute,
				).granted("a", time.Minute).begins().claims("second"),
			},
			pools: []plan.Pool{
				comes(empty, map[string]int32{"first": 4, "second": 2}), comes(pool("b", 9), map[string]int32{"first": 4, "second": 4}),
			},
			want: []string{"a: 4 reserved, 0 held; b: 4 reserved, 0 held; WaitingForNodes", "BackingOff"},
		},
		"nodes that are there when the time is over serve the first": {
			members: []*memberBuilder{late(gang("first", 2*time.Minute)), late(gang("second", time.Minute))},
			pools:   []plan.Pool{pool("a", 30)},
			nodes:   nodes("a", 0, 12),
			want:    []string{"a: 8 reserved, 8 held; PodsStarting", "BackingOff"},
		},
		"but not in the place of one that is held and not Ready": {
			members: []*memberBuilder{
				late(
					member("first", 1, 1, "a").holds("a", 1, "a-0").pod(0, "a-0").grows(1, 2*time.Minute, 0).granted("a",
						time.Minute).begins().claims("first"),
				),
			},
			pools: []plan.Pool{pool("a", 30)},
			nodes: append(booting(nodes("a", 0, 1), "first"), nodes("a", 1, 2)...),
			want:  []string{"a: 1 reserved, 1 held; BackingOff"},
		},
		"what is still coming then is late": {
			members: []*memberBuilder{late(gang("first", 2*time.Minute)), gang("second", time.Minute)},
			pools:   []plan.Pool{comes(empty, map[string]int32{"first": 8, "second": 8})},
			want:    []string{"BackingOff", "a: 8 reserved, 0 held; WaitingForNodes"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			observed := plan.Observed{Pools: row.pools, Nodes: row.nodes}
			for _, m := range row.members {
				observed.Members = append(observed.Members, m.Member)
			}
			var got []string
			for i, d := range plan.Plan(observed, noon).Members {
				got = append(got, summary(d))
				if before := row.members[i].Growth; d.Growth != nil && d.Growth.RetryAfter == nil && !d.Growth.Since.Equal(&before.Since) {
					t.Errorf("the claim of %s, which goes on, is another one: its orders would be given back", d.Key.Name)
				}
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("decisions (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRetriesAreNotInStep: members that fail together, and with others that wait for the same pool, are tried again in the order of
// their claims, and not at the same time.
func TestRetriesAreNotInStep(t *testing.T) {
	t.Parallel()
	failing := func(name string, asked time.Duration) plan.Member {
		return member(name, 1, 8, "a").holds("a", 8, name+"-0").pod(0, name+"-0").grows(8, asked, 9*time.Minute).granted("a",
			time.Minute).claims(name).Member
	}
	waiting := member("waiting", 1, 8, "a").holds("a", 1).grows(8, time.Hour, 0).served(1).failed("a", v1alpha1.ReasonOutOfStock)
	retry := microTime(noon.Add(64 * time.Second))
	waiting.Growth.RetryAfter, waiting.Growth.Attempts = &retry, 3
	observed := plan.Observed{
		Members: []plan.Member{failing("b", 3*time.Minute), failing("a", 2*time.Minute), failing("c", time.Minute), waiting.Member},
		Pools:   []plan.Pool{outOfStock(pool("a", 40), time.Second)},
	}
	at := map[string]time.Duration{}
	for _, d := range plan.Plan(observed, noon).Members {
		if d.Growth == nil || d.Growth.RetryAfter == nil {
			t.Fatalf("%s does not wait: %s", d.Key.Name, strings.Join([]string{summary(d), words(d)}, "\n"))
		}
		at[d.Key.Name] = d.Growth.RetryAfter.Sub(noon)
	}
	if at["b"] != time.Minute {
		t.Errorf("the first is tried again after %v, want a minute", at["b"])
	}
	const apart = 3 * time.Second
	if at["a"]-at["b"] < apart || at["c"]-at["a"] < apart || at["c"] > 90*time.Second {
		t.Errorf("tried again after %v, want b, a and c in this order, apart, within a minute and a half", at)
	}
	for name, t0 := range at {
		if d := t0 - at["waiting"]; name != "waiting" && d > -apart && d < apart {
			t.Errorf("%s is tried again after %v, in step with the one that waits: %v", name, t0, at)
		}
	}
	// So many that they cannot all be apart are spread over the time that there is.
	observed.Members = observed.Members[3:]
	for i := range 50 {
		observed.Members = append(observed.Members, failing("m"+string(rune('A'+i)), time.Minute))
	}
	var last time.Duration
	for i, d := range plan.Plan(observed, noon).Members[:50] {
		if now := d.Growth.RetryAfter.Sub(noon); now <= last || now > 90*time.Second {
			t.Errorf("number %d is tried again after %v, the one before it after %v", i, now, last)
		} else {
			last = now
		}
	}
}
