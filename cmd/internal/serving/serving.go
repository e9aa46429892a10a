// Package serving runs a gRPC server beside a controller-runtime manager: with panics recovered, the
// standard health service, and a shutdown that is graceful and bounded.
package serving

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"slices"
	"time"

	"github.com/go-logr/logr"
	grpcprometheus "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/inbound"
)

// Server is a gRPC server that a manager runs on every replica, leader or not.
type Server struct {
	// Name is what the log calls it.
	Name string
	// Address is host:port to listen on.
	Address string
	// Register adds the services.
	Register func(grpc.ServiceRegistrar)
	// Limits are what peers may ask.
	Limits Limits
	// Options are added to the server's own.
	Options []grpc.ServerOption
	// Ready blocks until requests can be answered, or returns false when the context ends first.
	Ready func(context.Context) bool
	// Trusted is an error while answers cannot be trusted; nil for always. Connections end that are older than UntrustedFor while
	// it has been an error for as long: another replica may be better off, and a client stays with the one that it is connected to.
	Trusted      func() error
	UntrustedFor time.Duration
	// ShutdownTimeout is how long requests under way may take when the process ends.
	ShutdownTimeout time.Duration
	// Metrics is where requests and panics are counted.
	Metrics prometheus.Registerer
	Log     logr.Logger
}

var (
	_ manager.Runnable               = (*Server)(nil)
	_ manager.LeaderElectionRunnable = (*Server)(nil)
)

// NeedLeaderElection implements manager.LeaderElectionRunnable: every replica serves.
func (*Server) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable. It serves until the context ends.
func (s *Server) Start(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Address)
	if err != nil {
		return fmt.Errorf("listen for %s on %s: %w", s.Name, s.Address, err)
	}
	requests, panics, turned, err := s.metrics()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	recovered := recovery.WithRecoveryHandlerContext(func(_ context.Context, p any) error {
		panics.Inc()
		s.Log.Error(nil, "Recovered from a panic", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		return status.Error(codes.Internal, "the server has panicked; its log says where")
	})
	bounded := inbound.New(listener, *s.Limits.inbound(), turned)
	limitUnary, limitStream := s.Limits.interceptors()
	server := grpc.NewServer(slices.Concat([]grpc.ServerOption{
		// What is refused counts, and a request that panics counts as one that ended with Internal.
		grpc.ChainUnaryInterceptor(readUnary, requests.UnaryServerInterceptor(), recovery.UnaryServerInterceptor(recovered), limitUnary),
		grpc.ChainStreamInterceptor(readStream, requests.StreamServerInterceptor(), recovery.StreamServerInterceptor(recovered), limitStream),
		grpc.StatsHandler(&oversized{turned}),
		grpc.InTapHandle(newReads(s.Limits.Unfinished, s.Limits.ReadWithin, s.Limits.UntilAnswered).begin),
	}, s.Limits.options(), s.Options)...)
	s.Register(server)
	requests.InitializeMetrics(server)
	healthServer := health.NewServer()
	healthServer.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	healthv1.RegisterHealthServer(server, &checks{healthServer})

	ended := make(chan error, 1)
	go func() { ended <- server.Serve(bounded) }()
	s.Log.Info("Serving gRPC", "service", s.Name, "address", listener.Addr().String())
	go func() {
		if s.Ready(ctx) {
			healthServer.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
		}
	}()
	watched := s.watchTrust(ctx, bounded)
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", s.Name, err)
	case <-ctx.Done():
	}
	<-watched
	healthServer.Shutdown()
	stopped := make(chan struct{})
	go func() { server.GracefulStop(); close(stopped) }()
	timer := time.NewTimer(s.ShutdownTimeout)
	defer timer.Stop()
	select {
	case <-stopped:
	case <-timer.C:
		s.Log.Info("Ending requests that are still under way", "service", s.Name, "afterSeconds", s.ShutdownTimeout.Seconds())
		server.Stop()
		<-stopped
	}
	if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve %s: %w", s.Name, err)
	}
	return nil
}

// namespace is the prefix of the names of all metrics.
const namespace = "ensemble_autoscaler"

// metrics registers what counts requests, by method and code, with their latencies, panics, and what is turned away. The servers
// of a process share it.
func (s *Server) metrics() (requests *grpcprometheus.ServerMetrics, panics prometheus.Counter, turned *inbound.Turned, err error) {
	requests = grpcprometheus.NewServerMetrics(
		grpcprometheus.WithServerCounterOptions(grpcprometheus.WithNamespace(namespace)),
		grpcprometheus.WithServerHandlingTimeHistogram(
			grpcprometheus.WithHistogramNamespace(namespace),
			// From 100 microseconds, which an answer from memory takes, to 6 seconds, beyond Cluster Autoscaler's patience.
			grpcprometheus.WithHistogramBuckets(prometheus.ExponentialBuckets(0.0001, 3, 11)),
		),
	)
	panics = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: namespace, Name: "grpc_panics_recovered_total", Help: "Requests that panicked.",
	})
	if requests, err = registered(s.Metrics, requests); err == nil {
		panics, err = registered(s.Metrics, panics)
	}
	if err == nil {
		turned, err = inbound.NewTurned(s.Metrics, s.Name)
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("register the metrics of %s: %w", s.Name, err)
	}
	return requests, panics, turned, nil
}

// registered registers a collector, or returns the one that is registered in its place already.
func registered[C prometheus.Collector](registerer prometheus.Registerer, c C) (C, error) {
	err := registerer.Register(c)
	if already, is := errors.AsType[prometheus.AlreadyRegisteredError](err); is {
		if there, is := already.ExistingCollector.(C); is {
			return there, nil
		}
	}
	return c, err
}
