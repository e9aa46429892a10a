package reality

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// tooLarge are pods that an empty node as its template describes it has room for, and one with a tenth less has not.
const tooLarge = "requests: {cpu: 3800m}"

// Labels of templates: how the nodes arrive.
const (
	arriveSmall     = "reality.example.com/cpu: 3500m"
	arriveTainted   = "reality.example.com/taint: foreign"
	arriveUnlabeled = "disk: ssd, reality.example.com/unlabel: disk"
	arriveRelabeled = "disk: ssd, reality.example.com/relabel: disk"
	arriveWithoutNV = "reality.example.com/without: gpu"
)

// unusable are the reasons that a member may give when the nodes of its pools are of no use.
func unusable() []string { return []string{v1alpha1.ReasonNodesUnusable, v1alpha1.ReasonBackingOff} }

// TestNodesTooSmall: nodes come with less than their template says. One more than the claim may be ordered; then the pool has failed,
// with who says what, and is not asked again, also when the growth is tried again.
func TestNodesTooSmall(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30, labels: arriveSmall})
	x.atMost(p, 3, "2 for the claim and 1 in the place of one of no use, and none at the next attempt")
	m := x.cluster("m", 2, cluster{resources: tooLarge}, p)
	x.says(m, unusable(), "3500m", "3800m", p)
	x.machines(p, 0)
	x.within(p, 3)
	x.quiet(m, p, 3)
	x.says(m, unusable(), "3500m", "3800m", p)
}

// TestNodesTooSmallFallBack: where another pool is named it is asked, and not after the first one was filled.
func TestNodesTooSmallFallBack(t *testing.T) {
	x := newTenant(t)
	small, fits := x.pool("small", pool{maxSize: 30, labels: arriveSmall}), x.pool("fits", pool{maxSize: 5})
	x.atMost(small, 3, "2 for the claim and 1 in the place of one of no use")
	x.atMost(fits, 2, "2 for the claim")
	m := x.cluster("m", 2, cluster{resources: tooLarge}, small, fits)
	x.atSize(m, 2)
	x.within(small, 3)
	x.machines(small, 0)
	x.machines(fits, 2)
}

// TestNodesTooSmallRepaired: what was found about a pool ends with what it was found of: a template that is corrected is tried.
func TestNodesTooSmallRepaired(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30, labels: arriveSmall})
	x.atMost(p, 5, "3 of the first kind, 2 of the second")
	m := x.cluster("m", 2, cluster{resources: tooLarge}, p)
	x.says(m, unusable(), "3500m")
	x.machines(p, 0)
	x.pool("p", pool{maxSize: 30, labels: "machine: larger"})
	x.atSize(m, 2)
	x.machines(p, 2)
}

// TestDaemonSetKnown: what a DaemonSet takes of each node is known before any is bought.
func TestDaemonSetKnown(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30})
	x.atMost(p, 1, "nothing for what does not fit, 1 for what does")
	x.daemonSet("agent", p)
	small := x.cluster("small", 1, cluster{}, p)
	x.atSize(small, 1)
	err := x.create("m", 2, cluster{resources: tooLarge}, p)
	if err == nil {
		x.Fatal("a MiniCluster is taken whose pods have no room beside that of a DaemonSet")
	}
	for _, text := range []string{"3800m", "3500m", x.namespace + "/agent"} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the refusal does not say %s: %v", text, err)
		}
	}
}

// TestDaemonSetLearned: a DaemonSet comes after the MiniCluster was taken and before anything is bought.
func TestDaemonSetLearned(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30, more: "paused: true"})
	x.atMost(p, 2, "none while the DaemonSet is there, 2 when it is gone")
	m := x.cluster("m", 2, cluster{resources: tooLarge}, p)
	x.says(m, []string{v1alpha1.ReasonPoolPaused})
	x.daemonSet("agent", p)
	x.poll("the DaemonSet has been seen", func() (bool, error) {
		daemonSet := daemonSetObject(x.key("agent"))
		err := shared.Client.Get(x.Context(), x.key("agent"), daemonSet)
		return daemonSet.Status.ObservedGeneration > 0, err
	})
	x.patch(poolObject(p), `{"spec":{"paused":false}}`)
	x.says(m, []string{v1alpha1.ReasonPodTooLarge}, "3800m", x.namespace+"/agent")
	x.within(p, 0)
	x.delete(daemonSetObject(x.key("agent")))
	x.atSize(m, 2)
}

// TestDaemonSetLate: a DaemonSet comes while the machines boot, and is on the nodes first.
func TestDaemonSetLate(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30, kwok: "bootDelay: 3s"})
	x.atMost(p, 5, "2 for the claim and 1 in the place of one of no use, then 2 when the DaemonSet is gone")
	m := x.cluster("m", 2, cluster{resources: tooLarge}, p)
	x.until(func(s *history.State) string {
		return unless(len(machinesOf(s, p)) == 2, "%d machines are on order", len(machinesOf(s, p)))
	})
	x.daemonSet("agent", p)
	x.says(m, append(unusable(), v1alpha1.ReasonPodTooLarge), "3500m", "3800m", "500m", x.namespace+"/agent")
	x.machines(p, 0)
	x.within(p, 3)
	x.delete(daemonSetObject(x.key("agent")))
	x.atSize(m, 2)
}

// TestTaintThatStays: nodes keep a taint that nobody told us of. It may go at any time, until their time is over.
func TestTaintThatStays(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30, labels: arriveTainted, timeout: "20s"})
	m := x.cluster("m", 2, cluster{}, p)
	x.says(m, unusable(), "example.com/foreign")
	x.machines(p, 0)
	x.within(p, 3)
	x.atMost(p, 3+10, "at most 2 for each attempt and 1 replacement in all")
	x.until(func(s *history.State) string {
		growth := s.Members[m].Status.Growth
		return unless(growth != nil && growth.Attempts >= 2, "the second attempt has not failed: %s", words(s.Members[m]))
	})
	x.within(p, 5)
}

// TestTaintThatGoes: nodes are told to be of use some seconds after they are Ready. Nothing else is bought meanwhile.
func TestTaintThatGoes(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30, labels: arriveTainted})
	x.atMost(p, 2, "nothing in the place of nodes that are of no use yet")
	m := x.cluster("m", 2, cluster{}, p)
	ready := x.nodesReady(p, 2)
	x.staysUntil(time.Now().Add(4*time.Second), func(s *history.State) string {
		return unless(len(machinesOf(s, p)) == 2, "there are the machines %v", machinesOf(s, p))
	})
	for _, name := range ready {
		var taints []string
		x.look(func(s *history.State) {
			taints = nil
			for _, taint := range s.Nodes[name].Spec.Taints {
				if taint.Key != "example.com/foreign" {
					taints = append(taints, fmt.Sprintf(`{"key":%q,"value":%q,"effect":%q}`, taint.Key, taint.Value, taint.Effect))
				}
			}
		})
		x.patch(nodeObject(name), `{"spec":{"taints":[%s]}}`, strings.Join(taints, ","))
	}
	x.atSize(m, 2)
}

// TestDeviceThatComes: a node is Ready before its device plugin has registered.
func TestDeviceThatComes(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30, labels: arriveWithoutNV, capacity: `, example.com/gpu: "4"`})
	x.atMost(p, 2, "nothing in the place of nodes that are of no use yet")
	m := x.cluster("m", 2, cluster{resources: `requests: {cpu: "3"}, limits: {example.com/gpu: "4"}`}, p)
	ready := x.nodesReady(p, 2)
	x.staysUntil(time.Now().Add(4*time.Second), func(s *history.State) string {
		return unless(len(machinesOf(s, p)) == 2, "there are the machines %v", machinesOf(s, p))
	})
	for _, name := range ready {
		x.patchStatus(nodeObject(name), `{"status":{"allocatable":{"example.com/gpu":"4"}}}`)
	}
	x.atSize(m, 2)
}

// TestWrongLabel: the pods select a label that the template has, and the nodes have another value of it.
func TestWrongLabel(t *testing.T) {
	x := newTenant(t)
	wrong, right := x.pool("wrong", pool{maxSize: 30, labels: arriveRelabeled}), x.pool("right", pool{maxSize: 5, labels: "disk: ssd"})
	x.atMost(wrong, 3+3, "2 for each of two claims and 1 in the place of one of no use")
	only := x.cluster("only", 2, cluster{pod: "nodeSelector: {disk: ssd}"}, wrong)
	both := x.cluster("both", 2, cluster{pod: "nodeSelector: {disk: ssd}"}, wrong, right)
	x.says(only, unusable(), "disk")
	x.atSize(both, 2)
	x.machines(wrong, 0)
}

// TestMissingLabel: the label that the pods select is not there at all. It may be set at any time, until the time of the nodes is over.
func TestMissingLabel(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 30, labels: arriveUnlabeled, timeout: "20s"})
	m := x.cluster("m", 2, cluster{pod: "nodeSelector: {disk: ssd}"}, p)
	x.says(m, unusable(), "disk")
	x.machines(p, 0)
	x.within(p, 3)
}

// TestMix: some nodes are too small, and half of them never get Ready.
func TestMix(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 40, labels: arriveSmall, kwok: "bootDelay: 1s, neverReadyPercent: 50", timeout: "45s"})
	x.atMost(p, 7, "6 for the claim and 1 in the place of one of no use")
	m := x.cluster("m", 6, cluster{resources: tooLarge}, p)
	x.says(m, unusable(), "3500m")
	x.within(p, 7)
	x.machines(p, 0)
}

// TestNeverReady: half of the nodes never get Ready.
func TestNeverReady(t *testing.T) {
	x := newTenant(t)
	p := x.pool("p", pool{maxSize: 40, kwok: "bootDelay: 1s, neverReadyPercent: 50", timeout: "20s"})
	m := x.cluster("m", 6, cluster{}, p)
	x.says(m, []string{v1alpha1.ReasonBackingOff}, "failed in "+p)
	x.machines(p, 0)
	x.within(p, 7)
	x.event(m, v1alpha1.ReasonProvisionTimeout, "of 6 nodes were Ready in "+p)
}

// TestInitContainer: what runs before the broker needs more than a node has.
func TestInitContainer(t *testing.T) {
	x := newTenant(t, "reality.example.com/inject: init")
	p := x.pool("p", pool{maxSize: 30})
	x.atMost(p, 3, "2 for a claim that was granted before the pods were seen, and 1")
	m := x.cluster("m", 2, cluster{}, p)
	x.says(m, []string{v1alpha1.ReasonPodTooLarge}, "6 of cpu", "4")
	x.machines(p, 0)
}

// nodesReady waits until a pool has that many nodes that are Ready, and returns their names.
func (x *tenant) nodesReady(pool string, count int) (names []string) {
	x.Helper()
	x.until(func(s *history.State) string {
		names = nil
		for _, name := range s.NodesOf(pool) {
			// The provider has seen it, too.
			registered := true
			for _, taint := range s.Nodes[name].Spec.Taints {
				registered = registered && taint.Key != v1alpha1.TaintRegistration
			}
			if history.Ready(s.Nodes[name]) && registered {
				names = append(names, name)
			}
		}
		return unless(len(names) == count, "%v of %d nodes of %s are Ready", names, count, pool)
	})
	return names
}
