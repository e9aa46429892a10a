package pool

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/record"
)

// prefix of the names of the metrics of a pool, and the label that says which one.
const (
	prefix    = "ensemble_autoscaler_nodepool_"
	labelPool = "nodepool"
)

// Machines are what a Collector counts.
type Machines interface {
	// List is what is known of the machines of a pool.
	List(ctx context.Context, pool string, freshness record.Freshness) ([]nodegroup.Machine, error)
}

// Collector tells Prometheus how the NodePools are, from the cache, when it asks. Every replica tells the same.
type Collector struct {
	Pools    client.Reader
	Machines Machines
	Log      logr.Logger
	// Alarm is how long a machine may take to go, by Clock, before it counts as hanging.
	Alarm time.Duration
	Clock clock.PassiveClock
}

var _ prometheus.Collector = (*Collector)(nil)

// collectTimeout bounds a read of the cache.
const collectTimeout = 5 * time.Second

// gauge is one number of a pool.
type gauge struct {
	description *prometheus.Desc
	value       func(*v1alpha1.NodePool) float64
}

func gauges() []gauge {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+name, help, []string{labelPool}, nil)
	}
	return []gauge{
		{
			describe("target_nodes", "Target size of the NodePool, spec.replicas."),
			func(p *v1alpha1.NodePool) float64 { return float64(p.Spec.Replicas) },
		},
		{
			describe("min_nodes", "Minimum size of the NodePool, spec.minSize."),
			func(p *v1alpha1.NodePool) float64 { return float64(p.Spec.MinSize) },
		},
		{
			describe("max_nodes", "Maximum size of the NodePool, spec.maxSize."),
			func(p *v1alpha1.NodePool) float64 { return float64(p.Spec.MaxSize) },
		},
		{
			describe("floor_nodes", "Nodes that reservations call for at the moment."),
			func(p *v1alpha1.NodePool) float64 { return float64(p.Status.Floor) },
		},
		{
			describe("reserved_nodes", "Nodes that ensemble members have reserved."),
			func(p *v1alpha1.NodePool) float64 { return float64(p.Status.Reserved) },
		},
		{describe("ready_nodes", "Nodes that are Ready."), func(p *v1alpha1.NodePool) float64 { return float64(p.Status.Ready) }},
	}
}

// machinesByState is the gauge of machines.
var machinesByState = prometheus.NewDesc(prefix+"machines",
	"Machines by state: ordered (the target calls for it, and it does not exist yet), booting, running (its node has registered), failed, "+
		"deleting.",
	[]string{labelPool, "state"}, nil)

// machinesHanging is the gauge of machines that do not go.
var machinesHanging = prometheus.NewDesc(prefix+"machines_hanging",
	"Machines that were told to go longer ago than --end-machine-alarm-after and are still there, and paid for.", []string{labelPool}, nil)

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, g := range gauges() {
		out <- g.description
	}
	out <- machinesByState
	out <- machinesHanging
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	var pools v1alpha1.NodePoolList
	if err := c.Pools.List(ctx, &pools, client.UnsafeDisableDeepCopy); err != nil {
		c.Log.Error(err, "Cannot list the NodePools for the metrics")
		return
	}
	for _, g := range gauges() {
		for i := range pools.Items {
			//nolint:promlinter // It cannot follow a description that is kept in a table; a test lints what comes out.
			out <- prometheus.MustNewConstMetric(g.description, prometheus.GaugeValue, g.value(&pools.Items[i]), pools.Items[i].Name)
		}
	}
	for i := range pools.Items {
		counts, hanging, err := c.count(ctx, &pools.Items[i])
		if err != nil {
			c.Log.Error(err, "Cannot list machines for the metrics", "nodePool", pools.Items[i].Name)
			continue
		}
		out <- prometheus.MustNewConstMetric(machinesHanging, prometheus.GaugeValue, float64(hanging), pools.Items[i].Name)
		for state, count := range counts {
			out <- prometheus.MustNewConstMetric(machinesByState, prometheus.GaugeValue, float64(count), pools.Items[i].Name, state)
		}
	}
}

// count counts the machines of a pool by state. Every state is there, so that a sum over time has no gaps.
func (c *Collector) count(ctx context.Context, p *v1alpha1.NodePool) (counts map[string]int, hanging int, err error) {
	all, err := c.Machines.List(ctx, p.Name, record.Cached)
	if err != nil {
		return nil, 0, err
	}
	going, failed := setOf(p.Spec.MachinesToDelete), setOf(p.Status.FailedMachines)
	counts = map[string]int{"booting": 0, "running": 0, "failed": 0, "deleting": 0}
	live := 0
	for i := range all {
		m := &all[i]
		state := "booting"
		switch {
		case going[m.Name] || !m.Going.IsZero():
			state = "deleting"
		case m.Failure != nil || failed[m.Name]:
			state = "failed"
		case m.Registered:
			state = "running"
		}
		if state != "deleting" {
			live++
		}
		counts[state]++
		if !m.Going.IsZero() && c.Clock.Since(m.Going) > c.Alarm {
			hanging++
		}
	}
	counts["ordered"] = max(0, int(p.Spec.Replicas)-live)
	return counts, hanging, nil
}

// Decider is who has decided that machines go.
type Decider string

const (
	// ByMember is an ensemble member that gave the nodes back.
	ByMember Decider = "member"
	// ByClusterAutoscaler is Cluster Autoscaler.
	ByClusterAutoscaler Decider = "cluster_autoscaler"
	// ByDeletion is whoever has deleted the NodePool.
	ByDeletion Decider = "nodepool_deletion"
)

// Metrics count and measure what happens to machines. Nil counts nothing. Each replica has its own, and nothing is
// counted by two of them: what they say has to be summed.
type Metrics struct {
	timeToReady prometheus.Histogram
	released    *prometheus.CounterVec
	failures    *prometheus.CounterVec

	mu sync.Mutex
	// since is when the first pass was: from then on this replica leads.
	since time.Time
	// watched has, by pool and machine, whether the machine has been Ready; it has the machines only whose way to
	// there was watched from its begin.
	watched map[string]map[string]bool
}

// NewMetrics registers the metrics.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		timeToReady: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "machine_time_to_ready_seconds",
			Help: "Time from the order of a machine until its node was Ready, of all NodePools. A machine that was Ready before this process led " +
				"is not in it.",
			// Without the name of the pool, by which it would be 16 series for each: what became of one machine is in its PoolMachine.
			// From a second, which simulated machines take, to more than an hour.
			Buckets: prometheus.ExponentialBuckets(1, 2, 13),
		}),
		released: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "machines_released_total",
			Help: "Machines told to go, by who decided it: member (gave its nodes back), cluster_autoscaler, nodepool_deletion.",
		}, []string{labelPool, "decided_by"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "machine_failures_total", Help: "Machines that failed, by the code of the failure.",
		}, []string{labelPool, "code"}),
		watched: map[string]map[string]bool{},
	}
	var failures []error
	for _, c := range []prometheus.Collector{m.timeToReady, m.released, m.failures} {
		failures = append(failures, registerer.Register(c))
	}
	return m, errors.Join(failures...)
}

// Released counts machines that were told to go.
func (m *Metrics) Released(pool string, by Decider, count int) {
	if m != nil {
		m.released.WithLabelValues(pool, string(by)).Add(float64(count))
	}
}

// Failed counts a machine that failed. code is that of the failure.
func (m *Metrics) Failed(pool, code string) {
	if m != nil {
		m.failures.WithLabelValues(pool, code).Inc()
	}
}

// failed counts the machines that a pass has found failed.
func (m *Metrics) failed(group *nodegroup.Group, d *nodegroup.Decisions) {
	// The one failure that no machine has of itself is that of being late.
	codes := map[string]string{}
	for _, name := range d.NewlyFailed {
		codes[name] = nodegroup.CodeProvisionTimeout
	}
	for i := range group.Machines {
		if machine := &group.Machines[i]; codes[machine.Name] != "" && machine.Failure != nil {
			codes[machine.Name] = machine.Failure.Code
		}
	}
	for _, code := range codes {
		m.Failed(group.Name, code)
	}
}

// Observe looks at the machines of a pool for those that have become Ready, and measures each of them once. A process
// that leads from some time on measures those that were ordered after that time and those that it has seen without a
// node: of the others it cannot know whether the one that led before has measured them.
func (m *Metrics) Observe(group *nodegroup.Group, now time.Time) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.since.IsZero() {
		m.since = now
	}
	known := m.watched[group.Name]
	next := make(map[string]bool, len(group.Machines))
	for i := range group.Machines {
		machine := &group.Machines[i]
		wasReady, watched := known[machine.Name]
		if !watched && !machine.OrderedAt.After(m.since) && (machine.Registered || machine.Node != nil) {
			continue
		}
		ready := machine.Node != nil && machine.Node.Ready
		if ready && !wasReady {
			m.timeToReady.Observe(now.Sub(machine.OrderedAt).Seconds())
		}
		next[machine.Name] = ready || wasReady
	}
	m.watched[group.Name] = next
}

// forget drops a pool that is gone.
func (m *Metrics) forget(pool string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	delete(m.watched, pool)
	m.mu.Unlock()
	ofPool := prometheus.Labels{labelPool: pool}
	m.released.DeletePartialMatch(ofPool)
	m.failures.DeletePartialMatch(ofPool)
}
