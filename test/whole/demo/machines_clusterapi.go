package main

import (
	"context"
	"io"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/parts/clusterapi"
)

// byClusterAPI are Machines of the real core controllers of Cluster API, with a stand-in of an infrastructure provider.
type byClusterAPI struct {
	progress  io.Writer
	installed *clusterapi.Installation
}

func (b *byClusterAPI) prepare(ctx context.Context, s *system.System) ([]string, error) {
	var err error
	b.installed, err = clusterapi.Start(ctx, clusterapi.Options{
		Plane: s.Plane, Nodes: s.Plane.AdminConfig(), Namespace: clusterapi.Machines, Progress: b.progress,
	})
	if err != nil {
		return nil, err
	}
	return []string{"--cluster-api=" + clusterapi.Machines}, b.installed.Grant(ctx, s)
}

func (b *byClusterAPI) stop() error {
	if b.installed == nil {
		return nil
	}
	return b.installed.Stop()
}

func (b *byClusterAPI) machines(ctx context.Context, pool *unstructured.Unstructured, bootDelay time.Duration) (map[string]any, error) {
	template, _, err := unstructured.NestedMap(pool.Object, "spec", "template")
	if err != nil {
		return nil, err
	}
	node, err := yaml.Marshal(template)
	if err != nil {
		return nil, err
	}
	of := &clusterapi.Template{BootDelay: bootDelay.String(), Node: string(node)}
	if err := b.installed.Apply(ctx, pool.GetName(), of); err != nil {
		return nil, err
	}
	return b.installed.SpecMachines(pool.GetName()), nil
}
