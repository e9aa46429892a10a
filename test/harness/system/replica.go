package system

import (
	"context"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
)

// Replica is one more provider.
type Replica struct {
	*controlplane.Process
	// Address is where it serves Cluster Autoscaler, Metrics where /metrics is.
	Address, Metrics string

	system *System
	health string
}

// Ready waits until the replica says that it is ready.
func (r *Replica) Ready(ctx context.Context) error { return r.system.ready(ctx, r.Name(), r.health) }

// IsReady is an error unless the replica says that it is ready.
func (r *Replica) IsReady(ctx context.Context) error { return probe(ctx, r.health) }

// AddReplica starts one more replica of the provider and waits until it is ready. It reaches the API server at a URL
// of its own, unless that is empty.
func (s *System) AddReplica(ctx context.Context, name, apiServer string) (*Replica, error) {
	r := &Replica{system: s}
	for _, address := range []*string{&r.Address, &r.Metrics, &r.health} {
		var err error
		if *address, err = s.address(); err != nil {
			return nil, err
		}
	}
	var err error
	if r.Process, err = s.runProvider(ctx, name, apiServer, r.Address, "", r.health, r.Metrics); err != nil {
		return nil, err
	}
	return r, r.Ready(ctx)
}
