package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/figures"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

// The targets.
const (
	// maxP99 is what 99 of 100 calls that read may take, at full size.
	maxP99 = time.Millisecond
	// maxRatio is how much longer a loop may take with the provider than with a server that computes nothing.
	maxRatio = 1.3
)

// report is what was measured.
type report struct {
	sizes   []size // the rows of the table of sizes, in order
	results []*callsResult
	calls   *callsResult // that of full size
	writes  []timing
	loop    *loopResult
	// expander is that of full size.
	expander *expanderResult
}

// callsResult is what calls cost at one size.
type callsResult struct {
	size        size
	load        string
	rest, after harness.Memory
	timings     []timing
}

// loopResult is what loops cost.
type loopResult struct {
	size  size
	load  string
	loops loops
}

func (r *loopResult) ratio() float64 {
	return figures.Median(r.loops.Provider).Seconds() / figures.Median(r.loops.Constant).Seconds()
}

// header says what holds for all figures.
func (*report) header(out io.Writer) error {
	_, err := fmt.Fprintf(out, `%s
Client, provider, kube-apiserver and etcd share that machine. The client is a process of its own and has one
connection with mutual TLS over loopback; its own work is in every figure, without its collection of garbage.
There are no pods.

`, harness.Machine())
	return err
}

// print prints the tables that a job completes.
func (r *report) print(out io.Writer, j *job) error {
	if j.wants(tableCalls) {
		r.calls = r.results[len(r.results)-1]
		if err := r.printCalls(out); err != nil {
			return err
		}
	}
	if j.wants(tableExpander) {
		if err := r.expander.print(out); err != nil {
			return err
		}
	}
	if j.wants(tableLoop) {
		return r.printLoop(out)
	}
	return nil
}

func (r *report) printCalls(out io.Writer) error {
	t := figures.NewTable("call", "answer bytes", "calls", "p50 ms", "p99 ms", "serial/s", fmt.Sprintf("%d callers/s", callers))
	for _, timings := range [][]timing{r.calls.timings, r.writes} {
		for i := range timings {
			x := &timings[i]
			t.Add(
				x.Name, figures.Thousands(x.Bytes), figures.Thousands(x.Calls), figures.Milliseconds(x.P50), figures.Milliseconds(x.P99),
				figures.Rate(x.PerSecond), figures.Rate(x.Concurrent),
			)
		}
	}
	_, err := fmt.Fprintf(out, `Calls at %s (load average before: %s)

%s
NodeGroupGetOptions is answered with Unimplemented, as it is meant to be. NodeGroupIncreaseSize is a write: it
returns when the API server has stored the target, here in an etcd that does not sync to disk, and each call
concerns another group; meanwhile the provider orders the machines.
%s

`, r.calls.size, r.calls.load, t, r.judgeCalls())
	return err
}

func (r *report) judgeCalls() string {
	if slow := r.slow(); len(slow) > 0 {
		return fmt.Sprintf("Target of p99 of reads, at most %s ms: missed by %s.", figures.Milliseconds(maxP99), strings.Join(slow, ", "))
	}
	return fmt.Sprintf("Target of p99 of reads, at most %s ms: met by all.", figures.Milliseconds(maxP99))
}

// slow are the reads that miss their target.
func (r *report) slow() []string {
	var slow []string
	for i := range r.calls.timings {
		if x := &r.calls.timings[i]; x.P99 > maxP99 {
			slow = append(slow, fmt.Sprintf("%s (%s ms)", x.Name, figures.Milliseconds(x.P99)))
		}
	}
	return slow
}

func (r *report) printLoop(out io.Writer) error {
	x := &r.loop.loops
	t := figures.NewTable("server", "loops", "median ms", "p10 ms", "p90 ms", "median µs per call")
	for _, server := range []struct {
		name  string
		times []time.Duration
	}{{"provider", x.Provider}, {"constants", x.Constant}} {
		t.Add(server.name, figures.Thousands(len(server.times)), figures.Milliseconds(figures.Median(server.times)),
			figures.Milliseconds(figures.Percentile(server.times, 10)), figures.Milliseconds(figures.Percentile(server.times, 90)),
			fmt.Sprintf("%.1f", figures.Median(server.times).Seconds()*1e6/float64(x.Calls)))
	}
	judged := "met"
	if r.loop.ratio() > maxRatio {
		judged = "missed"
	}
	_, err := fmt.Fprintf(out, `One loop of Cluster Autoscaler at %s: %s serial calls (load average before: %s)

%s
The other server answers the same bytes over the same transport and computes nothing; the two took turns.
Ratio of the medians: %.2f. Target, at most %g: %s.

`, r.loop.size, figures.Thousands(x.Calls), r.loop.load, t, r.loop.ratio(), maxRatio, judged)
	return err
}

func (r *report) printSizes(out io.Writer) error {
	head := []string{"groups", "nodes"}
	var t *figures.Table
	for _, s := range r.sizes {
		result := r.at(s)
		if result == nil {
			continue
		}
		row := []string{figures.Thousands(s.Groups), figures.Thousands(s.Nodes)}
		for _, column := range []struct{ title, call string }{
			{
				"ForNode", "NodeGroupForNode, own node",
			}, {"TargetSize", "NodeGroupTargetSize"}, {"Nodes", "NodeGroupNodes"}, {"NodeGroups", "NodeGroups"},
		} {
			if t == nil {
				head = append(head, column.title+" p50", "p99")
			}
			for i := range result.timings {
				if x := &result.timings[i]; x.Name == column.call {
					row = append(row, figures.Milliseconds(x.P50), figures.Milliseconds(x.P99))
				}
			}
		}
		if t == nil {
			t = figures.NewTable(append(head, "MiB at rest", "after calls", "peak", "load")...)
		}
		t.Add(append(
			row, figures.Mebibytes(result.rest.Resident), figures.Mebibytes(result.after.Resident), figures.Mebibytes(result.after.Peak),
			result.load,
		)...)
	}
	_, err := fmt.Fprintf(out, `Calls by size of the cluster, in ms, and resident memory of the provider

%s
At rest means shortly after the start, of which garbage is left. Peak is the most that was ever resident.

`, t)
	return err
}

func (r *report) at(s size) *callsResult {
	for _, result := range r.results {
		if result.size == s {
			return result
		}
	}
	return nil
}

// missed are the targets that were missed, of those that were measured.
func (r *report) missed() []string {
	var missed []string
	if r.calls != nil {
		for _, x := range r.slow() {
			missed = append(missed, "p99 of "+x)
		}
	}
	if r.loop != nil && r.loop.ratio() > maxRatio {
		missed = append(missed, fmt.Sprintf("the ratio of the loops is %.2f", r.loop.ratio()))
	}
	return missed
}
