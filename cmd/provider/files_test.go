package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// cluster is the API server of all tests here. TestMain sets it once.
var cluster inprocess.Cluster

func TestMain(m *testing.M) { inprocess.Main(m, &cluster, 0) }

// TestCertificatesFromFiles runs the provider with certificate files, without any Secret: Cluster Autoscaler is answered,
// and a client of the same authority with another name is not. Other tests run it with certificates that it issues.
func TestCertificatesFromFiles(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	path := func(name string) string { return filepath.Join(directory, name) }
	write := func(name string, content []byte) string {
		t.Helper()
		if err := os.WriteFile(path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path(name)
	}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	now := time.Now()
	authority, authorityKey := &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, key()
	sign := func(template, parent *x509.Certificate, own *ecdsa.PrivateKey) *x509.Certificate {
		encoded, err := x509.CreateCertificate(rand.Reader, template, parent, own.Public(), authorityKey)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(encoded)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	authority = sign(authority, authority, authorityKey)
	issue := func(name string, usage x509.ExtKeyUsage) (certificatePEM, keyPEM []byte) {
		own := key()
		certificatePEM, err := cert.EncodeCertificates(sign(&x509.Certificate{
			Subject: pkix.Name{CommonName: name}, NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}, authority, own))
		if err != nil {
			t.Fatal(err)
		}
		if keyPEM, err = keyutil.MarshalPrivateKeyToPEM(own); err != nil {
			t.Fatal(err)
		}
		return certificatePEM, keyPEM
	}
	authorityPEM, err := cert.EncodeCertificates(authority)
	if err != nil {
		t.Fatal(err)
	}
	certificate, certificateKey := issue("provider", x509.ExtKeyUsageServerAuth)
	if err := controlplane.WriteKubeconfig(path("kubeconfig"), cluster.Config); err != nil {
		t.Fatal(err)
	}
	port, err := cluster.Port()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)

	cmd := command()
	cmd.SetArgs([]string{
		"--kubeconfig=" + path("kubeconfig"), "--grpc-address=" + address, "--expander-address=", "--metrics-address=0", "--health-address=0",
		"--leader-elect=false",
		"--tls-cert-file=" + write("tls.crt", certificate), "--tls-key-file=" + write("tls.key", certificateKey),
		"--client-ca-file=" + write("ca.crt", authorityPEM),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	refresh := func(ctx context.Context, name string) error {
		pair, err := tls.X509KeyPair(issue(name, x509.ExtKeyUsageClientAuth))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(authority)
		connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair},
		})))
		if err != nil {
			t.Fatal(err)
		}
		_, err = externalgrpc.NewCloudProviderClient(connection).Refresh(ctx, &externalgrpc.RefreshRequest{})
		if err := connection.Close(); err != nil {
			t.Error(err)
		}
		return err
	}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		if err := refresh(ctx, "cluster-autoscaler"); err != nil {
			return err.Error(), nil //nolint:nilerr // It is waited for.
		}
		return "", nil
	})
	if err := refresh(t.Context(), "stranger"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a client of another name gets %v", err)
	}
}
