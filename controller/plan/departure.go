package plan

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// noteDepartures tells of the nodes recorded for the member whose machines go without anybody here having asked for it, and
// returns their names. Each is told once. The claim stays as it is, so a node that pods of the member need is replaced.
func (c *candidate) noteDepartures() []string {
	if c.Lifecycle != Running {
		return nil
	}
	var names []string
	byPool := map[string][]*nodeCapacity{}
	for _, node := range c.heldBefore {
		if node != nil && node.claimedBy == c && node.Departure != nil && !node.Departure.Told {
			byPool[node.Pool] = append(byPool[node.Pool], node)
			names = append(names, node.Name)
		}
	}
	for _, pool := range slices.Sorted(maps.Keys(byPool)) {
		gone := func(node *nodeCapacity) bool { return node.Departure.Failure != "" }
		for _, nodes := range [][]*nodeCapacity{
			slices.DeleteFunc(slices.Clone(byPool[pool]), gone),
			slices.DeleteFunc(slices.Clone(byPool[pool]), func(node *nodeCapacity) bool { return !gone(node) }),
		} {
			if len(nodes) > 0 {
				c.warn(v1alpha1.ReasonMachineLeaves, departure(pool, nodes, c.claims.of(pool) > c.lasting(pool)))
			}
		}
	}
	return names
}

// departure says which nodes of a pool go, which all are about to, or have all failed.
func departure(pool string, nodes []*nodeCapacity, replaced bool) string {
	one := len(nodes) == 1
	var message string
	switch first := earliest(nodes); {
	case first.Departure.Failure != "" && one:
		message = fmt.Sprintf("the machine of node %s of %s has failed: %s", first.Name, pool, truncate(first.Departure.Failure))
	case first.Departure.Failure != "":
		message = fmt.Sprintf("the machines of %d nodes of %s have failed: %s; one of them: %s",
			len(nodes), pool, listed(namesOf(nodes)), truncate(first.Departure.Failure))
	case one:
		message = fmt.Sprintf("node %s of %s leaves at %s: the cloud takes it away", first.Name, pool, formatTime(first.Departure.At))
	default:
		message = fmt.Sprintf("%d nodes of %s leave, the first at %s: the cloud takes them away: %s",
			len(nodes), pool, formatTime(first.Departure.At), listed(namesOf(nodes)))
	}
	switch {
	case !replaced:
		return message
	case one:
		return message + "; its replacement is on order"
	default:
		return message + "; replacements are on order"
	}
}

// departures names the nodes held that are about to go, as a part of what is said of the nodes that are missing.
func (c *candidate) departures() string {
	var nodes []*nodeCapacity
	for _, node := range c.held {
		if node.Departure != nil && node.stays > 0 {
			nodes = append(nodes, node)
		}
	}
	if len(nodes) == 0 {
		return ""
	}
	return "; the cloud takes away " + listed(namesOf(nodes))
}

// heldBesideLeaving counts the held nodes without those that are about to go with pods that stay.
func (c *candidate) heldBesideLeaving() int32 {
	var count int32
	for _, node := range c.held {
		if !node.Leaving || node.stays == 0 {
			count++
		}
	}
	return count
}

func earliest(nodes []*nodeCapacity) *nodeCapacity {
	return slices.MinFunc(nodes, func(a, b *nodeCapacity) int { return a.Departure.At.Compare(b.Departure.At) })
}

func namesOf(nodes []*nodeCapacity) []string {
	names := make([]string, len(nodes))
	for i, node := range nodes {
		names[i] = node.Name
	}
	slices.Sort(names)
	return names
}
