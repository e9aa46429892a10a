package faults

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// TestMovesAway: of two replicas one loses the API server. It says that it is not ready, its connections end, and Cluster Autoscaler,
// which has one connection to the Service of both, is answered by the other. Neither leads: a leader that is cut off ends.
func TestMovesAway(t *testing.T) {
	t.Parallel()
	const (
		staleness = 2 * time.Second
		// bound is within which it has moved: the API server is missed after staleness and a question to it, connections end as
		// long after that, and the rest is for a busy machine. Cluster Autoscaler restarts itself after 15 minutes of failures.
		bound = 60 * time.Second
	)
	s := startSystem(t, system.Options{LeaderElection: true, ProviderFlags: []string{"--max-staleness=" + staleness.String()}})
	anotherLeads(t, s, "")
	apiServer, err := url.Parse(s.Plane.URL())
	if err != nil {
		t.Fatal(err)
	}
	network := newGate(t, apiServer.Host)
	a, err := s.AddReplica(t.Context(), "provider-a", "https://"+network.address())
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.AddReplica(t.Context(), "provider-b", "")
	if err != nil {
		t.Fatal(err)
	}

	config, err := s.AutoscalerTLS()
	if err != nil {
		t.Fatal(err)
	}
	// A Service sends a new connection to a replica that is ready. This one prefers the first.
	var last atomic.Pointer[system.Replica]
	service := func(ctx context.Context, _ string) (net.Conn, error) {
		for _, replica := range []*system.Replica{a, b} {
			if replica.IsReady(ctx) == nil {
				last.Store(replica)
				return (&net.Dialer{}).DialContext(ctx, "tcp", replica.Address)
			}
		}
		return nil, errors.New("no replica is ready")
	}
	connection, err := grpc.NewClient("passthrough:///"+a.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(config)), grpc.WithContextDialer(service))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := connection.Close(); err != nil {
			t.Error(err)
		}
	})
	refresh := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
		defer cancel()
		_, err := externalgrpc.NewCloudProviderClient(connection).Refresh(ctx, &externalgrpc.RefreshRequest{})
		return err
	}
	if err := insist(refresh); err != nil {
		t.Fatal(err)
	}
	if last.Load() != a {
		t.Fatalf("the first answer is from %s, not from the replica that is to be cut off", last.Load().Name())
	}

	network.close()
	cut := time.Now()
	refused := 0
	if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, bound, true, func(context.Context) (bool, error) {
		if err := refresh(); err != nil {
			if refused++; refused == 1 {
				t.Logf("after %s: %s", time.Since(cut).Round(100*time.Millisecond), status.Convert(err).Message())
			}
			return false, nil
		}
		return last.Load() == b, nil
	}); err != nil {
		t.Fatalf("%s after one replica was cut off the other is not asked: %v", time.Since(cut).Round(time.Second), err)
	}
	t.Logf("the other replica answered after %s; %d calls were refused until then", time.Since(cut).Round(100*time.Millisecond), refused)
	if err := a.IsReady(t.Context()); err == nil {
		t.Error("the replica that is cut off says that it is ready")
	}

	// When it hears again it is ready again.
	network.open()
	if err := a.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}
