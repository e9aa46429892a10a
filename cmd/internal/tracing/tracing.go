// Package tracing sends a trace of each sampled gRPC request to an OpenTelemetry collector, where that is asked for.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// Config says whether there are traces, and of what.
type Config struct {
	// Endpoint is host:port of a collector that speaks OTLP over gRPC. Empty means no traces.
	Endpoint string
	// Insecure is to reach it without TLS.
	Insecure bool
	// Ratio is the share of requests that are traced, unless their caller has decided that.
	Ratio float64
}

// AddFlags declares the flags.
func (c *Config) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(
		&c.Endpoint, "trace-endpoint", "",
		"host:port of an OpenTelemetry collector, OTLP over gRPC, to send traces of gRPC requests to; without it there are none",
	)
	flags.BoolVar(&c.Insecure, "trace-insecure", false, "reach the collector without TLS")
	flags.Float64Var(
		&c.Ratio, "trace-sample-ratio", 0.01,
		"share of the gRPC requests that are traced, from 0 to 1; Cluster Autoscaler makes thousands in a loop",
	)
}

// Validate names the flag that cannot be.
func (c *Config) Validate() error {
	if c.Ratio < 0 || c.Ratio > 1 {
		return fmt.Errorf("--trace-sample-ratio is %g; it must be from 0 to 1", c.Ratio)
	}
	if c.Endpoint == "" {
		return nil
	}
	if _, port, err := net.SplitHostPort(c.Endpoint); err != nil || port == "" {
		return fmt.Errorf("--trace-endpoint is %q; it must be host:port, as in collector.monitoring.svc:4317", c.Endpoint)
	}
	return nil
}

// flushWithin is how long the last traces may take to be sent when the process ends.
const flushWithin = 5 * time.Second

// Tracing sends traces while it runs. It runs on every replica.
type Tracing struct {
	provider *sdktrace.TracerProvider
}

var (
	_ manager.Runnable               = (*Tracing)(nil)
	_ manager.LeaderElectionRunnable = (*Tracing)(nil)
)

// New returns what sends traces of a service, and nil where none are asked for. A collector that cannot be reached is
// no error: it may come later, and the service does without.
func New(ctx context.Context, c *Config, service, version string, log logr.Logger) (*Tracing, error) {
	if c.Endpoint == "" {
		return nil, nil
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Info("Cannot send traces", "why", err.Error()) }))
	options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(c.Endpoint)}
	if c.Insecure {
		options = append(options, otlptracegrpc.WithInsecure())
	}
	exporter, err := otlptracegrpc.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("send traces to --trace-endpoint %s: %w", c.Endpoint, err)
	}
	return &Tracing{sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.Ratio))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", service), attribute.String("service.version", version),
		)),
	)}, nil
}

// ServerOptions make a server trace its requests; there are none for a nil Tracing, and requests cost nothing more.
func (t *Tracing) ServerOptions() []grpc.ServerOption {
	if t == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(propagation.TraceContext{}),
	))}
}

// Start implements manager.Runnable: it sends what is left when the context ends.
func (t *Tracing) Start(ctx context.Context) error {
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushWithin)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("send the last traces: %w", err)
	}
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (*Tracing) NeedLeaderElection() bool { return false }
