package figures_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/figures"
)

func TestPercentile(t *testing.T) {
	t.Parallel()
	var hundred []time.Duration
	for n := 100; n > 0; n-- {
		hundred = append(hundred, time.Duration(n))
	}
	for _, row := range []struct {
		name      string
		durations []time.Duration
		p         int
		want      time.Duration
	}{
		{"none", nil, 50, 0},
		{"one", []time.Duration{7}, 99, 7},
		{"the median of two is one of them", []time.Duration{9, 1}, 50, 1},
		{"the median of three", []time.Duration{9, 1, 5}, 50, 5},
		{"half of a hundred", hundred, 50, 50},
		{"all but one of a hundred", hundred, 99, 99},
		{"the least", hundred, 0, 1},
		{"all", hundred, 100, 100},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if got := figures.Percentile(row.durations, row.p); got != row.want {
				t.Errorf("got %d, want %d", got, row.want)
			}
		})
	}
	if hundred[0] != 100 {
		t.Error("the durations were sorted in place")
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	table := figures.NewTable("call", "p50 µs", "calls")
	table.Add("Refresh", "1", "1,000")
	table.Add("NodeGroups", "20.5")
	want := `
call        p50 µs  calls
----        ------  -----
Refresh          1  1,000
NodeGroups    20.5
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), table.String()); diff != "" {
		t.Error(diff)
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ got, want string }{
		{figures.Thousands(0), "0"},
		{figures.Thousands(999), "999"},
		{figures.Thousands(1000), "1,000"},
		{figures.Thousands(1234567), "1,234,567"},
		{figures.Thousands(-1000), "-1,000"},
		{figures.Counted(1, "group"), "1 group"},
		{figures.Counted(2000, "node"), "2,000 nodes"},
		{figures.Milliseconds(1234567 * time.Nanosecond), "1.235"},
		{figures.Rate(0), ""},
		{figures.Rate(12345.6), "12,346"},
		{figures.Mebibytes(3<<20 + 1<<19), "4"},
		{figures.Mebibytes(3<<20 + 1<<18), "3"},
	} {
		if row.got != row.want {
			t.Errorf("got %q, want %q", row.got, row.want)
		}
	}
}

// TestJobs: each size is made once, and the machines of a size are spread evenly.
