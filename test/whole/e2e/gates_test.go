package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// gatedCreation: the pods of a new MiniCluster wait until nodes for all of them are Ready, though some are Ready long before, and
// then go to those nodes. Cluster Autoscaler orders no node but these.
func gatedCreation(x *tenant) {
	first := x.pool("first", 2, "500ms")
	second := x.poolOf("second", 3, false, alwaysFails)
	planned := x.planNew(x.miniClusterText("m", 4, "{}", first, second))
	x.granted(planned, first+" 2", second+" 2")
	cluster := x.miniCluster("m", 4, first, second)
	x.nodes(first, 2)
	x.disturb()
	x.until(func(s *history.State) string {
		gated := x.gatedPods(s, cluster)
		return unless(
			len(gated) == 4 && s.Pools[second].Spec.Replicas == 2, "%d of 4 pods are gated while the machines of %s fail", len(gated), second,
		)
	})
	x.explainedAs(cluster, v1alpha1.ConditionCapacityReady, []string{v1alpha1.ReasonWaitingForNodes}, second)
	x.poolOf("second", 3, false, "{bootDelay: 500ms}")
	x.atSize(cluster, 4)
	x.asPlanned(cluster, planned)
	x.event(cluster, v1alpha1.ReasonPodsReleased, "released 4 pods of size 4 to 4 nodes")
	x.onHeldNodes(cluster)
	x.nodes(first, 2)
	x.nodes(second, 2)
	x.end(first, second)
}

// gatedEdit: the pods of a size that a user writes into the MiniCluster wait for all of their nodes, and those that run meanwhile
// are recreated in their places when they die.
func gatedEdit(x *tenant) {
	pool := x.poolOf("hpc", 10, false, "{bootDelay: 500ms, stock: 4}")
	cluster := x.miniCluster("m", 2, pool)
	x.atSize(cluster, 2)
	before := x.held(cluster)
	planned := x.plan(cluster, "size", 5)
	x.edit(cluster, 5)
	x.until(func(s *history.State) string {
		gated := x.gatedPods(s, cluster)
		return unless(len(gated) == 3, "%d of 3 new pods are gated", len(gated))
	})
	x.disturb()
	x.failed(pool, "OutOfStock", v1alpha1.FailureOutOfResources)
	x.killPod(cluster, 1)
	x.until(func(s *history.State) string {
		running := 0
		for _, pod := range s.PodsOf(cluster) {
			if pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil && slices.Contains(before, pod.Spec.NodeName) {
				running++
			}
		}
		return unless(running == 2, "%d of 2 pods run in their places", running)
	})
	x.look(func(s *history.State) {
		if gated := x.gatedPods(s, cluster); len(gated) != 3 {
			x.Errorf("%d of 3 pods of a growth without nodes are gated", len(gated))
		}
	})
	x.poolOf("hpc", 10, false, "{bootDelay: 500ms, stock: 10}")
	x.disturb()
	x.atSize(cluster, 5)
	x.asPlanned(cluster, planned)
	x.onHeldNodes(cluster)
	x.nodes(pool, 5)
	x.end(pool)
}

// podDies: a pod that its Job recreates goes back to the node of the one that died. No node is ordered or given back for it.
func podDies(x *tenant) {
	pool := x.pool("hpc", 10, "500ms")
	cluster := x.miniCluster("m", 3, pool)
	x.atSize(cluster, 3)
	held, machines := x.held(cluster), x.machines(pool)
	x.killPod(cluster, 2)
	x.disturb()
	x.atSize(cluster, 3)
	x.killPod(cluster, 0)
	x.disturb()
	x.atSize(cluster, 3)
	x.onHeldNodes(cluster)
	if now := x.held(cluster); !slices.Equal(now, held) {
		x.Errorf("the member holds %v, and held %v before its pods died", now, held)
	}
	x.sameMachines(pool, machines)
	x.end(pool)
}

// gatesOpen: when the annotation is taken away while pods wait, they wait no longer: nobody would ever let them go.
func gatesOpen(x *tenant) {
	pool := x.poolOf("hpc", 10, false, alwaysFails)
	cluster := x.miniCluster("m", 2, pool)
	x.until(func(s *history.State) string {
		gated := x.gatedPods(s, cluster)
		return unless(len(gated) == 2, "%d of 2 pods are gated", len(gated))
	})
	x.failed(pool, "BootFailure", v1alpha1.FailureOther)
	x.explainedAs(cluster, v1alpha1.ConditionCapacityReady, []string{v1alpha1.ReasonWaitingForNodes}, pool)
	x.annotate(cluster)
	x.disturb()
	x.until(func(s *history.State) string {
		gated := x.gatedPods(s, cluster)
		return unless(len(gated) == 0 && s.Members[cluster] == nil, "%v are gated, for member %v", gated, s.Members[cluster] != nil)
	})
	// Now they are pods like any others, for which Cluster Autoscaler buys nodes. Those are its to remove, after ten minutes; here
	// they go with their pool.
	x.poolOf("hpc", 10, false, "{bootDelay: 500ms}")
	x.lead(cluster)
	x.remove(cluster)
	x.gone(cluster)
	x.removePool(pool)
	x.poolGone(pool)
}

// annotated: a MiniCluster that runs already is managed from the moment of its annotation. Its pods have no gate, and their nodes
// come first all the same when it is the controller that grows it.
func annotated(x *tenant) {
	pool := x.pool("hpc", 10, "500ms")
	cluster := x.plainMiniCluster("m", 2, pool)
	x.lead(cluster)
	x.annotate(cluster, pool)
	x.disturb()
	x.atSize(cluster, 2)
	planned := x.plan(cluster, "grow", 2)
	x.grant(cluster, "grow", 2)
	x.disturb()
	x.atSize(cluster, 4)
	x.asPlanned(cluster, planned)
	planned = x.plan(cluster, "shrink", 3)
	x.grant(cluster, "shrink", 3)
	x.atSize(cluster, 1)
	x.asPlanned(cluster, planned)
	x.nodes(pool, 1)
	x.end(pool)
}

// refused: the scheduler keeps a pod off the node that it was released for, because of a pod of somebody else that our planner
// knows nothing of. The pod is recreated, and gets another node.
func refused(x *tenant) {
	pool := x.pool("hpc", 10, "500ms")
	cluster := x.miniCluster("m", 2, pool)
	x.atSize(cluster, 2)
	x.patchPool(pool, `{"spec":{"minSize":2}}`)
	// The node that it gives up stays for minSize, and is known to be one of a member's.
	x.grant(cluster, "shrink", 1)
	x.atSize(cluster, 1)
	x.nodes(pool, 2)
	x.apply(`
apiVersion: v1
kind: Pod
metadata: {name: recluse, namespace: %s}
spec:
  nodeSelector: {autoscaling.flux-framework.org/node-pool: %s}
  tolerations: [{operator: Exists}]
  affinity:
    podAntiAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector: {matchLabels: {app.kubernetes.io/name: m}}
  containers: [{name: c, image: i, resources: {requests: {cpu: 100m}}}]
`, x.namespace, pool)
	x.until(func(s *history.State) string {
		pod := s.Pods[x.key("recluse")]
		return unless(pod != nil && pod.Status.Phase == corev1.PodRunning, "the pod that wants no pods of the member beside it does not run")
	})
	x.grant(cluster, "grow", 1)
	x.event(cluster, v1alpha1.ReasonPodStranded, "the scheduler has kept it off node")
	x.disturb()
	x.atSize(cluster, 2)
	x.onHeldNodes(cluster)
	x.nodes(pool, 3)
	// The node was ordered for the member, so it is released when it is empty.
	x.deletePod("recluse")
	x.nodes(pool, 2)
	x.patchPool(pool, `{"spec":{"minSize":0}}`)
	x.end(pool)
}

// annotate names the pools of a MiniCluster, or takes the annotation away when there are none.
func (x *tenant) annotate(cluster types.NamespacedName, pools ...string) {
	x.Helper()
	if len(pools) == 0 {
		x.setAnnotation(cluster, v1alpha1.AnnotationNodePools, nil)
		return
	}
	x.setAnnotation(cluster, v1alpha1.AnnotationNodePools, new(strings.Join(pools, ",")))
}

// gatedPods are the names of the pods of a MiniCluster that wait behind the gate.
func (x *tenant) gatedPods(s *history.State, cluster types.NamespacedName) (gated []string) {
	for _, pod := range s.PodsOf(cluster) {
		if history.Gated(pod) && pod.DeletionTimestamp == nil {
			gated = append(gated, pod.Name)
		}
	}
	return gated
}

// onHeldNodes checks that the pods of a MiniCluster are on the nodes held for it, each on its own.
func (x *tenant) onHeldNodes(cluster types.NamespacedName) {
	x.Helper()
	var on []string
	x.look(func(s *history.State) {
		on = nil
		for _, pod := range s.PodsOf(cluster) {
			on = append(on, pod.Spec.NodeName)
		}
	})
	slices.Sort(on)
	if held := x.held(cluster); !slices.Equal(on, held) {
		x.Errorf("the pods of %s are on %v, and the nodes %v are held for it", cluster, on, held)
	}
}

// killPod deletes the pod of a rank and waits until its Job has made another one.
func (x *tenant) killPod(cluster types.NamespacedName, rank int64) {
	x.Helper()
	var uid types.UID
	x.look(func(s *history.State) {
		for _, pod := range s.PodsOf(cluster) {
			if history.IndexOf(pod) == rank {
				uid = pod.UID
				x.deletePod(pod.Name)
			}
		}
	})
	x.until(func(s *history.State) string {
		for _, pod := range s.PodsOf(cluster) {
			if history.IndexOf(pod) == rank && pod.UID != uid {
				return ""
			}
		}
		return fmt.Sprintf("there is no other pod of rank %d", rank)
	})
}

// TestLabelAlone: a pod that carries the label of members and is none of a MiniCluster's is not gated, and one of a Job is let go.
func TestLabelAlone(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	x.apply(`
apiVersion: v1
kind: Node
metadata: {name: %[1]s-node, annotations: {kwok.x-k8s.io/node: fake}, labels: {kubernetes.io/hostname: %[1]s-node, tenant: %[1]s}}
status: {allocatable: {cpu: "8", memory: 8Gi, pods: "10"}, capacity: {cpu: "8", memory: 8Gi, pods: "10"}}
---
apiVersion: v1
kind: Pod
metadata: {name: single, namespace: %[1]s, labels: {autoscaling.flux-framework.org/member: nobody}}
spec: {nodeSelector: {tenant: %[1]s}, tolerations: [{operator: Exists}], containers: [{name: c, image: i}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: job, namespace: %[1]s}
spec:
  template:
    metadata: {labels: {autoscaling.flux-framework.org/member: nobody}}
    spec: {restartPolicy: Never, nodeSelector: {tenant: %[1]s}, tolerations: [{operator: Exists}], containers: [{name: c, image: i}]}
`, x.namespace)
	single := x.key("single")
	x.until(func(s *history.State) string {
		if pod := s.Pods[single]; pod == nil || pod.Spec.NodeName == "" {
			return "the single pod has no node"
		}
		for _, pod := range s.Pods {
			if pod.Namespace == x.namespace && pod.Labels["job-name"] == "job" && pod.Spec.NodeName != "" {
				return ""
			}
		}
		return "the pod of the Job has no node"
	})
	x.deletePod("single")
}
