package main

import (
	"fmt"
	"io"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/figures"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

// report is what was measured.
type report struct {
	*options
	rows []*row
}

// row is one program with the pods of one source.
type row struct {
	program, source string
	pods, nodes     int
	load            string
	// ready is how long after the start of both it was ready.
	ready time.Duration
	// peak and rest are bytes.
	peak, rest int64
	// These are parts of a core.
	processorAtRest, processorUnderEvents float64
	// events is how many pods changed in a second.
	events float64
}

func (r *report) print(out io.Writer) error {
	t := figures.NewTable(
		"program", "nodes", "pods", "pods are", "ready s", "peak MiB", "rest MiB", "CPU at rest %", "CPU under events %", "events/s",
		"load before",
	)
	for _, x := range r.rows {
		t.Add(x.program, figures.Thousands(x.nodes), figures.Thousands(x.pods), x.source, fmt.Sprintf("%.1f", x.ready.Seconds()),
			figures.Mebibytes(x.peak), figures.Mebibytes(x.rest), percent(x.processorAtRest), percent(x.processorUnderEvents),
			fmt.Sprintf("%.0f", x.events), x.load)
	}
	_, err := fmt.Fprintf(out, `Memory and processor time of both programs in a large cluster, on %s

%s
A third of the nodes are in pools. The peak is of resident memory from the start to the end, the rest what is resident when nothing
happens. 100 %% is one core; each is counted for %s. Targets: at most %d MiB, %g %% at rest and %g %% under %d events a second.

`, harness.Machine(), t, r.window, maxBytes>>20, 100*maxRest, 100*maxEvents, r.events)
	return err
}

func percent(part float64) string { return fmt.Sprintf("%.2f", 100*part) }

// missed are the targets that were missed.
func (r *report) missed() []string {
	var missed []string
	for _, x := range r.rows {
		of := fmt.Sprintf("%s with %s pods %s", x.program, figures.Thousands(x.pods), x.source)
		if x.peak > maxBytes {
			missed = append(
				missed, fmt.Sprintf("%s: %s MiB at its peak, and the target is %d at most", of, figures.Mebibytes(x.peak), maxBytes>>20),
			)
		}
		if x.rest > maxBytes {
			missed = append(missed, fmt.Sprintf("%s: %s MiB at rest, and the target is %d at most", of, figures.Mebibytes(x.rest), maxBytes>>20))
		}
		if x.processorAtRest > maxRest {
			missed = append(
				missed, fmt.Sprintf("%s: %s %% of a core at rest, and the target is %g at most", of, percent(x.processorAtRest), 100*maxRest),
			)
		}
		if x.processorUnderEvents > maxEvents {
			missed = append(
				missed,
				fmt.Sprintf("%s: %s %% of a core under events, and the target is %g at most", of, percent(x.processorUnderEvents), 100*maxEvents),
			)
		}
	}
	return missed
}
