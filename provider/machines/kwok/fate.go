package kwok

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/nodegroup"
)

// draw decides what becomes of a machine and how long it boots. Seed and name decide alone, whatever was
// ordered before; only the stock depends on what there is.
func (b *Backend) draw(ctx context.Context, pool *v1alpha1.NodePool, name string) (v1alpha1.MachineFate, time.Duration, error) {
	config := pool.Spec.Machines.Kwok
	if config == nil {
		return v1alpha1.FateReady, 0, nil
	}
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(name))                                      // A hash never fails.
	chance := rand.New(rand.NewPCG(uint64(config.Seed), sum.Sum64()))   //nolint:gosec // A simulation that is to be repeated.
	percent, bootDelay := chance.Int32N(100), config.BootDelay.Duration // Always both draws, in this order.
	if jitter := config.BootJitter.Duration; jitter > 0 {
		bootDelay += time.Duration(chance.Int64N(int64(jitter) + 1))
	}
	fate := v1alpha1.FateReady
	switch {
	case percent < config.FailurePercent:
		fate = v1alpha1.FateBootFailure
	case percent < config.FailurePercent+config.NeverReadyPercent:
		fate = v1alpha1.FateNeverReady
	}
	if config.Stock == nil {
		return fate, bootDelay, nil
	}
	switch taken, err := b.take(ctx, pool, name, *config.Stock); {
	case err != nil:
		return "", 0, err
	case !taken:
		return v1alpha1.FateOutOfStock, 0, nil
	}
	return fate, bootDelay, nil
}

// stock is what was left of a pool's stock when the machines of one claim of names were ordered.
type stock struct {
	pool types.UID
	// claim is status.machinesOrdered, which every order of machines raises.
	claim int64
	// size is that of the whole stock, there the machines that have taken of it, or are going to.
	size  int32
	there map[string]bool
}

// take takes a machine from the stock, and reports whether there was one. The machines there are counted once for
// all machines of a claim, so that an order of many costs no more than one of a few; a machine that is
// deleted meanwhile counts again with the next claim. Those of a claim are ordered several at a time, and
// what is left of the stock is for the first of them by number, whichever comes first.
func (b *Backend) take(ctx context.Context, pool *v1alpha1.NodePool, name string, size int32) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stocks[pool.Name]
	if s.pool != pool.UID || s.claim != pool.Status.MachinesOrdered || s.size != size {
		var list v1alpha1.KwokMachineList
		if err := b.live.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelNodePool: pool.Name}); err != nil {
			return false, fmt.Errorf("count the KwokMachines of NodePool %s: %w", pool.Name, err)
		}
		s = stock{pool: pool.UID, claim: pool.Status.MachinesOrdered, size: size, there: map[string]bool{}}
		for i := range list.Items {
			if list.Items[i].Spec.Fate != v1alpha1.FateOutOfStock {
				s.there[list.Items[i].Name] = true
			}
		}
		for n := pool.Status.OrderedFrom; n < s.claim && len(s.there) < int(size); n++ {
			// A name that was given up before it was claimed is passed over.
			if next := nodegroup.MachineName(pool.Name, n); !slices.Contains(pool.Spec.MachinesToDelete, next) {
				s.there[next] = true
			}
		}
		b.stocks[pool.Name] = s
	}
	if !s.there[name] && len(s.there) >= int(size) {
		return false, nil
	}
	s.there[name] = true
	return true, nil
}
