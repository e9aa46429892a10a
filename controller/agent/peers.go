package agent

import (
	"context"
	"fmt"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
)

// Queue is a Flux instance.
type Queue interface {
	// Instance names this life of the instance: another one has none of its jobs.
	Instance(ctx context.Context) (string, error)
	// Follow reads the journal of all jobs, those that have ended included, and again from the beginning when it was lost. It returns when
	// the context ends, and with an error where waiting does not help.
	Follow(ctx context.Context, listener Listener) error
	// Submit submits a job with its tag, however long that takes. A *RefusedError is for good, and a *NotNowError is not; after another error
	// the job may have been submitted all the same.
	Submit(ctx context.Context, order rules.Order) error
	// Cancel cancels a job. It is no error that the job has ended.
	Cancel(ctx context.Context, id uint64, note string) error
	// Nodes counts nodes.
	Nodes(ctx context.Context) (Nodes, error)
	// FollowNodes calls changed when Nodes may count others, jobs apart. It returns when the context ends, and with an error where that
	// cannot be followed.
	FollowNodes(ctx context.Context, changed func()) error
}

// Listener is told what a journal has.
type Listener struct {
	// Opened is called before the first events of a journal that begins again.
	Opened func(ctx context.Context) error
	// Events are those of jobs, and rules.CaughtUp after those that had happened before.
	Events func(ctx context.Context, events []rules.Event) error
}

// RefusedError says that a job will never be taken as it is.
type RefusedError struct{ Err error }

// Error says why.
func (e *RefusedError) Error() string { return fmt.Sprintf("the job is refused: %v", e.Err) }

// Unwrap is why.
func (e *RefusedError) Unwrap() error { return e.Err }

// NotNowError says that a job was not taken, and may be at another time.
type NotNowError struct{ Err error }

// Error says why.
func (e *NotNowError) Error() string { return fmt.Sprintf("the job is not taken now: %v", e.Err) }

// Unwrap is why.
func (e *NotNowError) Unwrap() error { return e.Err }

// Nodes counts the nodes of an instance.
type Nodes struct {
	// Up are those that jobs can be placed on or are on, Free those of them without a job.
	Up, Free int
	// IdleTail are the free ones above the highest that is busy: by so many can the member shrink at once.
	IdleTail int
}

// Operator is asked for another size of the member.
type Operator interface {
	// Resize asks for so many nodes more, or less. The id is the same when the same is asked for again. An error says that it is not known
	// what became of it.
	Resize(ctx context.Context, request Resize) (Reply, error)
	// Status asks for the size.
	Status(ctx context.Context) (rules.Size, error)
	// Report tells the state of the queue.
	Report(ctx context.Context, report Report) error
}

// Resize is a request for another size.
type Resize struct {
	// Verb is rules.Grow or rules.Shrink.
	Verb  rules.Verb
	Nodes int32
	// ID names the request among all that are ever made for this member, in at most 64 letters, digits, dots and dashes.
	ID string
}

// Reply is what an operator answers.
type Reply struct {
	Granted bool
	// Size is nil where the reply does not say it.
	Size *rules.Size
	// Reason is in words.
	Reason string
}

// Report is the state of a queue.
type Report struct {
	rules.Report
	Nodes Nodes
}

// Programs runs what a custom action names.
type Programs interface {
	// Run gives a program its input and returns its output. It has a deadline of its own.
	Run(ctx context.Context, label string, input []byte) (output []byte, err error)
}

// Store keeps what became of requests over restarts of the program. It is used by one goroutine at a time.
type Store interface {
	// Load returns what was kept for an instance: nothing where Granted is nil.
	Load(instance string) (Kept, error)
	// Save replaces what is kept.
	Save(instance string, kept Kept) error
}

// Kept is what became of requests.
type Kept struct {
	Granted rules.Progress `json:"granted"`
	// Asked has requests that were made and of which it is not known whether they arrived, by their name, with the size before.
	Asked map[string]rules.Size `json:"asked,omitempty"`
}
