package e2e

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system/systemtest"
)

// shared is what all tests use. TestMain sets it once, before any test runs.
var shared struct {
	*system.System
	recorder *history.Recorder
	// audit is the path of the API server's record of all requests of provider and controller.
	audit string
	// serving is held for writing while a program is being restarted, for reading while a test speaks to one.
	serving sync.RWMutex
	// kills counts how often a program was killed. The events that it had yet to send are lost then.
	kills atomic.Int32
}

func TestMain(m *testing.M) {
	systemtest.Run(m, &systemtest.Suite{
		Name: "e2e", AtOnce: 2 * runtime.GOMAXPROCS(0), Within: 70 * time.Minute,
		Options:  options,
		Begin:    func(_ context.Context, s *system.System) error { shared.System = s; return nil },
		Recorder: func(r *history.Recorder) { shared.recorder = r },
		End: func(code int) error {
			if code != 0 || flag.Lookup("test.run").Value.String() != "" {
				return nil
			}
			// Only the whole of the tests uses all rights.
			return checkRights()
		},
	})
}

// options are those of a system whose API server records all requests of provider and controller.
func options(directory string) (system.Options, error) {
	shared.audit = filepath.Join(directory, "audit.log")
	policy := filepath.Join(directory, "audit-policy.yaml")
	return system.Options{
		// A call that is cut off when the provider is killed makes Cluster Autoscaler leave the group alone for a
		// while, five minutes if nothing else is said.
		AutoscalerFlags:    []string{"--scan-interval=1s", "--initial-node-group-backoff-duration=2s", "--max-node-group-backoff-duration=4s"},
		APIServerArguments: []string{"--audit-policy-file=" + policy, "--audit-log-path=" + shared.audit},
	}, os.WriteFile(policy, []byte(auditPolicy), 0o600)
}
