package clusterapi

import (
	"context"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system/systemtest"
)

// patience is how long anything may take.
var patience = flag.Duration("clusterapi.patience", 6*time.Minute, "how long a test waits for what has to come")

// seeds is how many stories with kills there are.
var seeds = flag.Int("clusterapi.seeds", 3, "how many stories are told in which the provider and Cluster API are killed at random moments")

// shared is what the tests use. TestMain sets it once.
var shared struct {
	*system.System
	capi     *Installation
	recorder *history.Recorder
}

func TestMain(m *testing.M) {
	systemtest.Run(m, &systemtest.Suite{
		Name: "clusterapi", AtOnce: 8, Within: 6 * time.Hour,
		Options: func(string) (system.Options, error) {
			return system.Options{AutoscalerFlags: systemtest.RestlessAutoscaler(), WithoutKwok: true, Prepare: prepare}, nil
		},
		Begin:    func(_ context.Context, s *system.System) error { shared.System = s; return nil },
		Recorder: func(r *history.Recorder) { shared.recorder = r },
		Stop: func() error {
			if shared.capi == nil {
				return nil
			}
			return shared.capi.Stop()
		},
	})
}

// prepare starts Cluster API beside the system, and gives the provider its rights and flags.
func prepare(ctx context.Context, s *system.System) ([]string, error) {
	var err error
	shared.capi, err = Start(ctx, Options{Plane: s.Plane, Nodes: s.Plane.AdminConfig(), Namespace: Machines, Progress: os.Stderr})
	if err != nil {
		return nil, err
	}
	return []string{"--cluster-api=" + Machines}, shared.capi.Grant(ctx, s)
}
