package rules

import (
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// Event is what State is told: a [Job], [CaughtUp], [Rejected], [Size] or [Answer]. Nil is that time has passed.
type Event interface{ isEvent() }

// Job is an event of a job, as Flux's journal has it (RFC 21).
type Job struct {
	ID uint64
	At time.Time
	// Name is that of the event, one of the Event constants; others are read over.
	Name string
	// Submission is what the job asks for, with EventSubmit, and nil else.
	Submission *Submission
	// Status is the wait status of the job's tasks, with EventFinish: 0 is success.
	Status int
	// Type and Severity are with EventException. Severity 0 ends the job.
	Type     string
	Severity int
}

// The events of jobs that rules are about.
const (
	EventSubmit    = "submit"
	EventDepend    = "depend"
	EventPriority  = "priority"
	EventAlloc     = "alloc"
	EventStart     = "start"
	EventFinish    = "finish"
	EventException = "exception"
	EventClean     = "clean"
	// EventInvalidate says that the job was rejected after EventSubmit, and is to be forgotten.
	EventInvalidate = "invalidate"
)

// Concerns says whether events of a name are anything to State.
func Concerns(name string) bool {
	switch name {
	case EventSubmit, EventDepend, EventPriority, EventAlloc, EventStart, EventFinish, EventException, EventClean,
		EventInvalidate:
		return true
	}
	return false
}

// Submission is what a job was submitted with.
type Submission struct {
	// Group is the name of the job in the file, empty or another one for a job that the ensemble has not submitted.
	Group string
	// Nodes is how many nodes the job needs, 0 where that is not known.
	Nodes int32
	// Tag is zero for a job that no rule has submitted.
	Tag Tag
}

// Tag says for what a job was submitted. It is stored with the job.
type Tag struct {
	// Rule is the identity of a rule, which stays the same when other rules are edited.
	Rule string `json:"rule"`
	// Run is the repetition, from 1, Index the job among those of the repetition, from 0.
	Run   int `json:"run"`
	Index int `json:"index"`
}

// CaughtUp is that all which happened before has been told, and the rest is told as it happens.
type CaughtUp struct{}

// Rejected is that Flux has refused a job for good. It counts as one that has failed, once if EventInvalidate says it too.
type Rejected struct {
	Group string
	Tag   Tag
}

// Size is what is known of the member's size.
type Size struct {
	// Has is the size, Wants the desired size; a growth is under way while it is more than Has.
	Has, Wants int32
	// Max is the largest size that the member may have, 0 where that is not known.
	Max int32
}

// Answer is what became of an action that asks: Grow, Shrink and Custom.
type Answer struct {
	// ID is that of the action.
	ID      string
	Outcome Outcome
	// Size is what the answer says of the member's size, nil if nothing.
	Size *Size
	// Actions are what the program of a custom action wants done.
	Actions []ensemblefile.Action
}

// Outcome is what became of a request.
type Outcome int

// The outcomes of a request.
const (
	// Granted is that it was accepted, or the program of a custom action run, with success or not.
	Granted Outcome = iota
	// Denied is that it was understood and refused, or an earlier one is under way.
	Denied
	// Unreachable is that nobody answered in time, or with an error.
	Unreachable
)

func (Job) isEvent()      {}
func (CaughtUp) isEvent() {}
func (Rejected) isEvent() {}
func (Size) isEvent()     {}
func (Answer) isEvent()   {}

// Verb is what an action does.
type Verb string

// The verbs are those of the file.
const (
	Submit    Verb = ensemblefile.ActionSubmit
	Terminate Verb = ensemblefile.ActionTerminate
	Custom    Verb = ensemblefile.ActionCustom
	Grow      Verb = ensemblefile.ActionGrow
	Shrink    Verb = ensemblefile.ActionShrink
	// Cancel is none of the file: a job was submitted twice.
	Cancel Verb = "cancel"
)

// Action is what is to be done.
type Action struct {
	Verb Verb
	// ID names a Grow, Shrink or Custom, in letters, digits, dots and dashes. An action that is to be done again has the same one.
	ID string
	// Rule is the place of the rule in the file, such as "rules[2]".
	Rule string
	// Jobs are those to submit, with Submit.
	Jobs []Order
	// Job is the one to cancel, with Cancel.
	Job uint64
	// Nodes is by how many nodes to Grow or Shrink.
	Nodes int32
	// Label is the function or the program of Custom.
	Label string
	// Reason says in words why the rule was run.
	Reason string
}

// Order is one job to submit.
type Order struct {
	// Job is the entry of the file: one of its count is to be submitted.
	Job *ensemblefile.Job
	Tag Tag
}
