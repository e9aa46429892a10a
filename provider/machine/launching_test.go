package machine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// orderOf are the records of an order of so many, of the machines with those numbers.
func orderOf(size int32, numbers ...int) []*v1alpha1.PoolMachine {
	var out []*v1alpha1.PoolMachine
	for _, n := range numbers {
		out = append(out, machineOf(func(m *v1alpha1.PoolMachine) {
			m.Name, m.Spec.Order.Size = fmt.Sprint("p-", n), size
		}))
	}
	return out
}

// TestOpen: an order is asked for when all records of it are there, those first that have lower numbers; of one that was asked
// for those that have no outcome are.
func TestOpen(t *testing.T) {
	t.Parallel()
	each := func(records []*v1alpha1.PoolMachine, change ...func(*v1alpha1.PoolMachine)) []*v1alpha1.PoolMachine {
		for _, c := range change {
			c(records[0])
		}
		return records
	}
	asked := func(m *v1alpha1.PoolMachine) {
		at := metav1.NewMicroTime(noon)
		m.Status.LaunchingAt = &at
	}
	accepted := func(m *v1alpha1.PoolMachine) {
		m.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionLaunched, Status: metav1.ConditionTrue}}
	}
	for _, row := range []struct {
		name     string
		records  []*v1alpha1.PoolMachine
		outcomes map[string]outcome
		open     string
		whole    bool
	}{
		{name: "nothing"},
		{name: "whole, by number", records: orderOf(3, 10, 9, 2), open: "p-2 p-9 p-10", whole: true},
		{name: "a record is missing", records: orderOf(3, 0, 1), open: "p-0 p-1"},
		{name: "a record is missing, and one was asked for", records: each(orderOf(3, 0, 1), asked), open: "p-0 p-1", whole: true},
		{name: "one is launched", records: each(orderOf(3, 0, 1), launched), open: "p-1", whole: true},
		{name: "one is accepted and has no id", records: each(orderOf(2, 0, 1), accepted), open: "p-1", whole: true},
		{name: "one has failed", records: each(orderOf(3, 0, 1), hasFailed), open: "p-1", whole: true},
		{name: "one goes that nobody has asked for", records: each(orderOf(2, 0, 1), going(time.Second)), open: "p-1"},
		{name: "all go", records: each(orderOf(1, 0), going(time.Second)), open: ""},
		{name: "one goes of which it has to be learnt what came", records: each(orderOf(2, 0, 1), asked, going(time.Second)), open: "p-0 p-1",
			whole: true},
		{name: "one goes that is launched", records: each(orderOf(2, 0, 1), launched, going(time.Second)), open: "p-1", whole: true},
		{
			name: "an outcome is not written yet", records: orderOf(2, 0, 1), open: "p-1", whole: true,
			outcomes: map[string]outcome{"p-0": *answered(launch.Accepted, "cloud://0", "", "")},
		},
		{
			name: "throttled ones are asked for again", records: orderOf(2, 0, 1), open: "p-0 p-1", whole: true,
			outcomes: map[string]outcome{"p-0": *answered(launch.Throttled, "", "", ""), "p-1": *answered(launch.Throttled, "", "", "")},
		},
		{
			name: "throttled, and a record is missing", records: orderOf(3, 0, 1), open: "p-0 p-1",
			outcomes: map[string]outcome{"p-0": *answered(launch.Throttled, "", "", "")},
		},
		{name: "adopted", records: each(orderOf(1, 0), func(m *v1alpha1.PoolMachine) { m.Spec.Order.ID = AdoptedOrder }), whole: true},
	} {
		l := launching{&Reconciler{outcomes: row.outcomes}}
		open, whole := l.open(slices.Clone(row.records))
		var names []string
		for _, m := range open {
			names = append(names, m.Name)
		}
		if got := strings.Join(names, " "); got != row.open || (len(open) > 0 && whole != row.whole) {
			t.Errorf("%s: open are %q, whole %v; want %q, %v", row.name, got, whole, row.open, row.whole)
		}
	}
}

// TestOrderAwaitsTheCache: while the cache has not what was written of one machine of an order, nothing of the order is asked for: on a
// cloud that takes all or none, the others would be a whole of their own.
func TestOrderAwaitsTheCache(t *testing.T) {
	t.Parallel()
	l := launching{&Reconciler{}}
	records := orderOf(3, 0, 1, 2)
	records[1].ResourceVersion = "7"
	if l.behind(records) {
		t.Error("nothing was written, and the cache is behind")
	}
	written := records[1].DeepCopy()
	written.ResourceVersion = "8"
	l.written.Wrote(written)
	if !l.behind(records) {
		t.Error("of an order of three, of which one was written since, the others are asked for")
	}
	records[1] = written
	if l.behind(records) {
		t.Error("the cache has what was written, and is behind")
	}
}

// TestToken: the same order has the same token, and no other order has.
func TestToken(t *testing.T) {
	t.Parallel()
	order := func(change func(*v1alpha1.PoolMachine)) string { return Token("cluster", machineOf(change)) }
	same := order(func(m *v1alpha1.PoolMachine) { m.Name, m.Status.ProviderID = "p-1", "cloud://1" })
	if want := Token("cluster", machineOf()); same != want || len(same) == 0 || len(same) > 64 {
		t.Errorf("the token of another machine of the order is %q, not %q", same, want)
	}
	tokens := map[string]bool{
		same:                          true,
		Token("another", machineOf()): true,
		order(func(m *v1alpha1.PoolMachine) { m.Spec.Order.ID = "q" }):                               true,
		order(func(m *v1alpha1.PoolMachine) { m.Spec.Order.First = 7 }):                              true,
		order(func(m *v1alpha1.PoolMachine) { m.Spec.NodePool = "q" }):                               true,
		order(func(m *v1alpha1.PoolMachine) { m.Spec.OrderedAt = metav1.NewMicroTime(noon) }):        true,
		order(func(m *v1alpha1.PoolMachine) { m.Spec.OrderedAt.Time = noon.Add(time.Microsecond) }):  true,
		order(func(m *v1alpha1.PoolMachine) { m.Spec.NodePool, m.Spec.Order.ID = "p/o", "o" }):       true,
		order(func(m *v1alpha1.PoolMachine) { m.Spec.NodePool, m.Spec.Order.ID = "other", "p/o/0" }): true,
	}
	if len(tokens) != 9 {
		t.Errorf("nine orders have %d tokens", len(tokens))
	}
}
