package main

import (
	"fmt"
	"slices"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/figures"
)

// perNode is a number of writes for each node of a step.
func (s *step) perNode(writes int) float64 { return float64(writes) / float64(s.nodes) }

func (s *step) name() string { return fmt.Sprintf("%s %d", s.action, s.nodes) }

// inVain is the share of the writes of some that were refused for a conflict, in percent.
func (s *step) inVain(by ...writer) float64 {
	all, conflicts := 0, 0
	for _, w := range by {
		all += s.sum(w)
		conflicts += s.conflict[w]
	}
	if all == 0 {
		return 0
	}
	return 100 * float64(conflicts) / float64(all)
}

func decimal(value float64) string { return fmt.Sprintf("%.2f", value) }

// summary has a row for each step.
func summary(steps []step) *figures.Table {
	t := figures.NewTable("growth", provider.String(), controller.String(), cloud.String(), "writes in all", "in vain %", "of the cloud's %")
	for i := range steps {
		s := &steps[i]
		t.Add(s.name(), decimal(s.perNode(s.sum(provider))), decimal(s.perNode(s.sum(controller))), decimal(s.perNode(s.sum(cloud))),
			figures.Thousands(s.sum(provider)+s.sum(controller)+s.sum(cloud)), decimal(s.inVain(provider, controller)), decimal(s.inVain(cloud)))
	}
	return t
}

// breakdown has a row for each kind of write, and a column for each step.
func breakdown(steps []step) *figures.Table {
	head := []string{"who writes what"}
	all := map[kind]bool{}
	for i := range steps {
		head = append(head, steps[i].name())
		for k := range steps[i].count {
			all[k] = true
		}
	}
	kinds := make([]kind, 0, len(all))
	for k := range all {
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, kind.compare)
	t := figures.NewTable(head...)
	for _, k := range kinds {
		row := []string{fmt.Sprintf("%s: %s %s", k.by, k.verb, k.resource)}
		for i := range steps {
			row = append(row, decimal(steps[i].perNode(steps[i].count[k])))
		}
		t.Add(row...)
	}
	return t
}

// missed are the targets that were missed.
func missed(steps []step) (missed []string) {
	for i := range steps {
		s := &steps[i]
		if s.nodes != checkedSize {
			continue
		}
		maxProvider := maxProviderGrown
		if s.action == "shrink" {
			maxProvider = maxProviderReleased
		}
		for _, target := range []struct {
			what     string
			is, most float64
		}{
			{"writes of the provider for each node", s.perNode(s.sum(provider)), maxProvider},
			{"writes of the controller for each node", s.perNode(s.sum(controller)), maxController},
			{"% of the writes in vain", s.inVain(provider, controller), maxConflictPercent},
		} {
			if target.is > target.most {
				missed = append(missed, fmt.Sprintf("%s: %.2f %s; the target is %g", s.name(), target.is, target.what, target.most))
			}
		}
	}
	return missed
}
