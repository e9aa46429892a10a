package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/growth"
)

const (
	poolName = "hpc"
	// maxNodes is how many nodes a step may have.
	maxNodes = 1000
	// patience bounds each step, besides the boot of its machines.
	patience = 10 * time.Minute
	// calm is how long nothing is written when a step is over: the last events are sent some seconds after what they tell of.
	calm = 5 * time.Second
)

var member = types.NamespacedName{Namespace: corev1.NamespaceDefault, Name: "growth"}

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
	*growth.Bench
}

// measure grows and shrinks the MiniCluster by each number of nodes.
func (b *bench) measure(ctx context.Context) (steps []step, err error) {
	declared, err := system.Objects(fmt.Appendf(nil, objects, poolName, member.Name, maxNodes+1, b.bootDelay))
	if err != nil {
		return nil, err
	}
	if err := b.System.Apply(ctx, declared...); err != nil {
		return nil, err
	}
	b.Say("waiting for a growth to one")
	if _, err := b.atRest(ctx, 1); err != nil {
		return nil, err
	}
	for _, size := range b.sizes {
		for _, action := range []string{"grow", "shrink"} {
			after := 1
			if action == "grow" {
				after += size
			}
			b.Say("%s by %d", action, size)
			if err := b.Ask(ctx, member, action, size); err != nil {
				return nil, err
			}
			written, err := b.atRest(ctx, after)
			if err != nil {
				return nil, fmt.Errorf("%s by %d: %w", action, size, err)
			}
			steps = append(steps, step{action, size, written})
		}
	}
	return steps, nil
}

// atRest waits until the MiniCluster has a size and nothing is written any more, and returns what was.
func (b *bench) atRest(ctx context.Context, size int) (*tally, error) {
	within := patience + b.bootDelay
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("not within %s", within))
	defer cancel()
	written := &tally{count: map[kind]int{}}
	for {
		if err := b.Recorder.Until(ctx, func(s *history.State) string { return unsettled(s, size) }); err != nil {
			return nil, err
		}
		more, err := next(b.Audit)
		if err != nil {
			return nil, err
		}
		written.add(more)
		select {
		case <-time.After(calm):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: provider and controller do not come to rest", context.Cause(ctx))
		}
		if more, err = next(b.Audit); err != nil {
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
	pods := s.PodsOf(member)
	for _, pod := range pods {
		if pod.Status.Phase == corev1.PodRunning {
			running++
		}
	}
	pool, object := s.Pools[poolName], s.Members[member]
	switch {
	case pool == nil || object == nil:
		return "there is no EnsembleMember yet"
	case running != size || len(pods) != size:
		return fmt.Sprintf("%d of %d pods run, and there are %d", running, size, len(pods))
	case int(object.Status.Reserved) != size || object.Status.Growth != nil || ready(object) != "True":
		return fmt.Sprintf("the member has %d nodes reserved, not %d, or is not Ready", object.Status.Reserved, size)
	case int(pool.Spec.Replicas) != size || len(pool.Spec.MachinesToDelete) > 0 || len(s.NodesOf(poolName)) != size ||
		len(s.Machines) != size || len(s.Instances) != size:
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
