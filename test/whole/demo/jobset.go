package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/jobset"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// What examples/jobset declares, a driver and workers of two Jobs, and the demo does with it.
const (
	driverPool, workerPool = "train-driver", "train-workers"
	workers                = "workers"
	startWorkers           = 4
	grownWorkers           = 8
	leftWorkers            = 2
)

var trainer = types.NamespacedName{Namespace: "default", Name: "jobset.train"}

// ofJobSet is what the story of a JobSet is about.
func ofJobSet() cast {
	return cast{[]string{driverPool, workerPool}, trainer, func(pod *corev1.Pod) bool {
		return pod.Labels[v1alpha1.LabelMember] == trainer.Name
	}}
}

// withJobSets starts the real controller of JobSets, and installs what our controller needs for them.
func withJobSets(
	progress io.Writer, prepare func(context.Context, *system.System) ([]string, error),
) func(context.Context, *system.System) ([]string, error) {
	return func(ctx context.Context, s *system.System) ([]string, error) {
		if _, err := jobset.Start(ctx, s.Plane, jobset.Options{Elastic: true, Progress: progress}); err != nil {
			return nil, err
		}
		var failures []error
		for _, file := range []string{"rbac.yaml", "admission.yaml", "webhook.yaml"} {
			objects, err := s.ObjectsOf("manifests/components/kind-jobset/" + file)
			failures = append(failures, err, s.Apply(ctx, objects...))
		}
		if err := errors.Join(failures...); err != nil {
			return nil, err
		}
		return prepare(ctx, s)
	}
}

// performJobSet plays the JobSet, and returns what was measured.
func (p *play) performJobSet(ctx context.Context) (*figures, error) {
	p.narrator.begin("A JobSet of a driver and two Jobs of %d workers, of other machines, which take %s to boot", startWorkers/2,
		p.settings.bootDelay)
	if err := p.applyFiles(ctx, "examples/jobset/nodepools.yaml", "examples/jobset/jobset.yaml"); err != nil {
		return nil, err
	}
	if err := p.settleJobSet(ctx, startWorkers); err != nil {
		return nil, err
	}
	f := &figures{bootDelay: p.settings.bootDelay, grow: grownWorkers - startWorkers, shrink: grownWorkers - leftWorkers}

	grow, err := p.scaleWorkers(ctx, grownWorkers)
	if err != nil {
		return nil, err
	}
	if err := p.settleJobSet(ctx, grownWorkers); err != nil {
		return nil, err
	}
	f.grown(p.recorder.Events(), grow, func(pod *corev1.Pod) bool {
		return p.narrator.cast.pods(pod) && history.IndexOf(pod) >= startWorkers/2
	})

	shrink, err := p.scaleWorkers(ctx, leftWorkers)
	if err != nil {
		return nil, err
	}
	if err := p.settleJobSet(ctx, leftWorkers); err != nil {
		return nil, err
	}
	f.shrunk(p.recorder.Events(), shrink)
	return f, nil
}

// scaleWorkers sets the desired number of workers, and returns when it did.
func (p *play) scaleWorkers(ctx context.Context, size int32) (at time.Time, err error) {
	at = p.narrator.begin("The desired number of workers is set to %d", size)
	return at, retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		member := &v1alpha1.EnsembleMember{}
		if err := p.system.Client.Get(ctx, trainer, member); err != nil {
			return err
		}
		v1alpha1.SetGroupSize(member, workers, size)
		return p.system.Client.Update(ctx, member)
	})
}

// settleJobSet waits until the driver and so many workers run, and the pools have as many machines and no more.
func (p *play) settleJobSet(ctx context.Context, size int32) error {
	within := patience + p.settings.bootDelay
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("not within %s", within))
	defer cancel()
	return p.recorder.Until(ctx, func(s *history.State) string {
		running, pods := 0, 0
		for _, pod := range s.Pods {
			if !p.narrator.cast.pods(pod) {
				continue
			}
			if pods++; pod.Status.Phase == corev1.PodRunning {
				running++
			}
		}
		member, drivers, nodes := s.Members[trainer], len(s.NodesOf(driverPool)), len(s.NodesOf(workerPool))
		switch {
		case member == nil:
			return "waiting for the EnsembleMember"
		case member.Status.Size != size+1:
			return fmt.Sprintf("the JobSet has size %d, not %d", member.Status.Size, size+1)
		case running != int(size)+1 || pods != running:
			return fmt.Sprintf("%d of %d pods are Running, and there are %d", running, size+1, pods)
		case drivers != 1 || nodes != int(size):
			return fmt.Sprintf("there are %d and %d nodes, not 1 and %d", drivers, nodes, size)
		case member.Status.Growth != nil || readyOf(member) != "True":
			return fmt.Sprintf("a growth is under way, or the member is not Ready, but %s", readyOf(member))
		}
		return ""
	})
}
