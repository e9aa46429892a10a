package kwok

import (
	"context"
	"slices"
	"testing"

	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// machinesThere is an API server that has these machines.
type machinesThere struct {
	client.Reader
	machines []v1alpha1.KwokMachine
}

func (m *machinesThere) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	if machines, ok := list.(*v1alpha1.KwokMachineList); ok {
		machines.Items = m.machines
	}
	return nil
}

// TestStockGoesByNumber: what is left of the stock is for the first machines of an order, which are for members, whichever of
// them are asked for first.
func TestStockGoesByNumber(t *testing.T) {
	t.Parallel()
	there := &machinesThere{machines: make([]v1alpha1.KwokMachine, 2)}
	there.machines[0].Name, there.machines[0].Spec.Fate = "hpc-0", v1alpha1.FateReady
	there.machines[1].Name, there.machines[1].Spec.Fate = "hpc-1", v1alpha1.FateOutOfStock
	b := &Backend{live: there, stocks: map[string]stock{}}
	pool := &v1alpha1.NodePool{}
	pool.Name = "hpc"
	pool.Spec.Machines.Kwok = &v1alpha1.KwokMachines{Stock: ptr.To[int32](3)}
	// hpc-3 was given up before its name was claimed.
	pool.Spec.MachinesToDelete = []string{"hpc-3"}
	pool.Status.OrderedFrom, pool.Status.MachinesOrdered = 2, 7
	var had []string
	for _, n := range []int64{6, 5, 4, 2} {
		name := nodegroup.MachineName(pool.Name, n)
		fate, _, err := b.draw(t.Context(), pool, name)
		if err != nil {
			t.Fatal(err)
		}
		if fate == v1alpha1.FateReady {
			had = append(had, name)
		}
	}
	if slices.Sort(had); !slices.Equal(had, []string{"hpc-2", "hpc-4"}) {
		t.Errorf("of a stock of 3, of which hpc-0 has one, the others went to %v", had)
	}
	// The next order counts anew.
	there.machines = append(there.machines, v1alpha1.KwokMachine{})
	there.machines[2].Name, there.machines[2].Spec.Fate = "hpc-2", v1alpha1.FateReady
	pool.Status.OrderedFrom, pool.Status.MachinesOrdered = 7, 8
	if fate, _, err := b.draw(t.Context(), pool, "hpc-7"); err != nil || fate != v1alpha1.FateReady {
		t.Errorf("with one of 3 left hpc-7 is %s, %v", fate, err)
	}
}
