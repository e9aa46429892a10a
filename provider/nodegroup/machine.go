package nodegroup

import (
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// nodeName is the name of the machine's node, empty while there is none. What members hold are nodes; what is ordered,
// released and deleted are machines.
func (m *Machine) nodeName() string {
	if m.Node != nil {
		return m.Node.Name
	}
	return m.NodeName
}

// arrived reports whether the machine has, or had, a node.
func (m *Machine) arrived() bool { return m.Registered || m.Node != nil }

// lost reports whether the machine has arrived and is no more: it has crashed, has vanished, or its node was deleted.
func (m *Machine) lost() bool { return m.Failure != nil && m.arrived() }

// leaving reports whether the machine is about to go though nobody here has decided that: the cloud has announced that it takes
// it away, or its record is being deleted.
func (m *Machine) leaving() bool { return !m.LeavingAt.IsZero() || !m.Going.IsZero() }

// marked reports whether a machine is ours to release: it was ordered for a member, or has been held by one.
func (m *Machine) marked() bool {
	if m.Node != nil {
		return m.Node.Reserved
	}
	return m.Purpose == v1alpha1.PurposeReservation
}

// free reports whether no pod can come to the machine any more. Of a machine that has arrived and whose node is not seen that
// is not known, unless it is no more.
func (m *Machine) free() bool {
	if m.Node != nil {
		return m.Node.Releasing
	}
	return !m.Registered || m.Failure != nil
}

// taken reports whether pods are on a machine's node, or may come to it, that nobody but us takes away. Cluster Autoscaler taints
// the nodes that it wants deleted, and has moved their pods where they had to be moved. On a machine that is no more nothing runs,
// whatever its node shows.
func (m *Machine) taken() bool {
	return m.Node != nil && !m.lost() && !m.Node.Leaving && (m.Node.Pods > 0 || !m.Node.Releasing)
}

// usable reports whether a machine may still become, or is, a node that a member can hold.
func (m *Machine) usable(now time.Time, timeout time.Duration) bool {
	switch {
	case m.Failure != nil || m.leaving():
		return false
	case m.Node == nil:
		return !m.Registered && now.Sub(m.OrderedAt) < timeout
	case m.Node.Cordoned || m.Node.Leaving:
		return false
	default:
		return m.Node.Ready || now.Sub(m.Node.CreatedAt) < timeout
	}
}
