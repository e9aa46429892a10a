package nodegroup_test

import (
	"fmt"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const (
	announceTimeout  = 15 * time.Second
	provisionTimeout = 5 * time.Minute
)

// group is a pool of at most 10 machines, at rest: what is recorded is what its reservations call for.
func group(target int32, machines ...nodegroup.Machine) *nodegroup.Group {
	return &nodegroup.Group{
		Name: "hpc", MaxSize: 10, Target: target, ProvisionTimeout: provisionTimeout,
		Machines: machines, Ordered: int64(len(machines)), OrderedFrom: int64(len(machines)),
	}
}

// withFloor makes the group record the floor that its reservations call for, and that it was told.
func withFloor(g *nodegroup.Group) *nodegroup.Group {
	g.Floor = g.WantedFloor()
	g.AnnouncedFloor = g.MinSizeToTell()
	g.FloorChangedAt = noon.Add(-time.Hour)
	return g
}

func machineName(n int) string { return fmt.Sprintf("hpc-%d", n) }

// nodeName is that of the n-th machine's node: another one than the machine's.
func nodeName(n int) string { return fmt.Sprintf("node-%d", n) }

// booting is the n-th machine, ordered for members and without a node.
func booting(n int) nodegroup.Machine {
	name := machineName(n)
	return nodegroup.Machine{
		Name: name, ProviderID: "test://" + name, Purpose: v1alpha1.PurposeReservation,
		OrderedAt: noon.Add(-time.Minute + time.Duration(n)*time.Second),
	}
}

// up is the n-th machine with a Ready node that has the mark of members.
func up(n int, changes ...func(*nodegroup.Node)) nodegroup.Machine {
	m := booting(n)
	m.Registered, m.NodeName, m.Asked = true, nodeName(n), true
	m.Node = &nodegroup.Node{Name: m.NodeName, CreatedAt: noon.Add(-30 * time.Second), Ready: true, Reserved: true}
	for _, change := range changes {
		change(m.Node)
	}
	return m
}

func heldBy(member string) func(*nodegroup.Node) {
	return func(n *nodegroup.Node) { n.HeldBy = member }
}

func pods(count int) func(*nodegroup.Node) {
	return func(n *nodegroup.Node) { n.Pods = count }
}

// givenUp is a node that a member gave up some time before noon.
func givenUp(age time.Duration) func(*nodegroup.Node) {
	return func(n *nodegroup.Node) { n.GivenUpAt = noon.Add(-age) }
}

// delayed is a pool whose nodes stay for a while when members have given them up.
func delayed(delay time.Duration, g *nodegroup.Group) *nodegroup.Group {
	g.ScaleDownDelay = delay
	return g
}

func releasing(n *nodegroup.Node)   { n.Releasing = true }
func untainted(n *nodegroup.Node)   { n.Untainted = true }
func unmarked(n *nodegroup.Node)    { n.Reserved = false }
func notReady(n *nodegroup.Node)    { n.Ready = false }
func cordonedOff(n *nodegroup.Node) { n.Cordoned = true }

// late is when the n-th machine has not registered in time.
func late(n int) time.Time { return booting(n).OrderedAt.Add(provisionTimeout) }

// ago is a machine that was ordered so long ago.
func ago(age time.Duration, m nodegroup.Machine) nodegroup.Machine {
	m.OrderedAt = noon.Add(-age)
	return m
}

// failing is a machine that the cloud had none of.
func failing(m nodegroup.Machine) nodegroup.Machine {
	m.Failure = &nodegroup.Failure{
		At: noon.Add(-time.Second), Class: v1alpha1.FailureOutOfResources, Code: "OutOfStock", Message: "no machine of this kind is left",
	}
	return m
}

// ordered is a machine that was ordered with a template.
func ordered(hash string, m nodegroup.Machine) nodegroup.Machine {
	m.TemplateHash = hash
	return m
}

func notReadyFor(age time.Duration) func(*nodegroup.Node) {
	return func(n *nodegroup.Node) { n.NotReadySince = noon.Add(-age) }
}

// autoscalers is a machine that Cluster Autoscaler ordered for itself.
func autoscalers(m nodegroup.Machine) nodegroup.Machine {
	m.Purpose = v1alpha1.PurposeAutoscaler
	if m.Node != nil {
		m.Node.Reserved = false
	}
	return m
}

func claim(member string, nodes int32, held ...int) nodegroup.Reservation {
	r := nodegroup.Reservation{Member: member, Nodes: nodes}
	for _, n := range held {
		r.Held = append(r.Held, nodeName(n))
	}
	return r
}

func with(g *nodegroup.Group, claims ...nodegroup.Reservation) *nodegroup.Group {
	g.Reservations = claims
	return g
}

func following(g *nodegroup.Group) *nodegroup.Group {
	g.FollowsFloor = true
	return g
}

func paused(g *nodegroup.Group) *nodegroup.Group {
	g.Paused = true
	return g
}

func deleting(g *nodegroup.Group) *nodegroup.Group {
	g.Deleting = true
	return g
}

func occupied(r nodegroup.Reservation, nodes int32) nodegroup.Reservation {
	r.Occupied = nodes
	return r
}

func toldAt(floor int32, changed time.Time, g *nodegroup.Group) *nodegroup.Group {
	g.AnnouncedFloor, g.FloorChangedAt = floor, changed
	return g
}

func floor(recorded int32, g *nodegroup.Group) *nodegroup.Group {
	g.Floor = recorded
	return g
}

func minSize(size int32, g *nodegroup.Group) *nodegroup.Group {
	g.MinSize = size
	return g
}

func forMembers(part int32, g *nodegroup.Group) *nodegroup.Group {
	g.ForMembers = part
	return g
}

func toDelete(g *nodegroup.Group, names ...string) *nodegroup.Group {
	g.ToDelete = names
	return g
}

func maxSize(size int32, g *nodegroup.Group) *nodegroup.Group {
	g.MaxSize = size
	return g
}

func floorChanged(at time.Time, g *nodegroup.Group) *nodegroup.Group {
	g.FloorChangedAt = at
	return g
}

func template(hash string, g *nodegroup.Group) *nodegroup.Group {
	g.TemplateHash = hash
	return g
}
