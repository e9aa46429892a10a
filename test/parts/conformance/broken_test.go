package conformance_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/proto" // The codec that one broken server wraps.
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/parts/conformance"
)

// TestUnbroken: a server that keeps every rule passes every case.
func TestUnbroken(t *testing.T) {
	t.Parallel()
	conformance.Run(t, &conformance.Target{Conn: inMemory(t, newMemory(), nil), Group: "fast", Second: "slow", Patience: inprocess.Patience})
}

// TestUnbrokenAlone is TestUnbroken for a server with one group whose machines run at once.
func TestUnbrokenAlone(t *testing.T) {
	t.Parallel()
	for _, c := range conformance.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			err := c.Run(t.Context(), &conformance.Target{Conn: inMemory(t, newMemory(), nil), Group: "fast", Patience: inprocess.Patience})
			if err != nil && !errors.Is(err, conformance.ErrSkipped) {
				t.Error(err)
			}
		})
	}
}

// TestSpare: a server without the optional methods passes too.
func TestSpare(t *testing.T) {
	t.Parallel()
	spare := func(*memory) grpc.UnaryServerInterceptor {
		return func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			switch request.(type) {
			case *externalgrpc.NodeGroupTemplateNodeInfoRequest, *externalgrpc.PricingNodePriceRequest, *externalgrpc.PricingPodPriceRequest:
				return nil, status.Error(codes.Unimplemented, "there is none")
			}
			return handler(ctx, request)
		}
	}
	conformance.Run(t, &conformance.Target{Conn: inMemory(t, newMemory(), spare), Group: "fast", Second: "slow", Patience: inprocess.Patience})
}

// inMemory serves a server, or what a fault makes of it, until the test ends.
func inMemory(t *testing.T, m *memory, broken fault, options ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	if broken != nil {
		options = append(options, grpc.UnaryInterceptor(broken(m)))
	}
	server := grpc.NewServer(options...)
	externalgrpc.RegisterCloudProviderServer(server, m)
	listener := bufconn.Listen(1 << 20)
	runUntilCleanup(t, server, listener)
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// variants are all broken servers, by what is wrong with them.
func variants() map[string]variant {
	all := map[string]variant{}
	for _, some := range []map[string]variant{brokenReading(), brokenSizes(), brokenRepairs(), brokenDeletion(), brokenMessages()} {
		maps.Copy(all, some)
	}
	return all
}

// both are two cases that a broken server must fail, with the same words.
func both(a, b, part string) must { return must{a: part, b: part} }

// TestBroken: a server that breaks a rule fails the cases of that rule, for that reason, and there is a broken server
// for each case.
func TestBroken(t *testing.T) {
	t.Parallel()
	cases := map[string]conformance.Case{}
	for _, c := range conformance.Cases() {
		if _, twice := cases[c.Name]; twice {
			t.Errorf("two cases are called %q", c.Name)
		}
		cases[c.Name] = c
	}
	failed := map[string]bool{}
	for name, v := range variants() {
		for caseName, part := range v.must {
			c, is := cases[caseName]
			if !is {
				t.Errorf("%s: there is no case %q", name, caseName)
				continue
			}
			failed[caseName] = true
			t.Run(name+"/"+caseName, func(t *testing.T) {
				t.Parallel()
				// It is soon certain that a broken server does not come round.
				err := c.Run(t.Context(), &conformance.Target{
					Conn: inMemory(t, newMemory(), v.broken, v.options...), Group: "fast", Second: "slow", Timeout: 2 * time.Second,
					Patience: 2 * time.Second,
				})
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("the case says %v, without %q", err, part)
				}
			})
		}
	}
	for _, c := range slices.Sorted(maps.Keys(cases)) {
		if !failed[c] {
			t.Errorf("no broken server fails the case %q", c)
		}
	}
}
