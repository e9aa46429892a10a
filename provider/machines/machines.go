// Package machines is where machines come from: the interface that every backend has, whatever cloud or
// simulation stands behind it. Package machinestest has the suite that each of them passes.
package machines

import (
	"context"
	"errors"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// ErrRegistered is returned by Cancel for a machine whose node exists.
var ErrRegistered = errors.New("the machine has registered its node")

// Freshness says how current an answer has to be.
type Freshness int

const (
	// Cached answers come from memory and may be a little old.
	Cached Freshness = iota
	// Live answers are asked for where the truth is. They are needed before an order is made.
	Live
)

// Backend makes and deletes the machines of pools. Every method may be repeated: what is done already is
// done, and no error. No method waits for a machine.
type Backend interface {
	// List returns the machines of a pool that exist, are on order or have failed, those on their way out
	// included. Their nodes are not filled in.
	List(ctx context.Context, pool string, freshness Freshness) ([]nodegroup.Machine, error)

	// Find returns the machine with a provider id and the name of its pool, from memory. Nil means that
	// it is none of this backend's.
	Find(ctx context.Context, providerID string) (machine *nodegroup.Machine, pool string, err error)

	// Order makes a machine of that name for a pool. Several are ordered at a time; where there are too few, those
	// with a lower number come first, since they are for members.
	Order(ctx context.Context, pool *v1alpha1.NodePool, name string, purpose v1alpha1.MachinePurpose) error

	// Cancel deletes a machine that has not registered. It returns ErrRegistered for one that has.
	Cancel(ctx context.Context, name string) error

	// Delete deletes a machine and its node. A nil error means that both are on their way out or gone.
	Delete(ctx context.Context, name string) error

	// ProviderID is spec.providerID of the node that a machine of that name has or would have. Parse is its inverse,
	// for machines that exist and for others; ok is false for an id that is none of this backend's.
	ProviderID(pool, name string) string
	Parse(providerID string) (pool, name string, ok bool)
}
