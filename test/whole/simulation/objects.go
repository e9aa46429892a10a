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
	// namespaceLabels are those of its namespace.
	namespaceLabels labels
	// selects are the labels of the nodes that its pods go to, as its template says.
	selects labels
	// devices is set when a pod of it requests a device.
	devices bool
	// injected is what its pods request and select beside what the template says: a LimitRange, a webhook, a namespace's selector.
	injected injection
	// adopted is the generation of the MiniCluster whose size somebody else wrote, and which has become the desired size.
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
	departing   []string
	findings    []v1alpha1.PoolFinding
	podsLacking *v1alpha1.PodsLacking
	running     int32
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
	// suspended is that of the Job.
	suspended bool
	// invalid says why it cannot be read, empty while it can.
	invalid string
	// limited is set while a quota allows only so many pods.
	limited bool
	quota   int32
}

// poolObject is a NodePool.
type poolObject struct {
	meta

	// Of the spec.
	labels             labels
	cpu, devices       int64
	daemons            []plan.Daemon
	minSize, maxSize   int32
	target, forMembers int32
	toDelete           []string
	provisionTimeout   time.Duration
	paused             bool
	// allowed selects the namespaces whose members may have nodes, nil for all.
	allowed labels
	// edited counts the changes of its template.
	edited int

	// Of the status.
	floor                int32
	floorChangedAt       time.Time
	announced            int32
	ordered, orderedFrom int64
	failed               []string
	lastFailure          *nodegroup.Failure
	lastFailed           string
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
	providerID string
	pool       string
	labels     labels
	// cpu and devices are what it offers, foreign is a taint that is not of its template.
	cpu, devices  int64
	foreign       string
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
func (n *nodeObject) usable() bool {
	return n.ready && !n.cordoned && !n.tainted && !n.starting && n.foreign == ""
}

// podObject is a Pod that has not ended, of a member or of another tenant, or one of a member that has succeeded.
type podObject struct {
	meta
	// member is empty for a pod of another tenant, daemon for one that is of no DaemonSet.
	member, daemon string
	index          int32
	pools          []string
	cpu            int64
	devices        int64
	selects        labels
	node           string
	createdAt      time.Time
	boundAt        time.Time
	deleting       bool
	// running is set when it runs, stuck says why it never will.
	running bool
	stuck   string
	// succeeded is set when its work is done. It is on no node then.
	succeeded bool

	// gated is set while the pod is behind the scheduling gate.
	gated bool
	// releasedFor is the node that it may go to, and to no other, since releasedAt; empty for one that was never gated.
	releasedFor string
	releasedAt  time.Time
	// refusedSince is since when the scheduler keeps it off that node.
	refusedSince time.Time
	// refusal is what the scheduler says of a pod that it finds no node for.
	refusal string
}

const (
	// nodeCPU is what an empty node of any pool offers, in thousandths of a core.
	nodeCPU = 4000
	// wholeCPU is what a pod requests that has a node for itself, shareCPU what one requests of which three share a node.
	wholeCPU, shareCPU = 3000, 1300
)

// device is an extended resource, of which a node has one where its pool has them.
const device corev1.ResourceName = "example.com/gpu"

// offered is what a node or a template offers.
func offered(cpu, devices int64) plan.Resources {
	out := plan.Resources{corev1.ResourceCPU: cpu, corev1.ResourcePods: 110}
	if devices > 0 {
		out[device] = devices
	}
	return out
}

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
