package faults

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

// everything are the resources that a provider watches.
func everything() []string {
	return []string{"nodepools", "poolmachines", "kwokinstances", "nodes", "pods", "ensemblemembers"}
}

// TestLagRepliesAreTrue: what a reply has promised is true for the next calls on the same replica while its caches see
// nothing of it, a deletion that is asked for again deletes nothing more, and no limit is passed.
func TestLagRepliesAreTrue(t *testing.T) {
	t.Parallel()
	const name = "lag-replies"
	ctx := t.Context()
	record(t, cluster.Client, name)
	newPool(t, nodePool(name))
	network := newLag()
	p := start(t, name, settings{network: network})
	defer p.Stop()
	expect := func(after string, target int32, going int) {
		t.Helper()
		for range 3 {
			got, err := p.target(ctx, name)
			if err != nil || got != target {
				t.Errorf("after %s the target is %d (%v), not %d", after, got, err, target)
			}
			states, err := p.instances(ctx, name)
			alive := states[externalgrpc.InstanceStatus_instanceCreating] + states[externalgrpc.InstanceStatus_instanceRunning]
			if err != nil || alive != int(target) || states[externalgrpc.InstanceStatus_instanceDeleting] != going {
				t.Errorf("after %s the instances are %v (%v), of which %d should be alive and %d on their way out", after, states, err, target, going)
			}
		}
	}

	network.hold(everything()...)
	if err := p.increase(ctx, name, 3); err != nil {
		t.Fatal(err)
	}
	expect("IncreaseSize by 3", 3, 0)
	if err := p.increase(ctx, name, 4); err == nil {
		t.Error("IncreaseSize by 4 was granted at 3 of 6")
	}
	if err := p.increase(ctx, name, 1); err != nil {
		t.Error(err)
	}
	expect("IncreaseSize by 1", 4, 0)
	if err := p.decrease(ctx, name, -1); err != nil {
		t.Error(err)
	}
	expect("DecreaseTargetSize by 1", 3, 0)
	network.deliver(everything()...)
	victim := hasNodes(t, cluster.Client, name, 3).ready[0]
	// Nothing is settled for the provider before it knows what it has done itself.
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		states, err := p.instances(ctx, name)
		if err != nil || states[externalgrpc.InstanceStatus_instanceRunning] == 3 {
			return "", err
		}
		return fmt.Sprintf("the instances are %v", states), nil
	})

	network.hold(everything()...)
	for range 3 {
		if err := p.deleteNodes(ctx, name, victim); err != nil {
			t.Errorf("DeleteNodes: %v", err)
		}
		expect("DeleteNodes", 2, 1)
	}
	network.deliver(everything()...)
	if ready := hasNodes(t, cluster.Client, name, 2).ready; slices.Contains(ready, victim) {
		t.Errorf("%s was deleted, and is among %v", victim, ready)
	}
}

// TestLagNothingIsOrderedTwice: a provider that sees the target and not the machines that it has ordered orders no more,
// and one that is to delete such a machine does not take it for gone: it, and no other, goes.
func TestLagNothingIsOrderedTwice(t *testing.T) {
	t.Parallel()
	const name = "lag-orders"
	record(t, cluster.Client, name)
	newPool(t, nodePool(name))
	network := newLag()
	p := start(t, name, settings{network: network})
	defer p.Stop()
	network.hold("poolmachines")
	if err := p.increase(t.Context(), name, 3); err != nil {
		t.Fatal(err)
	}
	machines := func(want int) {
		t.Helper()
		inprocess.Until(t, func(ctx context.Context) (string, error) {
			seen, err := look(ctx, cluster.Client, name)
			if err != nil || len(seen.machines) >= want {
				return "", err
			}
			return fmt.Sprintf("%d machines are on order, of %d", len(seen.machines), want), nil
		})
	}
	machines(3)
	passes(t, name, 5)
	// It is told to delete one of which it does not know yet.
	if err := p.deleteNodes(t.Context(), name, name+"-0"); err != nil {
		t.Error(err)
	}
	passes(t, name, 3)
	seen, err := look(t.Context(), cluster.Client, name)
	if err != nil {
		t.Fatal(err)
	}
	if len(seen.machines) != 3 || seen.pool.Status.MachinesOrdered != 3 {
		t.Errorf("%d machines were ordered and %d exist, not 3", seen.pool.Status.MachinesOrdered, len(seen.machines))
	}
	if going := seen.pool.Spec.MachinesToDelete; !slices.Equal(going, []string{name + "-0"}) {
		t.Errorf("to delete are %v, of which one should be left: it is there", going)
	}
	network.deliver("poolmachines")
	if ready := hasNodes(t, cluster.Client, name, 2).ready; !slices.Equal(ready, []string{name + "-1", name + "-2"}) {
		t.Errorf("left are %v, and %s-0 was to be deleted", ready, name)
	}
}

// TestLagNoNodeWithoutMachine: a machine is deleted at the moment when it registers a node, which would be nobody's. It is
// removed when what lets machines boot hears of the deletion.
func TestLagNoNodeWithoutMachine(t *testing.T) {
	t.Parallel()
	const name, machine = "lag-boot", "lag-boot-0"
	record(t, cluster.Client, name)
	newPool(t, nodePool(name))
	network := newLag()
	provider := start(t, name, settings{network: network})
	defer provider.Stop()
	network.interpose(func(request *http.Request) {
		if request.Method != http.MethodPost || path.Base(request.URL.Path) != "nodes" {
			return
		}
		network.interpose(nil)
		network.hold("kwokinstances")
		if err := provider.deleteNodes(t.Context(), name, machine); err != nil {
			t.Error(err)
		}
		_ = wait.PollUntilContextTimeout(t.Context(), poll, inprocess.Patience, true,
			func(ctx context.Context) (bool, error) { // What is left shows below.
				seen, err := look(ctx, cluster.Client, name)
				return err == nil && len(seen.machines) == 0, nil
			})
	})
	if err := provider.increase(t.Context(), name, 1); err != nil {
		t.Fatal(err)
	}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		seen, err := look(ctx, cluster.Client, name)
		if err != nil || (len(seen.machines) == 0 && len(seen.nodes) == 1) {
			return "", err
		}
		return fmt.Sprintf("there are %d machines and %d nodes; a node without a machine is to come", len(seen.machines), len(seen.nodes)), nil
	})
	network.deliver("kwokinstances")
	hasNodes(t, cluster.Client, name, 0)
}

// TestLagNodeGoesFirst: a machine registers after the provider has seen that it has no node, and before its deletion arrives.
// The deletion is for a machine without a node; it is looked at again, and its node goes first.
func TestLagNodeGoesFirst(t *testing.T) {
	t.Parallel()
	const name, machine = "lag-first", "lag-first-0"
	record(t, cluster.Client, name)
	newPool(t, nodePool(name))
	network := newLag()
	provider := start(t, name, settings{network: network})
	defer provider.Stop()
	deleting := make(chan struct{})
	var once sync.Once
	network.interpose(func(request *http.Request) {
		switch resource := path.Base(request.URL.Path); {
		case request.Method == http.MethodPost && resource == "nodes":
			select {
			case <-deleting:
			case <-request.Context().Done():
			}
		case request.Method == http.MethodDelete && resource == machine:
			once.Do(func() {
				close(deleting)
				_ = wait.PollUntilContextTimeout(request.Context(), poll, inprocess.Patience, true,
					func(ctx context.Context) (bool, error) { // What is left shows below.
						seen, err := look(ctx, cluster.Client, name)
						return err == nil && seen.machines[machine] != nil && seen.machines[machine].Status.NodeName != "", nil
					})
			})
		}
	})
	if err := provider.increase(t.Context(), name, 1); err != nil {
		t.Fatal(err)
	}
	ordered(t, name, machine)
	if err := provider.deleteNodes(t.Context(), name, machine); err != nil {
		t.Fatal(err)
	}
	hasNodes(t, cluster.Client, name, 0)
	select {
	case <-deleting:
	default:
		t.Error("the machine was not deleted while it registered")
	}
}

// ordered waits until a machine exists.
func ordered(t *testing.T, name, machine string) {
	t.Helper()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		seen, err := look(ctx, cluster.Client, name)
		if err != nil || seen.machines[machine] != nil {
			return "", err
		}
		return machine + " is not ordered yet", nil
	})
}

// TestLagNoSecondNode: a machine is deleted that, as far as what lets machines boot knows, has not registered yet. Its node
// goes, and does not come again.
func TestLagNoSecondNode(t *testing.T) {
	t.Parallel()
	const name, machine = "lag-second", "lag-second-0"
	record(t, cluster.Client, name)
	p := nodePool(name)
	p.Spec.Replicas = 1
	p.Spec.Machines.Kwok.BootDelay = metav1.Duration{Duration: 3 * time.Second}
	newPool(t, p)
	network := newLag()
	provider := start(t, name, settings{network: network})
	defer provider.Stop()
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		var known v1alpha1.KwokInstance
		err := provider.GetClient().Get(ctx, client.ObjectKey{Name: machine}, &known)
		if apierrors.IsNotFound(err) {
			return "what lets machines boot does not know the machine yet", nil
		}
		return "", err
	})
	network.hold("kwokinstances")
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		seen, err := look(ctx, cluster.Client, name)
		if err != nil || (seen.machines[machine] != nil && seen.machines[machine].Status.NodeName != "" && len(seen.ready) == 1) {
			return "", err
		}
		return "the machine has not registered yet", nil
	})
	if err := provider.deleteNodes(t.Context(), name, machine); err != nil {
		t.Fatal(err)
	}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		seen, err := look(ctx, cluster.Client, name)
		if err != nil || len(seen.machines) == 0 {
			return "", err
		}
		return fmt.Sprintf("there are %d machines", len(seen.machines)), nil
	})
	if seen, err := look(t.Context(), cluster.Client, name); err != nil || len(seen.nodes) > 0 {
		t.Errorf("the machine is gone, and has left a node (%v)", err)
	}
	network.deliver("kwokinstances")
	hasNodes(t, cluster.Client, name, 0)
}

// passes makes the reconciler look at a pool so many times, and waits each time until it has begun the pass: the one
// before has ended then.
func passes(t *testing.T, name string, count int) {
	t.Helper()
	for range count {
		if err := edit(t.Context(), cluster.Client, name, func(p *v1alpha1.NodePool) { p.Spec.MaxSize++ }); err != nil {
			t.Fatal(err)
		}
		inprocess.Until(t, func(ctx context.Context) (string, error) {
			var p v1alpha1.NodePool
			if err := cluster.Client.Get(ctx, client.ObjectKey{Name: name}, &p); err != nil || p.Status.ObservedGeneration == p.Generation {
				return "", err
			}
			return fmt.Sprintf("generation %d is observed, not %d", p.Status.ObservedGeneration, p.Generation), nil
		})
	}
}

// TestLagReleaseIsExact: of three nodes that a member has given up, one got a pod and one another holder that the
// provider's caches do not show. Only the third goes.
func TestLagReleaseIsExact(t *testing.T) {
	t.Parallel()
	const name = "lag-release"
	ctx := t.Context()
	record(t, cluster.Client, name)
	p := nodePool(name)
	p.Spec.Replicas = 3
	newPool(t, p)
	network := newLag()
	provider := start(t, name, settings{network: network})
	defer provider.Stop()
	nodes := hasNodes(t, cluster.Client, name, 3).ready
	first, second := newMember(t, name, "first"), newMember(t, name, "second")
	reserve(t, first, 3, nodes...)
	told := func(minSize int32) {
		t.Helper()
		inprocess.Until(t, func(ctx context.Context) (string, error) {
			groups, err := provider.server.NodeGroups(ctx, &externalgrpc.NodeGroupsRequest{})
			if err != nil {
				return "", err
			}
			var fresh v1alpha1.NodePool
			if err := cluster.Client.Get(ctx, client.ObjectKey{Name: name}, &fresh); err != nil || fresh.Status.AnnouncedFloor == minSize {
				return "", err
			}
			return fmt.Sprintf("told were %v, and recorded is %d", groups.GetNodeGroups(), fresh.Status.AnnouncedFloor), nil
		})
	}
	told(3)

	// The release waits for Cluster Autoscaler to ask for the minimum size. Until then the nodes are tainted only.
	reserve(t, first, 0)
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		seen, err := look(ctx, cluster.Client, name)
		if err != nil {
			return "", err
		}
		for _, node := range nodes {
			if seen.nodes[node].Annotations[v1alpha1.AnnotationReleasing] == "" {
				return node + " is not tainted", nil
			}
		}
		return "", nil
	})
	network.hold("pods", "ensemblemembers")
	pod := newPod(t, name, "late", nodes[0])
	reserve(t, second, 1, nodes[1])
	told(0)
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		seen, err := look(ctx, cluster.Client, name)
		if err != nil || seen.nodes[nodes[2]] == nil {
			return "", err
		}
		return nodes[2] + " is not released", nil
	})
	// Several more passes look at the other two, each time at the API server itself.
	before := network.listed("ensemblemembers")
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		if network.listed("ensemblemembers") >= before+3 {
			return "", nil
		}
		if err := edit(ctx, cluster.Client, name, func(p *v1alpha1.NodePool) { p.Spec.MaxSize++ }); err != nil {
			return "", err
		}
		return "the provider does not look at the API server before it releases", nil
	})
	seen, err := look(ctx, cluster.Client, name)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(seen.ready, nodes[:2]) || seen.pool.Spec.Replicas != 2 || len(
		seen.pool.Spec.MachinesToDelete,
	) > 0 && !slices.Equal(seen.pool.Spec.MachinesToDelete, nodes[2:]) {
		t.Errorf("of %v, of which the first has a pod and the second a holder, %v are left, the target is %d, to delete are %v",
			nodes, seen.ready, seen.pool.Spec.Replicas, seen.pool.Spec.MachinesToDelete)
	}

	// What it sees at last, it acts on: the holder's node is handed over, the other one goes with its pod.
	network.deliver("pods", "ensemblemembers")
	if err := cluster.Client.Delete(ctx, pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	told(1)
	seen = hasNodes(t, cluster.Client, name, 1)
	if !slices.Equal(seen.ready, nodes[1:2]) {
		t.Errorf("left are %v, not %s, which has a holder", seen.ready, nodes[1])
	}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		seen, err := look(ctx, cluster.Client, name)
		if err != nil {
			return "", err
		}
		node := seen.nodes[nodes[1]]
		leaving := slices.ContainsFunc(node.Spec.Taints, func(taint corev1.Taint) bool { return taint.Key == v1alpha1.TaintToBeDeleted })
		if node.Annotations[v1alpha1.AnnotationHeldBy] != name+"/second" || leaving {
			return fmt.Sprintf("%s is not handed over: %v, %v", node.Name, node.Annotations, node.Spec.Taints), nil
		}
		return "", nil
	})
}

// TestLagLateNodeIsExact: a machine registers after it was told to go, and its node gets a pod, before the provider hears of either.
// The node is tainted, and goes when the pod has left it, which the provider's cache did not show when it was to be deleted.
func TestLagLateNodeIsExact(t *testing.T) {
	t.Parallel()
	const name, machine = "lag-late", "lag-late-0"
	ctx := t.Context()
	record(t, cluster.Client, name)
	p := nodePool(name)
	p.Spec.Replicas = 1
	p.Spec.Machines.Kwok.BootDelay = metav1.Duration{Duration: 3 * time.Second}
	newPool(t, p)
	network := newLag()
	provider := start(t, name, settings{network: network})
	defer provider.Stop()
	ordered(t, name, machine)
	network.hold("nodepools", "pods")
	if err := provider.deleteNodes(ctx, name, machine); err != nil {
		t.Fatal(err)
	}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		seen, err := look(ctx, cluster.Client, name)
		if err != nil || slices.Contains(seen.ready, machine) {
			return "", err
		}
		return "the node is not Ready yet", nil
	})
	pod := newPod(t, name, "late", machine)
	before := network.listed("pods")
	network.deliver("nodepools")
	inprocess.Until(t, func(context.Context) (string, error) {
		if network.listed("pods") >= before+3 {
			return "", nil
		}
		return "the provider does not look at the API server before it deletes the machine", nil
	})
	seen, err := look(ctx, cluster.Client, name)
	if err != nil {
		t.Fatal(err)
	}
	if node := seen.nodes[machine]; node == nil || node.Annotations[v1alpha1.AnnotationReleasing] == "" || seen.machines[machine] == nil {
		t.Errorf("while a pod is on it, the node is %+v, and is to be there and tainted", node)
	}
	network.deliver("pods")
	if err := cluster.Client.Delete(ctx, pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	hasNodes(t, cluster.Client, name, 0)
}

// TestLagOfAnotherReplica: Cluster Autoscaler asks a replica that lags to delete what the leader has deleted already, and
// to take orders back that have come meanwhile. Neither lowers the target below the machines that there are.
func TestLagOfAnotherReplica(t *testing.T) {
	t.Parallel()
	const name = "lag-replica"
	ctx := t.Context()
	record(t, cluster.Client, name)
	p := nodePool(name)
	p.Spec.Replicas = 3
	newPool(t, p)
	leader := start(t, name, settings{})
	defer leader.Stop()
	nodes := hasNodes(t, cluster.Client, name, 3).ready
	network := newLag()
	other := start(t, name, settings{network: network, follower: true})
	defer other.Stop()

	network.hold("poolmachines")
	if err := leader.deleteNodes(ctx, name, nodes[0]); err != nil {
		t.Fatal(err)
	}
	hasNodes(t, cluster.Client, name, 2)
	if err := other.deleteNodes(ctx, name, nodes[0]); err != nil {
		t.Errorf("DeleteNodes of a machine that is gone: %v", err)
	}
	if seen := hasNodes(t, cluster.Client, name, 2); !slices.Equal(seen.ready, nodes[1:]) {
		t.Errorf("left are %v, not %v", seen.ready, nodes[1:])
	}

	if err := leader.increase(ctx, name, 2); err != nil {
		t.Fatal(err)
	}
	hasNodes(t, cluster.Client, name, 4)
	if err := other.decrease(ctx, name, -2); err != nil {
		t.Errorf("DecreaseTargetSize: %v", err)
	}
	hasNodes(t, cluster.Client, name, 4)
	network.deliver("poolmachines")
}
