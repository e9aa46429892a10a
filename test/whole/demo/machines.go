package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/parts/karpenter"
)

// backend is where the machines of the demo come from.
type backend interface {
	// prepare installs what makes them, and returns flags of the provider.
	prepare(ctx context.Context, s *system.System) (providerFlags []string, err error)
	// machines is spec.machines of a NodePool whose machines take so long to boot.
	machines(ctx context.Context, pool *unstructured.Unstructured, bootDelay time.Duration) (map[string]any, error)
	// stop ends what was started in this process.
	stop() error
}

// backendOf is the one of a name, which is what MACHINES says.
func backendOf(name string, progress io.Writer) (backend, error) {
	switch name {
	case "", "kwok":
		return simulated{}, nil
	case "cluster-api":
		return &byClusterAPI{progress: progress}, nil
	case "karpenter":
		return &byKarpenter{Beside: karpenter.Beside{Progress: progress}}, nil
	}
	return nil, fmt.Errorf("MACHINES is %q; it has to be kwok, karpenter, cluster-api, or empty", name)
}

// simulated are the machines of the provider's own simulated cloud.
type simulated struct{}

func (simulated) prepare(context.Context, *system.System) ([]string, error) { return nil, nil }

func (simulated) stop() error { return nil }

func (simulated) machines(_ context.Context, pool *unstructured.Unstructured, bootDelay time.Duration) (map[string]any, error) {
	machines, _, err := unstructured.NestedMap(pool.Object, "spec", "machines")
	if err == nil {
		err = unstructured.SetNestedField(machines, bootDelay.String(), "kwok", "bootDelay")
	}
	return machines, err
}
