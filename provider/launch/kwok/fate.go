package kwok

import (
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// fate is what becomes of an instance, and when.
type fate struct {
	kind      v1alpha1.MachineFate
	bootDelay time.Duration
	// delay is the time from the registration until the fate comes about, nil for a fate that does not wait for it.
	delay *metav1.Duration
}

// draw decides what becomes of a machine. Seed and name decide alone, whatever was ordered before; only the stock, which is not
// drawn, depends on what there is.
func draw(config *v1alpha1.KwokMachines, machine string) fate {
	chance := chanceOf(config.Seed, machine)
	percent, out := chance.Int32N(100), fate{kind: v1alpha1.FateReady, bootDelay: config.BootDelay.Duration}
	if jitter := config.BootJitter.Duration; jitter > 0 {
		out.bootDelay += time.Duration(chance.Int64N(int64(jitter) + 1))
	}
	for _, share := range []struct {
		percent int32
		kind    v1alpha1.MachineFate
	}{
		{config.FailurePercent, v1alpha1.FateBootFailure},
		{config.NeverReadyPercent, v1alpha1.FateNeverReady},
		{config.CrashPercent, v1alpha1.FateCrash},
		{config.SpotPercent, v1alpha1.FateSpotReclaim},
	} {
		if percent < share.percent {
			out.kind = share.kind
			break
		}
		percent -= share.percent
	}
	if out.kind == v1alpha1.FateCrash || out.kind == v1alpha1.FateSpotReclaim {
		out.delay = &metav1.Duration{}
		if within := orZero(config.FateWithin); within > 0 {
			out.delay.Duration = time.Duration(chanceOf(config.Seed, machine, "fate").Int64N(int64(within) + 1))
		}
	}
	return out
}

// replyLost decides whether the reply to the launch of a machine is lost when it is made.
func replyLost(config *v1alpha1.KwokMachines, machine string) bool {
	return chanceOf(config.Seed, machine, "reply").Int32N(100) < config.LostReplyPercent
}

// bringsOrphan decides whether the cloud makes one more instance at the launch of a machine.
func bringsOrphan(config *v1alpha1.KwokMachines, machine string) bool {
	return chanceOf(config.Seed, machine, "orphan").Int32N(100) < config.OrphanPercent
}

// luck draws from 0 to 99 for a call. Unlike a machine a call has another luck when it is repeated.
func (l *Launcher) luck(config *v1alpha1.KwokMachines, kind string) int32 {
	return chanceOf(config.Seed, kind, strconv.FormatUint(l.calls.Add(1), 10)).Int32N(100)
}

func chanceOf(seed int64, parts ...string) *rand.Rand {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(strings.Join(parts, "\x00")))   // A hash never fails.
	return rand.New(rand.NewPCG(uint64(seed), sum.Sum64())) //nolint:gosec // A simulation that is to be repeated.
}
