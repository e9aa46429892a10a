// Package mutualtls secures a gRPC server whose clients are few and known by name: both sides show a certificate, the
// server's certificate and the authorities that it trusts may change at any time without a connection being dropped,
// and only clients of certain names are answered. A server that knows its clients in another way shows a certificate of
// its own, in the same manner, to those who want one.
package mutualtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/cert"
	"k8s.io/utils/clock"
)

// Material is what a server shows, and whom it trusts. All of it is PEM.
type Material struct {
	// Certificate is the server's, followed by those between it and an authority that clients know.
	Certificate []byte
	// Key is the private key of the certificate.
	Key []byte
	// Authorities are the certificates of those who may have signed the certificate of a client. They may be missing
	// where clients show none.
	Authorities []byte
}

// Security holds the material that is in force, and knows which clients are accepted. It is safe for concurrent use.
type Security struct {
	clients []string
	clock   clock.PassiveClock
	log     logr.Logger
	metrics *metrics
	current atomic.Pointer[state]
	// refusals bounds how often refused connections are logged: whoever reaches the port can cause them.
	refusals logBound
}

// state is material that was found to be usable.
type state struct {
	config      *tls.Config
	certificate *x509.Certificate
}

// errNoMaterial is what a client is refused with before there is a certificate to show it.
var errNoMaterial = errors.New("the server has no certificate yet")

// New is a Security without material, which refuses every connection until Use. clients are the names of those who are
// answered: the common name, or any DNS name or URI, of a client's certificate has to be one of them. There are
// none where clients are known in another way, with OfferTLS and GetCertificate.
func New(clients []string, registerer prometheus.Registerer, clock clock.PassiveClock, log logr.Logger) (*Security, error) {
	m, err := newMetrics(registerer)
	if err != nil {
		return nil, err
	}
	return &Security{clients: clients, clock: clock, log: log, metrics: m}, nil
}

// Use puts material in force for connections that are made from now on; those that there are go on. Where it is not
// usable, which the error explains, what is in force stays.
func (s *Security) Use(m Material) error {
	pair, err := tls.X509KeyPair(m.Certificate, m.Key)
	if err != nil {
		return fmt.Errorf("read the certificate of the server and its key: %w", err)
	}
	pool := x509.NewCertPool()
	if len(m.Authorities) > 0 || len(s.clients) > 0 {
		authorities, err := cert.ParseCertsPEM(m.Authorities)
		if err != nil {
			return fmt.Errorf("read the authorities of clients: %w", err)
		}
		for _, a := range authorities {
			pool.AddCert(a)
		}
		last := slices.MaxFunc(authorities, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
		s.metrics.expires(authority, last.NotAfter)
	}
	next := &state{certificate: pair.Leaf, config: &tls.Config{
		// Clusters with approved cryptography only have builds of Cluster Autoscaler that do not speak TLS 1.3.
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    pool,
		// A session that is resumed was checked against what was in force when it began.
		SessionTicketsDisabled: true,
	}}
	before := s.current.Swap(next)
	s.metrics.expires(server, next.certificate.NotAfter)
	if before == nil || !before.certificate.Equal(next.certificate) {
		s.log.Info("Serving with another certificate", "serial", next.certificate.SerialNumber.Text(16),
			"names", identities(next.certificate), "expires", next.certificate.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// GetCertificate is that of a tls.Config: the certificate in force, to show to a client who is asked for none.
func (s *Security) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if current := s.current.Load(); current != nil {
		return &current.config.Certificates[0], nil
	}
	return nil, errNoMaterial
}

// Check is an error while there is no certificate to serve with, or one that has expired. It is a readiness probe.
func (s *Security) Check(*http.Request) error {
	current := s.current.Load()
	if current == nil {
		return errNoMaterial
	}
	if end := current.certificate.NotAfter; s.clock.Now().After(end) {
		return fmt.Errorf("the certificate of the server has expired on %s", end.UTC().Format(time.RFC3339))
	}
	return nil
}

// identities are the names that a certificate is for.
func identities(c *x509.Certificate) []string {
	var names []string
	if c.Subject.CommonName != "" {
		names = append(names, c.Subject.CommonName)
	}
	for _, name := range c.DNSNames {
		if name != c.Subject.CommonName {
			names = append(names, name)
		}
	}
	for _, uri := range c.URIs {
		names = append(names, uri.String())
	}
	return names
}

// accepts reports whether a certificate, whose chain was verified, is that of a client to be answered.
func (s *Security) accepts(c *x509.Certificate) bool {
	return slices.ContainsFunc(identities(c), func(name string) bool { return slices.Contains(s.clients, name) })
}
