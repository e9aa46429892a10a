package explain_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/explain"
)

var update = flag.Bool("update", false, "write the golden files")

// explained is one explanation with what it has to come to. The golden file of its name has the whole text.
type explained struct {
	facts explain.Facts
	// of is the pool, the pod or the node that is asked about; nil for the member.
	of any
	// waitsFor and reason are those of the answer, empty for nothing.
	waitsFor explain.Topic
	reason   string
}

func cases() map[string]explained {
	second := unclaimed(
		v1alpha1.ReasonQueued,
		"room for 6 nodes in hpc-a, which has become free, is kept until 2026-11-23T12:10:00Z for a growth that asked first",
	)
	return map[string]explained{
		"at-rest": {facts: explain.Facts{Member: member("demo", conditions(), func(m *v1alpha1.EnsembleMember) {
			m.Spec.Size, m.Status.Growth = 2, nil
		})}},
		"groups": {facts: explain.Facts{Member: member("demo", conditions(), func(m *v1alpha1.EnsembleMember) {
			m.Spec.Size, m.Status.Growth = 2, nil
			m.Spec.Groups = []v1alpha1.MemberGroup{
				{Name: "leader", Size: 1, MinSize: 1, MaxSize: 1}, {Name: "workers", Size: 1, MinSize: 1, MaxSize: 9},
			}
			m.Status.Groups = []v1alpha1.GroupStatus{{Name: "leader", Size: 1, Message: "at size 1"}, {Name: "workers", Size: 1}}
		})}},
		"not-observed": {
			facts:    explain.Facts{Member: member("demo", conditions(), func(m *v1alpha1.EnsembleMember) { m.Generation = 4 })},
			waitsFor: explain.DesiredSize, reason: explain.ReasonNotObserved,
		},
		"suspended": {
			facts: explain.Facts{Member: member("demo", conditions(v1alpha1.ReasonSuspended,
				"the Job of the MiniCluster is suspended; it claims no nodes until it is resumed"))},
			waitsFor: explain.DesiredSize, reason: v1alpha1.ReasonSuspended,
		},
		"kind-not-managed": {
			facts: explain.Facts{Member: member("job.sweep", conditions(v1alpha1.ReasonKindNotManaged,
				"the controller manages no workloads of the kind Job (--kinds): the size stays"))},
			waitsFor: explain.DesiredSize, reason: v1alpha1.ReasonKindNotManaged,
		},
		"pool-too-small": {
			facts: explain.Facts{
				Member: member("demo", unclaimed(v1alpha1.ReasonPoolTooSmall, "hpc-a has maxSize 4, and 8 nodes are needed")),
				Pools:  []v1alpha1.NodePool{pool("hpc-a", 2, 2, 2, func(p *v1alpha1.NodePool) { p.Spec.MaxSize = 4 })},
			},
			waitsFor: explain.Claim, reason: v1alpha1.ReasonPoolTooSmall,
		},
		"queued": {
			facts: explain.Facts{
				Member: member("demo", second),
				Members: []v1alpha1.EnsembleMember{
					*member("demo", second),
					*member("first", second, func(m *v1alpha1.EnsembleMember) { m.Status.Growth.Since = microBefore(5 * time.Minute) }),
					*member("later", second, func(m *v1alpha1.EnsembleMember) { m.Status.Growth.Since = microBefore(time.Second) }),
					*member("holds", conditions(), func(m *v1alpha1.EnsembleMember) {
						m.Status.Growth, m.Namespace = nil, "team-b"
						m.Status.Reservations[0].Nodes = 4
					}),
				},
				Pools: []v1alpha1.NodePool{pool("hpc-a", 10, 10, 10)},
				Pods:  []corev1.Pod{podOf("demo", 0, false), podOf("demo", 1, false)},
			},
			waitsFor: explain.Claim, reason: v1alpha1.ReasonQueued,
		},
		"backing-off": {
			facts: explain.Facts{Member: member("demo", unclaimed(
				v1alpha1.ReasonBackingOff, "hpc-a has failed; it is tried again at 2026-11-23T12:01:00Z",
			),
				func(m *v1alpha1.EnsembleMember) {
					retry := metav1.NewMicroTime(now.Add(time.Minute))
					m.Status.Growth.RetryAfter, m.Status.Growth.Attempts = &retry, 1
					m.Status.Growth.Failures = []v1alpha1.PoolFailure{{
						NodePool: "hpc-a", Reason: v1alpha1.ReasonOutOfStock, Message: "3 of 8 nodes were Ready in hpc-a, which is out of stock",
					}}
				}), Pools: []v1alpha1.NodePool{pool("hpc-a", 2, 2, 2)}},
			waitsFor: explain.Claim, reason: v1alpha1.ReasonBackingOff,
		},
		"floor-not-met": {
			facts: explain.Facts{
				Member: member("demo", waitsForNodes), Pools: []v1alpha1.NodePool{pool("hpc-a", 8, 2, 2)}, Autoscaler: autoscaler(4 * time.Second),
				Pods: []corev1.Pod{podOf("demo", 0, false), podOf("demo", 1, false)},
			},
			waitsFor: explain.ClusterAutoscaler, reason: v1alpha1.ReasonFloorNotMet,
		},
		"floor-just-changed": {
			facts:    explain.Facts{Member: member("demo", waitsForNodes), Pools: []v1alpha1.NodePool{pool("hpc-a", 8, 2, 2, below(2*time.Second))}},
			waitsFor: explain.ClusterAutoscaler, reason: v1alpha1.ReasonFloorNotMet,
		},
		"no-autoscaler": {
			facts:    explain.Facts{Member: member("demo", waitsForNodes), Pools: []v1alpha1.NodePool{pool("hpc-a", 8, 2, 2)}},
			waitsFor: explain.ClusterAutoscaler, reason: explain.ReasonAutoscalerMissing,
		},
		// A machine is gone, and the floor is as it has been for long.
		"below-again": {
			facts: explain.Facts{
				Member: member("demo", waitsForNodes), Autoscaler: autoscaler(time.Second, func(g *explain.NodeGroup) { g.MinSize = 8 }),
				Pools: []v1alpha1.NodePool{pool("hpc-a", 8, 7, 7, below(5*time.Second), func(p *v1alpha1.NodePool) {
					long := microBefore(time.Hour)
					p.Status.FloorChangedAt = &long
				})},
			},
			waitsFor: explain.ClusterAutoscaler, reason: v1alpha1.ReasonFloorNotMet,
		},
		"autoscaler-silent": {
			facts: explain.Facts{
				Member: member("demo", waitsForNodes), Pools: []v1alpha1.NodePool{pool("hpc-a", 8, 2, 2)}, Autoscaler: autoscaler(time.Hour),
			},
			waitsFor: explain.ClusterAutoscaler, reason: explain.ReasonAutoscalerSilent,
		},
		"autoscaler-of-another": {
			facts: explain.Facts{
				Member: member("demo", waitsForNodes), Pools: []v1alpha1.NodePool{pool("hpc-a", 8, 2, 2)},
				Autoscaler: autoscaler(4*time.Second, func(g *explain.NodeGroup) { g.Name = "asg-1" }),
			},
			waitsFor: explain.ClusterAutoscaler, reason: explain.ReasonGroupUnknown,
		},
		"autoscaler-backoff": {
			facts: explain.Facts{
				Member: member("demo", waitsForNodes), Pools: []v1alpha1.NodePool{pool("hpc-a", 8, 2, 2)},
				Autoscaler: autoscaler(4*time.Second, func(g *explain.NodeGroup) {
					g.ScaleUp, g.ScaleUpSince, g.BackoffCode, g.BackoffMessage = explain.Backoff, now.Add(-time.Minute), "QUOTA", "no quota"
				}),
			},
			waitsFor: explain.ClusterAutoscaler, reason: explain.ReasonGroupBackoff,
		},
		"floor-ignored": {
			facts: explain.Facts{
				Member: member("demo", waitsForNodes), Autoscaler: autoscaler(4*time.Second, func(g *explain.NodeGroup) { g.MinSize = 8 }),
				Pools: []v1alpha1.NodePool{pool("hpc-a", 8, 2, 2, below(5*time.Minute))},
			},
			waitsFor: explain.ClusterAutoscaler, reason: explain.ReasonFloorIgnored,
		},
		"paused": {
			facts: explain.Facts{
				Member: member("demo", waitsForNodes), Autoscaler: autoscaler(4 * time.Second),
				Pools: []v1alpha1.NodePool{pool("hpc-a", 8, 8, 2, func(p *v1alpha1.NodePool) { p.Spec.Paused = true })},
			},
			waitsFor: explain.Floor, reason: v1alpha1.ReasonPoolPaused,
		},
		// Cluster Autoscaler cannot meet the floor of a paused pool: to wait for its next loop would be to wait for ever.
		"paused-below-floor": {
			facts: explain.Facts{
				Member: member("demo", waitsForNodes), Autoscaler: autoscaler(4 * time.Second),
				Pools: []v1alpha1.NodePool{pool("hpc-a", 8, 2, 2, pausePool, func(p *v1alpha1.NodePool) {
					meta.FindStatusCondition(
						p.Status.Conditions, v1alpha1.ConditionFloorMet,
					).Message = "the target size 2 is below the floor 8; the NodePool is paused"
				})},
			},
			waitsFor: explain.Floor, reason: v1alpha1.ReasonPoolPaused,
		},
		// What Cluster Autoscaler is to do in one pool does not hide that another one is gone.
		"pool-gone": {
			facts: explain.Facts{
				Member: member("demo", waitsForNodes, func(m *v1alpha1.EnsembleMember) {
					m.Spec.NodePools = []string{"hpc-gone", "hpc-a"}
					m.Status.Reservations = []v1alpha1.Reservation{{NodePool: "hpc-gone", Nodes: 4}, {NodePool: "hpc-a", Nodes: 4}}
				}),
				Pools: []v1alpha1.NodePool{pool("hpc-a", 4, 2, 2)}, Autoscaler: autoscaler(4 * time.Second),
			},
			waitsFor: explain.Floor, reason: v1alpha1.ReasonPoolNotFound,
		},
		"booting": {
			facts: explain.Facts{
				Member: member("demo", waitsForNodes), Pools: []v1alpha1.NodePool{pool("hpc-a", 8, 8, 2)},
				Autoscaler: autoscaler(4*time.Second, func(g *explain.NodeGroup) { g.Target, g.MinSize, g.ScaleUp = 8, 8, "InProgress" }),
				Machines: []v1alpha1.PoolMachine{
					machine("hpc-a-2", v1alpha1.ReasonMachineBooting, 40*time.Second), machine("hpc-a-3", v1alpha1.ReasonMachineBooting, 40*time.Second),
					machine("hpc-a-4", v1alpha1.ReasonMachineOrdered, 2*time.Second),
				},
				Pods: []corev1.Pod{podOf("demo", 0, false), podOf("demo", 1, false), podOf("demo", 2, true)},
			},
			waitsFor: explain.Machines, reason: v1alpha1.ReasonMachineBooting,
		},
		"out-of-stock": {
			facts: explain.Facts{
				Member: member("demo", waitsForNodes), Autoscaler: autoscaler(4 * time.Second),
				Pools: []v1alpha1.NodePool{pool("hpc-a", 8, 8, 2, func(p *v1alpha1.NodePool) {
					p.Status.LastFailure = &v1alpha1.MachineFailure{
						Machine: "hpc-a-7", Time: microBefore(3 * time.Second), Class: v1alpha1.FailureOutOfResources, Code: "OutOfStock",
						Message: "no machine left",
					}
				})},
				Machines: []v1alpha1.PoolMachine{machine("hpc-a-7", v1alpha1.ReasonMachineHasFailed, 40*time.Second, func(m *v1alpha1.PoolMachine) {
					m.Status.Failure = &v1alpha1.MachineFailure{Code: "OutOfStock", Message: "no machine left"}
				})},
			},
			waitsFor: explain.Machines, reason: v1alpha1.ReasonOutOfStock,
		},
		"node-not-ready": {
			facts: explain.Facts{
				Member: member("demo", waitsForNodes), Pools: []v1alpha1.NodePool{pool("hpc-a", 8, 8, 7)}, Autoscaler: autoscaler(4 * time.Second),
				Machines: []v1alpha1.PoolMachine{machine("hpc-a-7", v1alpha1.ReasonMachineNotReady, time.Minute)},
				Nodes:    []corev1.Node{node("hpc-a-7", notReady)},
			},
			waitsFor: explain.Machines, reason: v1alpha1.ReasonMachineNotReady,
		},
		"node-tainted": {
			facts: explain.Facts{
				Member: member("demo", waitsForNodes), Pools: []v1alpha1.NodePool{pool("hpc-a", 8, 8, 8)}, Autoscaler: autoscaler(4 * time.Second),
				Nodes: []corev1.Node{node("hpc-a-6"), node("hpc-a-7", func(n *corev1.Node) {
					n.Spec.Taints = []corev1.Taint{{Key: "example.com/broken", Value: "yes", Effect: corev1.TaintEffectNoSchedule}}
				})},
			},
			waitsFor: explain.Nodes, reason: explain.ReasonNodeTainted,
		},
		"no-rights": {
			facts: explain.Facts{
				Member: member("demo", waitsForNodes),
				Missing: map[explain.Topic][]string{
					explain.Floor: {"no right to get nodepools"}, explain.ClusterAutoscaler: {"no right to get configmaps"},
					explain.Machines: {"no right to list poolmachines"}, explain.Nodes: {"no right to list nodes"},
					explain.Gates: {"no right to list pods"}, explain.Pods: {"no right to list pods"},
				},
			},
			waitsFor: explain.Nodes, reason: v1alpha1.ReasonWaitingForNodes,
		},
		"resizing": {
			facts: explain.Facts{Member: member("demo", conditions("", "", "", "", v1alpha1.ReasonResizing, "resizing from 2 to 8",
				v1alpha1.ReasonPodsStarting, "2 of 8 pods run"))},
			waitsFor: explain.Gates, reason: v1alpha1.ReasonResizing,
		},
		"leaving": {
			facts: explain.Facts{Member: member("demo", func(m *v1alpha1.EnsembleMember) {
				m.Spec.Size, m.Status.Size, m.Status.Growth = 2, 2, nil
			}, conditions("", "", "", "", v1alpha1.ReasonPodsLeaving, "at size 2; pods of the former size have still to leave 6 nodes"))},
			waitsFor: explain.Pods, reason: v1alpha1.ReasonPodsLeaving,
		},
		"pods-not-made": {
			facts: explain.Facts{Member: member("demo", func(m *v1alpha1.EnsembleMember) { m.Status.Size, m.Status.Growth = 8, nil },
				conditions("", "", "", "", "", "", v1alpha1.ReasonPodsNotMade, "6 pods are not made: exceeded quota"))},
			waitsFor: explain.Pods, reason: v1alpha1.ReasonPodsNotMade,
		},
		"pool-booting": {
			facts: explain.Facts{
				Members:    []v1alpha1.EnsembleMember{*member("demo", waitsForNodes), *member("next", second)},
				Pools:      []v1alpha1.NodePool{pool("hpc-a", 8, 8, 2)},
				Autoscaler: autoscaler(4*time.Second, func(g *explain.NodeGroup) { g.MinSize = 8 }),
				Machines:   []v1alpha1.PoolMachine{machine("hpc-a-2", v1alpha1.ReasonMachineBooting, 40*time.Second)},
			},
			of:       new(pool("hpc-a", 8, 8, 2)),
			waitsFor: explain.Machines, reason: v1alpha1.ReasonMachineBooting,
		},
		"pool-paused": {
			facts:    explain.Facts{Pools: []v1alpha1.NodePool{pool("hpc-a", 2, 2, 2, pausePool)}, Autoscaler: autoscaler(4 * time.Second)},
			of:       new(pool("hpc-a", 2, 2, 2, pausePool)),
			waitsFor: explain.DesiredSize, reason: v1alpha1.ReasonPoolPaused,
		},
		"pod-gated": {
			facts: explain.Facts{
				Member: member("demo", waitsForNodes), Pools: []v1alpha1.NodePool{pool("hpc-a", 8, 8, 2)}, Autoscaler: autoscaler(4 * time.Second),
				Machines: []v1alpha1.PoolMachine{machine("hpc-a-2", v1alpha1.ReasonMachineBooting, 40*time.Second)},
				Pods:     []corev1.Pod{podOf("demo", 2, true)},
			},
			of:       new(podOf("demo", 2, true)),
			waitsFor: explain.Machines, reason: v1alpha1.ReasonMachineBooting,
		},
		"pod-runs": {facts: explain.Facts{Member: member("demo", waitsForNodes)}, of: new(podOf("demo", 0, false))},
		"pod-image": {
			facts: explain.Facts{Member: member("demo", func(m *v1alpha1.EnsembleMember) { m.Status.Size, m.Status.Growth = 8, nil },
				conditions(
					"", "", "", "", "", "", v1alpha1.ReasonPodsNotStarted, "1 pod does not start: ImagePullBackOff: container flux, image \"x\"",
				))},
			of:       new(pullsImage(podOf("demo", 3, false))),
			waitsFor: explain.Pods, reason: v1alpha1.ReasonPodsNotStarted,
		},
		"pod-of-nobody": {
			facts: explain.Facts{}, of: new(unlabelled(unschedulable(podOf("web", 3, false)))),
			waitsFor: explain.Pods, reason: v1alpha1.ReasonPodsNotStarted,
		},
		"pod-of-none": {
			facts: explain.Facts{}, of: new(podOf("job.sweep", 0, true)), waitsFor: explain.Pods, reason: explain.ReasonGated,
		},
		// That a member may not be read is not that there is none: the gate is then no reason to do anything by hand.
		"pod-of-unknown": {
			facts: explain.Facts{Missing: map[explain.Topic][]string{explain.Claim: {"no right to get ensemblemembers in namespace default"}}},
			of:    new(podOf("demo", 2, true)), waitsFor: explain.Pods, reason: explain.ReasonGated,
		},
		"node-held": {
			facts: explain.Facts{
				Pools: []v1alpha1.NodePool{pool("hpc-a", 2, 2, 2)}, Pods: []corev1.Pod{podOf("demo", 1, false)},
				Machines: []v1alpha1.PoolMachine{machine("hpc-a-1", v1alpha1.ConditionReady, time.Hour, func(m *v1alpha1.PoolMachine) {
					m.Status.NodeName, m.Status.Conditions[0].Status = "hpc-a-1", metav1.ConditionTrue
				})},
			},
			of: new(node("hpc-a-1", func(n *corev1.Node) {
				n.Annotations = map[string]string{v1alpha1.AnnotationHeldBy: "default/demo", v1alpha1.AnnotationReserved: "true"}
			})),
		},
		// The taint may be one of the template, which may not be read; the machine may.
		"node-of-unknown": {
			facts: explain.Facts{
				Machines: []v1alpha1.PoolMachine{machine("hpc-a-1", v1alpha1.ConditionReady, time.Hour, func(m *v1alpha1.PoolMachine) {
					m.Status.NodeName, m.Status.Conditions[0].Status = "hpc-a-1", metav1.ConditionTrue
				})},
				Missing: map[explain.Topic][]string{explain.Nodes: {"no right to get nodepools"}},
			},
			of: new(node("hpc-a-1", func(n *corev1.Node) {
				n.Spec.Taints = []corev1.Taint{{Key: "example.com/dedicated", Effect: corev1.TaintEffectNoSchedule}}
			})),
		},
		"node-strange": {
			facts: explain.Facts{Pools: []v1alpha1.NodePool{pool("hpc-a", 2, 2, 2)}}, of: new(node("stray")),
			waitsFor: explain.Machines, reason: v1alpha1.ReasonStrangeNode,
		},
		"node-of-no-pool": {of: new(node("worker", func(n *corev1.Node) { n.Labels = nil }))},
	}
}

func pausePool(p *v1alpha1.NodePool) { p.Spec.Paused = true }

func pullsImage(pod corev1.Pod) corev1.Pod {
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{
		Name: "flux", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "not found"}},
	}}}
	return pod
}

func unschedulable(pod corev1.Pod) corev1.Pod {
	pod.Spec.NodeName = ""
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes are available",
	}}}
	return pod
}

// TestExplain: each cause is found, with the one thing to do, in words that a golden file has.
func TestExplain(t *testing.T) {
	t.Parallel()
	for name, c := range cases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.facts.Now = now
			var e *explain.Explanation
			switch of := c.of.(type) {
			case nil:
				e = explain.Member(&c.facts)
			case *v1alpha1.NodePool:
				e = explain.Pool(&c.facts, of)
			case *corev1.Pod:
				e = explain.Pod(&c.facts, of)
			case *corev1.Node:
				e = explain.Node(&c.facts, of)
			}
			if e.WaitsFor != c.waitsFor || e.Reason != c.reason {
				t.Errorf("waits for %q (%q), want %q (%q)", e.WaitsFor, e.Reason, c.waitsFor, c.reason)
			}
			golden(t, name, e.Text(false, nil))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("the explanation differs (-want +got); if it should, run this test with -update:\n%s", diff)
	}
}
