package main

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestFit(t *testing.T) {
	dedicated := corev1.Taint{Key: "dedicated", Value: "hpc", Effect: corev1.TaintEffectNoSchedule}
	affinity := func(requirements ...corev1.NodeSelectorRequirement) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
					NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: requirements}},
				},
			}}
		}
	}
	for name, row := range map[string]struct {
		node func(*corev1.Node)
		pod  func(*corev1.Pod)
		want string
	}{
		"an empty node":   {},
		"a cordoned node": {node: func(n *corev1.Node) { n.Spec.Unschedulable = true }, want: "node is cordoned"},
		"an untolerated one": {
			node: func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{dedicated} }, want: "untolerated taint dedicated=hpc:NoSchedule",
		},
		"a tolerated taint": {
			node: func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{dedicated} },
			pod: func(p *corev1.Pod) {
				p.Spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpEqual, Value: "hpc"}}
			},
		},
		"a taint of another value": {
			node: func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{dedicated} },
			pod: func(p *corev1.Pod) {
				p.Spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpEqual, Value: "web"}}
			},
			want: "untolerated taint dedicated=hpc:NoSchedule",
		},
		"everything tolerated": {
			node: func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{dedicated} },
			pod:  func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}} },
		},
		"a soft taint": {node: func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "x", Effect: corev1.TaintEffectPreferNoSchedule}}
		}},
		"a selector that does not match": {
			pod:  func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"pool": "hpc-b"} },
			want: "node selector or affinity does not match",
		},
		"affinity to two pools": {
			pod: affinity(corev1.NodeSelectorRequirement{Key: "pool", Operator: corev1.NodeSelectorOpIn, Values: []string{"hpc-b", "hpc-a"}}),
		},
		"affinity to another one": {
			pod:  affinity(corev1.NodeSelectorRequirement{Key: "pool", Operator: corev1.NodeSelectorOpIn, Values: []string{"hpc-b"}}),
			want: "node selector or affinity does not match",
		},
		"affinity away from it": {
			pod:  affinity(corev1.NodeSelectorRequirement{Key: "pool", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"hpc-a"}}),
			want: "node selector or affinity does not match",
		},
		"a label that exists":   {pod: affinity(corev1.NodeSelectorRequirement{Key: "pool", Operator: corev1.NodeSelectorOpExists})},
		"a label that does not": {pod: affinity(corev1.NodeSelectorRequirement{Key: "gpu", Operator: corev1.NodeSelectorOpDoesNotExist})},
		"too large a number": {
			pod:  affinity(corev1.NodeSelectorRequirement{Key: "rank", Operator: corev1.NodeSelectorOpGt, Values: []string{"7"}}),
			want: "node selector or affinity does not match",
		},
		"a number below": {
			pod: affinity(corev1.NodeSelectorRequirement{Key: "rank", Operator: corev1.NodeSelectorOpLt, Values: []string{"8"}}),
		},
		"more cores than there are": {
			pod:  func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("4500m") },
			want: "cpu requested 4500m, free 4",
		},
		"a resource that the node has not": {
			pod: func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources.Requests["example.com/fpga"] = resource.MustParse("1")
			},
			want: "example.com/fpga requested 1, free 0",
		},
		"an init container larger than the rest": {
			pod: func(p *corev1.Pod) {
				p.Spec.InitContainers = []corev1.Container{
					{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("5")}}},
				}
			},
			want: "cpu requested 5, free 4",
		},
		"a sidecar beside the containers": {
			pod: func(p *corev1.Pod) {
				p.Spec.InitContainers = []corev1.Container{{
					RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
					Resources:     corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("2")}},
				}}
			},
			want: "cpu requested 5, free 4",
		},
		"a full node by count": {
			node: func(n *corev1.Node) { n.Status.Allocatable["pods"] = resource.MustParse("0") },
			want: "pods requested 1, free 0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			node, pod := newNode("hpc-a", "0", true), newPod("a", "3", "")
			node.Labels["rank"] = "7"
			if row.node != nil {
				row.node(node)
			}
			if row.pod != nil {
				row.pod(pod)
			}
			if got := emptyMachine(node).lacks(pod); got != row.want {
				t.Errorf("lacks %q, want %q", got, row.want)
			}
		})
	}
}

func TestPlacingAPodLeavesTheNodeObjectAlone(t *testing.T) {
	node := newNode("hpc-a", "0", true)
	m := emptyMachine(node)
	m.place(newPod("a", "3", ""))
	if left := m.free["cpu"]; left.String() != "1" {
		t.Errorf("%s cores left, want 1", left.String())
	}
	if node.Status.Allocatable.Cpu().String() != "4" {
		t.Errorf("allocatable of the node is now %s, want 4", node.Status.Allocatable.Cpu())
	}
}
