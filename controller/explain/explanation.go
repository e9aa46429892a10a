package explain

import (
	"slices"
	"strings"
)

// Topic is what a step is about.
type Topic string

// The topics, in the order in which a growth takes them.
const (
	DesiredSize       Topic = "DesiredSize"
	Claim             Topic = "Claim"
	Queue             Topic = "Queue"
	Floor             Topic = "Floor"
	ClusterAutoscaler Topic = "ClusterAutoscaler"
	Machines          Topic = "Machines"
	Nodes             Topic = "Nodes"
	Gates             Topic = "Gates"
	Pods              Topic = "Pods"
)

// State is how far a step is.
type State string

const (
	// Done is a step of which nothing is outstanding.
	Done State = "Done"
	// Waiting is a step that goes on by itself.
	Waiting State = "Waiting"
	// Blocked is a step that goes on when a person does something.
	Blocked State = "Blocked"
	// Later is a step that comes after one which is not done.
	Later State = "Later"
	// Unknown is a step that the user has no right to know about.
	Unknown State = "Unknown"
)

// Step is one step on the way.
type Step struct {
	// Topic is what it is about.
	Topic Topic `json:"topic"`
	// State is how far it is.
	State State `json:"state"`
	// Reason is a CamelCase word, where possible one of the API; empty when all is well.
	Reason string `json:"reason,omitempty"`
	// Message is a sentence for people.
	Message string `json:"message"`
	// Details are more sentences, the most telling one first.
	Details []string `json:"details,omitempty"`
}

// Explanation says why an object waits.
type Explanation struct {
	// Kind is Member, Pool, Pod or Node.
	Kind string `json:"kind"`
	// Namespace and Name are those of the object.
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// WaitsFor is the topic of the step that it waits for, empty when it waits for nothing.
	WaitsFor Topic `json:"waitsFor,omitempty"`
	// Reason is that of this step.
	Reason string `json:"reason,omitempty"`
	// Summary is the whole in a sentence.
	Summary string `json:"summary"`
	// Steps are all steps in order.
	Steps []Step `json:"steps"`
	// Do is the one thing to do.
	Do string `json:"do"`
	// Missing are the rights that the user lacks, as sentences.
	Missing []string `json:"missing,omitempty"`
}

// Cause is the step that it waits for, nil when it waits for nothing.
func (e *Explanation) Cause() *Step {
	for i := range e.Steps {
		if e.WaitsFor != "" && e.Steps[i].Topic == e.WaitsFor {
			return &e.Steps[i]
		}
	}
	return nil
}

// step is the step about a topic, nil when there is none.
func (e *Explanation) step(topic Topic) *Step {
	for i := range e.Steps {
		if e.Steps[i].Topic == topic {
			return &e.Steps[i]
		}
	}
	return nil
}

// conclude finds the step that it waits for, and what to do. A floor that waits to be met is for Cluster Autoscaler to meet: what keeps
// that from it is the cause then. A floor that is blocked, by a pause or for want of the pool, is the cause itself.
func (e *Explanation) conclude(f *Facts, whenDone string) *Explanation {
	for _, topic := range []Topic{DesiredSize, Claim, Queue, Floor, ClusterAutoscaler, Machines, Nodes, Gates, Pods} {
		step := e.step(topic)
		if step == nil {
			continue
		}
		for _, text := range f.Missing[topic] {
			if strings.Contains(step.Message+strings.Join(step.Details, ""), text) {
				e.Missing = appendNew(e.Missing, text)
			}
		}
	}
	cause := e.firstOpen()
	if cause == nil {
		e.Summary, e.Do = whenDone, "Nothing."
		if len(e.Missing) > 0 {
			e.Do = "Nothing that can be seen with your rights."
		}
		return e
	}
	if cause.Topic == Floor && cause.State == Waiting && cause.Reason != "" {
		if next := e.step(ClusterAutoscaler); next != nil && next.open() {
			cause = next
		}
	}
	e.WaitsFor, e.Reason = cause.Topic, cause.Reason
	e.Summary = cause.Message
	e.Do = remedy(f, cause)
	return e
}

func (e *Explanation) firstOpen() *Step {
	for i := range e.Steps {
		if s := &e.Steps[i]; s.open() {
			return s
		}
	}
	return nil
}

func appendNew(list []string, text string) []string {
	if slices.Contains(list, text) {
		return list
	}
	return append(list, text)
}
