package karpenter_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// TestKills tells a story of growth and shrinking while the provider and Karpenter are killed at random moments: it comes to its end all
// the same, with the machines that it should have, and ordinary workloads of Karpenter go on. It is not parallel: it kills what others
// use.
func TestKills(t *testing.T) {
	for seed := range uint64(*seeds) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 17))
			x := newTenant(t)
			others := x.ordinary("web", "")
			// A member that falls back is one whose failures are let go in between.
			first := x.pool("first", pool{maxSize: 10, class: "missing"})
			hpc := x.pool("hpc", pool{maxSize: 10})
			killed := killAtRandom(t.Context(), random)
			a, b := x.cluster("a", 2, hpc), x.cluster("b", 1, first, hpc)
			others.scale(2)
			x.atSize(a, 2)
			x.scale(a, 4)
			x.atSize(b, 1)
			x.atSize(a, 4)
			x.scale(a, 1)
			others.scale(4)
			x.atSize(a, 1)
			if err := killed(); err != nil {
				t.Fatal(err)
			}
			x.machines(hpc, 2)
			x.machines(first, 0)
			if took := others.runs(4); took > blocked {
				t.Errorf("an ordinary workload waited for %s", took)
			}
			x.remove(a)
			x.remove(b)
			x.machines(hpc, 0)
		})
	}
}

// killAtRandom kills the provider and Karpenter, each a few times, beside what the test does. The function that it returns waits for the
// end of that, when both run again.
func killAtRandom(ctx context.Context, random *rand.Rand) (ended func() error) {
	const times = 3
	var killing sync.WaitGroup
	failures := make([]error, 2)
	for i, restart := range []func(context.Context) error{shared.RestartProvider, shared.karpenter.Restart} {
		var pauses []time.Duration
		for range times {
			pauses = append(pauses, time.Duration(random.Int64N(int64(8*time.Second))))
		}
		killing.Go(func() {
			for _, pause := range pauses {
				select {
				case <-ctx.Done():
					return
				case <-time.After(pause):
				}
				if failures[i] = restart(ctx); failures[i] != nil {
					return
				}
			}
		})
	}
	return func() error {
		killing.Wait()
		return errors.Join(failures...)
	}
}
