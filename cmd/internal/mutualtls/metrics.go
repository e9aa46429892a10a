package mutualtls

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The certificates whose end is told.
const (
	// server is the certificate that the server shows.
	server = "server"
	// client is the certificate that an accepted client last connected with: one that was renewed counts from when
	// the client uses it.
	client = "client"
	// authority is, of the authorities that clients are trusted by, the one that ends last.
	authority = "authority"
)

// The reasons for which a client is refused.
const (
	reasonNoCertificate    = "no_certificate"
	reasonUnknownAuthority = "unknown_authority"
	reasonExpired          = "expired"
	reasonBadCertificate   = "bad_certificate"
	reasonIdentity         = "identity"
	reasonHandshake        = "handshake"
)

type metrics struct {
	expiry  *prometheus.GaugeVec
	refused *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ensemble_autoscaler_certificate_expiry_timestamp_seconds",
			Help: "When a certificate ends: the server's, the one that an accepted client last connected with, and of the authorities of clients " +
				"the one that ends last.",
		}, []string{"certificate"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ensemble_autoscaler_grpc_connections_refused_total",
			Help: "Connections of clients that were refused, by reason.",
		}, []string{"reason"}),
	}
	for _, c := range []prometheus.Collector{m.expiry, m.refused} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of certificates: %w", err)
		}
	}
	for _, reason := range []string{
		reasonNoCertificate, reasonUnknownAuthority, reasonExpired, reasonBadCertificate, reasonIdentity, reasonHandshake,
	} {
		m.refused.WithLabelValues(reason)
	}
	return m, nil
}

func (m *metrics) expires(certificate string, end time.Time) {
	m.expiry.WithLabelValues(certificate).Set(float64(end.Unix()))
}

// Describe registers the metrics with a value for every label, for their documentation.
func Describe(registerer prometheus.Registerer) error {
	m, err := newMetrics(registerer)
	if err != nil {
		return err
	}
	for _, certificate := range []string{server, client, authority} {
		m.expires(certificate, time.Unix(0, 0))
	}
	return nil
}
