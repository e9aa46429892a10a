package clusterapi

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// TestFailureOf: what providers say of their machines. Messages are as their clouds word them.
func TestFailureOf(t *testing.T) {
	const short, other = v1alpha1.FailureOutOfResources, v1alpha1.FailureOther
	for name, row := range map[string]struct {
		status, reason, message string
		want                    v1alpha1.FailureClass
	}{
		"ready":                      {"True", "Ready", "", ""},
		"unknown":                    {"Unknown", "InstanceProvisionFailed", "quota exceeded", ""},
		"it waits":                   {"False", "WaitingForBootstrapData", "", ""},
		"it is being made":           {"False", "InstanceProvisionStarted", "", ""},
		"no capacity at AWS":         {"False", "InstanceProvisionFailed", "InsufficientInstanceCapacity: We currently do not have", short},
		"no quota at AWS":            {"False", "InstanceProvisionFailed", "VcpuLimitExceeded: You have requested more vCPU capacity", short},
		"AWS throttles":              {"False", "InstanceProvisionFailed", "RequestLimitExceeded: Request limit exceeded.", ""},
		"no such image at AWS":       {"False", "InstanceProvisionFailed", "InvalidAMIID.NotFound", other},
		"terminated":                 {"False", "InstanceTerminated", "", other},
		"no capacity at Azure":       {"False", "VMProvisionFailed", "Code=\"ZonalAllocationFailed\"", short},
		"no host at OpenStack":       {"False", "InstanceStateError", "No valid host was found. There are not enough hosts available.", short},
		"vSphere tries again":        {"False", "CloningFailed", "the object is being changed by another task", ""},
		"vSphere has no memory":      {"False", "CloningFailed", "insufficient resources to satisfy", short},
		"Metal3 waits for a host":    {"False", "AssociateBMHFailed", "error while associating", ""},
		"Metal3 has no host":         {"False", "AssociateBMHFailed", "No available host found", short},
		"a cloud's own word":         {"False", "InsufficientInstanceCapacity", "", short},
		"an unknown reason":          {"False", "SomethingElse", "we will see", ""},
		"an unknown reason, a quota": {"False", "SomethingElse", "Quota exceeded for cores", short},
	} {
		t.Run(name, func(t *testing.T) {
			machine := withStatus(map[string]any{"conditions": []any{
				map[string]any{
					"type": "InfrastructureReady", "status": row.status, "reason": row.reason, "message": row.message,
					"lastTransitionTime": "2026-11-30T00:00:00Z",
				},
			}})
			expect(t, failureOf(machine), row.want, row.reason)
		})
	}
}

// TestFailureOfOneThatIsThere: once there is a machine, nothing but its own death ends it, whatever is lacking for something else.
func TestFailureOfOneThatIsThere(t *testing.T) {
	node := map[string]any{"name": "n"}
	made := map[string]any{"infrastructureProvisioned": true}
	for name, row := range map[string]struct {
		made, node              map[string]any
		reason, message         string
		nodeStatus, nodeReason  string
		want                    v1alpha1.FailureClass
		deprecated, noCondition bool
	}{
		"a quota in a reconcile": {node: node, reason: "SomethingElse", message: "Quota exceeded for ports", nodeStatus: "True"},
		"a quota, and no node": {
			made: made, reason: "SomethingElse", message: "Quota exceeded for ports", nodeStatus: "False", nodeReason: "NodeNotReady",
		},
		"no capacity, and a dead node": {
			node: node, reason: "InsufficientInstanceCapacity", nodeStatus: "False", nodeReason: "NodeNotReady",
		},
		"tags that fail": {
			node: node, reason: "InstanceProvisionFailed", message: "tag: no right", nodeStatus: "True", nodeReason: "NodeReady",
		},
		"nothing is said of the node": {node: node, reason: "InstanceTerminated", noCondition: true},
		"Cluster API cannot look":     {node: node, reason: "InstanceTerminated", nodeStatus: "Unknown", nodeReason: "ConnectionDown"},
		"Cluster API has not looked":  {node: node, reason: "InstanceTerminated", nodeStatus: "Unknown", nodeReason: "InspectionFailed"},
		"terminated, and not ready": {
			node: node, reason: "InstanceTerminated", nodeStatus: "False", nodeReason: "NodeNotReady", want: v1alpha1.FailureOther,
		},
		"terminated, and not heard of": {
			node: node, reason: "InstanceTerminated", nodeStatus: "Unknown", nodeReason: "NodeReadyUnknown", want: v1alpha1.FailureOther,
		},
		"terminated, and gone": {
			node: node, reason: "InstanceTerminated", nodeStatus: "False", nodeReason: "NodeDeleted", want: v1alpha1.FailureOther,
		},
		"terminated for a quota": {
			node: node, reason: "InstanceTerminated", message: "quota exceeded", nodeStatus: "False", nodeReason: "NodeDeleted",
			want: v1alpha1.FailureOther,
		},
		"terminated before it joined": {
			made: made, reason: "InstanceTerminated", nodeStatus: "Unknown", nodeReason: "InspectionFailed", want: v1alpha1.FailureOther,
		},
		"a failure of old": {node: node, reason: "Error", deprecated: true, nodeStatus: "True", nodeReason: "NodeReady"},
		"a failure of old, and it stood": {
			node: node, reason: "Error", deprecated: true, nodeStatus: "False", nodeReason: "NodeNotReady", want: v1alpha1.FailureOther,
		},
	} {
		t.Run(name, func(t *testing.T) {
			status, conditions := map[string]any{}, []any{}
			if row.deprecated {
				status["deprecated"] = map[string]any{"v1beta1": map[string]any{"failureReason": row.reason}}
			} else {
				conditions = append(conditions, map[string]any{
					"type": "InfrastructureReady", "status": "False", "reason": row.reason, "message": row.message,
				})
			}
			if !row.noCondition {
				conditions = append(conditions, map[string]any{"type": "NodeReady", "status": row.nodeStatus, "reason": row.nodeReason})
			}
			status["conditions"] = conditions
			if row.node != nil {
				status["nodeRef"] = row.node
			}
			if row.made != nil {
				status["initialization"] = row.made
			}
			expect(t, failureOf(withStatus(status)), row.want, row.reason)
		})
	}
}

// TestOtherFailures: what is said elsewhere than in the condition of the infrastructure. That a MachineHealthCheck finds a machine
// unhealthy ends it where it wants to have it replaced: in an outage that concerns many it wants no such thing.
func TestOtherFailures(t *testing.T) {
	const early, late = "2026-11-30T00:00:00Z", "2026-11-30T01:00:00Z"
	said := func(kind, status, reason, at string) any {
		return map[string]any{"type": kind, "status": status, "reason": reason, "message": "no node", "lastTransitionTime": at}
	}
	node := map[string]any{"name": "n"}
	unhealthy := said("HealthCheckSucceeded", "False", "UnhealthyNode", late)
	marked := []any{unhealthy, said("OwnerRemediated", "False", "WaitingForRemediation", late)}
	expect(t, failureOf(withStatus(map[string]any{"deprecated": map[string]any{"v1beta1": map[string]any{
		"failureReason": "InsufficientResources", "failureMessage": "none is left",
	}}})), v1alpha1.FailureOutOfResources, "InsufficientResources")
	expect(t, failureOf(withStatus(nil)), "", "")
	for name, row := range map[string]struct {
		status map[string]any
		want   v1alpha1.FailureClass
	}{
		"too many are unhealthy": {map[string]any{"nodeRef": node, "conditions": []any{unhealthy}}, ""},
		"it is to be replaced":   {map[string]any{"nodeRef": node, "conditions": marked}, v1alpha1.FailureOther},
		"it has no node yet":     {map[string]any{"conditions": marked}, ""},
		"the mark is of old": {map[string]any{"nodeRef": node, "conditions": []any{
			unhealthy, said("OwnerRemediated", "False", "WaitingForRemediation", early),
		}}, ""},
		"it is well again": {map[string]any{"nodeRef": node, "conditions": []any{
			said("HealthCheckSucceeded", "True", "HealthCheckSucceeded", late), said("OwnerRemediated", "False", "WaitingForRemediation", late),
		}}, ""},
	} {
		t.Run(name, func(t *testing.T) { expect(t, failureOf(withStatus(row.status)), row.want, "UnhealthyNode") })
	}
}

func withStatus(status map[string]any) *unstructured.Unstructured {
	out := newMachine()
	if status != nil {
		out.Object["status"] = status
	}
	return out
}

func expect(t *testing.T, got *v1alpha1.MachineFailure, class v1alpha1.FailureClass, code string) {
	t.Helper()
	switch {
	case class == "" && got != nil:
		t.Errorf("it has failed with %+v", *got)
	case class != "" && (got == nil || got.Class != class || got.Code != code || got.Message == ""):
		t.Errorf("the failure is %+v, not %s of class %s", got, code, class)
	}
}
