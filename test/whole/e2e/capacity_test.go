package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/whatif"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// What becomes of machines.
const (
	neverReady  = "{neverReadyPercent: 100}"
	alwaysFails = "{failurePercent: 100}"
)

// provisionTimeout: machines boot and their nodes never get Ready. The growth fails in the only pool there is, gives back
// every node that it had asked for and says so, and is done when another request asks again.
func provisionTimeout(x *tenant) {
	pool := x.pool("hpc", 10, "500ms")
	// A growth goes by what it was when it began: the controller is to know it by then, which hears of members and pools in no
	// order. Nodes have to register within it, on a busy machine too.
	x.patchPool(pool, `{"spec":{"provisionTimeout":"30s"}}`)
	cluster := x.miniCluster("m", 2, pool)
	x.atSize(cluster, 2)
	x.nodes(pool, 2)
	before, machines := x.held(cluster), x.machines(pool)
	x.poolOf("hpc", 10, false, neverReady)
	x.grant(cluster, "grow", 3)
	x.until(func(s *history.State) string {
		return unless(len(s.NodesOf(pool)) == 5, "of the nodes of %s %v have registered", pool, s.NodesOf(pool))
	})
	x.disturb()
	x.says(cluster, v1alpha1.ConditionCapacityReserved, v1alpha1.ReasonBackingOff, "for size 5 failed in "+pool)
	x.event(cluster, v1alpha1.ReasonProvisionTimeout, "2 of 5 nodes were Ready in "+pool+" within its provisionTimeout")
	x.nodes(pool, 2)
	x.floor(pool, 2)
	x.size(cluster, 2)
	x.until(func(s *history.State) string {
		growth := s.Members[cluster].Status.Growth
		if growth == nil || len(growth.Failures) != 1 || growth.Failures[0].NodePool != pool ||
			growth.Failures[0].Reason != v1alpha1.ReasonProvisionTimeout {
			return fmt.Sprintf("the growth is %+v", growth)
		}
		return ""
	})
	if held := x.held(cluster); !slices.Equal(held, before) {
		x.Errorf("after a growth that failed the member holds %v, and held %v before", held, before)
	}
	x.until(func(s *history.State) string {
		left := machinesOf(s, pool)
		return unless(maps.Equal(left, machines), "a growth that failed has left the machines %v, and before there were %v", left, machines)
	})
	x.poolOf("hpc", 10, false, "{bootDelay: 500ms}")
	x.patchPool(pool, `{"spec":{"provisionTimeout":"15m"}}`)
	x.disturb()
	// The next attempt would be after a minute. Another desired size is asked for at once.
	x.grant(cluster, "grow", 1)
	x.atSize(cluster, 6)
	x.nodes(pool, 6)
	x.end(pool)
}

// twoGrowths: two members ask at the same time for more than half of a pool each. One gets all of its nodes; the other one
// waits, holds no part of what it asked for, and takes over the very nodes that the first gives up.
func twoGrowths(x *tenant) {
	pool := x.pool("hpc", 8, "500ms")
	a, b := x.miniCluster("a", 1, pool), x.miniCluster("b", 1, pool)
	x.atSize(a, 1)
	x.atSize(b, 1)
	// Either may grow; the other one has to wait then.
	planned := map[types.NamespacedName]*whatif.Answer{a: x.plan(a, "grow", 5), b: x.plan(b, "grow", 5)}
	for _, answer := range planned {
		x.granted(answer, pool+" 6")
	}
	x.grant(a, "grow", 5)
	x.grant(b, "grow", 5)
	served, waits := a, b
	x.until(func(s *history.State) string {
		switch {
		case notAtSize(s, a, 6) == "":
			served, waits = a, b
		case notAtSize(s, b, 6) == "":
			served, waits = b, a
		default:
			return fmt.Sprintf("neither is served: %s, and %s", notAtSize(s, a, 6), notAtSize(s, b, 6))
		}
		return ""
	})
	x.says(waits, v1alpha1.ConditionCapacityReserved, v1alpha1.ReasonPoolFull, "5 more nodes are needed and "+pool+" has room for 1")
	x.explained(waits, v1alpha1.ReasonPoolFull, pool)
	x.asPlanned(served, planned[served])
	x.disturb()
	if held := x.held(waits); len(held) != 1 {
		x.Errorf("%s waits for 5 more nodes and holds %v: a part of what it asked for", waits, held)
	}
	x.size(waits, 1)
	x.nodes(pool, 7)
	before := x.machines(pool)

	x.grant(served, "shrink", 5)
	x.disturb()
	x.atSize(served, 1)
	x.atSize(waits, 6)
	x.asPlanned(waits, planned[waits])
	x.nodes(pool, 7)
	x.sameMachines(pool, before)
	x.end(pool)
}

// handOver: in a pool that has room for both, a member asks for more nodes while the pods of another one are leaving as many.
// It gets those.
func handOver(x *tenant) {
	pool := x.pool("hpc", 20, "500ms")
	a, b := x.miniCluster("a", 5, pool), x.miniCluster("b", 1, pool)
	x.atSize(a, 5)
	x.atSize(b, 1)
	x.nodes(pool, 6)
	before := x.machines(pool)
	x.grant(a, "shrink", 4)
	x.floor(pool, 2)
	x.grant(b, "grow", 4)
	x.disturb()
	x.atSize(a, 1)
	x.atSize(b, 5)
	x.nodes(pool, 6)
	if x.floorInTime(pool, 2, 6) {
		x.sameMachines(pool, before)
	} else {
		x.Logf("the nodes of %s were released before %s asked for as many", a, b)
	}
	x.end(pool)
}

// lostWhileGrowing: a node that a growth holds is taken away while the growth waits for others. Another machine is ordered for
// it, and the growth is done when all nodes are there.
func lostWhileGrowing(x *tenant) {
	first := x.pool("first", 3, "500ms")
	second := x.poolOf("second", 3, false, alwaysFails)
	cluster := x.miniCluster("m", 1, first, second)
	x.atSize(cluster, 1)
	before := x.held(cluster)
	x.grant(cluster, "grow", 4)
	x.nodes(first, 3)
	var lost string
	x.until(func(s *history.State) string {
		held := heldBy(s, cluster)
		for _, name := range held {
			if !slices.Contains(before, name) {
				lost = name
			}
		}
		return unless(len(held) == 3, "%s holds %v", cluster, held)
	})
	x.take(lost)
	x.disturb()
	x.until(func(s *history.State) string {
		held := heldBy(s, cluster)
		return unless(len(held) == 3 && !slices.Contains(held, lost), "%s is lost, and %s holds %v", lost, cluster, held)
	})
	x.says(cluster, v1alpha1.ConditionCapacityReady, v1alpha1.ReasonWaitingForNodes, "3 of 5 nodes are Ready in "+first+", "+second)
	x.event(types.NamespacedName{Name: first}, v1alpha1.ReasonMachineVanished, "node "+lost+" was deleted, and not by the provider")
	x.size(cluster, 1)
	x.disturb()
	x.poolOf("second", 3, false, "{bootDelay: 500ms}")
	x.atSize(cluster, 5)
	x.nodes(first, 3)
	x.nodes(second, 2)
	x.end(first, second)
}

// lostAtRest: a node under a member that has all it wants is taken away. The member says so for as long as no other machine
// comes, and then is as before, with its pod on the node of that.
func lostAtRest(x *tenant) {
	pool := x.pool("hpc", 10, "500ms")
	cluster := x.miniCluster("m", 2, pool)
	x.atSize(cluster, 2)
	x.grant(cluster, "grow", 1)
	x.atSize(cluster, 3)
	lost, before := x.nodeUnder(cluster, 2), x.held(cluster)
	// A paused pool orders nothing.
	x.poolOf("hpc", 10, true, "{bootDelay: 500ms}")
	x.paused(pool)
	x.take(lost)
	x.says(cluster, v1alpha1.ConditionCapacityReady, v1alpha1.ReasonWaitingForNodes, "2 of 3 nodes are Ready in "+pool)
	x.disturb()
	x.event(types.NamespacedName{Name: pool}, v1alpha1.ReasonMachineVanished, "node "+lost+" was deleted, and not by the provider")
	x.event(cluster, v1alpha1.ReasonNodesLost, "lost 1 node that does not exist any more: "+lost)
	x.poolOf("hpc", 10, false, "{bootDelay: 500ms}")
	x.disturb()
	x.until(func(s *history.State) string {
		// The pod of a node that is gone is removed after a minute at the latest.
		for _, pod := range s.PodsOf(cluster) {
			if s.Nodes[pod.Spec.NodeName] == nil {
				return fmt.Sprintf("pod %s is on no node that exists, but on %q", pod.Name, pod.Spec.NodeName)
			}
		}
		return notAtSize(s, cluster, 3)
	})
	x.nodes(pool, 3)
	held := x.held(cluster)
	for _, node := range before {
		if slices.Contains(held, node) == (node == lost) {
			x.Errorf("after the loss of %s the member holds %v, and held %v before", lost, held, before)
		}
	}
	x.end(pool)
}

// unreadyAtRest: a node under a member is cordoned, which costs the member nothing, and then is not Ready for a while, which
// the member says. Nothing is ordered or moved for either.
func unreadyAtRest(x *tenant) {
	pool := x.pool("hpc", 10, "500ms")
	cluster := x.miniCluster("m", 2, pool)
	x.atSize(cluster, 2)
	ill := x.nodeUnder(cluster, 1)
	x.patchNode(ill, `{"spec":{"unschedulable":true}}`)
	x.disturb()
	x.grant(cluster, "grow", 1)
	x.atSize(cluster, 3)
	x.nodes(pool, 3)
	before := x.machines(pool)
	x.fallIll(ill)
	x.says(cluster, v1alpha1.ConditionCapacityReady, v1alpha1.ReasonWaitingForNodes, "2 of 3 nodes are Ready in "+pool)
	x.disturb()
	x.patchNode(ill, `{"spec":{"unschedulable":null}}`)
	x.recover(ill)
	x.atSize(cluster, 3)
	x.nodes(pool, 3)
	x.sameMachines(pool, before)
	if now := x.nodeUnder(cluster, 1); now != ill {
		x.Errorf("rank 1 has moved from %s to %s", ill, now)
	}
	x.end(pool)
}

// heldBy are the nodes held for a member.
func heldBy(s *history.State, cluster types.NamespacedName) (held []string) {
	if member := s.Members[cluster]; member != nil {
		for i := range member.Status.Reservations {
			held = append(held, member.Status.Reservations[i].Held...)
		}
	}
	return held
}

// unless is a text about what is not as wanted, empty when it is.
func unless(wanted bool, format string, arguments ...any) string {
	if wanted {
		return ""
	}
	return fmt.Sprintf(format, arguments...)
}

// says waits until a condition of a member that is not True has a reason and a text.
func (x *tenant) says(cluster types.NamespacedName, kind, reason, text string) {
	x.Helper()
	x.until(func(s *history.State) string {
		c := condition(s.Members[cluster], kind)
		if c.status == "False" && c.reason == reason && strings.Contains(c.message, text) {
			return ""
		}
		return fmt.Sprintf("%s says of %s %s %s: %s", cluster, kind, c.status, c.reason, c.message)
	})
}

// machines are those of a pool.
func (x *tenant) machines(pool string) map[string]types.UID {
	x.Helper()
	var machines map[string]types.UID
	x.look(func(s *history.State) { machines = machinesOf(s, pool) })
	return machines
}

func machinesOf(s *history.State, pool string) map[string]types.UID {
	machines := map[string]types.UID{}
	for name, machine := range s.Machines {
		if machine.Spec.NodePool == pool {
			machines[name] = machine.UID
		}
	}
	return machines
}

// sameMachines checks that a pool has the machines that it had. Where a program was killed meanwhile, it may have others: nodes
// that one member gives up are released while nobody can say that another one waits for them.
func (x *tenant) sameMachines(pool string, before map[string]types.UID) {
	x.Helper()
	if now := x.machines(pool); !maps.Equal(now, before) && shared.kills.Load() == x.kills {
		x.Errorf("%s has the machines %v, and had %v", pool, now, before)
	}
}

// floorInTime reports whether the provider, after it had lowered the floor of a pool to one number, raised it to another before
// any machine of the pool was told to go.
func (x *tenant) floorInTime(pool string, lowered, raised int32) bool {
	low := false
	for _, event := range shared.recorder.Events() {
		object, is := event.Object.(*v1alpha1.NodePool)
		switch {
		case !is || object.Name != pool:
		case len(object.Spec.MachinesToDelete) > 0:
			return false
		case low && object.Status.Floor == raised:
			return true
		default:
			low = low || object.Status.Floor == lowered
		}
	}
	return false
}

// nodeUnder is the node that a rank of a MiniCluster is on.
func (x *tenant) nodeUnder(cluster types.NamespacedName, rank int) (node string) {
	x.Helper()
	x.look(func(s *history.State) { node = s.PodsOf(cluster)[rank].Spec.NodeName })
	return node
}

// take takes a node away, as a cloud does that reclaims a machine.
func (x *tenant) take(node string) {
	x.Helper()
	x.patchNode(node, fmt.Sprintf(`{"metadata":{"annotations":{%q:"true"}}}`, history.AnnotationTaken))
	if err := shared.Client.Delete(x.Context(), nodeObject(node)); err != nil {
		x.Fatal(err)
	}
}

// recover lets a node get Ready again.
func (x *tenant) recover(node string) {
	x.Helper()
	x.reportReady(node, corev1.ConditionTrue)
	x.patchNode(node, fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, controlplane.NodeAnnotation, controlplane.NodeAnnotationValue))
}

// fallIll makes a node not Ready until recover is called for it.
func (x *tenant) fallIll(node string) {
	x.Helper()
	x.patchNode(node, fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, controlplane.NodeAnnotation))
	x.reportReady(node, corev1.ConditionFalse)
}

// reportReady says whether a node is Ready, as its kubelet does.
func (x *tenant) reportReady(node string, ready corev1.ConditionStatus) {
	x.Helper()
	patch := fmt.Appendf(nil, `{"status":{"conditions":[{"type":"Ready","status":%q,"reason":"Kubelet"}]}}`, ready)
	if err := shared.Client.Status().Patch(x.Context(), nodeObject(node), client.RawPatch(types.StrategicMergePatchType, patch)); err != nil {
		x.Fatal(err)
	}
}

func (x *tenant) patchNode(node, patch string) {
	x.Helper()
	if err := shared.Client.Patch(x.Context(), nodeObject(node), client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		x.Fatal(err)
	}
}

// nodeObject is a node by its name alone.
func nodeObject(name string) *corev1.Node {
	node := &corev1.Node{}
	node.Name = name
	return node
}

// patchPool edits a NodePool as a user does.
func (x *tenant) patchPool(name, patch string) {
	x.Helper()
	pool := &v1alpha1.NodePool{}
	pool.Name = name
	x.write(func(ctx context.Context) error {
		return shared.Client.Patch(ctx, pool, client.RawPatch(types.MergePatchType, []byte(patch)))
	})
}
