package tracing_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	tracev1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/tracing"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector keeps what it is sent: the name of each span with its attributes.
type collector struct {
	tracev1.UnimplementedTraceServiceServer
	spans chan string
}

func (c *collector) Export(_ context.Context, request *tracev1.ExportTraceServiceRequest) (*tracev1.ExportTraceServiceResponse, error) {
	for _, r := range request.GetResourceSpans() {
		var resource []string
		for _, a := range r.GetResource().GetAttributes() {
			resource = append(resource, a.GetKey()+"="+a.GetValue().GetStringValue())
		}
		for _, s := range r.GetScopeSpans() {
			for _, span := range s.GetSpans() {
				words := append([]string{span.GetName()}, resource...)
				for _, a := range span.GetAttributes() {
					words = append(words, a.GetKey()+"="+a.GetValue().String())
				}
				c.spans <- strings.Join(words, " ")
			}
		}
	}
	return &tracev1.ExportTraceServiceResponse{}, nil
}

// run serves until the test ends.
func run(t *testing.T, server *grpc.Server) (address string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// TestTraces: of each request there is a span with its method and code at the collector when the process has ended.
func TestTraces(t *testing.T) {
	got := &collector{spans: make(chan string, 10)}
	receiver := grpc.NewServer()
	tracev1.RegisterTraceServiceServer(receiver, got)
	config := &tracing.Config{Endpoint: run(t, receiver), Insecure: true, Ratio: 1}
	traces, err := tracing.New(t.Context(), config, "provider", "v1", logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(traces.ServerOptions()...)
	externalgrpc.RegisterCloudProviderServer(server, externalgrpc.UnimplementedCloudProviderServer{})
	conn, err := grpc.NewClient(run(t, server), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	_, err = externalgrpc.NewCloudProviderClient(conn).NodeGroupNodes(t.Context(), &externalgrpc.NodeGroupNodesRequest{Id: "hpc"})
	if status.Code(err) != codes.Unimplemented {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	server.GracefulStop()

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := traces.Start(ctx); err != nil {
		t.Fatal(err)
	}
	close(got.spans)
	spans := slices.Collect(func(yield func(string) bool) {
		for span := range got.spans {
			if !yield(span) {
				return
			}
		}
	})
	if len(spans) != 1 {
		t.Fatalf("the spans are %q, want one", spans)
	}
	for _, word := range []string{"CloudProvider/NodeGroupNodes", "service.name=provider", "service.version=v1", "status_code"} {
		if !strings.Contains(spans[0], word) {
			t.Errorf("the span %q does not say %s", spans[0], word)
		}
	}
}

func TestNoTraces(t *testing.T) {
	t.Parallel()
	traces, err := tracing.New(t.Context(), &tracing.Config{Ratio: 1}, "provider", "v1", logr.Discard())
	if traces != nil || err != nil || len(traces.ServerOptions()) > 0 {
		t.Errorf("without an endpoint there is %v, %v", traces, err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		config tracing.Config
		want   string
	}{
		"none":               {tracing.Config{Ratio: 0.5}, ""},
		"a collector":        {tracing.Config{Endpoint: "collector:4317", Ratio: 1}, ""},
		"no port":            {tracing.Config{Endpoint: "collector"}, `--trace-endpoint is "collector"; it must be host:port`},
		"a URL":              {tracing.Config{Endpoint: "http://collector:4317"}, "it must be host:port"},
		"more than all":      {tracing.Config{Ratio: 1.5}, "--trace-sample-ratio is 1.5; it must be from 0 to 1"},
		"less than none":     {tracing.Config{Ratio: -1}, "--trace-sample-ratio is -1; it must be from 0 to 1"},
		"an empty port name": {tracing.Config{Endpoint: "collector:"}, "it must be host:port"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := row.config.Validate()
			if (err == nil) != (row.want == "") || (err != nil && !strings.Contains(err.Error(), row.want)) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}
