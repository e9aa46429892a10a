package certificates_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/certificates"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/mutualtls"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// cluster is the API server of all tests here. TestMain sets it once.
var cluster inprocess.Cluster

func TestMain(m *testing.M) { inprocess.Main(m, &cluster, 0) }

// long are the lifetimes of tests in which nothing is to end.
var long = certificates.Lifetimes{Certificate: 24 * time.Hour, RenewBefore: time.Hour, Authority: 48 * time.Hour}

// place is where the Secrets of a test are.
type place struct {
	server, client types.NamespacedName
}

func newPlace(t *testing.T) place {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "certificates-"}}
	if err := cluster.Client.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	return place{
		server: types.NamespacedName{Namespace: namespace.Name, Name: "server"},
		client: types.NamespacedName{Namespace: namespace.Name, Name: "client"},
	}
}

// replica is one of a server, in this process.
type replica struct {
	*inprocess.Mortal
	security *mutualtls.Security
	address  string
}

// start starts a replica that is killed when it is about to make the write after so many; a negative number is none.
func (p place) start(t *testing.T, most int64, lifetimes certificates.Lifetimes) *replica {
	t.Helper()
	r := &replica{Mortal: cluster.NewMortal(t, most, manager.Options{})}
	var err error
	if r.security, err = mutualtls.New(
		[]string{"cluster-autoscaler"}, prometheus.NewRegistry(), clock.RealClock{}, logr.Discard(),
	); err != nil {
		t.Fatal(err)
	}
	if err := certificates.AddToManager(r.Manager, certificates.Options{
		ServerSecret: p.server, ClientSecret: p.client, ClientName: "cluster-autoscaler", Lifetimes: lifetimes,
		ServerNames: certificates.Names("system", []string{"provider"}, []string{"127.0.0.1"}),
		Security:    r.security, Client: r.GetClient(), Events: r.GetEventRecorder("certificates-test"), Clock: clock.RealClock{},
	}); err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = listener.Addr().String()
	server := grpc.NewServer(r.security.ServerOptions()...)
	healthv1.RegisterHealthServer(server, health.NewServer())
	r.Run(t, func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, server.Stop)
		defer stop()
		if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return err
		}
		return nil
	})
	return r
}

// secret reads one of them; it is nil where there is none.
func secret(ctx context.Context, key types.NamespacedName) (*corev1.Secret, error) {
	var s corev1.Secret
	if err := cluster.Client.Get(ctx, key, &s); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return &s, nil
}

// autoscaler is a client with what it has read from the client's Secret at its start.
func autoscaler(t *testing.T, s *corev1.Secret, address string) (healthv1.HealthClient, error) {
	t.Helper()
	pair, err := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"])
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s.Data["ca.crt"]) {
		return nil, errors.New("ca.crt has no certificate")
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair},
	})))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := connection.Close(); err != nil {
			t.Error(err)
		}
	})
	return healthv1.NewHealthClient(connection), nil
}

// works waits until a client with what is in its Secret is answered by a replica, and returns the Secret.
func (p place) works(t *testing.T, r *replica) *corev1.Secret {
	t.Helper()
	var read *corev1.Secret
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		s, err := secret(ctx, p.client)
		if s == nil || err != nil {
			return "there is no client's Secret", err
		}
		c, err := autoscaler(t, s, r.address)
		if err == nil {
			_, err = c.Check(ctx, &healthv1.HealthCheckRequest{})
		}
		if err != nil {
			return err.Error(), nil //nolint:nilerr // It is waited for.
		}
		read = s
		return "", nil
	})
	return read
}

// TestFirstStart: on a cluster without Secrets a replica becomes ready and answers, by itself.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	r := p.start(t, -1, long)
	s := p.works(t, r)
	if err := r.security.Check(&http.Request{}); err != nil {
		t.Errorf("not ready: %v", err)
	}
	if s.Type != corev1.SecretTypeTLS || len(s.Data) != 3 {
		t.Errorf("the client's Secret is of type %s and has %d keys", s.Type, len(s.Data))
	}
	p.saw(t, p.server, "AuthorityReplaced", "there is no authority")
	p.saw(t, p.client, "CertificateIssued", "it has no certificate")
}

// saw waits until an event of a Secret has the reason and the words.
func (p place) saw(t *testing.T, key types.NamespacedName, reason, words string) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		var all eventsv1.EventList
		if err := cluster.Client.List(ctx, &all, client.InNamespace(key.Namespace)); err != nil {
			return "", err
		}
		var others []string
		for i := range all.Items {
			e := &all.Items[i]
			if e.Regarding.Kind == "Secret" && e.Regarding.Name == key.Name && e.Reason == reason && strings.Contains(e.Note, words) {
				return "", nil
			}
			others = append(others, e.Regarding.Name+" "+e.Reason+": "+e.Note)
		}
		return fmt.Sprintf("no event %s says %q; others do: %q", reason, words, others), nil
	})
}

// TestManyAtOnce: replicas that start at once without a leader, on a cluster without Secrets, end with one authority,
// and a client that read its Secret at any time is answered by all of them.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	replicas := make([]*replica, 3)
	var starting sync.WaitGroup
	for i := range replicas {
		starting.Go(func() { replicas[i] = p.start(t, -1, long) })
	}
	starting.Wait()
	s := p.works(t, replicas[0])
	for _, r := range replicas {
		p.works(t, r)
		c, err := autoscaler(t, s, r.address)
		if err != nil {
			t.Fatal(err)
		}
		inprocess.Until(t, func(ctx context.Context) (string, error) {
			if _, err := c.Check(ctx, &healthv1.HealthCheckRequest{}); err != nil {
				return err.Error(), nil //nolint:nilerr // It is waited for.
			}
			return "", nil
		})
	}
	// What one has overwritten would be trusted no more, or besides.
	stored, err := secret(t.Context(), p.server)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(stored.Data["ca.crt"]), "BEGIN"); n != 1 {
		t.Errorf("%d authorities are trusted, and not one", n)
	}
}

// TestKills: a replica that is killed before any of its writes leaves nothing that the next one cannot go on from, at the
// first issue and at the replacement of everything. The client that runs meanwhile connects again, whatever it has read.
func TestKills(t *testing.T) {
	t.Parallel()
	// What was issued for long is due at once.
	longer := certificates.Lifetimes{Certificate: 60 * time.Hour, RenewBefore: 30 * time.Hour, Authority: 120 * time.Hour}
	for name, row := range map[string]struct {
		lifetimes certificates.Lifetimes
		before    bool // whether Secrets are there
	}{
		"first issue": {long, false},
		"replacement": {longer, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inprocess.EachKill(t, func(most int64) bool {
				p := newPlace(t)
				var running *corev1.Secret
				if row.before {
					r := p.start(t, -1, long)
					running = p.works(t, r)
					r.Stop()
				}
				first := p.start(t, most, row.lifetimes)
				survived := false
				inprocess.Until(t, func(ctx context.Context) (string, error) {
					s, err := secret(ctx, p.client)
					survived = s != nil && (running == nil || string(s.Data["tls.crt"]) != string(running.Data["tls.crt"]))
					if err != nil || survived || first.Killed() {
						return "", err
					}
					return "it neither ends nor issues", nil
				})
				first.Stop()
				before, err := secret(t.Context(), p.server)
				if err != nil {
					t.Fatal(err)
				}
				second := p.start(t, -1, row.lifetimes)
				inprocess.Until(t, func(ctx context.Context) (string, error) {
					s, err := secret(ctx, p.client)
					if s == nil || err != nil || (running != nil && string(s.Data["tls.crt"]) == string(running.Data["tls.crt"])) {
						return "the client has no new certificate", err
					}
					return "", nil
				})
				p.works(t, second)
				if running != nil {
					if _, err := handshake(t.Context(), running, second.address); err != nil {
						t.Errorf("killed before write %d: the client that runs: %v", most, err)
					}
				}
				after, err := secret(t.Context(), p.server)
				if err != nil || after == nil {
					t.Fatalf("the server's Secret: %v, %v", after, err)
				}
				if most > 0 && (before == nil || before.ResourceVersion != after.ResourceVersion) {
					t.Errorf("killed before write %d: the server's Secret was written again", most)
				}
				if n, want := strings.Count(string(after.Data["ca.crt"]), "BEGIN"), map[bool]int{false: 1, true: 2}[row.before]; n != want {
					t.Errorf("killed before write %d: %d authorities are trusted, not %d", most, n, want)
				}
				second.Stop()
				return survived
			})
		})
	}
}

// TestUsersBreakSecrets: a Secret that is deleted, emptied or overwritten is brought in order, with an event, and the
// client that runs already goes on without noticing, on the connection that it has.
func TestUsersBreakSecrets(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	r := p.start(t, -1, long)
	running, err := autoscaler(t, p.works(t, r), r.address)
	if err != nil {
		t.Fatal(err)
	}
	goesOn := func() {
		t.Helper()
		if _, err := running.Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
			t.Errorf("the client that runs: %v", err)
		}
	}
	goesOn()
	edit := func(key types.NamespacedName, change func(map[string][]byte)) {
		t.Helper()
		inprocess.Until(t, func(ctx context.Context) (string, error) {
			s, err := secret(ctx, key)
			if s == nil || err != nil {
				return "it is not there", err
			}
			change(s.Data)
			if err := cluster.Client.Update(ctx, s); err != nil {
				if apierrors.IsConflict(err) {
					return err.Error(), nil
				}
				return "", err
			}
			return "", nil
		})
	}
	for _, step := range []struct {
		name   string
		key    types.NamespacedName
		damage func()
		reason string
		words  string
	}{
		{
			"the client's key is overwritten", p.client, func() { edit(p.client, func(d map[string][]byte) { d["tls.key"] = []byte("x") }) },
			"CertificateIssued", "its certificate and key cannot be used",
		},
		{
			"the server's certificate is emptied", p.server, func() { edit(p.server, func(d map[string][]byte) { d["tls.crt"] = []byte{} }) },
			"CertificateIssued", "it has no certificate",
		},
		{
			"the authority's key is removed", p.server, func() { edit(p.server, func(d map[string][]byte) { delete(d, "ca.key") }) },
			"AuthorityReplaced", "ca.key cannot be read",
		},
		{"the client's Secret is deleted", p.client, func() {
			if err := cluster.Client.Delete(
				t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.client.Namespace, Name: p.client.Name}},
			); err != nil {
				t.Fatal(err)
			}
		}, "CertificateIssued", "it has no certificate"},
		{"the server's Secret is deleted", p.server, func() {
			if err := cluster.Client.Delete(
				t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.server.Namespace, Name: p.server.Name}},
			); err != nil {
				t.Fatal(err)
			}
		}, "AuthorityReplaced", "there is no authority"},
	} {
		step.damage()
		p.saw(t, step.key, step.reason, step.words)
		p.works(t, r)
		goesOn()
		if t.Failed() {
			t.Fatal(step.name)
		}
	}
}

// TestRotationUnderLoad: with certificates that last seconds, a client that keeps calling on one connection sees no
// failure, one that connects again with what is in its Secret sees none either, and both see the certificates change;
// all of that over several authorities.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	// Certificates are replaced after a second and authorities after ten; on a busy machine each has half a minute to spare.
	quick := certificates.Lifetimes{Certificate: 30 * time.Second, RenewBefore: 29 * time.Second, Authority: 40 * time.Second}
	leader, follower := p.start(t, -1, quick), p.start(t, -1, quick)
	running, err := autoscaler(t, p.works(t, leader), leader.address)
	if err != nil {
		t.Fatal(err)
	}
	p.works(t, follower)

	authorities, servers, clients := map[string]bool{}, map[string]bool{}, map[string]bool{}
	kept, renewed := 0, 0
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		if _, err := running.Check(ctx, &healthv1.HealthCheckRequest{}); err != nil {
			return "", fmt.Errorf("after %d calls on its connection: %w", kept, err)
		}
		kept++
		s, err := secret(ctx, p.client)
		if s == nil || err != nil {
			return "", fmt.Errorf("the client's Secret is not there: %w", err)
		}
		clients[string(s.Data["tls.crt"])] = true
		for _, r := range []*replica{leader, follower} {
			shown, err := handshake(ctx, s, r.address)
			if err != nil {
				return "", fmt.Errorf("a new connection, after %d others: %w", renewed, err)
			}
			servers[shown] = true
			renewed++
		}
		first, _, _ := strings.Cut(string(s.Data["ca.crt"]), "-----END")
		authorities[first] = true
		if len(authorities) < 3 {
			return fmt.Sprintf("%d authorities were seen", len(authorities)), nil
		}
		return "", nil
	})
	if len(servers) < 3 || len(clients) < 3 {
		t.Errorf("only %d certificates of the server and %d of the client were seen", len(servers), len(clients))
	}
	t.Logf("%d calls on one connection and %d new connections; %d authorities, %d certificates of the server, %d of the client",
		kept, renewed, len(authorities), len(servers), len(clients))
}

// handshake connects with what is in the client's Secret, and returns the serial number of the server's certificate.
func handshake(ctx context.Context, s *corev1.Secret, address string) (serial string, err error) {
	pair, err := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"])
	if err != nil {
		return "", err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.Data["ca.crt"])
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair},
		VerifyConnection: func(c tls.ConnectionState) error {
			serial = c.PeerCertificates[0].SerialNumber.Text(16)
			return nil
		},
	})))
	if err != nil {
		return "", err
	}
	_, err = healthv1.NewHealthClient(connection).Check(ctx, &healthv1.HealthCheckRequest{})
	return serial, errors.Join(err, connection.Close())
}
