package system_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// TestStolenKey plays the procedure of docs/certificates.md, with its own commands: after it the stolen key of Cluster Autoscaler is
// refused, also on a connection that the thief has kept, and Cluster Autoscaler is answered with its new one.
func TestStolenKey(t *testing.T) {
	t.Parallel()
	s, err := system.Start(t.Context(), system.Options{Progress: os.Stderr, LogDir: t.ArtifactDir(), ProviderOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	stolen := clientSecret(t, s)
	// The thief does not look at whom it talks to.
	thief := connect(t, s, stolen, &tls.Config{InsecureSkipVerify: true})
	if err := refresh(t.Context(), thief); err != nil {
		t.Fatalf("the key is not worth stealing: %v", err)
	}
	// To issue Cluster Autoscaler another certificate changes nothing for the thief.
	if err := s.Client.Delete(t.Context(), &corev1.Secret{ObjectMeta: stolen.ObjectMeta}); err != nil {
		t.Fatal(err)
	}
	reissued := clientSecret(t, s)
	if err := refresh(t.Context(), connect(t, s, stolen, &tls.Config{InsecureSkipVerify: true})); err != nil {
		t.Errorf("with Cluster Autoscaler's Secret deleted alone, the stolen key is refused already: %v; the page says the contrary", err)
	}

	// Step 1.
	for _, command := range commands(t, s) {
		run(t, s, command)
	}
	fresh := clientSecret(t, s)
	if bytes.Equal(fresh.Data["ca.crt"], reissued.Data["ca.crt"]) || bytes.Count(fresh.Data["ca.crt"], []byte("BEGIN CERTIFICATE")) != 1 {
		t.Errorf("Cluster Autoscaler is to trust\n%s\nand was to trust\n%s", fresh.Data["ca.crt"], reissued.Data["ca.crt"])
	}
	until(t, func(ctx context.Context) (bool, error) {
		// The replica reads its Secret by a watch.
		return refresh(ctx, connect(t, s, stolen, &tls.Config{InsecureSkipVerify: true})) != nil, nil
	})
	if err := refresh(t.Context(), thief); err != nil {
		t.Errorf("a connection that was open is refused before the restart: %v; the page says the contrary", err)
	}
	// Step 2.
	if err := s.RestartProvider(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, old := range []*corev1.Secret{stolen, reissued} {
		if err := refresh(t.Context(), connect(t, s, old, &tls.Config{InsecureSkipVerify: true})); err == nil {
			t.Error("a certificate of the authority before is accepted after the restart")
		}
	}
	if err := refresh(t.Context(), thief); err == nil {
		t.Error("the connection that the thief has kept is answered after the restart")
	}
	// Step 3: what Cluster Autoscaler reads at its start.
	trusted := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	trusted.RootCAs.AppendCertsFromPEM(fresh.Data["ca.crt"])
	if err := refresh(t.Context(), connect(t, s, fresh, trusted)); err != nil {
		t.Errorf("Cluster Autoscaler with its new key: %v", err)
	}
	// Step 4.
	metrics, err := s.Metrics(t.Context(), s.ProviderMetrics)
	if err != nil || !strings.Contains(metrics, "ensemble_autoscaler_grpc_connections_refused_total{") {
		t.Errorf("the metrics do not count the thief (%v)", err)
	}
}

// clientSecret waits until there is a certificate of Cluster Autoscaler.
func clientSecret(t *testing.T, s *system.System) *corev1.Secret {
	t.Helper()
	var secret corev1.Secret
	until(t, func(ctx context.Context) (bool, error) {
		err := s.Client.Get(ctx, client.ObjectKey{Namespace: system.Namespace, Name: system.ClientSecret}, &secret)
		return err == nil && len(secret.Data[corev1.TLSCertKey]) > 0, client.IgnoreNotFound(err)
	})
	return &secret
}

// connect is a connection to the provider that shows the certificate of a Secret.
func connect(t *testing.T, s *system.System, secret *corev1.Secret, config *tls.Config) *grpc.ClientConn {
	t.Helper()
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		t.Fatal(err)
	}
	config.Certificates = []tls.Certificate{pair}
	connection, err := grpc.NewClient(s.ProviderAddress, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := connection.Close(); err != nil {
			t.Error(err)
		}
	})
	return connection
}

// refresh asks the provider something, once.
func refresh(ctx context.Context, connection *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := externalgrpc.NewCloudProviderClient(connection).Refresh(ctx, &externalgrpc.RefreshRequest{})
	return err
}

// commands are those of step 1 of the page.
func commands(t *testing.T, s *system.System) []string {
	t.Helper()
	page, err := s.ReadFile("docs/certificates.md")
	if err != nil {
		t.Fatal(err)
	}
	_, step, _ := strings.Cut(page, "\n1. ")
	step, _, found := strings.Cut(step, "\n2. ")
	var out []string
	for line := range strings.Lines(step) {
		if command, is := strings.CutPrefix(strings.TrimSpace(line), "$ kubectl "); is {
			out = append(out, command)
		}
	}
	if !found || len(out) != 3 {
		t.Fatalf("step 1 of docs/certificates.md has the commands %q", out)
	}
	return out
}

func run(t *testing.T, s *system.System, command string) {
	t.Helper()
	kubectl, err := s.Plane.Kubectl(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), kubectl, append([]string{
		"--kubeconfig=" + s.Kubeconfig,
	}, strings.Fields(command)...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", command, err, out)
	}
}
