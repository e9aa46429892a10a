package process

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/spf13/pflag"
	"golang.org/x/time/rate"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/inbound"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/metricsauth"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/trust"
)

// HTTPLimits are what the peers of one port that speaks HTTP may take: that of metrics, that of probes, that of webhooks.
type HTTPLimits struct {
	// Connections and PerAddress are the numbers of connections, in all and from one address. Of too many the newest is let in.
	Connections, PerAddress int
	// BodyBytes is what the bodies of the requests under way may have in all, in bytes. Where they have more, the largest one of the
	// address that has most is given up.
	BodyBytes int
	// MetricsPerSecond is how often one address may ask for metrics: each answer tells of every pool and member.
	MetricsPerSecond float64
	// ReviewsPerSecond is how often one address may ask a webhook. An API server asks for each object of a kind that is opted in.
	ReviewsPerSecond float64
}

// AddFlags declares the flags. The values that the limits have are the defaults.
func (l *HTTPLimits) AddFlags(flags *pflag.FlagSet) {
	flags.IntVar(&l.Connections, httpConnectionsFlag, l.Connections,
		"connections of each port that speaks HTTP; of too many the newest stays and the quietest ends; 0 for no limit")
	flags.IntVar(&l.PerAddress, httpPerAddressFlag, l.PerAddress,
		"the same from one IP address, or from one IPv6 network of 64 bits; 0 for no limit")
	flags.IntVar(&l.BodyBytes, "max-http-body-bytes", l.BodyBytes,
		"bytes that the bodies of HTTP requests under way may have, on each port; of more the largest of the address that has most is given up")
	flags.Float64Var(&l.MetricsPerSecond, metricsRateFlag, l.MetricsPerSecond, "times in a second that one IP address may ask for metrics")
}

// AddWebhookFlags declares those of a program that has webhooks.
func (l *HTTPLimits) AddWebhookFlags(flags *pflag.FlagSet) {
	l.ReviewsPerSecond = 500
	flags.Float64Var(&l.ReviewsPerSecond, reviewsRateFlag, l.ReviewsPerSecond,
		"reviews in a second that one IP address, which should be an API server's, may ask for; twice as many at once")
}

const (
	httpConnectionsFlag, httpPerAddressFlag = "max-http-connections", "max-http-connections-per-address"
	metricsRateFlag, reviewsRateFlag        = "max-metrics-requests-per-second", "max-reviews-per-second"
	minBodyBytes                            = 16 << 20
	// metricsBurst is how often an address may ask for metrics at once.
	metricsBurst = 10
)

// Validate names the flag that cannot be.
func (l *HTTPLimits) Validate() error {
	switch {
	case l.BodyBytes < minBodyBytes:
		return fmt.Errorf("--max-http-body-bytes is %d; it must be at least %d: one review may take as much", l.BodyBytes, minBodyBytes)
	case l.MetricsPerSecond <= 0:
		return fmt.Errorf("--%s is %g; it must be positive", metricsRateFlag, l.MetricsPerSecond)
	}
	return l.inbound().Validate(httpConnectionsFlag, httpPerAddressFlag)
}

func (l *HTTPLimits) inbound() *inbound.Limits {
	return &inbound.Limits{Connections: l.Connections, PerAddress: l.PerAddress, Handshake: httpHeaderWithin}
}

const (
	// httpHeaderWithin is how long a connection may take until it is of use, and the headers of a request; httpReadWithin how long a
	// request may take to come whole, httpWriteWithin how long its answer may take after that. The API server waits for a webhook
	// for 10 seconds, Prometheus for its metrics as long by default.
	httpHeaderWithin, httpReadWithin, httpWriteWithin = 5 * time.Second, 10 * time.Second, 15 * time.Second
	// httpIdle is how long a connection may be open without a request. The API server keeps one to each webhook.
	httpIdle = 90 * time.Second
	// httpHeaderBytes is the size of the headers of a request. The API server sends some hundred bytes.
	httpHeaderBytes = 16 << 10
	// httpStreams is how many requests one connection of HTTP/2 may have under way. Each review of the API server is one; more wait.
	httpStreams = 100
	// httpStreamBuffer and httpBuffer are how many bytes a client may send ahead of what is read, for a request and for a connection.
	httpStreamBuffer, httpBuffer = 64 << 10, 256 << 10
)

// httpServer is a server that keeps the limits, on a listener that does too.
func (l *HTTPLimits) httpServer(handler http.Handler, turned *inbound.Turned, log logr.Logger) *http.Server {
	return &http.Server{
		Handler:           newBodies(l.BodyBytes, turned).limit(handler),
		ReadHeaderTimeout: httpHeaderWithin, ReadTimeout: httpReadWithin, WriteTimeout: httpWriteWithin, IdleTimeout: httpIdle,
		MaxHeaderBytes: httpHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: httpStreams, MaxReceiveBufferPerStream: httpStreamBuffer, MaxReceiveBufferPerConnection: httpBuffer,
			SendPingTimeout: time.Minute, WriteByteTimeout: httpWriteWithin,
		},
		ConnState: established, ErrorLog: slog.NewLogLogger(&sometimes{logr.ToSlogHandler(log), rate.NewLimiter(1, errorBurst)}, why),
	}
}

// errorBurst is how many errors of connections are logged at once; then one is in a second. Whoever reaches a port can cause them.
const errorBurst = 10

// why is the verbosity of such errors: 1, as slog has it.
const why = slog.Level(-1)

// sometimes logs what the server of net/http has to say, unless it is too much.
type sometimes struct {
	slog.Handler
	limiter *rate.Limiter
}

// Handle implements slog.Handler.
func (s *sometimes) Handle(ctx context.Context, record slog.Record) error {
	if !s.limiter.Allow() {
		return nil
	}
	return s.Handler.Handle(ctx, record) //nolint:wrapcheck // It is the handler's own.
}

// established tells the listener that a connection is of use: its TLS handshake, if any, and the first headers, or the settings of
// HTTP/2, have come.
func established(conn net.Conn, state http.ConnState) {
	if state != http.StateActive {
		return
	}
	if over, ok := conn.(*tls.Conn); ok {
		conn = over.NetConn()
	}
	if bounded, ok := conn.(*inbound.Conn); ok {
		bounded.Established()
	}
}

// listen opens a port. The manager serves it from its start on.
func (l *HTTPLimits) listen(name, address string, turned *inbound.Turned) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for %s on %s: %w", name, address, err)
	}
	return inbound.New(listener, *l.inbound(), turned), nil
}

// serveHTTP adds a server to a manager, without TLS where there is no configuration of it: controller-runtime's own for metrics and
// probes take any number of connections.
func serveHTTP(
	mgr manager.Manager, limits *HTTPLimits, name, address string, over *tls.Config, handler func(*inbound.Turned) http.Handler,
	registerer prometheus.Registerer,
) error {
	// The handler counts with what the server counts with.
	turned, err := inbound.NewTurned(registerer, name)
	if err != nil {
		return err
	}
	server := limits.httpServer(handler(turned), turned, mgr.GetLogger().WithName(strings.ToLower(name)))
	listener, err := limits.listen(name, address, turned)
	if err != nil {
		return err
	}
	if over != nil {
		server.TLSConfig, listener = over, tls.NewListener(listener, over)
	}
	timeout := ShutdownTimeout
	if err := mgr.Add(&manager.Server{Name: name, Server: server, Listener: listener, ShutdownTimeout: &timeout}); err != nil {
		return errors.Join(fmt.Errorf("add the server of %s to the manager: %w", name, err), listener.Close())
	}
	return nil
}

// serveMetrics adds a server of what a registry gathers, to those who may read it. Whoever asks often is refused.
func serveMetrics(mgr manager.Manager, config *Config, registry metrics.RegistererGatherer, log logr.Logger) error {
	var over *tls.Config
	if config.Metrics.Required {
		var err error
		if over, err = config.Metrics.TLS(); err != nil {
			return err
		}
	}
	guarded, err := config.Metrics.Guard(promhttp.HandlerFor(&lately{gatherer: registry}, promhttp.HandlerOpts{
		// To compress takes a megabyte for each request under way.
		ErrorHandling: promhttp.HTTPErrorOnError, ErrorLog: logged{log}, DisableCompression: true,
	}), mgr.GetClient(), clock.RealClock{}, registry, log)
	if err != nil {
		return err
	}
	handler := func(turned *inbound.Turned) http.Handler {
		mux := http.NewServeMux()
		mux.Handle(metricsauth.Path, newRated(metricsRateFlag, config.HTTP.MetricsPerSecond, metricsBurst, turned).limit(guarded))
		return mux
	}
	return serveHTTP(mgr, &config.HTTP, "Metrics", config.MetricsAddress, over, handler, registry)
}

// gatherEvery is for how long what was gathered is good enough for another request. However many ask, and however slowly they read, there
// are as many copies of it as seconds that an answer may take.
const gatherEvery = time.Second

// lately is a gatherer that does not gather again what it has just gathered.
type lately struct {
	gatherer prometheus.Gatherer

	mu       sync.Mutex
	at       time.Time
	families []*dto.MetricFamily
	err      error
}

// Gather implements prometheus.Gatherer.
func (l *lately) Gather() ([]*dto.MetricFamily, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at.IsZero() || time.Since(l.at) >= gatherEvery {
		l.families, l.err = l.gatherer.Gather()
		l.at = time.Now()
	}
	return l.families, l.err //nolint:wrapcheck // The handler of metrics knows these errors.
}

// logged is the log of Prometheus' handler.
type logged struct{ log logr.Logger }

// Println implements promhttp.Logger.
func (l logged) Println(v ...any) { l.log.Info("Metrics are not complete", "what", fmt.Sprint(v...)) }

// probes are what readiness and liveness are asked of. A manager takes them in and does not give them out.
type probes struct{ live, ready healthz.Handler }

// managed is a manager whose probes are served here.
type managed struct {
	manager.Manager
	probes *probes
}

func newManaged(mgr manager.Manager) *managed {
	return &managed{Manager: mgr, probes: &probes{
		live: healthz.Handler{Checks: map[string]healthz.Checker{}}, ready: healthz.Handler{Checks: map[string]healthz.Checker{}},
	}}
}

// AddHealthzCheck implements manager.Manager.
func (m *managed) AddHealthzCheck(name string, check healthz.Checker) error {
	return add(&m.probes.live, name, check)
}

// AddReadyzCheck implements manager.Manager.
func (m *managed) AddReadyzCheck(name string, check healthz.Checker) error {
	return add(&m.probes.ready, name, check)
}

// add adds a check. All are added before the manager starts.
func add(to *healthz.Handler, name string, check healthz.Checker) error {
	if _, there := to.Checks[name]; there {
		return fmt.Errorf("add the probe %s: there is one of that name", name)
	}
	to.Checks[name] = check
	return nil
}

func (p *probes) handler(*inbound.Turned) http.Handler {
	mux := http.NewServeMux()
	for path, handler := range map[string]*healthz.Handler{"/healthz": &p.live, "/readyz": &p.ready} {
		mux.Handle(path, http.StripPrefix(path, handler))
		mux.Handle(path+"/", http.StripPrefix(path, handler))
	}
	return mux
}

// parting ends connections with the answers that they bring, while it is told to.
type parting struct{ parts atomic.Bool }

func (p *parting) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if p.parts.Load() {
			// Over HTTP/2 the client is told to go away, and requests that are under way are answered.
			rw.Header().Set("Connection", "close")
		}
		next.ServeHTTP(rw, r)
	})
}

// WebhookServer serves webhooks within limits. controller-runtime's own takes any number of connections, of requests on each, and
// of bytes.
type WebhookServer struct {
	webhook.Server
	// Trusted says why answers cannot be trusted, nil where they can; nil for always. When they could not be for UntrustedFor, each
	// answer ends its connection: the API server keeps one to a replica for as long as it works, and is to find another one.
	Trusted      func() error
	UntrustedFor time.Duration

	mux        *http.ServeMux
	limits     *HTTPLimits
	address    string
	tls        *tls.Config
	registerer prometheus.Registerer
	log        logr.Logger
}

var _ webhook.Server = (*WebhookServer)(nil)

// NewWebhookServer serves at an address, with whatever certificate getCertificate returns for each connection.
func NewWebhookServer(
	address string, limits *HTTPLimits, getCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error),
	registerer prometheus.Registerer, log logr.Logger,
) *WebhookServer {
	mux := http.NewServeMux()
	return &WebhookServer{
		// It registers webhooks with their metrics, and is never started.
		Server: webhook.NewServer(webhook.Options{WebhookMux: mux}),
		mux:    mux, limits: limits, address: address, registerer: registerer, log: log,
		tls: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: getCertificate, NextProtos: []string{"h2", "http/1.1"}},
	}
}

// Start implements webhook.Server. It serves until the context ends.
func (s *WebhookServer) Start(ctx context.Context) error {
	const name = "Webhooks"
	turned, err := inbound.NewTurned(s.registerer, name)
	if err != nil {
		return err
	}
	reviews := newRated(reviewsRateFlag, s.limits.ReviewsPerSecond, int(2*s.limits.ReviewsPerSecond), turned)
	parting := &parting{}
	if s.Trusted != nil {
		watching := make(chan struct{})
		watch, end := context.WithCancel(ctx)
		go func() {
			defer close(watching)
			trust.Watch(watch, s.Trusted, s.UntrustedFor, parting.parts.Store)
		}()
		defer func() { end(); <-watching }()
	}
	server := s.limits.httpServer(reviews.limit(parting.limit(s.mux)), turned, s.log)
	server.TLSConfig = s.tls
	listener, err := s.limits.listen(name, s.address, turned)
	if err != nil {
		return err
	}
	s.log.Info("Serving webhooks", "address", listener.Addr().String())
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(listener, "", "") }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve webhooks: %w", err)
	case <-ctx.Done():
	}
	// The context has ended; what is under way may still take a while.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), ShutdownTimeout)
	defer cancel()
	err = server.Shutdown(bounded)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("end serving webhooks: %w", err)
	}
	return nil
}
