package budget

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

var start = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func budget(t *testing.T, r Rate) *Budget {
	t.Helper()
	m, err := NewMetrics(prometheus.NewPedanticRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return New("member-reads", r, m)
}

// taken is how many of n a namespace gets.
func taken(b *Budget, namespace string, n int, now time.Time) (got int) {
	for range n {
		if b.Take(namespace, now) == nil {
			got++
		}
	}
	return got
}

// TestBudget: a namespace gets its part of each second and no more, which takes nothing from the others; all together get what there is.
func TestBudget(t *testing.T) {
	t.Parallel()
	b := budget(t, Rate{PerNamespace: 10, Total: 15})
	got := []int{taken(b, "flood", 1000, start), taken(b, "other", 1000, start), taken(b, "third", 1000, start)}
	if diff := cmp.Diff([]int{10, 5, 0}, got); diff != "" {
		t.Errorf("at once (-want +got):\n%s", diff)
	}
	// What was turned away for want of anything has cost the third namespace nothing of its own part.
	got = []int{taken(b, "third", 1000, start.Add(time.Second)), taken(b, "flood", 1000, start.Add(time.Second))}
	if diff := cmp.Diff([]int{10, 5}, got); diff != "" {
		t.Errorf("a second later (-want +got):\n%s", diff)
	}
	if turned := testutil.ToFloat64(b.byNamespace) + testutil.ToFloat64(b.inTotal); turned != 5*1000-30 {
		t.Errorf("the metric has %g turned away", turned)
	}
}

// TestExceeded: the error says whose budget it is, how much it has and by which flag, and nothing of others.
func TestExceeded(t *testing.T) {
	t.Parallel()
	for want, row := range map[string]struct {
		rate Rate
	}{
		"namespace ns causes more than 1 member reads in a second (--member-reads-per-second): try again in a moment":                  {Rate{PerNamespace: 1}},
		"all namespaces together cause more than 1 member reads in a second (--member-reads-per-second-in-all): try again in a moment": {Rate{Total: 1}},
	} {
		b := budget(t, row.rate)
		if err := b.Take("ns", start); err != nil {
			t.Error(err)
		}
		err := b.Take("ns", start)
		if _, is := errors.AsType[*Exceeded](err); !is || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestNoLimit: 0 is none.
func TestNoLimit(t *testing.T) {
	t.Parallel()
	if got := taken(budget(t, Rate{}), "ns", 10000, start); got != 10000 {
		t.Errorf("%d of 10000", got)
	}
}

// TestManyNamespaces: what is remembered of namespaces is bounded, and made-up ones do not get past the bound in all.
func TestManyNamespaces(t *testing.T) {
	t.Parallel()
	b, got := budget(t, Rate{PerNamespace: 1, Total: 100}), 0
	for i := range 3 * maxNamespaces {
		got += taken(b, fmt.Sprintf("ns-%d", i), 1, start)
	}
	if got != 100 || b.namespaces.Len() > maxNamespaces {
		t.Errorf("%d were allowed, %d namespaces are remembered", got, b.namespaces.Len())
	}
}

// TestValidate: a flag with a value that it cannot have is named.
func TestValidate(t *testing.T) {
	t.Parallel()
	r := Rate{PerNamespace: -1, Total: 5}
	if err := r.Validate("member-reads"); err == nil || !strings.Contains(
		err.Error(), "--member-reads-per-second is -1; it must be a number from 0 on",
	) {
		t.Errorf("%v", err)
	}
	r.PerNamespace = 0
	if err := r.Validate("member-reads"); err != nil {
		t.Error(err)
	}
}
