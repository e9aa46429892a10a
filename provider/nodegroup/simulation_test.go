package nodegroup_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

var (
	seeds    = flag.Int("nodegroup.seeds", 500, "number of pools to simulate")
	onlySeed = flag.Uint64("nodegroup.seed", 0, "simulate this one pool and print its story")
)

// TestSimulation lets the planner run pools in which everything happens at random: claims come and go, machines
// boot, fail to come, crash, are taken away and vanish, records are deleted, clouds throttle and lose replies, other workloads
// settle, Cluster Autoscaler scales for them, and the provider is killed between any two of its writes. What must never happen is
// checked after every step (simulation_promises_test.go), and at the end, when nothing happens any more, that everything is in its
// place.
func TestSimulation(t *testing.T) {
	t.Parallel()
	if *onlySeed != 0 {
		w := simulate(*onlySeed)
		t.Logf("the story of seed %d:\n%s", *onlySeed, strings.Join(w.story, "\n"))
		if len(w.broken) > 0 {
			t.Errorf("broken:\n%s", strings.Join(w.broken, "\n"))
		}
		return
	}
	done := map[string]int{}
	for seed := uint64(1); seed <= uint64(*seeds); seed++ {
		w := simulate(seed)
		for what, times := range w.done {
			done[what] += times
		}
		if len(w.broken) > 0 {
			t.Fatalf("seed %d is broken:\n%s\n\nthe end of its story (all of it with -nodegroup.seed=%d -v):\n%s",
				seed, strings.Join(w.broken, "\n"), seed, strings.Join(w.story[max(0, len(w.story)-60):], "\n"))
		}
	}
	t.Logf("in %d pools: %v", *seeds, done)
	for what, least := range map[string]int{
		"released": *seeds, "given up": 1, "retired": *seeds / 10, "failed": *seeds, "lost": *seeds / 2, "left": *seeds / 2,
		"abandoned": *seeds / 10, "ordered for all or none": *seeds / 10, "ordered for a claim": *seeds, "throttled": *seeds / 4,
		"repaired": *seeds / 50, "timed out": *seeds / 20, "lacking less": 1, "believed missing": *seeds / 10, "cancelled": 1,
	} {
		if done[what] < least {
			t.Errorf("%d machines were %s in %d pools, fewer than %d: the simulation does not exercise the planner", done[what], what, *seeds, least)
		}
	}
}

func simulate(seed uint64) *world {
	w := newWorld(seed)
	for range 200 {
		w.now = w.now.Add(time.Duration(w.rand.IntN(5)) * time.Second)
		happening := []func(){w.members, w.boot, w.clusterAutoscaler, w.neighbours, w.misfortune, w.user}
		happening[w.rand.IntN(len(happening))]()
		writes := -1
		if w.rand.IntN(3) == 0 {
			writes = w.rand.IntN(6)
		}
		w.reconcile(writes)
		w.check()
		if len(w.broken) > 0 {
			return w
		}
	}
	if w.rand.IntN(4) == 0 {
		w.remove()
	}
	w.tell("nothing happens any more")
	w.leave()
	for range 60 {
		w.now = w.now.Add(announceTimeout)
		w.boot()
		w.enforce()
		w.hold()
		w.reconcile(-1)
		w.check()
		if len(w.broken) > 0 {
			return w
		}
	}
	w.checkRest()
	return w
}

// world is one pool and what happens to it.
type world struct {
	rand *rand.Rand
	now  time.Time
	// group is what is recorded in objects; its machines are recreated for each look.
	group    nodegroup.Group
	machines map[string]*nodegroup.Machine // by the name of the machine
	claims   map[string]*worldClaim
	target   int32 // what it was when it was last looked at: it may be above a maxSize that was lowered since
	told     int32 // what Cluster Autoscaler believes the minimum size to be
	listed   int32 // what it believes the target to be
	foreign  map[string]int
	// stays are the machines whose nodes a member has given up and nobody has used since, each with the time of that.
	stays map[string]time.Time
	// quiet is set when nothing happens any more that nobody asked for.
	quiet bool
	// withFloor has the machines whose failure a status has told of.
	recorded map[string]bool
	// ever has the machines that there have been.
	ever map[string]bool
	// stuck has the machines whose node does not become Ready.
	stuck map[string]bool
	// ownNames, lateIDs, slow and throttles say what cloud it is: whether nodes have names of their own, provider ids are known with
	// the node only, deletion takes long, and the cloud asks to be asked later.
	ownNames, lateIDs, slow, throttles bool
	// drains and timesOut are what Karpenter and Cluster API are like besides: a drain is looked at again after 20 seconds, and a machine
	// that does not register is given up by the cloud, which happens to those in never.
	drains, timesOut bool
	never            map[string]bool

	done          map[string]int
	story, broken []string
}

type worldClaim struct {
	nodes        int32
	held         []string // names of nodes
	id           string
	since        time.Time
	allOrNothing bool
}

func newWorld(seed uint64) *world {
	w := &world{
		rand: rand.New(rand.NewPCG(seed, seed)), now: noon, machines: map[string]*nodegroup.Machine{},
		claims: map[string]*worldClaim{}, foreign: map[string]int{}, stays: map[string]time.Time{}, recorded: map[string]bool{},
		ever: map[string]bool{}, stuck: map[string]bool{}, never: map[string]bool{}, done: map[string]int{},
	}
	w.group = nodegroup.Group{
		Name: "hpc", MinSize: int32(w.rand.IntN(3)), MaxSize: int32(6 + w.rand.IntN(6)), ProvisionTimeout: provisionTimeout,
		FollowsFloor: w.rand.IntN(4) == 0, CanBeAtomic: w.rand.IntN(2) == 0,
	}
	w.ownNames, w.lateIDs, w.slow, w.throttles = w.rand.IntN(2) == 0, w.rand.IntN(2) == 0, w.rand.IntN(2) == 0, w.rand.IntN(3) == 0
	w.drains, w.timesOut = w.rand.IntN(3) == 0, w.rand.IntN(3) == 0
	if w.rand.IntN(3) == 0 {
		w.group.ScaleDownDelay = time.Minute
	}
	return w
}

func (w *world) tell(format string, arguments ...any) {
	w.story = append(w.story, w.now.Format("15:04:05 ")+fmt.Sprintf(format, arguments...))
}

func (w *world) promise(held bool, format string, arguments ...any) {
	if !held {
		w.broken = append(w.broken, fmt.Sprintf(format, arguments...))
		w.tell("BROKEN: "+format, arguments...)
	}
}

// names are those of the machines, in their order.
func (w *world) names() []string { return slices.Sorted(maps.Keys(w.machines)) }

// byNode is the machine whose node has a name.
func (w *world) byNode(node string) *nodegroup.Machine {
	for _, m := range w.machines {
		if m.NodeName == node {
			return m
		}
	}
	return nil
}

// holders has the member that holds a node, by the node's name.
func (w *world) holders() map[string]string {
	holders := map[string]string{}
	for member, c := range w.claims {
		for _, node := range c.held {
			holders[node] = member
		}
	}
	return holders
}

// doomed reports whether somebody else than the planner has decided that a machine goes.
func doomed(m *nodegroup.Machine) bool {
	return gone(m) || !m.LeavingAt.IsZero() || !m.Going.IsZero()
}

// gone reports whether a machine has arrived and is no more.
func gone(m *nodegroup.Machine) bool { return m.Registered && m.Failure != nil }

// look is the group as it can be observed now.
func (w *world) look() *nodegroup.Group {
	g := w.group
	g.ToDelete = slices.Clone(g.ToDelete)
	g.Machines, g.Reservations = nil, nil
	for _, name := range w.names() {
		m := *w.machines[name]
		if m.Node != nil {
			node := *m.Node
			m.Node = &node
		}
		g.Machines = append(g.Machines, m)
	}
	for _, name := range slices.Sorted(maps.Keys(w.claims)) {
		c := w.claims[name]
		g.Reservations = append(g.Reservations, nodegroup.Reservation{
			Member: name, Nodes: c.nodes, Held: slices.Clone(c.held), Claim: c.id, Since: c.since, AllOrNothing: c.allOrNothing,
		})
	}
	return &g
}

// members changes what members claim, within the pool's maximum, as the controller does.
func (w *world) members() {
	name := fmt.Sprintf("ns/m%d", w.rand.IntN(3))
	var others int32
	for other, c := range w.claims {
		if other != name {
			others += c.nodes
		}
	}
	nodes := int32(w.rand.IntN(int(w.group.MaxSize-others) + 1))
	c := w.claims[name]
	if c == nil {
		c = &worldClaim{allOrNothing: w.rand.IntN(2) == 0}
		w.claims[name] = c
	}
	if nodes > c.nodes {
		c.id, c.since = fmt.Sprintf("%s-%d", name, w.now.UnixMicro()), w.now
	}
	c.nodes = nodes
	for len(c.held) > int(nodes) {
		last := c.held[len(c.held)-1]
		c.held = c.held[:len(c.held)-1]
		w.vacate(last)
	}
	w.tell("%s claims %d nodes and keeps %v", name, nodes, c.held)
	if w.rand.IntN(3) > 0 {
		// Otherwise the provider looks first.
		w.hold()
	}
}

// vacate takes the pods of members from a node that one gives up.
func (w *world) vacate(node string) {
	m := w.byNode(node)
	if m == nil || m.Node == nil {
		return
	}
	m.Node.Pods = w.foreign[m.Name]
	if m.Node.HeldBy != "" && m.Node.Pods == 0 && !m.Node.Leaving && !doomed(m) {
		w.stays[m.Name] = w.now
	}
}

// hold takes from members what is gone, and, after a while, what goes; and gives them the usable nodes that nobody holds, a
// pod on each.
func (w *world) hold() {
	taken := map[string]bool{}
	for _, member := range slices.Sorted(maps.Keys(w.claims)) {
		c := w.claims[member]
		c.held = slices.DeleteFunc(c.held, func(node string) bool {
			m := w.byNode(node)
			if m == nil {
				return true
			}
			drop := doomed(m) && (w.quiet || w.rand.IntN(4) == 0)
			if drop {
				w.tell("%s gives up %s, which is of no use any more", member, node)
				w.vacate(node)
			}
			return drop
		})
		for _, node := range c.held {
			taken[node] = true
		}
	}
	for _, member := range slices.Sorted(maps.Keys(w.claims)) {
		c := w.claims[member]
		for _, name := range w.names() {
			m := w.machines[name]
			if len(c.held) < int(c.nodes) && m.Node != nil && !taken[m.NodeName] && m.Node.Ready && !m.Node.Releasing && !m.Node.Leaving &&
				m.Node.Pods == 0 && !doomed(m) && !slices.Contains(w.group.ToDelete, name) {
				c.held = append(c.held, m.NodeName)
				taken[m.NodeName] = true
				m.Node.Pods = 1
				delete(w.stays, name)
				w.tell("%s holds %s", member, m.NodeName)
			}
		}
	}
}

// user edits the pool, as far as that is allowed, and deletes a record.
func (w *world) user() {
	switch w.rand.IntN(7) {
	case 0:
		w.group.Paused = !w.group.Paused
		w.tell("the user sets paused to %t", w.group.Paused)
	case 1:
		w.group.MinSize = int32(w.rand.IntN(3))
		w.tell("the user sets minSize to %d", w.group.MinSize)
	case 2:
		if w.group.FollowsFloor {
			w.group.Target = int32(w.rand.IntN(int(w.group.MaxSize) + 1))
			w.group.ForMembers = min(w.group.ForMembers, w.group.Target)
			w.tell("the user scales to %d", w.group.Target)
		}
	case 3:
		// No lower than what members have been granted.
		granted := int32(0)
		for _, c := range w.claims {
			granted += c.nodes
		}
		least := max(2, granted)
		w.group.MaxSize = least + int32(w.rand.IntN(int(max(12-least, 1))))
		w.tell("the user sets maxSize to %d", w.group.MaxSize)
	case 4:
		if names := w.names(); len(names) > 0 {
			name := names[w.rand.IntN(len(names))]
			w.tell("the user deletes the record of %s", name)
			w.deleteRecord(name)
		}
	}
}

// neighbours lets pods of other workloads come and go, on nodes that nothing keeps them from.
func (w *world) neighbours() {
	for _, name := range w.names() {
		node := w.machines[name].Node
		switch {
		case node == nil || w.rand.IntN(3) > 0:
		case w.foreign[name] > 0:
			w.foreign[name]--
			node.Pods--
			w.tell("a neighbour leaves %s", name)
		case node.Ready && !node.Releasing && node.HeldBy == "" && !slices.Contains(w.group.ToDelete, name):
			w.foreign[name]++
			node.Pods++
			delete(w.stays, name)
			w.tell("a neighbour settles on %s", name)
			return
		}
	}
}

func (w *world) neighboursSettle() {
	for _, name := range w.names() {
		node := w.machines[name].Node
		if node != nil && node.Ready && !node.Releasing && node.HeldBy == "" && node.Pods == 0 {
			w.foreign[name]++
			node.Pods++
			delete(w.stays, name)
			w.tell("a neighbour settles on %s in the middle of a pass", name)
			return
		}
	}
}

// leave ends what keeps the pool from coming to rest: other workloads.
func (w *world) leave() {
	w.quiet = true
	w.group.Paused = false
	for name := range w.foreign {
		if m := w.machines[name]; m != nil && m.Node != nil {
			m.Node.Pods -= w.foreign[name]
		}
	}
	clear(w.foreign)
}

// remove is the user who deletes the pool, which no member uses any more, and what happens to it while it goes.
func (w *world) remove() {
	w.tell("the user deletes the NodePool")
	w.group.Deleting = true
	for _, c := range w.claims {
		for _, node := range c.held {
			if m := w.byNode(node); m != nil && m.Node != nil {
				m.Node.Pods = w.foreign[m.Name]
			}
		}
	}
	clear(w.claims)
	for range 20 {
		w.now = w.now.Add(time.Duration(w.rand.IntN(5)) * time.Second)
		happening := []func(){w.boot, w.clusterAutoscaler, w.neighbours, w.misfortune, w.user}
		happening[w.rand.IntN(len(happening))]()
		w.reconcile(w.rand.IntN(8) - 1)
		w.check()
	}
}
