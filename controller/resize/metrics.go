package resize

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// Metrics are what the reconciler counts and measures.
type Metrics struct {
	passes    prometheus.Histogram
	conflicts prometheus.Counter
	resizes   *prometheus.CounterVec
	steps     *prometheus.CounterVec
	growths   *prometheus.HistogramVec
	awaited   *prometheus.GaugeVec
	idle      *integral
	pending   *integral
	members   *prometheus.GaugeVec
	pods      *prometheus.GaugeVec
	reads     *prometheus.CounterVec
	putOff    prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(registerer prometheus.Registerer, clock clock.PassiveClock) (*Metrics, error) {
	m := &Metrics{
		idle: &integral{clock: clock}, pending: &integral{clock: clock},
		passes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ensemble_autoscaler_resize_pass_duration_seconds", Help: "Duration of a pass of the resize controller.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ensemble_autoscaler_resize_conflicts_total", Help: "Passes that ended because another had written an object in between.",
		}),
		resizes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ensemble_autoscaler_resizes_total", Help: "Members that were given another size.",
		}, []string{"direction"}),
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ensemble_autoscaler_member_steps_total", Help: "Steps of ensemble members, by the reason that their events have: growths that " +
				"were reserved, fell back to another pool, or failed, and others.",
		}, []string{"reason"}),
		growths: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ensemble_autoscaler_growth_duration_seconds", Help: "Time from the request for more until a step of the growth: nodes " +
				"Reserved, FellBack to other pools, NodesReady, Resized (ResizedInPart where not all nodes were had), or the failure of all pools " +
				"(OutOfStock, ProvisionTimeout).",
			Buckets: prometheus.ExponentialBuckets(0.125, 2, 15),
		}, []string{"until"}),
		awaited: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ensemble_autoscaler_nodes_awaited", Help: "Nodes reserved in a pool that its members do not hold yet.",
		}, []string{"nodepool"}),
		members: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ensemble_autoscaler_members", Help: "Ensemble members, by the first condition that is not True (Ready for none).",
		}, []string{"reason"}),
		pods: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ensemble_autoscaler_members_size", Help: "Sums over all ensemble members: the size they want and have, the nodes reserved and " +
				"Ready for them.",
		}, []string{"of"}),
	}
	m.reads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ensemble_autoscaler_job_event_reads_total", Help: "Times that it was to be read from the API server why a Job makes no pods: " +
			"Read, Failed, or PutOff because of too many others.",
	}, []string{"outcome"})
	m.putOff = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "ensemble_autoscaler_resize_passes_put_off_total", Help: "Passes of the resize controller that were put off because a watch of " +
			"what they read was interrupted.",
	})
	for _, outcome := range []string{readDone, readPutOff, readFailed} {
		m.reads.WithLabelValues(outcome)
	}
	// What can be told is told from the start, as 0.
	m.members.WithLabelValues(v1alpha1.ConditionReady)
	for _, of := range []string{"wanted", "had", "reserved", "ready"} {
		m.pods.WithLabelValues(of)
	}
	for _, direction := range []string{grow, shrink} {
		m.resizes.WithLabelValues(direction)
	}
	for _, reason := range []string{
		v1alpha1.ReasonReserved, v1alpha1.ReasonFellBack, v1alpha1.ReasonProvisionTimeout, v1alpha1.ReasonOutOfStock,
	} {
		m.steps.WithLabelValues(reason)
	}
	for _, until := range []string{
		v1alpha1.ReasonReserved, v1alpha1.ReasonFellBack, v1alpha1.ReasonNodesReady, v1alpha1.ReasonResized, resizedInPart,
		v1alpha1.ReasonOutOfStock, v1alpha1.ReasonProvisionTimeout,
	} {
		m.growths.WithLabelValues(until)
	}
	idle := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "ensemble_autoscaler_held_idle_node_seconds_total", Help: "Time that Ready nodes were held for members and had none of their " +
			"pods, summed over the nodes, since this replica became the leader.",
	}, m.idle.value)
	pending := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "ensemble_autoscaler_pending_pod_seconds_total", Help: "Time that pods of members waited for a node, summed over " +
			"the pods, since this replica became the leader.",
	}, m.pending.value)
	for _, c := range []prometheus.Collector{
		m.passes, m.conflicts, m.resizes, m.steps, m.growths, m.members, m.pods, m.awaited, m.reads, m.putOff, idle, pending,
	} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// The directions of a resize.
const (
	grow   = "grow"
	shrink = "shrink"
)

// resizedInPart is a growth whose workload has grown, and not to the size that was asked for.
const resizedInPart = "ResizedInPart"

// resized counts a resize.
func (m *Metrics) resized(from, to int32) {
	direction := grow
	if to < from {
		direction = shrink
	}
	m.resizes.WithLabelValues(direction).Inc()
}

// observeStep tells how long a growth took until a step of it.
func (m *Metrics) observeStep(step string, member *v1alpha1.EnsembleMember, growth *v1alpha1.Growth, now time.Time) {
	since := growth.Since.Time
	if request := member.Spec.Request; request != nil && request.Size == growth.Size && request.At.Time.Before(since) && growth.Attempts == 0 {
		since = request.At.Time
	}
	m.growths.WithLabelValues(step).Observe(max(0, now.Sub(since).Seconds()))
}

// observeGrowth tells how long a growth took until the steps that a pass has recorded. member is what it was before, after its status now.
func (m *Metrics) observeGrowth(member *v1alpha1.EnsembleMember, after *v1alpha1.EnsembleMemberStatus, now time.Time) {
	growth := after.Growth
	if growth == nil {
		return
	}
	until := func(step string) { m.observeStep(step, member, growth, now) }
	before := member.Status.Growth
	if growth.GrantedAt != nil && (before == nil || !growth.GrantedAt.Equal(before.GrantedAt)) {
		if len(growth.Failures) > 0 {
			until(v1alpha1.ReasonFellBack)
		} else {
			until(v1alpha1.ReasonReserved)
		}
	}
	if after.Nodes >= after.Reserved && member.Status.Nodes < after.Reserved && growth.RetryAfter == nil {
		until(v1alpha1.ReasonNodesReady)
	}
	if growth.RetryAfter != nil && len(growth.Failures) > 0 && (before == nil || before.Attempts < growth.Attempts) {
		until(growth.Failures[len(growth.Failures)-1].Reason)
	}
}

// observeResize counts a resize, and tells how long the growth that it is of took until then. member is what it was before.
func (m *Metrics) observeResize(member *v1alpha1.EnsembleMember, from, to int32, growth *v1alpha1.Growth, now time.Time) {
	m.resized(from, to)
	switch {
	case growth == nil:
	case to >= growth.Size:
		m.observeStep(v1alpha1.ReasonResized, member, growth, now)
	case to > member.Status.Size:
		m.observeStep(resizedInPart, member, growth, now)
	}
}

func (m *Metrics) observePass(took time.Duration, memberDecisions []memberDecision) {
	m.passes.Observe(took.Seconds())
	byReason := map[string]int{}
	awaited := map[string]int32{}
	var wants, has, reserved, ready, idle, pending int32
	for i := range memberDecisions {
		v := &memberDecisions[i]
		byReason[v.firstUnmet()]++
		wants += v.e.member.Spec.Size
		if v.e.workload != nil {
			has += v.e.workload.Size()
		}
		reserved += v.sum((*plan.Decision).Reserved)
		ready += v.sum(func(d *plan.Decision) int32 { return d.Nodes })
		idle += v.sum(func(d *plan.Decision) int32 { return d.Idle })
		for j := range v.e.groups {
			pending += v.e.groups[j].ranks.pending
		}
		for j := range v.reservations {
			r := &v.reservations[j]
			awaited[r.NodePool] += max(0, r.Nodes-int32(len(r.Held))) //nolint:gosec // Bounded by the size of the member.
		}
	}
	m.idle.goOn(float64(idle))
	m.pending.goOn(float64(pending))
	m.awaited.Reset()
	for nodePool, count := range awaited {
		m.awaited.WithLabelValues(nodePool).Set(float64(count))
	}
	m.members.Reset()
	for reason, count := range byReason {
		m.members.WithLabelValues(reason).Set(float64(count))
	}
	for of, sum := range map[string]int32{"wanted": wants, "had": has, "reserved": reserved, "ready": ready} {
		m.pods.WithLabelValues(of).Set(float64(sum))
	}
}
