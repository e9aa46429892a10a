package clusterapi

import (
	"cmp"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Conditions of a Machine (api/core/v1beta2). InfrastructureReady has the reason and the message of the condition Ready of the
// infrastructure object, NodeReady says what Cluster API sees of the node. A MachineHealthCheck sets HealthCheckSucceeded of each Machine
// that it finds unhealthy, and OwnerRemediated of those alone that it wants to have replaced: of none while more are unhealthy than it
// may replace. Since nothing owns our Machines, nothing else replaces one.
const (
	conditionInfrastructure = "InfrastructureReady"
	conditionNode           = "NodeReady"
	conditionHealth         = "HealthCheckSucceeded"
	conditionRemediated     = "OwnerRemediated"
	// reasonWaiting is the reason of OwnerRemediated from when a MachineHealthCheck wants a Machine to be replaced.
	reasonWaiting = "WaitingForRemediation"
)

// deadNode are the reasons of NodeReady by which Cluster API says that it has looked at the node of a Machine and found it dead or gone
// (setNodeHealthyAndReadyConditions in core/reconcilers/machine). Its other reasons say that it cannot look. A Machine that has never had
// a node has reasonNoNode: Cluster API looks for one.
var deadNode = map[string]bool{"NodeNotReady": true, "NodeReadyUnknown": true, "NodeDeleted": true}

const reasonNoNode = "InspectionFailed"

// Codes of failures that have no reason of their own.
const (
	codeUnhealthy = "Unhealthy"
	codeFailed    = "MachineFailed"
)

// prospect is what a reason says of a machine.
type prospect int

const (
	// maybe is a reason that infrastructure providers give also for what they get over by themselves: the machine has failed only
	// where the message says that there is no capacity. Else it has until spec.provisionTimeout.
	maybe prospect = iota
	// never is a machine that will not come up, or is no more; the message says why.
	never
	// short is a cloud that has no such machine.
	short
)

// reasons says what the reasons of the condition InfrastructureReady mean. Each is from the source of the infrastructure provider, as of
// November 2026; a reason that is not here is a maybe.
var reasons = map[string]prospect{
	// AWS (api/v1beta2/conditions_consts.go), and OpenStack (api/v1beta1/conditions_consts.go) where it has the same.
	"InstanceProvisionFailed": never,
	"InstanceNotFound":        never,
	"InstanceTerminated":      never,
	"InstanceStopped":         never,
	// OpenStack.
	"InstanceCreateFailed": never,
	"InstanceStateError":   never,
	"InstanceDeleted":      never,
	"InvalidMachineSpec":   never,
	// Azure (api/v1beta1/conditions_consts.go), and Proxmox (api/v1alpha1/conditions_consts.go).
	"VMProvisionFailed": never,
	"BootstrapFailed":   never,
	"VMTerminated":      never,
	// vSphere (apis/v1beta1/condition_consts.go) and Proxmox try these again, and mostly succeed.
	"CloningFailed":    maybe,
	"PoweringOnFailed": maybe,
	"TaskFailure":      maybe,
	// Metal3 (api/v1beta1/condition_consts.go) takes a host as soon as one is free.
	"AssociateBMHFailed": maybe,
	"MissingBMH":         never,
	// Reasons that are the cloud's own words, and what Machines of v1beta1 had for failureReason (errors/consts.go).
	"InsufficientInstanceCapacity": short,
	"InsufficientResources":        short,
	"OutOfHostCapacity":            short,
}

// throttledWords are those of a cloud that asks to be asked less often, which is no failure.
func throttledWords() []string {
	return []string{"requestlimitexceeded", "throttl", "too many requests", "rate exceeded", "toomanyrequests"}
}

// shortWords are those by which the messages of clouds say that there is no capacity or no quota.
func shortWords() []string {
	return []string{
		// AWS.
		"insufficientinstancecapacity", "insufficienthostcapacity", "unfulfillablecapacity", "instancelimitexceeded", "vcpulimitexceeded",
		"maxspotinstancecountexceeded", "insufficientfreeaddressesinsubnet", "reservationcapacityexceeded",
		// Azure.
		"allocationfailed", "overconstrainedallocationrequest", "skunotavailable", "quotaexceeded",
		// GCP.
		"zone_resource_pool_exhausted", "insufficient_capacity", "quota_exceeded", "ip_space_exhausted",
		// OpenStack.
		"no valid host", "not enough hosts",
		// vSphere, Proxmox, Metal3.
		"insufficient resources", "insufficient capacity", "not enough memory", "no available host", "no available baremetalhost",
		// Anything.
		"exceeds quota", "exceeded quota", "quota exceeded", "out of stock", "out of capacity",
	}
}

func hasOneOf(message string, words []string) bool {
	message = strings.ToLower(message)
	for _, word := range words {
		if strings.Contains(message, word) {
			return true
		}
	}
	return false
}

// failureOf is the failure of a Machine, nil for none. Since v1beta2 a Machine has no phase for it: its provider tries again for ever,
// and what has failed is deleted when it is let go.
func failureOf(machine *unstructured.Unstructured) *v1alpha1.MachineFailure {
	if machine.GetDeletionTimestamp() != nil {
		return nil // What it says now is how far its end is.
	}
	if f := infrastructureFailure(machine); f != nil {
		return f
	}
	if f := deprecatedFailure(machine); f != nil {
		return f
	}
	return healthFailure(machine)
}

// infrastructureFailure is what the infrastructure provider says of a machine. Once there is a machine, that something is lacking is
// about something else, such as a disk, a port or a tag that is looked after again and again; and that the machine is no more is believed
// where its node is dead too. What says nothing of either is left to the rule of absence.
func infrastructureFailure(machine *unstructured.Unstructured) *v1alpha1.MachineFailure {
	c := condition(machine, conditionInfrastructure)
	reason, message := c["reason"], c["message"]
	if c["status"] != string(metav1.ConditionFalse) || hasOneOf(message, throttledWords()) {
		return nil
	}
	says := reasons[reason]
	class := classOf(says, message)
	switch {
	case isMade(machine):
		if says != never || !isDead(machine) {
			return nil
		}
		class = v1alpha1.FailureOther
	case says == maybe && class != v1alpha1.FailureOutOfResources:
		return nil
	}
	return failure(machine, timeOf(c), cmp.Or(reason, codeFailed), cmp.Or(message, reason), class)
}

// deprecatedFailure is what providers that still know failures have said. It is final by their contract; not all keep to it, so that of a
// machine that is there it is believed as the condition is.
func deprecatedFailure(machine *unstructured.Unstructured) *v1alpha1.MachineFailure {
	reason := text(machine, "status", "deprecated", "v1beta1", "failureReason")
	message := text(machine, "status", "deprecated", "v1beta1", "failureMessage")
	if reason == "" && message == "" {
		return nil
	}
	class := classOf(reasons[reason], message)
	if isMade(machine) {
		if !isDead(machine) {
			return nil
		}
		class = v1alpha1.FailureOther
	}
	return failure(machine, time.Time{}, cmp.Or(reason, codeFailed), cmp.Or(message, reason), class)
}

// healthFailure is set of a machine with a node that a MachineHealthCheck wants to have replaced. It leaves OwnerRemediated as it is when
// the machine has got well: a mark from before it got ill again does not count.
func healthFailure(machine *unstructured.Unstructured) *v1alpha1.MachineFailure {
	health, mark := condition(machine, conditionHealth), condition(machine, conditionRemediated)
	no := string(metav1.ConditionFalse)
	if health["status"] != no || mark["status"] != no || mark["reason"] != reasonWaiting ||
		timeOf(mark).Before(timeOf(health)) || text(machine, "status", "nodeRef", "name") == "" {
		return nil
	}
	return failure(machine, timeOf(mark), cmp.Or(health["reason"], codeUnhealthy),
		cmp.Or(health["message"], "a MachineHealthCheck wants the machine to be replaced"), v1alpha1.FailureOther)
}

// isMade reports whether there is or was a machine: its infrastructure is complete, or it has had a node.
func isMade(machine *unstructured.Unstructured) bool {
	made, _, err := unstructured.NestedBool(machine.Object, "status", "initialization", "infrastructureProvisioned")
	return (made && err == nil) || text(machine, "status", "nodeRef", "name") != ""
}

// isDead reports whether Cluster API itself says that the node of a machine is dead or gone, or that none has come yet.
func isDead(machine *unstructured.Unstructured) bool {
	c := condition(machine, conditionNode)
	switch {
	case c["status"] == "" || c["status"] == string(metav1.ConditionTrue):
		return false
	case text(machine, "status", "nodeRef", "name") == "":
		return deadNode[c["reason"]] || c["reason"] == reasonNoNode
	}
	return deadNode[c["reason"]]
}

func classOf(says prospect, message string) v1alpha1.FailureClass {
	if says == short || hasOneOf(message, shortWords()) {
		return v1alpha1.FailureOutOfResources
	}
	return v1alpha1.FailureOther
}

// failure is one as it is recorded.
func failure(machine *unstructured.Unstructured, at time.Time, code, message string, class v1alpha1.FailureClass) *v1alpha1.MachineFailure {
	const longest = 4096
	if at.IsZero() {
		at = machine.GetCreationTimestamp().Time
	}
	return &v1alpha1.MachineFailure{
		Machine: machine.GetLabels()[v1alpha1.LabelMachine], Time: metav1.NewMicroTime(at), Class: class, Code: code,
		Message: message[:min(len(message), longest)],
	}
}

// condition are the fields of a condition of a Machine, none where it has no such condition.
func condition(machine *unstructured.Unstructured, kind string) map[string]string {
	conditions, _, err := unstructured.NestedFieldNoCopy(machine.Object, "status", "conditions")
	all, ok := conditions.([]any)
	if err != nil || !ok {
		return nil
	}
	for _, entry := range all {
		c, ok := entry.(map[string]any)
		if !ok || c["type"] != kind {
			continue
		}
		out := make(map[string]string, len(c))
		for key, value := range c {
			if s, ok := value.(string); ok {
				out[key] = s
			}
		}
		return out
	}
	return nil
}

func timeOf(condition map[string]string) time.Time {
	at, err := time.Parse(time.RFC3339, condition["lastTransitionTime"])
	if err != nil {
		return time.Time{}
	}
	return at
}
