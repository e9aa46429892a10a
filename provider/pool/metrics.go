package pool

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Collector tells Prometheus what the NodePools say of themselves, from the cache, when it asks. Every replica
// tells the same.
type Collector struct {
	Pools client.Reader
	Log   logr.Logger
}

var _ prometheus.Collector = (*Collector)(nil)

// collectTimeout bounds a read of the cache.
const collectTimeout = 5 * time.Second

// gauge is one number of a pool.
type gauge struct {
	description *prometheus.Desc
	value       func(*v1alpha1.NodePool) float64
}

func gauges() []gauge {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("ensemble_autoscaler_nodepool_"+name, help, []string{"nodepool"}, nil)
	}
	return []gauge{
		{describe("target_nodes", "Target size of the NodePool, spec.replicas."), func(p *v1alpha1.NodePool) float64 { return float64(p.Spec.Replicas) }},
		{describe("min_nodes", "Least size of the NodePool, spec.minSize."), func(p *v1alpha1.NodePool) float64 { return float64(p.Spec.MinSize) }},
		{describe("max_nodes", "Greatest size of the NodePool, spec.maxSize."), func(p *v1alpha1.NodePool) float64 { return float64(p.Spec.MaxSize) }},
		{describe("floor_nodes", "Nodes that reservations call for at the moment."), func(p *v1alpha1.NodePool) float64 { return float64(p.Status.Floor) }},
		{describe("reserved_nodes", "Nodes that ensemble members have reserved."), func(p *v1alpha1.NodePool) float64 { return float64(p.Status.Reserved) }},
		{describe("ready_nodes", "Nodes that are Ready."), func(p *v1alpha1.NodePool) float64 { return float64(p.Status.Ready) }},
		{describe("machines", "Machines that exist or are on order, those on their way out included."), func(p *v1alpha1.NodePool) float64 { return float64(p.Status.Replicas) }},
		{describe("machines_to_delete", "Machines that are on their way out."), func(p *v1alpha1.NodePool) float64 { return float64(len(p.Spec.MachinesToDelete)) }},
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, g := range gauges() {
		out <- g.description
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	var pools v1alpha1.NodePoolList
	if err := c.Pools.List(ctx, &pools, client.UnsafeDisableDeepCopy); err != nil {
		c.Log.Error(err, "Cannot list the NodePools for the metrics")
		return
	}
	for _, g := range gauges() {
		for i := range pools.Items {
			//nolint:promlinter // It cannot follow a description that is kept in a table; a test lints what comes out.
			out <- prometheus.MustNewConstMetric(g.description, prometheus.GaugeValue, g.value(&pools.Items[i]), pools.Items[i].Name)
		}
	}
}
