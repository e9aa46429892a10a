package flux

import (
	"fmt"
	"strings"
)

// State is where a job is in its life (RFC 21). The values are bits, so that a set of them is a State too.
type State uint8

// The states of a job.
const (
	// StateNew: submitted, not validated yet.
	StateNew State = 1 << iota
	// StateDepend: waits for what it depends on.
	StateDepend
	// StatePriority: waits for a priority. A job that is held, with the urgency UrgencyHold, waits here or in StateSched.
	StatePriority
	// StateSched: waits for resources.
	StateSched
	// StateRun: has resources, and runs or is about to.
	StateRun
	// StateCleanup: has ended, or an exception has, and gives its resources back.
	StateCleanup
	// StateInactive: has ended for good.
	StateInactive
)

// Sets of states.
const (
	// Pending jobs wait.
	Pending = StateDepend | StatePriority | StateSched
	// Running jobs have resources, or are giving them back.
	Running = StateRun | StateCleanup
	// Active jobs have not ended.
	Active = Pending | Running
)

// names of the states, in the order of their bits.
var stateNames = [...]string{"new", "depend", "priority", "sched", "run", "cleanup", "inactive"}

// String is the name of a state, or those of a set of them with | between.
func (s State) String() string {
	var names []string
	for i, name := range stateNames {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return fmt.Sprintf("state %d", uint8(s))
	}
	return strings.Join(names, "|")
}

// Is says whether a state is one of a set.
func (s State) Is(set State) bool { return s&set != 0 }

// After is the state of a job after an event, as RFC 21 has it and flux-core's job manager does it. Events that change nothing, those
// that are not known among them, leave it as it is.
func (s State) After(e *JobEvent) (State, error) {
	switch e.Name {
	case "validate":
		if s == StateNew {
			return StateDepend, nil
		}
	case "depend":
		if s == StateDepend {
			return StatePriority, nil
		}
	case "priority":
		if s == StatePriority {
			return StateSched, nil
		}
	case "alloc":
		if s == StateSched {
			return StateRun, nil
		}
	case "finish":
		if s == StateRun {
			return StateCleanup, nil
		}
	case "clean":
		if s == StateCleanup {
			return StateInactive, nil
		}
	case "urgency", "jobspec-update", "flux-restart":
		// Its priority has to be found again.
		if s == StateSched {
			return StatePriority, nil
		}
	case "exception":
		exception, err := e.Exception()
		if err != nil {
			return s, err
		}
		if exception.Fatal() && s.Is(Active) {
			return StateCleanup, nil
		}
	}
	return s, nil
}

// Result is how a job ended.
type Result uint8

// The results of jobs.
const (
	// Completed: all its tasks succeeded.
	Completed Result = 1
	// Failed: a task failed, or an exception ended it.
	Failed Result = 2
	// Canceled: somebody cancelled it.
	Canceled Result = 4
	// TimedOut: it ran longer than it may.
	TimedOut Result = 8
)

// String is the name of a result.
func (r Result) String() string {
	switch r {
	case Completed:
		return "completed"
	case Failed:
		return "failed"
	case Canceled:
		return "canceled"
	case TimedOut:
		return "timeout"
	default:
		return fmt.Sprintf("result %d", uint8(r))
	}
}
