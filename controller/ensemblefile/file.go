package ensemblefile

import (
	"math"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// The triggers of a rule that ensemble-python supports: those in its schema (defaults.py) that its executor
// for MiniClusters (members/flux/queue.py) accepts too.
const (
	// TriggerStart is the start of the member.
	TriggerStart = "start"
	// TriggerMetric is the update of a metric, by an event of a job or by the heartbeat.
	TriggerMetric = "metric"
	// TriggerJobDepend and TriggerJobFinish are the events of the same names in Flux's job eventlog (RFC 21).
	TriggerJobDepend = "job-depend"
	TriggerJobFinish = "job-finish"
)

// The actions of a rule.
const (
	ActionSubmit    = "submit"
	ActionTerminate = "terminate"
	ActionCustom    = "custom"
	ActionGrow      = "grow"
	ActionShrink    = "shrink"
)

// The triggers that only the agent supports. ensemble-python has them in its schema, and ends when a file has one.
const (
	// TriggerJobSched is that a job begins to wait for resources, TriggerJobRun that its tasks start.
	TriggerJobSched = "job-sched"
	TriggerJobRun   = "job-run"
	// TriggerJobCancel is that a job is cancelled, TriggerJobCleanup that it ends or is ended, in whatever way.
	TriggerJobCancel  = "job-cancel"
	TriggerJobCleanup = "job-cleanup"
	// TriggerJobSuccess and TriggerJobFail are that a job has ended with status 0, and in any other way.
	TriggerJobSuccess = "job-success"
	TriggerJobFail    = "job-fail"
)

var (
	triggers      = []string{TriggerJobDepend, TriggerJobFinish, TriggerMetric, TriggerStart}
	agentTriggers = []string{
		TriggerJobCancel, TriggerJobCleanup, TriggerJobDepend, TriggerJobFail, TriggerJobFinish, TriggerJobRun, TriggerJobSched,
		TriggerJobSuccess, TriggerMetric, TriggerStart,
	}
	actions = []string{ActionCustom, ActionGrow, ActionShrink, ActionSubmit, ActionTerminate}
)

// File is an ensemble.yaml without faults. Encoded as YAML, with its strings in quotes, and parsed again it is the same.
type File struct {
	Logging Logging `yaml:"logging,omitempty"`
	Jobs    []Job   `yaml:"jobs"`
	Rules   []Rule  `yaml:"rules"`
	// Custom is Python text that defines the functions of custom actions, empty when there is none.
	Custom string `yaml:"custom,omitempty"`
}

// Logging is what the member prints and how often it looks at its queue.
type Logging struct {
	// Debug makes the member print every event.
	Debug bool `yaml:"debug,omitempty"`
	// Heartbeat is the time between two looks at the queue for the metrics of pending jobs; 0 is none.
	Heartbeat Seconds `yaml:"heartbeat,omitempty"`
}

// Job is a set of equal jobs. Several of one name form a group that is submitted as one.
type Job struct {
	Name string `yaml:"name"`
	// Command is split into words as a shell would, but run without one.
	Command string `yaml:"command"`
	// Workdir is the directory that the command is run in, empty for that of the member.
	Workdir string `yaml:"workdir,omitempty"`
	// Count is how many jobs are submitted at a time, at least 1, which is the default.
	Count int32 `yaml:"count"`
	// Nodes is how many nodes each job needs, at least 1, which is the default.
	Nodes int32 `yaml:"nodes"`
	// Tasks is how many tasks each job has, 0 when the file does not say. ensemble-python starts at least one
	// per node whatever it says.
	Tasks int32 `yaml:"tasks,omitempty"`
	// Duration is the time limit of each job; 0, the default, is none.
	Duration Seconds `yaml:"duration,omitempty"`
}

// Rule is an action and what triggers it.
type Rule struct {
	// Trigger is one of the Trigger constants.
	Trigger string `yaml:"trigger"`
	// Name is the metric of TriggerMetric, the job of a trigger on events of jobs if one is named, and else a
	// word for the log.
	Name string `yaml:"name,omitempty"`
	// When is the condition on a metric; nil is always.
	When   *When  `yaml:"when,omitempty"`
	Action Action `yaml:"action"`
}

// Action is what a rule does.
type Action struct {
	// Name is one of the Action constants.
	Name string `yaml:"name"`
	// Label names the group of jobs of ActionSubmit and the function of ActionCustom.
	Label string `yaml:"label,omitempty"`
	// Value is by how many pods ActionGrow and ActionShrink change the size, at least 1, which is the default;
	// 0 with other actions.
	Value int32 `yaml:"value,omitempty"`
	// Repetitions is how often the action is run in all; the default is 1, and with 0 it never is.
	Repetitions int32 `yaml:"repetitions"`
	// Backoff is how many triggers are let pass between two repetitions.
	Backoff int32 `yaml:"backoff,omitempty"`
}

// Acts reports whether a rule of the file has the action, one of the Action constants.
func (f *File) Acts(action string) bool {
	return slices.ContainsFunc(f.Rules, func(r Rule) bool { return r.Action.Name == action })
}

// Seconds is a time in seconds, whole or not.
type Seconds float64

// MarshalYAML writes the time as a number that PyYAML reads as one.
func (s Seconds) MarshalYAML() (any, error) { return numberNode(float64(s)), nil }

// numberNode is a number without an exponent: PyYAML takes 1e+06 for a string.
func numberNode(f float64) *yaml.Node {
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if f != math.Trunc(f) {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tagFloat, Value: text}
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tagInt, Value: text}
}
