package kwok

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// TestDrawByShares: each fate comes about as often as its share says, and only fates that wait for it have a delay.
func TestDrawByShares(t *testing.T) {
	t.Parallel()
	config := &v1alpha1.KwokMachines{
		Seed: 11, FailurePercent: 10, NeverReadyPercent: 20, CrashPercent: 15, SpotPercent: 25,
		FateWithin: &metav1.Duration{Duration: time.Minute},
	}
	const machines = 10000
	seen := map[v1alpha1.MachineFate]int{}
	for n := range machines {
		drawn := draw(config, fmt.Sprintf("hpc-%d", n))
		seen[drawn.kind]++
		waits := drawn.kind == v1alpha1.FateCrash || drawn.kind == v1alpha1.FateSpotReclaim
		if (drawn.delay != nil) != waits || orZero(drawn.delay) > time.Minute {
			t.Fatalf("the fate %s comes about after %v", drawn.kind, drawn.delay)
		}
	}
	for fate, percent := range map[v1alpha1.MachineFate]int{
		v1alpha1.FateBootFailure: 10, v1alpha1.FateNeverReady: 20, v1alpha1.FateCrash: 15, v1alpha1.FateSpotReclaim: 25, v1alpha1.FateReady: 30,
	} {
		if got := seen[fate] * 100 / machines; got < percent-2 || got > percent+2 {
			t.Errorf("%d%% of the machines have the fate %s, not %d%%", got, fate, percent)
		}
	}
}

// TestDrawDependsOnSeedAndNameAlone: a role that is added changes nothing of what was drawn without it, but the shares.
func TestDrawDependsOnSeedAndNameAlone(t *testing.T) {
	t.Parallel()
	plain := &v1alpha1.KwokMachines{
		Seed: 3, FailurePercent: 30, BootDelay: metav1.Duration{Duration: time.Second}, BootJitter: metav1.Duration{Duration: time.Minute},
	}
	more := plain.DeepCopy()
	more.LostReplyPercent, more.OrphanPercent, more.ThrottlePercent, more.NodeNames = 50, 50, 50, v1alpha1.KwokNodeNamesOwn
	other := plain.DeepCopy()
	other.Seed = 4
	differ := 0
	for n := range 100 {
		name := fmt.Sprintf("hpc-%d", n)
		drawn := draw(plain, name)
		if drawn != draw(plain, name) || drawn != draw(more, name) {
			t.Errorf("what becomes of %s is drawn differently", name)
		}
		if drawn.bootDelay < time.Second || drawn.bootDelay > time.Second+time.Minute {
			t.Errorf("%s boots in %s", name, drawn.bootDelay)
		}
		if drawn != draw(other, name) {
			differ++
		}
	}
	if differ < 90 {
		t.Errorf("only %d of 100 machines have another fate with another seed", differ)
	}
}

// TestCallsHaveNewLuck: a call that is throttled is not throttled for ever.
func TestCallsHaveNewLuck(t *testing.T) {
	t.Parallel()
	l, config, throttled := &Launcher{}, &v1alpha1.KwokMachines{Seed: 5}, 0
	for range 1000 {
		if l.luck(config, "throttle") < 90 {
			throttled++
		}
	}
	if throttled < 860 || throttled > 940 {
		t.Errorf("%d of 1000 calls are throttled, at 90%%", throttled)
	}
}
