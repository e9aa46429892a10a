package flux_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/idset"
)

// track is what a journal says of one job.
type track struct {
	names     []string
	state     flux.State
	ran       idset.Set
	exception string
	status    syscall.WaitStatus
	user      string
	priority  uint32
}

// tracks is what a journal has said of each job.
type tracks struct {
	journal *flux.Stream[flux.JournalEntry]
	jobs    map[flux.JobID]*track
}

// read reads a journal from its beginning up to what happens now.
func read(t *testing.T, journal *flux.Stream[flux.JournalEntry]) *tracks {
	t.Helper()
	k := &tracks{journal: journal, jobs: map[flux.JobID]*track{}}
	for {
		if entry := k.next(t); entry.CaughtUp() {
			return k
		}
	}
}

// next reads one entry.
func (k *tracks) next(t *testing.T) flux.JournalEntry {
	t.Helper()
	entry := next(t, k.journal)
	if entry.CaughtUp() {
		return entry
	}
	if entry.Err != nil {
		t.Errorf("job %s: %v", entry.ID, entry.Err)
	}
	job := k.jobs[entry.ID]
	if job == nil {
		job = &track{state: flux.StateNew}
		k.jobs[entry.ID] = job
	}
	if entry.Jobspec != nil {
		job.user = entry.Jobspec.UserText("group")
	}
	if entry.R != nil {
		job.ran = entry.R.Ranks()
	}
	for i := range entry.Events {
		job.add(t, &entry.Events[i])
	}
	return entry
}

// follow reads the journal until a job is inactive.
func (k *tracks) follow(t *testing.T, id flux.JobID) track {
	t.Helper()
	for k.jobs[id] == nil || k.jobs[id].state != flux.StateInactive {
		k.next(t)
	}
	return *k.jobs[id]
}

func (k *track) add(t *testing.T, event *flux.JobEvent) {
	t.Helper()
	k.names = append(k.names, event.Name)
	state, err := k.state.After(event)
	if err != nil {
		t.Fatal(err)
	}
	k.state = state
	switch event.Name {
	case "exception":
		exception, err := event.Exception()
		if err != nil {
			t.Fatal(err)
		}
		if exception.Fatal() {
			k.exception = exception.Type
		}
	case "finish":
		if k.status, err = event.Finished(); err != nil {
			t.Fatal(err)
		}
	case "release":
		if _, err := event.Released(); err != nil {
			t.Fatal(err)
		}
	case "submit":
		if submitted, err := event.Submitted(); err != nil || submitted.Urgency != flux.UrgencyDefault {
			t.Errorf("%+v, %v; want the default urgency", submitted, err)
		}
	case "priority":
		if k.priority, err = event.Priority(); err != nil {
			t.Fatal(err)
		}
	}
}

// has says whether names come in an order, whatever is between them.
func has(names []string, order string) bool {
	for word := range strings.FieldsSeq(order) {
		at := slices.Index(names, word)
		if at < 0 {
			return false
		}
		names = names[at+1:]
	}
	return true
}
