// Package launchtest has the tests that every launcher passes.
package launchtest

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// Role is how the machines of a pool behave.
type Role string

const (
	// Fast are machines that register as fast as they can.
	Fast Role = "fast"
	// Slow are machines that do not register while the tests run.
	Slow Role = "slow"
	// Throttled is a cloud that throttles about half of its calls.
	Throttled Role = "throttled"
	// Spot are machines that the cloud takes back soon after they have registered, with notice.
	Spot Role = "spot"
	// Crashing are machines that crash soon after they have registered.
	Crashing Role = "crashing"
)

// Moment is when a call fails.
type Moment string

const (
	// BeforeIt is a call that the cloud never gets.
	BeforeIt Moment = "before it"
	// AfterIt is a call that the cloud carries out, and whose reply is lost.
	AfterIt Moment = "after it"
)

// Subject is what is tested, and what the tests cannot do without knowing the cloud. A hook may be nil where every case that needs
// it is named in Cannot.
type Subject struct {
	Launcher launch.Launcher
	// Nodes reads the nodes of the cluster.
	Nodes client.Reader
	// Template is that of the machines of all pools.
	Template v1alpha1.NodeTemplate
	// Patience is how long a machine may take to register, to meet its fate, or to go.
	Patience time.Duration
	// Poll is the time between two questions, 20ms if it is zero.
	Poll time.Duration
	// Lag is how far listings are behind while the tests run, Traits.Lag if it is zero.
	Lag time.Duration

	// Incomplete says what a node lacks that its cloud gives it a moment after it has registered, empty for nothing; nil for a cloud whose
	// nodes have everything from the first.
	Incomplete func(node *corev1.Node) string

	// Pool is a pool of no machines that behave as the role says. The name tells pools of the suite apart; that of the pool may
	// be longer, and has to be one that no pool has had.
	Pool func(t *testing.T, name string, role Role) *launch.Pool

	// SetStock sets how many machines the cloud has for a pool; those that exist count.
	SetStock func(t *testing.T, pool *launch.Pool, machines int32)
	// MakeForeign makes an instance that has the name of a machine, and was made by somebody else. It returns whether that is
	// still there.
	MakeForeign func(t *testing.T, pool *launch.Pool, machine string) (there func(context.Context) (bool, error))
	// MakeOrphan makes an instance that bears the mark of the pool, and that of no machine, with a node or without one for as long
	// as the tests run. It returns its launch.Instance.Key.
	MakeOrphan func(t *testing.T, pool *launch.Pool, withNode bool) (key string)
	// KillNode deletes a node, as somebody who knows nothing of machines.
	KillNode func(t *testing.T, node *corev1.Node)
	// FailNextCall makes the next write to the cloud that makes an instance of the pool fail.
	FailNextCall func(t *testing.T, pool *launch.Pool, when Moment)

	// Cannot names cases that are left out, each with the reason.
	Cannot map[string]string
}

// Run runs all cases.
func Run(t *testing.T, s *Subject) {
	t.Helper()
	known := map[string]bool{}
	for _, test := range cases() {
		known[test.name] = true
		t.Run(test.name, func(t *testing.T) {
			if why, ok := s.Cannot[test.name]; ok {
				t.Skip(why)
			}
			test.run(t, s)
		})
	}
	for name := range s.Cannot {
		if !known[name] {
			t.Errorf("there is no case %q that could be left out", name)
		}
	}
}

type testCase struct {
	name string
	run  func(*testing.T, *Subject)
}

func cases() []testCase {
	return []testCase{
		{"order twice", orderTwice},
		{"kill between record and call", neverCalled},
		{"kill between call and answer", replyLost},
		{"kill amid an order", halfAnOrder},
		{"call cancelled", cancelled},
		{"registration", registration},
		{"delete before registration", deleteEarly},
		{"delete after registration", deleteRegistered},
		{"delete one of several", deleteOne},
		{"delete twice", deleteTwice},
		{"delete by machine", deleteByMachine},
		{"stockout of a part", stockoutOfPart},
		{"stockout of all", stockoutOfAll},
		{"node deleted by a person", nodeKilled},
		{"foreign instance", foreign},
		{"orphan without a node", func(t *testing.T, s *Subject) { t.Helper(); orphan(t, s, false) }},
		{"orphan with a node", func(t *testing.T, s *Subject) { t.Helper(); orphan(t, s, true) }},
		{"throttling", throttling},
		{"spot notice", spotNotice},
		{"crash", crash},
	}
}
