package explain

import (
	"strings"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// remedies say what to do, by the reason of the step that is waited for. POOL stands for the first pool that is concerned, MEMBER for the
// member, NAMESPACE for its namespace, and KIND for what its workload is. docs/troubleshooting.md has more on each.
var remedies = map[string]string{
	v1alpha1.ReasonPoolNotFound: "Create the NodePool, or correct the annotation " + v1alpha1.AnnotationNodePools + " of the KIND.",
	v1alpha1.ReasonPoolDeleting: "Name another pool in the annotation " + v1alpha1.AnnotationNodePools + ".",
	v1alpha1.ReasonPoolPaused:   "Resume the pool: kubectl ensemble resume POOL",
	v1alpha1.ReasonPaused:       "Resume the pool: kubectl ensemble resume POOL",
	v1alpha1.ReasonPoolFull:     "Wait, raise spec.maxSize of POOL, or name a second pool.",
	v1alpha1.ReasonQueued: "Wait: those before it are served first. To be served sooner, name a second pool or raise " +
		"spec.maxSize of POOL.",
	v1alpha1.ReasonPoolTooSmall:        "Raise spec.maxSize of POOL, or lower the size: kubectl ensemble scale MEMBER --size=N",
	v1alpha1.ReasonPodTooLarge:         "Lower the requests of the pods, or name a pool with larger nodes.",
	v1alpha1.ReasonNotSelected:         "Add the label to spec.template.labels of POOL, or take the selector out of the pods.",
	v1alpha1.ReasonTopologyMismatch:    "Name a pool in the zone of the nodes that the member has.",
	v1alpha1.ReasonNamespaceNotAllowed: "Ask who runs the pool to label namespace NAMESPACE, or name another pool.",
	v1alpha1.ReasonNodesUnusable: "Make the template of POOL say what its nodes are, or change what the pods request; the message " +
		"says what differs.",
	v1alpha1.ReasonBackingOff: "Wait for the time in the message; to try at once, ask for another size and back, or name a second pool.",
	v1alpha1.ReasonOutOfStock: "Name a second pool: the cloud has no more machines of this kind.",
	v1alpha1.ReasonProvisionTimeout: "Look at the machines (kubectl get pm); raise spec.provisionTimeout of POOL where booting takes " +
		"longer.",
	v1alpha1.ReasonSuspended: "Resume the Job, or wait for Kueue to do so.",
	v1alpha1.ReasonInvalid:   "Correct the field that the message names; until then the member keeps what it has.",
	v1alpha1.ReasonKindNotManaged: "Ask an administrator to have the controller manage this kind (--kinds, with the component of the " +
		"manifests for it), or delete the workload.",
	v1alpha1.ReasonFloorNotMet:      "Wait for the next loop of Cluster Autoscaler.",
	v1alpha1.ReasonWaitingForNodes:  "Wait until the time in the message; then the growth fails, or asks the next pool.",
	v1alpha1.ReasonMachineOrdered:   "Wait: the cloud was asked for the machine, or is about to be.",
	v1alpha1.ReasonMachineThrottled: "Wait: the cloud asks to be asked less often.",
	v1alpha1.ReasonMachineBooting:   "Wait: the machines boot until the time in the message.",
	v1alpha1.ReasonMachineNotReady:  "Wait; if it stays, look at the kubelet of the node: kubectl describe node",
	v1alpha1.ReasonMachineLeaving:   "Save the work of the ranks there: the cloud takes the machine away, and a replacement is ordered.",
	v1alpha1.ReasonMachineGoing:     "Wait until the machine is gone.",
	v1alpha1.ReasonMachineHasFailed: "Look at the failure (kubectl get pm -o wide); Cluster Autoscaler orders another machine after its " +
		"backoff.",
	v1alpha1.ReasonMachineFailed: "Look at the failure (kubectl get pm -o wide); Cluster Autoscaler orders another machine after its " +
		"backoff.",
	v1alpha1.ReasonStrangeNode:        "Take the label off the node, or delete the node: no machine of the pool is this node.",
	v1alpha1.ReasonReleasing:          "Wait until the machine is gone.",
	v1alpha1.ReasonResizing:           "Wait: it takes seconds. If it stays, the log of the controller has the error.",
	v1alpha1.ReasonWaitingForCapacity: "Wait for the nodes.",
	v1alpha1.ReasonPodsLeaving: "Wait until the pods of the higher ranks have ended; one that is Terminating for long hangs on its " +
		"grace period or its node.",
	v1alpha1.ReasonPodsStarting: "Wait: the pods are on their way.",
	v1alpha1.ReasonPodsNotMade:  "Correct what the message names, such as a ResourceQuota or a missing ServiceAccount.",
	v1alpha1.ReasonPodsNotStarted: "Correct what the message names: the image, the command (kubectl logs --previous), or what the " +
		"scheduler misses.",
	ReasonNotObserved: "Wait a second; if it stays, look whether the programs run: kubectl -n ensemble-autoscaler-system " +
		"get pods",
	ReasonAutoscalerMissing: "Run Cluster Autoscaler with --cloud-provider=externalgrpc and --enforce-node-group-min-size " +
		"(examples/cluster-autoscaler); where it runs elsewhere, name its namespace with --autoscaler-namespace.",
	ReasonAutoscalerSilent: "Look at the pod and the log of Cluster Autoscaler, which tells nothing any more.",
	ReasonGroupUnknown: "Look whether Cluster Autoscaler runs with --cloud-provider=externalgrpc and reaches our provider: " +
		"its log says so.",
	ReasonGroupUnhealthy: "Find out why nodes of POOL are not Ready: kubectl ensemble explain pool/POOL",
	ReasonGroupBackoff: "Wait: Cluster Autoscaler tries again after --initial-node-group-backoff-duration, and later after longer; " +
		"or name a second pool.",
	ReasonFloorIgnored: "Run Cluster Autoscaler with --enforce-node-group-min-size.",
	ReasonNodeNotReady: "Wait; if it stays, look at the kubelet of the node: kubectl describe node",
	ReasonNodeTainted:  "Take the taint off the node, or put it into spec.template.taints of POOL.",
	ReasonNodeCordoned: "kubectl uncordon the node.",
	ReasonGated:        "Wait a second. If it stays, no controller runs that would release the pod; controller ungate does it by hand.",
}

// remedy is the one thing to do about a step.
func remedy(f *Facts, cause *Step) string {
	text, known := remedies[cause.Reason]
	switch {
	case known:
	case cause.Topic == Machines:
		// The word is the cloud's own.
		text = remedies[v1alpha1.ReasonMachineFailed]
	case cause.State == Blocked:
		text = "Look at what the message says; docs/troubleshooting.md has each reason."
	default:
		text = "Wait."
	}
	kind := "workload"
	if f.Member != nil && f.Member.Spec.Target != nil {
		kind = f.Member.Spec.Target.Kind
	}
	replace := []string{"KIND", kind}
	if name := concernedPool(f, cause); name != "" {
		replace = append(replace, "POOL", name)
	}
	if f.Member != nil {
		replace = append(replace, "MEMBER", f.Member.Name, "NAMESPACE", f.Member.Namespace)
	}
	return strings.NewReplacer(replace...).Replace(text)
}

// concernedPool is the first pool whose name the cause has, or the first there is.
func concernedPool(f *Facts, cause *Step) string {
	for i := range f.Pools {
		if strings.Contains(cause.Message, f.Pools[i].Name) {
			return f.Pools[i].Name
		}
	}
	if f.Member != nil && len(f.Member.Spec.NodePools) > 0 {
		return f.Member.Spec.NodePools[0]
	}
	if len(f.Pools) > 0 {
		return f.Pools[0].Name
	}
	return ""
}
