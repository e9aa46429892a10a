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

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

var (
	seeds    = flag.Int("nodegroup.seeds", 500, "number of pools to simulate")
	onlySeed = flag.Uint64("nodegroup.seed", 0, "simulate this one pool and print its story")
)

// TestSimulation lets the planner run pools in which everything happens at random: claims come and go, machines
// boot, fail to come and vanish, other workloads settle, Cluster Autoscaler scales for them, and the provider
// is killed between any two of its writes. What must never happen is checked after every step, and at the end,
// when nothing happens any more, that everything is in its place.
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
	released, givenUp, retired, failed := 0, 0, 0, 0
	for seed := uint64(1); seed <= uint64(*seeds); seed++ {
		w := simulate(seed)
		released += w.released
		givenUp += w.givenUp
		retired += w.retired
		failed += w.failed
		if len(w.broken) > 0 {
			t.Fatalf("seed %d is broken:\n%s\n\nthe end of its story (all of it with -nodegroup.seed=%d -v):\n%s",
				seed, strings.Join(w.broken, "\n"), seed, strings.Join(w.story[max(0, len(w.story)-60):], "\n"))
		}
	}
	if released < *seeds || givenUp == 0 || retired < *seeds/10 || failed < *seeds {
		t.Errorf("%d machines were released, %d orders given up, %d machines retired and %d failed in %d pools: the simulation does not exercise the planner",
			released, givenUp, retired, failed, *seeds)
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
			writes = w.rand.IntN(4)
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
	}
	w.checkRest()
	return w
}

// world is one pool and what happens to it.
type world struct {
	rand *rand.Rand
	now  time.Time
	// group is what is recorded in objects; its machines are made anew for each look.
	group    nodegroup.Group
	machines map[string]*nodegroup.Machine
	claims   map[string]*worldClaim
	target   int32 // what it was when it was last looked at: it may be above a maxSize that was lowered since
	told     int32 // what Cluster Autoscaler believes the least size to be
	foreign  map[string]int
	// stays are the nodes that a member has given up and nobody has used since, each with the time of that.
	stays map[string]time.Time
	// quiet is set when nothing happens any more that nobody asked for.
	quiet bool
	// recorded has the machines whose failure a status has told of.
	recorded map[string]bool
	// ever has the machines that there have been.
	ever map[string]bool

	released, givenUp, retired, failed int
	story, broken                      []string
}

type worldClaim struct {
	nodes int32
	held  []string
}

func newWorld(seed uint64) *world {
	w := &world{
		rand: rand.New(rand.NewPCG(seed, seed)), now: noon, machines: map[string]*nodegroup.Machine{},
		claims: map[string]*worldClaim{}, foreign: map[string]int{}, stays: map[string]time.Time{}, recorded: map[string]bool{}, ever: map[string]bool{},
	}
	w.group = nodegroup.Group{
		Name: "hpc", MinSize: int32(w.rand.IntN(3)), MaxSize: int32(6 + w.rand.IntN(6)), ProvisionTimeout: provisionTimeout,
		FollowsFloor: w.rand.IntN(4) == 0,
	}
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

// look is the group as it can be observed now.
func (w *world) look() *nodegroup.Group {
	g := w.group
	g.ToDelete = slices.Clone(g.ToDelete)
	g.Machines, g.Reservations = nil, nil
	for _, name := range slices.Sorted(maps.Keys(w.machines)) {
		m := *w.machines[name]
		if m.Node != nil {
			node := *m.Node
			m.Node = &node
		}
		g.Machines = append(g.Machines, m)
	}
	for _, name := range slices.Sorted(maps.Keys(w.claims)) {
		c := w.claims[name]
		g.Reservations = append(g.Reservations, nodegroup.Reservation{Member: name, Nodes: c.nodes, Held: slices.Clone(c.held)})
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
		c = &worldClaim{}
		w.claims[name] = c
	}
	c.nodes = nodes
	for len(c.held) > int(nodes) {
		last := c.held[len(c.held)-1]
		c.held = c.held[:len(c.held)-1]
		if m := w.machines[last]; m != nil && m.Node != nil {
			m.Node.Pods = w.foreign[last]
			if m.Node.HeldBy != "" && m.Node.Pods == 0 && !m.Node.Leaving {
				w.stays[last] = w.now
			}
		}
	}
	w.tell("%s claims %d nodes and keeps %v", name, nodes, c.held)
	if w.rand.IntN(3) > 0 {
		// Otherwise the provider looks first.
		w.hold()
	}
}

// hold gives members the usable nodes that nobody holds, and puts a pod on each.
func (w *world) hold() {
	taken := map[string]bool{}
	for _, c := range w.claims {
		c.held = slices.DeleteFunc(c.held, func(name string) bool { return w.machines[name] == nil })
		for _, name := range c.held {
			taken[name] = true
		}
	}
	for _, member := range slices.Sorted(maps.Keys(w.claims)) {
		c := w.claims[member]
		for _, name := range slices.Sorted(maps.Keys(w.machines)) {
			m := w.machines[name]
			if len(c.held) < int(c.nodes) && !taken[name] && m.Node != nil && m.Node.Ready && !m.Node.Releasing && !m.Node.Leaving &&
				m.Node.Pods == 0 && !slices.Contains(w.group.ToDelete, name) {
				c.held = append(c.held, name)
				taken[name] = true
				m.Node.Pods = 1
				delete(w.stays, name)
				w.tell("%s holds %s", member, name)
			}
		}
	}
}

// boot lets machines register and become Ready.
func (w *world) boot() {
	for _, name := range slices.Sorted(maps.Keys(w.machines)) {
		m := w.machines[name]
		switch {
		case m.Failure != nil:
		case m.Node == nil && !m.Registered && !w.quiet && w.rand.IntN(8) == 0:
			m.Failure = &nodegroup.Failure{At: w.now, Class: v1alpha1.FailureOutOfResources, Code: "OutOfStock", Message: "none is left"}
			w.failed++
			w.tell("%s fails", name)
		case m.Node == nil && !m.Registered && w.now.Sub(m.OrderedAt) > 5*time.Second:
			m.Registered = true
			m.Node = &nodegroup.Node{Name: name, CreatedAt: w.now, Reserved: m.Purpose == v1alpha1.PurposeReservation}
			w.tell("%s registers", name)
		case m.Node != nil && !m.Node.Ready:
			m.Node.Ready = true
			w.tell("%s is Ready", name)
		}
	}
	w.hold()
}

// clusterAutoscaler is one of the things that it does.
func (w *world) clusterAutoscaler() {
	if w.group.FollowsFloor {
		return
	}
	switch w.rand.IntN(5) {
	case 0, 1:
		w.enforce()
	case 4:
		w.changeItsMind()
	case 2:
		w.increase(int32(1 + w.rand.IntN(2)))
	default:
		g := w.look()
		for i := range g.Machines {
			node := g.Machines[i].Node
			if node == nil || node.Pods > 0 || node.HeldBy != "" || node.Releasing || g.Target-1 < w.told {
				continue
			}
			victims, target, err := g.DeleteNodes([]string{node.Name})
			if err == nil && len(victims) > 0 {
				w.group.Target, w.group.ForMembers = target, min(w.group.ForMembers, target)
				w.group.ToDelete = append(w.group.ToDelete, victims...)
				w.tell("Cluster Autoscaler deletes %v", victims)
			}
			return
		}
	}
}

// enforce is a loop of Cluster Autoscaler that asks for the least size and raises the target to it.
func (w *world) enforce() {
	if w.group.FollowsFloor {
		return
	}
	w.forget()
	w.told = w.look().MinSizeToTell()
	w.group.AnnouncedFloor = w.told
	if w.group.Target < w.told {
		w.increase(w.told - w.group.Target)
	}
}

// forget deletes the machines that have failed, as Cluster Autoscaler does once a loop.
func (w *world) forget() {
	var failed []string
	for _, i := range w.look().Instances(w.now, w.idOf) {
		if i.Failure != nil && i.State == nodegroup.InstanceCreating {
			failed = append(failed, strings.TrimPrefix(i.ProviderID, "test://"))
		}
	}
	victims, target, err := w.look().DeleteNodes(failed)
	if err != nil || len(victims) == 0 {
		return
	}
	w.group.Target, w.group.ForMembers = target, min(w.group.ForMembers, target)
	w.group.ToDelete = append(w.group.ToDelete, victims...)
	w.tell("Cluster Autoscaler deletes the failed %v", victims)
}

// changeItsMind orders two machines and deletes one of them before it exists.
func (w *world) changeItsMind() {
	before := map[string]bool{}
	for _, i := range w.look().Instances(w.now, w.idOf) {
		before[i.ProviderID] = true
	}
	w.increase(2)
	var fresh []string
	for _, i := range w.look().Instances(w.now, w.idOf) {
		if !before[i.ProviderID] {
			fresh = append(fresh, strings.TrimPrefix(i.ProviderID, "test://"))
		}
	}
	if len(fresh) < 2 {
		return
	}
	victims, target, err := w.look().DeleteNodes(fresh[w.rand.IntN(2):][:1])
	if err != nil {
		return
	}
	w.promise(len(victims) == 1 && target == w.group.Target-1, "of %v on order %v are deleted, and the target goes from %d to %d", fresh, victims, w.group.Target, target)
	w.group.Target, w.group.ForMembers = target, min(w.group.ForMembers, target)
	w.group.ToDelete = append(w.group.ToDelete, victims...)
	w.tell("Cluster Autoscaler deletes %v, which is on order", victims)
}

func (w *world) idOf(n int64) string { return fmt.Sprintf("test://hpc-%d", n) }

// user edits the pool, as far as that is allowed.
func (w *world) user() {
	switch w.rand.IntN(6) {
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
	}
}

func (w *world) increase(delta int32) {
	target, forMembers, err := w.look().IncreaseSize(delta)
	if err != nil {
		return
	}
	w.tell("IncreaseSize: target %d -> %d, %d for members", w.group.Target, target, forMembers)
	w.group.Target, w.group.ForMembers = target, forMembers
}

// neighbours lets pods of other workloads come and go, on nodes that nothing keeps them from.
func (w *world) neighbours() {
	for _, name := range slices.Sorted(maps.Keys(w.machines)) {
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

// misfortune takes a machine away, or a taint, as a Cluster Autoscaler that starts does.
func (w *world) misfortune() {
	for _, name := range slices.Sorted(maps.Keys(w.machines)) {
		m := w.machines[name]
		switch w.rand.IntN(12) {
		case 0:
			w.tell("%s vanishes", name)
			delete(w.machines, name)
			delete(w.foreign, name)
			delete(w.stays, name)
			return
		case 1:
			if m.Node != nil && m.Node.Releasing {
				m.Node.Releasing, m.Node.Untainted = false, true
				w.tell("somebody takes the taint from %s", name)
			}
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
		for _, name := range c.held {
			if m := w.machines[name]; m != nil && m.Node != nil {
				m.Node.Pods = w.foreign[name]
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

// reconcile is a pass that is killed after so many writes, -1 for none.
func (w *world) reconcile(writes int) {
	g := w.look()
	d := nodegroup.Plan(g, announceTimeout, w.now)
	w.promise(!g.Paused || len(d.Marks)+len(d.Release)+len(d.Retire)+len(d.Delete)+len(d.Gone)+len(d.Cancel)+len(d.Order) == 0 && d.Raise == 0 && d.GiveUp == 0,
		"something is done to a paused pool: %+v", d)
	if !w.quiet && w.rand.IntN(4) == 0 {
		// Something happens between the look and the writes.
		w.neighboursSettle()
	}
	for _, write := range w.writes(g, &d) {
		if writes == 0 {
			w.tell("the provider is killed")
			return
		}
		writes--
		write()
	}
}

func (w *world) neighboursSettle() {
	for _, name := range slices.Sorted(maps.Keys(w.machines)) {
		if node := w.machines[name].Node; node != nil && node.Ready && !node.Releasing && node.HeldBy == "" && node.Pods == 0 {
			w.foreign[name]++
			node.Pods++
			delete(w.stays, name)
			w.tell("a neighbour settles on %s in the middle of a pass", name)
			return
		}
	}
}

// writes are those of a pass, in their order.
func (w *world) writes(g *nodegroup.Group, d *nodegroup.Decisions) []func() {
	var out []func()
	if d.Floor != g.Floor {
		out = append(out, func() {
			w.tell("floor %d -> %d", w.group.Floor, d.Floor)
			w.group.Floor, w.group.FloorChangedAt = d.Floor, w.now
		})
	}
	if len(d.NewlyFailed) > 0 {
		out = append(out, func() {
			w.tell("%v failed", d.NewlyFailed)
			w.group.LastFailure = d.LastFailure
			for _, name := range d.NewlyFailed {
				w.recorded[name] = true
			}
		})
	}
	out = append(out, func() { w.group.KnownFailed, w.group.OrderedFrom = d.Failed, d.OrderedFrom })
	for i := range d.Marks {
		mark := d.Marks[i]
		out = append(out, func() {
			if m := w.machines[mark.Node]; m != nil && m.Node != nil {
				if since, stays := w.stays[mark.Node]; stays && mark.Releasing && !m.Node.Releasing && !w.group.Deleting && !slices.Contains(w.group.ToDelete, mark.Node) {
					w.promise(!w.now.Before(since.Add(w.group.ScaleDownDelay)), "%s is released, which a member gave up at %s", mark.Node, since.Format(time.TimeOnly))
				}
				if (m.Node.HeldBy != "") != (mark.HeldBy != "") || !mark.Warm {
					m.Node.GivenUpAt = time.Time{}
					if mark.Warm {
						m.Node.GivenUpAt = w.now
					}
				}
				m.Node.HeldBy, m.Node.Releasing, m.Node.Untainted = mark.HeldBy, mark.Releasing, false
				m.Node.Reserved = m.Node.Reserved || mark.Reserved
				w.tell("%s: %s", mark.Node, mark.Why)
			}
		})
	}
	if len(d.Release)+len(d.Retire)+len(d.Gone) > 0 || d.Raise > 0 || d.GiveUp > 0 {
		out = append(out, func() { w.setTarget(d) })
	}
	for _, name := range d.Delete {
		out = append(out, func() {
			m := w.machines[name]
			if m != nil && m.Failure != nil {
				w.promise(w.recorded[name], "%s is deleted and its failure is not recorded", name)
			}
			if m != nil && m.Node != nil {
				w.promise(m.Node.Releasing && m.Node.Pods == 0, "%s is deleted, with %d pods; that a taint keeps pods off it is %t", name, m.Node.Pods, m.Node.Releasing)
			}
			delete(w.machines, name)
			delete(w.foreign, name)
			w.tell("%s is deleted", name)
		})
	}
	for _, name := range d.Cancel {
		out = append(out, func() {
			if m := w.machines[name]; m != nil && !m.Registered {
				delete(w.machines, name)
				w.tell("%s is cancelled", name)
			}
		})
	}
	if len(d.Order) > 0 {
		numbers := g.NextNumbers(len(d.Order))
		out = append(out, func() { w.group.OrderedFrom, w.group.Ordered = numbers[0], numbers[len(numbers)-1]+1 })
		for i, purpose := range d.Order {
			out = append(out, func() {
				name := nodegroup.MachineName("hpc", numbers[i])
				w.promise(!w.ever[name], "%s is ordered a second time", name)
				w.ever[name] = true
				w.promise(len(w.machines)-w.going() < int(w.group.MaxSize), "%s is ordered above maxSize %d", name, w.group.MaxSize)
				w.machines[name] = &nodegroup.Machine{Name: name, ProviderID: "test://" + name, Purpose: purpose, OrderedAt: w.now}
				w.tell("%s is ordered for %s", name, purpose)
			})
		}
	}
	return out
}

// going is the number of machines that exist and are on their way out.
func (w *world) going() int {
	count := 0
	for _, name := range w.group.ToDelete {
		if w.machines[name] != nil {
			count++
		}
	}
	return count
}

// setTarget is the one write of spec, with the live look at what is released.
func (w *world) setTarget(d *nodegroup.Decisions) {
	held := map[string]string{}
	for member, c := range w.claims {
		for _, name := range c.held {
			held[name] = member
		}
	}
	stays := func(name string) bool {
		m := w.machines[name]
		return held[name] != "" || (m != nil && m.Node != nil && (!m.Node.Releasing || m.Node.Pods > 0))
	}
	retire := slices.DeleteFunc(slices.Clone(d.Retire), stays)
	w.promise(len(retire) == 0 || w.group.FollowsFloor || w.group.Deleting, "%v are retired, and Cluster Autoscaler decides", retire)
	var release []string
	for _, name := range d.Release {
		m := w.machines[name]
		if stays(name) {
			continue
		}
		w.promise(m == nil || m.Node == nil || m.Node.Reserved || w.group.Deleting, "%s is released and has no mark", name)
		release = append(release, name)
	}
	target := max(w.group.Target, d.Raise) - int32(len(release)) - d.GiveUp
	if len(retire) > 0 {
		w.tell("retired %v", retire)
	}
	if target != w.group.Target || len(release) > 0 {
		w.tell("target %d -> %d, released %v, gave up %d", w.group.Target, target, release, d.GiveUp)
	}
	w.promise(w.group.Deleting || target >= w.group.Target || target >= max(w.group.MinSize, w.group.Floor), "the target is lowered to %d, below minSize %d or floor %d",
		target, w.group.MinSize, w.group.Floor)
	w.promise(w.group.Deleting || target >= w.group.Target || w.group.FollowsFloor || target >= w.group.AnnouncedFloor || w.now.Sub(w.group.FloorChangedAt) >= announceTimeout,
		"the target is lowered to %d, and Cluster Autoscaler was told %d", target, w.group.AnnouncedFloor)
	if d.Raise > w.group.Target {
		w.group.ForMembers = d.RaisedForMembers
	}
	w.group.Target, w.group.ForMembers = target, min(w.group.ForMembers, target)
	w.group.ToDelete = slices.DeleteFunc(slices.Concat(w.group.ToDelete, release, retire), func(name string) bool { return slices.Contains(d.Gone, name) })
	w.released += len(release)
	w.retired += len(retire)
	w.givenUp += int(d.GiveUp)
}

// check is what must be true at every moment.
func (w *world) check() {
	g := w.look()
	w.promise(g.Target >= 0 && g.Target <= max(g.MaxSize, w.target), "the target is %d, of 0 to %d", g.Target, g.MaxSize)
	w.target = g.Target
	for _, name := range g.ToDelete {
		for member, c := range w.claims {
			w.promise(!slices.Contains(c.held, name), "%s, which %s holds, is to be deleted", name, member)
		}
	}
	instances := g.Instances(w.now, w.idOf)
	ids := map[string]bool{}
	alive := 0
	for _, i := range instances {
		w.promise(!ids[i.ProviderID], "instance %s is listed twice", i.ProviderID)
		ids[i.ProviderID] = true
		if i.State != nodegroup.InstanceDeleting {
			alive++
		}
	}
	w.promise(alive >= int(g.Target), "%d instances are listed, of %d", alive, g.Target)
}

// checkRest is what must be true when nothing has happened for long.
func (w *world) checkRest() {
	g := w.look()
	d := nodegroup.Plan(g, announceTimeout, w.now)
	if s := stepsOf(&d); len(s.Say)+len(s.Release)+len(s.Retire)+len(s.Delete)+len(s.Gone)+len(s.Cancel)+len(s.Order) > 0 || s.GiveUp+s.Raise > 0 || s.Floor != g.Floor {
		w.promise(false, "there is still something to do: %+v", s)
	}
	if g.Deleting {
		w.promise(d.Finish, "the NodePool is being deleted and does not go: its target is %d, it has %d machines, and %v are to go", g.Target, len(g.Machines), g.ToDelete)
		return
	}
	w.promise(len(g.Machines) == int(g.Target), "there are %d machines and the target is %d", len(g.Machines), g.Target)
	w.promise(!g.FollowsFloor || g.Target <= g.MaxSize, "the target %d is above maxSize %d", g.Target, g.MaxSize)
	w.promise(g.Target >= max(g.MinSize, g.Floor), "the target %d is below minSize %d or floor %d", g.Target, g.MinSize, g.Floor)
	w.promise(g.Floor == min(g.Reserved(), g.MaxSize), "the floor is %d and %d nodes are reserved", g.Floor, g.Reserved())
	holders := map[string]string{}
	for member, c := range w.claims {
		w.promise(len(c.held) == int(c.nodes), "%s claims %d nodes and holds %d", member, c.nodes, len(c.held))
		for _, name := range c.held {
			holders[name] = member
		}
	}
	room := g.Target - max(g.MinSize, g.Floor)
	for i := range g.Machines {
		m := &g.Machines[i]
		w.promise(m.Node != nil, "%s has no node", m.Name)
		if m.Node == nil {
			continue
		}
		w.promise(m.Node.HeldBy == holders[m.Name], "%s says that %q holds it, and %q does", m.Name, m.Node.HeldBy, holders[m.Name])
		w.promise(m.Node.GivenUpAt.IsZero(), "%s is still kept from Cluster Autoscaler, for a next growth", m.Name)
		w.promise(!m.Node.Releasing && !m.Node.Untainted, "%s is still being released, or says so", m.Name)
		w.promise(room <= 0 || !m.Node.Reserved || holders[m.Name] != "", "%s was a member's, is nobody's now, and is kept", m.Name)
	}
}
