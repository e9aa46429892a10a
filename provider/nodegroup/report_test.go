package nodegroup_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

func TestConditions(t *testing.T) {
	t.Parallel()
	failed := autoscalers(booting(1))
	failed.Failure = &nodegroup.Failure{Class: v1alpha1.FailureOutOfResources, Code: "OutOfStock", Message: "no machine of this kind is left"}
	for name, row := range map[string]struct {
		group           *nodegroup.Group
		floor, machines metav1.Condition
		// others are WithinBounds, MachinesUpToDate and Paused, where they are not as usual.
		others map[string]metav1.Condition
	}{
		"at rest": {
			withFloor(with(group(1, up(0, heldBy("ns/a"))), claim("ns/a", 1, 0))),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 1 is at or above the floor 1"},
			metav1.Condition{Type: "MachinesReady", Status: "True", Reason: "MachinesReady", Message: "1 of 1 nodes are Ready"},
			nil,
		},
		"waiting for Cluster Autoscaler": {
			withFloor(with(group(0), claim("ns/a", 1))),
			metav1.Condition{
				Type: "FloorMet", Status: "False", Reason: "FloorNotMet",
				Message: "the target size 0 is below the floor 1; waiting for Cluster Autoscaler, which has to run with --enforce-node-group-min-size",
			},
			metav1.Condition{Type: "MachinesReady", Status: "True", Reason: "MachinesReady", Message: "0 of 0 nodes are Ready"},
			nil,
		},
		"booting": {
			withFloor(with(group(2, up(0, heldBy("ns/a")), booting(1)), claim("ns/a", 2, 0))),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 2 is at or above the floor 2"},
			metav1.Condition{Type: "MachinesReady", Status: "False", Reason: "Provisioning", Message: "1 of 2 nodes are Ready"},
			nil,
		},
		"with a failed machine": {
			withFloor(group(2, autoscalers(up(0)), failed)),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 2 is at or above the floor 0"},
			metav1.Condition{
				Type: "MachinesReady", Status: "False", Reason: "MachineFailed",
				Message: "machine hpc-1 failed: OutOfStock: no machine of this kind is left",
			},
			nil,
		},
		"being deleted, with members": {
			deleting(withFloor(with(group(1, up(0, heldBy("ns/a"))), claim("ns/a", 1, 0)))),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 1 is at or above the floor 1"},
			metav1.Condition{
				Type: "MachinesReady", Status: "False", Reason: "Deleting",
				Message: "the NodePool is being deleted; it waits until no node is reserved by ns/a",
			},
			nil,
		},
		"being deleted, with pods": {
			deleting(withFloor(group(2, up(0, pods(2)), up(1)))),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 2 is at or above the floor 0"},
			metav1.Condition{
				Type: "MachinesReady", Status: "False", Reason: "Deleting",
				Message: "the NodePool is being deleted; it waits until no pod is on node-0",
			},
			nil,
		},
		"being deleted": {
			deleting(withFloor(group(0))),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 0 is at or above the floor 0"},
			metav1.Condition{
				Type: "MachinesReady", Status: "False", Reason: "Deleting", Message: "the NodePool is being deleted, and its machines are",
			},
			nil,
		},
		"with machines on their way out": {
			toDelete(withFloor(group(1, autoscalers(up(0)), up(1))), "hpc-1"),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 1 is at or above the floor 0"},
			metav1.Condition{Type: "MachinesReady", Status: "False", Reason: "Releasing", Message: "1 machine is on its way out: hpc-1"},
			nil,
		},
		"late, which Cluster Autoscaler backs off from": {
			floorChanged(noon.Add(-2*time.Hour), with(group(1, ago(time.Hour, booting(0))), claim("ns/a", 2))),
			metav1.Condition{
				Type: "FloorMet", Status: "False", Reason: "FloorNotMet",
				Message: "the target size 1 is below the floor 2; waiting for Cluster Autoscaler, which has to run with " +
					"--enforce-node-group-min-size and leaves a group alone for a while after a failure; the last one: ProvisionTimeout: the node did " +
					"not register within the provisionTimeout of 5m0s",
			},
			metav1.Condition{
				Type: "MachinesReady", Status: "False", Reason: "MachineFailed",
				Message: "machine hpc-0 failed: ProvisionTimeout: the node did not register within the provisionTimeout of 5m0s",
			},
			nil,
		},
		"below minSize": {
			minSize(2, withFloor(group(1, autoscalers(up(0))))),
			metav1.Condition{
				Type: "FloorMet", Status: "False", Reason: "FloorNotMet",
				Message: "the target size 1 is below minSize 2; waiting for Cluster Autoscaler, which has to run with --enforce-node-group-min-size",
			},
			metav1.Condition{Type: "MachinesReady", Status: "True", Reason: "MachinesReady", Message: "1 of 1 nodes are Ready"},
			nil,
		},
		"above a maxSize that was lowered": {
			maxSize(1, withFloor(group(2, autoscalers(up(0)), autoscalers(up(1))))),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 2 is at or above the floor 0"},
			metav1.Condition{Type: "MachinesReady", Status: "True", Reason: "MachinesReady", Message: "2 of 2 nodes are Ready"},
			map[string]metav1.Condition{
				"WithinBounds": {
					Status: "False", Reason: "AboveMaxSize",
					Message: "the target size 2 is above maxSize 1: nothing is ordered or granted beyond it, and nodes go when nobody uses them",
				},
			},
		},
		"with machines of an old template": {
			template(
				"new",
				withFloor(group(3, ordered("old", autoscalers(up(0))), ordered("new", autoscalers(up(1))), ordered("old", autoscalers(up(2))))),
			),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 3 is at or above the floor 0"},
			metav1.Condition{Type: "MachinesReady", Status: "True", Reason: "MachinesReady", Message: "3 of 3 nodes are Ready"},
			map[string]metav1.Condition{
				"MachinesUpToDate": {
					Status: "False", Reason: "TemplateChanged",
					Message: "2 of 3 machines were ordered with a template from before its last edit and keep it: hpc-0, hpc-2",
				},
			},
		},
		"paused": {
			paused(withFloor(with(group(0), claim("ns/a", 1)))),
			metav1.Condition{
				Type: "FloorMet", Status: "False", Reason: "FloorNotMet", Message: "the target size 0 is below the floor 1; the NodePool is paused",
			},
			metav1.Condition{Type: "MachinesReady", Status: "True", Reason: "MachinesReady", Message: "0 of 0 nodes are Ready"},
			map[string]metav1.Condition{
				"Paused": {
					Status: "True", Reason: "Paused",
					Message: "spec.paused is true: no machine is ordered, deleted or released, and no member is granted more nodes",
				},
			},
		},
		"with a node that the target does not count and that has pods": {
			following(withFloor(group(1, autoscalers(up(0, pods(1))), autoscalers(up(1, pods(1)))))),
			metav1.Condition{Type: "FloorMet", Status: "True", Reason: "FloorMet", Message: "the target size 1 is at or above the floor 0"},
			metav1.Condition{
				Type: "MachinesReady", Status: "False", Reason: "Releasing",
				Message: "there are 2 machines and the target is 1; nodes go when no pod and no member uses them",
			},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := nodegroup.Plan(row.group, announceTimeout, noon)
			want := []metav1.Condition{
				row.floor, row.machines,
				{
					Type: "WithinBounds", Status: "True", Reason: "WithinBounds",
					Message: fmt.Sprintf("the target size %d is at most maxSize 10", row.group.Target),
				},
				{Type: "MachinesUpToDate", Status: "True", Reason: "UpToDate", Message: "every machine was ordered with the template of now"},
				{Type: "Paused", Status: "False", Reason: "NotPaused", Message: "spec.paused is not set"},
				{Type: "Throttled", Status: "False", Reason: "NotThrottled", Message: "the cloud takes what it is asked"},
			}
			for i := range want {
				if other, is := row.others[want[i].Type]; is {
					other.Type = want[i].Type
					want[i] = other
				}
			}
			if diff := cmp.Diff(want, slices.Concat(d.Conditions, d.Notes)); diff != "" {
				t.Errorf("wrong conditions (-want +got):\n%s", diff)
			}
		})
	}
}
