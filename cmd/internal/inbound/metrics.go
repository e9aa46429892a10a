package inbound

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Reason is why a connection was ended, or a request not taken.
type Reason string

// The reasons. Each is a bound that a flag sets.
const (
	// Connections are too many in all.
	Connections Reason = "connections"
	// ConnectionsPerAddress are too many from one address.
	ConnectionsPerAddress Reason = "connections_per_address"
	// Handshake is that the connection was of no use in time.
	Handshake Reason = "handshake"
	// UnfinishedRequests are too many requests whose message has not come whole.
	UnfinishedRequests Reason = "unfinished_requests"
	// RequestBytes is that a request's message was larger than one may be.
	RequestBytes Reason = "request_bytes"
	// RequestRead is that a request's message did not come whole in time.
	RequestRead Reason = "request_read"
	// BodyBytes is that the bodies of requests under way are too large in all.
	BodyBytes Reason = "body_bytes"
	// Rate is that an address asks too often.
	Rate Reason = "rate"
	// Untrusted is that this replica's answers cannot be trusted and another's may be.
	Untrusted Reason = "untrusted"
)

// reasons are all of them.
func reasons() []Reason {
	return []Reason{Connections, ConnectionsPerAddress, Handshake, UnfinishedRequests, RequestBytes, RequestRead, BodyBytes, Rate, Untrusted}
}

// Turned counts what a server has turned away.
type Turned struct {
	counters map[Reason]prometheus.Counter
}

// NewTurned registers the counters of a server. The servers of a process share the metric.
func NewTurned(registerer prometheus.Registerer, server string) (*Turned, error) {
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ensemble_autoscaler_turned_away_total",
		Help: "Connections that were ended and requests that were not taken because of a limit, by server and limit.",
	}, []string{"server", "reason"})
	if err := registerer.Register(counter); err != nil {
		already, is := errors.AsType[prometheus.AlreadyRegisteredError](err)
		if !is {
			return nil, fmt.Errorf("register the metric of what %s turns away: %w", server, err)
		}
		if counter, is = already.ExistingCollector.(*prometheus.CounterVec); !is {
			return nil, fmt.Errorf("register the metric of what %s turns away: another has its name: %w", server, err)
		}
	}
	t := &Turned{counters: map[Reason]prometheus.Counter{}}
	for _, reason := range reasons() {
		t.counters[reason] = counter.WithLabelValues(server, string(reason))
	}
	return t, nil
}

// Count counts one connection that was ended, or one request that was not taken.
func (t *Turned) Count(why Reason) { t.counters[why].Inc() }
