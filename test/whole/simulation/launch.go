package simulation

import (
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// outcome is what has become of a machine that was asked for: it is accepted, with or without a provider id, is out of stock, or
// has to be asked for later.
type outcome struct {
	providerID, domain string
	outOfStock         string
	throttled          time.Duration
}

func (o *outcome) final() bool { return o.throttled == 0 }

// order is what a cloud is asked for.
type order struct {
	pool, token, domain string
	atomic              bool
	size                int
	machines            []string
}

// launch makes the machines of an order. The same token has the same effect and the same answers; a cloud without tokens knows the
// machines by their names.
func (c *cloud) launch(o *order) []outcome {
	w, s := c.world, c.settings(o.pool)
	out := make([]outcome, len(o.machines))
	// Of one that is repeated some may have been given up.
	if _, again := c.tokens[o.token]; !again {
		c.tokens[o.token] = 0
		w.promise(!o.atomic || len(o.machines) == o.size, "%d of %d machines of an order for all or none are asked for", len(o.machines), o.size)
	}
	if !c.perfect && w.chance(s.throttlePercent) {
		w.ledger.counts["orders throttled"]++
		w.tell("cloud", "%s: the order of %d machines is to be repeated later", o.pool, len(o.machines))
		for i := range out {
			out[i].throttled = w.draw(span{2 * time.Second, 20 * time.Second}).Truncate(time.Millisecond)
		}
		return out
	}
	fresh := 0
	for _, machine := range o.machines {
		if _, known := c.answers[c.key(o, machine)]; !known {
			fresh++
		}
	}
	if fresh < len(o.machines) {
		w.ledger.counts["orders repeated"]++
	}
	refused := o.atomic && c.stock(o.pool) < fresh
	if refused {
		w.ledger.counts["orders refused as a whole"]++
	}
	for i, machine := range o.machines {
		key := c.key(o, machine)
		if known, is := c.answers[key]; is {
			out[i] = known
			continue
		}
		out[i] = c.launchOne(o, machine, refused)
		c.answers[key] = out[i]
	}
	return out
}

// key is what the cloud knows one machine of an order by.
func (c *cloud) key(o *order, machine string) string {
	if c.settings(o.pool).byToken {
		return o.token + " " + machine
	}
	return machine
}

func (c *cloud) launchOne(o *order, machine string, refused bool) outcome {
	w, s := c.world, c.settings(o.pool)
	stocked := !refused && c.stock(o.pool) > 0
	if !stocked && (!s.lateFailures || refused) {
		w.tell("cloud", "%s: no machine is in stock", machine)
		return outcome{outOfStock: c.outOfStock(o.pool)}
	}
	w.promise(!c.ever[machine], "machine %s is made a second time", machine)
	c.ever[machine] = true
	c.tokens[o.token]++
	w.promise(c.tokens[o.token] <= o.size, "an order of %d machines has made %d", o.size, c.tokens[o.token])
	i := c.make(o.pool, machine, o.domain, stocked)
	return outcome{providerID: i.providerID, domain: i.domain}
}

// crash ends a machine that has registered. Its node stays, or goes a while later.
func (c *cloud) crash(n *nodeObject) {
	w := c.world
	i := c.of("", n.providerID)
	if i == nil || i.failure != nil || i.going {
		return
	}
	w.tell("cloud", "%s crashes", i.name)
	w.ledger.counts["machines crashed"]++
	w.ledger.taken[w.machineOf(n)] = true
	c.fail(i.name, v1alpha1.FailureOther, "Crashed", "the machine has crashed")
	w.setReady(n.name, false)
	if w.chance(50) {
		// The node controller of the cloud deletes it.
		w.after(w.draw(span{time.Second, time.Minute}), func() { w.removeNode(n.name) })
	}
}

// notice announces that a machine is taken away, and does so.
func (c *cloud) notice(n *nodeObject, within time.Duration) {
	w := c.world
	i := c.of("", n.providerID)
	if i == nil || i.failure != nil || i.going || !i.leavingAt.IsZero() {
		return
	}
	at := w.now.Add(within)
	w.tell("cloud", "%s will be taken away at %s", i.name, at.Format(time.RFC3339))
	w.ledger.counts["spot notices"]++
	w.ledger.taken[w.machineOf(n)] = true
	c.edit(i.name, func(i *instance) { i.leavingAt = at })
	w.after(within, func() {
		if c.instances.get(i.name) != nil {
			w.tell("cloud", "%s is taken away", i.name)
			c.remove(i.name)
			w.removeNode(n.name)
		}
	})
}
