package kinds

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system/systemtest"
)

// shared is what all plays use. TestMain sets it once, before any of them begins.
var shared struct {
	*system.System
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
		AutoscalerFlags: systemtest.RestlessAutoscaler(), ControllerFlags: []string{"--kinds=MiniCluster,Job"},
		Prepare: func(ctx context.Context, s *system.System) ([]string, error) {
			var failures []error
			for _, file := range []string{"rbac.yaml", "admission.yaml", "webhook.yaml"} {
				objects, err := s.ObjectsOf("manifests/components/kind-job/" + file)
				failures = append(failures, err, s.Apply(ctx, objects...))
			}
			return nil, errors.Join(failures...)
		},
	}, nil
}
