package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/figures"
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

// ratios are those of a percentile to the one without us in the same round, in order.
func (m *measured) ratios(w way, p int) []float64 {
	var out []float64
	for i, turn := range m.turns[w.name] {
		out = append(out, figures.Percentile(turn, p).Seconds()/figures.Percentile(m.turns[ways[0].name][i], p).Seconds())
	}
	slices.Sort(out)
	return out
}

// ratio is the median of the ratios: what happens to the machine in one round does not count.
func (m *measured) ratio(w way, p int) float64 {
	ratios := m.ratios(w, p)
	return (ratios[(len(ratios)-1)/2] + ratios[len(ratios)/2]) / 2
}

func (m *measured) table() *figures.Table {
	t := figures.NewTable("pods", "created", "p50 ms", "p99 ms", "ratio of p50", "least", "greatest", "of p99")
	for _, w := range ways {
		turns := m.turns[w.name]
		if len(turns) == 0 {
			continue
		}
		ratios := m.ratios(w, 50)
		t.Add(w.name, figures.Thousands(len(slices.Concat(turns...))), figures.Milliseconds(m.percentile(w, 50)),
			figures.Milliseconds(m.percentile(w, 99)),
			fmt.Sprintf("%.2f", m.ratio(w, 50)), fmt.Sprintf("%.2f", ratios[0]), fmt.Sprintf(
				"%.2f", ratios[len(ratios)-1],
			), fmt.Sprintf("%.2f", m.ratio(w, 99)))
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
	_, err := fmt.Fprintf(out, `Creation of a pod through the API server, one at a time. A ratio is to the pods without us of the same round: the median, the
least and the greatest of %d rounds.

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
			if ratio := m.ratio(w, 50); ratio > maxP50 {
				missed = append(
					missed, fmt.Sprintf("%s, %s: p50 is %.2f times what it is without us; the target is %g at most", m.name, w.name, ratio, maxP50),
				)
			}
			if ratio := m.ratio(w, 99); ratio > maxP99 {
				missed = append(
					missed, fmt.Sprintf("%s, %s: p99 is %.2f times what it is without us; the target is %d at most", m.name, w.name, ratio, maxP99),
				)
			}
		}
	}
	return missed
}
