package simulation

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// served counts the pods of a member that run or have succeeded.
func (w *world) served(member string) int32 {
	var count int32
	for _, p := range w.pods.live.items {
		if p.member == member && ((p.running && !p.deleting) || p.succeeded) {
			count++
		}
	}
	return count
}

// hindered reports whether something that stays keeps a member from what it wants: its nodes are not what their templates say, or its
// pods are not made, not admitted or do not start.
func (w *world) hindered(m *memberObject, c *clusterObject) bool {
	if !w.troubled {
		return false
	}
	if w.cloud.repaired {
		return slices.ContainsFunc(m.pools, func(pool string) bool { return !w.couldTake(m, pool) })
	}
	return c.limited || m.injected.cpu != 0 || m.injected.selects != nil || w.stuckPercent > 0 ||
		slices.ContainsFunc(m.pools, w.troubledPool)
}

// couldTake reports whether an empty node of a pool, with what DaemonSets take there, has room for any pod of a member.
func (w *world) couldTake(m *memberObject, pool string) bool {
	left, most := int64(nodeCPU), m.podCPU()
	for _, d := range w.cloud.settings(pool).daemons {
		left -= d.cpu
	}
	for _, p := range w.pods.live.items {
		if p.member == m.name {
			most = max(most, p.cpu)
		}
	}
	if m.podsPerNode > 1 {
		most *= int64(m.podsPerNode)
	}
	return most <= left
}

// troubledPool reports whether something that stays is wrong with the nodes of a pool.
func (w *world) troubledPool(pool string) bool {
	return !w.cloud.repaired && (w.cloud.settings(pool).any() || w.pools.get(pool).allowed != nil)
}

// troubledFor reports whether some member that is hindered may try again and again to have nodes of a pool.
func (w *world) troubledFor(pool string) bool {
	return slices.ContainsFunc(w.members.live.items, func(m *memberObject) bool {
		c := w.clusters.get(m.name)
		return c != nil && slices.Contains(m.pools, pool) && w.hindered(m, c)
	})
}

// restlessTroubled says what is wrong with a member that is suspended or hindered: it does not say why it has not what it wants.
func (w *world) restlessTroubled(m *memberObject, c *clusterObject) string {
	served := w.served(m.name)
	switch {
	case c.suspended && (len(m.reservations) > 0 || slices.ContainsFunc(m.conditions, func(c metav1.Condition) bool {
		return c.Reason != v1alpha1.ReasonSuspended || c.Status != metav1.ConditionFalse
	})):
		return fmt.Sprintf("%s is suspended, and has %s and says %v", m.name, inWords(m.reservations), falseReasons(m.conditions))
	case c.suspended:
		return ""
	case served < c.size && allTrue(m.conditions):
		return fmt.Sprintf("%d of %d pods of %s run, and it says that it is Ready", served, c.size, m.name)
	case c.size < m.wants && allTrue(m.conditions):
		return fmt.Sprintf("%s has size %d, wants %d, and says that it is Ready", m.name, c.size, m.wants)
	}
	return ""
}

// daemonsOn reports whether DaemonSets take room on nodes of some pools.
func (w *world) daemonsOn(pools []string) bool {
	return slices.ContainsFunc(pools, func(name string) bool { return len(w.cloud.settings(name).daemons) > 0 })
}

// exhausted reports whether a member lacks nodes and says that no more are ordered in the place of those that are of no use to it.
func exhausted(m *memberObject) bool {
	return slices.ContainsFunc(m.conditions, func(c metav1.Condition) bool {
		return c.Status == metav1.ConditionFalse && strings.Contains(c.Message, "no more are ordered in their place")
	})
}

// exhaustedIn reports whether that is so in a pool, whose floor counts the nodes that are of no use.
func (w *world) exhaustedIn(pool string) bool {
	return slices.ContainsFunc(w.members.live.items, func(m *memberObject) bool {
		return exhausted(m) && nodesIn(m.reservations, pool) > 0
	})
}
