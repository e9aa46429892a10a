package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// queueStep says who is before the member in which pool: those that hold its nodes, and those that asked earlier and wait too.
func queueStep(f *Facts, granted bool) Step {
	s := Step{Topic: Queue, State: Done, Message: "nobody is before it"}
	if granted {
		return s
	}
	missing := f.missing(Queue)
	if missing != "" && len(f.Members) == 0 {
		return unknown(Queue, missing)
	}
	m := f.Member
	before, full := 0, 0
	for _, name := range m.Spec.NodePools {
		asked := askedBefore(f, name)
		before += len(asked)
		if len(asked) > 0 {
			s.Details = append(s.Details, fmt.Sprintf("%s: asked before it: %s", name, listed(asked)))
		}
		pool := f.pool(name)
		if pool == nil {
			continue
		}
		if pool.Status.Reserved >= pool.Spec.MaxSize {
			full++
		}
		room := fmt.Sprintf("%s: %d of at most %d nodes are reserved", name, pool.Status.Reserved, pool.Spec.MaxSize)
		if holders := holdersOf(f, name); len(holders) > 0 {
			room += ": " + listed(holders)
		}
		s.Details = append(s.Details, room)
	}
	switch {
	case before > 0:
		s.State, s.Reason = Waiting, v1alpha1.ReasonQueued
		s.Message = plural(int32(before), "growth was", "growths were") + " asked for before it"
	case full > 0 && full == len(m.Spec.NodePools):
		s.State, s.Reason = Waiting, v1alpha1.ReasonPoolFull
		s.Message = "others hold all nodes of its pools"
	}
	if missing != "" {
		s.Details = append(s.Details, fmt.Sprintf("only members in namespace %s are known: %s", m.Namespace, missing))
	}
	return s
}

// askedBefore are the growths that wait for a pool and began before that of the member, in the order in which they are served.
func askedBefore(f *Facts, pool string) []string {
	var waiting []*v1alpha1.EnsembleMember
	for i := range f.Members {
		o := &f.Members[i]
		if key(o) == key(f.Member) || o.Status.Growth == nil || isTrue(o, v1alpha1.ConditionCapacityReserved) ||
			o.Status.Growth.RetryAfter != nil || !slices.Contains(o.Spec.NodePools, pool) || !precedes(o, f.Member) {
			continue
		}
		waiting = append(waiting, o)
	}
	slices.SortFunc(waiting, byRequest)
	var names []string
	for _, o := range waiting {
		names = append(names, fmt.Sprintf("%s (to size %d, since %s)", key(o), o.Status.Growth.Size, formatTime(o.Status.Growth.Since.Time)))
	}
	return names
}

func precedes(o, m *v1alpha1.EnsembleMember) bool {
	return m.Status.Growth == nil || byRequest(o, m) < 0
}

// byRequest is the order in which growths are served.
func byRequest(a, b *v1alpha1.EnsembleMember) int {
	return cmp.Or(a.Status.Growth.Since.Compare(b.Status.Growth.Since.Time), strings.Compare(key(a), key(b)))
}

// holdersOf are the members that have reserved nodes of a pool, those with most first.
func holdersOf(f *Facts, pool string) []string {
	type holder struct {
		name  string
		nodes int32
	}
	var all []holder
	for i := range f.Members {
		for _, r := range f.Members[i].Status.Reservations {
			if r.NodePool == pool && r.Nodes > 0 {
				all = append(all, holder{key(&f.Members[i]), r.Nodes})
			}
		}
	}
	slices.SortFunc(all, func(a, b holder) int { return cmp.Or(cmp.Compare(b.nodes, a.nodes), strings.Compare(a.name, b.name)) })
	var names []string
	for _, h := range all {
		names = append(names, fmt.Sprintf("%s %d", h.name, h.nodes))
	}
	return names
}
