package controller

import (
	"strconv"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// TestGrowthOfLaunchedMachines: a growth starts while the provider has yet to write which node each of its machines has, and from the last
// node to the last pod there is a write for each pod, and few besides.
// It is not parallel: two controllers would do each other's work.
func TestGrowthOfLaunchedMachines(t *testing.T) {
	const size = 6
	x := newScene(t, "launched", 1)
	p := start(t, -1)
	defer p.Stop()
	x.until(func(s *seen) string { return notAtSize(s, 1) }, nil)
	x.unnamed = true
	before, writes := passes(t, p.metrics), p.Writes()
	x.desire(size)
	x.until(func(s *seen) string { return notAtSize(s, size) }, nil)
	for n := range size {
		machine := &v1alpha1.PoolMachine{}
		machine.Name = x.key.Name + "-" + strconv.Itoa(n)
		if err := cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(machine), machine); err != nil {
			t.Fatal(err)
		}
		if named := machine.Status.NodeName != ""; named != (n == 0) {
			t.Errorf("machine %s names node %q", machine.Name, machine.Status.NodeName)
		}
	}
	// The claim, what is held, the size, that pods are lacking and no more, and how many run: none of it for each pod.
	const rest = 16
	after, wrote := passes(t, p.metrics)-before, p.Writes()-writes
	t.Logf("%d passes and %d writes for a growth by %d", after, wrote, size-1)
	if wrote > size-1+rest {
		t.Errorf("%d writes for a growth by %d; at most %d are for something else than a pod", wrote, size-1, rest)
	}
}
