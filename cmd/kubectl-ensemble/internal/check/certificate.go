package check

import (
	"crypto/x509"
	"errors"
	"time"

	"k8s.io/client-go/util/cert"
)

// Certificates are those of a file, the first the one that is shown.
type Certificates []*x509.Certificate

// parseCertificates reads PEM. An empty text has none.
func parseCertificates(text []byte) (Certificates, error) {
	if len(text) == 0 {
		return nil, nil
	}
	return cert.ParseCertsPEM(text)
}

// vouches says why authorities do not vouch for a certificate now; nil when they do. Of a server the name is checked, too.
func (authorities Certificates) vouches(of Certificates, name string, now time.Time) error {
	if len(of) == 0 {
		return errors.New("there is no certificate")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range authorities {
		roots.AddCert(c)
	}
	for _, c := range of[1:] {
		between.AddCert(c)
	}
	_, err := of[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, DNSName: name, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}

// parseSecret reads the certificates of a Secret.
func parseSecret(data map[string][]byte, created time.Time) *Secret {
	s := &Secret{CreatedAt: created}
	var err error
	if s.Certificate, err = parseCertificates(data["tls.crt"]); err != nil {
		s.Fault = "tls.crt: " + err.Error()
	}
	if s.Authorities, err = parseCertificates(data["ca.crt"]); err != nil {
		s.Fault = "ca.crt: " + err.Error()
	}
	return s
}
