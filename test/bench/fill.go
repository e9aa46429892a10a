package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/bench/figures"
)

// creators is how many objects are created at a time.
const creators = 32

// progressPeriod is the time between two lines of progress.
const progressPeriod = 2 * time.Second

// fill creates the pools, the machines and their nodes as if they had been there for long: the provider, which
// starts afterwards, finds nothing to do but to write its status.
func (c *cluster) fill(ctx context.Context) error {
	pools, hashes := make([]*v1alpha1.NodePool, c.size.Groups), make([]string, c.size.Groups)
	err := c.each(ctx, "node groups", len(pools), func(ctx context.Context, group int) error {
		p := nodePool(c.size, group)
		if err := c.client.Create(ctx, p); err != nil {
			return fmt.Errorf("create NodePool %s: %w", p.Name, err)
		}
		p.Status.MachinesOrdered = int64(c.size.machinesIn(group))
		if err := c.client.Status().Update(ctx, p); err != nil {
			return fmt.Errorf("write the status of NodePool %s: %w", p.Name, err)
		}
		hash, err := p.Spec.Template.Hash()
		pools[group], hashes[group] = p, hash
		return err
	})
	if err != nil {
		return err
	}
	type place struct{ group, n int }
	var places []place
	for group := range pools {
		for n := range c.size.machinesIn(group) {
			places = append(places, place{group, n})
		}
	}
	// By its UID the simulated cloud tells the machines of this cluster from those of others.
	var system corev1.Namespace
	if err := c.client.Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, &system); err != nil {
		return fmt.Errorf("get the namespace %s: %w", metav1.NamespaceSystem, err)
	}
	ordered := time.Now()
	return c.each(ctx, "nodes", len(places), func(ctx context.Context, i int) error {
		group := places[i].group
		m := machineOf(pools[group], places[i].n, ordered, string(system.UID))
		m.record.Spec.TemplateHash = hashes[group]
		return c.register(ctx, m)
	})
}

// register creates a machine and its node.
func (c *cluster) register(ctx context.Context, m *registered) error {
	node := nodeOf(m)
	// What has been created has no status yet.
	recorded, instance := m.record.Status.DeepCopy(), m.instance.Status.DeepCopy()
	if err := errors.Join(c.client.Create(ctx, m.record), c.client.Create(ctx, m.instance)); err != nil {
		return fmt.Errorf("create machine %s: %w", m.record.Name, err)
	}
	// The simulated cloud takes a node for the instance's own by this reference.
	if err := controllerutil.SetControllerReference(m.instance, node, c.client.Scheme()); err != nil {
		return fmt.Errorf("own Node %s: %w", node.Name, err)
	}
	if err := c.client.Create(ctx, node); err != nil {
		return fmt.Errorf("create Node %s: %w", node.Name, err)
	}
	m.record.Status, m.instance.Status = *recorded, *instance
	if err := errors.Join(c.client.Status().Update(ctx, m.record), c.client.Status().Update(ctx, m.instance)); err != nil {
		return fmt.Errorf("write the status of machine %s: %w", m.record.Name, err)
	}
	return nil
}

// each does something for the numbers below count, many at a time, and says how far it is. The first error ends it.
func (c *cluster) each(ctx context.Context, what string, count int, do func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next, done atomic.Int64
	var workers sync.WaitGroup
	for range creators {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				if err := do(ctx, i); err != nil {
					cancel(err)
					return
				}
				done.Add(1)
			}
		})
	}
	finished := make(chan struct{})
	go func() { workers.Wait(); close(finished) }()
	ticker := time.NewTicker(progressPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			c.say("creating %s %s … %s", figures.Thousands(count), what, figures.Thousands(int(done.Load())))
		case <-finished:
			if err := context.Cause(ctx); err != nil {
				return errors.Join(fmt.Errorf("create %s", what), err)
			}
			c.say("created %s %s", figures.Thousands(count), what)
			return nil
		}
	}
}
