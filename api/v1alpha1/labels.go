package v1alpha1

const (
	// LabelNodePool is the label that every node, and every machine record, of a pool carries. Its value
	// is the name of the NodePool.
	LabelNodePool = Group + "/node-pool"

	// LabelMember on a pod says that it belongs to a managed MiniCluster, whose name is the value. The webhook puts it into
	// spec.pod.labels of a MiniCluster when that is created; the policy that adds SchedulingGate selects it.
	LabelMember = Group + "/member"

	// LabelMemberPoolPrefix begins the keys of the labels of an EnsembleMember that say, each with the name of a NodePool, where it may
	// have reservations. The controller sets them before it claims a node there: by them the provider finds the members that may hold
	// a node without reading all of them.
	LabelMemberPoolPrefix = "nodepool." + Group + "/"

	// LabelMachine on an object that a launcher has made, such as a KwokInstance, is the name of the PoolMachine.
	LabelMachine = Group + "/machine"

	// AnnotationAdopted on a PoolMachine is the provider id of the instance that it is the record of, where that was found and
	// not ordered.
	AnnotationAdopted = Group + "/adopted"

	// AnnotationNodePools on a MiniCluster is the user's way in: a comma-separated list of NodePool
	// names in order of preference. A MiniCluster that has it is managed, one that has it not is left alone.
	AnnotationNodePools = Group + "/node-pools"

	// AnnotationPlacement on a MiniCluster sets EnsembleMember.spec.placement.
	AnnotationPlacement = Group + "/placement"
	// AnnotationGrowthPolicy on a MiniCluster sets EnsembleMember.spec.growthPolicy.
	AnnotationGrowthPolicy = Group + "/growth-policy"

	// AnnotationRequestPolicy on a MiniCluster sets EnsembleMember.spec.requestPolicy.
	AnnotationRequestPolicy = Group + "/request-policy"

	// AnnotationTopologyKey on a MiniCluster sets EnsembleMember.spec.topologyKey.
	AnnotationTopologyKey = Group + "/topology-key"

	// AnnotationPodsPerNode on a MiniCluster sets EnsembleMember.spec.podsPerNode.
	AnnotationPodsPerNode = Group + "/pods-per-node"
	// AnnotationGiveUpAfter on a MiniCluster sets EnsembleMember.spec.giveUpAfter.
	AnnotationGiveUpAfter = Group + "/give-up-after"

	// AnnotationMinSize on a Job is the minimum of its size, for which a Job has no field. Without it that is 1.
	AnnotationMinSize = Group + "/min-size"
	// AnnotationMaxSize on a Job is the maximum of its size. The webhook writes it into a Job that is created without: its first size.
	AnnotationMaxSize = Group + "/max-size"

	// AnnotationJobSizes on a JobSet are the sizes that the controller gives to its Jobs, where the JobSet itself does not take them: its
	// controller runs without the feature gate ElasticJobSet. It is the controller's own.
	AnnotationJobSizes = Group + "/job-sizes"

	// AnnotationAppliedSize on a MiniCluster is the spec.size that the controller last wrote, put there in
	// the same write. A spec.size that differs from it was edited by a user. On a workload with several groups of pods it has the
	// sizes of all of them, by their names: "leader=1,workers=4".
	AnnotationAppliedSize = Group + "/applied-size"

	// AnnotationSizeEdits on a MiniCluster says what becomes of spec.size in a file that is applied again: with the value Follow it is
	// followed as an edit by hand is. Without it, a file that says less than the size that the member has grown to lowers nothing.
	AnnotationSizeEdits = Group + "/size-edits"

	// AnnotationFileSize on a MiniCluster is the spec.size of the file that was applied last, noted by the webhook: a file that
	// still says the same is no edit of the size.
	AnnotationFileSize = Group + "/file-size"

	// AnnotationAdoptedGeneration on an EnsembleMember is the metadata.generation of the MiniCluster whose
	// directly edited size was last adopted as the desired size. It makes the adoption safe to repeat.
	AnnotationAdoptedGeneration = Group + "/adopted-generation"

	// AnnotationReserved marks a node, with the value "true", as one that was ordered for a member or has
	// been held by one. Only marked nodes are released by the provider; all others belong to Cluster Autoscaler.
	AnnotationReserved = Group + "/reserved"

	// AnnotationNode on a pod is the node that the controller has released it for. Its node selector names the host of that
	// node.
	AnnotationNode = Group + "/node"

	// AnnotationReleasedAt on a pod is the time (RFC 3339) at which the controller took its gate away.
	AnnotationReleasedAt = Group + "/released-at"

	// AnnotationHeldBy on a node is the member (namespace/name) that holds it at the moment.
	AnnotationHeldBy = Group + "/held-by"

	// AnnotationGivenUp on a node is the time (RFC 3339) at which a member gave it up, while it stays for the next growth
	// (spec.scaleDown.delay of the NodePool).
	AnnotationGivenUp = Group + "/given-up"

	// AnnotationScaleDownDisabledByUser on a node says, with the value "true", that a user had set
	// AnnotationScaleDownDisabled before a member held the node: it stays when the member gives the node up.
	AnnotationScaleDownDisabledByUser = Group + "/scale-down-disabled-by-user"

	// AnnotationReleasing on a node is the time (RFC 3339) at which the provider tainted it for release.
	// It tells the provider's taint from one that Cluster Autoscaler put there.
	AnnotationReleasing = Group + "/releasing"
)

// MemberPoolLabel is the key of the label of members that may have reservations in a pool.
func MemberPoolLabel(pool string) string { return LabelMemberPoolPrefix + pool }

// SchedulingGate keeps the scheduler, and Cluster Autoscaler, from looking at a pod of a managed MiniCluster until the
// controller has nodes for it and takes the gate away.
const SchedulingGate = Group + "/nodes-ready"

// TaintRegistration is the key of a taint that nodes register with where their bootstrap can set one, so that no pod comes
// before the provider has seen the node. The provider takes it off. By the first part of its name Cluster Autoscaler takes such
// nodes for nodes that are starting.
const TaintRegistration = "startup-taint.cluster-autoscaler.kubernetes.io/ensemble-autoscaler"

// FinalizerMachine on a PoolMachine keeps the record until the cloud says that the machine is gone: without it the machine
// would be paid for by nobody's order.
const FinalizerMachine = Group + "/machine"

// FinalizerMachines on a NodePool keeps it until its machines are gone: without it they would be nobody's.
const FinalizerMachines = Group + "/machines"

const (
	// AnnotationScaleDownDisabled with the value "true" keeps Cluster Autoscaler from removing a node.
	// The name is Cluster Autoscaler's.
	AnnotationScaleDownDisabled = "cluster-autoscaler.kubernetes.io/scale-down-disabled"

	// AnnotationSafeToEvict with the value "false" on a pod keeps Cluster Autoscaler from moving the pod to another node. The
	// name is Cluster Autoscaler's.
	AnnotationSafeToEvict = "cluster-autoscaler.kubernetes.io/safe-to-evict"

	// TaintToBeDeleted is the taint key by which Cluster Autoscaler, and the provider, mark a node that is
	// about to go. Cluster Autoscaler counts such a node as deleted. The value is in unix seconds.
	TaintToBeDeleted = "ToBeDeletedByClusterAutoscaler"
)
