package ensemblefile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
)

// The metrics that ensemble-python keeps of a group of jobs (members/metrics.py, members/flux/queue.py): how many
// have ended, and statistics of the seconds that they waited and ran. A name is taken apart at its points;
// one that leads nowhere never triggers, and one that leads too far or not far enough ends the program.
var (
	counts     = []string{"finished", "success", "failed"}
	statistics = []string{"variance", "mean", "iqr", "max", "min", "mad"}
	times      = []string{"pending", "duration"}
)

var metricForms = fmt.Sprintf(`must be "count.<job>.<%s>" or "<%s>.<job>-<%s>"`,
	strings.Join(counts, "|"), strings.Join(statistics, "|"), strings.Join(times, "|"))

// Metric is the metric that a rule is on.
type Metric struct {
	// Statistic is "count" or one of the statistics: "variance", "mean", "iqr", "max", "min", "mad".
	Statistic string
	// Job is the name of a group of jobs.
	Job string
	// Of is "finished", "success" or "failed" with "count", and else "pending" or "duration".
	Of string
}

// Metric is the metric of a rule with TriggerMetric.
func (r *Rule) Metric() Metric {
	metric, _ := parseMetric(r.Name)
	return metric
}

func parseMetric(name string) (metric Metric, ok bool) {
	kind, rest, _ := strings.Cut(name, ".")
	separator, of := "-", times
	if kind == "count" {
		separator, of = ".", counts
	} else if !slices.Contains(statistics, kind) {
		return Metric{}, false
	}
	at := strings.LastIndex(rest, separator)
	if at < 1 || !slices.Contains(of, rest[at+1:]) {
		return Metric{}, false
	}
	return Metric{Statistic: kind, Job: rest[:at], Of: rest[at+1:]}, true
}

// checkMetric says what is wrong with the name of a metric, or nothing.
func checkMetric(runner Runner, name string, jobs *jobNames) (problem string) {
	metric, ok := parseMetric(name)
	if !ok {
		return metricForms
	}
	job := metric.Job
	if !jobs.known(job) {
		return fmt.Sprintf("must name a job of this file, and %q is none%s", shorten(job), jobs.list())
	}
	if runner == EnsemblePython && strings.Contains(job, ".") {
		return fmt.Sprintf("must name a job without a point, and %q has one: ensemble-python finds no metric of such a job", shorten(job))
	}
	return ""
}

// jobNames are the names of a file's jobs.
type jobNames struct {
	names sets.Set[string]
	// all is set when every name could be read; else a name that is not there may be one of those that could not.
	all bool
}

func (j *jobNames) known(name string) bool { return !j.all || j.names.Has(name) }

// list is the end of a sentence that has the jobs' names, if they are few.
func (j *jobNames) list() string {
	const most = 20
	switch n := j.names.Len(); {
	case n == 0:
		return "; it has no jobs"
	case n > most:
		return fmt.Sprintf("; it has %d jobs of other names", n)
	}
	quoted := make([]string, 0, j.names.Len())
	for _, name := range sets.List(j.names) {
		quoted = append(quoted, strconv.Quote(shorten(name)))
	}
	return "; its jobs are " + strings.Join(quoted, ", ")
}
