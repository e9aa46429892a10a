package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// cloud makes machines and takes them away. What it has are instances, which it lists, and of which only the machine loop hears.
type cloud struct {
	world *world
	// perfect is set when no order fails any more.
	perfect bool
	// repaired is set when new nodes are what their templates say.
	repaired  bool
	instances list[instance, *instance]
	// made counts the instances; tokens has how many each token has made, ever those machines that had an instance.
	made   int
	tokens map[string]int
	ever   map[string]bool
	// answers are those to orders, by token and machine: the same order has the same answer.
	answers map[string]outcome
	// paid is the time of all machines that are gone, from their order to their end.
	paid time.Duration
}

// instance is a machine as the cloud has it. Its name is what the cloud knows it by.
type instance struct {
	meta
	pool, machine string
	// providerID is empty while it is not known, node until the machine registers.
	providerID, node string
	createdAt        time.Time
	going            bool
	leavingAt        time.Time
	failure          *nodegroup.Failure
	domain           string
}

func newCloud(w *world) *cloud {
	return &cloud{world: w, tokens: map[string]int{}, ever: map[string]bool{}, answers: map[string]outcome{}}
}

func (c *cloud) settings(pool string) *poolSettings {
	for i := range c.world.settings.pools {
		if c.world.settings.pools[i].name == pool {
			return &c.world.settings.pools[i]
		}
	}
	return nil
}

// stock is how many machines more the cloud has.
func (c *cloud) stock(pool string) int {
	s := c.settings(pool)
	if s.stock < 0 {
		return 1 << 20
	}
	used := 0
	for _, i := range c.instances.items {
		if i.pool == pool && i.failure == nil {
			used++
		}
	}
	return max(0, s.stock-used)
}

// make makes an instance, whose luck is drawn at once. stocked is not set for one that was accepted and will fail.
func (c *cloud) make(pool, machine, domain string, stocked bool) *instance {
	w, s := c.world, c.settings(pool)
	c.made++
	i := &instance{meta: meta{name: machine}, pool: pool, machine: machine, createdAt: w.now, domain: domain}
	if s.ownNames || machine == "" {
		i.name = fmt.Sprintf("i-%04d", c.made)
	}
	if !s.lateIDs {
		i.providerID = idPrefix + i.name
	}
	c.instances.set(i)
	c.watch(i.name, s)
	c.boot(i, stocked)
	c.changed(pool)
	return i
}

// watch ends a machine that does not come in time, where the cloud does that.
func (c *cloud) watch(name string, s *poolSettings) {
	for _, t := range []struct {
		after   time.Duration
		code    string
		overdue func(*instance) bool
	}{
		{s.launchTimeout, "LaunchTimeout", func(i *instance) bool { return i.providerID == "" }},
		{s.registerTimeout, "RegistrationTimeout", func(i *instance) bool { return i.node == "" }},
	} {
		if t.after == 0 {
			continue
		}
		c.world.after(t.after, func() {
			if i := c.instances.get(name); i != nil && !i.going && i.failure == nil && t.overdue(i) {
				c.fail(name, v1alpha1.FailureOther, t.code, "the machine did not come in time")
			}
		})
	}
}

func (c *cloud) boot(i *instance, stocked bool) {
	w, s, name := c.world, c.settings(i.pool), i.name
	luck := w.rand.IntN(100)
	if c.perfect {
		luck = 100
	}
	boot := w.draw(s.boot)
	switch {
	case !stocked:
		w.tell("cloud", "%s: accepted, and is not in stock", name)
		forgets := w.chance(30) && !s.keepsFailures
		w.after(w.draw(span{time.Second, 20 * time.Second}), func() {
			if forgets {
				w.ledger.counts["failures forgotten"]++
				c.remove(name)
				return
			}
			c.fail(name, v1alpha1.FailureOutOfResources, "OutOfStock", c.outOfStock(i.pool))
			c.retry(name)
		})
	case luck < s.failPercent:
		w.after(boot, func() {
			c.fail(name, v1alpha1.FailureOther, "BootFailure", "the machine did not boot")
			c.retry(name)
		})
	case luck < s.failPercent+s.silentPercent:
		w.tell("cloud", "%s: launched, and will never register", name)
	default:
		w.tell("cloud", "%s: launched", name)
		never := luck < s.failPercent+s.silentPercent+s.neverReadyPercent
		known := time.Duration(0)
		if s.idsAfter.most > 0 {
			known = w.draw(s.idsAfter)
			w.after(known, func() { c.edit(name, func(i *instance) { i.providerID = idPrefix + name }) })
		}
		w.after(max(boot, known), func() { c.register(name, never) })
	}
}

// retry brings up a machine that has failed, where the cloud does that and nobody has told it to go.
func (c *cloud) retry(name string) {
	w, i := c.world, c.instances.get(name)
	if i == nil || c.settings(i.pool).retries.most == 0 {
		return
	}
	w.after(w.draw(c.settings(i.pool).retries), func() {
		i := c.instances.get(name)
		if i == nil || i.going || i.failure == nil || i.node != "" {
			return
		}
		if stocked := i.failure.Class != v1alpha1.FailureOutOfResources || c.stock(i.pool) > 0; !stocked {
			c.retry(name)
			return
		}
		w.tell("cloud", "%s: tried again, and comes", name)
		w.ledger.counts["machines tried again"]++
		c.edit(name, func(i *instance) { i.failure, i.providerID = nil, idPrefix+name })
		w.after(w.draw(c.settings(i.pool).boot), func() { c.register(name, false) })
	})
}

func (c *cloud) outOfStock(pool string) string {
	return fmt.Sprintf("the cloud has %d machines for %s", c.settings(pool).stock, pool)
}

func (c *cloud) fail(name string, class v1alpha1.FailureClass, code, message string) {
	c.edit(name, func(i *instance) {
		if i.failure == nil {
			i.failure = &nodegroup.Failure{At: c.world.now, Class: class, Code: code, Message: message}
		}
	})
}

// edit changes an instance, of which the machine loop may hear.
func (c *cloud) edit(name string, edit func(*instance)) {
	if old := c.instances.get(name); old != nil {
		changed := *old
		edit(&changed)
		c.instances.set(&changed)
		c.changed(changed.pool)
	}
}

// changed lets the machine loop list the instances of a plain pool at once. Others are polled.
func (c *cloud) changed(pool string) {
	c.world.changed = true
	if c.settings(pool).lag == 0 {
		c.world.loop.listSoon(pool)
	}
}

// register makes the node of an instance, which is Ready a little later.
func (c *cloud) register(name string, neverReady bool) {
	w, i := c.world, c.instances.get(name)
	if i == nil || i.going || i.failure != nil {
		return
	}
	s := c.settings(i.pool)
	node := name
	if s.ownNames {
		node = "ip-10-0-" + name[len("i-"):]
	}
	c.edit(name, func(i *instance) { i.node, i.providerID = node, idPrefix+i.name })
	n := &nodeObject{
		meta: meta{name: node}, providerID: idPrefix + name, pool: i.pool, labels: c.labels(i), createdAt: w.now, notReadySince: w.now,
		since:    w.now,
		starting: !s.bare, machine: i.machine,
	}
	c.furnish(n, s)
	w.nodes.create(n)
	c.furnished(n, s)
	if neverReady {
		w.tell("cloud", "%s: registered, and will never be Ready", name)
		return
	}
	w.after(w.draw(span{500 * time.Millisecond, 4 * time.Second}), func() {
		if now := c.instances.get(name); now != nil && now.failure == nil {
			w.setReady(node, true)
		}
	})
}

// terminate ends the instance of a machine, and reports whether there is one.
func (c *cloud) terminate(machine, providerID string) bool {
	w := c.world
	i := c.of(machine, providerID)
	if i == nil {
		return false
	}
	if i.failure != nil && c.settings(i.pool).retries.most == 0 {
		c.remove(i.name)
		return true
	}
	if !i.going {
		if i.failure == nil {
			w.checkDeletion(i)
		}
		c.edit(i.name, func(i *instance) { i.going = true })
		ending := c.settings(i.pool).ending
		if ending.most == 0 || c.perfect {
			ending = span{100 * time.Millisecond, 2 * time.Second}
		}
		w.after(w.draw(ending), func() {
			w.tell("cloud", "%s: deleted", i.name)
			c.remove(i.name)
		})
	}
	return true
}

// of is the instance with a provider id, or that was made for a machine.
func (c *cloud) of(machine, providerID string) *instance {
	at := slices.IndexFunc(c.instances.items, func(i *instance) bool {
		return (providerID != "" && i.providerID == providerID) || (providerID == "" && i.machine == machine)
	})
	if at < 0 {
		return nil
	}
	return c.instances.items[at]
}

// remove takes an instance away, and its node unless that is left to others.
func (c *cloud) remove(name string) {
	i := c.instances.get(name)
	if i == nil {
		return
	}
	if i.failure == nil {
		c.paid += c.world.now.Sub(i.createdAt)
	}
	c.instances.remove(name)
	c.changed(i.pool)
	if !c.settings(i.pool).leavesNodes {
		c.world.removeNode(i.node)
		return
	}
	// The provider deletes it. Where it knows nothing of it any more, the node controller does in the end.
	c.world.setReady(i.node, false)
	c.world.after(10*time.Minute, func() { c.world.removeNode(i.node) })
}

// gone takes a node and its instance away.
func (c *cloud) gone(node string) {
	w := c.world
	n := w.nodes.get(node)
	if n == nil {
		return
	}
	w.ledger.taken[w.machineOf(n)] = true
	if i := c.of("", n.providerID); i != nil {
		c.remove(i.name)
	}
	w.removeNode(node)
}

// removeNode deletes a node.
func (w *world) removeNode(name string) {
	if w.nodes.get(name) != nil {
		w.ledger.lost(name)
		w.nodes.remove(name)
		w.jobs.nodeLost(name)
	}
}

// machineOf is the machine of a node: that of the record with its provider id, else the one that it was made for.
func (w *world) machineOf(n *nodeObject) string {
	for _, m := range w.machines.live.items {
		if m.providerID == n.providerID {
			return m.name
		}
	}
	return n.machine
}

// nodeOf is the node of a machine, nil while there is none.
func (w *world) nodeOf(machine string) *nodeObject {
	for _, n := range w.nodes.live.items {
		if n.pool != "" && w.machineOf(n) == machine {
			return n
		}
	}
	return nil
}

// nodeSeconds is what has been paid so far: each machine from its launch to its end, failed ones apart.
func (c *cloud) nodeSeconds() float64 {
	sum := c.paid
	for _, i := range c.instances.items {
		if i.failure == nil {
			sum += c.world.now.Sub(i.createdAt)
		}
	}
	return sum.Seconds()
}
