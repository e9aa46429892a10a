package nodegroup

import (
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// CodeProvisionTimeout is the code of the failure of a machine that has not registered in time.
const CodeProvisionTimeout = "ProvisionTimeout"

// maxNoted is how many machines that have failed the status names at most, those on their way out apart: the object has
// to stay small enough to be written.
const maxNoted = 1000

// failure says why a machine will not come up, or is no more: because it has failed, or has not registered in time. That a cloud
// asks to be asked later does not stop the clock: who waits for the machine waits all the same.
func (g *Group) failure(m *Machine, now time.Time) *Failure {
	if m.Failure != nil || m.arrived() || g.ProvisionTimeout <= 0 {
		return m.Failure
	}
	deadline := m.OrderedAt.Add(g.ProvisionTimeout)
	if now.Before(deadline) {
		return nil
	}
	return &Failure{At: deadline, Class: v1alpha1.FailureOther, Code: CodeProvisionTimeout,
		Message: "the node did not register within the provisionTimeout of " + g.ProvisionTimeout.String()}
}

// asOf is the group in which every machine says that it has failed that is late.
func (g *Group) asOf(now time.Time) *Group {
	out := g
	for i := range g.Machines {
		failure := g.failure(&g.Machines[i], now)
		if failure == g.Machines[i].Failure {
			continue
		}
		if out == g {
			changed := *g
			changed.Machines = slices.Clone(g.Machines)
			out = &changed
		}
		out.Machines[i].Failure = failure
	}
	return out
}

// noteFailures finds the machines that have failed, and those of which the status does not know. Of very many that have, some
// are noted when others are gone; but each before it is deleted.
func (g *Group) noteFailures(d *Decisions) {
	known, going := setOf(g.KnownFailed), setOf(g.ToDelete)
	var news []*Machine
	stay := 0
	for i := range g.Machines {
		switch m := &g.Machines[i]; {
		case m.Failure == nil:
		case !known[m.Name]:
			news = append(news, m)
		default:
			d.Failed = append(d.Failed, m.Name)
			if !going[m.Name] {
				stay++
			}
		}
	}
	for _, m := range news {
		if !going[m.Name] {
			if stay >= maxNoted {
				continue
			}
			stay++
		}
		d.Failed, d.NewlyFailed = append(d.Failed, m.Name), append(d.NewlyFailed, m.Name)
		if d.LastFailure == nil || m.Failure.At.After(d.LastFailure.At) {
			d.LastFailure, d.LastFailed = m.Failure, m.Name
		}
	}
	slices.Sort(d.Failed)
	slices.Sort(d.NewlyFailed)
}

// nextDeadline is when the next machine will be late, zero when none can be.
func (g *Group) nextDeadline(now time.Time) (next time.Time) {
	for _, m := range g.live() {
		if deadline := m.OrderedAt.Add(g.ProvisionTimeout); m.Failure == nil && !m.arrived() && deadline.After(now) {
			next = earlier(next, deadline)
		}
	}
	return next
}

// String is the failure in words.
func (f *Failure) String() string { return f.Code + ": " + f.Message }
