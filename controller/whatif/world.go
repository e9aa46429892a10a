package whatif

import (
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// World is what is planned with.
type World struct {
	// Observed are the values that the planner is given.
	Observed plan.Observed
	// Pools are what else is known of the NodePools, by their names.
	Pools map[string]Pool
	// Now is the time at which it is planned.
	Now time.Time
}

// Pool is what the planner does not know of a NodePool.
type Pool struct {
	// MinSize is spec.minSize, Replicas the target, in nodes.
	MinSize, Replicas int32
	// PricePerHour is the price of one node; nil where none is declared.
	PricePerHour *resource.Quantity
	// ProvisionTimeout is how long a node may take.
	ProvisionTimeout time.Duration
	// Measured is how long nodes took.
	Measured Measured
	// Hidden is how many nodes members have reserved whom nobody here may read.
	Hidden int32
}

// PoolsOf is what is known of pools and of how long their machines took.
func PoolsOf(pools []v1alpha1.NodePool, machines []v1alpha1.PoolMachine) map[string]Pool {
	measured := Measure(pools, machines)
	out := make(map[string]Pool, len(pools))
	for i := range pools {
		spec := &pools[i].Spec
		out[pools[i].Name] = Pool{
			MinSize: spec.MinSize, Replicas: spec.Replicas, PricePerHour: spec.PricePerHour,
			ProvisionTimeout: spec.ProvisionTimeout.Duration, Measured: measured[pools[i].Name],
		}
	}
	return out
}

// HideRoom takes from the room of each pool what members have reserved there whom nobody here may read: the NodePool's own sum less what is
// read. It returns by pool how many nodes these are.
func HideRoom(observed *plan.Observed, pools []v1alpha1.NodePool) map[string]int32 {
	hidden := map[string]int32{}
	for i := range pools {
		hidden[pools[i].Name] = pools[i].Status.Reserved
	}
	for i := range observed.Members {
		for j := range observed.Members[i].Reservations {
			r := &observed.Members[i].Reservations[j]
			hidden[r.NodePool] -= r.Nodes
		}
	}
	for i := range observed.Pools {
		pool := &observed.Pools[i]
		if hidden[pool.Name] <= 0 {
			delete(hidden, pool.Name)
			continue
		}
		pool.MaxSize = max(0, pool.MaxSize-hidden[pool.Name])
	}
	return hidden
}
