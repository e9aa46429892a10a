package admission

import (
	"context"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/log"
	webhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Metrics are what the webhooks count.
type Metrics struct{ reviews *prometheus.CounterVec }

// NewMetrics registers the metrics.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{reviews: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ensemble_autoscaler_admission_reviews_total",
		Help: "Objects that the API server had a webhook look at, by webhook and answer: allowed, warned (allowed with a warning), refused, " +
			"failed (for want of an answer).",
	}, []string{"webhook", "answer"})}
	if err := registerer.Register(m.reviews); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

// The answers that are counted.
const (
	allowed = "allowed"
	warned  = "warned"
	refused = "refused"
	failed  = "failed"
)

// Record counts the answers of a webhook of that name, and logs each refusal.
func (m *Metrics) Record(name string, hook *webhook.Webhook) http.Handler {
	// What can be told is told from the start, as 0.
	for _, answer := range []string{allowed, warned, refused, failed} {
		m.reviews.WithLabelValues(name, answer)
	}
	return &webhook.Webhook{Handler: webhook.HandlerFunc(func(ctx context.Context, request webhook.Request) webhook.Response {
		response := hook.Handler.Handle(ctx, request)
		answer := answerOf(&response)
		m.reviews.WithLabelValues(name, answer).Inc()
		if answer == refused || answer == failed {
			// Who wrote which object is in the logger already.
			log.FromContext(ctx).Info("Refused", "webhook", name, "answer", answer, "operation", string(request.Operation),
				"dryRun", request.DryRun != nil && *request.DryRun, "why", response.Result.Message)
		}
		return response
	})}
}

func answerOf(response *webhook.Response) string {
	switch {
	case response.Allowed && len(response.Warnings) > 0:
		return warned
	case response.Allowed:
		return allowed
	case response.Result != nil && (response.Result.Code >= http.StatusInternalServerError ||
		response.Result.Code == http.StatusTooManyRequests):
		return failed
	}
	return refused
}
