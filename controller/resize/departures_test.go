package resize

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// TestSpotNotice: the member that holds a node which the cloud takes away is told, once, in an event and in its status; its claim
// stays, and its replacement is held before the node goes.
func TestSpotNotice(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2)
	s.run(2)
	s.machine(1, func(m *v1alpha1.PoolMachine) {
		at := metav1.NewMicroTime(noon.Add(2 * time.Minute))
		m.Status.LeavingAt = &at
	})
	s.settle()
	s.pass()
	want := "node n-1 of p leaves at 2026-11-23T12:02:00Z: the cloud takes it away; its replacement is on order"
	told := func() []string { return s.toldOf(v1alpha1.ReasonMachineLeaves) }
	if got := told(); !slices.Equal(got, []string{"Warning MachineLeaves " + want}) {
		t.Errorf("events %q, want %q", got, want)
	}
	m := s.member()
	if last := m.Status.Decisions[len(m.Status.Decisions)-1]; last.Reason != v1alpha1.ReasonMachineLeaves || last.Message != want {
		t.Errorf("the last decision is %+v", last)
	}
	if m.Status.Reserved != 2 || len(s.held()) != 2 {
		t.Errorf("%d nodes are claimed and %v held", m.Status.Reserved, s.held())
	}
	if got := s.ready(); !strings.HasPrefix(got, "False: 1 of 2 nodes are Ready in p; the cloud takes away n-1") {
		t.Errorf("Ready is %q", got)
	}
	// Another process has it from the status.
	s.begin()
	s.settle()
	if got := told(); len(got) != 1 {
		t.Errorf("told again after a restart: %q", got)
	}
	s.provide(2, 3)
	s.settle()
	if held := s.held(); !slices.Equal(held, []string{"n-0", "n-1", "n-2"}) {
		t.Errorf("%v are held, want the replacement beside the node that leaves", held)
	}
	s.remove(&corev1.Node{ObjectMeta: metaOf("n-1")})
	s.remove(&v1alpha1.PoolMachine{ObjectMeta: metaOf("machine-of-n-1")})
	s.remove(&corev1.Pod{ObjectMeta: metaIn("m-1")})
	s.pods(1, 2)
	s.settle()
	if bound := s.bind(); bound != 1 {
		t.Errorf("%d pods go to the replacement", bound)
	}
	s.settle()
	if got := s.ready(); got != "True: at size 2" || !slices.Equal(s.held(), []string{"n-0", "n-2"}) {
		t.Errorf("Ready is %q with %v", got, s.held())
	}
	remembered := 0
	s.observer.told.told.Range(func(any, any) bool { remembered++; return true })
	if remembered != 0 {
		t.Errorf("%d departures are remembered, and all are over", remembered)
	}
}

// TestFailedMachine: the node of a machine that has failed is used by nobody new.
func TestFailedMachine(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1)
	s.run(1)
	s.provide(1, 2)
	s.machine(1, func(m *v1alpha1.PoolMachine) {
		m.Status.Failure = &v1alpha1.MachineFailure{Message: "the instance was preempted"}
	})
	s.desire(2)
	s.settle()
	if s.size() != 1 || len(s.held()) != 1 {
		t.Errorf("%v are held at size %d", s.held(), s.size())
	}
	s.machine(0, func(m *v1alpha1.PoolMachine) {
		m.Status.Failure = &v1alpha1.MachineFailure{Message: "the instance was preempted"}
	})
	s.settle()
	want := "Warning MachineLeaves the machine of node n-0 of p has failed: the instance was preempted; its replacement is on order"
	if got := s.toldOf(v1alpha1.ReasonMachineLeaves); !slices.Equal(got, []string{want}) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// TestSpotNoticeWithShrink: a pass that also resizes the MiniCluster records the notice, which no later one would.
func TestSpotNoticeWithShrink(t *testing.T) {
	t.Parallel()
	s := newScene(t, 3)
	s.run(3)
	s.machine(1, func(m *v1alpha1.PoolMachine) {
		at := metav1.NewMicroTime(noon.Add(2 * time.Minute))
		m.Status.LeavingAt = &at
	})
	s.desire(2)
	s.settle()
	recorded := 0
	for _, d := range s.member().Status.Decisions {
		if d.Reason == v1alpha1.ReasonMachineLeaves {
			recorded++
		}
	}
	if told := s.toldOf(v1alpha1.ReasonMachineLeaves); recorded != 1 || len(told) != 1 || s.size() != 2 {
		t.Errorf("recorded %d times and told %q at size %d", recorded, told, s.size())
	}
}
