package resize

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// Metrics are what the reconciler counts and measures.
type Metrics struct {
	passes    prometheus.Histogram
	conflicts prometheus.Counter
	resizes   *prometheus.CounterVec
	steps     *prometheus.CounterVec
	growths   prometheus.Histogram
	members   *prometheus.GaugeVec
	pods      *prometheus.GaugeVec
}

// NewMetrics registers the metrics.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		passes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ensemble_autoscaler_resize_pass_duration_seconds", Help: "Duration of a pass of the resize controller.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ensemble_autoscaler_resize_conflicts_total", Help: "Passes that ended because somebody else had written an object in between.",
		}),
		resizes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ensemble_autoscaler_resizes_total", Help: "MiniClusters that were given another size.",
		}, []string{"direction"}),
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ensemble_autoscaler_member_steps_total", Help: "Steps of ensemble members, by the reason that their events have: growths that were reserved, fell back to another pool, or failed, and others.",
		}, []string{"reason"}),
		growths: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ensemble_autoscaler_growth_duration_seconds", Help: "Time from when the controller saw the wish for more until the MiniCluster was given a larger size.",
			Buckets: prometheus.ExponentialBuckets(0.125, 2, 15),
		}),
		members: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ensemble_autoscaler_members", Help: "Ensemble members, by the first condition that is not True (Ready for none).",
		}, []string{"reason"}),
		pods: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ensemble_autoscaler_members_size", Help: "Sums over all ensemble members: the size they want and have, the nodes reserved and Ready for them.",
		}, []string{"of"}),
	}
	// What can be told is told from the start, as 0.
	m.members.WithLabelValues(v1alpha1.ConditionReady)
	for _, of := range []string{"wanted", "had", "reserved", "ready"} {
		m.pods.WithLabelValues(of)
	}
	for _, direction := range []string{grow, shrink} {
		m.resizes.WithLabelValues(direction)
	}
	for _, reason := range []string{v1alpha1.ReasonReserved, v1alpha1.ReasonFellBack, v1alpha1.ReasonProvisionTimeout, v1alpha1.ReasonOutOfStock} {
		m.steps.WithLabelValues(reason)
	}
	for _, c := range []prometheus.Collector{m.passes, m.conflicts, m.resizes, m.steps, m.growths, m.members, m.pods} {
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

// resized counts a resize. growth is the one that it belongs to, nil for none.
func (m *Metrics) resized(from, to int32, growth *v1alpha1.Growth, now time.Time) {
	direction := grow
	if to < from {
		direction = shrink
	} else if growth != nil {
		m.growths.Observe(now.Sub(growth.Since.Time).Seconds())
	}
	m.resizes.WithLabelValues(direction).Inc()
}

func (m *Metrics) observePass(took time.Duration, seen *seen, decisions *plan.Decisions) {
	m.passes.Observe(took.Seconds())
	byReason := map[string]int{}
	var wants, has, reserved, ready int32
	for i := range decisions.Members {
		d := &decisions.Members[i]
		byReason[d.FirstUnmet()]++
		e := seen.entries[d.Key]
		wants += e.wants
		if e.cluster != nil {
			has += e.cluster.Size
		}
		reserved += d.Reserved()
		ready += d.Nodes
	}
	m.members.Reset()
	for reason, count := range byReason {
		m.members.WithLabelValues(reason).Set(float64(count))
	}
	for of, sum := range map[string]int32{"wanted": wants, "had": has, "reserved": reserved, "ready": ready} {
		m.pods.WithLabelValues(of).Set(float64(sum))
	}
}
