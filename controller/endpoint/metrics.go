package endpoint

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
)

// Metrics are what the server counts.
type Metrics struct{ answers *prometheus.CounterVec }

// NewMetrics registers the metrics.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{answers: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ensemble_autoscaler_member_requests_total", Help: "Requests of ensemble members, by what they asked for and how they were " +
			"answered.",
	}, []string{"action", "status"})}
	for _, action := range []string{actionGrow, actionShrink, "status", "update"} {
		m.answers.WithLabelValues(action, ensemble.Response_SUCCESS.String())
	}
	if err := registerer.Register(m.answers); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

// answered counts an answer. What a caller may write as action is not taken into a label.
func (m *Metrics) answered(action string, status ensemble.Response_ResultType) {
	switch action {
	case actionGrow, actionShrink, "status", "update":
	default:
		action = "unknown"
	}
	m.answers.WithLabelValues(action, status.String()).Inc()
}

// Collector tells what members have told of their queues, as it is stored. Every replica tells the same.
type Collector struct {
	// Members is a cache of MemberQueues.
	Members client.Reader
	Clock   clock.PassiveClock
	Log     logr.Logger
}

var (
	_ prometheus.Collector = (*Collector)(nil)

	queueJobs = prometheus.NewDesc("ensemble_autoscaler_member_queue_jobs",
		"Jobs in the Flux queue of a member, as it last reported them: those that wait (pending) and those that run (running, with those that "+
			"are cleaned up after).", []string{
			"namespace", "member", "state",
		}, nil)
	queueAge = prometheus.NewDesc("ensemble_autoscaler_member_queue_age_seconds",
		"Time since a member has reported its queue.", []string{"namespace", "member"}, nil)
)

// collectWithin bounds the read of a scrape, which comes from memory.
const collectWithin = 5 * time.Second

// Describe implements prometheus.Collector.
func (*Collector) Describe(into chan<- *prometheus.Desc) { into <- queueJobs; into <- queueAge }

// Collect implements prometheus.Collector.
func (c *Collector) Collect(into chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectWithin)
	defer cancel()
	var queues v1alpha1.MemberQueueList
	if err := c.Members.List(ctx, &queues, client.UnsafeDisableDeepCopy); err != nil {
		c.Log.Error(err, "Cannot measure the queues of members")
		return
	}
	for i := range queues.Items {
		m := &queues.Items[i]
		jobs := &m.Queue.Jobs
		// Flux's own two sums of its states, as of flux jobs: seven series for each member would be many.
		for state, count := range map[string]int64{
			"pending": jobs.New + jobs.Depend + jobs.Priority + jobs.Sched, "running": jobs.Run + jobs.Cleanup,
		} {
			into <- prometheus.MustNewConstMetric(queueJobs, prometheus.GaugeValue, float64(count), m.Namespace, m.Name, state)
		}
		into <- prometheus.MustNewConstMetric(
			queueAge, prometheus.GaugeValue, max(0, c.Clock.Since(m.Queue.At.Time).Seconds()), m.Namespace, m.Name,
		)
	}
}
