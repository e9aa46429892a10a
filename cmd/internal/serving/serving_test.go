package serving_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/serving"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answers does what the id of a request says.
type answers struct {
	externalgrpc.UnimplementedCloudProviderServer
	// arrived is told of each request that waits, let lets one go.
	arrived, let chan struct{}
}

func (a *answers) NodeGroupTargetSize(
	ctx context.Context, request *externalgrpc.NodeGroupTargetSizeRequest,
) (*externalgrpc.NodeGroupTargetSizeResponse, error) {
	switch request.GetId() {
	case "panic":
		panic("as asked")
	case "wait":
		a.arrived <- struct{}{}
		select {
		case <-a.let:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &externalgrpc.NodeGroupTargetSizeResponse{}, nil
}

type served struct {
	*answers
	address  string
	registry *prometheus.Registry
}

// serve runs a server until the test ends.
func serve(t *testing.T, limits serving.Limits) *served {
	t.Helper()
	return serveWith(t, limits, func(*serving.Server) {})
}

// serveWith is serve with settings of its own.
func serveWith(t *testing.T, limits serving.Limits, set func(*serving.Server)) *served {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{
		answers: &answers{arrived: make(chan struct{}, 100), let: make(chan struct{}, 100)},
		address: listener.Addr().String(), registry: prometheus.NewRegistry(),
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	server := &serving.Server{
		Name: "test", Address: s.address, Limits: limits, Metrics: s.registry, Log: logr.Discard(), ShutdownTimeout: time.Second,
		Register: func(r grpc.ServiceRegistrar) { externalgrpc.RegisterCloudProviderServer(r, s) },
		Ready:    func(context.Context) bool { return true },
	}
	set(server)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// from connects from an address of this host.
func (s *served) from(t *testing.T, ip string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil && status.Code(err) != codes.Canceled {
			t.Error(err)
		}
	})
	return conn
}

func ask(ctx context.Context, conn *grpc.ClientConn, id string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, err := externalgrpc.NewCloudProviderClient(conn).NodeGroupTargetSize(ctx, &externalgrpc.NodeGroupTargetSizeRequest{Id: id})
	return err
}

var generous = serving.Limits{RequestsPerSecond: 1000, Burst: 1000, RequestBytes: 4096, Streams: 100, HandshakeWithin: 20 * time.Second}

// TestFlood: a peer that asks too often is refused with the limit's name, is still told that the server is well, and
// takes nothing from another peer.
func TestFlood(t *testing.T) {
	t.Parallel()
	limits := generous
	// No token comes back while the test runs.
	limits.RequestsPerSecond, limits.Burst = 0.001, 10
	s := serve(t, limits)
	flood, other := s.from(t, "127.0.0.2"), s.from(t, "127.0.0.3")
	for i := range 10 {
		if err := ask(t.Context(), flood, "a"); err != nil {
			t.Fatalf("request %d of a burst of 10: %v", i+1, err)
		}
	}
	for range 5 {
		err := ask(t.Context(), flood, "a")
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(
			err.Error(), "the address 127.0.0.2 makes more than 0.001 requests a second (--max-requests-per-second",
		) {
			t.Errorf("beyond the burst: %v", err)
		}
	}
	if err := ask(t.Context(), other, "a"); err != nil {
		t.Errorf("the other peer: %v", err)
	}
	var health *healthv1.HealthCheckResponse
	var err error
	// It is told a moment after the start.
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); {
		health, err = healthv1.NewHealthClient(flood).Check(t.Context(), &healthv1.HealthCheckRequest{})
		if err != nil || health.GetStatus() == healthv1.HealthCheckResponse_SERVING {
			break
		}
	}
	if err != nil || health.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("its health is %v, %v", health, err)
	}
	// Nobody watches it: a watch has the place of a request for as long as it likes.
	watch, err := healthv1.NewHealthClient(flood).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err == nil {
		_, err = watch.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("a watch of its health ends with %v, want Unimplemented", err)
	}
	s.handled(t, codes.ResourceExhausted, 5)
	s.handled(t, codes.OK, 11)
}

// handled checks how many requests have ended with a code.
func (s *served) handled(t *testing.T, code codes.Code, want int) {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for _, family := range families {
		if family.GetName() != "ensemble_autoscaler_grpc_server_handled_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			if labels["grpc_code"] == code.String() && labels["grpc_method"] == "NodeGroupTargetSize" {
				got += int(metric.GetCounter().GetValue())
			}
		}
	}
	if got != want {
		t.Errorf("%d requests are counted that ended with %s, want %d", got, code, want)
	}
}

func TestLargeRequest(t *testing.T) {
	t.Parallel()
	s := serve(t, generous)
	conn := s.from(t, "127.0.0.1")
	if err := ask(t.Context(), conn, strings.Repeat("x", 4000)); err != nil {
		t.Errorf("a request of 4000 bytes: %v", err)
	}
	if err := ask(
		t.Context(), conn, strings.Repeat("x", 5000),
	); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "larger than max") {
		t.Errorf("a request of 5000 bytes: %v", err)
	}
	if err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) {
		return s.turnedAway(t, "request_bytes") == 1, nil
	}); err != nil {
		t.Errorf("%g requests are counted that were too large", s.turnedAway(t, "request_bytes"))
	}
}

// TestStreams: of more requests than one connection may have under way, the others wait and are answered then.
func TestStreams(t *testing.T) {
	t.Parallel()
	limits := generous
	limits.Streams = 2
	s := serve(t, limits)
	conn := s.from(t, "127.0.0.1")
	// The client learns of the limit with the first answer.
	if err := ask(t.Context(), conn, "a"); err != nil {
		t.Fatal(err)
	}
	results := make(chan error, 4)
	for range cap(results) {
		go func() { results <- ask(context.Background(), conn, "wait") }()
	}
	<-s.arrived
	<-s.arrived
	for ended := 1; ended <= cap(results); ended++ {
		if len(s.arrived) > 0 {
			t.Error("more than two requests are under way")
		}
		s.let <- struct{}{}
		if err := <-results; err != nil {
			t.Error(err)
		}
		if ended <= cap(results)-2 {
			// The one that ended makes room for the next.
			<-s.arrived
		}
	}
}

// TestConnections: of a connection too many the newest is let in, and the client of the other one comes again.
func TestConnections(t *testing.T) {
	t.Parallel()
	limits := generous
	limits.Connections, limits.ConnectionsPerAddress = 1, 1
	s := serve(t, limits)
	asks, other := s.from(t, "127.0.0.2"), s.from(t, "127.0.0.3")
	for turn := range 6 {
		if err := ask(t.Context(), asks, "a"); err != nil {
			t.Errorf("turn %d of two clients for whom there is one connection: %v", turn+1, err)
		}
		ready(t, asks)
		asks, other = other, asks
		// The one that gave way has to learn of it: what it sends before is lost with its connection.
		if !asks.WaitForStateChange(t.Context(), connectivity.Ready) {
			t.Fatal("the client that gave way still takes itself for connected")
		}
	}
	if s.turnedAway(t, "connections") < 3 {
		t.Errorf("%g connections are counted that made room for others", s.turnedAway(t, "connections"))
	}
}

// ready waits until a client knows that it is connected: an answer may come before.
func ready(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			t.Fatalf("the connection is %s after an answer", state)
		}
	}
}

// TestTrust: a server whose answers cannot be trusted for a while ends its connections, and says why until then.
func TestTrust(t *testing.T) {
	t.Parallel()
	var untrusted atomic.Bool
	s := serveWith(t, generous, func(server *serving.Server) {
		server.UntrustedFor = time.Second
		server.Trusted = func() error {
			if untrusted.Load() {
				return errors.New("the API server is gone")
			}
			return nil
		}
	})
	conn := s.from(t, "127.0.0.2")
	if err := ask(t.Context(), conn, "a"); err != nil {
		t.Fatal(err)
	}
	ready(t, conn)
	untrusted.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if !conn.WaitForStateChange(ctx, connectivity.Ready) {
		t.Fatal("the connection is still open after 20 s without trust")
	}
	untrusted.Store(false)
	if err := ask(t.Context(), conn, "a"); err != nil {
		t.Errorf("when it is trusted again: %v", err)
	}
	if s.turnedAway(t, "untrusted") == 0 {
		t.Error("no connection is counted that was ended for want of trust")
	}
}

// TestPanic: a request that panics is answered, counted, and ends nothing.
func TestPanic(t *testing.T) {
	t.Parallel()
	s := serve(t, generous)
	conn := s.from(t, "127.0.0.1")
	if err := ask(t.Context(), conn, "panic"); status.Code(err) != codes.Internal {
		t.Errorf("a request that panics: %v", err)
	}
	if err := ask(t.Context(), conn, "a"); err != nil {
		t.Errorf("the next one: %v", err)
	}
	want := "# HELP ensemble_autoscaler_grpc_panics_recovered_total Requests that panicked.\n" +
		"# TYPE ensemble_autoscaler_grpc_panics_recovered_total counter\nensemble_autoscaler_grpc_panics_recovered_total 1\n"
	if err := testutil.GatherAndCompare(s.registry, strings.NewReader(want), "ensemble_autoscaler_grpc_panics_recovered_total"); err != nil {
		t.Error(err)
	}
	s.handled(t, codes.Internal, 1)
}

// TestManyPeers: peers that are not heard of any more are forgotten, so that their number is no burden.
func TestManyPeers(t *testing.T) {
	t.Parallel()
	limits := generous
	limits.RequestsPerSecond, limits.Burst = 0.001, 1
	s := serve(t, limits)
	var failed []error
	for i := range 50 {
		if err := ask(t.Context(), s.from(t, fmt.Sprintf("127.0.1.%d", i+1)), "a"); err != nil {
			failed = append(failed, err)
		}
	}
	if err := errors.Join(failed...); err != nil {
		t.Errorf("peers with one request each: %v", err)
	}
}
