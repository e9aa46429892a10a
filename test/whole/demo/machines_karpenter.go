package main

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/parts/karpenter"
)

// nodeClass is the node class of Karpenter that has the boot delay of the demo.
const nodeClass = "demo"

// byKarpenter are NodeClaims of the real Karpenter, with the provider of machines that it has for its own tests.
type byKarpenter struct {
	karpenter.Beside
	client client.Client
}

func (b *byKarpenter) prepare(ctx context.Context, s *system.System) ([]string, error) {
	b.client = s.Client
	return b.Prepare(ctx, s)
}

// stop has nothing to do: Karpenter ends with the control plane.
func (b *byKarpenter) stop() error { return nil }

func (b *byKarpenter) machines(ctx context.Context, pool *unstructured.Unstructured, bootDelay time.Duration) (map[string]any, error) {
	if err := client.IgnoreAlreadyExists(b.client.Create(ctx, karpenter.NodeClass(nodeClass, bootDelay))); err != nil {
		return nil, err
	}
	in := func(key, value string) any {
		return map[string]any{"key": key, "operator": "In", "values": []any{value}}
	}
	return map[string]any{"karpenter": map[string]any{
			"nodeClassRef": map[string]any{"group": karpenter.Group, "kind": karpenter.Kind, "name": nodeClass},
			"requirements": []any{in("node.kubernetes.io/instance-type", karpenter.InstanceType), in("topology.kubernetes.io/zone", karpenter.Zone)},
		}}, errors.Join(
			// Its instance types are not those of the examples.
			unstructured.SetNestedField(pool.Object, map[string]any{"cpu": "4", "memory": "8Gi", "pods": "64"}, "spec", "template", "capacity"),
			unstructured.SetNestedField(pool.Object, map[string]any{"cpu": "3900m", "memory": "8182Mi"}, "spec", "template", "allocatable"),
		)
}
