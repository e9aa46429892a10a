package nodegroup

import "slices"

// cancelled are machines that are booting and that a lower target does not count, those that have failed first, then the newest.
func (g *Group) cancelled(abandoned []string) []string {
	goes := setOf(abandoned)
	var booting []*Machine
	over := -int(g.maxSize())
	for _, m := range g.live() {
		if m.lost() || !m.Going.IsZero() || goes[m.Name] {
			continue
		}
		over++
		if !m.arrived() {
			booting = append(booting, m)
		}
	}
	slices.SortStableFunc(booting, func(a, b *Machine) int {
		switch {
		case a.Failure != nil && b.Failure == nil:
			return -1
		case a.Failure == nil && b.Failure != nil:
			return 1
		default:
			return 0
		}
	})
	return namesOf(booting[:min(len(booting), max(0, over))])
}
