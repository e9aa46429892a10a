package conformance_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/parts/conformance"
)

// cluster is the API server of our own server. TestMain sets it once.
var cluster inprocess.Cluster

// address is of the server that somebody else runs and wants tested.
var address = os.Getenv("CLOUD_PROVIDER_ADDRESS")

func TestMain(m *testing.M) {
	if address != "" {
		goleak.VerifyTestMain(m)
		return
	}
	inprocess.Main(m, &cluster, controlplane.Kwok)
}

// TestAny runs the cases against a server that runs already.
// It is not parallel: the groups are the server's only ones.
func TestAny(t *testing.T) {
	if address == "" {
		t.Skip("CLOUD_PROVIDER_ADDRESS is not set")
	}
	target := &conformance.Target{
		Conn: dial(t, address, keyPair{
			certificate: os.Getenv("CLOUD_PROVIDER_CERT"), key: os.Getenv("CLOUD_PROVIDER_KEY"), authority: os.Getenv("CLOUD_PROVIDER_CA"),
		}),
		Group: os.Getenv("CLOUD_PROVIDER_GROUP"), Second: os.Getenv("CLOUD_PROVIDER_SECOND_GROUP"),
	}
	if target.Group == "" {
		t.Fatal("CLOUD_PROVIDER_GROUP is not set: the cases need a group that they may grow and shrink")
	}
	if patience := os.Getenv("CLOUD_PROVIDER_PATIENCE"); patience != "" {
		var err error
		if target.Patience, err = time.ParseDuration(patience); err != nil {
			t.Fatalf("CLOUD_PROVIDER_PATIENCE: %v", err)
		}
	}
	conformance.Run(t, target)
}

// dial connects as Cluster Autoscaler does: with mutual TLS where there is a certificate.
func dial(t testing.TB, address string, client keyPair) *grpc.ClientConn {
	t.Helper()
	transport := insecure.NewCredentials()
	if client.certificate != "" {
		config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: client.authorities(t)}
		pair, err := tls.LoadX509KeyPair(client.certificate, client.key)
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
		transport = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// serve serves on a loopback address, to clients with a certificate of the authority only, until the test ends.
func serve(t testing.TB, own keyPair, register func(grpc.ServiceRegistrar)) (address string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(own.certificate, own.key)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		ClientCAs:    own.authorities(t),
		ClientAuth:   tls.RequireAndVerifyClientCert,
	})))
	register(server)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, server, listener)
	return listener.Addr().String()
}

// runUntilCleanup serves until the test ends, and then waits for the end of the server.
func runUntilCleanup(t testing.TB, server *grpc.Server, listener net.Listener) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

// authorities are the certificates that the other side may be signed by.
func (k keyPair) authorities(t testing.TB) *x509.CertPool {
	t.Helper()
	content, err := os.ReadFile(k.authority)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		t.Fatalf("%s has no PEM certificate", k.authority)
	}
	return pool
}
