package kinds

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/jobset"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system/systemtest"
)

// shared is what all plays use. TestMain sets it once, before any of them begins.
var shared struct {
	*system.System
	// jobSets is the controller of JobSets.
	jobSets *jobset.Controller
	// restarting is held while the controller is being restarted, and read by those who ask it.
	restarting sync.RWMutex
}

func TestMain(m *testing.M) {
	systemtest.Run(m, &systemtest.Suite{
		Name: "kinds", AtOnce: 4 * runtime.GOMAXPROCS(0), Within: time.Hour,
		Options: options, Begin: func(_ context.Context, s *system.System) error { shared.System = s; return nil },
		Broken: broken,
	})
}

// options are those of a system that manages all kinds.
func options(string) (system.Options, error) {
	return system.Options{
		AutoscalerFlags: systemtest.RestlessAutoscaler(), ControllerFlags: []string{"--kinds=MiniCluster,Job,JobSet"},
		Prepare: prepare,
	}, nil
}

// prepare starts the controller of JobSets as it is by default, and installs what the controller needs for each kind.
func prepare(ctx context.Context, s *system.System) (flags []string, err error) {
	if shared.jobSets, err = jobset.Start(ctx, s.Plane, jobset.Options{Progress: os.Stderr}); err != nil {
		return nil, err
	}
	var failures []error
	for _, component := range []string{"kind-job", "kind-jobset"} {
		for _, file := range []string{"rbac.yaml", "admission.yaml", "webhook.yaml"} {
			objects, err := s.ObjectsOf("manifests/components/" + component + "/" + file)
			failures = append(failures, err, s.Apply(ctx, objects...))
		}
	}
	return nil, errors.Join(failures...)
}
