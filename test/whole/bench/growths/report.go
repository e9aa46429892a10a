package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/figures"
)

func (c *course) name() string { return fmt.Sprintf("%s %d", c.way, c.size) }

// median is that of all rounds.
func (c *course) median(of func(*round) time.Duration) time.Duration {
	var all []time.Duration
	for _, r := range c.rounds {
		all = append(all, of(r))
	}
	return figures.Median(all)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }

func pending(r *round) time.Duration { return r.pending }

// beside is the course of another way to the same size, nil for none.
func beside(courses []*course, c *course, other way) *course {
	for _, o := range courses {
		if o.way == other && o.size == c.size {
			return o
		}
	}
	return nil
}

// ratio is one duration as a multiple of another, 0 where there is no other.
func ratio(of, to time.Duration) float64 {
	if to <= 0 {
		return 0
	}
	return of.Seconds() / to.Seconds()
}

// ofPatched is the time from the request to all Running as a multiple of that of the MiniCluster that is patched first, and ofMade that
// from the last node to the last pod as a multiple of that of the MiniCluster that is made on Ready nodes; 0 where that was not measured.
func ofPatched(courses []*course, c *course) float64 {
	if other := beside(courses, c, patched); other != nil && c.way == grown {
		return ratio(c.median((*round).whole), other.median((*round).whole))
	}
	return 0
}

func ofMade(courses []*course, c *course) float64 {
	if other := beside(courses, c, made); other != nil && c.way == grown {
		return ratio(c.median((*round).tail), other.median((*round).tail))
	}
	return 0
}

func multiple(x float64) string {
	if x == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", x)
}

// summary has a row for each way to each size.
func summary(courses []*course) *figures.Table {
	t := figures.NewTable("growth", "request to all Running", "of patched", "last node to last pod", "of made", "pod-seconds Pending")
	for _, c := range courses {
		t.Add(c.name(), seconds(c.median((*round).whole)), multiple(ofPatched(courses, c)), seconds(c.median((*round).tail)),
			multiple(ofMade(courses, c)), seconds(c.median(pending)))
	}
	return t
}

// steps has a row for each step, and a column for each way to each size.
func steps(courses []*course) *figures.Table {
	head := []string{"step"}
	for _, c := range courses {
		head = append(head, c.name())
	}
	t := figures.NewTable(head...)
	for _, step := range allSteps {
		row := []string{step}
		for _, c := range courses {
			text := ""
			if c.reached(step) {
				text = seconds(c.median(func(r *round) time.Duration { return r.at[step] }))
			}
			row = append(row, text)
		}
		t.Add(row...)
	}
	return t
}

// reached reports whether a step was reached in all rounds.
func (c *course) reached(step string) bool {
	return !slices.ContainsFunc(c.rounds, func(r *round) bool { _, is := r.at[step]; return !is })
}

// minPerPod is how many writes for each pod are told of: what is rarer is little.
const minPerPod = 0.02

// span is a part of a round: who has written in it, and how long it was.
type span func(*round) (writers, time.Duration)

func all(r *round) (writers, time.Duration)  { return r.writers, r.whole() }
func last(r *round) (writers, time.Duration) { return r.lastWriters, r.tail() }

// writing has a row for each writer in a part of the rounds, and a column for each way to each size.
func writing(courses []*course, in span) *figures.Table {
	head := []string{"who writes what"}
	some := map[writer]bool{}
	for _, c := range courses {
		head = append(head, c.name())
		for _, r := range c.rounds {
			of, _ := in(r)
			for w, wrote := range of {
				if float64(wrote.count) >= minPerPod*float64(c.size) {
					some[w] = true
				}
			}
		}
	}
	writers := make([]writer, 0, len(some))
	for w := range some {
		writers = append(writers, w)
	}
	slices.SortFunc(writers, func(a, b writer) int {
		return cmp.Or(cmp.Compare(a.program, b.program), cmp.Compare(a.resource, b.resource), cmp.Compare(a.verb, b.verb))
	})
	t := figures.NewTable(head...)
	for _, w := range writers {
		row := []string{fmt.Sprintf("%s: %s %s", w.program, w.verb, w.resource)}
		for _, c := range courses {
			row = append(row, c.wrote(in, func(other writer) bool { return other == w }))
		}
		t.Add(row...)
	}
	row := []string{"all"}
	for _, c := range courses {
		row = append(row, c.wrote(in, func(writer) bool { return true }))
	}
	t.Add(row...)
	return t
}

// wrote is what some writers have written in a part of all rounds, as text: writes for each pod, milliseconds for each write, and how many
// of them the API server had at a time.
func (c *course) wrote(in span, which func(writer) bool) string {
	count, took, whole := 0, time.Duration(0), time.Duration(0)
	for _, r := range c.rounds {
		of, long := in(r)
		whole += long
		for w, wrote := range of {
			if which(w) {
				count += wrote.count
				took += wrote.took
			}
		}
	}
	if count == 0 {
		return ""
	}
	return fmt.Sprintf(
		"%.2f %4.1f ms %4.1f", float64(count)/float64(c.size*len(c.rounds)), 1000*took.Seconds()/float64(count), ratio(took, whole),
	)
}

// missed are the targets that were missed.
func missed(courses []*course) (missed []string) {
	for _, c := range courses {
		if c.way != grown {
			continue
		}
		if is, most := ofPatched(courses, c), maxOfPatched[c.size]; most > 0 && is > most {
			missed = append(missed, fmt.Sprintf("%s: %.2f of the time of the one that is patched first; the target is %g", c.name(), is, most))
		}
		if is := ofMade(courses, c); is > maxOfMade {
			missed = append(
				missed,
				fmt.Sprintf(
					"%s: from the last node to the last pod %.2f of the time of the one that is made on Ready nodes; the target is %g", c.name(), is,
					maxOfMade,
				),
			)
		}
		if is := c.median(pending); is > 0 {
			missed = append(missed, fmt.Sprintf("%s: pods were Pending for want of a node for %s, all together; the target is 0", c.name(), is))
		}
	}
	return missed
}
