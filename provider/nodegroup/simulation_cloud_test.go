package nodegroup_test

import (
	"strings"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

const (
	// drainRetry is how long after a drain has found something it is looked at again.
	drainRetry = 20 * time.Second
	// registrationTimeout is when the cloud gives up a machine that has not registered. It is Karpenter's, to the provisionTimeout
	// of these worlds as that is to an hour.
	registrationTimeout = provisionTimeout / 4
)

// boot lets machines be launched, register, become Ready and go.
func (w *world) boot() {
	for _, name := range w.names() {
		m := w.machines[name]
		if m == nil {
			continue
		}
		switch {
		case !m.Going.IsZero():
			if drained := !w.drains || w.now.Sub(m.Going) >= drainRetry; !m.Asked || w.quiet || (drained && w.rand.IntN(3) == 0) {
				w.forgetMachine(name, "is gone")
			}
		case m.Failure != nil:
		case !m.LeavingAt.IsZero() && !w.now.Before(m.LeavingAt):
			w.lose(m, "SpotReclaimed")
		case m.Registered && m.Node == nil:
			if w.quiet || w.rand.IntN(2) == 0 {
				w.lose(m, "NodeDeleted")
			}
		case !m.Asked:
			w.launch(m)
		case !m.Registered && w.never[name]:
			if w.now.Sub(m.OrderedAt) > registrationTimeout {
				m.Failure = &nodegroup.Failure{At: w.now, Class: v1alpha1.FailureOther, Code: "RegistrationTimeout", Message: "it has not registered"}
				w.done["timed out"]++
				w.tell("the cloud gives up %s", name)
			}
		case !m.Registered && w.now.Sub(m.OrderedAt) > 5*time.Second:
			w.register(m)
		case m.Node != nil && !m.Node.Ready && (w.quiet || !w.stuck[name]):
			m.Node.Ready = true
			w.tell("%s is Ready", name)
		}
	}
	w.hold()
}

// orderOf are the machines of the same order.
func (w *world) orderOf(m *nodegroup.Machine) (of []*nodegroup.Machine, asked bool) {
	for _, name := range w.names() {
		if other := w.machines[name]; other.Order.ID == m.Order.ID && other.Order.First == m.Order.First {
			of, asked = append(of, other), asked || other.Asked
		}
	}
	return of, asked
}

// launch asks the cloud for a machine, or for all of an order that is for all or none; not while records of the order are missing of
// which none was asked for.
func (w *world) launch(m *nodegroup.Machine) {
	order, asked := w.orderOf(m)
	if !asked && len(order) < int(m.Order.Size) {
		return
	}
	if !m.Order.Atomic {
		order = []*nodegroup.Machine{m}
	}
	if w.throttles && !w.quiet && w.rand.IntN(2) == 0 {
		for _, one := range order {
			one.Throttled = "RequestLimitExceeded"
		}
		w.done["throttled"] += len(order)
		w.tell("the cloud wants to be asked for %d machines later", len(order))
		return
	}
	refused := !w.quiet && w.rand.IntN(8) == 0
	for _, one := range order {
		if one.Asked || !one.Going.IsZero() {
			continue
		}
		one.Asked, one.Throttled = true, ""
		if refused {
			one.Failure = &nodegroup.Failure{At: w.now, Class: v1alpha1.FailureOutOfResources, Code: "OutOfStock", Message: "none is left"}
			w.done["failed"]++
			w.tell("%s fails", one.Name)
			continue
		}
		// A reply may be lost.
		if !w.lateIDs && w.rand.IntN(4) > 0 {
			one.ProviderID = "test://" + one.Name
		}
		w.never[one.Name] = w.timesOut && !w.quiet && w.rand.IntN(8) == 0
		w.tell("%s is launched", one.Name)
	}
}

func (w *world) register(m *nodegroup.Machine) {
	m.Registered, m.ProviderID, m.NodeName = true, "test://"+m.Name, m.Name
	if w.ownNames {
		m.NodeName = strings.Replace(m.Name, "hpc", "ip-10-0-0", 1)
	}
	m.Node = &nodegroup.Node{
		Name: m.NodeName, CreatedAt: w.now, NotReadySince: w.now, Reserved: m.Purpose == v1alpha1.PurposeReservation,
	}
	w.stuck[m.Name] = !w.quiet && w.rand.IntN(10) == 0
	w.tell("%s registers as %s", m.Name, m.NodeName)
}

// lose ends a machine that has arrived; its node stays, or goes with it.
func (w *world) lose(m *nodegroup.Machine, code string) {
	m.Failure = &nodegroup.Failure{At: w.now, Class: v1alpha1.FailureOther, Code: code, Message: "the machine is no more"}
	if m.Node != nil {
		if w.rand.IntN(2) == 0 {
			m.Node = nil
			delete(w.foreign, m.Name)
		} else {
			m.Node.Ready, m.Node.NotReadySince = false, w.now
		}
	}
	delete(w.stays, m.Name)
	w.tell("%s is no more: %s", m.Name, code)
}

// forgetMachine is the end of a record.
func (w *world) forgetMachine(name, how string) {
	w.tell("%s %s", name, how)
	delete(w.machines, name)
	delete(w.foreign, name)
	delete(w.stays, name)
}

// deleteRecord deletes a record, which stays while its machine goes.
func (w *world) deleteRecord(name string) {
	m := w.machines[name]
	delete(w.stays, name)
	if !m.Asked || !w.slow {
		w.forgetMachine(name, "is deleted")
		return
	}
	if m.Going.IsZero() {
		m.Going = w.now
	}
	w.tell("%s begins to go", name)
}

// misfortune takes a machine away, or announces that, or takes a node, or a taint, as a Cluster Autoscaler that starts does.
func (w *world) misfortune() {
	for _, name := range w.names() {
		m := w.machines[name]
		well := m.Failure == nil && m.Going.IsZero()
		switch w.rand.IntN(24) {
		case 0:
			w.forgetMachine(name, "vanishes, and its record with it")
			return
		case 1, 2:
			if m.Node != nil && m.Node.Releasing {
				m.Node.Releasing, m.Node.Untainted = false, true
				w.tell("a user takes the taint from %s", name)
			}
		case 3:
			if well && m.Registered {
				w.lose(m, "Crash")
				if w.rand.IntN(3) == 0 && !w.group.FollowsFloor && !w.group.Paused {
					// Cluster Autoscaler is the first to see it.
					w.repair()
				}
				return
			}
		case 4:
			if well && m.Node != nil {
				m.Node = nil
				delete(w.foreign, name)
				delete(w.stays, name)
				w.tell("a user deletes the node of %s", name)
				return
			}
		case 5, 6:
			if well && m.Asked && m.LeavingAt.IsZero() {
				m.LeavingAt = w.now.Add(time.Duration(20+w.rand.IntN(100)) * time.Second)
				delete(w.stays, name)
				w.tell("the cloud will take %s away at %s", name, m.LeavingAt.Format(time.TimeOnly))
				return
			}
		}
	}
}
