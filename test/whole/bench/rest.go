package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	holds "github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/estate"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/figures"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/harness"
)

const (
	// restWithin bounds the wait for the provider to have its caches and to have written all statuses.
	restWithin = 5 * time.Minute
	// quietWithin bounds the wait for the processes to become idle; then it is measured all the same.
	quietWithin = 90 * time.Second
	// quiet is the part of a core that provider, kube-apiserver and etcd together use at rest.
	quiet = 0.10
)

// settle waits until the provider is at rest: it answers, all pools have the status that they are to have, it
// writes no more, and it and the control plane are idle.
func (c *cluster) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restWithin)
	defer cancel()
	c.say("waiting until the provider is at rest")
	if err := c.answers(ctx); err != nil {
		return err
	}
	versions, err := c.upToDate(ctx)
	for err == nil {
		c.idle(ctx)
		before := versions
		if versions, err = c.upToDate(ctx); err == nil && maps.Equal(before, versions) {
			c.say("the provider is at rest")
			return nil
		}
	}
	return err
}

// answers waits until Refresh succeeds, which it does when the caches hold everything.
func (c *cluster) answers(ctx context.Context) (err error) {
	connection, err := c.clientFiles().dial(c.address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	provider := externalgrpc.NewCloudProviderClient(connection)
	return c.poll(ctx, func(ctx context.Context) (string, error) {
		_, refusal := provider.Refresh(ctx, &externalgrpc.RefreshRequest{}, grpc.WaitForReady(true))
		return status.Convert(refusal).Message(), nil
	})
}

// upToDate waits until the status of each pool says that there is nothing to do, and returns their versions.
func (c *cluster) upToDate(ctx context.Context) (map[string]string, error) {
	versions := map[string]string{}
	err := c.poll(ctx, func(ctx context.Context) (string, error) {
		var list v1alpha1.NodePoolList
		if err := c.client.List(ctx, &list); err != nil {
			return "", fmt.Errorf("list the NodePools: %w", err)
		}
		behind := 0
		for i := range list.Items {
			p := &list.Items[i]
			versions[p.Name] = p.ResourceVersion
			if p.Status.ObservedGeneration != p.Generation || p.Status.Ready != p.Spec.Replicas || p.Status.Replicas != p.Spec.Replicas {
				behind++
			}
		}
		if behind > 0 {
			return fmt.Sprintf("%s of %s node groups have no status yet", figures.Thousands(behind), figures.Thousands(len(list.Items))), nil
		}
		return "", nil
	})
	return versions, err
}

// poll asks until there is nothing left to wait for, and says what it waits for. It ends when the provider does.
func (c *cluster) poll(ctx context.Context, ask func(context.Context) (waitingFor string, err error)) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	said := time.Now()
	for {
		waitingFor, err := ask(ctx)
		if err != nil || waitingFor == "" {
			return err
		}
		if time.Since(said) >= holds.ProgressPeriod {
			c.say("waiting: %s", waitingFor)
			said = time.Now()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", ctx.Err(), waitingFor)
		case <-c.provider.Done():
			return fmt.Errorf("the provider has ended: %s", harness.LastLine(c.provider.LogFile()))
		case <-ticker.C:
		}
	}
}

// idle waits until provider and control plane have used little processor time for two seconds.
func (c *cluster) idle(ctx context.Context) {
	const period = 2 * time.Second
	processes := []*controlplane.Process{c.provider, c.plane.Component(controlplane.KubeAPIServer), c.plane.Component(controlplane.Etcd)}
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	started := time.Now()
	last := spent(processes)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := spent(processes)
		used := (now - last).Seconds() / period.Seconds()
		last = now
		if used <= quiet {
			return
		}
		if time.Since(started) > quietWithin {
			c.say("provider, kube-apiserver and etcd still use %.2f of a core; measuring all the same", used)
			return
		}
	}
}

// spent is the processor time that processes have used. One that is gone has used none.
func spent(processes []*controlplane.Process) time.Duration {
	var total time.Duration
	for _, p := range processes {
		if used, err := harness.ProcessorTime(p.Pid()); err == nil {
			total += used
		}
	}
	return total
}
