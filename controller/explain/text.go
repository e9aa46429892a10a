package explain

import (
	"fmt"
	"strings"
)

// words are the topics as people read them.
var words = map[Topic]string{
	DesiredSize: "desired size", Claim: "claim", Queue: "who is before it", Floor: "floor", ClusterAutoscaler: "Cluster Autoscaler",
	Machines: "machines", Nodes: "nodes", Gates: "gates", Pods: "pods",
}

// wordsOf are other words for the topics of pools and nodes.
var wordsOf = map[string]map[Topic]string{
	KindPool: {DesiredSize: "size", Queue: "claims"},
	KindNode: {Claim: "holder", Machines: "machine", Nodes: "node"},
	KindPod:  {Pods: "pod"},
}

// word is what a topic is called in an explanation of an object of a kind.
func word(kind string, topic Topic) string {
	if text, has := wordsOf[kind][topic]; has {
		return text
	}
	return words[topic]
}

// Text is the explanation for people. paint colours what is in a state, and may leave it as it is; nil for no colours. Details of steps of
// which nothing is outstanding are in it where it is to be wide.
func (e *Explanation) Text(wide bool, paint func(State, string) string) string {
	if paint == nil {
		paint = func(_ State, text string) string { return text }
	}
	name := e.Name
	if e.Namespace != "" {
		name = e.Namespace + "/" + name
	}
	var text strings.Builder
	if cause := e.Cause(); cause != nil {
		reason := cause.Reason
		if reason == "" {
			reason = string(cause.State)
		}
		fmt.Fprintf(&text, "%s %s waits for %s: %s\n\n", e.Kind, name, word(e.Kind, cause.Topic), paint(cause.State, reason))
	} else {
		fmt.Fprintf(&text, "%s %s: %s\n\n", e.Kind, name, e.Summary)
	}
	for i := range e.Steps {
		s := &e.Steps[i]
		mark := " "
		if s.Topic == e.WaitsFor {
			mark = ">"
		}
		fmt.Fprintf(&text, "%s %-18s  %s  %s\n", mark, word(e.Kind, s.Topic), paint(s.State, fmt.Sprintf("%-7s", s.State)), s.Message)
		if s.State == Done && !wide && !e.missing(s) {
			continue
		}
		for _, detail := range s.Details {
			fmt.Fprintf(&text, "%31s- %s\n", "", detail)
		}
	}
	if len(e.Missing) > 0 {
		text.WriteString("\n")
	}
	for _, missing := range e.Missing {
		fmt.Fprintf(&text, "Not known: %s\n", missing)
	}
	fmt.Fprintf(&text, "\nDo: %s\n", e.Do)
	return text.String()
}

// missing reports whether a detail of a step says which right is missing.
func (e *Explanation) missing(s *Step) bool {
	details := strings.Join(s.Details, "")
	for _, text := range e.Missing {
		if strings.Contains(details, text) {
			return true
		}
	}
	return false
}
