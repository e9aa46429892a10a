package mutualtls

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authorityFor is an authority of a test.
type authorityFor struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authorityFor {
	t.Helper()
	a := &authorityFor{key: newKey(t)}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.certificate = sign(t, template, template, a.key, a.key)
	return a
}

func (a *authorityFor) pem(t *testing.T) []byte {
	t.Helper()
	text, err := cert.EncodeCertificates(a.certificate)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// issue makes a certificate for an hour, as changed.
func (a *authorityFor) issue(t *testing.T, change func(*x509.Certificate)) (certificatePEM, keyPEM []byte) {
	t.Helper()
	template := &x509.Certificate{
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	change(template)
	key := newKey(t)
	certificatePEM, err := cert.EncodeCertificates(sign(t, template, a.certificate, key, a.key))
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err = keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	return certificatePEM, keyPEM
}

func (a *authorityFor) pair(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(a.issue(t, change))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// material is that of a server with a new certificate of this authority, which trusts clients of this authority.
func (a *authorityFor) material(t *testing.T) Material {
	t.Helper()
	certificate, key := a.issue(t, named("server"))
	return Material{Certificate: certificate, Key: key, Authorities: a.pem(t)}
}

func named(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.Subject.CommonName = name }
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	encoded, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) add(prefix, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, line)
}

func (l *lines) has(words string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(strings.Join(l.all, "\n"), words)
}

// eventually waits for a condition, and shows the log where it never comes.
func eventually(t *testing.T, condition func() bool, log *lines) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if wait.PollUntilContextCancel(ctx, 5*time.Millisecond, true, func(context.Context) (bool, error) { return condition(), nil }) != nil {
		log.mu.Lock()
		defer log.mu.Unlock()
		t.Fatalf("the log is %q", log.all)
	}
}

// subject is a server that is secured.
type subject struct {
	*Security
	address  string
	registry *prometheus.Registry
	said     lines
}

// serve serves the health service to clients of the names.
func serve(t *testing.T, names ...string) *subject {
	t.Helper()
	s := &subject{registry: prometheus.NewPedanticRegistry()}
	var err error
	if s.Security, err = New(names, s.registry, clock.RealClock{}, funcr.New(s.said.add, funcr.Options{Verbosity: 1})); err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(s.ServerOptions()...)
	healthv1.RegisterHealthServer(server, health.NewServer())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	s.address = listener.Addr().String()
	return s
}

// dial connects when it is first used. shown, where it is not nil, receives the serial number of the server's
// certificate at each handshake.
func (s *subject) dial(t *testing.T, trusted *authorityFor, shown func(serial string), own ...tls.Certificate) healthv1.HealthClient {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(trusted.certificate)
	return s.dialWith(t, credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: own,
		VerifyConnection: func(c tls.ConnectionState) error {
			if shown != nil {
				shown(c.PeerCertificates[0].SerialNumber.Text(16))
			}
			return nil
		}}))
}

func (s *subject) dialWith(t *testing.T, transport credentials.TransportCredentials) healthv1.HealthClient {
	t.Helper()
	connection, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(transport))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := connection.Close(); err != nil {
			t.Error(err)
		}
	})
	return healthv1.NewHealthClient(connection)
}

func ask(t *testing.T, c healthv1.HealthClient) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := c.Check(ctx, &healthv1.HealthCheckRequest{})
	return err
}

func (s *subject) use(t *testing.T, m Material) (serial string) {
	t.Helper()
	if err := s.Use(m); err != nil {
		t.Fatal(err)
	}
	certificates, err := cert.ParseCertsPEM(m.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	return certificates[0].SerialNumber.Text(16)
}

// TestWhoIsAnswered: only clients with a certificate of the authority, valid now, made for clients and of an accepted
// name are answered. All others learn why, and so does the operator.
func TestWhoIsAnswered(t *testing.T) {
	t.Parallel()
	ours, foreign := newAuthority(t), newAuthority(t)
	uri, err := url.Parse("spiffe://cluster.local/ns/kube-system/sa/cluster-autoscaler")
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		own    func(*testing.T) []tls.Certificate
		reason string
		code   codes.Code
		says   string
	}{
		"the common name": {own: func(t *testing.T) []tls.Certificate {
			t.Helper()
			return []tls.Certificate{ours.pair(t, named("cluster-autoscaler"))}
		}},
		"a DNS name": {own: func(t *testing.T) []tls.Certificate {
			t.Helper()
			return []tls.Certificate{ours.pair(t, func(c *x509.Certificate) { c.DNSNames = []string{"other", "autoscaler.kube-system"} })}
		}},
		"a URI": {own: func(t *testing.T) []tls.Certificate {
			t.Helper()
			return []tls.Certificate{ours.pair(t, func(c *x509.Certificate) { c.URIs = []*url.URL{uri} })}
		}},
		"another name": {own: func(t *testing.T) []tls.Certificate {
			t.Helper()
			return []tls.Certificate{ours.pair(t, named("server"))}
		}, reason: reasonIdentity, code: codes.PermissionDenied, says: `the client's certificate is of ["server"], and only clients of the ` +
			`names ["cluster-autoscaler"`},
		"no name": {own: func(t *testing.T) []tls.Certificate {
			t.Helper()
			return []tls.Certificate{ours.pair(t, named(""))}
		}, reason: reasonIdentity, code: codes.PermissionDenied, says: `the client's certificate is of []`},
		"no certificate": {own: func(*testing.T) []tls.Certificate { return nil },
			reason: reasonNoCertificate, code: codes.Unavailable, says: "tls: certificate required"},
		"another authority": {own: func(t *testing.T) []tls.Certificate {
			t.Helper()
			pair := foreign.pair(t, named("cluster-autoscaler"))
			return []tls.Certificate{pair}
		}, reason: reasonUnknownAuthority, code: codes.Unavailable, says: "tls: unknown certificate authority"},
		"an expired certificate": {own: func(t *testing.T) []tls.Certificate {
			t.Helper()
			return []tls.Certificate{ours.pair(t, func(c *x509.Certificate) {
				c.Subject.CommonName, c.NotAfter = "cluster-autoscaler", time.Now().Add(-time.Minute)
			})}
		}, reason: reasonExpired, code: codes.Unavailable, says: "tls: expired certificate"},
		"a certificate of a server": {own: func(t *testing.T) []tls.Certificate {
			t.Helper()
			return []tls.Certificate{ours.pair(t, func(c *x509.Certificate) {
				c.Subject.CommonName, c.ExtKeyUsage = "cluster-autoscaler", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			})}
		}, reason: reasonBadCertificate, code: codes.Unavailable, says: "tls: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "cluster-autoscaler", "autoscaler.kube-system", uri.String())
			s.use(t, ours.material(t))
			own := row.own(t)
			// The authority that the server names in its request does not matter to a client that insists.
			err := ask(t, s.dialInsisting(t, ours, own))
			// With TLS 1.3 a client is done before the server has looked at its certificate. One that writes on the connection which the
			// server has closed meanwhile hears of that alone.
			for until := time.Now().Add(30 * time.Second); status.Code(err) == codes.Unavailable && time.Now().Before(until); {
				if strings.Contains(err.Error(), row.says) {
					break
				}
				err = ask(t, s.dialInsisting(t, ours, own))
			}
			if got := status.Code(err); got != row.code || (err != nil && !strings.Contains(err.Error(), row.says)) {
				t.Errorf("the client sees %v, not %s with %q", err, row.code, row.says)
			}
			// The server notes it when the client has gone.
			if row.reason != "" {
				eventually(t, func() bool { return s.said.has(fmt.Sprintf(`"msg"="Refused a client" "reason"=%q`, row.reason)) }, &s.said)
			}
			for _, reason := range []string{
				reasonNoCertificate, reasonUnknownAuthority, reasonExpired, reasonBadCertificate, reasonIdentity, reasonHandshake,
			} {
				count := testutil.ToFloat64(s.metrics.refused.WithLabelValues(reason))
				if refused := count > 0; refused != (reason == row.reason) {
					t.Errorf("%v refusals are counted as %s, and the reason is %q", count, reason, row.reason)
				}
			}
			if clients := testutil.CollectAndCount(s.metrics.expiry); (clients == 3) != (row.reason == "") {
				t.Errorf("%d ends of certificates are told; that of a client is to be there when it was accepted", clients)
			}
		})
	}
}

// dialInsisting sends a certificate whatever the server asks for.
func (s *subject) dialInsisting(t *testing.T, trusted *authorityFor, own []tls.Certificate) healthv1.HealthClient {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(trusted.certificate)
	return s.dialWith(t, credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(own) == 0 {
				return &tls.Certificate{}, nil
			}
			return &own[0], nil
		}}))
}

// TestPlainText: a client without TLS is refused, and a connection that comes to nothing is not counted.
func TestPlainText(t *testing.T) {
	t.Parallel()
	s := serve(t, "cluster-autoscaler")
	s.use(t, newAuthority(t).material(t))
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	if err := connection.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ask(t, s.dialWith(t, insecure.NewCredentials())); status.Code(err) != codes.Unavailable {
		t.Errorf("without TLS: %v", err)
	}
	eventually(t, func() bool { return s.said.has(`"reason"="handshake"`) }, &s.said)
	if s.said.has("EOF") {
		t.Errorf("one refusal is to be logged: %q", s.said.all)
	}
}

// TestBeforeTheFirstCertificate: the server runs, is not ready, and serves as soon as there is a certificate.
func TestBeforeTheFirstCertificate(t *testing.T) {
	t.Parallel()
	s := serve(t, "cluster-autoscaler")
	ours := newAuthority(t)
	if err := s.Check(nil); !errors.Is(err, errNoMaterial) {
		t.Errorf("ready: %v", err)
	}
	own := ours.pair(t, named("cluster-autoscaler"))
	if err := ask(t, s.dial(t, ours, nil, own)); status.Code(err) != codes.Unavailable {
		t.Errorf("it answers %v", err)
	}
	s.use(t, ours.material(t))
	if err := s.Check(nil); err != nil {
		t.Errorf("not ready: %v", err)
	}
	if err := ask(t, s.dial(t, ours, nil, own)); err != nil {
		t.Error(err)
	}
}

// TestRotationUnderLoad: while certificates and authorities change, a client that keeps calling sees no failure on its
// one connection; a new connection sees the new certificate, and a new authority decides on it.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	before, after := newAuthority(t), newAuthority(t)
	s := serve(t, "cluster-autoscaler")
	first := s.use(t, before.material(t))
	var serials []string // one for each handshake of the client that keeps calling
	var mu sync.Mutex
	calling := s.dial(
		t, before, func(serial string) { mu.Lock(); defer mu.Unlock(); serials = append(serials, serial) },
		before.pair(t, named("cluster-autoscaler")),
	)
	if err := ask(t, calling); err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	var calls int
	go func() {
		defer close(failed)
		for ctx.Err() == nil {
			if _, err := calling.Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
				failed <- err
				return
			}
			calls++
		}
	}()
	for range 20 {
		serial := s.use(t, before.material(t))
		if err := ask(t, s.dial(t, before, func(shown string) {
			if shown != serial {
				t.Errorf("a new connection sees certificate %s and not %s", shown, serial)
			}
		}, before.pair(t, named("cluster-autoscaler")))); err != nil {
			t.Errorf("a new connection: %v", err)
		}
	}
	s.use(t, after.material(t))
	if err := ask(t, s.dial(t, after, nil, after.pair(t, named("cluster-autoscaler")))); err != nil {
		t.Errorf("a client of the new authority: %v", err)
	}
	if err := ask(
		t, s.dialInsisting(t, after, []tls.Certificate{before.pair(t, named("cluster-autoscaler"))}),
	); status.Code(err) != codes.Unavailable {
		t.Errorf("a client of the authority that is trusted no more: %v", err)
	}
	stop()
	if err := <-failed; err != nil {
		t.Errorf("the client that keeps calling failed after %d calls: %v", calls, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(serials) != 1 || serials[0] != first || calls < 20 {
		t.Errorf("%d calls were made over connections to %q, and not many over one to %s", calls, serials, first)
	}
}

// TestUnusableMaterial changes nothing, and the error says what is wrong without saying the key.
func TestUnusableMaterial(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t)
	s := serve(t, "cluster-autoscaler")
	good := ours.material(t)
	serial := s.use(t, good)
	other := ours.material(t)
	for name, row := range map[string]struct {
		material Material
		says     string
	}{
		"nothing": {Material{}, "failed to find any PEM data"},
		"another key": {
			Material{Certificate: good.Certificate, Key: other.Key, Authorities: good.Authorities}, "private key does not match public key",
		},
		"a broken key": {Material{Certificate: good.Certificate, Key: bytes.ToLower(good.Key), Authorities: good.Authorities}, "key"},
		"no authority": {Material{Certificate: good.Certificate, Key: good.Key}, "read the authorities of clients"},
		"a broken authority": {
			Material{Certificate: good.Certificate, Key: good.Key, Authorities: []byte("none")}, "read the authorities of clients",
		},
	} {
		err := s.Use(row.material)
		if err == nil || !strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), "PRIVATE KEY-----") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := ask(t, s.dial(t, ours, func(shown string) {
		if shown != serial {
			t.Errorf("it serves with %s and not with %s", shown, serial)
		}
	}, ours.pair(t, named("cluster-autoscaler")))); err != nil {
		t.Error(err)
	}
}

// TestExpiredServer is not ready, and its metric says since when.
func TestExpiredServer(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t)
	end := time.Now().Add(-time.Minute)
	certificate, key := ours.issue(t, func(c *x509.Certificate) { c.NotAfter = end })
	s := serve(t, "cluster-autoscaler")
	s.use(t, Material{Certificate: certificate, Key: key, Authorities: ours.pem(t)})
	if err := s.Check(nil); err == nil || !strings.Contains(err.Error(), "has expired on "+end.UTC().Format(time.RFC3339)) {
		t.Errorf("ready: %v", err)
	}
	want := fmt.Sprintf(`
# HELP ensemble_autoscaler_certificate_expiry_timestamp_seconds When a certificate ends: the server's, the one that an accepted client last connected with, and of the authorities of clients the one that ends last.
# TYPE ensemble_autoscaler_certificate_expiry_timestamp_seconds gauge
ensemble_autoscaler_certificate_expiry_timestamp_seconds{certificate="authority"} %d
ensemble_autoscaler_certificate_expiry_timestamp_seconds{certificate="server"} %d
`, ours.certificate.NotAfter.Unix(), end.Unix())
	if err := testutil.GatherAndCompare(
		s.registry, strings.NewReader(want), "ensemble_autoscaler_certificate_expiry_timestamp_seconds",
	); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(s.registry); err != nil || len(problems) > 0 {
		t.Errorf("names of metrics: %v %v", problems, err)
	}
}

// TestFiles: what is in the files is in force soon after they have changed; files that are being written are waited for,
// and the problem is logged once.
func TestFiles(t *testing.T) {
	t.Parallel()
	ours, next := newAuthority(t), newAuthority(t)
	s := serve(t, "cluster-autoscaler")
	directory := t.TempDir()
	path := func(name string) string { return filepath.Join(directory, name) }
	write := func(name string, content []byte) {
		t.Helper()
		// A file that is read half-written would be another problem.
		if err := os.WriteFile(path("new"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path("new"), path(name)); err != nil {
			t.Fatal(err)
		}
	}
	time0 := clocktesting.NewFakeClock(time.Now())
	var log lines
	files := &Files{
		CertificateFile: path("tls.crt"), KeyFile: path("tls.key"), AuthoritiesFile: path("ca.crt"),
		Security: s.Security, Every: time.Second, Clock: time0, Log: funcr.New(log.add, funcr.Options{}),
	}
	if err := files.Load(); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path("tls.crt")) {
		t.Errorf("without files: %v", err)
	}
	m := ours.material(t)
	write("tls.crt", m.Certificate)
	write("tls.key", m.Key)
	write("ca.crt", m.Authorities)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- files.Start(ctx) }()
	until := func(done func() bool) {
		t.Helper()
		eventually(t, func() bool { time0.Step(time.Second); return done() }, &log)
	}
	until(func() bool { return s.Check(nil) == nil })
	if err := ask(t, s.dial(t, ours, nil, ours.pair(t, named("cluster-autoscaler")))); err != nil {
		t.Error(err)
	}

	changed := next.material(t)
	write("tls.crt", changed.Certificate)
	until(func() bool { return log.has("private key does not match public key") })
	for range 3 {
		time0.Step(time.Second)
	}
	if err := ask(t, s.dial(t, ours, nil, ours.pair(t, named("cluster-autoscaler")))); err != nil {
		t.Errorf("while files are written: %v", err)
	}
	write("tls.key", changed.Key)
	write("ca.crt", changed.Authorities)
	own := next.pair(t, named("cluster-autoscaler"))
	until(func() bool { return ask(t, s.dial(t, next, nil, own)) == nil })
	if len(log.all) != 1 {
		t.Errorf("the same problem is logged %d times: %q", len(log.all), log.all)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestLogBound: a flood of refusals is one line in a while, which says how many there were.
func TestLogBound(t *testing.T) {
	t.Parallel()
	var b logBound
	now := time.Now()
	said := 0
	for range 100 {
		if _, ok := b.take(reasonIdentity, now); ok {
			said++
		}
	}
	if _, ok := b.take(reasonExpired, now); !ok || said != 1 {
		t.Errorf("%d of 100 were said, and another reason: %t", said, ok)
	}
	if dropped, ok := b.take(reasonIdentity, now.Add(logPeriod)); !ok || dropped != 99 {
		t.Errorf("later it says %t that %d were left out", ok, dropped)
	}
}
