package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane/controlplanetest"
)

// writeCertificate makes one certificate that serves as authority, server and client, and returns the
// paths of it and of its key.
func writeCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test"},
		NotAfter:              time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	content, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyContent, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, content []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("tls.crt", "CERTIFICATE", content), write("tls.key", "PRIVATE KEY", keyContent)
}

// serve serves a provider with mutual TLS and returns the path of the cloud config for it.
func serve(t *testing.T, provider *fakeProvider) string {
	t.Helper()
	certificate, key := writeCertificate(t)
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(pair.Leaf)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	})))
	externalgrpc.RegisterCloudProviderServer(server, provider)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	path := filepath.Join(t.TempDir(), "cloud.yaml")
	text := fmt.Sprintf("address: %s\nkey: %s\ncert: %s\ncacert: %s\ngrpc_timeout: 30s\n", listener.Addr(), key, certificate, certificate)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func eventually(t *testing.T, what string, check func(context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 5*time.Minute, true, check); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func TestProgramOnARealAPIServer(t *testing.T) {
	plane := controlplanetest.Start(t, controlplane.Options{})
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := controlplane.WriteKubeconfig(kubeconfig, plane.AdminConfig()); err != nil {
		t.Fatal(err)
	}
	transport, err := rest.HTTPClientFor(plane.AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	clients, err := kubernetes.NewForConfigAndClient(plane.AdminConfig(), transport)
	if err != nil {
		t.Fatal(err)
	}

	provider := &fakeProvider{
		groups:  map[string]*fakeGroup{"hpc-a": {min: 3, max: 10, target: 1, template: newNode("hpc-a", "template", true)}},
		failing: map[string]error{},
	}
	node := newNode("hpc-a", "0", true)
	node.Spec.Taints = []corev1.Taint{{Key: v1alpha1.TaintToBeDeleted, Value: "1", Effect: corev1.TaintEffectNoSchedule}}
	provider.groups["hpc-a"].instances = []*externalgrpc.Instance{{Id: node.Spec.ProviderID}}
	if _, err := clients.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	args := []string{
		"--kubeconfig=" + kubeconfig, "--cloud-provider=externalgrpc", "--cloud-config=" + serve(t, provider),
		"--scan-interval=50ms", "--enforce-node-group-min-size=true", "--leader-elect=false", "-v=1",
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, args, t.Output())
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		for range ended { // until closed
		}
	})
	eventually(t, "no IncreaseSize to the floor", func(context.Context) (bool, error) {
		provider.mu.Lock()
		defer provider.mu.Unlock()
		return slices.Contains(provider.calls, "IncreaseSize hpc-a 2"), nil
	})
	eventually(t, "the taint of an earlier run is still there", func(ctx context.Context) (bool, error) {
		current, err := clients.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return !beingDeleted(current), nil
	})
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the program ended with %v", err)
	}
	// A call that is cut off may be heard of after it.
	if calls := provider.taken(); !slices.Contains(calls, "Cleanup") {
		t.Errorf("there is no Cleanup at the end: %q", calls)
	}
}
