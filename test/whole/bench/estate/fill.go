package estate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/figures"
)

// creators is how many objects are created at a time.
const creators = 32

// ProgressPeriod is the time between two lines of progress.
const ProgressPeriod = 2 * time.Second

// Filler puts an estate into a cluster.
type Filler struct {
	Client client.Client
	// Progress is told how far it is.
	Progress io.Writer
	// Node, if set, makes a node larger than what a pass reads of it.
	Node func(*corev1.Node)
}

func (c *Filler) say(format string, arguments ...any) {
	_, _ = fmt.Fprintf(c.Progress, format+"\n", arguments...) // Progress that nobody reads is no error.
}

// Fill creates the pools, the machines and their nodes as if they had been there for long: the provider, which
// starts afterwards, finds nothing to do but to write its status.
func (c *Filler) Fill(ctx context.Context, size Size) error {
	pools, hashes := make([]*v1alpha1.NodePool, size.Groups), make([]string, size.Groups)
	err := c.Each(ctx, "node groups", len(pools), func(ctx context.Context, group int) error {
		p := NodePool(size, group)
		if err := c.Client.Create(ctx, p); err != nil {
			return fmt.Errorf("create NodePool %s: %w", p.Name, err)
		}
		p.Status.MachinesOrdered = int64(size.MachinesIn(group))
		if err := c.Client.Status().Update(ctx, p); err != nil {
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
		for n := range size.MachinesIn(group) {
			places = append(places, place{group, n})
		}
	}
	// By its UID the simulated cloud tells the machines of this cluster from those of others.
	var system corev1.Namespace
	if err := c.Client.Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, &system); err != nil {
		return fmt.Errorf("get the namespace %s: %w", metav1.NamespaceSystem, err)
	}
	ordered := time.Now()
	return c.Each(ctx, "nodes", len(places), func(ctx context.Context, i int) error {
		group := places[i].group
		m := MachineOf(pools[group], places[i].n, ordered, string(system.UID))
		m.Record.Spec.TemplateHash = hashes[group]
		return c.register(ctx, m)
	})
}

// register creates a machine and its node.
func (c *Filler) register(ctx context.Context, m *Machine) error {
	node := NodeOf(m)
	if c.Node != nil {
		c.Node(node)
	}
	// What has been created has no status yet.
	recorded, instance := m.Record.Status.DeepCopy(), m.Instance.Status.DeepCopy()
	if err := errors.Join(c.Client.Create(ctx, m.Record), c.Client.Create(ctx, m.Instance)); err != nil {
		return fmt.Errorf("create machine %s: %w", m.Record.Name, err)
	}
	// The simulated cloud takes a node for the instance's own by this reference.
	if err := controllerutil.SetControllerReference(m.Instance, node, c.Client.Scheme()); err != nil {
		return fmt.Errorf("own Node %s: %w", node.Name, err)
	}
	if err := c.Client.Create(ctx, node); err != nil {
		return fmt.Errorf("create Node %s: %w", node.Name, err)
	}
	m.Record.Status, m.Instance.Status = *recorded, *instance
	if err := errors.Join(c.Client.Status().Update(ctx, m.Record), c.Client.Status().Update(ctx, m.Instance)); err != nil {
		return fmt.Errorf("write the status of machine %s: %w", m.Record.Name, err)
	}
	return nil
}

// Each does something for the numbers below count, many at a time, and says how far it is. The first error ends it.
func (c *Filler) Each(ctx context.Context, what string, count int, do func(context.Context, int) error) error {
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
	ticker := time.NewTicker(ProgressPeriod)
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
