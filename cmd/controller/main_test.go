package main

import (
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/flaggroup"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/cmd/internal/flaggroup/flaggrouptest"
)

// TestHelp: whoever looks for a flag finds it under what it is about.
func TestHelp(t *testing.T) {
	t.Parallel()
	flaggrouptest.Help(
		t, command(), groupMembers, groupMemberLimits, groupWebhooks, flaggroup.TLS, flaggroup.LeaderElection, flaggroup.Observability,
		flaggroup.GRPCLimits, flaggroup.HTTPLimits, flaggroup.General,
	)
}
