package report

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Security says how a Client is sure of the endpoint, and the endpoint of it. Files are read again at each connection or call, so that
// they can be replaced.
type Security struct {
	// TLS is set for TLS; CAFile has it too.
	TLS bool
	// CAFile has the authorities that the endpoint's certificate may be of, PEM; empty for those of the system.
	CAFile string
	// ServerName is the name that the certificate has to be for, empty for the host of the address.
	ServerName string
	// CertFile and KeyFile are a certificate of the client, PEM. Both are given or none.
	CertFile, KeyFile string
	// TokenFile has the token of a ServiceAccount, which is sent with each call. It needs TLS.
	TokenFile string
}

func (s Security) dialOptions(host string) ([]grpc.DialOption, error) {
	secured := s.TLS || s.CAFile != ""
	switch {
	case (s.CertFile == "") != (s.KeyFile == ""):
		return nil, errors.New("a certificate and its key are given together, or none of them")
	case !secured && (s.CertFile != "" || s.TokenFile != "" || s.ServerName != ""):
		return nil, errors.New("a certificate, a token or a server name is of use with TLS only: say TLS, or name the file of its authorities")
	case !secured:
		return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, nil
	}
	if s.ServerName == "" {
		s.ServerName = host
	}
	// What can be read now is found wrong now.
	if _, err := s.roots(); err != nil {
		return nil, err
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: s.ServerName,
		// VerifyConnection does it, with the authorities that the file has by then.
		InsecureSkipVerify: true, //nolint:gosec // See above.
		VerifyConnection:   s.verify,
	}
	if s.CertFile != "" {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			certificate, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
			return &certificate, err
		}
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(config))}
	if s.TokenFile != "" {
		options = append(options, grpc.WithPerRPCCredentials(tokenFile(s.TokenFile)))
	}
	return options, nil
}

// roots are the authorities, nil for those of the system.
func (s Security) roots() (*x509.CertPool, error) {
	if s.CAFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(s.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the authorities of the endpoint: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in PEM", s.CAFile)
	}
	return pool, nil
}

func (s Security) verify(state tls.ConnectionState) error {
	roots, err := s.roots()
	if err != nil {
		return err
	}
	if len(state.PeerCertificates) == 0 {
		return errors.New("the endpoint shows no certificate")
	}
	options := x509.VerifyOptions{Roots: roots, DNSName: s.ServerName, Intermediates: x509.NewCertPool()}
	for _, certificate := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(certificate)
	}
	_, err = state.PeerCertificates[0].Verify(options)
	return err
}

// tokenFile sends the token that a file has.
type tokenFile string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (f tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	text, err := os.ReadFile(string(f))
	if err != nil {
		return nil, fmt.Errorf("read the token: %w", err)
	}
	return map[string]string{"authorization": "Bearer " + strings.TrimSpace(string(text))}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (tokenFile) RequireTransportSecurity() bool { return true }
