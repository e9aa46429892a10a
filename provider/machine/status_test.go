package machine

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// consistency is how long what is not listed may exist all the same, and lag how far a listing may be behind.
const (
	consistency = 5 * time.Minute
	lag         = 30 * time.Second
)

// describe is a status in one line: its conditions, what is known of the machine, and why it failed.
func describe(status *v1alpha1.PoolMachineStatus) string {
	out := ""
	for _, kind := range []string{v1alpha1.ConditionLaunched, v1alpha1.ConditionRegistered, v1alpha1.ConditionReady} {
		if c := meta.FindStatusCondition(status.Conditions, kind); c != nil {
			out += fmt.Sprintf("%s=%s(%s) ", kind, c.Status, c.Reason)
		}
	}
	out += fmt.Sprintf("id=%s node=%s", status.ProviderID, status.NodeName)
	if status.LeavingAt != nil {
		out += " leaving"
	}
	if f := status.Failure; f != nil {
		out += fmt.Sprintf(" failed %s %s of %s", f.Class, f.Code, f.Machine)
	}
	return out
}

// nextRow is a machine, what is seen of it, and what is to be written; due is when it is to be looked at again, from noon.
type nextRow struct {
	name    string
	machine *v1alpha1.PoolMachine
	seen    seen
	want    string
	due     time.Duration
}

func checkNext(t *testing.T, rows []nextRow) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			row.seen.lag = lag
			before := row.machine.DeepCopy()
			status, due := next(row.machine, &row.seen, consistency, noon)
			if got := describe(status); got != row.want {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
			wait := time.Duration(0)
			if !due.IsZero() {
				wait = due.Sub(noon)
			}
			if wait != row.due {
				t.Errorf("it is looked at again in %s, want %s", wait, row.due)
			}
			if diff := cmp.Diff(before, row.machine); diff != "" {
				t.Errorf("the record in the cache was changed: %s", diff)
			}
		})
	}
}

func justOrdered(m *v1alpha1.PoolMachine) {
	m.Spec.OrderedAt = metav1.NewMicroTime(noon.Add(-time.Second))
}

func throttledBefore(m *v1alpha1.PoolMachine) {
	m.Status.Conditions = []metav1.Condition{
		{Type: v1alpha1.ConditionLaunched, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonMachineThrottled, Message: "later"},
	}
}

// What machines say on their way up.
const (
	saysOrdered   = "Launched=False(Ordered) Registered=False(Ordered) Ready=False(Ordered) id= node="
	saysThrottled = "Launched=False(Throttled) Registered=False(Throttled) Ready=False(Throttled) id= node="
	saysBooting   = "Launched=True(Launched) Registered=False(Booting) Ready=False(Booting) id=%s node="
	saysUp        = "Launched=True(Launched) Registered=True(Registered) Ready=True(Ready) id=cloud://0 node=n"
	saysNotReady  = "Launched=True(Launched) Registered=True(Registered) Ready=False(NotReady) id=cloud://0 node=n"
	saysLeaving   = "Launched=True(Launched) Registered=True(Registered) Ready=False(Leaving) id=cloud://0 node=n leaving"
)

// TestNextOnTheWayUp goes through what a machine says from its order until it is Ready.
func TestNextOnTheWayUp(t *testing.T) {
	t.Parallel()
	booting := fmt.Sprintf(saysBooting, "cloud://0")
	checkNext(t, []nextRow{
		{name: "ordered a moment ago: nothing is written yet", machine: machineOf(justOrdered), want: "id= node=",
			due: orderedIsTold - time.Second},
		{name: "ordered, and not answered for a while", machine: machineOf(), want: saysOrdered},
		{name: "throttled", machine: machineOf(justOrdered), seen: seen{outcome: answered(launch.Throttled, "", "Busy", "later")},
			want: saysThrottled},
		{name: "throttled until something else is known", machine: machineOf(throttledBefore), want: saysThrottled},
		{name: "accepted", machine: machineOf(justOrdered), seen: seen{outcome: answered(launch.Accepted, "cloud://0", "", "")}, want: booting},
		{name: "accepted after it was throttled", machine: machineOf(throttledBefore),
			seen: seen{outcome: answered(launch.Accepted, "cloud://0", "", "")}, want: booting},
		{
			name: "accepted without an id", machine: machineOf(), seen: seen{outcome: answered(launch.Accepted, "", "", "")},
			want: fmt.Sprintf(saysBooting, ""),
		},
		{name: "the id comes with a listing", machine: machineOf(),
			seen: seen{sighting: listed(&launch.Instance{Machine: "p-0", ProviderID: "cloud://0"}, 0, 0)}, want: booting},
		{
			name: "the id that is known stays", machine: machineOf(launched), want: booting,
			seen: seen{sighting: listed(&launch.Instance{Machine: "p-0", ProviderID: "cloud://1"}, 0, 0)},
		},
		{
			name: "registered a moment ago and not Ready: it is held back", machine: machineOf(launched),
			seen: seen{node: nodeOf(500*time.Millisecond, corev1.ConditionFalse)}, want: saysNotReady, due: 9500 * time.Millisecond,
		},
		{name: "registered and not Ready for a while", machine: machineOf(launched),
			seen: seen{node: nodeOf(12*time.Second, corev1.ConditionFalse)}, want: saysNotReady},
		{name: "registered and Ready at once", machine: machineOf(launched), seen: seen{node: nodeOf(0, corev1.ConditionTrue)}, want: saysUp},
		{name: "registered before the answer", machine: machineOf(), seen: seen{node: nodeOf(0, corev1.ConditionTrue)}, want: saysUp},
		{name: "Ready", machine: machineOf(registered), seen: seen{node: nodeOf(time.Hour, corev1.ConditionTrue)}, want: saysUp},
		{name: "not Ready any more", machine: machineOf(registered), seen: seen{node: nodeOf(time.Hour, corev1.ConditionUnknown)},
			want: saysNotReady},
		{
			name: "leaving", machine: machineOf(registered), want: saysLeaving,
			seen: seen{node: nodeOf(time.Hour, corev1.ConditionTrue), sighting: listed(&launch.Instance{LeavingAt: noon.Add(time.Minute)}, 0, 0)},
		},
	})
}

// saysFailed is what a machine says that has failed.
const saysFailed = "Launched=False(Failed) Registered=False(Failed) Ready=False(Failed) id=%s node=%s failed %s %s of p-0"

// TestNextFails goes through the ways in which a machine fails, and what is none.
func TestNextFails(t *testing.T) {
	t.Parallel()
	crashed := &launch.Instance{Failure: &v1alpha1.MachineFailure{Machine: "i-7", Class: v1alpha1.FailureOther, Code: "Crashed"}}
	first := fmt.Sprintf(saysFailed, "cloud://0", "n", "Other", "First")
	up := nodeOf(time.Hour, corev1.ConditionTrue)
	checkNext(t, []nextRow{
		{
			name: "out of stock", machine: machineOf(), seen: seen{outcome: answered(launch.OutOfResources, "", "NoStock", "none")},
			want: fmt.Sprintf(saysFailed, "", "", "OutOfResources", "NoStock"),
		},
		{
			name: "refused", machine: machineOf(justOrdered), seen: seen{outcome: answered(launch.Invalid, "", "Refused", "no")},
			want: fmt.Sprintf(saysFailed, "", "", "Other", "Refused"),
		},
		{
			name: "the cloud says that it failed", machine: machineOf(registered), seen: seen{sighting: listed(crashed, 0, 0), node: up},
			want: fmt.Sprintf(saysFailed, "cloud://0", "n", "Other", "Crashed"),
		},
		{
			name: "its node was deleted", machine: machineOf(registered), seen: seen{nodeGone: true},
			want: fmt.Sprintf(saysFailed, "cloud://0", "n", "Other", CodeNodeDeleted),
		},
		{name: "a failure is final, whatever is answered", machine: machineOf(registered, hasFailed),
			seen: seen{outcome: answered(launch.OutOfResources, "", "NoStock", "none")}, want: first},
		{name: "a failure is final, whatever is listed", machine: machineOf(registered, hasFailed), seen: seen{sighting: listed(crashed, 0, 0)},
			want: first},
		{name: "a failure is final, though the node is Ready", machine: machineOf(registered, hasFailed), seen: seen{node: up}, want: first},
		{name: "a failure is final, though the node is gone", machine: machineOf(registered, hasFailed), seen: seen{nodeGone: true}, want: first},
	})
}

// TestNextAbsent: a machine that the cloud does not list any more has vanished, but only when that was so for long, and as the
// newest listing says.
func TestNextAbsent(t *testing.T) {
	t.Parallel()
	booting := fmt.Sprintf(saysBooting, "cloud://0")
	vanished := func(node string) string { return fmt.Sprintf(saysFailed, "cloud://0", node, "Other", CodeVanished) }
	const long = consistency + lag
	checkNext(t, []nextRow{
		{name: "not listed for a minute", machine: machineOf(launched), seen: seen{sighting: listed(nil, time.Minute, 0)}, want: booting,
			due: long - time.Minute},
		{name: "not listed for as long as may be without the lag", machine: machineOf(launched),
			seen: seen{sighting: listed(nil, consistency, 0)}, want: booting, due: lag},
		{name: "not listed for long", machine: machineOf(launched), seen: seen{sighting: listed(nil, long, 0)}, want: vanished("")},
		{
			name: "not listed once, and never asked about since", machine: machineOf(launched), seen: seen{sighting: listed(nil, long, long)},
			want: booting, due: listAgainWithin,
		},
		{
			name: "not listed for long, and its node is Ready", machine: machineOf(registered), want: saysUp,
			seen: seen{sighting: listed(nil, time.Hour, 0), node: nodeOf(time.Hour, corev1.ConditionTrue)},
		},
		{
			name: "not listed for long, and its node is not Ready", machine: machineOf(registered), want: vanished("n"),
			seen: seen{sighting: listed(nil, time.Hour, 0), node: nodeOf(time.Hour, corev1.ConditionUnknown)},
		},
		{name: "never launched", machine: machineOf(), seen: seen{sighting: listed(nil, time.Hour, 0)}, want: saysOrdered},
	})
}

// TestNextGoing: of a machine that is told to go nothing is written unless that takes its time.
func TestNextGoing(t *testing.T) {
	t.Parallel()
	checkNext(t, []nextRow{
		{
			name: "told a moment ago", machine: machineOf(launched,
				going(2*time.Second)), want: "Launched=True(Launched) id=cloud://0 node=", due: goingIsTold - 2*time.Second,
			seen: seen{node: nodeOf(0, corev1.ConditionTrue)},
		},
		{
			name: "told a while ago", machine: machineOf(registered, going(time.Minute)),
			seen: seen{node: nodeOf(time.Hour, corev1.ConditionTrue)},
			want: "Launched=True(Launched) Registered=True(Registered) Ready=False(Going) id=cloud://0 node=n",
		},
		{
			name: "its node is gone, which is no failure of it", machine: machineOf(registered, going(time.Minute)), seen: seen{nodeGone: true},
			want: "Launched=True(Launched) Registered=True(Registered) Ready=False(Going) id=cloud://0 node=n",
		},
	})
}

// TestHeldBack: that a node exists is written together with its being Ready, but not where the id by which its events are found
// to be the machine's is not written yet, nor where there is other news.
func TestHeldBack(t *testing.T) {
	t.Parallel()
	unready := &seen{node: nodeOf(time.Second, corev1.ConditionFalse)}
	accepted := func(m *v1alpha1.PoolMachine) { launched(m); m.Status.ProviderID = "" }
	for name, row := range map[string]struct {
		machine *v1alpha1.PoolMachine
		seen    *seen
		held    bool
	}{
		"its id is known":     {machineOf(launched), unready, true},
		"its id is not known": {machineOf(accepted), unready, false},
		"it is not launched":  {machineOf(), unready, false},
		"it has failed":       {machineOf(launched), &seen{outcome: answered(launch.Invalid, "", "Refused", "no")}, false},
		"it leaves": {
			machineOf(launched), &seen{node: unready.node, sighting: listed(&launch.Instance{LeavingAt: noon.Add(time.Minute)}, 0, 0)}, false,
		},
	} {
		status, _ := next(row.machine, row.seen, consistency, noon)
		if got := onlyRegistration(&row.machine.Status, status); got != row.held {
			t.Errorf("%s: it is held back: %v, want %v", name, got, row.held)
		}
	}
}
