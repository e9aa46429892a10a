package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/system"
)

const (
	poolName = "hpc"
	// mostNodes is how many nodes a step may have.
	mostNodes = 1000
	// patience bounds each step, besides the boot of its machines.
	patience = 10 * time.Minute
	// calm is how long nothing is written when a step is over: the last events are sent some seconds after what they tell of.
	calm = 5 * time.Second
)

var gang = types.NamespacedName{Namespace: corev1.NamespaceDefault, Name: "gang"}

const objects = `
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: %[1]s}
spec:
  maxSize: %[3]d
  template:
    taints: [{key: example.com/dedicated, value: hpc, effect: NoSchedule}]
    capacity: {cpu: "4", memory: 16Gi, pods: "110"}
  machines: {kwok: {bootDelay: %[4]s}}
---
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata:
  name: %[2]s
  namespace: default
  annotations: {autoscaling.flux-framework.org/node-pools: %[1]s, autoscaling.flux-framework.org/growth-policy: AllOrNothing}
spec:
  size: 1
  minSize: 1
  maxSize: %[3]d
  interactive: true
  containers:
  - image: ubuntu:noble
    runFlux: true
    resources: {requests: {cpu: "3", memory: 1Gi}}
`

// step is one growth or shrink.
type step struct {
	action string
	nodes  int
	*tally
}

// bench is what stays the same from step to step.
type bench struct {
	*options
	system   *system.System
	recorder *history.Recorder
	audit    *auditLog
	progress io.Writer
}

func (b *bench) say(format string, arguments ...any) {
	_, _ = fmt.Fprintf(b.progress, format+"\n", arguments...) // Progress that nobody reads is no error.
}

// measure grows and shrinks the gang by each number of nodes.
func measure(ctx context.Context, s *system.System, audit *auditLog, o *options, progress io.Writer) (steps []step, err error) {
	b := &bench{options: o, system: s, audit: audit, progress: progress}
	if b.recorder, err = history.Start(ctx, s.Client, nil); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.recorder.Stop()) }()
	declared, err := system.Objects(fmt.Appendf(nil, objects, poolName, gang.Name, mostNodes+1, o.bootDelay))
	if err != nil {
		return nil, err
	}
	if err := s.Apply(ctx, declared...); err != nil {
		return nil, err
	}
	b.say("waiting for a gang of one")
	if _, err := b.settled(ctx, 1); err != nil {
		return nil, err
	}
	for _, size := range o.sizes {
		for _, action := range []string{"grow", "shrink"} {
			after := 1
			if action == "grow" {
				after += size
			}
			b.say("%s by %d", action, size)
			if err := b.ask(ctx, action, size); err != nil {
				return nil, err
			}
			written, err := b.settled(ctx, after)
			if err != nil {
				return nil, fmt.Errorf("%s by %d: %w", action, size, err)
			}
			steps = append(steps, step{action, size, written})
		}
	}
	return steps, nil
}

// ask asks as the program in the lead broker's pod does.
func (b *bench) ask(ctx context.Context, action string, amount int) error {
	var lead *corev1.Pod
	if err := b.recorder.Until(ctx, func(s *history.State) string {
		if lead = s.Lead(gang); lead == nil {
			return "the lead broker does not run"
		}
		return ""
	}); err != nil {
		return err
	}
	response, err := b.system.Action(ctx, lead, gang.Name, action, amount)
	if err != nil {
		return fmt.Errorf("ask to %s: %w", action, err)
	}
	if response.GetStatus() != ensemble.Response_SUCCESS {
		return fmt.Errorf("to %s was answered %s: %s", action, response.GetStatus(), response.GetPayload())
	}
	return nil
}

// settled waits until the gang has a size and nothing is written any more, and returns what was.
func (b *bench) settled(ctx context.Context, size int) (*tally, error) {
	within := patience + b.bootDelay
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("not within %s", within))
	defer cancel()
	written := &tally{count: map[kind]int{}}
	for {
		if err := b.recorder.Until(ctx, func(s *history.State) string { return unsettled(s, size) }); err != nil {
			return nil, err
		}
		more, err := b.audit.next()
		if err != nil {
			return nil, err
		}
		written.add(more)
		select {
		case <-time.After(calm):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: provider and controller do not come to rest", context.Cause(ctx))
		}
		if more, err = b.audit.next(); err != nil {
			return nil, err
		}
		written.add(more)
		if len(more.count) == 0 {
			return written, nil
		}
	}
}

func unsettled(s *history.State, size int) string {
	running := 0
	pods := s.PodsOf(gang)
	for _, pod := range pods {
		if pod.Status.Phase == corev1.PodRunning {
			running++
		}
	}
	pool, member := s.Pools[poolName], s.Members[gang]
	switch {
	case pool == nil || member == nil:
		return "there is no EnsembleMember yet"
	case running != size || len(pods) != size:
		return fmt.Sprintf("%d of %d pods run, and there are %d", running, size, len(pods))
	case int(member.Status.Reserved) != size || member.Status.Growth != nil || ready(member) != "True":
		return fmt.Sprintf("the member has %d nodes reserved, not %d, or is not Ready", member.Status.Reserved, size)
	case int(pool.Spec.Replicas) != size || len(pool.Spec.MachinesToDelete) > 0 || len(s.NodesOf(poolName)) != size || len(s.Machines) != size || len(s.Instances) != size:
		return fmt.Sprintf("there are %d nodes, %d PoolMachines and %d KwokInstances, %d to delete, and the target is %d, not %d",
			len(s.NodesOf(poolName)), len(s.Machines), len(s.Instances), len(pool.Spec.MachinesToDelete), pool.Spec.Replicas, size)
	}
	return ""
}

func ready(member *v1alpha1.EnsembleMember) string {
	for i := range member.Status.Conditions {
		if c := &member.Status.Conditions[i]; c.Type == v1alpha1.ConditionReady {
			return string(c.Status)
		}
	}
	return "Unknown"
}
