package process

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/metricsauth"
)

// flooded are limits that a test reaches.
func flooded() *HTTPLimits {
	return &HTTPLimits{Connections: 64, PerAddress: 8, BodyBytes: 8 << 20, MetricsPerSecond: 0.001, ReviewsPerSecond: 1000}
}

// free is an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String()
}

// clientFrom asks from an address of this host.
func clientFrom(t *testing.T, from string) *http.Client {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext:     (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext, ForceAttemptHTTP2: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

func post(t *testing.T, client *http.Client, url string, body io.Reader) (int, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, errors.Join(err, response.Body.Close())
}

// runs has something run until the test ends.
func runs(t *testing.T, start func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestWebhookFlood: an address that sends large bodies, keeps silent or opens many connections takes little memory from the webhooks and
// keeps nobody else from asking. It measures the process and runs alone.
func TestWebhookFlood(t *testing.T) { //nolint:paralleltest // see above
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	pair := certificate.TLS.Certificates[0]
	certificate.Close()
	registry := prometheus.NewRegistry()
	address := free(t)
	shown := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }
	server := NewWebhookServer(address, flooded(), shown, registry, logr.Discard())
	server.Register("/review", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	runs(t, server.Start)
	url := "https://" + address + "/review"
	other := clientFrom(t, "127.0.0.2")
	serves := func(while string) {
		t.Helper()
		for range 5 {
			if code, err := post(t, other, url, strings.NewReader("a review")); err != nil || code != http.StatusOK {
				t.Errorf("while %s: %d, %v", while, code, err)
			}
		}
	}
	if err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) {
		_, err := post(t, other, url, http.NoBody)
		return err == nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	before := inUse()

	// Bodies of 6 MiB, many at a time, the last byte of which does not come before the other has been served.
	var group sync.WaitGroup
	let := make(chan struct{})
	turned := turnedAway(t, registry, "Webhooks", "body_bytes")
	large := make([]byte, 6<<20)
	for range 4 {
		stranger := clientFrom(t, "127.0.0.3")
		for range 10 {
			group.Go(func() {
				_, _ = post(t, stranger, url, io.MultiReader(bytes.NewReader(large), &waiting{let})) // It may be ended at any moment.
			})
		}
	}
	if err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		return turnedAway(t, registry, "Webhooks", "body_bytes") > turned, nil
	}); err != nil {
		t.Errorf("40 bodies of 6 MiB, and none was too much: %v", err)
	}
	serves("one address has 40 large bodies")
	if grown := int64(inUse()) - int64(before); grown > 64<<20 {
		t.Errorf("40 bodies of 6 MiB take %d MiB", grown>>20)
	}
	close(let)
	group.Wait()

	var silent []net.Conn
	for i := range 100 {
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(10+i%20))}}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, conn)
	}
	serves("100 connections never begin to speak TLS")
	for _, conn := range silent {
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("a silent connection is still open after 20 s: %v", err)
		}
		_ = conn.Close()
	}
	// A connection that is of use is not taken for one in its handshake, however old it is.
	if !reuses(t, other, url) {
		t.Error("the connection of the other has ended")
	}
	for _, reason := range []string{"connections", "handshake"} {
		if turnedAway(t, registry, "Webhooks", reason) == 0 {
			t.Errorf("nothing is counted as turned away for %s", reason)
		}
	}
}

// TestWebhookParts: a replica whose answers cannot be trusted any more ends the connection of the API server with its next answer, so that
// it finds another one; and keeps it again when they can be.
func TestWebhookParts(t *testing.T) {
	t.Parallel()
	certificate := httptest.NewUnstartedServer(nil)
	certificate.StartTLS()
	pair := certificate.TLS.Certificates[0]
	certificate.Close()
	address := free(t)
	server := NewWebhookServer(address, flooded(), func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil },
		prometheus.NewRegistry(), logr.Discard())
	var lost atomic.Bool
	server.Trusted = func() error {
		if lost.Load() {
			return errors.New("the API server is out of reach")
		}
		return nil
	}
	server.Register("/review", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	runs(t, server.Start)
	url, client := "https://"+address+"/review", clientFrom(t, "127.0.0.2")
	until := func(what string, want bool) {
		t.Helper()
		if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
			if _, err := post(t, client, url, http.NoBody); err != nil {
				return false, nil //nolint:nilerr // It does not serve yet.
			}
			return reuses(t, client, url) == want, nil
		}); err != nil {
			t.Errorf("%s: connections are used again: %t", what, !want)
		}
	}
	until("at first", true)
	lost.Store(true)
	until("when the API server is out of reach", false)
	lost.Store(false)
	until("when it is back", true)
}

// reuses reports whether a client asks on a connection that it has used before.
func reuses(t *testing.T, client *http.Client, url string) (reused bool) {
	t.Helper()
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
	}), http.MethodPost, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	return reused
}

// waiting ends when it is let.
type waiting struct{ let chan struct{} }

func (w *waiting) Read([]byte) (int, error) { <-w.let; return 0, io.EOF }

func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func turnedAway(t *testing.T, registry *prometheus.Registry, server, reason string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			if family.GetName() == "ensemble_autoscaler_turned_away_total" && labels["server"] == server && labels["reason"] == reason {
				return metric.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("there is no counter of what %s has turned away for %s", server, reason)
	return 0
}

// TestMetricsFlood: an address that asks for metrics again and again is refused, and another is not; probes are served beside them.
func TestMetricsFlood(t *testing.T) {
	t.Parallel()
	mgr, err := manager.New(&rest.Config{Host: "https://127.0.0.1:1"}, manager.Options{
		Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
	})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	gathered := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "a_total", Help: "What is gathered."}, func() float64 { return 1 })
	if err := registry.Register(gathered); err != nil {
		t.Fatal(err)
	}
	own := newManaged(mgr)
	metrics, health := free(t), free(t)
	if err := errors.Join(
		serveMetrics(mgr, &Config{HTTP: *flooded(), MetricsAddress: metrics}, registry, logr.Discard()),
		serveHTTP(mgr, flooded(), "Probes", health, nil, own.probes.handler, registry),
		own.AddReadyzCheck("caches", func(*http.Request) error { return errors.New("not yet") }),
	); err != nil {
		t.Fatal(err)
	}
	if err := own.AddReadyzCheck("caches", nil); err == nil {
		t.Error("two probes of one name are taken")
	}
	runs(t, own.Start)
	get := func(from, url string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := clientFrom(t, from).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(content)
	}
	refused := 0
	for range 2 * metricsBurst {
		switch code, content := get("127.0.0.3", "http://"+metrics+"/metrics"); {
		case code == http.StatusTooManyRequests && strings.Contains(content, "--max-metrics-requests-per-second"):
			refused++
		case code != http.StatusOK || !strings.Contains(content, "a_total 1"):
			t.Errorf("metrics: %d %s", code, content)
		}
	}
	if refused != metricsBurst {
		t.Errorf("of %d requests at once %d are refused, want %d", 2*metricsBurst, refused, metricsBurst)
	}
	if code, _ := get("127.0.0.2", "http://"+metrics+"/metrics"); code != http.StatusOK {
		t.Errorf("the other address gets %d", code)
	}
	for path, want := range map[string]int{
		"/healthz": http.StatusOK, "/readyz": http.StatusInternalServerError, "/readyz/caches": http.StatusInternalServerError,
	} {
		if code, content := get("127.0.0.2", "http://"+health+path); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, content, want)
		}
	}
	if count, err := testutil.GatherAndCount(registry, "ensemble_autoscaler_turned_away_total"); err != nil || count == 0 {
		t.Errorf("%d counters of what was turned away, %v", count, err)
	}
	if got := turnedAway(t, registry, "Metrics", "rate"); got != float64(refused) {
		t.Errorf("%s are counted as refused, want %d", fmt.Sprint(got), refused)
	}
}

// TestMetricsForReaders: with --metrics-authorization the metrics are told over TLS, and to nobody who does not say who he is.
func TestMetricsForReaders(t *testing.T) {
	t.Parallel()
	mgr, err := manager.New(&rest.Config{Host: "https://127.0.0.1:1"}, manager.Options{
		Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
	})
	if err != nil {
		t.Fatal(err)
	}
	address := free(t)
	config := &Config{HTTP: *flooded(), MetricsAddress: address, Metrics: metricsauth.Authorization{Required: true}}
	if err := serveMetrics(mgr, config, prometheus.NewRegistry(), logr.Discard()); err != nil {
		t.Fatal(err)
	}
	runs(t, mgr.Start)
	for url, want := range map[string]int{
		"https://" + address + "/metrics": http.StatusUnauthorized, "http://" + address + "/metrics": http.StatusBadRequest,
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := clientFrom(t, "127.0.0.2").Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != want {
			t.Errorf("%s: %d, want %d", url, response.StatusCode, want)
		}
	}
}
