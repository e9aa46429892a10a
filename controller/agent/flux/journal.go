package flux

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/idset"
)

// JournalOptions say which events a job journal has.
type JournalOptions struct {
	// Full includes the jobs that have ended in the backlog. Without it a program that was started again does not learn what became of
	// the jobs that it submitted before.
	Full bool
	// Allow names the events to send, all where it is empty, and Deny those not to send.
	Allow, Deny []string
}

// JournalEntry is one response of a job journal: in the backlog all that has happened to one job, after it one event each.
type JournalEntry struct {
	// ID is that of the job, NoJob for the entry that ends the backlog.
	ID JobID
	// Events are in order.
	Events []JobEvent
	// Jobspec comes with the event submit and in the backlog, without the environment of the job.
	Jobspec *Jobspec
	// R comes with the event alloc and in the backlog: what the job was given.
	R *ResourceSet
	// Err says what is not understood of the jobspec or of R, which is nil then. The events are there all the same.
	Err error
}

// CaughtUp says that this entry ends the backlog: what follows happens now.
func (e *JournalEntry) CaughtUp() bool { return e.ID == NoJob }

// JobEvent is something that happened to a job.
type JobEvent struct {
	// Name says what, such as submit, alloc, start, finish, exception or clean. There may be others than RFC 21 has.
	Name string
	Time time.Time
	// Context is what the event says, as its name has it. It may be nil.
	Context json.RawMessage
}

// Journal streams what happened, and what happens, to all jobs: first the backlog, in no order of jobs, then an entry that is CaughtUp,
// then each event as it happens.
func (c *Client) Journal(ctx context.Context, options JournalOptions) (*Stream[JournalEntry], error) {
	request := map[string]any{"full": options.Full}
	for field, names := range map[string][]string{"allow": options.Allow, "deny": options.Deny} {
		if len(names) > 0 {
			set := map[string]int{}
			for _, name := range names {
				set[name] = 1
			}
			request[field] = set
		}
	}
	return openStream(ctx, c, lead, "job-manager.events-journal", request, decodeJournalEntry)
}

func decodeJournalEntry(payload []byte) (JournalEntry, error) {
	var read struct {
		ID      *JobID          `json:"id"`
		Events  *[]event        `json:"events"`
		Jobspec json.RawMessage `json:"jobspec"`
		R       json.RawMessage `json:"R"`
	}
	if err := decodeJSON(payload, &read); err != nil {
		return JournalEntry{}, err
	}
	switch {
	case read.ID == nil:
		return JournalEntry{}, missing("id")
	case read.Events == nil:
		return JournalEntry{}, missing("events")
	}
	entry := JournalEntry{ID: *read.ID}
	var jobspecErr, setErr error
	entry.Jobspec, jobspecErr = optional[Jobspec](read.Jobspec)
	entry.R, setErr = optional[ResourceSet](read.R)
	entry.Err = errors.Join(jobspecErr, setErr)
	for i := range *read.Events {
		event := &(*read.Events)[i]
		if err := event.check(); err != nil {
			return JournalEntry{}, fmt.Errorf("events[%d]: %w", i, err)
		}
		entry.Events = append(entry.Events, JobEvent{Name: event.Name, Time: unixTime(*event.Timestamp), Context: event.Context})
	}
	return entry, nil
}

// optional decodes what may be absent.
func optional[T any](text json.RawMessage) (*T, error) {
	if len(text) == 0 || string(text) == "null" {
		return nil, nil //nolint:nilnil // It is absent.
	}
	value := new(T)
	if err := json.Unmarshal(text, value); err != nil {
		return nil, err
	}
	return value, nil
}

// Submitted is what the event submit says.
type Submitted struct {
	// UserID is the user whose job it is.
	UserID uint32
	// Urgency is 0 to 31.
	Urgency int
}

// Submitted reads the event submit.
func (e *JobEvent) Submitted() (Submitted, error) {
	var read struct {
		UserID  *uint32 `json:"userid"`
		Urgency *int    `json:"urgency"`
	}
	if err := decodeContext(e.Name, e.Context, &read); err != nil {
		return Submitted{}, err
	}
	switch {
	case read.UserID == nil:
		return Submitted{}, fmt.Errorf("%s: %w", e.Name, missing("userid"))
	case read.Urgency == nil:
		return Submitted{}, fmt.Errorf("%s: %w", e.Name, missing("urgency"))
	}
	return Submitted{UserID: *read.UserID, Urgency: *read.Urgency}, nil
}

// Exception is what the event exception says.
type Exception struct {
	// Type is what happened: cancel, exec, timeout, alloc or another word.
	Type string
	// Severity is 0, which ends the job, to 7.
	Severity int
	// Note is for people.
	Note string
}

// Fatal says that the exception ends the job.
func (e *Exception) Fatal() bool { return e.Severity == 0 }

// Exception reads the event exception.
func (e *JobEvent) Exception() (Exception, error) {
	var read struct {
		Type     string `json:"type"`
		Severity *int   `json:"severity"`
		Note     string `json:"note"`
	}
	if err := decodeContext(e.Name, e.Context, &read); err != nil {
		return Exception{}, err
	}
	switch {
	case read.Type == "":
		return Exception{}, fmt.Errorf("%s: %w", e.Name, missing("type"))
	case read.Severity == nil:
		return Exception{}, fmt.Errorf("%s: %w", e.Name, missing("severity"))
	}
	return Exception{Type: read.Type, Severity: *read.Severity, Note: read.Note}, nil
}

// Finished reads the event finish: the largest status of wait(2) among the shells of the job. 0 is success.
func (e *JobEvent) Finished() (syscall.WaitStatus, error) {
	var read struct {
		Status *uint32 `json:"status"`
	}
	if err := decodeContext(e.Name, e.Context, &read); err != nil {
		return 0, err
	}
	if read.Status == nil {
		return 0, fmt.Errorf("%s: %w", e.Name, missing("status"))
	}
	return syscall.WaitStatus(*read.Status), nil
}

// Released is what the event release says.
type Released struct {
	// Ranks are those that the job has given back. All says that it is all that it had, and Ranks is empty then.
	Ranks idset.Set
	All   bool
	// Final says that the job has none left.
	Final bool
}

// Released reads the event release.
func (e *JobEvent) Released() (Released, error) {
	var read struct {
		Ranks *string `json:"ranks"`
		Final bool    `json:"final"`
	}
	if err := decodeContext(e.Name, e.Context, &read); err != nil {
		return Released{}, err
	}
	if read.Ranks == nil {
		return Released{}, fmt.Errorf("%s: %w", e.Name, missing("ranks"))
	}
	if *read.Ranks == "all" {
		return Released{All: true, Final: read.Final}, nil
	}
	ranks, err := idset.Parse(*read.Ranks)
	if err != nil {
		return Released{}, fmt.Errorf("%s: %w", e.Name, err)
	}
	return Released{Ranks: ranks, Final: read.Final}, nil
}

// Priority reads the event priority. A larger one is served first; 0 holds the job.
func (e *JobEvent) Priority() (uint32, error) {
	var read struct {
		Priority *uint32 `json:"priority"`
	}
	if err := decodeContext(e.Name, e.Context, &read); err != nil {
		return 0, err
	}
	if read.Priority == nil {
		return 0, fmt.Errorf("%s: %w", e.Name, missing("priority"))
	}
	return *read.Priority, nil
}

// errNoState is for an entry whose events do not begin with the submission.
var errNoState = errors.New("its events do not begin with submit")

// State is that of the job after the events of an entry of the backlog.
func (e *JournalEntry) State() (State, error) {
	if len(e.Events) == 0 || e.Events[0].Name != "submit" {
		return 0, fmt.Errorf("job %s: %w", e.ID, errNoState)
	}
	state := StateNew
	for i := range e.Events {
		next, err := state.After(&e.Events[i])
		if err != nil {
			return state, fmt.Errorf("job %s: %w", e.ID, err)
		}
		state = next
	}
	return state, nil
}
