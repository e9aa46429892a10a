package rules

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// rule is a rule of the file and how far it is.
type rule struct {
	ensemblefile.Rule
	// id stays the same when other rules are edited, place is where the rule stands in the file.
	id, place string
	metric    ensemblefile.Metric
	// run counts the repetitions that were begun.
	run int
	// skip is how many triggers are let pass before the next repetition.
	skip int32
	// notBefore is when a rule on waiting jobs may be run again, refusals how often in a row it was refused.
	notBefore time.Time
	refusals  int
	// open says that a request of the rule is not granted yet, and later are the repetitions that are due after it.
	open  bool
	later []later
	// measured is the last measure of waiting jobs, of the version of the group and the size that it was made with.
	measured struct {
		pending
		version int
		max     int32
	}
}

func newRules(file *ensemblefile.File) []*rule {
	out := make([]*rule, len(file.Rules))
	seen := map[string]int{}
	for i := range file.Rules {
		r := &rule{Rule: file.Rules[i], place: fmt.Sprintf("rules[%d]", i)}
		if r.Trigger == ensemblefile.TriggerMetric {
			r.metric = r.Metric()
		}
		r.id = identity(&r.Rule)
		seen[r.id]++
		if n := seen[r.id]; n > 1 {
			r.id += "-" + strconv.Itoa(n)
		}
		out[i] = r
	}
	return out
}

// identity is short, and the same for rules that do the same at the same, however often.
func identity(r *ensemblefile.Rule) string {
	said := fmt.Sprintf("%q %q %s %q %q %d", r.Trigger, r.Name, condition(r.When), r.Action.Name, r.Action.Label, r.Action.Value)
	sum := sha256.Sum256([]byte(said))
	return hex.EncodeToString(sum[:4])
}

// condition is a condition as it stands in a file.
func condition(when *ensemblefile.When) string {
	switch {
	case when == nil:
		return ""
	case when.Comparison == ensemblefile.Equal:
		return strconv.FormatFloat(when.Number, 'f', -1, 64)
	}
	return string(when.Comparison) + " " + strconv.FormatFloat(when.Number, 'f', -1, 64)
}

func (r *rule) exhausted() bool {
	return int64(r.run)+int64(len(r.later)) >= int64(r.Action.Repetitions)
}

// onWaiting says that the rule is on the time that jobs wait and becomes true by waiting.
func (r *rule) onWaiting() bool { return r.metric.Of == ofPending && !isLower(r.When) }

// onShortWaits says that the rule is on jobs that did not wait for long.
func (r *rule) onShortWaits() bool { return r.metric.Of == ofPending && isLower(r.When) }

// asks says that the action is asked of somebody.
func (r *rule) asks() bool {
	return r.resizes() || Verb(r.Action.Name) == Custom
}

func (r *rule) resizes() bool {
	verb := Verb(r.Action.Name)
	return verb == Grow || verb == Shrink
}

// because is a reason that ends with the condition of the rule.
func (r *rule) because(format string, args ...any) string {
	said := r.place + ": " + fmt.Sprintf(format, args...)
	if r.When != nil {
		said += fmt.Sprintf(" (when %s)", condition(r.When))
	}
	return said
}

// The metrics of a file's rules.
const (
	ofPending  = "pending"
	ofDuration = "duration"
	ofFinished = "finished"
	ofSuccess  = "success"
	ofFailed   = "failed"
)

var statistics = []string{"variance", "mean", "iqr", "max", "min", "mad"}
