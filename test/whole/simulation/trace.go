package simulation

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Cloud is where a trace is replayed: one pool, for ensembles alone, with a node for each pod.
type Cloud struct {
	// Nodes is the greatest number of nodes.
	Nodes int32
	// Boot is how long a machine takes from its order until its node registers, at least, and Jitter up to how much longer.
	Boot, Jitter time.Duration
	// Seed is where the draws begin.
	Seed uint64
}

// Outcome is what a strategy makes of a trace. All strategies replay the same requests in the same world, with Cluster
// Autoscaler at its defaults. Each member has one pod from the beginning on. The figures are these:
//
//	Makespan       the time from the first request until the last growth has all its pods and all its work is done
//	NodeSeconds    the sum over all machines of the time from their order, or the beginning of the trace, to their end, or
//	               the end of the trace, which is the same for all strategies: a while after the longest makespan, so that
//	               nodes that stay behind are in the bill
//	Waiting        the sum over all requests to grow of the time from the request until all its pods run
//	PendingSeconds the sum over all pods of the time from their creation until they have a node
//	Blocked        the number of requests to grow that had some of their pods running and others without a node for more
//	               than a minute: nodes that are paid for and do nothing
//	Unserved       the number of requests to grow that never got all their pods
//
// The work of a growth begins when all its pods run and takes its pod-seconds divided by its pods. A member does not shrink
// while work of its own is left to be done: such a request, and what comes after it, is made when the work is done.
type Outcome struct {
	Strategy          string
	Makespan          time.Duration
	NodeSeconds       float64
	Waiting           time.Duration
	PendingSeconds    float64
	Blocked, Unserved int
}

const (
	// longest is how long after its last request a trace is replayed at most.
	longest = 6 * time.Hour
	// tail is how long after the longest makespan the account ends: longer than Cluster Autoscaler keeps an idle node.
	tail = 15 * time.Minute
	// halfServed is how long a growth may have a part of its pods without being called blocked.
	halfServed = time.Minute
)

// strategies are those that are compared.
var strategies = []struct {
	name string
	set  func(*settings)
}{
	{"nodes first (this project)", func(*settings) {}},
	{"patch first, Cluster Autoscaler follows", func(s *settings) {
		s.patchFirst, s.autoscaler.enforceMinSize, s.ignoresMembers = true, false, false
	}},
	{"all nodes always on", func(s *settings) {
		s.patchFirst, s.ignoresMembers = true, false
		s.pools[0].minSize = s.pools[0].maxSize
	}},
}

// Replay replays a trace with each strategy. The error names the first request that no world could serve.
func Replay(requests []Request, cloud Cloud) ([]Outcome, error) {
	sizes := map[string]int32{}
	for i := range requests {
		r := &requests[i]
		size := max(sizes[r.Member], 1)
		switch {
		case r.Grows && size+r.Amount > cloud.Nodes:
			return nil, fmt.Errorf("line %d: amount is %d; %s has size %d then and there are %d nodes, so it must be at most %d", r.Line,
				r.Amount, r.Member, size, cloud.Nodes, cloud.Nodes-size)
		case r.Grows:
			sizes[r.Member] = size + r.Amount
		case size-r.Amount < 1:
			return nil, fmt.Errorf("line %d: amount is %d; %s has size %d then and keeps one pod, so it must be at most %d", r.Line, r.Amount,
				r.Member, size, size-1)
		default:
			sizes[r.Member] = size - r.Amount
		}
	}
	if len(sizes) > int(cloud.Nodes) {
		return nil, fmt.Errorf("there are %d members with a pod each from the beginning on, and %d nodes; there must be as many", len(sizes),
			cloud.Nodes)
	}
	end := time.Duration(0)
	for i := range strategies {
		end = max(end, replay(requests, cloud, i, 0).finished)
	}
	outcomes := make([]Outcome, len(strategies))
	for i := range strategies {
		outcomes[i] = replay(requests, cloud, i, end+tail).outcome(strategies[i].name)
	}
	return outcomes, nil
}

// WriteTable writes outcomes as a table.
func WriteTable(out io.Writer, outcomes []Outcome) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "strategy\tmakespan\tnode-seconds\twaiting\tpending pod-seconds\tblocked\tunserved\t") // Flush tells of errors.
	for i := range outcomes {
		o := &outcomes[i]
		makespan := o.Makespan.Round(time.Second).String()
		if o.Unserved > 0 {
			makespan = "never"
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%.0f\t%s\t%.0f\t%d\t%d\t\n", o.Strategy, makespan, o.NodeSeconds, o.Waiting.Round(time.Second),
			o.PendingSeconds, o.Blocked, o.Unserved)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}
