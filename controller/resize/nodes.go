package resize

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
)

// nodeReading is what is read off a node.
type nodeReading struct {
	node plan.Node
	// host is its host name.
	host string
	// machine is the one that was found to be this node, and that stays; nil for none. As long as both objects are the same, it is.
	machine *v1alpha1.PoolMachine
	// order is what the machine was ordered for.
	order string
}

func (o *observer) readNodes(s *seen, view *pods.View, nodes []*corev1.Node, machines *machines, expected map[string]plan.Resources) {
	now := o.clock.Now()
	held, foreign := s.heldNames(), s.foreignNames()
	s.nodes = make([]plan.Node, 0, len(machines.byNode)+len(machines.byID)+len(held))
	s.hosts = make(map[string]host, len(machines.byNode)+len(machines.byID))
	for _, object := range nodes {
		known := o.nodes.known(object)
		if known == nil {
			if object.Labels[v1alpha1.LabelNodePool] == "" && !held[object.Name] {
				// To a plan it is the same as one that is not there.
				continue
			}
			known = o.nodes.keep(object, nodeReading{node: nodeOf(object), host: object.Labels[corev1.LabelHostname]})
		}
		node := known.node
		if (node.Pool == "" && !held[node.Name]) || foreign[node.Name] {
			continue
		}
		if node.Pool != "" {
			if !o.place(s, &node, known, object, machines, now) {
				continue
			}
			if node.Pool != "" {
				s.hosts[node.Name] = host{name: known.host, pool: node.Pool}
			}
		}
		if node.Pool == "" {
			// What is on it matters to nobody: the plan knows of it that it is there.
			s.nodes = append(s.nodes, node)
			continue
		}
		node.Requested, node.Daemons = view.Requested(node.Name)
		if more := expected[node.Name]; more != nil {
			// What is on the node is shared.
			more.Add(node.Requested)
			node.Requested = more
		}
		s.nodes = append(s.nodes, node)
	}
	o.told.forget(s.departing)
}

// place says what a node with the label of a pool counts as: a node of that pool where a machine of the pool is that node, and else
// one of no pool. Until the provider had the time to say so, false is returned, and the node counts as one that is not there.
//
// A node that is held already, and that no machine vouches for any more, is on its way out: its member keeps it until the pod there
// has left, and nobody gets it.
func (o *observer) place(
	s *seen, node *plan.Node, known *nodeReading, object *corev1.Node, machines *machines, now time.Time,
) bool {
	if known.machine != nil && machines.only(node.Name) == known.machine {
		node.Order = known.order
		return true
	}
	known.machine = nil
	machine, why := machines.of(object)
	if machine != nil {
		node.Order = machine.Spec.Order.ID
		if leaves(machine) {
			node.Leaving, node.Releasing = true, false
		} else {
			known.machine, known.order = machine, node.Order
		}
		if node.Departure = departureOf(machine); node.Departure != nil {
			s.departing[node.Name] = machine.UID
			node.Departure.Told = o.told.has(node.Name, machine.UID) || s.recordsDeparture(node.Name, node.Pool)
		}
		return true
	}
	if s.holder(node.Name, node.Pool) != nil {
		node.Leaving, node.Releasing = true, false
		return true
	}
	due := node.CreatedAt.Add(vouchAfter)
	old := !now.Before(due)
	s.strangers = append(
		s.strangers, stranger{name: node.Name, uid: object.UID, pool: node.Pool, why: why, told: old && node.Ready && !node.Leaving},
	)
	if !old {
		s.wake(due)
		return false
	}
	node.Pool = ""
	return true
}

// heldNames are the nodes that the status of a member lists as held.
func (s *seen) heldNames() map[string]bool {
	names := map[string]bool{}
	for _, e := range s.entries {
		if e.member == nil {
			continue
		}
		for i := range e.member.Status.Reservations {
			for _, name := range e.member.Status.Reservations[i].Held {
				names[name] = true
			}
		}
	}
	return names
}

// foreignNames are the nodes that members of kinds which are not switched on hold: they are neither free nor occupied by others, and the
// room of their pools is smaller by what these members have reserved.
func (s *seen) foreignNames() map[string]bool {
	names := map[string]bool{}
	for _, member := range s.foreign {
		for i := range member.Status.Reservations {
			for _, name := range member.Status.Reservations[i].Held {
				names[name] = true
			}
		}
	}
	return names
}

// foreignNodes is how many nodes such members have reserved, by pool.
func (s *seen) foreignNodes() map[string]int32 {
	nodes := map[string]int32{}
	for _, member := range s.foreign {
		for i := range member.Status.Reservations {
			nodes[member.Status.Reservations[i].NodePool] += member.Status.Reservations[i].Nodes
		}
	}
	return nodes
}

// holder is the member whose status lists a node as one of a pool that is held for it, nil for none.
func (s *seen) holder(node, pool string) *entry {
	if s.holders == nil {
		s.holders = map[string]*entry{}
		for _, e := range s.entries {
			if e.member == nil {
				continue
			}
			for i := range e.member.Status.Reservations {
				r := &e.member.Status.Reservations[i]
				for _, name := range r.Held {
					s.holders[r.NodePool+"/"+name] = e
				}
			}
		}
	}
	return s.holders[pool+"/"+node]
}

// lifecyclePrefix is that of the taints by which Kubernetes itself says that a node is not Ready.
const lifecyclePrefix = "node.kubernetes.io/"

// isStartup reports whether a taint is one that a node registers with and that is taken off when the node is ready for pods: by
// the provider when it has seen the node, by a cloud's controller manager, by Cluster API, or by Karpenter.
func isStartup(taint *corev1.Taint) bool {
	switch taint.Key {
	case v1alpha1.TaintRegistration, "node.cloudprovider.kubernetes.io/uninitialized", "node.cluster.x-k8s.io/uninitialized",
		"karpenter.sh/unregistered":
		return true
	default:
		return false
	}
}

// taintDisrupted is how Karpenter marks a node that it is about to delete.
const taintDisrupted = "karpenter.sh/disrupted"

func nodeOf(node *corev1.Node) plan.Node {
	out := plan.Node{
		Name:      node.Name,
		Pool:      node.Labels[v1alpha1.LabelNodePool],
		Cordoned:  node.Spec.Unschedulable,
		Leaving:   node.DeletionTimestamp != nil,
		Reserved:  node.Annotations[v1alpha1.AnnotationReserved] == "true",
		CreatedAt: node.CreationTimestamp.Time,
	}
	if out.Pool == "" {
		return out
	}
	out.Labels, out.Allocatable = node.Labels, plan.ResourcesOf(node.Status.Allocatable)
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			out.Ready = c.Status == corev1.ConditionTrue
		}
	}
	for i := range node.Spec.Taints {
		taint := node.Spec.Taints[i]
		switch {
		case taint.Key == v1alpha1.TaintToBeDeleted && !out.Leaving && v1alpha1.Releasing(node):
			out.Leaving, out.Releasing = true, true
		case taint.Key == v1alpha1.TaintToBeDeleted, taint.Key == taintDisrupted:
			out.Leaving, out.Releasing = true, false
		case isStartup(&taint):
			// It is a node that is coming, whatever the pods tolerate, and no evidence about the nodes of its pool.
			out.Ready = false
		case strings.HasPrefix(taint.Key, lifecyclePrefix):
			// A node with such a taint does not take pods yet, whatever its condition says. Cordoning has
			// a field of its own.
			out.Ready = out.Ready && taint.Key == corev1.TaintNodeUnschedulable
		case taint.Effect != corev1.TaintEffectPreferNoSchedule:
			out.Taints = append(out.Taints, taint)
		}
	}
	return out
}
