package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// files are the paths of a certificate, its key and the authority that the other side is known by.
type files struct{ Certificate, Key, Authority string }

func (f files) load() (tls.Certificate, *x509.CertPool, error) {
	pair, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("read a certificate: %w", err)
	}
	pem, err := os.ReadFile(f.Authority)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("read the authority's certificate: %w", err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return tls.Certificate{}, nil, fmt.Errorf("%s has no PEM certificate", f.Authority)
	}
	return pair, authorities, nil
}

// dial makes the one connection that Cluster Autoscaler would have.
func (f files) dial(address string) (*grpc.ClientConn, error) {
	pair, authorities, err := f.load()
	if err != nil {
		return nil, err
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: authorities,
	})))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return connection, nil
}

// server is the transport of a server that wants to see certificates, as the provider does.
func (f files) server() (grpc.ServerOption, error) {
	pair, authorities, err := f.load()
	if err != nil {
		return nil, err
	}
	return grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		ClientCAs: authorities, ClientAuth: tls.RequireAndVerifyClientCert,
	})), nil
}

func writeJSON(path string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.WriteFile(path, text, 0o600)
}

func readJSON(text []byte, value any) error {
	if err := json.Unmarshal(text, value); err != nil {
		return fmt.Errorf("read what another process wrote: %w", err)
	}
	return nil
}

func readJSONFile(path string, value any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return readJSON(text, value)
}
