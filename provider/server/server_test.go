package server

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
)

// TestRefreshLetsALoopBegin: NodeGroups answers in a loop whose Refresh has answered, though what is known has become too old
// between the two, and refuses without one, in the same loop as Refresh.
func TestRefreshLetsALoopBegin(t *testing.T) {
	t.Parallel()
	now := clocktesting.NewFakeClock(time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC))
	s := newExpander(t, false, "a").provider
	s.clock, s.announce = now, newAnnouncer(nil, s.log)
	t.Cleanup(s.announce.queue.ShutDown)
	refresh := func(want codes.Code) {
		t.Helper()
		if _, err := s.Refresh(t.Context(), &externalgrpc.RefreshRequest{}); status.Code(err) != want {
			t.Errorf("Refresh: %v, want %s", err, want)
		}
	}
	nodeGroups := func(want codes.Code) {
		t.Helper()
		if _, err := s.NodeGroups(t.Context(), &externalgrpc.NodeGroupsRequest{}); status.Code(err) != want {
			t.Errorf("NodeGroups: %v, want %s", err, want)
		}
	}
	refresh(codes.OK)
	s.trust = func() error { return errors.New("it is too old") }
	nodeGroups(codes.OK)
	now.Step(beginsWithin - 1)
	nodeGroups(codes.OK)
	now.Step(1)
	nodeGroups(codes.Unavailable)
	s.trust = func() error { return nil }
	refresh(codes.OK)
	s.trust = func() error { return errors.New("it is too old") }
	refresh(codes.Unavailable)
	nodeGroups(codes.Unavailable)
}
