package machine

import (
	"testing"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/kwok"
	providermachine "github.com/ensemble-autoscaler/ensemble-autoscaler/provider/machine"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// waits are those of the provider that serves all pools: short ones, so that what comes after minutes is seen.
var waits = providermachine.Waits{
	Consistency: time.Second, EndAgain: 3 * time.Second, EndAlarm: 5 * time.Second, Sweep: 5 * time.Second,
}

// world is what the tests share: a provider, and its cloud.
type world struct {
	*process
	cloud *cloud
}

// TestTogether lets one provider serve the pools of all tests that kill nothing, each in pools of its own.
// It is not parallel: two providers would do each other's work.
func TestTogether(t *testing.T) {
	defer purge(t)
	// A newer version of the definition, and what a restored etcd does not know, are there before the provider is.
	extendDefinition(t)
	leaveOrphans(t)
	w := &world{}
	w.process = start(t, -1, inprocess.ProviderOptions{Waits: waits, Launcher: func(k *kwok.Launcher) launch.Launcher {
		w.cloud = newCloud(k)
		return w.cloud
	}})
	defer w.Stop()
	t.Run("group", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *world){
			"SlowCloud": testSlowCloud, "Throttled": testThrottled, "LostReplies": testLostReplies, "MissingRecords": testMissingRecords,
			"NameTaken": testNameTaken, "Paused": testPaused,
			"Names": testNames, "RecordDeleted": testRecordDeleted, "NodeIsKept": testNodeIsKept,
			"Crash": testCrash, "NodeDeleted": testNodeDeleted, "Spot": testSpot,
			"Hangs": testHangs, "CopiedNode": testCopiedNode, "Orphans": testOrphans,
			"IncreasedTwice": testIncreasedTwice, "UnknownFields": testUnknownFields,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, w)
			})
		}
	})
}
