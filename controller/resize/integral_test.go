package resize

import (
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// TestIntegral: three nodes for ten seconds, then one for five, are 35 node-seconds, told at any time in between.
func TestIntegral(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakePassiveClock(noon)
	nodes := &integral{clock: clock}
	if got := nodes.value(); got != 0 {
		t.Errorf("%v before anything was told", got)
	}
	nodes.goOn(3)
	for _, step := range []struct{ wait, want float64 }{{4, 12}, {6, 30}} {
		clock.SetTime(clock.Now().Add(time.Duration(step.wait * float64(time.Second))))
		if got := nodes.value(); got != step.want {
			t.Errorf("%v node-seconds, want %v", got, step.want)
		}
	}
	nodes.goOn(1)
	clock.SetTime(clock.Now().Add(5 * time.Second))
	if got := nodes.value(); got != 35 {
		t.Errorf("%v node-seconds, want 35", got)
	}
}
