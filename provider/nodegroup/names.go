package nodegroup

import (
	"strconv"
	"strings"
)

// MachineName is the name of the n-th machine of a pool.
func MachineName(pool string, n int64) string { return pool + "-" + strconv.FormatInt(n, 10) }

// Number is the number in a machine's name, -1 where it has none.
func Number(pool, name string) int64 {
	digits, ok := strings.CutPrefix(name, pool+"-")
	if !ok {
		return -1
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || MachineName(pool, n) != name {
		return -1
	}
	return n
}

const placeholderScheme = "ensemble://"

// Placeholder is what Cluster Autoscaler is told as the provider id of a machine while that is not known. It goes on meaning the
// machine afterwards: Cluster Autoscaler deletes by the id that it was told a loop ago.
func Placeholder(pool, name string) string { return placeholderScheme + pool + "/" + name }

// ParsePlaceholder is the machine that a placeholder stands for; ok is false for any other id.
func ParsePlaceholder(id string) (pool, name string, ok bool) {
	rest, ok := strings.CutPrefix(id, placeholderScheme)
	if !ok {
		return "", "", false
	}
	pool, name, ok = strings.Cut(rest, "/")
	if !ok || pool == "" || Number(pool, name) < 0 {
		return "", "", false
	}
	return pool, name, true
}

// Names are claimed before the records of an order are made, in status.orderedFrom and status.machinesOrdered: a kill in between
// loses them, which costs nothing, and a plan that was made from stale values ends with the conflict of that write. The records
// follow one by one, and a cache may be behind them. So Pending, underWay and taken speak of names, not of what exists.

// Pending are the numbers of the machines that the target calls for and of which no record is known yet: those whose names are
// claimed, so that their records may be on their way, then those that the next order will claim.
func (g *Group) Pending() []int64 {
	missing := int(g.Target) - g.countLive()
	if missing <= 0 {
		return nil
	}
	taken := g.taken()
	pending := make([]int64, 0, missing)
	for n := g.OrderedFrom; n < g.Ordered && len(pending) < missing; n++ {
		if !taken[n] {
			pending = append(pending, n)
		}
	}
	return append(pending, g.fresh(taken, missing-len(pending))...)
}

// NextNumbers are the numbers of the next machines to be ordered. Those whose names are claimed already are not among
// them: they may have been ordered, and be gone.
func (g *Group) NextNumbers(count int) []int64 { return g.fresh(g.taken(), count) }

// fresh are the next numbers that no machine has or had.
func (g *Group) fresh(taken map[int64]bool, count int) []int64 {
	numbers := make([]int64, 0, count)
	for n := g.Ordered; len(numbers) < count; n++ {
		if !taken[n] {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// taken has the numbers of the machines whose record is known, and of those that are to go: Cluster Autoscaler may have deleted one
// that had no record yet.
func (g *Group) taken() map[int64]bool {
	taken := make(map[int64]bool, len(g.Machines)+len(g.ToDelete))
	for i := range g.Machines {
		taken[Number(g.Name, g.Machines[i].Name)] = true
	}
	for _, name := range g.ToDelete {
		taken[Number(g.Name, name)] = true
	}
	return taken
}

// names has the names of the machines.
func (g *Group) names() map[string]bool {
	names := make(map[string]bool, len(g.Machines))
	for i := range g.Machines {
		names[g.Machines[i].Name] = true
	}
	return names
}

// underWay is the first number of which a record may exist, or be about to, that is not known. There is none when all machines are
// known that the target calls for, and none of those that are to go may still turn up.
func (g *Group) underWay() int64 {
	if g.countLive() < int(g.Target) {
		return g.OrderedFrom
	}
	if g.OrderedFrom >= g.Ordered {
		return g.Ordered
	}
	known := g.names()
	for _, name := range g.ToDelete {
		if !known[name] && Number(g.Name, name) >= g.OrderedFrom {
			return g.OrderedFrom
		}
	}
	return g.Ordered
}

func namesOf(machines []*Machine) []string {
	var names []string
	for _, m := range machines {
		names = append(names, m.Name)
	}
	return names
}
