package karpenter_test

import (
	"testing"
	"time"
)

// TestGrowthTo50 tells how long a MiniCluster of 50 takes from its creation until all of it runs. Nothing is bought in vain.
func TestGrowthTo50(t *testing.T) {
	t.Parallel()
	const size = 50
	x := newTenant(t)
	pool := x.pool("hpc", pool{maxSize: size})
	began := time.Now()
	cluster := x.cluster("m", size, pool)
	x.atSize(cluster, size)
	t.Logf("a MiniCluster of %d runs after %s", size, time.Since(began).Round(100*time.Millisecond))
	x.machines(pool, size)
}
