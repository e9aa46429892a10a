package main

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	holds "github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/estate"
)

// estate is what the client asks about.
type estate struct {
	size
	nodes   []*externalgrpc.ExternalGrpcNode
	foreign []*externalgrpc.ExternalGrpcNode
}

// foreignNodes is the number of nodes of somebody else that the client asks about in turn.
const foreignNodes = 100

func newEstate(s size) *estate {
	e := &estate{size: s}
	for group := range s.Groups {
		p := holds.NodePool(s, group)
		for n := range s.MachinesIn(group) {
			e.nodes = append(e.nodes, asked(holds.NodeOf(holds.MachineOf(p, n, time.Time{}, ""))))
		}
	}
	for n := range foreignNodes {
		node := holds.NodeOf(holds.MachineOf(holds.NodePool(s, 0), n, time.Time{}, ""))
		node.Name = fmt.Sprintf("ip-10-0-0-%d.internal", n)
		node.Spec.ProviderID = fmt.Sprintf("aws:///region-1a/i-%017x", n)
		delete(node.Labels, v1alpha1.LabelNodePool)
		e.foreign = append(e.foreign, asked(node))
	}
	return e
}

// asked is a node as Cluster Autoscaler sends it.
func asked(node *corev1.Node) *externalgrpc.ExternalGrpcNode {
	return &externalgrpc.ExternalGrpcNode{
		ProviderID: node.Spec.ProviderID, Name: node.Name, Labels: node.Labels, Annotations: node.Annotations,
	}
}

// scatter turns a counter into an index, so that neighbours in time are none in memory.
func scatter(i, length int) int { return i * 7919 % length }

func (e *estate) node(i int) *externalgrpc.ExternalGrpcNode {
	return e.nodes[scatter(i, len(e.nodes))]
}

func (e *estate) pool(i int) string { return holds.PoolName(scatter(i, e.Groups)) }
