package simulation

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// memberObject is an EnsembleMember.
type memberObject struct {
	meta

	// Of the spec.
	wants, minSize, maxSize int32
	pools                   []string
	policy                  v1alpha1.GrowthPolicy
	placement               v1alpha1.Placement
	podsPerNode             int32
	giveUpAfter             int32
	topologyKey             string
	coalesce                bool
	// adopted is the generation of the MiniCluster whose size somebody else wrote, and which has become the wish.
	adopted int64

	// gated is set when its pods are created behind the scheduling gate. It is the MiniCluster that says so.
	gated bool
	// arrivedAt is when it was created.
	arrivedAt time.Time

	// Of the status.
	size         int32
	reservations []v1alpha1.Reservation
	growth       *v1alpha1.Growth
	conditions   []metav1.Condition
	// domain is topologyDomain.
	domain  string
	avoided []v1alpha1.AvoidedNode
	// departing are the nodes that it was told go.
	departing []string
}

// clusterObject is a MiniCluster and its Job.
type clusterObject struct {
	meta
	size int32
	// generation counts the sizes that were written, applied is the one that the controller last wrote or adopted.
	generation int64
	applied    int32

	finished bool
	deleting bool
}

// poolObject is a NodePool.
type poolObject struct {
	meta

	// Of the spec.
	labels             map[string]string
	minSize, maxSize   int32
	target, forMembers int32
	toDelete           []string
	provisionTimeout   time.Duration
	paused             bool

	// Of the status.
	floor                int32
	floorChangedAt       time.Time
	announced            int32
	ordered, orderedFrom int64
	failed               []string
	lastFailure          *nodegroup.Failure
}

// machineObject is a PoolMachine. It is under a finalizer: one that is deleted stays until the machine loop lets it go.
type machineObject struct {
	meta

	// Of the spec.
	pool      string
	purpose   v1alpha1.MachinePurpose
	order     v1alpha1.MachineOrder
	orderedAt time.Time
	// adopted is the provider id of an instance that was found and not ordered.
	adopted string

	// Of the status. launching stands for launchingAt, launched and throttled for the condition Launched.
	providerID, nodeName string
	launching, launched  bool
	throttled            string
	failure              *nodegroup.Failure
	leavingAt            time.Time

	// going is the deletion timestamp.
	going time.Time
}

// nodeObject is a Node.
type nodeObject struct {
	meta
	providerID    string
	pool          string
	labels        map[string]string
	createdAt     time.Time
	ready         bool
	notReadySince time.Time
	cordoned      bool
	// tainted is the taint for deletion, ours is set when it is the one that the provider's annotation tells of, and releasing
	// is that annotation, which Cluster Autoscaler leaves when it takes the taint off.
	tainted, ours, releasing bool
	// starting is the taint that a node registers with, until the provider has seen it.
	starting          bool
	reserved          bool
	heldBy            string
	scaleDownDisabled bool

	// since is when the node last began or ceased to be usable. No API object has it; the promises need it.
	since time.Time
	// machine is the one that its instance was made for. The promises need it.
	machine string
}

// usable reports whether the scheduler would put a pod on the node that has room for it.
func (n *nodeObject) usable() bool { return n.ready && !n.cordoned && !n.tainted && !n.starting }

// podObject is a Pod that has not ended, of a member or of another tenant.
type podObject struct {
	meta
	// member is empty for a pod of another tenant.
	member    string
	index     int32
	pools     []string
	cpu       int64
	node      string
	createdAt time.Time
	boundAt   time.Time
	deleting  bool

	// gated is set while the pod is behind the scheduling gate.
	gated bool
	// releasedFor is the node that it may go to, and to no other, since releasedAt; empty for one that was never gated.
	releasedFor string
	releasedAt  time.Time
	// refusedSince is since when the scheduler keeps it off that node.
	refusedSince time.Time
}

const (
	// nodeCPU is what an empty node of any pool offers, in thousandths of a core.
	nodeCPU = 4000
	// wholeCPU is what a pod requests that has a node for itself, shareCPU what one requests of which three share a node.
	wholeCPU, shareCPU = 3000, 1300
)

var offered = plan.Resources{corev1.ResourceCPU: nodeCPU, corev1.ResourcePods: 110}

// podCPU is what a pod of the member requests.
func (m *memberObject) podCPU() int64 {
	if m.podsPerNode > 1 || m.podsPerNode == plan.Auto {
		return shareCPU
	}
	return wholeCPU
}

// sharing is how many pods of the member share a node at most.
func (m *memberObject) sharing() int32 {
	fit := int32(nodeCPU / m.podCPU())
	if m.podsPerNode == plan.Auto {
		return fit
	}
	return min(max(1, m.podsPerNode), fit)
}

// reserved is the number of nodes reserved for the member in all pools.
func (m *memberObject) reserved() int32 {
	var sum int32
	for i := range m.reservations {
		sum += m.reservations[i].Nodes
	}
	return sum
}
