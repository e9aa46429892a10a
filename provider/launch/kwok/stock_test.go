package kwok

import (
	"slices"
	"testing"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// poolOf is a pool of machines with a stock, negative for none.
func poolOf(stock int32, change ...func(*v1alpha1.KwokMachines)) *launch.Pool {
	config := &v1alpha1.KwokMachines{}
	if stock >= 0 {
		config.Stock = new(stock)
	}
	for _, c := range change {
		c(config)
	}
	return &launch.Pool{Cluster: "here", Name: "hpc", Machines: v1alpha1.MachinesSpec{Kwok: config}}
}

func allOrNone(k *v1alpha1.KwokMachines) { k.Orders = v1alpha1.KwokOrdersAtomic }
func ownNames(k *v1alpha1.KwokMachines)  { k.NodeNames = v1alpha1.KwokNodeNamesOwn }
func vanishing(k *v1alpha1.KwokMachines) { k.Stockout = v1alpha1.KwokStockoutVanish }

func orderOf(pool *launch.Pool, token string, machines ...string) *launch.Order {
	order := &launch.Order{Token: token, Atomic: pool.Machines.Kwok.Orders == v1alpha1.KwokOrdersAtomic}
	for _, name := range machines {
		machine := &v1alpha1.PoolMachine{}
		machine.Name, machine.Spec.NodePool = name, pool.Name
		order.Machines = append(order.Machines, machine)
	}
	return order
}

// there is an instance that exists.
func there(machine, token string, change ...func(*v1alpha1.KwokInstance)) v1alpha1.KwokInstance {
	out := v1alpha1.KwokInstance{}
	out.Name = machine
	out.Spec.Cluster, out.Spec.NodePool, out.Spec.Machine, out.Spec.Token, out.Spec.Fate = "here", "hpc", machine, token, v1alpha1.FateReady
	for _, c := range change {
		c(&out)
	}
	return out
}

func failed(i *v1alpha1.KwokInstance)     { i.Status.Failure = &v1alpha1.MachineFailure{} }
func outOfAny(i *v1alpha1.KwokInstance)   { i.Spec.Fate = v1alpha1.FateOutOfStock }
func foreignOne(i *v1alpha1.KwokInstance) { i.Spec.Cluster = "elsewhere" }
func going(i *v1alpha1.KwokInstance)      { i.Status.TerminatingAt = new(i.Spec.LaunchedAt) }

// TestStockGoesByNumber: what is left of the stock is for the first machines of an order, which are for members, and what was
// decided of an order for all or none stays so.
func TestStockGoesByNumber(t *testing.T) {
	t.Parallel()
	type instances = []v1alpha1.KwokInstance
	for _, test := range []struct {
		name  string
		pool  *launch.Pool
		there instances
		order []string
		short []string
		taken string
	}{
		{"no stock is no limit", poolOf(-1), instances{there("hpc-0", "a")}, []string{"hpc-1", "hpc-2"}, nil, ""},
		{"the first come first", poolOf(3), instances{there("hpc-0", "a")},
			[]string{"hpc-1", "hpc-2", "hpc-3", "hpc-4"}, []string{"hpc-3", "hpc-4"}, ""},
		{"the failed and those out of stock do not count", poolOf(2), instances{there("hpc-0", "a", failed), there("hpc-1", "a", outOfAny)},
			[]string{"hpc-2", "hpc-3", "hpc-4"}, []string{"hpc-4"}, ""},
		{"those that go count until they are gone", poolOf(1), instances{there("hpc-0", "a", going)}, []string{"hpc-1"}, []string{"hpc-1"}, ""},
		{"more than the stock exist", poolOf(1), instances{there("hpc-0", "a"), there("hpc-1", "a")}, []string{"hpc-2"}, []string{"hpc-2"}, ""},
		{"those of other pools do not count", poolOf(1), instances{there("x-0", "a", func(i *v1alpha1.KwokInstance) { i.Spec.NodePool = "x" })},
			[]string{"hpc-0"}, nil, ""},
		{"what exists of the order needs no more", poolOf(2), instances{there("hpc-0", "t"), there("hpc-2", "t")},
			[]string{"hpc-0", "hpc-1", "hpc-2"}, []string{"hpc-1"}, ""},
		{"all or none: enough", poolOf(2, allOrNone), nil, []string{"hpc-0", "hpc-1"}, nil, ""},
		{"all or none: too few", poolOf(2, allOrNone), nil, []string{"hpc-0", "hpc-1", "hpc-2"}, []string{"hpc-0", "hpc-1", "hpc-2"}, ""},
		{"all or none: half made, and the stock was sold since", poolOf(2, allOrNone), instances{there("hpc-0", "t"), there("hpc-9", "a")},
			[]string{"hpc-0", "hpc-1", "hpc-2"}, nil, ""},
		{"all or none: half refused, and there is stock since", poolOf(9, allOrNone, vanishing), instances{there("hpc-0", "t", outOfAny)},
			[]string{"hpc-0", "hpc-1"}, []string{"hpc-1"}, ""},
		{"all or none: fewer are asked for again", poolOf(2, allOrNone), instances{there("hpc-0", "t"), there("hpc-1", "t")},
			[]string{"hpc-2"}, nil, ""},
		{"all or none: a name is taken", poolOf(-1, allOrNone), instances{there("hpc-1", "t", foreignOne)},
			[]string{"hpc-0", "hpc-1"}, nil, "hpc-1"},
		{"all or none: a name is taken by another order", poolOf(-1, allOrNone), instances{there("hpc-1", "a")},
			[]string{"hpc-0", "hpc-1"}, nil, "hpc-1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := decide(test.pool, orderOf(test.pool, "t", test.order...), test.there)
			var short []string
			for name := range got.short {
				short = append(short, name)
			}
			if slices.Sort(short); !slices.Equal(short, test.short) || got.taken != test.taken {
				t.Errorf("short are %v and taken is %q, not %v and %q", short, got.taken, test.short, test.taken)
			}
		})
	}
}
