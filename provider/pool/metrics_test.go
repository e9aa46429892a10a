package pool

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

func newTestMetrics(t *testing.T) *Metrics {
	t.Helper()
	m, err := NewMetrics(prometheus.NewPedanticRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestTimeToReady: a machine is measured once, also when its node comes and goes, and only by the process that leads
// from before it had a node.
func TestTimeToReady(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	after := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	machine := func(name string, ordered int, node *nodegroup.Node) nodegroup.Machine {
		return nodegroup.Machine{Name: name, OrderedAt: after(ordered), Registered: node != nil, Node: node}
	}
	up, down := &nodegroup.Node{Ready: true}, &nodegroup.Node{}
	m := newTestMetrics(t)
	look := func(at int, machines ...nodegroup.Machine) {
		m.Observe(&nodegroup.Group{Name: "p", Machines: machines}, after(at))
	}

	// The process begins to lead at 10 and finds one that is Ready, one whose node is not, and one that boots.
	look(10, machine("ready", 0, up), machine("unready", 0, down), machine("booting", 4, nil))
	look(11, machine("ready", 0, up), machine("unready", 0, up), machine("booting", 4, down))
	look(12, machine("ready", 0, down), machine("unready", 0, up), machine("booting", 4, up))
	look(13, machine("ready", 0, up), machine("unready", 0, up), machine("booting", 4, down), machine("new", 11, nil))
	// The one that was ordered meanwhile is Ready before anybody has looked twice.
	look(14, machine("ready", 0, up), machine("booting", 4, up), machine("new", 11, up), machine("quick", 13, up))
	look(15, machine("booting", 4, up), machine("new", 11, up), machine("quick", 13, up))

	const want = `
# HELP ensemble_autoscaler_nodepool_machine_time_to_ready_seconds Time from the order of a machine until its node was Ready, of all NodePools. A machine that was Ready before this process led is not in it.
# TYPE ensemble_autoscaler_nodepool_machine_time_to_ready_seconds histogram
ensemble_autoscaler_nodepool_machine_time_to_ready_seconds_bucket{le="1"} 1
ensemble_autoscaler_nodepool_machine_time_to_ready_seconds_bucket{le="2"} 1
ensemble_autoscaler_nodepool_machine_time_to_ready_seconds_bucket{le="4"} 2
ensemble_autoscaler_nodepool_machine_time_to_ready_seconds_bucket{le="8"} 3
ensemble_autoscaler_nodepool_machine_time_to_ready_seconds_bucket{le="16"} 3
ensemble_autoscaler_nodepool_machine_time_to_ready_seconds_bucket{le="32"} 3
ensemble_autoscaler_nodepool_machine_time_to_ready_seconds_bucket{le="64"} 3
ensemble_autoscaler_nodepool_machine_time_to_ready_seconds_bucket{le="128"} 3
ensemble_autoscaler_nodepool_machine_time_to_ready_seconds_bucket{le="256"} 3
ensemble_autoscaler_nodepool_machine_time_to_ready_seconds_bucket{le="512"} 3
ensemble_autoscaler_nodepool_machine_time_to_ready_seconds_bucket{le="1024"} 3
ensemble_autoscaler_nodepool_machine_time_to_ready_seconds_bucket{le="2048"} 3
ensemble_autoscaler_nodepool_machine_time_to_ready_seconds_bucket{le="4096"} 3
ensemble_autoscaler_nodepool_machine_time_to_ready_seconds_bucket{le="+Inf"} 3
ensemble_autoscaler_nodepool_machine_time_to_ready_seconds_sum 12
ensemble_autoscaler_nodepool_machine_time_to_ready_seconds_count 3
`
	if err := testutil.CollectAndCompare(m.timeToReady, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	m.forget("p")
	if len(m.watched) != 0 {
		t.Errorf("%v are remembered of a pool that is gone", m.watched)
	}
}

// TestFailures: what has failed is counted by its code; a machine that is late has none of its own.
func TestFailures(t *testing.T) {
	t.Parallel()
	m := newTestMetrics(t)
	m.failed(&nodegroup.Group{Name: "p", Machines: []nodegroup.Machine{
		{Name: "known", Failure: &nodegroup.Failure{Code: "BootFailure"}},
		{Name: "new", Failure: &nodegroup.Failure{Code: "OutOfStock"}},
		{Name: "late"},
	}}, &nodegroup.Decisions{StatusWrite: nodegroup.StatusWrite{NewlyFailed: []string{"late", "new"}}})
	const want = `
# HELP ensemble_autoscaler_nodepool_machine_failures_total Machines that failed, by the code of the failure.
# TYPE ensemble_autoscaler_nodepool_machine_failures_total counter
ensemble_autoscaler_nodepool_machine_failures_total{code="OutOfStock",nodepool="p"} 1
ensemble_autoscaler_nodepool_machine_failures_total{code="ProvisionTimeout",nodepool="p"} 1
`
	if err := testutil.CollectAndCompare(m.failures, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

// TestNoMetrics: without metrics nothing is counted, and nothing breaks.
func TestNoMetrics(t *testing.T) {
	t.Parallel()
	var none *Metrics
	none.Observe(&nodegroup.Group{Machines: []nodegroup.Machine{{Name: "a"}}}, time.Time{})
	none.failed(&nodegroup.Group{}, &nodegroup.Decisions{StatusWrite: nodegroup.StatusWrite{NewlyFailed: []string{"a"}}})
	none.Released("p", ByMember, 1)
	none.forget("p")
}
