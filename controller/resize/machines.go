package resize

import (
	"cmp"
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// vouchAfter is how old a node is before the lack of a machine that is this node means that it is a stranger: the provider writes
// which node a machine has when it has seen the node, and its write may be seen later than the node.
const vouchAfter = 30 * time.Second

// machines are the PoolMachines. Anybody can put the label of a pool on a node; the provider alone writes these.
//
// A machine that was launched is the node with its provider id, from when that node registers: it is by this id, and by the same rule
// where several nodes have it, that the provider finds the name that it writes into the record, and nobody has to wait for that write,
// one for each node of a growth.
type machines struct {
	byNode map[string]*v1alpha1.PoolMachine
	// byID are the machines of which no node is written down yet, by their provider ids.
	byID map[string]*v1alpha1.PoolMachine
	// first are the nodes of those machines by their provider ids: of nodes that have the same one, as copies have, the oldest.
	first map[string]*corev1.Node
	// others name a node that another one names too: a cloud may use the name of a node again, and a record keeps its own.
	others map[string][]*v1alpha1.PoolMachine
	// coming counts those of each pool that are well and whose node is not there yet, or not seen yet, by the id of their orders.
	coming map[string]map[string]int32
	// failed are the names of those that have failed or go.
	failed map[string]bool
}

// readMachines reads the PoolMachines, beside the nodes that are seen.
func (o *observer) readMachines(ctx context.Context, nodes []*corev1.Node) (*machines, error) {
	list, err := o.listMachines(ctx)
	if err != nil {
		return nil, err
	}
	m := &machines{
		byNode: make(map[string]*v1alpha1.PoolMachine, len(list)), byID: map[string]*v1alpha1.PoolMachine{},
		first: map[string]*corev1.Node{}, others: map[string][]*v1alpha1.PoolMachine{}, coming: map[string]map[string]int32{},
		failed: map[string]bool{},
	}
	// Most nodes of a large cluster are of no pool, and most machines have a name: only what may be asked for is noted of nodes.
	named, unnamed := make(map[string]bool, len(list)), map[string]bool{}
	for _, machine := range list {
		if machine.Status.NodeName != "" {
			named[machine.Status.NodeName] = false
		} else if machine.Status.ProviderID != "" {
			unnamed[machine.Status.ProviderID] = true
		}
	}
	for _, node := range nodes {
		if _, is := named[node.Name]; is {
			named[node.Name] = true
		}
		if id := node.Spec.ProviderID; len(unnamed) > 0 && unnamed[id] && registeredBefore(node, m.first[id]) {
			m.first[id] = node
		}
	}
	for _, machine := range list {
		name := machine.Status.NodeName
		isUnnamed := name == "" && machine.Status.ProviderID != ""
		node := m.first[machine.Status.ProviderID]
		registered := isUnnamed && node != nil && node.Labels[v1alpha1.LabelNodePool] == machine.Spec.NodePool
		if !named[name] && !registered && !leaves(machine) {
			// The record may be seen before the node that it names.
			of := m.coming[machine.Spec.NodePool]
			if of == nil {
				of = map[string]int32{}
				m.coming[machine.Spec.NodePool] = of
			}
			of[machine.Spec.Order.ID]++
		}
		if leaves(machine) {
			m.failed[machine.Name] = true
		}
		switch {
		case isUnnamed && m.byID[machine.Status.ProviderID] != nil && leaves(machine):
		case isUnnamed:
			m.byID[machine.Status.ProviderID] = machine
		case name == "":
		case m.byNode[name] == nil:
			m.byNode[name] = machine
		default:
			m.others[name] = append(m.others[name], machine)
		}
	}
	return m, nil
}

// registeredBefore reports whether a node is older than another one, which may be nil. It is the provider's order.
func registeredBefore(node, other *corev1.Node) bool {
	return other == nil || node.CreationTimestamp.Before(&other.CreationTimestamp) ||
		(node.CreationTimestamp.Equal(&other.CreationTimestamp) && node.Name < other.Name)
}

// recordsAfter is how long after a machine has failed its pool is believed without its record: the records may be seen later.
const recordsAfter = 30 * time.Second

// toldUntil is until when the failure of a pool is not believed because the record of its machine has not been seen to say so; zero
// when it is. Without the records that were written before it nobody knows what is still coming, and the failure would be charged
// to all who lack machines.
func (m *machines) toldUntil(failure *plan.Stockout) time.Time {
	if failure.Machine == "" || m.failed[failure.Machine] {
		return time.Time{}
	}
	return failure.At.Add(recordsAfter)
}

// of is the machine of a pool that is a node: one that has the node's name, or none yet, its provider id and the pool of its label. Of
// several it is one that stays. nil is for none; why says then what disagrees.
func (m *machines) of(node *corev1.Node) (machine *v1alpha1.PoolMachine, why string) {
	why = "no PoolMachine names it"
	consider := func(other *v1alpha1.PoolMachine) {
		switch pool := node.Labels[v1alpha1.LabelNodePool]; {
		case other.Status.ProviderID != node.Spec.ProviderID:
			why = fmt.Sprintf("PoolMachine %s has a node of this name with the provider id %q, and this one has %q",
				other.Name, other.Status.ProviderID, node.Spec.ProviderID)
		case other.Spec.NodePool != pool:
			why = fmt.Sprintf("PoolMachine %s is this node and belongs to NodePool %s", other.Name, other.Spec.NodePool)
		case machine == nil || leaves(machine):
			machine = other
		}
	}
	if first := m.byNode[node.Name]; first != nil {
		consider(first)
	}
	for _, other := range m.others[node.Name] {
		consider(other)
	}
	if first := m.first[node.Spec.ProviderID]; first != nil && first.Name == node.Name && m.byID[node.Spec.ProviderID] != nil {
		consider(m.byID[node.Spec.ProviderID])
	}
	return machine, why
}

// only is the one machine whose record names a node. It is nil where several records, or none, may be about the node.
func (m *machines) only(node string) *v1alpha1.PoolMachine {
	if len(m.byID) > 0 || len(m.others[node]) > 0 {
		return nil
	}
	return m.byNode[node]
}

// leaves reports whether a machine goes or is gone, so that its node is of no use to whoever does not have a pod there yet.
func leaves(machine *v1alpha1.PoolMachine) bool {
	return machine.DeletionTimestamp != nil || machine.Status.LeavingAt != nil || machine.Status.Failure != nil
}

// departureOf is the end of a machine that nobody here has asked for, nil for none.
func departureOf(machine *v1alpha1.PoolMachine) *plan.Departure {
	switch status := &machine.Status; {
	case status.Failure != nil:
		return &plan.Departure{Failure: cmp.Or(status.Failure.Message, "the cloud does not say how")}
	case status.LeavingAt != nil:
		return &plan.Departure{At: status.LeavingAt.Time}
	default:
		return nil
	}
}

// StripMachine keeps of a PoolMachine in the cache what a pass reads.
func StripMachine(object any) (any, error) {
	machine, ok := object.(*v1alpha1.PoolMachine)
	if !ok {
		return object, nil
	}
	stripped := &v1alpha1.PoolMachine{
		ObjectMeta: metav1.ObjectMeta{
			Name: machine.Name, UID: machine.UID, ResourceVersion: machine.ResourceVersion, DeletionTimestamp: machine.DeletionTimestamp,
		},
		Spec: v1alpha1.PoolMachineSpec{NodePool: machine.Spec.NodePool, Order: v1alpha1.MachineOrder{ID: machine.Spec.Order.ID}},
		Status: v1alpha1.PoolMachineStatus{
			ProviderID: machine.Status.ProviderID, NodeName: machine.Status.NodeName,
			LeavingAt: machine.Status.LeavingAt, Failure: machine.Status.Failure,
		},
	}
	return stripped, nil
}

// machineChanged lets those events of PoolMachines through by which a pass would see something else: how far a machine is in its
// boot is told by its node.
var machineChanged = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, isBefore := e.ObjectOld.(*v1alpha1.PoolMachine)
		after, isAfter := e.ObjectNew.(*v1alpha1.PoolMachine)
		if !isBefore || !isAfter {
			return true
		}
		a, b := &before.Status, &after.Status
		return a.ProviderID != b.ProviderID || a.NodeName != b.NodeName || leaves(before) != leaves(after) ||
			!equality.Semantic.DeepEqual(a.LeavingAt, b.LeavingAt) || !equality.Semantic.DeepEqual(a.Failure, b.Failure)
	},
}
