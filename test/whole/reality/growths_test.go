package reality

import (
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// TestTwoGrowthsAndAStock: a cloud has machines for one and a half of two growths. One runs in the time of one boot, without an attempt that
// failed; the other waits, says why, and runs when the first is gone.
func TestTwoGrowthsAndAStock(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 20, kwok: "bootDelay: 4s, stock: 12"})
	a, b := x.cluster("a", 8, cluster{}, p), x.cluster("b", 8, cluster{}, p)
	served := x.served(8, 1, a, b)
	waits := other(served[0], a, b)
	x.says(waits, []string{v1alpha1.ReasonBackingOff, v1alpha1.ReasonOutOfStock}, p)
	x.gaveBack(p, served[0], 4)
	x.until(func(s *history.State) string {
		return unless(s.Members[waits].Status.Reserved == 0, "%s holds %d nodes of 8", waits, s.Members[waits].Status.Reserved)
	})
	x.remove(served[0])
	x.atSize(waits, 8)
}

// TestThreeGrowthsAndAStock: with machines for two growths and a half, two run.
func TestThreeGrowthsAndAStock(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 20, kwok: "bootDelay: 4s, stock: 12"})
	growths := []types.NamespacedName{x.cluster("a", 5, cluster{}, p), x.cluster("b", 5, cluster{}, p), x.cluster("c", 5, cluster{}, p)}
	served := x.served(5, 2, growths...)
	x.remove(served[0])
	for _, growth := range growths {
		if growth != served[0] {
			x.atSize(growth, 5)
		}
	}
}

// TestTwoGrowthsAndTwoPools: what the first pool has not is asked of the second one, for the growth that lacks it.
func TestTwoGrowthsAndTwoPools(t *testing.T) {
	x := newTenant(t)
	first, second := x.pool("first", pool{maxSize: 20, kwok: "bootDelay: 4s, stock: 12"}), x.pool("second", pool{maxSize: 20})
	a, b := x.cluster("a", 8, cluster{}, first, second), x.cluster("b", 8, cluster{}, first, second)
	x.served(8, 2, a, b)
	x.gaveBack(first, a, 4)
	x.gaveBack(first, b, 4)
}

// TestStockComesBack: the machines that a growth lacks come back one at a time.
func TestStockComesBack(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 20, kwok: "bootDelay: 1s, stock: 5"})
	a, b := x.cluster("a", 4, cluster{}, p), x.cluster("b", 4, cluster{}, p)
	served := x.served(4, 1, a, b)
	waits := other(served[0], a, b)
	x.says(waits, []string{v1alpha1.ReasonBackingOff, v1alpha1.ReasonOutOfStock}, p)
	for stock := 6; stock <= 8; stock++ {
		x.pool("p", pool{maxSize: 20, kwok: fmt.Sprintf("bootDelay: 1s, stock: %d", stock)})
	}
	x.atSize(waits, 4)
	x.atSize(served[0], 4)
}

func other(one types.NamespacedName, of ...types.NamespacedName) types.NamespacedName {
	for _, key := range of {
		if key != one {
			return key
		}
	}
	return one
}

// served waits until that many growths run, and checks that no attempt of them has failed in all pools.
func (x *tenant) served(size, count int, growths ...types.NamespacedName) (served []types.NamespacedName) {
	x.Helper()
	x.until(func(s *history.State) string {
		served = nil
		missing := ""
		for _, growth := range growths {
			if why := notAtSize(s, growth, size); why != "" {
				missing += why + "; "
				continue
			}
			served = append(served, growth)
		}
		return unless(len(served) >= count, "%d growths run, not %d: %s", len(served), count, missing)
	})
	for _, event := range shared.recorder.Events() {
		member, is := event.Object.(*v1alpha1.EnsembleMember)
		if !is || member.Status.Growth == nil || member.Status.Growth.Attempts == 0 {
			continue
		}
		for _, growth := range served[:count] {
			if client.ObjectKeyFromObject(member) == growth {
				x.Errorf("%s runs after an attempt that failed: %s\n%s", growth, words(member), x.story())
				return served
			}
		}
	}
	return served
}

// gaveBack checks that, until a growth ran, no more machines were given back than it and those before it had no use for.
func (x *tenant) gaveBack(pool string, growth types.NamespacedName, most int) {
	x.Helper()
	gone := 0
	for _, event := range shared.recorder.Events() {
		switch object := event.Object.(type) {
		case *v1alpha1.EnsembleMember:
			if client.ObjectKeyFromObject(object) == growth && saysReady(object) && object.Status.Running > 0 {
				return
			}
		case *v1alpha1.KwokInstance:
			// One that the cloud had not is no machine.
			if event.Deleted && object.Spec.NodePool == pool && object.Status.Failure == nil {
				gone++
			}
			if gone > most {
				x.Errorf("%d machines that existed were given back before %s ran, and only %d were of no use to it\n%s", gone, growth, most, x.story())
				return
			}
		}
	}
}
