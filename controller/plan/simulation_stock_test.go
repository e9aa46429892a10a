package plan_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// TestStockSimulation lets several gangs ask at once for machines that are there for some of them. Each could be served alone. One is
// served within two boots, and when it has ended another, until all have been.
func TestStockSimulation(t *testing.T) {
	t.Parallel()
	if *onlySeed != 0 {
		w := simulateStock(*onlySeed)
		t.Logf("the story of seed %d:\n%s", *onlySeed, strings.Join(w.story, "\n"))
		if len(w.broken) > 0 {
			t.Errorf("broken promises:\n%s", strings.Join(w.broken, "\n"))
		}
		return
	}
	short := 0
	for seed := *first; seed < *first+uint64(*seeds); seed++ {
		w := simulateStock(seed)
		short += strings.Count(strings.Join(w.story, "\n"), "OutOfStock")
		if len(w.broken) > 0 {
			t.Fatalf("seed %d broke promises:\n%s\n\nthe end of its story (all of it with -plan.seed=%d -v):\n%s",
				seed, strings.Join(w.broken, "\n"), seed, strings.Join(w.story[max(0, len(w.story)-80):], "\n"))
		}
	}
	if short < *seeds {
		t.Errorf("only %d failures in %d worlds: the stocks are not short", short, *seeds)
	}
}

// stockBoot is the longest boot in these worlds, launching the longest launch, scan the time between two looks of Cluster Autoscaler.
const (
	stockBoot = 40 * time.Second
	launching = 2 * time.Second
	scan      = 10 * time.Second
)

// simulateStock is a world of gangs and short stocks.
func simulateStock(seed uint64) *world {
	w := newWorld(seed)
	w.quiet, w.launches = true, true
	for _, name := range []string{"a", "b", "c"} {
		p := w.pools[name]
		p.MaxSize, p.Labels, p.daemons, p.stock = 40, nil, 0, 6+w.rand.IntN(8)
	}
	lists := [][]string{{"a"}, {"a"}, {"a", "b"}, {"b", "a"}, {"a", "b", "c"}}
	returns := w.rand.IntN(3) == 0
	full := map[string]int{}
	for name, p := range w.pools {
		full[name] = p.stock
		if returns {
			p.stock = 0
		}
	}
	for i := range 2 + w.rand.IntN(3) {
		list := lists[w.rand.IntN(len(lists))]
		// Each could be served alone: by the first of its pools, or by all of them together.
		placement, most := v1alpha1.PlacementSingle, full[list[0]]
		if w.rand.IntN(2) == 0 {
			placement, most = v1alpha1.PlacementSpan, 0
			for _, name := range list {
				most += full[name]
			}
		}
		w.gang(fmt.Sprintf("m%d", i), int32(2+w.rand.IntN(most-1)), list, placement)
	}
	began, served, last := w.now, 0, w.now
	if returns {
		// Retries come as late as their back-off says.
		w.tell("the machines come one by one")
	}
	for step := 0; served < len(w.members) && step < 2*3600*6; step++ {
		w.now = w.now.Add(500 * time.Millisecond)
		if returns && step%20 == 0 {
			for _, name := range []string{"a", "b", "c"} {
				w.pools[name].stock = min(full[name], w.pools[name].stock+1)
			}
		}
		parts := []func(){func() { w.reconcile(-1) }, w.launch, w.releaseBooting, w.jobs}
		if step%int(scan/(500*time.Millisecond)) == 0 {
			parts = append(parts, w.clusterAutoscaler)
		}
		for _, part := range w.rand.Perm(len(parts)) {
			parts[part]()
		}
		if more := w.end(); more > 0 {
			served, last = served+more, w.now
		}
		if limit := 2*(stockBoot+launching) + 3*scan; served == 0 && !returns {
			w.promise(w.now.Sub(began) < limit, "none of %d gangs is served %v after they asked", len(w.members), limit)
		}
		// A back-off is ten minutes at most, and half of that later.
		if limit := 15*time.Minute + 2*(stockBoot+launching) + 3*scan; w.now.Sub(last) > limit {
			w.promise(false, "%d of %d gangs are served, and none for %v", served, len(w.members), limit)
		}
		if len(w.broken) > 0 {
			break
		}
	}
	return w
}

// gang is a new member whose pods wait for nodes for all of them. They may be of two groups.
func (w *world) gang(name string, size int32, pools []string, placement v1alpha1.Placement) {
	sizes := map[string]int32{"": size}
	if size > 1 && w.rand.IntN(2) == 0 {
		first := 1 + int32(w.rand.IntN(int(size)-1))
		sizes = map[string]int32{"a": first, "b": size - first}
	}
	var all []*worldMember
	for _, group := range slices.Sorted(maps.Keys(sizes)) {
		size := sizes[group]
		b := member(name, size, size, pools...)
		b.Group, b.GrowthPolicy, b.Placement, b.SizeGiven = group, v1alpha1.GrowthAllOrNothing, placement, true
		m := &worldMember{
			Member: b.Member, pods: map[int32]string{}, leaving: map[string]int{}, gates: newGates(true), podsOf: newPods(),
		}
		all = append(all, m)
		w.members[m.name()] = m
		w.sizes[m.name()] = map[int32]bool{size: true}
		w.tell("%s asks for %d of %v, %s", m.name(), size, pools, b.Placement)
	}
	for _, m := range all {
		if len(all) > 1 {
			m.group.all = all
		}
	}
}

// launch asks the cloud for the machines that were ordered. There is none left when those that exist are the stock.
func (w *world) launch() {
	for _, name := range slices.Sorted(maps.Keys(w.pools)) {
		p := w.pools[name]
		exist := 0
		for _, n := range p.nodes {
			if n.launched {
				exist++
			}
		}
		for _, n := range slices.Sorted(maps.Keys(p.nodes)) {
			node := p.nodes[n]
			if node.launched || node.launchAt.After(w.now) {
				continue
			}
			if exist >= p.stock {
				p.OutOfStock = plan.Stockout{At: w.now, Message: "no machine is left"}
				delete(p.nodes, n)
				p.target--
				w.tell("%s: there is no machine left", n)
				continue
			}
			node.launched = true
			exist++
		}
	}
}

// releaseBooting gives the machines back that no claim lacks. Those that are there are kept first, then those that have been launched.
func (w *world) releaseBooting() {
	for _, name := range slices.Sorted(maps.Keys(w.pools)) {
		p := w.pools[name]
		held, unmet := map[string]bool{}, 0
		for _, m := range w.members {
			for _, r := range m.Reservations {
				if r.NodePool == name && !m.gone {
					unmet += max(0, int(r.Nodes)-len(r.Held))
					for _, h := range r.Held {
						held[h] = true
					}
				}
			}
		}
		rank := func(n *worldNode) int {
			switch {
			case !n.readyAt.After(w.now):
				return 0
			case n.launched:
				return 1
			default:
				return 2
			}
		}
		spare := slices.DeleteFunc(slices.Sorted(maps.Keys(p.nodes)), func(n string) bool { return held[n] || w.used(n) })
		slices.SortStableFunc(spare, func(a, b string) int { return rank(p.nodes[a]) - rank(p.nodes[b]) })
		for _, n := range spare[min(unmet, len(spare)):] {
			if p.target > w.floor(name) {
				delete(p.nodes, n)
				p.target--
				w.tell("%s is given back", n)
			}
		}
	}
}

// end ends the gangs all of whose pods run, and returns how many did, each group counted.
func (w *world) end() int {
	count := 0
	for _, name := range slices.Sorted(maps.Keys(w.members)) {
		m := w.members[name]
		if m.Lifecycle == plan.Running && !slices.ContainsFunc(m.groups(), func(m *worldMember) bool { return w.running(m) < m.Size }) {
			w.live(m, plan.Finished)
			count += len(m.groups())
			w.tell("%s has run", m.Key.Name)
		}
	}
	return count
}
