package simulation

import (
	"fmt"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// cloud makes machines and takes them away.
type cloud struct {
	world *world
	// perfect is set when no order fails any more.
	perfect bool
	// ever has the machines that there have been; a name is not used twice.
	ever map[string]bool
	// paid is the time of all machines that are gone, from their order to their end.
	paid time.Duration
}

func newCloud(w *world) *cloud { return &cloud{world: w, ever: map[string]bool{}} }

func (c *cloud) settings(pool string) *poolSettings {
	for i := range c.world.settings.pools {
		if c.world.settings.pools[i].name == pool {
			return &c.world.settings.pools[i]
		}
	}
	return nil
}

// inStock reports whether the cloud has one more machine.
func (c *cloud) inStock(pool string) bool {
	s := c.settings(pool)
	if s.stock < 0 {
		return true
	}
	used := 0
	for _, m := range c.world.machines.live.items {
		if m.pool == pool && m.failure == nil {
			used++
		}
	}
	return used < s.stock
}

// order makes a machine, whose luck is drawn at once.
func (c *cloud) order(pool, name string, purpose v1alpha1.MachinePurpose) {
	w, s := c.world, c.settings(pool)
	w.promise(!c.ever[name], "machine %s is ordered a second time", name)
	c.ever[name] = true
	// Nobody but Cluster Autoscaler releases what is not for members, and it takes its time.
	w.promise(purpose == v1alpha1.PurposeReservation || w.ledger.forPods[pool] || w.pools.get(pool).minSize > 0,
		"machine %s is ordered for pods of which Cluster Autoscaler has found none", name)
	stocked := c.inStock(pool)
	w.machines.create(&machineObject{meta: meta{name: name}, pool: pool, purpose: purpose, orderedAt: w.now})
	luck := w.rand.IntN(100)
	if c.perfect {
		luck = 100
	}
	boot := w.draw(s.boot)
	switch {
	case !stocked:
		w.tell("cloud", "%s: no machine is in stock", name)
		w.after(w.draw(span{20 * time.Millisecond, time.Second}), func() {
			c.fail(name, v1alpha1.FailureOutOfResources, "OutOfStock", fmt.Sprintf("the cloud has %d machines for %s", s.stock, pool))
		})
	case luck < s.failPercent:
		w.after(boot, func() { c.fail(name, v1alpha1.FailureOther, "BootFailure", "the machine did not boot") })
	case luck < s.failPercent+s.silentPercent:
		w.tell("cloud", "%s: ordered, and will never register", name)
	default:
		w.tell("cloud", "%s: ordered", name)
		never := luck < s.failPercent+s.silentPercent+s.neverReadyPercent
		w.after(boot, func() { c.register(name, never) })
	}
}

func (c *cloud) fail(name string, class v1alpha1.FailureClass, code, message string) {
	c.world.machines.update(name, func(m *machineObject) {
		m.failure = &nodegroup.Failure{At: c.world.now, Class: class, Code: code, Message: message}
	})
}

// register makes the node of a machine, which is Ready a little later.
func (c *cloud) register(name string, neverReady bool) {
	w := c.world
	m := w.machines.get(name)
	if m == nil || m.going {
		return
	}
	w.machines.update(name, func(m *machineObject) { m.registered = true })
	w.nodes.create(&nodeObject{
		meta: meta{name: name}, pool: m.pool, labels: c.labels(m.pool), createdAt: w.now, notReadySince: w.now, since: w.now,
		reserved: m.purpose == v1alpha1.PurposeReservation,
	})
	if neverReady {
		w.tell("cloud", "%s: registered, and will never be Ready", name)
		return
	}
	w.after(w.draw(span{500 * time.Millisecond, 4 * time.Second}), func() { w.setReady(name, true) })
}

// remove deletes a machine and its node.
func (c *cloud) remove(name string) {
	w := c.world
	m := w.machines.get(name)
	if m == nil || m.going {
		return
	}
	w.checkDeletion(name)
	w.machines.update(name, func(m *machineObject) { m.going = true })
	w.after(w.draw(span{100 * time.Millisecond, 2 * time.Second}), func() {
		w.tell("cloud", "%s: deleted", name)
		c.gone(name)
	})
}

// gone takes a machine and its node away.
func (c *cloud) gone(name string) {
	w := c.world
	if m := w.machines.get(name); m != nil && m.failure == nil {
		c.paid += w.now.Sub(m.orderedAt)
	}
	w.machines.remove(name)
	if w.nodes.get(name) != nil {
		w.ledger.lost(name)
		w.nodes.remove(name)
		w.jobs.nodeLost(name)
	}
}

// nodeSeconds is what has been paid so far: each machine from its order to its end, failed ones apart.
func (c *cloud) nodeSeconds() float64 {
	sum := c.paid
	for _, m := range c.world.machines.live.items {
		if m.failure == nil {
			sum += c.world.now.Sub(m.orderedAt)
		}
	}
	return sum.Seconds()
}
