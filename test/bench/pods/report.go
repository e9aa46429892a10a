package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/bench/figures"
)

// report is what was measured.
type report struct {
	*options
	serial, concurrent, bound *measured
	// reviews are the objects that the API server had the controller look at while pods were created, by way.
	reviews map[string]int
}

func newReport(o *options) *report {
	return &report{
		options: o, reviews: map[string]int{},
		serial:     &measured{name: "creation, one at a time", turns: map[string][][]time.Duration{}},
		concurrent: &measured{name: "creation, several at a time", turns: map[string][][]time.Duration{}},
		bound:      &measured{name: "binding", turns: map[string][][]time.Duration{}},
	}
}

// measured is how long one thing took, by way, and within that by turn.
type measured struct {
	name  string
	turns map[string][][]time.Duration
}

func (m *measured) add(w way, durations []time.Duration) {
	m.turns[w.name] = append(m.turns[w.name], durations)
}

func (m *measured) percentile(w way, p int) time.Duration {
	return figures.Percentile(slices.Concat(m.turns[w.name]...), p)
}

// ratio is that of a percentile to the one without us.
func (m *measured) ratio(w way, p int) float64 {
	return m.percentile(w, p).Seconds() / m.percentile(ways[0], p).Seconds()
}

// spread are the least and the greatest ratio of the medians of one round: what a ratio may be by chance.
func (m *measured) spread(w way) (least, greatest float64) {
	for i, turn := range m.turns[w.name] {
		ratio := figures.Median(turn).Seconds() / figures.Median(m.turns[ways[0].name][i]).Seconds()
		if i == 0 {
			least, greatest = ratio, ratio
		}
		least, greatest = min(least, ratio), max(greatest, ratio)
	}
	return least, greatest
}

func (m *measured) table() *figures.Table {
	t := figures.NewTable("pods", "created", "p50 ms", "p99 ms", "ratio p50", "p99", "p50 by round")
	for _, w := range ways {
		turns := m.turns[w.name]
		if len(turns) == 0 {
			continue
		}
		least, greatest := m.spread(w)
		t.Add(w.name, figures.Thousands(len(slices.Concat(turns...))), figures.Milliseconds(m.percentile(w, 50)), figures.Milliseconds(m.percentile(w, 99)),
			fmt.Sprintf("%.2f", m.ratio(w, 50)), fmt.Sprintf("%.2f", m.ratio(w, 99)), fmt.Sprintf("%.2f to %.2f", least, greatest))
	}
	return t
}

func (r *report) print(out io.Writer) error {
	asked := figures.NewTable("pods", "created", "objects that reached the controller")
	for _, w := range ways {
		if w.controller && w.admission {
			created := slices.Concat(r.serial.turns[w.name], r.concurrent.turns[w.name], r.bound.turns[w.name])
			asked.Add(w.name, figures.Thousands(len(slices.Concat(created...))), figures.Thousands(r.reviews[w.name]))
		}
	}
	_, err := fmt.Fprintf(out, `Creation of a pod through the API server, one at a time, in %d rounds. The last column is the least and the greatest ratio of
one round.

%s
Creation of pods, %d under way at any time

%s
From the creation of a pod to its binding, on free nodes, one at a time

%s
Objects that the API server had the controller look at while these pods were created. A MiniCluster that is tried before
each change moves the counter.

%s
`, r.rounds, r.serial.table(), r.callers, r.concurrent.table(), r.bound.table(), asked)
	return err
}

// missed are the targets that were missed.
func (r *report) missed() (missed []string) {
	for _, w := range ways[1:] {
		if reviews := r.reviews[w.name]; reviews > 0 {
			missed = append(missed, fmt.Sprintf("%s: the API server had the controller look at %s", w.name, figures.Counted(reviews, "object")))
		}
		if w.labelled {
			continue
		}
		for _, m := range []*measured{r.serial, r.concurrent, r.bound} {
			if ratio := m.ratio(w, 50); ratio > mostMedian {
				missed = append(missed, fmt.Sprintf("%s, %s: the median is %.2f times what it is without us; the target is %g at most", m.name, w.name, ratio, mostMedian))
			}
			if ratio := m.ratio(w, 99); ratio > mostP99 {
				missed = append(missed, fmt.Sprintf("%s, %s: p99 is %.2f times what it is without us; the target is %g at most", m.name, w.name, ratio, mostP99))
			}
		}
	}
	return missed
}
