// Package expand chooses among the node groups that Cluster Autoscaler could expand for pods that find no node. It is pure:
// values in, a choice with its reasons out.
//
// Nodes of members are reserved by the controller and ordered as the minimum size of their pools, so pods of a member whose
// nodes are on their way, or are waited for, must not lead to more. The rules:
//
//  1. Pods of a member that waits for nodes get none from here: they have theirs, or will have all of them at once.
//  2. Pods of a member that waits for nothing, and find no node all the same, get one from the first of the member's pools
//     that can have one. Of several members the one with most pods goes first, then the cheaper pool: Cluster Autoscaler
//     expands one group at a time.
//  3. Of what other pods could use, everything stays but pools whose taints they do not tolerate, and options that would buy
//     nodes for pods of rule 1 as well where another option serves as many of the others.
//
// Nothing left is a veto: nothing is expanded in that loop.
package expand

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Option is a node group that could be expanded.
type Option struct {
	// Group is its name.
	Group string
	// Nodes is how many nodes would be added.
	Nodes int32
	// Pods are those that the new nodes would take. Several options may share them.
	Pods *Pods
}

// Pods are pods that find no node.
type Pods struct {
	// Members counts the pods of members.
	Members map[types.NamespacedName]int
	// Others are all other pods, those with the same tolerations together.
	Others []Others
}

// Others are pods of no member that tolerate the same.
type Others struct {
	Tolerations []corev1.Toleration
	Pods        int
}

// Member is an ensemble member with pods that find no node.
type Member struct {
	// NodePools are the pools that its nodes may come from, in order of preference.
	NodePools []string
	// Waits says in words what it waits for, empty for nothing.
	Waits string
	// Failed are the pools that have failed the growth under way.
	Failed []string
	// TopologyKey is the label of which all its nodes have one value, and Domain that value. Either is empty for a member whose
	// nodes may be anywhere.
	TopologyKey, Domain string
}

// Pool is one of our node groups.
type Pool struct {
	// Paused and Full pools get no nodes.
	Paused, Full bool
	// PricePerHour is that of one node; nil where it has none.
	PricePerHour *float64
	// Taints are those of its nodes.
	Taints []corev1.Taint
	// Labels are those that all its nodes have.
	Labels map[string]string
}

// Reason says in one word why an option is kept or dropped.
type Reason string

// The reasons to keep an option.
const (
	// ReasonFirstPool is that of the group which a member gets a node from.
	ReasonFirstPool Reason = "FirstPool"
	// ReasonNoMember is that of an option without pods of members.
	ReasonNoMember Reason = "NoMember"
	// ReasonNeeded is that of an option which pods of no member need, though it has pods of members too.
	ReasonNeeded Reason = "Needed"
)

// The reasons to drop an option.
const (
	// ReasonMemberWaits is that of pods whose nodes are reserved, or will be.
	ReasonMemberWaits Reason = "MemberWaits"
	// ReasonNotTolerated is that of a group whose taints keep its pods away.
	ReasonNotTolerated Reason = "NotTolerated"
	// ReasonNotItsPool is that of a group which is none of the member's pools.
	ReasonNotItsPool Reason = "NotItsPool"
	// ReasonTopologyMismatch is that of a pool in another domain than the member's nodes.
	ReasonTopologyMismatch Reason = "TopologyMismatch"
	// ReasonPoolPaused is that of a pool that gets no nodes at present.
	ReasonPoolPaused Reason = "PoolPaused"
	// ReasonPoolFull is that of a pool at its maxSize.
	ReasonPoolFull Reason = "PoolFull"
	// ReasonPoolFailed is that of a pool that has failed the growth under way.
	ReasonPoolFailed Reason = "PoolFailed"
	// ReasonLaterPool is that of a pool behind another one in the member's list.
	ReasonLaterPool Reason = "LaterPool"
	// ReasonOtherMember is that of the pool of a member behind that of another one.
	ReasonOtherMember Reason = "OtherMember"
)

// Reasons are all reasons, by whether an option is kept.
func Reasons() map[bool][]Reason {
	return map[bool][]Reason{
		true: {ReasonFirstPool, ReasonNoMember, ReasonNeeded},
		false: {
			ReasonMemberWaits, ReasonNotTolerated, ReasonNotItsPool, ReasonTopologyMismatch, ReasonPoolPaused, ReasonPoolFull, ReasonPoolFailed,
			ReasonLaterPool, ReasonOtherMember,
		},
	}
}

// Choice is what becomes of an option.
type Choice struct {
	// Group is the name of the option's group.
	Group string
	// Nodes is how many nodes the option would add.
	Nodes int32
	// Kept is set when Cluster Autoscaler may go on with it.
	Kept bool
	// Reason says why, and Message the same in words.
	Reason  Reason
	Message string
}

// Choose decides on each of the options, and returns the choices in their order. members has those whose pods are in the
// options, pools those of the groups that are ours.
func Choose(options []Option, members map[types.NamespacedName]*Member, pools map[string]*Pool) []Choice {
	c := &choice{
		members: members, pools: pools, offered: make(map[string]int, len(options)), best: map[types.NamespacedName]string{},
		asked: map[types.NamespacedName]int{}, first: map[*Pods]types.NamespacedName{},
	}
	for i := range options {
		c.offered[options[i].Group] = i
	}
	c.findBest(options)
	winner := c.winner(options)
	pure := c.served(options)
	choices := make([]Choice, len(options))
	for i := range options {
		o := &options[i]
		choices[i] = Choice{Group: o.Group, Nodes: o.Nodes}
		c.judge(o, winner, pure, &choices[i])
	}
	return choices
}

// choice is what is known while options are being chosen.
type choice struct {
	members map[types.NamespacedName]*Member
	pools   map[string]*Pool
	// offered has the place of each group among the options.
	offered map[string]int
	// best is the group that a member's pods are to get a node from, for members that have one.
	best map[types.NamespacedName]string
	// asked is the greatest number of pods that a member has in an option.
	asked map[types.NamespacedName]int
	// first is the first member of pods, in the order of their names.
	first map[*Pods]types.NamespacedName
}

// findBest finds the group of each member that waits for nothing.
func (c *choice) findBest(options []Option) {
	for i := range options {
		pods := options[i].Pods
		if _, is := c.first[pods]; is {
			continue
		}
		var first types.NamespacedName
		for key, count := range pods.Members {
			c.asked[key] = max(c.asked[key], count)
			if first.Name == "" || compare(key, first) < 0 {
				first = key
			}
		}
		c.first[pods] = first
	}
	for key := range c.asked {
		m := c.members[key]
		if m == nil || m.Waits != "" {
			continue
		}
		for _, name := range m.NodePools {
			at, is := c.offered[name]
			if is && options[at].Pods.Members[key] > 0 && c.fits(m, name) {
				c.best[key] = name
				break
			}
		}
	}
}

// fits reports whether a member's pods could get a node from a group.
func (c *choice) fits(m *Member, group string) bool {
	reason, _ := c.unfit(m, group)
	return reason == ""
}

// unfit says why a member's pods do not get a node from a group. There is no reason when they could.
func (c *choice) unfit(m *Member, group string) (Reason, string) {
	pool := c.pools[group]
	switch {
	case !slices.Contains(m.NodePools, group):
		return ReasonNotItsPool, "it is none of the member's NodePools"
	case pool == nil:
		return ReasonNotItsPool, "it is no NodePool"
	case pool.Paused:
		return ReasonPoolPaused, "it is paused"
	case pool.Full:
		return ReasonPoolFull, "it is at its maxSize"
	case slices.Contains(m.Failed, group):
		return ReasonPoolFailed, "it has failed the growth under way"
	}
	if of := pool.Labels[m.TopologyKey]; m.Domain != "" && of != "" && of != m.Domain {
		return ReasonTopologyMismatch, fmt.Sprintf("it is in %s=%s and the nodes of the member are in %s", m.TopologyKey, of, m.Domain)
	}
	return "", ""
}

// winner is the group among the best ones that serves most pods of members, then the cheapest.
func (c *choice) winner(options []Option) string {
	pods := map[string]int{}
	for key, group := range c.best {
		pods[group] += options[c.offered[group]].Pods.Members[key]
	}
	groups := make([]string, 0, len(pods))
	for group := range pods {
		groups = append(groups, group)
	}
	if len(groups) == 0 {
		return ""
	}
	return slices.MinFunc(groups, func(a, b string) int {
		return cmp.Or(-cmp.Compare(pods[a], pods[b]), cmp.Compare(c.price(options, a), c.price(options, b)), cmp.Compare(a, b))
	})
}

// price is what the nodes of an option would cost in an hour. A group without a price comes after all that have one.
func (c *choice) price(options []Option, group string) float64 {
	if price := c.pools[group].PricePerHour; price != nil {
		return *price * float64(options[c.offered[group]].Nodes)
	}
	return math.Inf(1)
}

// served is the greatest number of other pods that an option without pods of members serves.
func (c *choice) served(options []Option) int {
	most := 0
	for i := range options {
		if len(options[i].Pods.Members) == 0 {
			most = max(most, c.countOthers(&options[i]))
		}
	}
	return most
}

// countOthers counts the pods of no member that could use the nodes of an option.
func (c *choice) countOthers(o *Option) int {
	pool := c.pools[o.Group]
	count := 0
	for i := range o.Pods.Others {
		if others := &o.Pods.Others[i]; pool == nil || tolerates(others.Tolerations, pool.Taints) {
			count += others.Pods
		}
	}
	return count
}

// judge decides on one option. pure is how many other pods an option serves that has no pods of members.
func (c *choice) judge(o *Option, winner string, pure int, into *Choice) {
	others := c.countOthers(o)
	keep := func(reason Reason, format string, args ...any) {
		into.Kept, into.Reason, into.Message = true, reason, fmt.Sprintf(format, args...)
	}
	if o.Group == winner {
		keep(ReasonFirstPool, "the first pool for %s", c.named(o))
		return
	}
	if len(o.Pods.Members) == 0 {
		if others > 0 {
			keep(ReasonNoMember, "no pods of members")
		} else {
			into.Reason, into.Message = ReasonNotTolerated, "the pods do not tolerate its taints"
		}
		return
	}
	into.Reason, into.Message = c.against(o, winner)
	switch {
	case others > pure:
		keep(ReasonNeeded, "%d pods of no member need it, though %s", others, into.Message)
	case others > 0:
		into.Message = fmt.Sprintf("another group serves the %d pods of no member, and %s", others, into.Message)
	}
}

// named names the members that an option is the best one for.
func (c *choice) named(o *Option) string {
	var names []string
	for key := range o.Pods.Members {
		if c.best[key] == o.Group {
			names = append(names, key.String())
		}
	}
	return few(names)
}

// against says what speaks against an option: the reason of the first of its members, in their order.
func (c *choice) against(o *Option, winner string) (Reason, string) {
	first := c.first[o.Pods]
	reason, why := c.againstMember(first, o.Group, winner)
	if rest := len(o.Pods.Members) - 1; rest > 0 {
		return reason, fmt.Sprintf("%s: %s; and %d more members", first, why, rest)
	}
	return reason, fmt.Sprintf("%s: %s", first, why)
}

// againstMember says why a member does not get a node from a group that is not the winner.
func (c *choice) againstMember(key types.NamespacedName, group, winner string) (Reason, string) {
	m := c.members[key]
	switch {
	case m == nil:
		return ReasonMemberWaits, "is not known"
	case m.Waits != "":
		return ReasonMemberWaits, m.Waits
	}
	if reason, why := c.unfit(m, group); reason != "" {
		return reason, why
	}
	if c.best[key] != group {
		return ReasonLaterPool, c.best[key] + " comes first"
	}
	return ReasonOtherMember, winner + " is for more pods, or cheaper"
}

func compare(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// few names the first of many.
func few(names []string) string {
	slices.Sort(names)
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// startupTaints are the beginnings of the keys of taints that nodes have at their start only. Cluster Autoscaler does not count
// them when it looks which pods a group is for.
var startupTaints = []string{"startup-taint.cluster-autoscaler.kubernetes.io/", "ignore-taint.cluster-autoscaler.kubernetes.io/"}

// tolerates reports whether pods with such tolerations are taken by nodes with such taints.
func tolerates(tolerations []corev1.Toleration, taints []corev1.Taint) bool {
	for i := range taints {
		taint := &taints[i]
		passes := taint.Effect == corev1.TaintEffectPreferNoSchedule ||
			slices.ContainsFunc(startupTaints, func(prefix string) bool { return strings.HasPrefix(taint.Key, prefix) })
		if !passes && !v1alpha1.Tolerates(tolerations, taint) {
			return false
		}
	}
	return true
}
