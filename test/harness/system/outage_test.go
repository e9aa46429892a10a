package system_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// TestOutage: while the API server is down, Cluster Autoscaler is told so, which makes it skip its loop, and never
// that there are no groups. Afterwards everything goes on.
func TestOutage(t *testing.T) {
	t.Parallel()
	s, err := system.Start(t.Context(), system.Options{
		Progress: os.Stderr, LogDir: t.ArtifactDir(), ProviderFlags: []string{"--max-staleness=2s"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	objects, err := s.ObjectsOf("examples/nodepools.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(t.Context(), objects...); err != nil {
		t.Fatal(err)
	}
	const groups = 2
	known := func(ctx context.Context, c externalgrpc.CloudProviderClient) (int, error) {
		if _, err := c.Refresh(ctx, &externalgrpc.RefreshRequest{}); err != nil {
			return 0, err
		}
		answer, err := c.NodeGroups(ctx, &externalgrpc.NodeGroupsRequest{})
		return len(answer.GetNodeGroups()), err
	}
	err = s.AsAutoscaler(t.Context(), func(ctx context.Context, c externalgrpc.CloudProviderClient) error {
		until(t, func(context.Context) (bool, error) {
			count, err := known(ctx, c)
			return err == nil && count == groups, nil
		})
		if err := s.Plane.StopAPIServer(); err != nil {
			return err
		}
		until(t, func(context.Context) (bool, error) {
			count, err := known(ctx, c)
			if err == nil && count != groups {
				t.Errorf("with the API server down there are %d groups, not %d", count, groups)
			}
			return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "the API server has not been reached for"), nil
		})
		if _, err := c.NodeGroups(ctx, &externalgrpc.NodeGroupsRequest{}); status.Code(err) != codes.Unavailable {
			t.Errorf("NodeGroups answers %v where Refresh refuses", err)
		}
		if err := s.Plane.StartAPIServer(ctx); err != nil {
			return err
		}
		until(t, func(context.Context) (bool, error) {
			count, err := known(ctx, c)
			return err == nil && count == groups, nil
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
