// Package launch is where machines come from: the interface of a launcher, and the dispatch by spec.machines of a
// PoolMachine. A launcher makes the machines of one kind of cloud exist and go, and keeps nothing: the record of a machine is
// its PoolMachine, which package pool writes and package machine brings to pass. Package launchtest has the suite that each
// launcher passes.
package launch

import (
	"context"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// Pool is what a launcher has to know of a NodePool. Machines is that of the records which a call is about, or of the NodePool
// itself where it is about no machine.
type Pool struct {
	// Cluster tells clusters apart that use one account: the UID of the namespace kube-system.
	Cluster string
	// Name is that of the NodePool.
	Name string
	// Machines is where machines come from; the launcher's own field is set.
	Machines v1alpha1.MachinesSpec
}

// Order is a number of machines that are asked for together. An order with the same token is the same order, whenever it
// is repeated; its machines may be fewer then, where some have had their outcome.
type Order struct {
	// Token is at most 64 characters of A-Z, a-z, 0-9 and '-'.
	Token string
	// Atomic asks for all machines or none. It is set only where Traits.Atomic is.
	Atomic bool
	// Domain is where the machines are wanted, as KEY=VALUE of a topology key, empty for anywhere.
	Domain string
	// Machines are the records, in the order of their numbers: where there are too few, the first ones come first.
	Machines []*v1alpha1.PoolMachine
}

// Outcome is what has become of one machine of an order. Exactly one of the kinds is meant.
type Outcome struct {
	Kind OutcomeKind
	// ProviderID is spec.providerID of the node to come, empty where the cloud tells it later. For Accepted.
	ProviderID string
	// Domain is where the machine is, empty where that is not known. For Accepted.
	Domain string
	// After is how long to wait before the machine is asked for again. For Throttled.
	After time.Duration
	// Code is a CamelCase word, Message a sentence. For all but Accepted.
	Code, Message string
}

// OutcomeKind says what has become of a machine that was asked for.
type OutcomeKind int

const (
	// Accepted is a machine that exists, or is being made.
	Accepted OutcomeKind = iota
	// OutOfResources is a machine that the cloud does not have, or has no quota for.
	OutOfResources
	// Throttled is a machine that has not been asked for, because the cloud wants to be asked less often. It is no failure.
	Throttled
	// Invalid is a machine that the cloud will never make as it is asked for.
	Invalid
)

// Instance is one machine as its cloud has it.
type Instance struct {
	// Key is what the launcher itself knows the instance by.
	Key string
	// Machine is the name of the PoolMachine that the instance is marked with, empty for none.
	Machine string
	// ProviderID is spec.providerID of its node, empty while that is not known.
	ProviderID string
	// NodeName is the name of its node where the cloud knows it.
	NodeName string
	// Domain is where it is, as KEY=VALUE, where the cloud knows it.
	Domain string
	// CreatedAt is when it was made.
	CreatedAt time.Time
	// Going is set from when it was told to end until it is gone.
	Going bool
	// LeavingAt is when the cloud takes it away, zero while that has not been announced.
	LeavingAt time.Time
	// Failure is set when it will not come up or is no more. What the cloud keeps of it is let go with Terminate.
	Failure *v1alpha1.MachineFailure
	// LookAgain is when something else may have to be said of it though nothing is heard, zero for never: the pool is listed then.
	LookAgain time.Time
}

// Traits are what differs from one kind of cloud, or one pool of it, to the next.
type Traits struct {
	// Atomic is set where an order can be for all machines or none.
	Atomic bool
	// ByName is set where the cloud knows a machine by the name of its record, and promises two things. Launch makes nothing twice
	// whoever repeats it, so that nobody has to record first that a machine is being asked for. Terminate with nothing but Machine
	// answers for what was launched for that record, also where the outcome of the launch is not known: it is ended, or ErrGone. It is no
	// promise about an instance that was found and not ordered, which the cloud knows by another name than its record has. That one is
	// named by Key where a listing has told it, and else by the ProviderID that is recorded, by which every launcher finds it.
	ByName bool
	// Tainted is set where nodes register with v1alpha1.TaintRegistration.
	Tainted bool
	// Poll is how often the instances are listed when nothing is heard of them. Events of Objects bring a listing at once.
	Poll time.Duration
	// Lag is how far a listing may be behind: an instance that it lacks may exist for that long after its launch.
	Lag time.Duration
	// ReplaceAfter is how long after its order a machine that has failed is replaced at the earliest, where no autoscaler decides.
	ReplaceAfter time.Duration
}

// Launcher makes the machines of one kind of cloud exist and go. It keeps nothing: the record is the PoolMachine. Each call may
// take as long as the cloud does: nobody waits for it but the machines that it is about. Every method may be called by several
// goroutines.
type Launcher interface {
	// Launch makes machines exist: one outcome for each machine of the order, in their order. The same order has the same effect
	// and the same outcomes, also after a crash in between. An error means that the outcomes are not known, and that the order has
	// to be repeated.
	Launch(ctx context.Context, pool *Pool, order *Order) ([]Outcome, error)

	// List is every instance that bears the pool's mark, known or not; it may lag by Traits.Lag. An empty or a failed listing
	// is never taken to mean that there are none.
	List(ctx context.Context, pool *Pool) ([]Instance, error)

	// Terminate ends instances, or lets go what is kept of those that have ended, and returns how that went for each: nil where it was asked
	// for and is under way, ErrGone where there is no such instance, or no more. An instance is named by Key; without that by Machine, as the
	// one that was launched for that record, if there is one; and where none is called so, by ProviderID. Where nodes may register without the
	// taint, one that has come to have an id or a node which the caller does not name may be in use: an error is returned, and the caller
	// looks again.
	Terminate(ctx context.Context, pool *Pool, instances []Instance) []error

	// Traits are those of a pool.
	Traits(pool *Pool) Traits

	// Objects are the kinds whose events concern its machines, with the labels LabelNodePool and LabelMachine; none for a cloud
	// which is polled.
	Objects() []client.Object
}

// Finder is a Launcher that can tell of which pools there are instances, also where there is no NodePool any more to ask with.
type Finder interface {
	Launcher
	// Pools are the pools of a cluster whose marks any instance bears, one for each place where there are some. What they say of
	// Machines is enough for List and Terminate, and not for Launch. It may lag as a listing does.
	Pools(ctx context.Context, cluster string) ([]Pool, error)
}

// Cached is a Launcher whose Objects are not watched by the manager's cache but by one of its own: they may be in another cluster.
type Cached interface {
	Launcher
	// Cache watches its Objects. The manager starts it.
	Cache() cache.Cache
}
